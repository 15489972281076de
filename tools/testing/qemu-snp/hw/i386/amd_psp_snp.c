/*
 * AMD Platform Security Processor (PSP): the commands of SEV-SNP
 *
 * From the "SEV Secure Nested Paging Firmware ABI Specification" (56860). What
 * that leaves open is marked as an assumption here, and listed in
 * docs/system/i386/amd-snp-host.rst. Memory of guests is not encrypted.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qemu/guest-random.h"
#include "exec/cputlb.h"
#include "hw/i386/amd_psp.h"
#include "cpu.h"
#include "amd_iommu.h"

#define SYSCFG_MFDM             (1ULL << 19)

#define FEATURE_ECX_X86_SHUTDOWN        (1U << 1)

/* SNP_INIT_EX */
#define INIT_RMP                (1U << 0)
#define INIT_LIST               (1U << 1)
#define RANGE_LIST_MAX          255

/* SNP_SHUTDOWN_EX */
#define SHUTDOWN_IOMMU          (1U << 0)
#define SHUTDOWN_X86            (1U << 1)

/* Guest policy */
#define POLICY_ABI_MASK         0xffffULL
#define POLICY_SMT              (1ULL << 16)
#define POLICY_ONE              (1ULL << 17)
/* CXL, AES-256-XTS, RAPL and ciphertext hiding are not supported */
#define POLICY_FEATURES         MAKE_64BIT_MASK(21, 4)
#define POLICY_RESERVED         MAKE_64BIT_MASK(26, 38)

typedef enum LaunchPage {
    LAUNCH_NORMAL = 1,
    LAUNCH_VMSA,
    LAUNCH_ZERO,
    LAUNCH_UNMEASURED,
    LAUNCH_SECRETS,
    LAUNCH_CPUID,
} LaunchPage;

#define CPUID_PAGE_MAX          64

static void psp_set_entry(uint64_t pa, uint64_t lo)
{
    qemu_spin_lock(&amd_snp->lock);
    amd_snp_set_entry(amd_snp, pa, lo);
    qemu_spin_unlock(&amd_snp->lock);
}

static void psp_set_entries(uint64_t pa, uint64_t size, uint64_t lo)
{
    uint64_t end = pa + size;

    for (; pa < end; pa += RMP_PAGE_4K) {
        psp_set_entry(pa, lo);
    }
}

#define ENTRY_FIRMWARE          (RMP_ASSIGNED | RMP_IMMUTABLE)
#define ENTRY_RECLAIM           RMP_ASSIGNED
#define ENTRY_CONTEXT           (RMP_ASSIGNED | RMP_IMMUTABLE | RMP_VMSA)
#define ENTRY_HV_FIXED          RMP_IMMUTABLE

static bool snp_entry_is_large(const RMPEntry *entry)
{
    return snp_entry_lo(entry) & RMP_PAGE_SIZE_2M;
}

/* What the firmware borrows for a status: a page, back in state Reclaim */
static uint32_t snp_write_status(AMDPSP *s, uint64_t pa, const void *status,
                                 unsigned size)
{
    RMPEntry *entry = amd_snp_entry(amd_snp, pa & ~AMD_C_BIT);
    uint32_t ret;

    if (s->snp == PSP_INIT) {
        if (!entry || pa % RMP_PAGE_4K + size > RMP_PAGE_4K) {
            return PSP_INVALID_ADDRESS;
        }
        if (snp_entry_is_large(entry)) {
            return PSP_INVALID_PAGE_SIZE;
        }
    }
    ret = psp_check_output(s, pa, size);
    if (ret == PSP_SUCCESS) {
        psp_write(pa, status, size);
        if (s->snp == PSP_INIT) {
            psp_set_entry(QEMU_ALIGN_DOWN(pa & ~AMD_C_BIT, RMP_PAGE_4K),
                          ENTRY_RECLAIM);
        }
    }
    return ret;
}

/*
 * SNP Firmware ABI (56860): command buffer of SNP_PLATFORM_STATUS, and of other
 * commands that take nothing but an address
 */
typedef struct QEMU_PACKED SNPDataAddress {
    uint64_t address;
} SNPDataAddress;
QEMU_BUILD_BUG_ON(sizeof(SNPDataAddress) != 8);

/* SNP Firmware ABI (56860): what SNP_PLATFORM_STATUS writes */
typedef struct QEMU_PACKED SNPPlatformStatus {
    uint8_t api_major;
    uint8_t api_minor;
    uint8_t state;
    uint8_t memory;
    uint32_t build_id;
    uint32_t flags;
    uint32_t guest_count;
    uint64_t current_tcb_version;
    uint64_t reported_tcb_version;
} SNPPlatformStatus;
QEMU_BUILD_BUG_ON(sizeof(SNPPlatformStatus) != 32);

/* In memory */
#define STATUS_RMP_INITIALIZED  (1U << 0)
#define STATUS_ALIAS_CHECK      (1U << 1)

/* In flags */
#define STATUS_MASK_CHIP_ID     (1U << 0)
#define STATUS_MASK_CHIP_KEY    (1U << 1)
#define STATUS_VLEK_EN          (1U << 2)
#define STATUS_FEATURE_INFO     (1U << 3)

static uint32_t snp_platform_status(AMDPSP *s, void *buf, uint64_t pa)
{
    const SNPDataAddress *data = buf;
    SNPPlatformStatus status = {
        .api_major = s->api_major,
        .api_minor = s->api_minor,
        .state = s->snp,
        .memory = (s->rmp_initialized ? STATUS_RMP_INITIALIZED : 0) |
                  STATUS_ALIAS_CHECK,
        .build_id = cpu_to_le32(s->build),
        .flags = cpu_to_le32((s->mask_chip_id ? STATUS_MASK_CHIP_ID : 0) |
                             (s->mask_chip_key ? STATUS_MASK_CHIP_KEY : 0) |
                             (s->vlek ? STATUS_VLEK_EN : 0) |
                             STATUS_FEATURE_INFO),
        .guest_count = cpu_to_le32(g_hash_table_size(s->guests)),
        .current_tcb_version = cpu_to_le64(PSP_CURRENT_TCB),
        .reported_tcb_version = cpu_to_le64(s->reported_tcb),
    };

    return snp_write_status(s, le64_to_cpu(data->address), &status,
                            sizeof(status));
}

