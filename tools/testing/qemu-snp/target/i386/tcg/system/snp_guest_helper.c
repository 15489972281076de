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

/* Of a 2 MB page the first entry has what guests change. */
static RMPEntry *guest_entry(AMDSNPHost *s, hwaddr pa)
{
    RMPEntry *entry = amd_snp_entry(s, pa);

    if (entry && (snp_entry_lo(entry) & RMP_PAGE_SIZE_2M)) {
        entry = amd_snp_entry(s, QEMU_ALIGN_DOWN(pa, RMP_PAGE_2M));
    }
    return entry;
}

/* Whether the page is the guest's, at this guest physical address */
static bool is_guest_page(CPUX86State *env, const SnpGuestPage *page)
{
    hwaddr pa = page->pa & ~AMD_C_BIT;
    RMPEntry *entry = amd_snp_entry(amd_snp, pa);
    uint64_t lo;

    if (!entry || amd_snp_is_rmp(amd_snp, pa, 1)) {
        return false;
    }
    lo = snp_entry_lo(entry);
    return (lo & RMP_ASSIGNED) && !(lo & RMP_IMMUTABLE) &&
           (lo & RMP_ASID_MASK) >> RMP_ASID_SHIFT == env->snp_asid &&
           (lo & RMP_GPA_MASK) == page->gpa;
}

static bool is_large(hwaddr pa)
{
    return snp_entry_lo(amd_snp_entry(amd_snp, pa & ~AMD_C_BIT)) &
           RMP_PAGE_SIZE_2M;
}

static bool is_validated(hwaddr pa)
{
    return snp_entry_lo(guest_entry(amd_snp, pa & ~AMD_C_BIT)) & RMP_VALIDATED;
}

unsigned x86_cpu_snp_guest_perms(CPUX86State *env, hwaddr pa)
{
    RMPEntry *entry = guest_entry(amd_snp, pa & ~AMD_C_BIT);

    return entry ? snp_entry_perms(entry, env->snp_vmpl) : 0;
}

uint64_t x86_cpu_snp_guest_check(CPUX86State *env, const SnpGuestPage *page,
                                 unsigned perms)
{
    SnpCpuStats *stats = &env_archcpu(env)->snp->stats;
    uint64_t info = 0;

    snp_count(&stats->guest_checked, 1);
    if (!is_guest_page(env, page)) {
        info = PG_ERROR_RMP_MASK;
    } else if (is_large(page->pa) != (page->mapping >= RMP_PAGE_2M)) {
        info = PG_ERROR_RMP_MASK | SVM_NPTEXIT_SIZEM;
    } else if (!is_validated(page->pa)) {
        snp_count(&stats->guest_not_validated, 1);
        return SNP_NOT_VALIDATED;
    } else if (perms & ~x86_cpu_snp_guest_perms(env, page->pa)) {
        info = PG_ERROR_RMP_MASK | SVM_NPTEXIT_VMPL;
    }
    snp_count(&stats->guest_faults, !!info);
    return info;
}

bool x86_cpu_snp_guest_has_page(CPUX86State *env, hwaddr pa, bool write)
{
    RMPEntry *entry = amd_snp_entry(amd_snp, pa);
    uint64_t lo = entry ? snp_entry_lo(entry) : 0;

    return env->snp_asid && (lo & RMP_ASSIGNED) && !(lo & RMP_IMMUTABLE) &&
           (lo & RMP_ASID_MASK) >> RMP_ASID_SHIFT == env->snp_asid &&
           is_validated(pa) &&
           (!write || (x86_cpu_snp_guest_perms(env, pa) & RMP_PERM_WRITE));
}

