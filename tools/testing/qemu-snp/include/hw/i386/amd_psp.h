/*
 * AMD Platform Security Processor (PSP) of an SEV-SNP host
 *
 * The device and the legacy commands for the platform are in amd_psp.c of
 * hw/i386, those for SEV and SEV-ES guests in amd_psp_sev.c, those of SNP in
 * amd_psp_snp.c and amd_psp_guest_request.c. Commands, structures and status
 * codes are those of the "Secure Encrypted Virtualization API" and the "SEV
 * Secure Nested Paging Firmware ABI Specification".
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_I386_AMD_PSP_H
#define HW_I386_AMD_PSP_H

#include "crypto/hash.h"
#include "hw/i386/amd_snp.h"
#include "hw/pci/pci_device.h"
#include "qemu/bitmap.h"
#include "qemu/timer.h"
#include "qemu/units.h"

#define TYPE_AMD_PSP "amd-psp"
OBJECT_DECLARE_SIMPLE_TYPE(AMDPSP, AMD_PSP)

#define PSP_COMMANDS            0x100
#define PSP_BUFFER_MAX          64
#define PSP_DIGEST_SIZE         48
#define PSP_HOST_DATA_SIZE      32
#define PSP_ID_SIZE             16
#define PSP_REPORT_ID_SIZE      32
#define PSP_VMPCK_SIZE          32
#define PSP_CURVE_P384          2
#define PSP_CHIP_ID_SIZE        64
#define SEV_DIGEST_SIZE         32

/* An RMP entry has room for that many ASIDs */
#define PSP_ASIDS               1024

/* Event log, PPR log and completion wait page of the IOMMU */
#define PSP_IOMMU_RANGES        3

typedef enum PSPStatus {
    PSP_SUCCESS                 = 0x00,
    PSP_INVALID_PLATFORM_STATE  = 0x01,
    PSP_INVALID_GUEST_STATE     = 0x02,
    PSP_INVALID_CONFIG          = 0x03,
    PSP_INVALID_LEN             = 0x04,
    PSP_ALREADY_OWNED           = 0x05,
    PSP_INVALID_CERTIFICATE     = 0x06,
    PSP_POLICY_FAILURE          = 0x07,
    PSP_INACTIVE                = 0x08,
    PSP_INVALID_ADDRESS         = 0x09,
    PSP_BAD_SIGNATURE           = 0x0a,
    PSP_BAD_MEASUREMENT         = 0x0b,
    PSP_ASID_OWNED              = 0x0c,
    PSP_INVALID_ASID            = 0x0d,
    PSP_DFFLUSH_REQUIRED        = 0x0f,
    PSP_INVALID_GUEST           = 0x10,
    PSP_INVALID_COMMAND         = 0x11,
    PSP_ACTIVE                  = 0x12,
    PSP_HARDWARE_ERROR          = 0x13,
    PSP_UNSUPPORTED             = 0x15,
    PSP_INVALID_PARAM           = 0x16,
    PSP_RESOURCE_LIMIT          = 0x17,
    PSP_SECURE_DATA_INVALID     = 0x18,
    PSP_INVALID_PAGE_SIZE       = 0x19,
    PSP_INVALID_PAGE_STATE      = 0x1a,
    PSP_INVALID_PAGE_OWNER      = 0x1c,
    PSP_AEAD_OFLOW              = 0x1d,
    PSP_RMP_INIT_REQUIRED       = 0x20,
    PSP_INVALID_KEY             = 0x27,
} PSPStatus;

/* States of a page, of the chapter of that name in the SNP ABI */
typedef enum PSPPageState {
    PSP_PAGE_DEFAULT,
    PSP_PAGE_HYPERVISOR,
    PSP_PAGE_HV_FIXED,
    PSP_PAGE_FIRMWARE,
    PSP_PAGE_RECLAIM,
    PSP_PAGE_CONTEXT,
    PSP_PAGE_PRE_GUEST,
    PSP_PAGE_GUEST_INVALID,
    PSP_PAGE_GUEST_VALID,
} PSPPageState;

/**
 * PSPGuest: what the guest context page stands for
 * @context: physical address of that page
 * @asid: 0 unless activated
 * @pages: number of 4 KB pages launched
 * @digest: launch digest so far
 * @author_key: the key that has signed the ID block is signed by another one
 * @vcek_disabled: neither reports nor keys may come from the chip's key
 * @vmpck: keys for messages to the firmware, one for each VMPL
 * @vmrk: root of keys that the guest may ask for
 * @message_count: messages with each of @vmpck, requests and responses
 */