/* SNP Firmware ABI (56860): command buffer of SNP_FEATURE_INFO */
typedef struct QEMU_PACKED SNPDataFeatureInfo {
    uint32_t length;
    uint32_t ecx_in;
    uint64_t feature_info_address;
} SNPDataFeatureInfo;
QEMU_BUILD_BUG_ON(sizeof(SNPDataFeatureInfo) != 16);

/* SNP Firmware ABI (56860): what SNP_FEATURE_INFO writes */
typedef struct QEMU_PACKED SNPFeatureInfo {
    uint32_t eax;
    uint32_t ebx;
    uint32_t ecx;
    uint32_t edx;
} SNPFeatureInfo;
QEMU_BUILD_BUG_ON(sizeof(SNPFeatureInfo) != 16);

static uint32_t snp_feature_info(AMDPSP *s, void *buf, uint64_t pa)
{
    const SNPDataFeatureInfo *data = buf;
    SNPFeatureInfo info = {
        .ecx = cpu_to_le32(s->x86_shutdown ? FEATURE_ECX_X86_SHUTDOWN : 0),
    };

    if (le32_to_cpu(data->length) != sizeof(*data)) {
        return PSP_INVALID_LEN;
    }
    if (data->ecx_in) {
        return PSP_INVALID_PARAM;
    }
    return snp_write_status(s, le64_to_cpu(data->feature_info_address), &info,
                            sizeof(info));
}

/* The buffers that the IOMMU of an SNP host writes to */
static void snp_find_iommu_pages(AMDPSP *s)
{
    static const struct {
        unsigned base;
        bool log;
    } registers[PSP_IOMMU_RANGES] = {
        { AMDVI_MMIO_EVENT_BASE, true },
        { AMDVI_MMIO_PPR_BASE, true },
        /* With SNP this is where completion wait stores go */
        { AMDVI_MMIO_EXCL_BASE, false },
    };
    X86IOMMUState *iommu = x86_iommu_get_default();
    int i;

    memset(s->iommu, 0, sizeof(s->iommu));
    if (!iommu || !object_dynamic_cast(OBJECT(iommu), TYPE_AMD_IOMMU_DEVICE)) {
        return;
    }
    for (i = 0; i < PSP_IOMMU_RANGES; i++) {
        AMDVIState *amdvi = AMD_IOMMU_DEVICE(iommu);
        uint64_t reg = ldq_le_p(&amdvi->mmior[registers[i].base]);
        uint64_t size = RMP_PAGE_4K;

        s->iommu[i].start = reg & MAKE_64BIT_MASK(12, 40) & ~AMD_C_BIT;
        if (!s->iommu[i].start) {
            continue;
        }
        if (registers[i].log) {
            /* 2^N entries of 16 bytes */
            size = MAX(size, 16ULL << extract64(reg, 56, 4));
        }
        s->iommu[i].size = size;
    }
}

/* Those pages of a range that are in a state */
static void snp_convert_range(uint64_t pa, uint64_t size, PSPPageState state,
                              uint64_t lo)
{
    uint64_t limit = amd_snp->regions * RMPOPT_REGION_SIZE;
    uint64_t end = pa < limit ? pa + MIN(size, limit - pa) : pa;

    for (; pa < end; pa += RMP_PAGE_4K) {
        if (!amd_snp_entry(amd_snp, pa)) {
            /* Holes are large */
            pa = QEMU_ALIGN_DOWN(pa, RMPOPT_REGION_SIZE) + RMPOPT_REGION_SIZE -
                 RMP_PAGE_4K;
        } else if (psp_page_state(pa) == state) {
            psp_set_entry(pa, lo);
        }
    }
}

static bool snp_cpus_are_configured(void)
{
    const uint64_t syscfg = MSR_AMD64_SYSCFG_MEM_ENC | SYSCFG_MFDM |
                            MSR_AMD64_SYSCFG_SNP_EN | MSR_AMD64_SYSCFG_VMPL_EN;
    CPUState *cs;

    CPU_FOREACH(cs) {
        CPUX86State *env = cpu_env(cs);

        if ((env->msr_syscfg & syscfg) != syscfg || env->vm_hsave) {
            return false;
        }
    }
    return true;
}

/* SNP Firmware ABI (56860): an element of the list for SNP_INIT_EX */
typedef struct QEMU_PACKED SNPRange {
    uint64_t base;
    uint32_t page_count;
    uint32_t reserved;
} SNPRange;
QEMU_BUILD_BUG_ON(sizeof(SNPRange) != 16);

/* SNP Firmware ABI (56860): the list of ranges for SNP_INIT_EX */
typedef struct QEMU_PACKED SNPRangeList {
    uint32_t num_elements;
    uint32_t reserved;
    SNPRange ranges[RANGE_LIST_MAX];
} SNPRangeList;
QEMU_BUILD_BUG_ON(sizeof(SNPRangeList) > RMP_PAGE_4K);

/* A list is within its page */
static uint32_t snp_read_ranges(uint64_t pa, SNPRangeList *list, unsigned *n)
{
    const uint64_t offset = pa & ~TARGET_PAGE_MASK;
    const size_t header = offsetof(SNPRangeList, ranges);
    size_t size;

    if (pa % 8 || offset + header > RMP_PAGE_4K ||
        !psp_read(pa, list, header)) {
        return PSP_INVALID_ADDRESS;
    }
    *n = le32_to_cpu(list->num_elements);
    if (*n > RANGE_LIST_MAX || list->reserved) {
        return PSP_INVALID_PARAM;
    }
    size = header + *n * sizeof(SNPRange);
    if (offset + size > RMP_PAGE_4K || !psp_read(pa, list, size)) {
        return PSP_INVALID_ADDRESS;
    }
    return PSP_SUCCESS;
}

