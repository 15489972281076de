/*
 * AMD Platform Security Processor (PSP): PCI device and legacy SEV commands
 *
 * The mailbox is that of the devices which Linux calls pspv4. A command is
 * executed while all vCPUs are stopped, as some of them change what vCPUs rely
 * on, and completes from the main loop.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qemu/log.h"
#include "qemu/main-loop.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-amd-snp.h"
#include "qapi/visitor.h"
#include "exec/address-spaces.h"
#include "hw/boards.h"
#include "hw/i386/amd_psp.h"
#include "hw/pci/msix.h"
#include "hw/qdev-properties.h"
#include "migration/vmstate.h"
#include "cpu.h"
#include "trace.h"

/* BAR 2 and its registers */
#define PSP_BAR                 2
#define PSP_BAR_SIZE            (128 * KiB)
#define PSP_MSIX_BAR            5
#define PSP_MSIX_VECTORS        2

#define PSP_INTEN               0x10690
#define PSP_INTSTS              0x10694
#define   INTSTS_SEV            (1U << 1)
#define PSP_CMDRESP             0x10980
#define   CMDRESP_IOC           (1U << 0)
#define   CMDRESP_COMMAND_SHIFT 16
#define   CMDRESP_COMMAND_BITS  11
#define   CMDRESP_RESPONSE      (1U << 31)
#define PSP_CMDBUF_LO           0x109e0
#define PSP_CMDBUF_HI           0x109e4
#define PSP_CAPABILITY          0x109fc
#define   CAPABILITY_SEV        (1U << 0)

#define INIT_FLAGS_ES           (1U << 0)
#define TMR_SIZE_MIN            MiB
#define NV_SIZE                 (32 * KiB)
#define NV_MAGIC                "AMDPSPNV"

#define ID_SIZE                 64
#define ID_SOCKETS_MAX          2

/* More than a driver may want to have room for */
#define PATTERN_MAX             (8 * MiB)

bool psp_is_ram(uint64_t pa, uint64_t size, bool is_write)
{
    pa &= ~AMD_C_BIT;
    RCU_READ_LOCK_GUARD();
    while (size) {
        hwaddr xlat, len = size;
        MemoryRegion *mr = address_space_translate(&address_space_memory, pa,
                                                   &xlat, &len, is_write,
                                                   MEMTXATTRS_UNSPECIFIED);

        if (!memory_region_is_ram(mr) || (is_write && mr->readonly)) {
            return false;
        }
        pa += len;
        size -= len;
    }
    return true;
}

bool psp_read(uint64_t pa, void *buf, uint64_t size)
{
    return psp_is_ram(pa, size, false) &&
           address_space_read(&address_space_memory, pa & ~AMD_C_BIT,
                              MEMTXATTRS_UNSPECIFIED, buf, size) == MEMTX_OK;
}

bool psp_write(uint64_t pa, const void *buf, uint64_t size)
{
    return psp_is_ram(pa, size, true) &&
           address_space_write(&address_space_memory, pa & ~AMD_C_BIT,
                               MEMTXATTRS_UNSPECIFIED, buf, size) == MEMTX_OK;
}

PSPPageState psp_page_state(uint64_t pa)
{
    RMPEntry *entry = amd_snp_entry(amd_snp, pa & ~AMD_C_BIT);
    uint64_t lo;

    if (!entry) {
        return PSP_PAGE_DEFAULT;
    }
    lo = snp_entry_lo(entry);
    if (!(lo & RMP_ASSIGNED)) {
        return lo & RMP_IMMUTABLE ? PSP_PAGE_HV_FIXED : PSP_PAGE_HYPERVISOR;
    }
    if (lo & RMP_ASID_MASK) {
        return lo & RMP_IMMUTABLE ? PSP_PAGE_PRE_GUEST :
               lo & RMP_VALIDATED ? PSP_PAGE_GUEST_VALID :
                                    PSP_PAGE_GUEST_INVALID;
    }
    return !(lo & RMP_IMMUTABLE) ? PSP_PAGE_RECLAIM :
           lo & RMP_VMSA ? PSP_PAGE_CONTEXT : PSP_PAGE_FIRMWARE;
}

bool psp_range_is(uint64_t pa, uint64_t size, PSPPageState state)
{
    uint64_t page = QEMU_ALIGN_DOWN(pa, RMP_PAGE_4K);

    for (; page < pa + size; page += RMP_PAGE_4K) {
        if (psp_page_state(page) != state) {
            return false;
        }
    }
    return true;
}

static bool psp_range_overlaps(const PSPRange *range, uint64_t pa,
                               uint64_t size)
{
    return pa < range->start + range->size && range->start < pa + size;
}

bool psp_in_use(AMDPSP *s, uint64_t pa, uint64_t size)
{
    int i;

    pa &= ~AMD_C_BIT;
    size += pa % RMP_PAGE_4K;
    pa -= pa % RMP_PAGE_4K;
    for (i = 0; i < PSP_IOMMU_RANGES; i++) {
        if (psp_range_overlaps(&s->iommu[i], pa, size)) {
            return true;
        }
    }
    return (amd_snp->enabled && amd_snp_is_rmp(amd_snp, pa, size)) ||
           (s->legacy != PSP_UNINIT &&
            (psp_range_overlaps(&s->tmr, pa, size) ||
             psp_range_overlaps(&s->nv, pa, size)));
}

uint32_t psp_check_output(AMDPSP *s, uint64_t pa, uint64_t size)
{
    if (!psp_is_ram(pa, size, true)) {
        return PSP_INVALID_ADDRESS;
    }
    if (psp_in_use(s, pa, size) ||
        (s->snp == PSP_INIT &&
         !psp_range_is(pa & ~AMD_C_BIT, size, PSP_PAGE_FIRMWARE))) {
        return PSP_INVALID_PAGE_STATE;
    }
    return PSP_SUCCESS;
}

void psp_hash384(const void *data, size_t size, uint8_t digest[PSP_DIGEST_SIZE])
{
    size_t len = PSP_DIGEST_SIZE;

    qcrypto_hash_bytes(QCRYPTO_HASH_ALGO_SHA384, data, size, &digest, &len,
                       &error_abort);
}

/*
 * Keys and ids: nothing but numbers that look like it, always the same for the
 * same machine and history.
 */
static void psp_derive_bytes(AMDPSP *s, uint8_t *out, size_t size,
                             const char *what, uint32_t serial)
{
    uint8_t digest[PSP_DIGEST_SIZE];
    size_t n, i;

    for (i = 0; size; i++, out += n, size -= n) {
        g_autofree char *seed = g_strdup_printf("%s %u %zu", what, serial, i);

        psp_hash384(seed, strlen(seed), digest);
        n = MIN(size, sizeof(digest));
        memcpy(out, digest, n);
    }
}

