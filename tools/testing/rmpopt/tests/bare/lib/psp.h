/* SPDX-License-Identifier: GPL-2.0-only */
/* The AMD secure processor: its commands, status codes and structures. */
#ifndef BARE_PSP_H
#define BARE_PSP_H

#include "snp.h"

enum psp_command {
	INIT = 0x001, SHUTDOWN, FACTORY_RESET, PLATFORM_STATUS, PEK_GEN, PEK_CSR, PEK_CERT_IMPORT,
	PDH_CERT_EXPORT, PDH_GEN, DF_FLUSH, DOWNLOAD_FIRMWARE, GET_ID, INIT_EX,
	SEV_DECOMMISSION = 0x020, ACTIVATE, DEACTIVATE, SEV_GUEST_STATUS,
	LAUNCH_START = 0x030, LAUNCH_UPDATE_DATA, LAUNCH_UPDATE_VMSA, LAUNCH_MEASURE,
	LAUNCH_UPDATE_SECRET, LAUNCH_FINISH,
	DBG_DECRYPT = 0x060, DBG_ENCRYPT,
	SNP_INIT = 0x081, SNP_SHUTDOWN, SNP_PLATFORM_STATUS, SNP_DF_FLUSH, SNP_INIT_EX, SNP_SHUTDOWN_EX,
	SNP_DECOMMISSION = 0x090, SNP_ACTIVATE, SNP_GUEST_STATUS, SNP_GCTX_CREATE, SNP_GUEST_REQUEST,
	SNP_LAUNCH_START = 0x0a0, SNP_LAUNCH_UPDATE, SNP_LAUNCH_FINISH,
	SNP_PAGE_RECLAIM = 0x0c7,
	SNP_CONFIG = 0x0c9,
	SNP_COMMIT = 0x0cb,
	SNP_VLEK_LOAD = 0x0cd, SNP_FEATURE_INFO,
};

enum psp_result {
	SUCCESS, INVALID_PLATFORM_STATE, INVALID_GUEST_STATE, INVALID_CONFIG, INVALID_LEN,
	ALREADY_OWNED, INVALID_CERTIFICATE, POLICY_FAILURE, INACTIVE, INVALID_ADDRESS, BAD_SIGNATURE,
	BAD_MEASUREMENT, ASID_OWNED, INVALID_ASID, DFFLUSH_REQUIRED = 0x0f, INVALID_GUEST,
	INVALID_COMMAND, ACTIVE, UNSUPPORTED = 0x15, INVALID_PARAM, SECURE_DATA_INVALID = 0x18,
	INVALID_PAGE_SIZE, INVALID_PAGE_STATE, INVALID_PAGE_OWNER = 0x1c, AEAD_OFLOW,
	RMP_INIT_REQUIRED = 0x20, INVALID_KEY = 0x27,
	/* No codes: any but success is fine; do not try that. */
	FAILS = 0x10000, SKIP,
	/* In a result: the command has changed its own buffer. */
	BUFFER_CHANGED = 0x20000,
};

/* Entries of the RMP as the processor writes them. */
#define E_ASSIGNED BIT(0)
#define E_2M BIT(1)
#define E_IMMUTABLE BIT(2)
#define E_ASID(n) ((u64)(n) << 51)
#define E_VMSA BIT(61)
#define E_VALIDATED BIT(62)
#define E_RECLAIM E_ASSIGNED
#define E_FIXED E_IMMUTABLE
#define E_FIRMWARE (E_ASSIGNED | E_IMMUTABLE)
#define E_CONTEXT (E_FIRMWARE | E_VMSA)
#define E_GUEST(gpa, asid) (E_ASSIGNED | E_VALIDATED | E_ASID(asid) | (gpa))

struct psp_init {
	u32 flags, reserved;
	u64 tmr;
	u32 tmr_len;
} __packed;

struct psp_init_ex {
	u32 length, flags;
	u64 tmr;
	u32 tmr_len, reserved;
	u64 nv;
	u32 nv_len;
} __packed;

struct psp_status {
	u8 major, minor, state;
	u32 flags;
	u8 build;
	u32 guests;
} __packed;

/* GET_ID and PEK_CSR. */
struct psp_blob {
	u64 address;
	u32 len;
} __packed;

/* PEK_CERT_IMPORT and PDH_CERT_EXPORT. */
struct psp_blobs {
	u64 first;
	u32 first_len, reserved;
	u64 second;
	u32 second_len;
} __packed;

/* Policy of an SEV guest */
enum { SEV_NODBG = 1, SEV_NOKS = 2, SEV_ES = 4 };

struct psp_sev_start {
	u32 handle, policy;
	u64 dh_cert;
	u32 dh_cert_len, reserved;
	u64 session;
	u32 session_len;
} __packed;

struct psp_sev_activate {
	u32 handle, asid;
} __packed;