static uint32_t snp_init_common(AMDPSP *s, uint32_t flags, uint64_t list_pa)
{
    g_autofree SNPRangeList *list = g_new0(SNPRangeList, 1);
    unsigned i, n = 0;
    CPUState *cs;

    if (flags & INIT_LIST) {
        uint32_t ret = snp_read_ranges(list_pa, list, &n);

        if (ret != PSP_SUCCESS) {
            return ret;
        }
    }
    for (i = 0; i < n; i++) {
        if (list->ranges[i].reserved) {
            return PSP_INVALID_PARAM;
        }
        if (le64_to_cpu(list->ranges[i].base) % RMP_PAGE_4K) {
            return PSP_INVALID_ADDRESS;
        }
    }
    if (!(flags & INIT_RMP) && !s->rmp_initialized) {
        return PSP_RMP_INIT_REQUIRED;
    }
    if (!snp_cpus_are_configured()) {
        return PSP_INVALID_CONFIG;
    }

    qemu_spin_lock(&amd_snp->lock);
    amd_snp_clear_tables(amd_snp);
    if (flags & INIT_RMP) {
        amd_snp_clear_rmp(amd_snp);
    }
    qemu_spin_unlock(&amd_snp->lock);
    snp_convert_range(amd_snp->rmp_base, amd_snp->rmp_size, PSP_PAGE_HYPERVISOR,
                      ENTRY_FIRMWARE);
    snp_find_iommu_pages(s);
    for (i = 0; i < PSP_IOMMU_RANGES; i++) {
        snp_convert_range(s->iommu[i].start, s->iommu[i].size,
                          PSP_PAGE_HYPERVISOR, ENTRY_FIRMWARE);
    }
    for (i = 0; i < n; i++) {
        uint32_t pages = le32_to_cpu(list->ranges[i].page_count);

        snp_convert_range(le64_to_cpu(list->ranges[i].base),
                          (uint64_t)pages * RMP_PAGE_4K, PSP_PAGE_HYPERVISOR,
                          ENTRY_HV_FIXED);
    }
    /* It may since have become RMP */
    memset(&s->nv, 0, sizeof(s->nv));
    /* No vCPU may write to what has become the firmware's */
    CPU_FOREACH(cs) {
        tlb_flush(cs);
    }
    s->rmp_initialized = true;
    s->snp = PSP_INIT;
    bitmap_zero(s->asids_dirty, PSP_ASIDS);
    return PSP_SUCCESS;
}

static uint32_t snp_init(AMDPSP *s, void *buf, uint64_t pa)
{
    return snp_init_common(s, INIT_RMP, 0);
}

/* SNP Firmware ABI (56860): command buffer of SNP_INIT_EX */
typedef struct QEMU_PACKED SNPDataInitEx {
    uint32_t flags;
    uint32_t reserved;
    uint64_t list_address;
    uint16_t max_snp_asid;
    uint8_t reserved2[46];
} SNPDataInitEx;
QEMU_BUILD_BUG_ON(sizeof(SNPDataInitEx) != 64);

static uint32_t snp_init_ex(AMDPSP *s, void *buf, uint64_t pa)
{
    const SNPDataInitEx *data = buf;
    uint32_t flags = le32_to_cpu(data->flags);

    /* Nothing that the other flags ask for is there */
    if ((flags & ~(INIT_RMP | INIT_LIST)) || data->reserved ||
        data->max_snp_asid ||
        !buffer_is_zero(data->reserved2, sizeof(data->reserved2))) {
        return PSP_INVALID_PARAM;
    }
    return snp_init_common(s, flags, le64_to_cpu(data->list_address));
}

static gboolean snp_release_context(gpointer key, gpointer value,
                                    gpointer opaque)
{
    PSPGuest *guest = value;

    psp_set_entry(guest->context, ENTRY_FIRMWARE);
    return true;
}

static uint32_t snp_shutdown_common(AMDPSP *s, uint32_t flags)
{
    CPUState *cs;
    int i;

    if (!bitmap_empty(s->asids_dirty, PSP_ASIDS)) {
        return PSP_DFFLUSH_REQUIRED;
    }
    g_hash_table_foreach_remove(s->guests, snp_release_context, NULL);
    if (flags & SHUTDOWN_IOMMU) {
        for (i = 0; i < PSP_IOMMU_RANGES; i++) {
            snp_convert_range(s->iommu[i].start, s->iommu[i].size,
                              PSP_PAGE_FIRMWARE, ENTRY_RECLAIM);
        }
    }
    memset(s->iommu, 0, sizeof(s->iommu));
    memset(&s->nv, 0, sizeof(s->nv));
    if (flags & SHUTDOWN_X86) {
        /* A vCPU that is writing RMPOPT_BASE looks at SNP_EN under the lock */
        qemu_spin_lock(&amd_snp->lock);
        CPU_FOREACH(cs) {
            cpu_env(cs)->msr_syscfg &= ~MSR_AMD64_SYSCFG_SNP_EN;
        }
        amd_snp_disabled(amd_snp);
        qemu_spin_unlock(&amd_snp->lock);
        /* The RMP is the hypervisor's memory now, which is going to clear it */
        s->rmp_initialized = false;
    }
    s->snp = PSP_UNINIT;
    return PSP_SUCCESS;
}

static uint32_t snp_shutdown(AMDPSP *s, void *buf, uint64_t pa)
{
    return snp_shutdown_common(s, 0);
}