/* Once SEV is shut down the area may be somebody else's, unless SNP knows */
static bool psp_nv_is_ours(AMDPSP *s)
{
    return s->nv.size &&
           (s->legacy != PSP_UNINIT ||
            (s->snp == PSP_INIT &&
             psp_range_is(s->nv.start, s->nv.size, PSP_PAGE_FIRMWARE)));
}

/* How this emulation fills the area of INIT_EX, which is opaque to software */
typedef struct QEMU_PACKED PSPNVHeader {
    uint8_t magic[8];
    uint32_t serial;
    uint8_t owned;
    uint8_t reserved[3];
} PSPNVHeader;
QEMU_BUILD_BUG_ON(sizeof(PSPNVHeader) != 16);

static uint32_t psp_save_identity(AMDPSP *s)
{
    PSPNVHeader header = {
        .magic = NV_MAGIC,
        .serial = cpu_to_le32(s->identity.serial),
        .owned = s->identity.owned,
    };

    if (psp_nv_is_ours(s)) {
        psp_write(s->nv.start, &header, sizeof(header));
    }
    return PSP_SUCCESS;
}

static uint32_t psp_load_identity(AMDPSP *s, uint64_t pa)
{
    const size_t used = offsetof(PSPNVHeader, reserved);
    g_autofree uint8_t *nv = g_malloc(NV_SIZE);
    const PSPNVHeader *header = (PSPNVHeader *)nv;
    bool valid = true;

    psp_read(pa, nv, NV_SIZE);
    if (!memcmp(header->magic, NV_MAGIC, sizeof(header->magic)) &&
        buffer_is_zero(nv + used, NV_SIZE - used)) {
        s->identity.serial = le32_to_cpu(header->serial);
        s->identity.owned = header->owned;
        return PSP_SUCCESS;
    }
    if (!buffer_is_zero(nv, NV_SIZE)) {
        g_autofree uint8_t *erased = g_malloc(NV_SIZE);

        memset(erased, 0xff, NV_SIZE);
        valid = !memcmp(nv, erased, NV_SIZE);
    }
    /* What is found there the next time is good */
    memset(nv, 0, NV_SIZE);
    psp_write(pa, nv, NV_SIZE);
    return valid ? PSP_SUCCESS : PSP_SECURE_DATA_INVALID;
}

static uint32_t psp_check_area(AMDPSP *s, uint64_t pa, uint64_t size,
                               uint64_t align)
{
    return pa % align ? PSP_INVALID_ADDRESS : psp_check_output(s, pa, size);
}

static uint32_t sev_init_common(AMDPSP *s, uint32_t flags, PSPRange tmr,
                                PSPRange nv)
{
    uint32_t ret;

    tmr.start &= ~AMD_C_BIT;
    nv.start &= ~AMD_C_BIT;
    if (tmr.size && tmr.size < TMR_SIZE_MIN) {
        return PSP_INVALID_LEN;
    }
    if (flags & ~INIT_FLAGS_ES) {
        return PSP_INVALID_PARAM;
    }
    if (tmr.size) {
        ret = psp_check_area(s, tmr.start, tmr.size, tmr.size);
        if (ret != PSP_SUCCESS) {
            return ret;
        }
    }
    if (nv.size) {
        ret = psp_check_area(s, nv.start, nv.size, RMP_PAGE_4K);
        if (ret == PSP_SUCCESS) {
            ret = psp_load_identity(s, nv.start);
        }
        if (ret != PSP_SUCCESS) {
            return ret;
        }
    }
    s->tmr = tmr;
    s->nv = nv;
    s->es = flags & INIT_FLAGS_ES;
    s->legacy = PSP_INIT;
    return psp_save_identity(s);
}

/* SEV API (55766): command buffer of INIT */
typedef struct QEMU_PACKED SEVDataInit {
    uint32_t flags;
    uint32_t reserved;
    uint64_t tmr_address;
    uint32_t tmr_len;
} SEVDataInit;
QEMU_BUILD_BUG_ON(sizeof(SEVDataInit) != 20);

static uint32_t sev_init(AMDPSP *s, void *buf, uint64_t pa)
{
    const SEVDataInit *data = buf;
    PSPRange tmr = { le64_to_cpu(data->tmr_address),
                     le32_to_cpu(data->tmr_len) };

    if (data->reserved) {
        return PSP_INVALID_PARAM;
    }
    return sev_init_common(s, le32_to_cpu(data->flags), tmr, (PSPRange) { 0 });
}

/* SEV API (55766): command buffer of INIT_EX */
typedef struct QEMU_PACKED SEVDataInitEx {
    uint32_t length;
    uint32_t flags;
    uint64_t tmr_address;
    uint32_t tmr_len;
    uint32_t reserved;
    uint64_t nv_address;
    uint32_t nv_len;
} SEVDataInitEx;
QEMU_BUILD_BUG_ON(sizeof(SEVDataInitEx) != 36);

static uint32_t sev_init_ex(AMDPSP *s, void *buf, uint64_t pa)
{
    const SEVDataInitEx *data = buf;
    PSPRange tmr = { le64_to_cpu(data->tmr_address),
                     le32_to_cpu(data->tmr_len) };
    PSPRange nv = { le64_to_cpu(data->nv_address), le32_to_cpu(data->nv_len) };

    if (le32_to_cpu(data->length) != sizeof(*data) || nv.size != NV_SIZE) {
        return PSP_INVALID_LEN;
    }
    if (data->reserved) {
        return PSP_INVALID_PARAM;
    }
    return sev_init_common(s, le32_to_cpu(data->flags), tmr, nv);
}

static uint32_t sev_shutdown(AMDPSP *s, void *buf, uint64_t pa)
{
    psp_sev_remove_guests(s);
    s->legacy = PSP_UNINIT;
    s->es = false;
    memset(&s->tmr, 0, sizeof(s->tmr));
    return PSP_SUCCESS;
}

static uint32_t sev_factory_reset(AMDPSP *s, void *buf, uint64_t pa)
{
    s->identity.owned = false;
    s->identity.serial++;
    return psp_save_identity(s);
}

/* SEV API (55766): what PLATFORM_STATUS writes to its command buffer */
typedef struct QEMU_PACKED SEVPlatformStatus {
    uint8_t api_major;
    uint8_t api_minor;
    uint8_t state;
    uint32_t flags;
    uint8_t build;
    uint32_t guest_count;
} SEVPlatformStatus;
QEMU_BUILD_BUG_ON(sizeof(SEVPlatformStatus) != 12);

#define STATUS_OWNER            (1U << 0)
#define STATUS_ES               (1U << 8)