typedef struct PSPGuest {
    uint64_t context;
    AmdPspGuestState state;
    uint32_t asid;
    uint64_t policy;
    uint64_t pages;
    uint8_t digest[PSP_DIGEST_SIZE];
    uint8_t host_data[PSP_HOST_DATA_SIZE];
    uint8_t family_id[PSP_ID_SIZE];
    uint8_t image_id[PSP_ID_SIZE];
    uint8_t id_key_digest[PSP_DIGEST_SIZE];
    uint8_t author_key_digest[PSP_DIGEST_SIZE];
    bool author_key;
    uint32_t guest_svn;
    bool vcek_disabled;
    uint8_t report_id[PSP_REPORT_ID_SIZE];
    uint8_t vmpck[RMP_VMPLS][PSP_VMPCK_SIZE];
    uint8_t vmrk[PSP_VMPCK_SIZE];
    uint64_t message_count[RMP_VMPLS];
} PSPGuest;

/**
 * SEVGuest: a guest of SEV or SEV-ES
 * @asid: 0 unless activated
 * @hash: of what has been launched, until @digest is known
 */
typedef struct SEVGuest {
    uint32_t handle;
    uint32_t policy;
    uint32_t asid;
    AmdPspSevGuestState state;
    QCryptoHash *hash;
    uint8_t digest[SEV_DIGEST_SIZE];
} SEVGuest;

/* More than there are ASIDs for */
#define PSP_SEV_GUESTS_MAX      (4 * PSP_ASIDS)

typedef struct PSPRange {
    uint64_t start;
    uint64_t size;
} PSPRange;

/* What the INIT_EX file keeps from one start of the PSP to the next */
typedef struct PSPIdentity {
    uint32_t serial;
    bool owned;
} PSPIdentity;

/* A failure that has been asked for */
typedef struct PSPFailure {
    /* -1: whatever comes */
    int command;
    uint32_t status;
    uint32_t nth;
} PSPFailure;

/* What legacy commands write to memory that they are pointed to */
typedef enum PSPOutput {
    PSP_OUTPUT_PEK_CSR,
    PSP_OUTPUT_PDH_CERT,
    PSP_OUTPUT_CERT_CHAIN,
    PSP_OUTPUT_ID,
    PSP_OUTPUTS,
} PSPOutput;

/* SNP Firmware ABI (56860): ECDSA signature, both numbers little-endian */
typedef struct QEMU_PACKED PSPSignature {
    uint8_t r[72];
    uint8_t s[72];
    uint8_t reserved[368];
} PSPSignature;
QEMU_BUILD_BUG_ON(sizeof(PSPSignature) != 512);

/* SNP Firmware ABI (56860): public key, little-endian as well */
typedef struct QEMU_PACKED PSPPublicKey {
    uint32_t curve;
    uint8_t qx[72];
    uint8_t qy[72];
    uint8_t reserved[880];
} PSPPublicKey;
QEMU_BUILD_BUG_ON(sizeof(PSPPublicKey) != 0x404);

/* The chip's key */
typedef struct PSPSigner PSPSigner;

struct AMDPSP {
    PCIDevice parent_obj;

    /* Properties */
    bool x86_shutdown;
    uint8_t api_major;
    uint8_t api_minor;
    uint8_t build;
    char *vcek_key;
    uint64_t message_count;

    MemoryRegion regs;
    /* NULL: messages of guests are not supported */
    PSPSigner *signer;
    QEMUTimer latency_timer;
    QEMUBH *done;

    /* Registers. Under the BQL, as is everything up to the lock. */
    uint32_t inten;
    uint32_t intsts;
    uint32_t response;
    uint32_t buffer_lo;
    uint32_t buffer_hi;
    bool busy;
    bool waiting;
    bool interrupt;
    uint32_t command;
    /*
     * A reset makes what is under way that of an older generation. Written with
     * the lock held, too.
     */
    uint32_t generation;
    int hold;
    uint64_t latency_us;

    /*
     * What follows belongs to the firmware, which runs without the BQL while
     * all vCPUs are stopped, and is read by the referee. Nests outside of the
     * RMP lock.
     */
    QemuMutex lock;
    uint32_t status;
    AmdPspPlatformState legacy;
    AmdPspPlatformState snp;
    bool rmp_initialized;
    PSPIdentity identity;
    bool es;
    PSPRange tmr;
    PSPRange nv;
    PSPRange iommu[PSP_IOMMU_RANGES];
    uint64_t reported_tcb;
    bool mask_chip_id;
    bool mask_chip_key;
    bool vlek;
    /* PSPGuest by address of the context */
    GHashTable *guests;
    /* SEVGuest by handle */
    GHashTable *sev_guests;
    uint32_t last_handle;
    /* ASIDs that may not be used again before a DF_FLUSH or SNP_DF_FLUSH */
    DECLARE_BITMAP(asids_dirty, PSP_ASIDS);
    uint64_t issued[PSP_COMMANDS];
    uint64_t failed[PSP_COMMANDS];
    GArray *failures;
    /* Bytes of a pattern that an output consists of instead; 0: it does not */
    uint32_t patterns[PSP_OUTPUTS];
};