/* SNP Firmware ABI (56860): command buffer of SNP_SHUTDOWN_EX */
typedef struct QEMU_PACKED SNPDataShutdownEx {
    uint32_t length;
    uint32_t flags;
} SNPDataShutdownEx;
QEMU_BUILD_BUG_ON(sizeof(SNPDataShutdownEx) != 8);

static uint32_t snp_shutdown_ex(AMDPSP *s, void *buf, uint64_t pa)
{
    const SNPDataShutdownEx *data = buf;
    uint32_t flags = le32_to_cpu(data->flags);

    if (le32_to_cpu(data->length) != sizeof(*data)) {
        return PSP_INVALID_LEN;
    }
    if ((flags & ~(SHUTDOWN_IOMMU | SHUTDOWN_X86)) ||
        ((flags & SHUTDOWN_X86) && !s->x86_shutdown)) {
        return PSP_INVALID_PARAM;
    }
    return snp_shutdown_common(s, flags);
}

PSPGuest *psp_find_guest(AMDPSP *s, uint64_t context)
{
    context &= ~AMD_C_BIT;
    return g_hash_table_lookup(s->guests, &context);
}

static uint32_t snp_gctx_create(AMDPSP *s, void *buf, uint64_t pa)
{
    const SNPDataAddress *data = buf;
    uint64_t context = le64_to_cpu(data->address) & ~AMD_C_BIT;
    RMPEntry *entry = amd_snp_entry(amd_snp, context);
    PSPGuest *guest;

    if (context % RMP_PAGE_4K || !entry) {
        return PSP_INVALID_ADDRESS;
    }
    if (snp_entry_is_large(entry)) {
        return PSP_INVALID_PAGE_SIZE;
    }
    /* Somebody may have written to the RMP behind the firmware's back */
    if (psp_page_state(context) != PSP_PAGE_FIRMWARE ||
        psp_in_use(s, context, RMP_PAGE_4K) || psp_find_guest(s, context)) {
        return PSP_INVALID_PAGE_STATE;
    }
    guest = g_new0(PSPGuest, 1);
    guest->context = context;
    g_hash_table_insert(s->guests, &guest->context, guest);
    psp_set_entry(context, ENTRY_CONTEXT);
    return PSP_SUCCESS;
}

/* SNP Firmware ABI (56860): command buffer of SNP_LAUNCH_START */
typedef struct QEMU_PACKED SNPDataLaunchStart {
    uint64_t gctx_address;
    uint64_t policy;
    uint64_t ma_gctx_address;
    uint32_t flags;
    uint32_t desired_tsc_khz;
    uint8_t gosvw[16];
} SNPDataLaunchStart;
QEMU_BUILD_BUG_ON(sizeof(SNPDataLaunchStart) != 48);

/* Migration agent, incoming migration image */
#define LAUNCH_START_MA_EN      (1U << 0)
#define LAUNCH_START_IMI_EN     (1U << 1)

static uint32_t snp_launch_start(AMDPSP *s, void *buf, uint64_t pa)
{
    const SNPDataLaunchStart *data = buf;
    PSPGuest *guest = psp_find_guest(s, le64_to_cpu(data->gctx_address));
    uint64_t policy = le64_to_cpu(data->policy);
    uint32_t flags = le32_to_cpu(data->flags);
    unsigned vmpl;

    if ((flags & ~(LAUNCH_START_MA_EN | LAUNCH_START_IMI_EN)) ||
        (policy & POLICY_RESERVED)) {
        return PSP_INVALID_PARAM;
    }
    if (!guest) {
        return PSP_INVALID_GUEST;
    }
    if (guest->state != PSP_GUEST_INIT) {
        return PSP_INVALID_GUEST_STATE;
    }
    if (flags) {
        /* Neither of the two is supported */
        return PSP_UNSUPPORTED;
    }
    if (!(policy & POLICY_ONE) || (policy & POLICY_FEATURES) ||
        (policy & POLICY_ABI_MASK) > (s->api_major << 8 | s->api_minor) ||
        (!(policy & POLICY_SMT) &&
         X86_CPU(first_cpu)->env.topo_info.threads_per_core > 1)) {
        return PSP_POLICY_FAILURE;
    }
    qemu_guest_getrandom_nofail(guest->report_id, sizeof(guest->report_id));
    qemu_guest_getrandom_nofail(guest->vmpck, sizeof(guest->vmpck));
    qemu_guest_getrandom_nofail(guest->vmrk, sizeof(guest->vmrk));
    for (vmpl = 0; vmpl < RMP_VMPLS; vmpl++) {
        guest->message_count[vmpl] = s->message_count;
    }
    guest->policy = policy;
    guest->state = PSP_GUEST_LAUNCH;
    return PSP_SUCCESS;
}

/* SNP Firmware ABI (56860): command buffer of SNP_ACTIVATE */
typedef struct QEMU_PACKED SNPDataActivate {
    uint64_t gctx_address;
    uint32_t asid;
} SNPDataActivate;
QEMU_BUILD_BUG_ON(sizeof(SNPDataActivate) != 12);

static uint32_t snp_activate(AMDPSP *s, void *buf, uint64_t pa)
{
    const SNPDataActivate *data = buf;
    PSPGuest *guest = psp_find_guest(s, le64_to_cpu(data->gctx_address));
    uint32_t asid = le32_to_cpu(data->asid);
    uint32_t min_sev_asid, max_asid;

    if (!guest) {
        return PSP_INVALID_GUEST;
    }
    if (guest->state == PSP_GUEST_INIT) {
        return PSP_INVALID_GUEST_STATE;
    }
    psp_asid_range(&min_sev_asid, &max_asid);
    if (!asid || asid >= min_sev_asid) {
        return PSP_INVALID_ASID;
    }
    return psp_activate(s, &guest->asid, asid);
}