static uint32_t sev_platform_status(AMDPSP *s, void *buf, uint64_t pa)
{
    SEVPlatformStatus status = {
        .api_major = s->api_major,
        .api_minor = s->api_minor,
        .state = s->legacy,
        .flags = cpu_to_le32((s->identity.owned ? STATUS_OWNER : 0) |
                             (s->es ? STATUS_ES : 0)),
        .build = s->build,
        .guest_count = cpu_to_le32(g_hash_table_size(s->sev_guests)),
    };
    uint32_t ret = psp_check_output(s, pa, sizeof(status));

    if (ret == PSP_SUCCESS) {
        psp_write(pa, &status, sizeof(status));
    }
    return ret;
}

static uint32_t sev_new_key(AMDPSP *s, void *buf, uint64_t pa)
{
    s->identity.serial++;
    return psp_save_identity(s);
}

/*
 * SEV API (55766): format of its certificates, here with a key on the curve
 * P-384. A coordinate takes the first 48 of 72 bytes.
 */
typedef struct QEMU_PACKED SEVCertSignature {
    uint32_t usage;
    uint32_t algorithm;
    uint8_t signature[512];
} SEVCertSignature;

typedef struct QEMU_PACKED SEVCert {
    uint32_t version;
    uint8_t api_major;
    uint8_t api_minor;
    uint8_t reserved[2];
    uint32_t usage;
    uint32_t algorithm;
    uint32_t curve;
    uint8_t qx[72];
    uint8_t qy[72];
    uint8_t reserved2[880];
    SEVCertSignature signatures[2];
} SEVCert;
QEMU_BUILD_BUG_ON(sizeof(SEVCert) != 2084);
QEMU_BUILD_BUG_ON(offsetof(SEVCert, signatures) != 1044);

#define CERT_VERSION            1
#define CERT_CURVE_P384         2
#define CERT_USAGE_OCA          0x1001
#define CERT_USAGE_PEK          0x1002
#define CERT_USAGE_PDH          0x1003
#define CERT_USAGE_CEK          0x1004
#define CERT_USAGE_INVALID      0x1000
#define CERT_ALGO_ECDSA_SHA256  2
#define CERT_ALGO_ECDH_SHA256   3

/* PEK, OCA and CEK */
#define CERT_CHAIN_LENGTH       3

/* The two signatures are left empty */
static void psp_make_cert(AMDPSP *s, SEVCert *cert, const char *name,
                          uint32_t usage, uint32_t algorithm)
{
    *cert = (SEVCert) {
        .version = cpu_to_le32(CERT_VERSION),
        .api_major = s->api_major,
        .api_minor = s->api_minor,
        .usage = cpu_to_le32(usage),
        .algorithm = cpu_to_le32(algorithm),
        .curve = cpu_to_le32(CERT_CURVE_P384),
        .signatures[0].usage = cpu_to_le32(CERT_USAGE_INVALID),
        .signatures[1].usage = cpu_to_le32(CERT_USAGE_INVALID),
    };
    psp_derive_bytes(s, cert->qx, 48, name, s->identity.serial);
    psp_derive_bytes(s, cert->qy, 48, name, ~s->identity.serial);
}

#define make_oca(s, cert) \
    psp_make_cert(s, cert, "OCA", CERT_USAGE_OCA, CERT_ALGO_ECDSA_SHA256)
#define make_pek(s, cert) \
    psp_make_cert(s, cert, "PEK", CERT_USAGE_PEK, CERT_ALGO_ECDSA_SHA256)
#define make_pdh(s, cert) \
    psp_make_cert(s, cert, "PDH", CERT_USAGE_PDH, CERT_ALGO_ECDH_SHA256)
#define make_cek(s, cert) \
    psp_make_cert(s, cert, "CEK", CERT_USAGE_CEK, CERT_ALGO_ECDSA_SHA256)

uint32_t psp_check_length(AMDPSP *s, uint64_t pa, uint32_t given,
                          uint32_t needed)
{
    uint32_t field = cpu_to_le32(needed);
    uint32_t ret = psp_check_output(s, pa, sizeof(field));

    if (ret != PSP_SUCCESS) {
        return ret;
    }
    psp_write(pa, &field, sizeof(field));
    return given < needed ? PSP_INVALID_LEN : PSP_SUCCESS;
}

static uint32_t psp_output_size(AMDPSP *s, PSPOutput output, uint32_t size)
{
    return s->patterns[output] ?: size;
}

/* As docs/system/i386/amd-snp-host.rst describes it */
static void psp_write_pattern(AMDPSP *s, PSPOutput output, uint64_t pa)
{
    uint32_t size = s->patterns[output];
    g_autofree uint8_t *data = g_malloc(QEMU_ALIGN_UP(size, 8));
    uint64_t i;

    for (i = 0; i < size; i += 8) {
        uint64_t word = ((output + 1ULL) << 32 | i) * 0x9e3779b97f4a7c15ULL;

        stq_le_p(data + i, word ^ word >> 32);
    }
    psp_write(pa, data, size);
}

static void psp_write_output(AMDPSP *s, PSPOutput output, uint64_t pa,
                             const void *data, uint32_t size)
{
    if (s->patterns[output]) {
        psp_write_pattern(s, output, pa);
    } else {
        psp_write(pa, data, size);
    }
}

/* SEV API (55766): command buffer of PEK_CSR and of GET_ID */
typedef struct QEMU_PACKED SEVDataOutput {
    uint64_t address;
    uint32_t len;
} SEVDataOutput;
QEMU_BUILD_BUG_ON(sizeof(SEVDataOutput) != 12);

static uint32_t sev_pek_csr(AMDPSP *s, void *buf, uint64_t pa)
{
    const SEVDataOutput *data = buf;
    uint64_t address = le64_to_cpu(data->address);
    SEVCert cert;
    uint32_t size = psp_output_size(s, PSP_OUTPUT_PEK_CSR, sizeof(cert));
    uint32_t ret = psp_check_length(s, pa + offsetof(SEVDataOutput, len),
                                    le32_to_cpu(data->len), size);

    if (ret == PSP_SUCCESS) {
        ret = psp_check_output(s, address, size);
    }
    if (ret == PSP_SUCCESS) {
        make_pek(s, &cert);
        psp_write_output(s, PSP_OUTPUT_PEK_CSR, address, &cert, sizeof(cert));
    }
    return ret;
}

/* SEV API (55766): command buffer of PEK_CERT_IMPORT */
typedef struct QEMU_PACKED SEVDataPEKCertImport {
    uint64_t pek_cert_address;
    uint32_t pek_cert_len;
    uint32_t reserved;
    uint64_t oca_cert_address;
    uint32_t oca_cert_len;
} SEVDataPEKCertImport;
QEMU_BUILD_BUG_ON(sizeof(SEVDataPEKCertImport) != 28);

