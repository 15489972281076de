/*
 * AMD Platform Security Processor (PSP): the commands of SEV-SNP
 *
 * From the "SEV Secure Nested Paging Firmware ABI Specification". What that
 * leaves open is marked as an assumption here and in the README. Nothing is
 * encrypted, and no signature is made or verified.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
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
/* CXL, AES-256-XTS, RAPL and ciphertext hiding: there is none of these */
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

static bool snp_entry_is_large(const uint64_t *entry)
{
    return snp_entry_lo(entry) & RMP_PAGE_SIZE_2M;
}

/* What the firmware borrows for a status: a page, back in state Reclaim */
static uint32_t snp_write_status(AMDPSP *s, uint64_t pa, const uint8_t *status,
                                 unsigned size)
{
    uint64_t *entry = amd_snp_entry(amd_snp, pa & ~AMD_C_BIT);
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

static uint32_t snp_platform_status(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    uint8_t status[32] = { 0 };

    status[0] = s->api_major;
    status[1] = s->api_minor;
    status[2] = s->snp;
    status[3] = s->rmp_initialized;
    stl_le_p(status + 4, s->build);
    stl_le_p(status + 8, s->mask_chip_id | s->mask_chip_key << 1 |
             s->vlek << 2 | 1 << 3 /* SNP_FEATURE_INFO is there */);
    stl_le_p(status + 12, g_hash_table_size(s->guests));
    stq_le_p(status + 16, PSP_CURRENT_TCB);
    stq_le_p(status + 24, s->reported_tcb);
    return snp_write_status(s, ldq_le_p(buf), status, sizeof(status));
}

static uint32_t snp_feature_info(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    uint8_t info[16] = { 0 };

    if (ldl_le_p(buf) != 16) {
        return PSP_INVALID_LEN;
    }
    if (ldl_le_p(buf + 4)) {
        return PSP_INVALID_PARAM;
    }
    stl_le_p(info + 8, s->x86_shutdown ? FEATURE_ECX_X86_SHUTDOWN : 0);
    return snp_write_status(s, ldq_le_p(buf + 8), info, sizeof(info));
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

static uint32_t snp_init_common(AMDPSP *s, uint32_t flags, uint64_t list)
{
    g_autofree uint8_t *ranges = g_malloc0(RMP_PAGE_4K);
    unsigned i, n = 0;
    CPUState *cs;

    if (flags & INIT_LIST) {
        if (list % 8 || (list & ~TARGET_PAGE_MASK) > RMP_PAGE_4K - 8 ||
            !psp_read(list, ranges, 8)) {
            return PSP_INVALID_ADDRESS;
        }
        n = ldl_le_p(ranges);
        if (n > RANGE_LIST_MAX || ldl_le_p(ranges + 4)) {
            return PSP_INVALID_PARAM;
        }
        if ((list & ~TARGET_PAGE_MASK) + 8 + n * 16 > RMP_PAGE_4K ||
            !psp_read(list, ranges, 8 + n * 16)) {
            return PSP_INVALID_ADDRESS;
        }
    }
    for (i = 0; i < n; i++) {
        if (ldl_le_p(ranges + 8 + i * 16 + 12)) {
            return PSP_INVALID_PARAM;
        }
        if (ldq_le_p(ranges + 8 + i * 16) % RMP_PAGE_4K) {
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
        uint32_t pages = ldl_le_p(ranges + 8 + i * 16 + 8);

        snp_convert_range(ldq_le_p(ranges + 8 + i * 16),
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

static uint32_t snp_init(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    return snp_init_common(s, INIT_RMP, 0);
}

static uint32_t snp_init_ex(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    uint32_t flags = ldl_le_p(buf);

    /* Nothing that the other flags ask for is there */
    if ((flags & ~(INIT_RMP | INIT_LIST)) ||
        !buffer_is_zero(buf + 4, 4) || !buffer_is_zero(buf + 16, 48)) {
        return PSP_INVALID_PARAM;
    }
    return snp_init_common(s, flags, ldq_le_p(buf + 8));
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

static uint32_t snp_shutdown(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    return snp_shutdown_common(s, 0);
}

static uint32_t snp_shutdown_ex(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    uint32_t flags = ldl_le_p(buf + 4);

    if (ldl_le_p(buf) != 8) {
        return PSP_INVALID_LEN;
    }
    if ((flags & ~(SHUTDOWN_IOMMU | SHUTDOWN_X86)) ||
        ((flags & SHUTDOWN_X86) && !s->x86_shutdown)) {
        return PSP_INVALID_PARAM;
    }
    return snp_shutdown_common(s, flags);
}

static uint32_t snp_df_flush(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    bitmap_zero(s->asids_dirty, PSP_ASIDS);
    return PSP_SUCCESS;
}

static PSPGuest *snp_find_guest(AMDPSP *s, uint64_t context)
{
    context &= ~AMD_C_BIT;
    return g_hash_table_lookup(s->guests, &context);
}

static uint32_t snp_gctx_create(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    uint64_t context = ldq_le_p(buf) & ~AMD_C_BIT;
    uint64_t *entry = amd_snp_entry(amd_snp, context);
    PSPGuest *guest;

    if (context % RMP_PAGE_4K || !entry) {
        return PSP_INVALID_ADDRESS;
    }
    if (snp_entry_is_large(entry)) {
        return PSP_INVALID_PAGE_SIZE;
    }
    /* Somebody may have written to the RMP behind the firmware's back */
    if (psp_page_state(context) != PSP_PAGE_FIRMWARE ||
        psp_in_use(s, context, RMP_PAGE_4K) || snp_find_guest(s, context)) {
        return PSP_INVALID_PAGE_STATE;
    }
    guest = g_new0(PSPGuest, 1);
    guest->context = context;
    g_hash_table_insert(s->guests, &guest->context, guest);
    psp_set_entry(context, ENTRY_CONTEXT);
    return PSP_SUCCESS;
}

static uint32_t snp_launch_start(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    PSPGuest *guest = snp_find_guest(s, ldq_le_p(buf));
    uint64_t policy = ldq_le_p(buf + 8);
    uint32_t flags = ldl_le_p(buf + 24);

    if ((flags & ~3) || (policy & POLICY_RESERVED)) {
        return PSP_INVALID_PARAM;
    }
    if (!guest) {
        return PSP_INVALID_GUEST;
    }
    if (guest->state != PSP_GUEST_INIT) {
        return PSP_INVALID_GUEST_STATE;
    }
    if (flags) {
        /* Migration agents and incoming migration images */
        return PSP_UNSUPPORTED;
    }
    if (!(policy & POLICY_ONE) || (policy & POLICY_FEATURES) ||
        (policy & POLICY_ABI_MASK) > (s->api_major << 8 | s->api_minor) ||
        (!(policy & POLICY_SMT) &&
         X86_CPU(first_cpu)->env.topo_info.threads_per_core > 1)) {
        return PSP_POLICY_FAILURE;
    }
    guest->policy = policy;
    guest->state = PSP_GUEST_LAUNCH;
    return PSP_SUCCESS;
}

static bool snp_asid_is_used(AMDPSP *s, uint32_t asid)
{
    GHashTableIter iter;
    PSPGuest *guest;

    g_hash_table_iter_init(&iter, s->guests);
    while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&guest)) {
        if (guest->asid == asid) {
            return true;
        }
    }
    return false;
}

static uint32_t snp_activate(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    PSPGuest *guest = snp_find_guest(s, ldq_le_p(buf));
    uint32_t asid = ldl_le_p(buf + 8);
    uint32_t unused, min_sev_asid;

    if (!guest) {
        return PSP_INVALID_GUEST;
    }
    if (guest->state == PSP_GUEST_INIT) {
        return PSP_INVALID_GUEST_STATE;
    }
    cpu_x86_cpuid(&X86_CPU(first_cpu)->env, 0x8000001f, 0, &unused, &unused,
                  &unused, &min_sev_asid);
    if (!asid || asid >= min_sev_asid) {
        return PSP_INVALID_ASID;
    }
    if (guest->asid) {
        return PSP_ACTIVE;
    }
    if (snp_asid_is_used(s, asid)) {
        return PSP_ASID_OWNED;
    }
    if (test_bit(asid, s->asids_dirty)) {
        return PSP_DFFLUSH_REQUIRED;
    }
    guest->asid = asid;
    return PSP_SUCCESS;
}

/* PAGE_INFO, which the launch digest is a chain of */
static void snp_extend_digest(PSPGuest *guest, LaunchPage type, uint64_t gpa,
                              const uint8_t *page, const uint8_t *perms)
{
    uint8_t info[0x70] = { 0 };

    memcpy(info, guest->digest, PSP_DIGEST_SIZE);
    if (type == LAUNCH_NORMAL || type == LAUNCH_VMSA) {
        psp_hash384(page, RMP_PAGE_4K, info + 48);
    }
    stw_le_p(info + 96, sizeof(info));
    info[98] = type;
    info[100] = perms[2];
    info[101] = perms[1];
    info[102] = perms[0];
    stq_le_p(info + 104, gpa);
    psp_hash384(info, sizeof(info), guest->digest);
}

/* Version 3: keys for messages to the firmware, one for each VMPL */
static void snp_make_secrets(PSPGuest *guest, uint8_t *page)
{
    int i;

    memset(page, 0, RMP_PAGE_4K);
    stl_le_p(page, 3);
    for (i = 0; i < 4; i++) {
        g_autofree char *seed = g_strdup_printf(
            "VMPCK%d of 0x%" PRIx64 " ASID %u", i, guest->context, guest->asid);
        uint8_t digest[PSP_DIGEST_SIZE];

        psp_hash384(seed, strlen(seed), digest);
        memcpy(page + 0x20 + i * 32, digest, 32);
    }
}

static uint32_t snp_launch_page(PSPGuest *guest, LaunchPage type, uint64_t pa,
                                const uint8_t *perms)
{
    g_autofree uint8_t *page = g_malloc(RMP_PAGE_4K);
    uint64_t lo = snp_entry_lo(amd_snp_entry(amd_snp, pa));

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
    psp_set_entry(pa, type == LAUNCH_VMSA ? lo | RMP_VMSA : lo);
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

static uint32_t snp_launch_update(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    PSPGuest *guest = snp_find_guest(s, ldq_le_p(buf));
    uint32_t flags = ldl_le_p(buf + 8);
    bool large = flags & 1;
    LaunchPage type = extract32(flags, 1, 3);
    uint64_t page = ldq_le_p(buf + 16) & ~AMD_C_BIT;
    uint64_t size = large ? RMP_PAGE_2M : RMP_PAGE_4K;
    uint64_t *entry = amd_snp_entry(amd_snp, page);
    uint64_t lo, end;
    uint8_t count[4];
    uint32_t ret;

    /* Pages of incoming migration images are not supported either */
    if (type < LAUNCH_NORMAL || type > LAUNCH_CPUID || (flags >> 4) ||
        ldl_le_p(buf + 12) || buf[24] || ldl_le_p(buf + 28)) {
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
        psp_read(page, count, sizeof(count));
        if ((uint32_t)ldl_le_p(count) > CPUID_PAGE_MAX) {
            return PSP_INVALID_PARAM;
        }
    }
    for (end = page + size; page < end; page += RMP_PAGE_4K) {
        snp_launch_page(guest, type, page, buf + 25);
    }
    return PSP_SUCCESS;
}

static uint32_t snp_launch_finish(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    PSPGuest *guest = snp_find_guest(s, ldq_le_p(buf));
    bool id_block_en = buf[24] & 1;
    bool auth_key_en = buf[24] & 2;
    uint8_t id_block[96];
    uint32_t ret;

    /* The third bit says that VCEK is disabled */
    if ((buf[24] & ~7) || !buffer_is_zero(buf + 25, 7) ||
        (auth_key_en && !id_block_en)) {
        return PSP_INVALID_PARAM;
    }
    ret = snp_check_launch(guest);
    if (ret != PSP_SUCCESS) {
        return ret;
    }
    if (id_block_en) {
        if (!psp_read(ldq_le_p(buf + 8), id_block, sizeof(id_block)) ||
            !psp_is_ram(ldq_le_p(buf + 16), RMP_PAGE_4K, false)) {
            return PSP_INVALID_ADDRESS;
        }
        if (memcmp(id_block, guest->digest, PSP_DIGEST_SIZE)) {
            return PSP_BAD_MEASUREMENT;
        }
        if (ldq_le_p(id_block + 88) != guest->policy) {
            return PSP_POLICY_FAILURE;
        }
    }
    memcpy(guest->host_data, buf + 32, PSP_HOST_DATA_SIZE);
    guest->state = PSP_GUEST_RUNNING;
    return PSP_SUCCESS;
}

static uint32_t snp_guest_status(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    PSPGuest *guest = snp_find_guest(s, ldq_le_p(buf));
    uint8_t status[32] = { 0 };

    if (!guest) {
        return PSP_INVALID_GUEST;
    }
    stq_le_p(status, guest->policy);
    stl_le_p(status + 8, guest->asid);
    status[12] = guest->state;
    return snp_write_status(s, ldq_le_p(buf + 8), status, sizeof(status));
}

static uint32_t snp_decommission(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    PSPGuest *guest = snp_find_guest(s, ldq_le_p(buf));

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

static uint32_t snp_page_reclaim(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    uint64_t operand = ldq_le_p(buf) & ~AMD_C_BIT;
    uint64_t page = operand & TARGET_PAGE_MASK;
    bool large = operand & 1;
    uint64_t size = large ? RMP_PAGE_2M : RMP_PAGE_4K;
    uint64_t *entry = amd_snp_entry(amd_snp, page);

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

static uint32_t snp_config(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    uint64_t tcb = ldq_le_p(buf);
    uint32_t flags = ldl_le_p(buf + 8);
    int i;

    if ((flags & ~3) || !buffer_is_zero(buf + 12, 52)) {
        return PSP_INVALID_PARAM;
    }
    for (i = 0; i < 64; i += 8) {
        if (extract64(tcb, i, 8) > extract64(PSP_CURRENT_TCB, i, 8)) {
            return PSP_INVALID_PARAM;
        }
    }
    s->reported_tcb = tcb ?: PSP_CURRENT_TCB;
    s->mask_chip_id = flags & 1;
    s->mask_chip_key = flags & 2;
    return PSP_SUCCESS;
}

static uint32_t snp_commit(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    /* There has been no firmware before this one */
    return ldl_le_p(buf) == 4 ? PSP_SUCCESS : PSP_INVALID_LEN;
}

static uint32_t snp_vlek_load(AMDPSP *s, uint8_t *buf, uint64_t pa)
{
    if (ldl_le_p(buf) != 16) {
        return PSP_INVALID_LEN;
    }
    if (ldl_le_p(buf + 4)) {
        return PSP_INVALID_PARAM;
    }
    if (!psp_is_ram(ldq_le_p(buf + 8), 432, false)) {
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
    SNP(0x83) = { "SNP_PLATFORM_STATUS", snp_platform_status, 8 },
    SNP(0x84) = { "SNP_DF_FLUSH", snp_df_flush, 0, PSP_NEEDS_SNP_INIT },
    SNP(0x85) = { "SNP_INIT_EX", snp_init_ex, 64, BOTH_UNINIT },
    SNP(0x86) = { "SNP_SHUTDOWN_EX", snp_shutdown_ex, 8, ONLY_SNP },
    SNP(0x90) = { "SNP_DECOMMISSION", snp_decommission, 8, PSP_NEEDS_SNP_INIT },
    SNP(0x91) = { "SNP_ACTIVATE", snp_activate, 12, PSP_NEEDS_SNP_INIT },
    SNP(0x92) = { "SNP_GUEST_STATUS", snp_guest_status, 16,
                  PSP_NEEDS_SNP_INIT },
    SNP(0x93) = { "SNP_GCTX_CREATE", snp_gctx_create, 8, PSP_NEEDS_SNP_INIT },
    SNP(0xa0) = { "SNP_LAUNCH_START", snp_launch_start, 48,
                  PSP_NEEDS_SNP_INIT },
    SNP(0xa1) = { "SNP_LAUNCH_UPDATE", snp_launch_update, 32,
                  PSP_NEEDS_SNP_INIT },
    SNP(0xa2) = { "SNP_LAUNCH_FINISH", snp_launch_finish, 64,
                  PSP_NEEDS_SNP_INIT },
    SNP(0xc7) = { "SNP_PAGE_RECLAIM", snp_page_reclaim, 8, PSP_NEEDS_SNP_INIT },
    SNP(0xc9) = { "SNP_CONFIG", snp_config, 64, PSP_NEEDS_SNP_INIT },
    SNP(0xcb) = { "SNP_COMMIT", snp_commit, 4 },
    SNP(0xcd) = { "SNP_VLEK_LOAD", snp_vlek_load, 16, PSP_NEEDS_SNP_INIT },
    SNP(0xce) = { "SNP_FEATURE_INFO", snp_feature_info, 16 },
};