/*
 * SNP Firmware ABI (56860): command buffer of SNP_LAUNCH_UPDATE, with the
 * permissions of VMPL 1, 2 and 3
 */
typedef struct QEMU_PACKED SNPDataLaunchUpdate {
    uint64_t gctx_address;
    uint32_t flags;
    uint32_t reserved;
    uint64_t address;
    uint8_t reserved2;
    uint8_t vmpl_perms[3];
    uint32_t reserved3;
} SNPDataLaunchUpdate;
QEMU_BUILD_BUG_ON(sizeof(SNPDataLaunchUpdate) != 32);

#define LAUNCH_UPDATE_2M                (1U << 0)
#define LAUNCH_UPDATE_TYPE_SHIFT        1
#define LAUNCH_UPDATE_TYPE_BITS         3
#define LAUNCH_UPDATE_FLAGS             MAKE_64BIT_MASK(0, 4)

/* SNP Firmware ABI (56860): PAGE_INFO, which the launch digest is a chain of */
typedef struct QEMU_PACKED SNPPageInfo {
    uint8_t digest_cur[PSP_DIGEST_SIZE];
    uint8_t contents[PSP_DIGEST_SIZE];
    uint16_t length;
    uint8_t page_type;
    uint8_t imi_page;
    uint8_t vmpl3_perms;
    uint8_t vmpl2_perms;
    uint8_t vmpl1_perms;
    uint8_t reserved;
    uint64_t gpa;
} SNPPageInfo;
QEMU_BUILD_BUG_ON(sizeof(SNPPageInfo) != 0x70);

static void snp_extend_digest(PSPGuest *guest, LaunchPage type, uint64_t gpa,
                              const uint8_t *page, const uint8_t *perms)
{
    SNPPageInfo info = {
        .length = cpu_to_le16(sizeof(info)),
        .page_type = type,
        .vmpl3_perms = perms[2],
        .vmpl2_perms = perms[1],
        .vmpl1_perms = perms[0],
        .gpa = cpu_to_le64(gpa),
    };

    memcpy(info.digest_cur, guest->digest, PSP_DIGEST_SIZE);
    if (type == LAUNCH_NORMAL || type == LAUNCH_VMSA) {
        psp_hash384(page, RMP_PAGE_4K, info.contents);
    }
    psp_hash384(&info, sizeof(info), guest->digest);
}

/* SNP Firmware ABI (56860): the secrets page, as far as it is filled here */
typedef struct QEMU_PACKED SNPSecrets {
    uint32_t version;
    uint32_t flags;
    uint32_t fms;
    uint32_t reserved;
    uint8_t gosvw[16];
    uint8_t vmpck[RMP_VMPLS][PSP_VMPCK_SIZE];
} SNPSecrets;
QEMU_BUILD_BUG_ON(sizeof(SNPSecrets) != 0xa0);

#define SECRETS_VERSION         3

static void snp_make_secrets(PSPGuest *guest, uint8_t *page)
{
    SNPSecrets *secrets = (SNPSecrets *)page;

    memset(page, 0, RMP_PAGE_4K);
    secrets->version = cpu_to_le32(SECRETS_VERSION);
    memcpy(secrets->vmpck, guest->vmpck, sizeof(secrets->vmpck));
}

static uint32_t snp_launch_page(PSPGuest *guest, LaunchPage type, uint64_t pa,
                                const uint8_t *perms)
{
    g_autofree uint8_t *page = g_malloc(RMP_PAGE_4K);
    uint64_t lo = snp_entry_lo(amd_snp_entry(amd_snp, pa));
    uint64_t hi = 0;
    unsigned vmpl;

    psp_read(pa, page, RMP_PAGE_4K);
    switch (type) {
    case LAUNCH_ZERO:
        memset(page, 0, RMP_PAGE_4K);
        break;
    case LAUNCH_SECRETS:
        snp_make_secrets(guest, page);
        break;
    default:
        break;
    }
    psp_write(pa, page, RMP_PAGE_4K);
    snp_extend_digest(guest, type, lo & RMP_GPA_MASK, page, perms);
    lo = (lo & ~RMP_IMMUTABLE) | RMP_VALIDATED;
    if (type == LAUNCH_VMSA) {
        lo |= RMP_VMSA;
    }
    for (vmpl = 1; vmpl < RMP_VMPLS; vmpl++) {
        hi = deposit64(hi, RMP_PERM_SHIFT(vmpl), 5, perms[vmpl - 1]);
    }
    qemu_spin_lock(&amd_snp->lock);
    amd_snp_set_entry_perms(amd_snp, pa, lo, hi);
    qemu_spin_unlock(&amd_snp->lock);
    guest->pages++;
    return PSP_SUCCESS;
}

/* Whether a guest is being launched */
static uint32_t snp_check_launch(const PSPGuest *guest)
{
    if (!guest) {
        return PSP_INVALID_GUEST;
    }
    if (guest->state != PSP_GUEST_LAUNCH) {
        return PSP_INVALID_GUEST_STATE;
    }
    return guest->asid ? PSP_SUCCESS : PSP_INACTIVE;
}