struct psp_sev_guest_status {
	u32 handle, policy, asid;
	u8 state;
} __packed;

/* LAUNCH_UPDATE_DATA, LAUNCH_UPDATE_VMSA, LAUNCH_MEASURE. */
struct psp_sev_update {
	u32 handle, reserved;
	u64 address;
	u32 len;
} __packed;

struct psp_sev_dbg {
	u32 handle, reserved;
	u64 src, dst;
	u32 len;
} __packed;

enum { IX_INIT_RMP = 1, IX_LIST = 2, IX_RAPL = 4, IX_HIDING = 8, IX_TIO = 16 };

struct psp_init_snp {
	u32 flags, rsvd1;
	u64 list;
	u16 max_asid;
	u8 rsvd2[46];
} __packed;

struct psp_range {
	u64 base;
	u32 count, rsvd;
} __packed;

struct psp_ranges {
	u32 count, rsvd;
	struct psp_range r[256];
} __packed;

enum { SX_IOMMU = 1, SX_X86 = 2 };

struct psp_shutdown_snp {
	u32 len, flags;
} __packed;

/* What SNP_PLATFORM_STATUS writes. */
struct psp_snp_status {
	u8 major, minor, state, rmp;
	u32 build, flags, guests;
	u64 tcb, reported_tcb;
} __packed;

struct psp_features {
	u32 length, ecx_in;
	u64 address;
} __packed;

struct psp_activate {
	u64 gctx;
	u32 asid;
} __packed;

struct psp_start {
	u64 gctx, policy, ma_gctx;
	u32 flags, tsc_khz;
	u8 gosvw[16];
} __packed;

enum page_type { NORMAL = 1, VMSA, ZERO, UNMEASURED, SECRETS, CPUID_PAGE, NR_TYPES };

struct psp_update {
	u64 gctx;
	/* Bit 0 page size, 3:1 type, 4 IMI. */
	u32 flags, rsvd2;
	u64 address;
	u8 rsvd3, vmpl1, vmpl2, vmpl3;
	u32 rsvd4;
} __packed;

struct psp_finish {
	u64 gctx, id_block, id_auth;
	/* Bit 0 ID block, 1 author key, 2 VCEK disabled. */
	u64 flags;
	u8 host_data[32];
} __packed;

struct psp_id_block {
	u8 digest[48];
	u8 ids[32];
	u32 version, svn;
	u64 policy;
} __packed;

struct psp_signature {
	u8 r[72], s[72], rsvd[368];
} __packed;

struct psp_public_key {
	u32 curve;
	u8 x[72], y[72], rsvd[880];
} __packed;

struct psp_id_auth {
	u32 id_key_algo, author_key_algo;
	u8 rsvd[56];
	struct psp_signature block_signature;
	struct psp_public_key id_key;
	u8 rsvd2[60];
	struct psp_signature key_signature;
	struct psp_public_key author_key;
	u8 rsvd3[892];
} __packed;

struct psp_guest_status {
	u64 policy;
	u32 asid;
	u8 state;
} __packed;

struct psp_two {
	u64 gctx, address;
} __packed;

struct psp_request {
	u64 gctx, request, response;
} __packed;

/* A message between a guest and the firmware. */
struct psp_message {
	u8 tag[32];
	u64 seqno;
	u8 rsvd[8];
	u8 algo, hdr_version;
	u16 hdr_size;
	u8 type, version;
	u16 size;
	u8 rsvd2[4], vmpck, rsvd3[35], payload[4000];
} __packed;

enum { KEY_REQ = 3, KEY_RSP, REPORT_REQ, REPORT_RSP };

struct psp_key_req {
	u32 select, rsvd;
	u64 fields;
	u32 vmpl, svn;
	u64 tcb;
} __packed;

struct psp_key_rsp {
	u32 status;
	u8 rsvd[28], key[32];
} __packed;

struct psp_report_req {
	u8 data[64];
	u32 vmpl, select;
	u8 rsvd[24];
} __packed;

struct psp_report {
	u32 version, svn;
	u64 policy;
	u8 family_id[16], image_id[16];
	u32 vmpl, algo;
	u64 tcb, platform;
	u32 flags, rsvd;
	u8 data[64], digest[48], host_data[32], id_key[48], author_key[48], id[32], id_ma[32];
	u64 reported_tcb;
	u8 family, model, stepping, rsvd2[21], chip[64];
	u64 committed_tcb;
	u8 build, minor, major, rsvd3, committed[4];
	u64 launch_tcb;
	u8 rsvd4[168], signature[512];
} __packed;

struct psp_report_rsp {
	u32 status, size;
	u8 rsvd[24];
	struct psp_report report;
} __packed;

struct psp_config {
	u64 tcb;
	u32 flags;
	u8 rsvd[52];
} __packed;

struct psp_vlek {
	u32 len;
	u8 version, rsvd[3];
	u64 address;
} __packed;