static uint32_t sev_pek_cert_import(AMDPSP *s, void *buf, uint64_t pa)
{
    const SEVDataPEKCertImport *data = buf;
    uint64_t pek_address = le64_to_cpu(data->pek_cert_address);
    uint64_t oca_address = le64_to_cpu(data->oca_cert_address);
    SEVCert pek, oca;

    if (le32_to_cpu(data->pek_cert_len) != sizeof(pek) ||
        le32_to_cpu(data->oca_cert_len) != sizeof(oca)) {
        return PSP_INVALID_LEN;
    }
    if (data->reserved) {
        return PSP_INVALID_PARAM;
    }
    if (!psp_read(pek_address, &pek, sizeof(pek)) ||
        !psp_read(oca_address, &oca, sizeof(oca))) {
        return PSP_INVALID_ADDRESS;
    }
    if (s->identity.owned) {
        return PSP_ALREADY_OWNED;
    }
    if (le32_to_cpu(pek.version) != CERT_VERSION ||
        le32_to_cpu(oca.version) != CERT_VERSION) {
        return PSP_INVALID_CERTIFICATE;
    }
    s->identity.owned = true;
    return psp_save_identity(s);
}

/* SEV API (55766): command buffer of PDH_CERT_EXPORT */
typedef struct QEMU_PACKED SEVDataPDHCertExport {
    uint64_t pdh_cert_address;
    uint32_t pdh_cert_len;
    uint32_t reserved;
    uint64_t cert_chain_address;
    uint32_t cert_chain_len;
} SEVDataPDHCertExport;
QEMU_BUILD_BUG_ON(sizeof(SEVDataPDHCertExport) != 28);

static uint32_t sev_pdh_cert_export(AMDPSP *s, void *buf, uint64_t pa)
{
    const SEVDataPDHCertExport *data = buf;
    uint64_t pdh_address = le64_to_cpu(data->pdh_cert_address);
    uint64_t chain_address = le64_to_cpu(data->cert_chain_address);
    SEVCert pdh, chain[CERT_CHAIN_LENGTH];
    uint32_t size = psp_output_size(s, PSP_OUTPUT_PDH_CERT, sizeof(pdh));
    uint32_t chain_size = psp_output_size(s, PSP_OUTPUT_CERT_CHAIN,
                                          sizeof(chain));
    uint32_t pdh_ret = psp_check_length(
        s, pa + offsetof(SEVDataPDHCertExport, pdh_cert_len),
        le32_to_cpu(data->pdh_cert_len), size);
    uint32_t ret = psp_check_length(
        s, pa + offsetof(SEVDataPDHCertExport, cert_chain_len),
        le32_to_cpu(data->cert_chain_len), chain_size);

    ret = pdh_ret ?: ret;
    if (ret == PSP_SUCCESS) {
        ret = psp_check_output(s, pdh_address, size);
    }
    if (ret == PSP_SUCCESS) {
        ret = psp_check_output(s, chain_address, chain_size);
    }
    if (ret == PSP_SUCCESS) {
        make_pdh(s, &pdh);
        psp_write_output(s, PSP_OUTPUT_PDH_CERT, pdh_address, &pdh,
                         sizeof(pdh));
        make_pek(s, &chain[0]);
        make_oca(s, &chain[1]);
        make_cek(s, &chain[2]);
        psp_write_output(s, PSP_OUTPUT_CERT_CHAIN, chain_address, chain,
                         sizeof(chain));
    }
    return ret;
}

void psp_asid_range(uint32_t *min_sev_asid, uint32_t *max_asid)
{
    uint32_t unused;

    cpu_x86_cpuid(&X86_CPU(first_cpu)->env, 0x8000001f, 0, &unused, &unused,
                  max_asid, min_sev_asid);
}

/* Whether any guest has that ASID */
static bool psp_asid_is_used(AMDPSP *s, uint32_t asid)
{
    GHashTableIter iter;
    PSPGuest *guest;
    SEVGuest *sev_guest;

    g_hash_table_iter_init(&iter, s->guests);
    while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&guest)) {
        if (guest->asid == asid) {
            return true;
        }
    }
    g_hash_table_iter_init(&iter, s->sev_guests);
    while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&sev_guest)) {
        if (sev_guest->asid == asid) {
            return true;
        }
    }
    return false;
}

uint32_t psp_activate(AMDPSP *s, uint32_t *guest_asid, uint32_t asid)
{
    if (*guest_asid) {
        return PSP_ACTIVE;
    }
    if (psp_asid_is_used(s, asid)) {
        return PSP_ASID_OWNED;
    }
    if (test_bit(asid, s->asids_dirty)) {
        return PSP_DFFLUSH_REQUIRED;
    }
    *guest_asid = asid;
    return PSP_SUCCESS;
}

uint32_t psp_df_flush(AMDPSP *s, void *buf, uint64_t pa)
{
    bitmap_zero(s->asids_dirty, PSP_ASIDS);
    return PSP_SUCCESS;
}

/* SEV API (55766): command buffer of DOWNLOAD_FIRMWARE */
typedef struct QEMU_PACKED SEVDataDownloadFirmware {
    uint64_t address;
    uint32_t len;
} SEVDataDownloadFirmware;
QEMU_BUILD_BUG_ON(sizeof(SEVDataDownloadFirmware) != 12);

/* The firmware cannot be replaced: there is no other one */
static uint32_t sev_download_firmware(AMDPSP *s, void *buf, uint64_t pa)
{
    return PSP_BAD_SIGNATURE;
}

void psp_get_chip_id(AMDPSP *s, uint8_t id[PSP_CHIP_ID_SIZE])
{
    psp_derive_bytes(s, id, PSP_CHIP_ID_SIZE, "chip", 0);
}

static uint32_t sev_get_id(AMDPSP *s, void *buf, uint64_t pa)
{
    const SEVDataOutput *data = buf;
    uint64_t address = le64_to_cpu(data->address);
    unsigned sockets = MIN(MACHINE(qdev_get_machine())->smp.sockets,
                           ID_SOCKETS_MAX);
    uint8_t id[ID_SIZE * ID_SOCKETS_MAX];
    uint32_t size = psp_output_size(s, PSP_OUTPUT_ID, sockets * ID_SIZE);
    uint32_t ret = psp_check_length(s, pa + offsetof(SEVDataOutput, len),
                                    le32_to_cpu(data->len), size);

    if (ret == PSP_SUCCESS) {
        ret = psp_check_output(s, address, size);
    }
    if (ret == PSP_SUCCESS) {
        psp_derive_bytes(s, id, sizeof(id), "chip", 0);
        psp_write_output(s, PSP_OUTPUT_ID, address, id, sockets * ID_SIZE);
    }
    return ret;
}