static uint32_t snp_launch_update(AMDPSP *s, void *buf, uint64_t pa)
{
    const SNPDataLaunchUpdate *data = buf;
    PSPGuest *guest = psp_find_guest(s, le64_to_cpu(data->gctx_address));
    uint32_t flags = le32_to_cpu(data->flags);
    bool large = flags & LAUNCH_UPDATE_2M;
    LaunchPage type = extract32(flags, LAUNCH_UPDATE_TYPE_SHIFT,
                                LAUNCH_UPDATE_TYPE_BITS);
    uint64_t page = le64_to_cpu(data->address) & ~AMD_C_BIT;
    uint64_t size = large ? RMP_PAGE_2M : RMP_PAGE_4K;
    RMPEntry *entry = amd_snp_entry(amd_snp, page);
    uint64_t lo, end;
    uint32_t count, ret;

    /* Pages of incoming migration images are not supported either */
    if (type < LAUNCH_NORMAL || type > LAUNCH_CPUID ||
        (flags & ~LAUNCH_UPDATE_FLAGS) || data->reserved || data->reserved2 ||
        data->reserved3) {
        return PSP_INVALID_PARAM;
    }
    ret = snp_check_launch(guest);
    if (ret != PSP_SUCCESS) {
        return ret;
    }
    if (page % size || !entry || !psp_is_ram(page, size, true)) {
        return PSP_INVALID_ADDRESS;
    }
    lo = snp_entry_lo(entry);
    if (((lo & RMP_ASSIGNED) && snp_entry_is_large(entry) != large) ||
        (large && type == LAUNCH_VMSA)) {
        return PSP_INVALID_PAGE_SIZE;
    }
    if (psp_page_state(page) != PSP_PAGE_PRE_GUEST) {
        return PSP_INVALID_PAGE_STATE;
    }
    if ((lo & RMP_ASID_MASK) >> RMP_ASID_SHIFT != guest->asid) {
        return PSP_INVALID_PAGE_OWNER;
    }
    if (type == LAUNCH_CPUID) {
        psp_read(page, &count, sizeof(count));
        if (le32_to_cpu(count) > CPUID_PAGE_MAX) {
            return PSP_INVALID_PARAM;
        }
    }
    for (end = page + size; page < end; page += RMP_PAGE_4K) {
        snp_launch_page(guest, type, page, data->vmpl_perms);
    }
    return PSP_SUCCESS;
}

/* SNP Firmware ABI (56860): command buffer of SNP_LAUNCH_FINISH */
typedef struct QEMU_PACKED SNPDataLaunchFinish {
    uint64_t gctx_address;
    uint64_t id_block_address;
    uint64_t id_auth_address;
    uint8_t flags;
    uint8_t reserved[7];
    uint8_t host_data[PSP_HOST_DATA_SIZE];
} SNPDataLaunchFinish;
QEMU_BUILD_BUG_ON(sizeof(SNPDataLaunchFinish) != 64);

#define LAUNCH_FINISH_ID_BLOCK_EN       (1U << 0)
#define LAUNCH_FINISH_AUTH_KEY_EN       (1U << 1)
#define LAUNCH_FINISH_VCEK_DIS          (1U << 2)
#define LAUNCH_FINISH_FLAGS             (LAUNCH_FINISH_ID_BLOCK_EN | \
                                         LAUNCH_FINISH_AUTH_KEY_EN | \
                                         LAUNCH_FINISH_VCEK_DIS)

/* SNP Firmware ABI (56860): the ID block */
typedef struct QEMU_PACKED SNPIDBlock {
    uint8_t ld[PSP_DIGEST_SIZE];
    uint8_t family_id[PSP_ID_SIZE];
    uint8_t image_id[PSP_ID_SIZE];
    uint32_t version;
    uint32_t guest_svn;
    uint64_t policy;
} SNPIDBlock;
QEMU_BUILD_BUG_ON(sizeof(SNPIDBlock) != 96);

/* SNP Firmware ABI (56860): the ID authentication information */
typedef struct QEMU_PACKED SNPIDAuth {
    uint32_t id_key_algo;
    uint32_t author_key_algo;
    uint8_t reserved[56];
    PSPSignature id_block_signature;
    PSPPublicKey id_key;
    uint8_t reserved2[60];
    PSPSignature id_key_signature;
    PSPPublicKey author_key;
    uint8_t reserved3[892];
} SNPIDAuth;
QEMU_BUILD_BUG_ON(sizeof(SNPIDAuth) != RMP_PAGE_4K);
QEMU_BUILD_BUG_ON(offsetof(SNPIDAuth, id_key) != 0x240);
QEMU_BUILD_BUG_ON(offsetof(SNPIDAuth, author_key) != 0x880);

#define ID_ALGO_ECDSA_P384      1

/* The digests of keys are those of all that is there of them */
static uint32_t snp_verify_id_block(PSPGuest *guest, const SNPIDBlock *block,
                                    const SNPIDAuth *auth, bool author)
{
    if (le32_to_cpu(auth->id_key_algo) != ID_ALGO_ECDSA_P384 ||
        (author && le32_to_cpu(auth->author_key_algo) != ID_ALGO_ECDSA_P384)) {
        return PSP_INVALID_PARAM;
    }
    if (!psp_verify(&auth->id_key, &auth->id_block_signature, block,
                    sizeof(*block)) ||
        (author && !psp_verify(&auth->author_key, &auth->id_key_signature,
                               &auth->id_key, sizeof(auth->id_key)))) {
        return PSP_BAD_SIGNATURE;
    }
    psp_hash384(&auth->id_key, sizeof(auth->id_key), guest->id_key_digest);
    if (author) {
        psp_hash384(&auth->author_key, sizeof(auth->author_key),
                    guest->author_key_digest);
    }
    guest->author_key = author;
    return PSP_SUCCESS;
}

