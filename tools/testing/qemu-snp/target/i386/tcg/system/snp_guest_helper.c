/*
 * AMD SEV-SNP guests: what the RMP allows them, PVALIDATE and RMPADJUST
 *
 * From the AMD64 Architecture Programmer's Manual, Volume 2 (24593), section
 * "Secure Nested Paging (SEV-SNP)", and Volume 3 (24594). What that leaves
 * open is marked as an assumption.
 *
 * The TLB of a vCPU that runs an SNP guest stands for checks that have been
 * made. VMRUN and #VMEXIT flush it, and so does snp_flush_guest().
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "exec/cputlb.h"
#include "exec/helper-proto.h"
#include "hw/i386/amd_snp.h"
#include "tcg/helper-tcg.h"
#include "trace/trace-target_i386.h"

/* RMPADJUST, RDX */
#define RMPADJUST_VMPL_SHIFT    0
#define RMPADJUST_PERMS_SHIFT   8
#define RMPADJUST_VMSA          (1ULL << 16)

/* An RMP entry as it was at one moment */
typedef struct GuestEntry {
    uint64_t lo;
    /* Of a 2 MB page the first entry has what guests change. */
    RMPEntry *first;
    uint64_t first_lo;
    unsigned perms;
} GuestEntry;

/*
 * Looks the page up, and whether it is the guest's. Other vCPUs may change the
 * entry meanwhile: what is found then is no page of the guest.
 */
static bool get_guest_entry(CPUX86State *env, hwaddr pa, GuestEntry *out)
{
    const uint64_t mask = RMP_ASSIGNED | RMP_IMMUTABLE | RMP_ASID_MASK;
    uint64_t owned = RMP_ASSIGNED | (uint64_t)env->snp_asid << RMP_ASID_SHIFT;
    RMPEntry *entry;

    entry = amd_snp_entry(amd_snp, pa);
    if (!entry || amd_snp_is_rmp(amd_snp, pa, 1)) {
        return false;
    }
    out->lo = snp_entry_lo(entry);
    if (out->lo & RMP_PAGE_SIZE_2M) {
        entry = amd_snp_entry(amd_snp, QEMU_ALIGN_DOWN(pa, RMP_PAGE_2M));
    }
    out->first = entry;
    out->perms = snp_entry_perms(entry, env->snp_vmpl);
    out->first_lo = snp_entry_lo(entry);
    return (out->lo & mask) == owned && (out->first_lo & mask) == owned;
}

/* The same, at this guest physical address */
static bool get_guest_page(CPUX86State *env, const SnpGuestPage *page,
                           GuestEntry *out)
{
    return get_guest_entry(env, page->pa, out) &&
           (out->lo & RMP_GPA_MASK) == page->gpa;
}

static bool is_large(const GuestEntry *entry)
{
    return entry->lo & RMP_PAGE_SIZE_2M;
}

/* In the order of APM volume 2, table of RMP checks of a guest's accesses */
uint64_t x86_cpu_snp_guest_check(CPUX86State *env, const SnpGuestPage *page,
                                 unsigned needed, unsigned *perms)
{
    SnpCpuStats *stats = &env_archcpu(env)->snp->stats;
    uint64_t info = 0;
    GuestEntry entry;

    snp_count(&stats->guest_checked, 1);
    if (!get_guest_page(env, page, &entry)) {
        info = PG_ERROR_RMP_MASK;
    } else if (is_large(&entry) != (page->mapping >= RMP_PAGE_2M)) {
        info = PG_ERROR_RMP_MASK | SVM_NPTEXIT_SIZEM;
    } else if (!(entry.first_lo & RMP_VALIDATED)) {
        snp_count(&stats->guest_not_validated, 1);
        return SNP_NOT_VALIDATED;
    } else if (needed & ~entry.perms) {
        info = PG_ERROR_RMP_MASK | SVM_NPTEXIT_VMPL;
    } else {
        *perms = entry.perms;
    }
    snp_count(&stats->guest_faults, !!info);
    return info;
}

bool x86_cpu_snp_guest_has_page(CPUX86State *env, hwaddr pa, bool write)
{
    GuestEntry entry;

    return env->snp_asid && get_guest_entry(env, pa, &entry) &&
           (entry.first_lo & RMP_VALIDATED) &&
           (!write || (entry.perms & RMP_PERM_WRITE));
}