static const PSPCommand sev_commands[PSP_SEV_GUEST_COMMANDS] = {
    [0x01] = { "INIT", sev_init, sizeof(SEVDataInit),
               PSP_NEEDS_LEGACY_UNINIT },
    [0x02] = { "SHUTDOWN", sev_shutdown },
    [0x03] = { "FACTORY_RESET", sev_factory_reset, 0, PSP_NEEDS_LEGACY_UNINIT },
    [0x04] = { "PLATFORM_STATUS", sev_platform_status,
               sizeof(SEVPlatformStatus) },
    [0x05] = { "PEK_GEN", sev_new_key, 0, PSP_NEEDS_LEGACY_INIT },
    [0x06] = { "PEK_CSR", sev_pek_csr, sizeof(SEVDataOutput),
               PSP_NEEDS_LEGACY_UP },
    [0x07] = { "PEK_CERT_IMPORT", sev_pek_cert_import,
               sizeof(SEVDataPEKCertImport), PSP_NEEDS_LEGACY_INIT },
    [0x08] = { "PDH_CERT_EXPORT", sev_pdh_cert_export,
               sizeof(SEVDataPDHCertExport), PSP_NEEDS_LEGACY_UP },
    [0x09] = { "PDH_GEN", sev_new_key, 0, PSP_NEEDS_LEGACY_UP },
    [0x0a] = { "DF_FLUSH", psp_df_flush, 0, PSP_NEEDS_LEGACY_UP },
    [0x0b] = { "DOWNLOAD_FIRMWARE", sev_download_firmware,
               sizeof(SEVDataDownloadFirmware) },
    [0x0c] = { "GET_ID", sev_get_id, sizeof(SEVDataOutput) },
    [0x0d] = { "INIT_EX", sev_init_ex, sizeof(SEVDataInitEx),
               PSP_NEEDS_LEGACY_UNINIT },
};

static const PSPCommand *psp_find_command(uint32_t id)
{
    const PSPCommand *command =
        id >= PSP_COMMANDS ? NULL :
        id >= PSP_SNP_COMMANDS ? &psp_snp_commands[id - PSP_SNP_COMMANDS] :
        id >= PSP_SEV_GUEST_COMMANDS ?
        &psp_sev_guest_commands[id - PSP_SEV_GUEST_COMMANDS] :
        &sev_commands[id];

    return command && command->run ? command : NULL;
}

/* @s->command has been written to the mailbox, or has completed */
static void psp_journal(AMDPSP *s, AmdSnpJournalKind what, uint64_t address,
                        uint64_t result)
{
    const PSPCommand *command = psp_find_command(s->command);

    amd_snp_journal_event((AmdSnpJournalEntry) {
        .what = what, .cpu = -1, .core = -1,
        .address = address, .value = s->command, .result = result,
        .command = command ? (char *)command->name : NULL,
    });
}

/* A number, or the name of a command; -1 for "any", -2 for neither */
static int psp_parse_command(const char *text)
{
    unsigned id;

    if (!strcmp(text, "any")) {
        return -1;
    }
    for (id = 0; id < PSP_COMMANDS; id++) {
        const PSPCommand *command = psp_find_command(id);

        if (command && !strcasecmp(command->name, text)) {
            return id;
        }
    }
    return qemu_strtoui(text, NULL, 0, &id) || id >= PSP_COMMANDS ? -2 : id;
}

static bool psp_is_ready(AMDPSP *s, unsigned needs)
{
    return !((needs & PSP_NEEDS_LEGACY_UNINIT && s->legacy != PSP_UNINIT) ||
             (needs & PSP_NEEDS_LEGACY_INIT && s->legacy != PSP_INIT) ||
             (needs & PSP_NEEDS_LEGACY_UP && s->legacy == PSP_UNINIT) ||
             (needs & PSP_NEEDS_LEGACY_WORKING && s->legacy != PSP_WORKING) ||
             (needs & PSP_NEEDS_SNP_UNINIT && s->snp != PSP_UNINIT) ||
             (needs & PSP_NEEDS_SNP_INIT && s->snp != PSP_INIT));
}

/*
 * Counts down to failures that have been asked for. Returns the status of the
 * first one that is due, or success.
 */
static uint32_t psp_asked_failure(AMDPSP *s, uint32_t id)
{
    uint32_t status = PSP_SUCCESS;
    unsigned i = 0;

    while (i < s->failures->len) {
        PSPFailure *failure = &g_array_index(s->failures, PSPFailure, i);

        if ((failure->command != -1 && failure->command != id) ||
            --failure->nth) {
            i++;
            continue;
        }
        status = status ?: failure->status;
        g_array_remove_index(s->failures, i);
    }
    return status;
}

static uint32_t psp_execute(AMDPSP *s, uint32_t id, uint64_t pa)
{
    const PSPCommand *command = psp_find_command(id);
    uint8_t buf[PSP_BUFFER_MAX] = { 0 };
    uint32_t status = psp_asked_failure(s, id);

    if (status != PSP_SUCCESS) {
        return status;
    }
    if (!command) {
        qemu_log_mask(LOG_UNIMP, TYPE_AMD_PSP ": command 0x%x\n", id);
        return PSP_INVALID_COMMAND;
    }
    if (!psp_is_ready(s, command->needs)) {
        return PSP_INVALID_PLATFORM_STATE;
    }
    if (command->size && !psp_read(pa, buf, command->size)) {
        return PSP_INVALID_ADDRESS;
    }
    return command->run(s, buf, pa);
}

/* What a command needs to know that may have been reset in the meantime */
typedef struct PSPWork {
    AMDPSP *s;
    uint32_t generation;
    uint32_t command;
    uint64_t pa;
} PSPWork;

/* All vCPUs are stopped, and this has no BQL */
static void psp_run_command(CPUState *cs, run_on_cpu_data data)
{
    g_autofree PSPWork *work = data.host_ptr;
    AMDPSP *s = work->s;
    uint32_t id = work->command;

    QEMU_LOCK_GUARD(&s->lock);
    if (s->generation != work->generation) {
        return;
    }
    s->status = psp_execute(s, id, work->pa & ~AMD_C_BIT);
    if (id < PSP_COMMANDS) {
        s->issued[id]++;
        s->failed[id] += s->status != PSP_SUCCESS;
    }
    trace_amd_psp_done(id, s->status);
    qemu_bh_schedule(s->done);
}

static void psp_start_command(AMDPSP *s)
{
    PSPWork *work = g_new(PSPWork, 1);

    *work = (PSPWork) {
        .s = s,
        .generation = s->generation,
        .command = s->command,
        .pa = (uint64_t)s->buffer_hi << 32 | s->buffer_lo,
    };
    async_safe_run_on_cpu(first_cpu, psp_run_command,
                          RUN_ON_CPU_HOST_PTR(work));
}