static uint32_t snp_launch_finish(AMDPSP *s, void *buf, uint64_t pa)
{
    const SNPDataLaunchFinish *data = buf;
    PSPGuest *guest = psp_find_guest(s, le64_to_cpu(data->gctx_address));
    bool id_block_en = data->flags & LAUNCH_FINISH_ID_BLOCK_EN;
    bool auth_key_en = data->flags & LAUNCH_FINISH_AUTH_KEY_EN;
    g_autofree SNPIDAuth *id_auth = g_new(SNPIDAuth, 1);
    SNPIDBlock id_block;
    uint32_t ret;

    if ((data->flags & ~LAUNCH_FINISH_FLAGS) ||
        !buffer_is_zero(data->reserved, sizeof(data->reserved)) ||
        (auth_key_en && !id_block_en)) {
        return PSP_INVALID_PARAM;
    }
    ret = snp_check_launch(guest);
    if (ret != PSP_SUCCESS) {
        return ret;
    }
    if (id_block_en) {
        if (!psp_read(le64_to_cpu(data->id_block_address), &id_block,
                      sizeof(id_block)) ||
            !psp_read(le64_to_cpu(data->id_auth_address), id_auth,
                      sizeof(*id_auth))) {
            return PSP_INVALID_ADDRESS;
        }
        if (memcmp(id_block.ld, guest->digest, PSP_DIGEST_SIZE)) {
            return PSP_BAD_MEASUREMENT;
        }
        if (le64_to_cpu(id_block.policy) != guest->policy) {
            return PSP_POLICY_FAILURE;
        }
        ret = snp_verify_id_block(guest, &id_block, id_auth, auth_key_en);
        if (ret != PSP_SUCCESS) {
            return ret;
        }
        memcpy(guest->family_id, id_block.family_id, PSP_ID_SIZE);
        memcpy(guest->image_id, id_block.image_id, PSP_ID_SIZE);
        guest->guest_svn = le32_to_cpu(id_block.guest_svn);
    }
    guest->vcek_disabled = data->flags & LAUNCH_FINISH_VCEK_DIS;
    memcpy(guest->host_data, data->host_data, PSP_HOST_DATA_SIZE);
    guest->state = PSP_GUEST_RUNNING;
    return PSP_SUCCESS;
}

/* SNP Firmware ABI (56860): command buffer of SNP_GUEST_STATUS */
typedef struct QEMU_PACKED SNPDataGuestStatus {
    uint64_t gctx_address;
    uint64_t status_address;
} SNPDataGuestStatus;
QEMU_BUILD_BUG_ON(sizeof(SNPDataGuestStatus) != 16);

/* SNP Firmware ABI (56860): what SNP_GUEST_STATUS writes */
typedef struct QEMU_PACKED SNPGuestStatus {
    uint64_t policy;
    uint32_t asid;
    uint8_t state;
    uint8_t reserved[19];
} SNPGuestStatus;
QEMU_BUILD_BUG_ON(sizeof(SNPGuestStatus) != 32);

static uint32_t snp_guest_status(AMDPSP *s, void *buf, uint64_t pa)
{
    const SNPDataGuestStatus *data = buf;
    PSPGuest *guest = psp_find_guest(s, le64_to_cpu(data->gctx_address));
    SNPGuestStatus status = { 0 };

    if (!guest) {
        return PSP_INVALID_GUEST;
    }
    status.policy = cpu_to_le64(guest->policy);
    status.asid = cpu_to_le32(guest->asid);
    status.state = guest->state;
    return snp_write_status(s, le64_to_cpu(data->status_address), &status,
                            sizeof(status));
}

static uint32_t snp_decommission(AMDPSP *s, void *buf, uint64_t pa)
{
    const SNPDataAddress *data = buf;
    PSPGuest *guest = psp_find_guest(s, le64_to_cpu(data->address));

    if (!guest) {
        return PSP_INVALID_GUEST;
    }
    if (guest->asid) {
        set_bit(guest->asid, s->asids_dirty);
    }
    psp_set_entry(guest->context, ENTRY_FIRMWARE);
    g_hash_table_remove(s->guests, &guest->context);
    return PSP_SUCCESS;
}

static uint32_t snp_page_reclaim(AMDPSP *s, void *buf, uint64_t pa)
{
    const SNPDataAddress *data = buf;
    uint64_t operand = le64_to_cpu(data->address) & ~AMD_C_BIT;
    uint64_t page = operand & TARGET_PAGE_MASK;
    bool large = operand & 1;
    uint64_t size = large ? RMP_PAGE_2M : RMP_PAGE_4K;
    RMPEntry *entry = amd_snp_entry(amd_snp, page);

    if ((operand & ~1) % size || !entry ||
        amd_snp_is_rmp(amd_snp, page, size)) {
        return PSP_INVALID_ADDRESS;
    }
    if ((snp_entry_lo(entry) & RMP_ASSIGNED) &&
        snp_entry_is_large(entry) != large) {
        return PSP_INVALID_PAGE_SIZE;
    }
    switch (psp_page_state(page)) {
    case PSP_PAGE_FIRMWARE:
    case PSP_PAGE_PRE_GUEST:
    case PSP_PAGE_RECLAIM:
        if (!psp_in_use(s, page, size)) {
            break;
        }
        /* fall through */
    default:
        return PSP_INVALID_PAGE_STATE;
    }
    psp_set_entries(page, size, ENTRY_RECLAIM | (large ? RMP_PAGE_SIZE_2M : 0));
    return PSP_SUCCESS;
}

/* SNP Firmware ABI (56860): command buffer of SNP_CONFIG */
typedef struct QEMU_PACKED SNPDataConfig {
    uint64_t reported_tcb;
    uint32_t flags;
    uint8_t reserved[52];
} SNPDataConfig;
QEMU_BUILD_BUG_ON(sizeof(SNPDataConfig) != 64);

#define CONFIG_MASK_CHIP_ID     (1U << 0)
#define CONFIG_MASK_CHIP_KEY    (1U << 1)

bool psp_tcb_is_reached(uint64_t tcb)
{
    int i;

    for (i = 0; i < 64; i += 8) {
        if (extract64(tcb, i, 8) > extract64(PSP_CURRENT_TCB, i, 8)) {
            return false;
        }
    }
    return true;
}