bool snp_vmsa_in_use(hwaddr pa, uint64_t size)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        CPUX86State *env = cpu_env(cs);

        if (qatomic_read(&env->snp_asid) &&
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
    qatomic_set(&env->snp_asid, 0);
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

/* The page that the instruction works on: of a private mapping */
static void guest_operand(CPUX86State *env, vaddr addr, SnpGuestPage *page,
                          uintptr_t ra)
{
    x86_cpu_snp_guest_page(env, addr, page, ra);
    if (!page->private) {
        env->cr[2] = addr;
        raise_exception_err_ra(env, EXCP0E_PAGE,
                               PG_ERROR_P_MASK | PG_ERROR_RSVD_MASK, ra);
    }
}

/* A fault of the operand, as in x86_cpu_snp_guest_check(). The lock is held. */
static uint64_t check_operand(CPUX86State *env, const SnpGuestPage *page,
                              bool large)
{
    if (!is_guest_page(env, page)) {
        return PG_ERROR_RMP_MASK;
    }
    if (is_large(page->pa) && !large) {
        return PG_ERROR_RMP_MASK | SVM_NPTEXIT_SIZEM;
    }
    return 0;
}

static bool size_matches(const SnpGuestPage *page, bool large)
{
    return !large || (is_large(page->pa) && page->pa % RMP_PAGE_2M == 0);
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
    guest_operand(env, addr, &page, GETPC());

    qemu_spin_lock(&amd_snp->lock);
    info = check_operand(env, &page, large);
    if (!info && !size_matches(&page, large)) {
        result = RMP_FAIL_SIZEMISMATCH;
    } else if (!info) {
        RMPEntry *entry = guest_entry(amd_snp, page.pa & ~AMD_C_BIT);
        uint64_t lo = snp_entry_lo(entry);

        unchanged = !!(lo & RMP_VALIDATED) == validate;
        lo = validate ? lo | RMP_VALIDATED : lo & ~RMP_VALIDATED;
        qatomic_set(&entry->lo, cpu_to_le64(lo));
    }
    qemu_spin_unlock(&amd_snp->lock);
    if (info) {
        x86_cpu_snp_guest_fault(env, addr, &page, info, GETPC());
    }
    if (!validate && !unchanged && result == RMP_SUCCESS) {
        snp_flush_guest(env, env->snp_asid, page.pa & ~AMD_C_BIT, large);
    }
    amd_snp_journal(SNP_JOURNAL_PVALIDATE, env_cpu(env)->cpu_index, -1,
                    page.pa & ~AMD_C_BIT, env->regs[R_EDX], result);
done:
    trace_amd_snp_pvalidate(env_cpu(env)->cpu_index, addr, large, validate,
                            result, unchanged);
    x86_cpu_snp_set_result(env, result);
    x86_cpu_snp_set_carry(env, unchanged);
}

/* What the instruction does to the page. The lock is held. */
static uint32_t rmpadjust(CPUX86State *env, const SnpGuestPage *page,
                          uint64_t operand, bool *takes)
{
    RMPEntry *entry = guest_entry(amd_snp, page->pa & ~AMD_C_BIT);
    unsigned vmpl = extract64(operand, RMPADJUST_VMPL_SHIFT, 8);
    unsigned perms = extract64(operand, RMPADJUST_PERMS_SHIFT, 8) &
                     RMP_PERM_ALL;
    uint64_t lo = snp_entry_lo(entry);
    bool vmsa = operand & RMPADJUST_VMSA;

    if (perms & ~snp_entry_perms(entry, env->snp_vmpl)) {
        return RMP_FAIL_PERMISSION;
    }
    if (!env->snp_vmpl && vmsa != !!(lo & RMP_VMSA)) {
        if (snp_vmsa_in_use(page->pa & ~AMD_C_BIT, RMP_PAGE_4K)) {
            return RMP_FAIL_INUSE;
        }
        lo = vmsa ? lo | RMP_VMSA : lo & ~RMP_VMSA;
        qatomic_set(&entry->lo, cpu_to_le64(lo));
    }
    *takes = snp_entry_perms(entry, vmpl) & ~perms;
    snp_entry_set_perms(entry, vmpl, perms);
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
    guest_operand(env, addr, &page, GETPC());

    qemu_spin_lock(&amd_snp->lock);
    info = check_operand(env, &page, large);
    if (!info && !size_matches(&page, large)) {
        result = RMP_FAIL_SIZEMISMATCH;
    } else if (!info && !is_validated(page.pa)) {
        info = SNP_NOT_VALIDATED;
    } else if (!info) {
        result = rmpadjust(env, &page, operand, &takes);
    }
    qemu_spin_unlock(&amd_snp->lock);
    if (info) {
        x86_cpu_snp_guest_fault(env, addr, &page, info, GETPC());
    }
    if (takes) {
        snp_flush_guest(env, env->snp_asid, page.pa & ~AMD_C_BIT, large);
    }
    amd_snp_journal(SNP_JOURNAL_RMPADJUST, env_cpu(env)->cpu_index, -1,
                    page.pa & ~AMD_C_BIT, operand, result);
done:
    trace_amd_snp_rmpadjust(env_cpu(env)->cpu_index, addr, large, operand,
                            result);
    x86_cpu_snp_set_result(env, result);
}