/* After the latency, unless it is to be held */
static void psp_latency_over(void *opaque)
{
    AMDPSP *s = opaque;

    if (s->hold == s->command) {
        s->waiting = true;
    } else {
        psp_start_command(s);
    }
}

static void psp_complete_command(void *opaque)
{
    AMDPSP *s = opaque;

    if (!s->busy) {
        return;
    }
    s->busy = false;
    psp_journal(s, SNP_JOURNAL_PSP_DONE, 0, s->status);
    s->response = CMDRESP_RESPONSE | s->status;
    if (s->interrupt) {
        s->intsts |= INTSTS_SEV;
        if (s->inten & INTSTS_SEV) {
            msix_notify(PCI_DEVICE(s), 0);
        }
    }
}

static uint64_t psp_reg_read(void *opaque, hwaddr addr, unsigned size)
{
    AMDPSP *s = opaque;

    switch (addr) {
    case PSP_INTEN:
        return s->inten;
    case PSP_INTSTS:
        return s->intsts;
    case PSP_CMDRESP:
        return s->response;
    case PSP_CMDBUF_LO:
        return s->buffer_lo;
    case PSP_CMDBUF_HI:
        return s->buffer_hi;
    case PSP_CAPABILITY:
        return CAPABILITY_SEV;
    default:
        /* The bootloader's version among others */
        return 0;
    }
}

static void psp_reg_write(void *opaque, hwaddr addr, uint64_t val,
                          unsigned size)
{
    AMDPSP *s = opaque;

    switch (addr) {
    case PSP_INTEN:
        s->inten = val;
        break;
    case PSP_INTSTS:
        s->intsts &= ~val;
        break;
    case PSP_CMDBUF_LO:
        s->buffer_lo = val;
        break;
    case PSP_CMDBUF_HI:
        s->buffer_hi = val;
        break;
    case PSP_CMDRESP:
        if (s->busy) {
            qemu_log_mask(LOG_GUEST_ERROR, TYPE_AMD_PSP ": command 0x%" PRIx64
                          " while 0x%x is under way\n",
                          extract64(val, CMDRESP_COMMAND_SHIFT,
                                    CMDRESP_COMMAND_BITS), s->command);
            break;
        }
        s->response = val & ~CMDRESP_RESPONSE;
        s->interrupt = val & CMDRESP_IOC;
        s->command = extract64(val, CMDRESP_COMMAND_SHIFT,
                               CMDRESP_COMMAND_BITS);
        s->busy = true;
        trace_amd_psp_command(s->command,
                              (uint64_t)s->buffer_hi << 32 | s->buffer_lo);
        psp_journal(s, SNP_JOURNAL_PSP,
                    (uint64_t)s->buffer_hi << 32 | s->buffer_lo, 0);
        timer_mod(&s->latency_timer, qemu_clock_get_us(QEMU_CLOCK_VIRTUAL) +
                  s->latency_us);
        break;
    default:
        break;
    }
}

static const MemoryRegionOps psp_ops = {
    .read = psp_reg_read,
    .write = psp_reg_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 4, .max_access_size = 4 },
    .impl = { .min_access_size = 4, .max_access_size = 4 },
};

/* The machine's firmware starts anew, but what it is stays */
static void psp_reset_hold(Object *obj, ResetType type)
{
    AMDPSP *s = AMD_PSP(obj);

    /* A command may be under way still, and then has to come to nothing */
    QEMU_LOCK_GUARD(&s->lock);
    s->generation++;
    timer_del(&s->latency_timer);
    qemu_bh_cancel(s->done);
    s->inten = 0;
    s->intsts = 0;
    s->response = 0;
    s->buffer_lo = 0;
    s->buffer_hi = 0;
    s->busy = false;
    s->waiting = false;

    s->legacy = PSP_UNINIT;
    s->es = false;
    s->snp = PSP_UNINIT;
    s->rmp_initialized = false;
    memset(&s->tmr, 0, sizeof(s->tmr));
    memset(&s->nv, 0, sizeof(s->nv));
    memset(s->iommu, 0, sizeof(s->iommu));
    s->reported_tcb = PSP_CURRENT_TCB;
    s->mask_chip_id = false;
    s->mask_chip_key = false;
    s->vlek = false;
    g_hash_table_remove_all(s->guests);
    g_hash_table_remove_all(s->sev_guests);
    s->last_handle = 0;
    bitmap_zero(s->asids_dirty, PSP_ASIDS);
}

static void psp_realize(PCIDevice *dev, Error **errp)
{
    ERRP_GUARD();
    AMDPSP *s = AMD_PSP(dev);
    int i;

    if (!amd_snp) {
        error_setg(errp, TYPE_AMD_PSP " needs an RMP: put -device "
                   TYPE_AMD_SNP_HOST " before it");
        return;
    }
    s->signer = psp_new_signer(s->vcek_key, errp);
    if (*errp) {
        return;
    }
    if (msix_init_exclusive_bar(dev, PSP_MSIX_VECTORS, PSP_MSIX_BAR,
                                errp) < 0) {
        return;
    }
    for (i = 0; i < PSP_MSIX_VECTORS; i++) {
        msix_vector_use(dev, i);
    }
    memory_region_init_io(&s->regs, OBJECT(s), &psp_ops, s, TYPE_AMD_PSP,
                          PSP_BAR_SIZE);
    pci_register_bar(dev, PSP_BAR, PCI_BASE_ADDRESS_SPACE_MEMORY, &s->regs);
    timer_init_us(&s->latency_timer, QEMU_CLOCK_VIRTUAL, psp_latency_over, s);
    s->done = qemu_bh_new_guarded(psp_complete_command, s,
                                  &DEVICE(dev)->mem_reentrancy_guard);
}

static void psp_exit(PCIDevice *dev)
{
    AMDPSP *s = AMD_PSP(dev);

    timer_del(&s->latency_timer);
    qemu_bh_delete(s->done);
    msix_uninit_exclusive_bar(dev);
}

/* What the referee reads */

static void psp_get_state(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    AMDPSP *s = AMD_PSP(obj);
    AmdPspState value, *state = &value;

    qemu_mutex_lock(&s->lock);
    value = (AmdPspState) {
        .legacy = s->legacy,
        .snp = s->snp,
        .rmp_initialized = s->rmp_initialized,
    };
    qemu_mutex_unlock(&s->lock);
    visit_type_AmdPspState(v, name, &state, errp);
}