static uint32_t snp_config(AMDPSP *s, void *buf, uint64_t pa)
{
    const SNPDataConfig *data = buf;
    uint64_t tcb = le64_to_cpu(data->reported_tcb);
    uint32_t flags = le32_to_cpu(data->flags);

    if ((flags & ~(CONFIG_MASK_CHIP_ID | CONFIG_MASK_CHIP_KEY)) ||
        !buffer_is_zero(data->reserved, sizeof(data->reserved)) ||
        !psp_tcb_is_reached(tcb)) {
        return PSP_INVALID_PARAM;
    }
    s->reported_tcb = tcb ?: PSP_CURRENT_TCB;
    s->mask_chip_id = flags & CONFIG_MASK_CHIP_ID;
    s->mask_chip_key = flags & CONFIG_MASK_CHIP_KEY;
    return PSP_SUCCESS;
}

/* SNP Firmware ABI (56860): command buffer of SNP_COMMIT */
typedef struct QEMU_PACKED SNPDataCommit {
    uint32_t length;
} SNPDataCommit;
QEMU_BUILD_BUG_ON(sizeof(SNPDataCommit) != 4);

static uint32_t snp_commit(AMDPSP *s, void *buf, uint64_t pa)
{
    const SNPDataCommit *data = buf;

    /* There has been no firmware before this one */
    return le32_to_cpu(data->length) == sizeof(*data) ? PSP_SUCCESS :
                                                        PSP_INVALID_LEN;
}

/* SNP Firmware ABI (56860): command buffer of SNP_VLEK_LOAD */
typedef struct QEMU_PACKED SNPDataVLEKLoad {
    uint32_t length;
    uint8_t version;
    uint8_t reserved[3];
    uint64_t wrapped_address;
} SNPDataVLEKLoad;
QEMU_BUILD_BUG_ON(sizeof(SNPDataVLEKLoad) != 16);

#define VLEK_WRAPPED_SIZE       432

static uint32_t snp_vlek_load(AMDPSP *s, void *buf, uint64_t pa)
{
    const SNPDataVLEKLoad *data = buf;

    if (le32_to_cpu(data->length) != sizeof(*data)) {
        return PSP_INVALID_LEN;
    }
    if (data->version ||
        !buffer_is_zero(data->reserved, sizeof(data->reserved))) {
        return PSP_INVALID_PARAM;
    }
    if (!psp_is_ram(le64_to_cpu(data->wrapped_address), VLEK_WRAPPED_SIZE,
                    false)) {
        return PSP_INVALID_ADDRESS;
    }
    s->vlek = true;
    return PSP_SUCCESS;
}

#define SNP(id)         [(id) - PSP_SNP_COMMANDS]
#define BOTH_UNINIT     (PSP_NEEDS_SNP_UNINIT | PSP_NEEDS_LEGACY_UNINIT)
#define ONLY_SNP        (PSP_NEEDS_SNP_INIT | PSP_NEEDS_LEGACY_UNINIT)

const PSPCommand psp_snp_commands[PSP_COMMANDS - PSP_SNP_COMMANDS] = {
    SNP(0x81) = { "SNP_INIT", snp_init, 0, BOTH_UNINIT },
    SNP(0x82) = { "SNP_SHUTDOWN", snp_shutdown, 0, ONLY_SNP },
    SNP(0x83) = { "SNP_PLATFORM_STATUS", snp_platform_status,
                  sizeof(SNPDataAddress) },
    SNP(0x84) = { "SNP_DF_FLUSH", psp_df_flush, 0, PSP_NEEDS_SNP_INIT },
    SNP(0x85) = { "SNP_INIT_EX", snp_init_ex, sizeof(SNPDataInitEx),
                  BOTH_UNINIT },
    SNP(0x86) = { "SNP_SHUTDOWN_EX", snp_shutdown_ex,
                  sizeof(SNPDataShutdownEx), ONLY_SNP },
    SNP(0x90) = { "SNP_DECOMMISSION", snp_decommission,
                  sizeof(SNPDataAddress), PSP_NEEDS_SNP_INIT },
    SNP(0x91) = { "SNP_ACTIVATE", snp_activate, sizeof(SNPDataActivate),
                  PSP_NEEDS_SNP_INIT },
    SNP(0x92) = { "SNP_GUEST_STATUS", snp_guest_status,
                  sizeof(SNPDataGuestStatus), PSP_NEEDS_SNP_INIT },
    SNP(0x93) = { "SNP_GCTX_CREATE", snp_gctx_create, sizeof(SNPDataAddress),
                  PSP_NEEDS_SNP_INIT },
    SNP(0x94) = { "SNP_GUEST_REQUEST", snp_guest_request,
                  PSP_GUEST_REQUEST_SIZE, PSP_NEEDS_SNP_INIT },
    SNP(0xa0) = { "SNP_LAUNCH_START", snp_launch_start,
                  sizeof(SNPDataLaunchStart), PSP_NEEDS_SNP_INIT },
    SNP(0xa1) = { "SNP_LAUNCH_UPDATE", snp_launch_update,
                  sizeof(SNPDataLaunchUpdate), PSP_NEEDS_SNP_INIT },
    SNP(0xa2) = { "SNP_LAUNCH_FINISH", snp_launch_finish,
                  sizeof(SNPDataLaunchFinish), PSP_NEEDS_SNP_INIT },
    SNP(0xc7) = { "SNP_PAGE_RECLAIM", snp_page_reclaim,
                  sizeof(SNPDataAddress), PSP_NEEDS_SNP_INIT },
    SNP(0xc9) = { "SNP_CONFIG", snp_config, sizeof(SNPDataConfig),
                  PSP_NEEDS_SNP_INIT },
    SNP(0xcb) = { "SNP_COMMIT", snp_commit, sizeof(SNPDataCommit) },
    SNP(0xcd) = { "SNP_VLEK_LOAD", snp_vlek_load, sizeof(SNPDataVLEKLoad),
                  PSP_NEEDS_SNP_INIT },
    SNP(0xce) = { "SNP_FEATURE_INFO", snp_feature_info,
                  sizeof(SNPDataFeatureInfo) },
};