_Static_assert(sizeof(struct psp_init) == 20 && sizeof(struct psp_init_ex) == 36 &&
	       sizeof(struct psp_status) == 12 && sizeof(struct psp_blobs) == 28 &&
	       sizeof(struct psp_sev_start) == 36 && sizeof(struct psp_sev_activate) == 8 &&
	       sizeof(struct psp_sev_guest_status) == 13 && sizeof(struct psp_sev_update) == 20 &&
	       sizeof(struct psp_sev_dbg) == 28 && sizeof(struct psp_init_snp) == 64 && sizeof(struct psp_snp_status) == 32 &&
	       sizeof(struct psp_start) == 48 && sizeof(struct psp_update) == 32 &&
	       sizeof(struct psp_finish) == 64 && sizeof(struct psp_id_block) == 96 &&
	       sizeof(struct psp_id_auth) == 4096 && sizeof(struct psp_message) == 4096 && sizeof(struct psp_key_req) == 0x20 &&
	       sizeof(struct psp_key_rsp) == 0x40 && sizeof(struct psp_report_req) == 0x60 &&
	       sizeof(struct psp_report) == 0x4a0 && sizeof(struct psp_config) == 64 && sizeof(struct psp_vlek) == 16, "structures of the PSP");

/* psp.c */
#define PSP_CMDRESP 0x10980
#define PSP_BUFFER 0x109e0
#define PSP_CAPABILITY 0x109fc
#define PSP_INTEN 0x10690
#define PSP_INTSTS 0x10694
#define PSP_IOC 1
#define PSP_DONE BIT(31)
#define PSP_INT_DONE 2

bool psp_find(void);
bool psp_msix(void);
u32 psp_read(u32 reg);
void psp_write(u32 reg, u32 value);
/* The command on a buffer where it is. Returns the status. */
u32 psp_at(u32 command, u64 buffer, bool ioc);
/* On a copy of the data, which stays as it is: else BUFFER_CHANGED is in the status. */
u32 psp_call(u32 command, const void *data, u32 size);
/* The copy, with what was written back. */
void *psp_copy(void);

/* Whether the status is as wanted, and all entries of the RMP as the model says. */
bool psp_good(u32 got, u32 want);
/* The effect is put into the model first. */
#define gives(got, want, ...) ok(psp_good(got, want), __VA_ARGS__)

/* Commands with few parameters. */
u32 psp_reclaim(u64 pa);
u32 psp_gctx(u64 pa);
u32 psp_start(u64 gctx, u64 policy);
u32 psp_activate(u64 gctx, u32 asid);
u32 psp_update(u64 gctx, u32 type, u64 pa);
/* With what psp_sign() has made of it, if there is an ID block. */
u32 psp_finish(u64 gctx, const struct psp_id_block *id);
/* Signs it, and the key by the author's. Lets tests change the result. */
struct psp_id_auth *psp_sign(const struct psp_id_block *id);
u32 psp_guest_status(u64 gctx, u64 pa);
u32 psp_decommission(u64 gctx);
u32 psp_snp_status(u64 pa);
u32 psp_feature_info(u64 pa);
u32 psp_snp_init(u32 flags, u64 list);
u32 psp_snp_shutdown(u32 flags);

/* The same with the model. */
void to_firmware(u64 pa);
/* From any state that a command or RMPUPDATE leads out of. */
void to_hypervisor(u64 pa);
/* A guest that is being launched: context in the page. */
void make_guest(u64 gctx, u32 asid);
void drop_guest(u64 gctx);

/* A good guest policy, and what follows from the machine. */
#define POLICY (BIT(17) | BIT(16))
u32 max_snp_asid(void);

/* Neither RAM nor covered by the RMP; covered, but a device */
#define NOWHERE (4096 * SZ_1G)
#define NO_RAM 0xfee00000ULL

/* Where pages of the tests are: contexts and guest pages, the TMR, outputs, the fixed ones. */
#define PSP_G (R0 + 8 * SZ_2M)
#define PSP_TMR (R0 + 10 * SZ_2M)
#define PSP_OUT (R0 + 11 * SZ_2M + 16 * SZ_4K)
#define OUT_SIZE (4 * SZ_4K)
#define PSP_FIXED (R1 + 5 * SZ_2M + 3 * SZ_4K)
#define PSP_FIXED_2M (R2 + 5 * SZ_2M)
#define PSP_IOMMU (R2 + 8 * SZ_2M)

bool psp_has_iommu(void);
/* Commands in a state that would let them work, without RAM at their buffer. */
void psp_no_buffers(const u16 *commands, u32 count);
u32 psp_init(u32 flags, u64 tmr, u32 len);
/* INIT with pages of the firmware at PSP_TMR, and back. */
void tmr_each(void (*fn)(u64 pa));
void tmr_make(void);
void tmr_drop(void);

#endif