static void psp_get_commands(Object *obj, Visitor *v, const char *name,
                             void *opaque, Error **errp)
{
    AMDPSP *s = AMD_PSP(obj);
    g_autoptr(AmdPspCommandList) list = NULL;
    AmdPspCommandList **tail = &list;
    unsigned id;

    WITH_QEMU_LOCK_GUARD(&s->lock) {
        for (id = 0; id < PSP_COMMANDS; id++) {
            const PSPCommand *command = psp_find_command(id);
            AmdPspCommand *entry;

            if (!s->issued[id]) {
                continue;
            }
            entry = g_new0(AmdPspCommand, 1);
            entry->command = id;
            entry->name = g_strdup(command ? command->name : "?");
            entry->count = s->issued[id];
            entry->failed = s->failed[id];
            QAPI_LIST_APPEND(tail, entry);
        }
    }
    visit_type_AmdPspCommandList(v, name, &list, errp);
}

static char *psp_hex(const uint8_t *data, size_t size)
{
    return g_string_free(qemu_hexdump_line(NULL, data, size, 0, 0), false);
}

static void psp_get_guests(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    AMDPSP *s = AMD_PSP(obj);
    g_autoptr(AmdPspGuestList) list = NULL;
    AmdPspGuestList **tail = &list;
    GHashTableIter iter;
    PSPGuest *guest;

    WITH_QEMU_LOCK_GUARD(&s->lock) {
        g_hash_table_iter_init(&iter, s->guests);
        while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&guest)) {
            AmdPspGuest *entry = g_new0(AmdPspGuest, 1);

            entry->context = guest->context;
            entry->state = guest->state;
            entry->asid = guest->asid;
            entry->policy = guest->policy;
            entry->pages = guest->pages;
            entry->digest = psp_hex(guest->digest, PSP_DIGEST_SIZE);
            entry->host_data = psp_hex(guest->host_data, PSP_HOST_DATA_SIZE);
            QAPI_LIST_APPEND(tail, entry);
        }
    }
    visit_type_AmdPspGuestList(v, name, &list, errp);
}

static void psp_get_sev_guests(Object *obj, Visitor *v, const char *name,
                               void *opaque, Error **errp)
{
    AMDPSP *s = AMD_PSP(obj);
    g_autoptr(AmdPspSevGuestList) list = NULL;
    AmdPspSevGuestList **tail = &list;
    GHashTableIter iter;
    SEVGuest *guest;

    WITH_QEMU_LOCK_GUARD(&s->lock) {
        g_hash_table_iter_init(&iter, s->sev_guests);
        while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&guest)) {
            AmdPspSevGuest *entry = g_new0(AmdPspSevGuest, 1);

            entry->handle = guest->handle;
            entry->state = guest->state;
            entry->asid = guest->asid;
            entry->policy = guest->policy;
            QAPI_LIST_APPEND(tail, entry);
        }
    }
    visit_type_AmdPspSevGuestList(v, name, &list, errp);
}

static char *psp_get_chip(Object *obj, Error **errp)
{
    uint8_t id[PSP_CHIP_ID_SIZE];

    psp_get_chip_id(AMD_PSP(obj), id);
    return psp_hex(id, sizeof(id));
}

static char *psp_get_vcek(Object *obj, Error **errp)
{
    return psp_public_key(AMD_PSP(obj)->signer);
}

static char *psp_get_fail(Object *obj, Error **errp)
{
    AMDPSP *s = AMD_PSP(obj);
    GString *text = g_string_new(NULL);
    unsigned i;

    QEMU_LOCK_GUARD(&s->lock);
    for (i = 0; i < s->failures->len; i++) {
        PSPFailure *failure = &g_array_index(s->failures, PSPFailure, i);

        g_string_append_printf(text, "%s", i ? "," : "");
        if (failure->command == -1) {
            g_string_append(text, "any");
        } else {
            g_string_append_printf(text, "0x%x", failure->command);
        }
        g_string_append_printf(text, ":0x%x:%u", failure->status, failure->nth);
    }
    return g_string_free(text, false);
}

static void psp_set_fail(Object *obj, const char *value, Error **errp)
{
    AMDPSP *s = AMD_PSP(obj);
    g_auto(GStrv) items = g_strsplit(value, ",", -1);
    g_autoptr(GArray) failures = g_array_new(false, false, sizeof(PSPFailure));
    unsigned i;

    for (i = 0; items[i]; i++) {
        g_auto(GStrv) part = g_strsplit(items[i], ":", 3);
        unsigned n = g_strv_length(part);
        PSPFailure failure = { .command = n ? psp_parse_command(part[0]) : -2,
                               .nth = 1 };

        if (n < 2 || failure.command == -2 ||
            qemu_strtoui(part[1], NULL, 0, &failure.status) ||
            !failure.status || failure.status > 0xffff ||
            (n == 3 && qemu_strtoui(part[2], NULL, 0, &failure.nth)) ||
            !failure.nth) {
            error_setg(errp, "fail takes COMMAND:STATUS[:NTH],... with a "
                       "command of the PSP or any, a status that is not 0, "
                       "and which time from now on");
            return;
        }
        g_array_append_val(failures, failure);
    }
    QEMU_LOCK_GUARD(&s->lock);
    g_array_set_size(s->failures, 0);
    g_array_append_vals(s->failures, failures->data, failures->len);
}

static const char *const pattern_names[PSP_OUTPUTS] = {
    [PSP_OUTPUT_PEK_CSR] = "pek-csr-pattern",
    [PSP_OUTPUT_PDH_CERT] = "pdh-cert-pattern",
    [PSP_OUTPUT_CERT_CHAIN] = "cert-chain-pattern",
    [PSP_OUTPUT_ID] = "id-pattern",
};

/* The opaque pointer of these two is the name */
static uint32_t *psp_pattern(AMDPSP *s, void *opaque)
{
    return &s->patterns[(const char *const *)opaque - pattern_names];
}

static void psp_get_pattern(Object *obj, Visitor *v, const char *name,
                            void *opaque, Error **errp)
{
    AMDPSP *s = AMD_PSP(obj);
    uint64_t size;

    WITH_QEMU_LOCK_GUARD(&s->lock) {
        size = *psp_pattern(s, opaque);
    }
    visit_type_size(v, name, &size, errp);
}

static void psp_set_pattern(Object *obj, Visitor *v, const char *name,
                            void *opaque, Error **errp)
{
    AMDPSP *s = AMD_PSP(obj);
    uint64_t size;

    if (!visit_type_size(v, name, &size, errp)) {
        return;
    }
    if (size > PATTERN_MAX) {
        error_setg(errp, "%s takes a size up to %" PRIu64 ", 0 for none",
                   name, (uint64_t)PATTERN_MAX);
        return;
    }
    QEMU_LOCK_GUARD(&s->lock);
    *psp_pattern(s, opaque) = size;
}