bool snp_vmsa_in_use(hwaddr pa, uint64_t size)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        CPUX86State *env = cpu_env(cs);

        if (qatomic_load_acquire(&env->snp_asid) &&
            qatomic_read(&env->snp_vmsa) - pa < size) {
            return true;
        }
    }
    return false;
}

uint64_t x86_cpu_snp_take_vmsa(CPUX86State *env, hwaddr pa, uint32_t asid,
                               unsigned vmpl)
{
    const uint64_t mask = RMP_ASSIGNED | RMP_IMMUTABLE | RMP_PAGE_SIZE_2M |
                          RMP_VMSA | RMP_ASID_MASK;
    const uint64_t vmsa = RMP_ASSIGNED | RMP_VMSA |
                          (uint64_t)asid << RMP_ASID_SHIFT;
    AMDSNPHost *s = amd_snp;
    uint64_t exit_code = 0;
    RMPEntry *entry;

    if (!(env->msr_syscfg & MSR_AMD64_SYSCFG_SNP_EN) || vmpl >= RMP_VMPLS ||
        amd_snp_is_rmp(s, pa, 1)) {
        return SVM_EXIT_ERR;
    }
    entry = amd_snp_entry(s, pa);
    if (!entry) {
        return SVM_EXIT_ERR;
    }
    qemu_spin_lock(&s->lock);
    if ((snp_entry_lo(entry) & mask) != vmsa) {
        exit_code = SVM_EXIT_ERR;
    } else if (snp_vmsa_in_use(pa, RMP_PAGE_4K)) {
        exit_code = SVM_EXIT_BUSY;
    } else {
        env->snp_vmpl = vmpl;
        qatomic_set(&env->snp_vmsa, pa);
        qatomic_set(&env->snp_asid, asid);
    }
    qemu_spin_unlock(&s->lock);
    /* Pairs with snp_flush_guest(): the TLB gets what is looked up later. */
    smp_mb();
    return exit_code;
}

void x86_cpu_snp_release_vmsa(CPUX86State *env)
{
    /* What #VMEXIT has written to the VMSA comes before. */
    qatomic_store_release(&env->snp_asid, 0);
}

static void check_snp_guest(CPUX86State *env, uintptr_t ra)
{
    if (!(env->sev_status & MSR_AMD64_SEV_STATUS_SNP)) {
        raise_exception_ra(env, EXCP06_ILLOP, ra);
    }
    if (env->hflags & HF_CPL_MASK) {
        raise_exception_err_ra(env, EXCP0D_GPF, 0, ra);
    }
}

/* A fault of the operand, as in x86_cpu_snp_guest_check(). The lock is held. */
static uint64_t check_operand(CPUX86State *env, const SnpGuestPage *page,
                              bool large, GuestEntry *entry)
{
    if (!get_guest_page(env, page, entry)) {
        return PG_ERROR_RMP_MASK;
    }
    if (is_large(entry) && !large) {
        return PG_ERROR_RMP_MASK | SVM_NPTEXIT_SIZEM;
    }
    return 0;
}

static bool size_matches(const SnpGuestPage *page, bool large,
                         const GuestEntry *entry)
{
    return !large || (is_large(entry) && page->pa % RMP_PAGE_2M == 0);
}

/*
 * Of ECX and EDX only bit 0 counts, as guests leave garbage above it: Linux
 * passes values of type bool.
 */
void helper_pvalidate(CPUX86State *env)
{
    vaddr addr = env->regs[R_EAX];
    bool large = env->regs[R_ECX] & 1;
    bool validate = env->regs[R_EDX] & 1;
    uint64_t info = 0;
    uint32_t result = RMP_SUCCESS;
    bool unchanged = false;
    SnpGuestPage page;
    GuestEntry entry;

    check_snp_guest(env, GETPC());
    snp_count(&env_archcpu(env)->snp->stats.pvalidate, 1);
    if (large && addr % RMP_PAGE_2M) {
        result = RMP_FAIL_INPUT;
        goto done;
    }
    if (env->snp_vmpl) {
        result = RMP_FAIL_PERMISSION;
        goto done;
    }
    x86_cpu_snp_guest_page(env, addr, &page, GETPC());

    qemu_spin_lock(&amd_snp->lock);
    info = check_operand(env, &page, large, &entry);
    if (!info && !size_matches(&page, large, &entry)) {
        result = RMP_FAIL_SIZEMISMATCH;
    } else if (!info) {
        uint64_t lo = entry.first_lo;

        unchanged = !!(lo & RMP_VALIDATED) == validate;
        lo = validate ? lo | RMP_VALIDATED : lo & ~RMP_VALIDATED;
        qatomic_set(&entry.first->lo, cpu_to_le64(lo));
    }
    qemu_spin_unlock(&amd_snp->lock);
    if (info) {
        x86_cpu_snp_guest_fault(env, addr, &page, info, GETPC());
    }
    if (!validate && !unchanged && result == RMP_SUCCESS) {
        snp_flush_guest(env, env->snp_asid, page.pa, large);
    }
    amd_snp_journal(SNP_JOURNAL_PVALIDATE, env_cpu(env)->cpu_index, -1,
                    page.pa, env->regs[R_EDX], result);
done:
    trace_amd_snp_pvalidate(env_cpu(env)->cpu_index, addr, large, validate,
                            result, unchanged);
    x86_cpu_snp_set_result(env, result);
    x86_cpu_snp_set_carry(env, unchanged);
}