/* What state the platform has to be in, for PSPCommand.needs */
#define PSP_NEEDS_LEGACY_UNINIT (1 << 0)
#define PSP_NEEDS_LEGACY_INIT   (1 << 1)
#define PSP_NEEDS_SNP_UNINIT    (1 << 2)
#define PSP_NEEDS_SNP_INIT      (1 << 3)
/* Initialized, with or without guests; with guests */
#define PSP_NEEDS_LEGACY_UP     (1 << 4)
#define PSP_NEEDS_LEGACY_WORKING (1 << 5)

/**
 * PSPCommand: a command of the firmware
 * @run: returns a PSPStatus. @buf is a copy of the command buffer, @pa its
 *       address. Called with AMDPSP.lock held and all vCPUs stopped.
 * @size: of the command buffer in bytes
 * @needs: PSP_NEEDS_*
 */
typedef struct PSPCommand {
    const char *name;
    uint32_t (*run)(AMDPSP *s, void *buf, uint64_t pa);
    unsigned size;
    unsigned needs;
} PSPCommand;

/* By number; those for SEV guests begin at 0x20, those of SNP at 0x80 */
#define PSP_SEV_GUEST_COMMANDS  0x20
#define PSP_SNP_COMMANDS        0x80
extern const PSPCommand
psp_sev_guest_commands[PSP_SNP_COMMANDS - PSP_SEV_GUEST_COMMANDS];
extern const PSPCommand psp_snp_commands[PSP_COMMANDS - PSP_SNP_COMMANDS];

#define PSP_CURRENT_TCB         0x4800000002010101ULL

/*
 * Access to memory, by system physical address, which no IOMMU translates and
 * no RMP checks. False, and nothing done, if any of it is not RAM.
 */
bool psp_is_ram(uint64_t pa, uint64_t size, bool is_write);
bool psp_read(uint64_t pa, void *buf, uint64_t size);
bool psp_write(uint64_t pa, const void *buf, uint64_t size);

PSPPageState psp_page_state(uint64_t pa);

/* Whether all pages of a range are in that state */
bool psp_range_is(uint64_t pa, uint64_t size, PSPPageState state);

/* Whether the firmware is still using some of these pages itself */
bool psp_in_use(AMDPSP *s, uint64_t pa, uint64_t size);

/* Whether results may be written there: once SNP is initialized, to Firmware */
uint32_t psp_check_output(AMDPSP *s, uint64_t pa, uint64_t size);

/*
 * An output of @needed bytes with a length field at @pa, which says @given. The
 * field gets the length that is needed.
 */
uint32_t psp_check_length(AMDPSP *s, uint64_t pa, uint32_t given,
                          uint32_t needed);

/* The first ASID of SEV guests without SEV-ES, and the last one */
void psp_asid_range(uint32_t *min_sev_asid, uint32_t *max_asid);

/* Gives an ASID to a guest that may have it, and keeps it in @guest_asid */
uint32_t psp_activate(AMDPSP *s, uint32_t *guest_asid, uint32_t asid);

/* DF_FLUSH and SNP_DF_FLUSH */
uint32_t psp_df_flush(AMDPSP *s, void *buf, uint64_t pa);

/* All SEV guests; their ASIDs need a flush */
void psp_sev_remove_guests(AMDPSP *s);
void psp_sev_free_guest(gpointer guest);

/* The chip that GET_ID names first */
void psp_get_chip_id(AMDPSP *s, uint8_t id[PSP_CHIP_ID_SIZE]);

/* Whether no part of that TCB version is newer than the firmware */
bool psp_tcb_is_reached(uint64_t tcb);

/* By address of the context; NULL if there is none */
PSPGuest *psp_find_guest(AMDPSP *s, uint64_t context);

/* With the key in a PEM file, or a new one. NULL without GnuTLS. */
PSPSigner *psp_new_signer(const char *file, Error **errp);
void psp_free_signer(PSPSigner *signer);
/* In PEM, "" if there is none */
char *psp_public_key(const PSPSigner *signer);

/* Signature by ECDSA P-384 with SHA-384. Without GnuTLS all are good. */
bool psp_verify(const PSPPublicKey *key, const PSPSignature *signature,
                const void *data, size_t size);

/* SNP_GUEST_REQUEST */
#define PSP_GUEST_REQUEST_SIZE  24
uint32_t snp_guest_request(AMDPSP *s, void *buf, uint64_t pa);

void psp_hash384(const void *data, size_t size,
                 uint8_t digest[PSP_DIGEST_SIZE]);

#endif