static char *psp_get_hold(Object *obj, Error **errp)
{
    AMDPSP *s = AMD_PSP(obj);

    return s->hold < 0 ? g_strdup("") : g_strdup_printf("0x%x", s->hold);
}

static void psp_set_hold(Object *obj, const char *value, Error **errp)
{
    AMDPSP *s = AMD_PSP(obj);
    int hold = *value ? psp_parse_command(value) : -1;

    if (*value && hold < 0) {
        error_setg(errp, "hold takes a command of the PSP, or \"\" for none");
        return;
    }
    s->hold = hold;
    if (s->waiting && s->hold != s->command) {
        s->waiting = false;
        psp_start_command(s);
    }
}

static bool psp_get_held(Object *obj, Error **errp)
{
    return AMD_PSP(obj)->waiting;
}

static void psp_instance_init(Object *obj)
{
    AMDPSP *s = AMD_PSP(obj);

    s->hold = -1;
    qemu_mutex_init(&s->lock);
    s->guests = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL,
                                      g_free);
    s->sev_guests = g_hash_table_new_full(NULL, NULL, NULL,
                                          psp_sev_free_guest);
    s->failures = g_array_new(false, false, sizeof(PSPFailure));
    object_property_add_uint64_ptr(obj, "latency-us", &s->latency_us,
                                   OBJ_PROP_FLAG_READWRITE);
    object_property_set_description(obj, "latency-us",
        "virtual time from a command to its execution in microseconds "
        "(default: 0)");
}

static void psp_finalize(Object *obj)
{
    AMDPSP *s = AMD_PSP(obj);

    psp_free_signer(s->signer);
    g_array_free(s->failures, true);
    g_hash_table_destroy(s->guests);
    g_hash_table_destroy(s->sev_guests);
    qemu_mutex_destroy(&s->lock);
}

static const VMStateDescription vmstate_psp = {
    .name = TYPE_AMD_PSP,
    .unmigratable = 1,
};

static const Property psp_properties[] = {
    DEFINE_PROP_BOOL("x86-shutdown", AMDPSP, x86_shutdown, true),
    DEFINE_PROP_UINT8("api-major", AMDPSP, api_major, 1),
    DEFINE_PROP_UINT8("api-minor", AMDPSP, api_minor, 55),
    DEFINE_PROP_UINT8("build", AMDPSP, build, 1),
    DEFINE_PROP_STRING("vcek-key", AMDPSP, vcek_key),
    DEFINE_PROP_UINT64("message-count", AMDPSP, message_count, 0),
};

static void psp_class_init(ObjectClass *oc, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(oc);
    PCIDeviceClass *k = PCI_DEVICE_CLASS(oc);
    ResettableClass *rc = RESETTABLE_CLASS(oc);
    unsigned i;

    k->realize = psp_realize;
    k->exit = psp_exit;
    k->vendor_id = PCI_VENDOR_ID_AMD;
    k->device_id = 0x14ca;
    k->class_id = PCI_CLASS_CRYPT_OTHER;
    dc->desc = "AMD Platform Security Processor of an SEV-SNP host";
    dc->vmsd = &vmstate_psp;
    dc->hotpluggable = false;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    device_class_set_props(dc, psp_properties);
    object_class_property_set_description(oc, "x86-shutdown",
        "SNP_SHUTDOWN_EX can clear SYSCFG.SNP_EN, and SNP_FEATURE_INFO says "
        "so");
    object_class_property_set_description(oc, "api-major",
        "major version of the firmware's API");
    object_class_property_set_description(oc, "api-minor",
        "minor version of the firmware's API");
    object_class_property_set_description(oc, "build",
        "build number of the firmware");
    object_class_property_set_description(oc, "vcek-key",
        "PEM file with the private key that signs attestation reports, on the "
        "curve P-384 (default: a new one)");
    object_class_property_set_description(oc, "message-count",
        "messages that a guest seems to have exchanged with the firmware when "
        "it is launched");
    rc->phases.hold = psp_reset_hold;

    object_class_property_add(oc, "state", "struct", psp_get_state, NULL, NULL,
                              NULL);
    object_class_property_set_description(oc, "state",
        "state of legacy SEV and of SEV-SNP");
    object_class_property_add(oc, "commands", "list", psp_get_commands, NULL,
                              NULL, NULL);
    object_class_property_set_description(oc, "commands",
        "commands received: how often, and how many of them failed");
    object_class_property_add(oc, "guests", "list", psp_get_guests, NULL, NULL,
                              NULL);
    object_class_property_set_description(oc, "guests",
        "guests: context, state, ASID, policy, pages and digest of the "
        "launch");
    object_class_property_add(oc, "sev-guests", "list", psp_get_sev_guests,
                              NULL, NULL, NULL);
    object_class_property_set_description(oc, "sev-guests",
        "guests of SEV and SEV-ES: handle, state, ASID and policy");
    object_class_property_add_str(oc, "chip-id", psp_get_chip, NULL);
    object_class_property_set_description(oc, "chip-id",
        "the chip that attestation reports name, in hexadecimal");
    object_class_property_add_str(oc, "vcek", psp_get_vcek, NULL);
    object_class_property_set_description(oc, "vcek",
        "public key of vcek-key, in PEM");
    object_class_property_add_str(oc, "fail", psp_get_fail, psp_set_fail);
    object_class_property_set_description(oc, "fail",
        "COMMAND:STATUS[:NTH],...: commands that will fail instead of being "
        "executed (default: none)");
    for (i = 0; i < PSP_OUTPUTS; i++) {
        object_class_property_add(oc, pattern_names[i], "size", psp_get_pattern,
                                  psp_set_pattern, NULL,
                                  (void *)&pattern_names[i]);
        object_class_property_set_description(oc, pattern_names[i],
            "bytes of a pattern, up to 8M, that a command writes instead of "
            "its output (default: 0, none)");
    }
    object_class_property_add_str(oc, "hold", psp_get_hold, psp_set_hold);
    object_class_property_set_description(oc, "hold",
        "command, by name or number, that waits before it is executed "
        "(default: none)");
    object_class_property_add_bool(oc, "held", psp_get_held, NULL);
    object_class_property_set_description(oc, "held",
        "whether a command waits because of hold");
}

static const TypeInfo psp_types[] = {
    {
        .name = TYPE_AMD_PSP,
        .parent = TYPE_PCI_DEVICE,
        .instance_size = sizeof(AMDPSP),
        .instance_init = psp_instance_init,
        .instance_finalize = psp_finalize,
        .class_init = psp_class_init,
        .interfaces = (InterfaceInfo[]) {
            { INTERFACE_PCIE_DEVICE },
            { INTERFACE_CONVENTIONAL_PCI_DEVICE },
            { },
        },
    },
};

DEFINE_TYPES(psp_types)