/* What the instruction does to the page. The lock is held. */
static uint32_t rmpadjust(CPUX86State *env, const SnpGuestPage *page,
                          const GuestEntry *entry, uint64_t operand,
                          bool *takes)
{
    unsigned vmpl = extract64(operand, RMPADJUST_VMPL_SHIFT, 8);
    unsigned perms = extract64(operand, RMPADJUST_PERMS_SHIFT, 8) &
                     RMP_PERM_ALL;
    uint64_t lo = entry->first_lo;
    bool vmsa = operand & RMPADJUST_VMSA;

    if (perms & ~entry->perms) {
        return RMP_FAIL_PERMISSION;
    }
    if (!env->snp_vmpl && vmsa != !!(lo & RMP_VMSA)) {
        if (snp_vmsa_in_use(page->pa, RMP_PAGE_4K)) {
            return RMP_FAIL_INUSE;
        }
        lo = vmsa ? lo | RMP_VMSA : lo & ~RMP_VMSA;
        qatomic_set(&entry->first->lo, cpu_to_le64(lo));
    }
    *takes = snp_entry_perms(entry->first, vmpl) & ~perms;
    snp_entry_set_perms(entry->first, vmpl, perms);
    return RMP_SUCCESS;
}

void helper_rmpadjust(CPUX86State *env)
{
    vaddr addr = env->regs[R_EAX];
    bool large = env->regs[R_ECX] & 1;
    uint64_t operand = env->regs[R_EDX];
    unsigned vmpl = extract64(operand, RMPADJUST_VMPL_SHIFT, 8);
    uint64_t info;
    uint32_t result = RMP_SUCCESS;
    bool takes = false;
    SnpGuestPage page;
    GuestEntry entry;

    check_snp_guest(env, GETPC());
    snp_count(&env_archcpu(env)->snp->stats.rmpadjust, 1);
    if (vmpl >= RMP_VMPLS ||
        (large && (addr % RMP_PAGE_2M || (operand & RMPADJUST_VMSA)))) {
        result = RMP_FAIL_INPUT;
        goto done;
    }
    if (vmpl <= env->snp_vmpl ||
        (env->snp_vmpl && (operand & RMPADJUST_VMSA))) {
        result = RMP_FAIL_PERMISSION;
        goto done;
    }
    x86_cpu_snp_guest_page(env, addr, &page, GETPC());

    qemu_spin_lock(&amd_snp->lock);
    info = check_operand(env, &page, large, &entry);
    if (!info && !size_matches(&page, large, &entry)) {
        result = RMP_FAIL_SIZEMISMATCH;
    } else if (!info && !(entry.first_lo & RMP_VALIDATED)) {
        info = SNP_NOT_VALIDATED;
    } else if (!info) {
        result = rmpadjust(env, &page, &entry, operand, &takes);
    }
    qemu_spin_unlock(&amd_snp->lock);
    if (info) {
        x86_cpu_snp_guest_fault(env, addr, &page, info, GETPC());
    }
    if (takes) {
        snp_flush_guest(env, env->snp_asid, page.pa, large);
    }
    amd_snp_journal(SNP_JOURNAL_RMPADJUST, env_cpu(env)->cpu_index, -1,
                    page.pa, operand, result);
done:
    trace_amd_snp_rmpadjust(env_cpu(env)->cpu_index, addr, large, operand,
                            result);
    x86_cpu_snp_set_result(env, result);
}
