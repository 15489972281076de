/*
 * AMD SEV-SNP host: RMP instructions, RMP checks and RMPOPT
 *
 * From the AMD64 Architecture Programmer's Manual, Volumes 2 and 3. What that
 * leaves open is marked as an assumption here, and listed in
 * docs/system/i386/amd-snp-host.rst.
 *
 * How the checks and the soft MMU go together: an entry of the TLB that allows
 * writes stands for one check, or for one that RMPOPT let the CPU skip. What
 * forbids a write later, an RMPUPDATE that assigns a page, first makes that
 * visible in the RMP and in the RMPOPT tables and then has all vCPUs flush
 * their TLBs: no instruction is executed with an older one once it has
 * completed. The frame of an exception or interrupt may still be written, by a
 * vCPU that was about to deliver it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/log.h"
#include "qemu/main-loop.h"
#include "qapi/error.h"
#include "cpu.h"
#include "exec/helper-proto.h"
#include "exec/cputlb.h"
#include "exec/cpu_ldst.h"
#include "exec/exec-all.h"
#include "hw/i386/amd_snp.h"
#include "hw/i386/topology.h"
#include "migration/blocker.h"
#include "tcg/insn-start-words.h"
#include "tcg/helper-tcg.h"
#include "trace/trace-target_i386.h"

#define RMPOPT_VERIFY           0
#define RMPOPT_QUERY            1

/* Operand of RMPUPDATE and result of RMPREAD, the second quadword */
#define RMP_STATE_ASSIGNED_SHIFT        0
#define RMP_STATE_PAGE_SIZE_SHIFT       8
#define RMP_STATE_REGION_STATUS         (1ULL << 9)
#define RMP_STATE_IMMUTABLE_SHIFT       16
#define RMP_STATE_RESERVED              MAKE_64BIT_MASK(24, 8)
#define RMP_STATE_ASID_SHIFT            32

#define SYSCFG_WRITABLE         MAKE_64BIT_MASK(18, 9)
#define SYSCFG_SET_ONLY         (MSR_AMD64_SYSCFG_MEM_ENC | \
                                 MSR_AMD64_SYSCFG_SNP_EN | \
                                 MSR_AMD64_SYSCFG_VMPL_EN)
#define RMP_ADDRESS_MASK        MAKE_64BIT_MASK(13, 39)
#define RMP_CFG_MASK            (RMP_CFG_SEGMENTED | MAKE_64BIT_MASK(8, 6))
#define RMPOPT_BASE_MASK        (RMPOPT_BASE_ENABLE | MAKE_64BIT_MASK(30, 22))

bool x86_cpu_snp_realize(X86CPU *cpu, Error **errp)
{
    static Error *blocker;
    CPUX86State *env = &cpu->env;

    if (!(env->features[FEAT_8000_001F_EAX] & CPUID_8000_001F_EAX_SNP)) {
        return true;
    }
    if (!(env->features[FEAT_8000_001F_EAX] & CPUID_8000_001F_EAX_SEV_ES) ||
        !(env->features[FEAT_8000_001F_EAX] & CPUID_8000_001F_EAX_SEV)) {
        error_setg(errp, "sev-snp needs sev and sev-es: leave them on, or add "
                   "-sev-snp");
        return false;
    }
    if (!blocker) {
        error_setg(&blocker, "a CPU with sev-snp cannot be migrated or saved");
        if (migrate_add_blocker(&blocker, errp) < 0) {
            return false;
        }
    }
    cpu->snp = g_new0(SnpCpu, 1);
    cpu->snp->core =
        amd_snp_get_core(cpu->apic_id >> apicid_core_offset(&env->topo_info));
    return true;
}

/* What firmware leaves behind: memory encryption on, SMM locked, an RMP */
void x86_cpu_snp_reset(X86CPU *cpu)
{
    CPUX86State *env = &cpu->env;

    if (!cpu->snp) {
        return;
    }
    cpu->snp->held = false;
    env->msr_syscfg = MSR_AMD64_SYSCFG_MEM_ENC;
    env->msr_hwcr = MSR_K7_HWCR_SMMLOCK | MSR_K7_HWCR_TSC_FREQ_SEL;
    env->msr_rmp_base = amd_snp ? amd_snp->rmp_base : 0;
    env->msr_rmp_end = amd_snp ? amd_snp->rmp_end : 0;
    env->msr_rmp_cfg = amd_snp ? amd_snp->rmp_cfg : 0;
}

static bool snp_enabled(CPUX86State *env)
{
    return env->msr_syscfg & MSR_AMD64_SYSCFG_SNP_EN;
}

static bool has_segmented_rmp(CPUX86State *env)
{
    return env->features[FEAT_8000_001F_EAX] &
           CPUID_8000_001F_EAX_SEGMENTED_RMP;
}

static bool has_rmpopt(CPUX86State *env)
{
    return env->features[FEAT_8000_0025_EDX] & CPUID_8000_0025_EDX_RMPOPT;
}

static bool snp_write_syscfg(CPUX86State *env, uint64_t val)
{
    uint64_t old = env->msr_syscfg;

    if (val & ~SYSCFG_WRITABLE) {
        return false;
    }
    /* Only a reset, or the PSP, clears these */
    val |= old & SYSCFG_SET_ONLY;
    if (val & ~old & MSR_AMD64_SYSCFG_SNP_EN) {
        if (!(val & MSR_AMD64_SYSCFG_MEM_ENC)) {
            return false;
        }
        if (!amd_snp || env->msr_rmp_base != amd_snp->rmp_base ||
            env->msr_rmp_end != amd_snp->rmp_end ||
            env->msr_rmp_cfg != amd_snp->rmp_cfg) {
            qemu_log_mask(LOG_UNIMP, "SNP_EN set, but the RMP is not where "
                          "-device " TYPE_AMD_SNP_HOST " has put it\n");
            return false;
        }
        qatomic_set(&amd_snp->enabled, true);
        amd_snp_journal(SNP_JOURNAL_SNP_EN, env_cpu(env)->cpu_index, -1, 0, 1,
                        0);
        /* Nothing in the TLB has been checked so far */
        tlb_flush(env_cpu(env));
    }
    env->msr_syscfg = val;
    return true;
}

static void snp_violation(CPUX86State *env, SnpViolation kind, uint64_t pa)
{
    amd_snp_violation(kind, env_cpu(env)->cpu_index, env->eip, pa);
    if (kind >= SNP_VIOLATION_RULE) {
        snp_count(&env_archcpu(env)->snp->stats.violations_rule, 1);
    }
}

/* A table that has been kept while it was disabled may be wrong */
static void audit_table(CPUX86State *env, SnpCore *core)
{
    unsigned i;

    for (i = 0; i < RMPOPT_REGIONS; i++) {
        hwaddr pa = 0;
        bool hole = false;

        qemu_spin_lock(&amd_snp->lock);
        if ((core->base & RMPOPT_BASE_ENABLE) && test_bit(i, core->table)) {
            pa = QEMU_ALIGN_DOWN(core->base, RMPOPT_REGION_SIZE) +
                 i * RMPOPT_REGION_SIZE;
            hole = amd_snp_is_rmp(amd_snp, pa, RMPOPT_REGION_SIZE) ||
                   amd_snp_region_assigned(amd_snp, pa / RMPOPT_REGION_SIZE);
        }
        qemu_spin_unlock(&amd_snp->lock);
        if (hole) {
            snp_violation(env, SNP_VIOLATION_TABLE, pa);
        }
    }
}

/* Software must not change a base that is in use */
static bool rmpopt_base_refused(CPUX86State *env, uint64_t old, uint64_t val)
{
    return (old & RMPOPT_BASE_ENABLE) && snp_enabled(env) && val != old &&
           amd_snp->rmpopt_base_locked != RMPOPT_BASE_LOCKED_OFF;
}

static bool snp_write_rmpopt_base(CPUX86State *env, uint64_t val)
{
    X86CPU *cpu = env_archcpu(env);
    SnpCore *core = cpu->snp->core;
    AmdSnpJournalKind what = SNP_JOURNAL_BASE;
    bool refused, ignored;
    uint64_t old;

    if (!has_rmpopt(env) || (val & ~RMPOPT_BASE_MASK)) {
        return false;
    }
    if (!amd_snp) {
        if (val & RMPOPT_BASE_ENABLE) {
            return false;
        }
        /* Not enabled, so nothing looks at it */
        core->base = val;
        return true;
    }
    ignored = amd_snp->rmpopt_base_locked == RMPOPT_BASE_LOCKED_IGNORE;

    qemu_spin_lock(&amd_snp->lock);
    old = core->base;
    if ((val & RMPOPT_BASE_ENABLE) &&
        !(snp_enabled(env) && (env->msr_rmp_cfg & RMP_CFG_SEGMENTED))) {
        qemu_spin_unlock(&amd_snp->lock);
        return false;
    }
    refused = rmpopt_base_refused(env, old, val);
    if (refused) {
        what = ignored ? SNP_JOURNAL_BASE_IGNORED :
                         SNP_JOURNAL_BASE_GP;
    } else {
        amd_snp_set_base(amd_snp, core, val);
    }
    amd_snp_journal(what, CPU(cpu)->cpu_index, core->id, old, val, 0);
    qemu_spin_unlock(&amd_snp->lock);

    if (refused) {
        snp_count(&cpu->snp->stats.rmpopt_base_refused, 1);
        snp_violation(env, SNP_VIOLATION_BASE, val);
    } else if (!(old & RMPOPT_BASE_ENABLE) && qatomic_read(&amd_snp->audit)) {
        audit_table(env, core);
    }
    return !refused || ignored;
}

bool helper_snp_wrmsr(CPUX86State *env, uint32_t msr, uint64_t val)
{
    uint64_t *reg, mask;

    if (!env_archcpu(env)->snp) {
        /* As for any MSR that TCG does not know */
        return true;
    }
    switch (msr) {
    case MSR_AMD64_SYSCFG:
        return snp_write_syscfg(env, val);
    case MSR_K7_HWCR:
        env->msr_hwcr = val | (env->msr_hwcr & MSR_K7_HWCR_SMMLOCK);
        return true;
    case MSR_AMD64_RMPOPT_BASE:
        return snp_write_rmpopt_base(env, val);
    case MSR_AMD64_RMP_BASE:
        reg = &env->msr_rmp_base;
        mask = RMP_ADDRESS_MASK;
        break;
    case MSR_AMD64_RMP_END:
        reg = &env->msr_rmp_end;
        mask = RMP_ADDRESS_MASK | MAKE_64BIT_MASK(0, 13);
        break;
    case MSR_AMD64_RMP_CFG:
        reg = &env->msr_rmp_cfg;
        mask = has_segmented_rmp(env) ? RMP_CFG_MASK : 0;
        break;
    case MSR_AMD64_SEV_ES_GHCB:
        if (!(env->sev_status & MSR_AMD64_SEV_STATUS_SEV_ES)) {
            return false;
        }
        env->sev_es_ghcb = val;
        return true;
    default:
        /* SEV_STATUS is read-only */
        return false;
    }
    if (!mask || (val & ~mask) || snp_enabled(env)) {
        return false;
    }
    *reg = val;
    return true;
}

bool helper_snp_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *val)
{
    SnpCpu *snp = env_archcpu(env)->snp;

    *val = 0;
    if (!snp) {
        return true;
    }
    switch (msr) {
    case MSR_AMD64_SYSCFG:
        *val = env->msr_syscfg;
        return true;
    case MSR_K7_HWCR:
        *val = env->msr_hwcr;
        return true;
    case MSR_AMD64_RMP_BASE:
        *val = env->msr_rmp_base;
        return true;
    case MSR_AMD64_RMP_END:
        *val = env->msr_rmp_end;
        return true;
    case MSR_AMD64_RMP_CFG:
        *val = env->msr_rmp_cfg;
        return has_segmented_rmp(env);
    case MSR_AMD64_RMPOPT_BASE:
        *val = qatomic_read(&snp->core->base);
        return has_rmpopt(env);
    case MSR_AMD64_SEV_ES_GHCB:
        *val = env->sev_es_ghcb;
        return env->sev_status & MSR_AMD64_SEV_STATUS_SEV_ES;
    default:
        *val = env->sev_status;
        return true;
    }
}

/* RIP of the instruction that is at @ra */
static uint64_t current_rip(CPUX86State *env, uintptr_t ra)
{
    uint64_t data[TARGET_INSN_START_WORDS];
    CPUState *cs = env_cpu(env);

    if (!cpu_unwind_state_data(cs, ra, data)) {
        return env->eip;
    }
    /* Per x86_restore_state_to_opc() */
    if (tcg_cflags_has(cs, CF_PCREL)) {
        return (env->eip & TARGET_PAGE_MASK) | data[0];
    }
    return data[0] - env->segs[R_CS].base;
}

/* Whether an RMPOPT bit of the vCPU's core says that @pa needs no check */
static bool snp_optimized(SnpCore *core, hwaddr pa)
{
    unsigned seq;
    bool set;

    do {
        uint64_t base, index;

        seq = seqlock_read_begin(&core->seq);
        base = qatomic_read(&core->base);
        index = snp_table_index(base, pa);
        set = (base & RMPOPT_BASE_ENABLE) && index < RMPOPT_REGIONS &&
              (qatomic_read(&core->table[BIT_WORD(index)]) & BIT_MASK(index));
    } while (seqlock_read_retry(&core->seq, seq));
    return set;
}

bool x86_cpu_snp_write_allowed(CPUX86State *env, hwaddr pa, uint64_t mapping,
                               uintptr_t ra)
{
    X86CPU *cpu = env_archcpu(env);
    AMDSNPHost *s = amd_snp;
    SnpCpu *snp = cpu->snp;

    pa &= ~AMD_C_BIT;
    if (!amd_snp_entry(s, pa) && !amd_snp_is_rmp(s, pa, 1)) {
        return true;
    }
    if (snp_optimized(snp->core, pa)) {
        bool hole = false;

        snp_count(&snp->stats.skipped, 1);
        if (unlikely(amd_snp_blocked(s, pa, RMP_PAGE_4K))) {
            /* A concurrent RMPUPDATE is not a violation: check again, locked */
            qemu_spin_lock(&s->lock);
            hole = snp_optimized(snp->core, pa) &&
                   amd_snp_blocked(s, pa, RMP_PAGE_4K);
            qemu_spin_unlock(&s->lock);
        }
        if (hole) {
            amd_snp_violation(SNP_VIOLATION_WRITE, CPU(cpu)->cpu_index,
                              current_rip(env, ra), pa);
        }
        return true;
    }
    snp_count(&snp->stats.checked, 1);
    if (!amd_snp_blocked(s, pa, mapping)) {
        return true;
    }
    snp_count(&snp->stats.faults, 1);
    trace_amd_snp_fault(CPU(cpu)->cpu_index, pa, mapping);
    return false;
}

bool x86_cpu_snp_owns_page(CPUX86State *env, hwaddr pa)
{
    return !snp_enabled(env) ||
           !amd_snp_blocked(amd_snp, pa & ~AMD_C_BIT, RMP_PAGE_4K);
}

/*
 * Searches the TLB of a vCPU for memory that may not be written any more: what
 * has been assigned, and large pages around it. Whether it is free again by now
 * has to be looked at, and nothing else can be judged here: for what somebody
 * else is assigning the flush may still be on its way.
 *
 * What a guest has as its own is judged by what the RMP allows the guest.
 */
static void snp_audit_tlb(CPUState *cs, run_on_cpu_data data)
{
    hwaddr pa = data.target_ptr & TARGET_PAGE_MASK;
    uint64_t size = data.target_ptr & ~TARGET_PAGE_MASK ?
                    RMP_PAGE_2M : RMP_PAGE_4K;
    bool blocked = amd_snp_blocked(amd_snp, pa, RMP_PAGE_4K);
    int mode, i;

    for (mode = 0; mode < NB_MMU_MODES; mode++) {
        CPUTLBDescFast *fast = &cs->neg.tlb.f[mode];
        CPUTLBDesc *desc = &cs->neg.tlb.d[mode];
        int n = (fast->mask >> CPU_TLB_ENTRY_BITS) + 1;

        /* No guest access uses these, see x86_cpu_tlb_fill() */
        if (mode == MMU_PHYS_IDX || mode == MMU_NESTED_IDX) {
            continue;
        }
        for (i = 0; i < n + CPU_VTLB_SIZE; i++) {
            CPUTLBEntry *te = i < n ? &fast->table[i] : &desc->vtable[i - n];
            CPUTLBEntryFull *full = i < n ? &desc->fulltlb[i] :
                                            &desc->vfulltlb[i - n];
            hwaddr page = full->phys_addr & ~AMD_C_BIT;
            /* With nested paging lg_page_size is not the host's */
            bool large = !(cpu_env(cs)->hflags2 & HF2_NPT_MASK) &&
                         full->lg_page_size >= ctz64(RMP_PAGE_2M);

            if (full->extra.x86.private) {
                bool write = te->addr_write != -1;

                if (page - pa < size &&
                    (write || te->addr_read != -1 || te->addr_code != -1) &&
                    !x86_cpu_snp_guest_has_page(cpu_env(cs), page, write)) {
                    amd_snp_violation(SNP_VIOLATION_GUEST, cs->cpu_index,
                                      cpu_env(cs)->eip, page);
                }
            } else if (blocked && te->addr_write != -1 &&
                (page - pa < size ||
                 (large && page / RMP_PAGE_2M == pa / RMP_PAGE_2M))) {
                amd_snp_violation(SNP_VIOLATION_TLB, cs->cpu_index,
                                  cpu_env(cs)->eip, page);
            }
        }
    }
}

/* No vCPU runs code with an older TLB once the instruction is complete. */
static void snp_flush_all(CPUX86State *env, hwaddr pa, bool large)
{
    CPUState *cs = env_cpu(env);

    tlb_flush_all_cpus_synced(cs);
    if (qatomic_read(&amd_snp->audit)) {
        /* Behind the flush. Bit 0 means 2 MB. */
        run_on_cpu_data data = RUN_ON_CPU_TARGET_PTR(pa | large);
        CPUState *other;

        CPU_FOREACH(other) {
            if (other != cs) {
                async_run_on_cpu(other, snp_audit_tlb, data);
            }
        }
        async_safe_run_on_cpu(cs, snp_audit_tlb, data);
    }
}

void snp_flush_guest(CPUX86State *env, uint32_t asid, hwaddr pa, bool large)
{
    CPUState *cs;

    /* The RMP has been changed. */
    smp_mb();
    CPU_FOREACH(cs) {
        if (qatomic_read(&cpu_env(cs)->snp_asid) == asid) {
            snp_flush_all(env, pa, large);
            return;
        }
    }
}

/* OF, SF, ZF, AF and PF follow the result; CF is left alone (assumption) */
void x86_cpu_snp_set_result(CPUX86State *env, uint32_t result)
{
    uint32_t eflags = cpu_cc_compute_all(env);

    eflags &= ~(CC_O | CC_S | CC_Z | CC_A | CC_P);
    eflags |= (result ? 0 : CC_Z) | (ctpop8(result) & 1 ? 0 : CC_P);
    CC_SRC = eflags;
    CC_OP = CC_OP_EFLAGS;
    env->regs[R_EAX] = result;
}

void x86_cpu_snp_set_carry(CPUX86State *env, bool carry)
{
    uint32_t eflags = cpu_cc_compute_all(env) & ~CC_C;

    CC_SRC = eflags | (carry ? CC_C : 0);
    CC_OP = CC_OP_EFLAGS;
}

/* A guest is not an SNP host: its CPUID bits are the hypervisor's */
static void snp_check_host(CPUX86State *env, bool needs_snp, uintptr_t ra)
{
    if ((env->hflags & HF_GUEST_MASK) || (needs_snp && !snp_enabled(env))) {
        raise_exception_ra(env, EXCP06_ILLOP, ra);
    }
    if (env->hflags & HF_CPL_MASK) {
        raise_exception_err_ra(env, EXCP0D_GPF, 0, ra);
    }
}

/*
 * The lock is held. *@assigns: some page has become assigned. *@guest: ASID of
 * the guest that has lost some page, or 0.
 */
static uint32_t snp_rmpupdate(AMDSNPHost *s, hwaddr pa, uint64_t gpa,
                              uint64_t state, bool *assigns, uint32_t *guest)
{
    unsigned assigned = extract64(state, RMP_STATE_ASSIGNED_SHIFT, 8);
    unsigned page_size = extract64(state, RMP_STATE_PAGE_SIZE_SHIFT, 8);
    unsigned immutable = extract64(state, RMP_STATE_IMMUTABLE_SHIFT, 8);
    uint32_t asid = state >> RMP_STATE_ASID_SHIFT;
    uint64_t size = page_size ? RMP_PAGE_2M : RMP_PAGE_4K;
    RMPEntry *base, *entry;
    uint64_t lo, old;
    hwaddr end = pa + size;
    int i;

    *assigns = false;
    if (page_size > 1 || assigned > 1 || immutable > 1 ||
        (state & RMP_STATE_RESERVED) ||
        asid > RMP_ASID_MASK >> RMP_ASID_SHIFT ||
        (!assigned && (asid || immutable)) || (gpa & ~RMP_GPA_MASK) ||
        pa % size || amd_snp_is_rmp(s, pa, size)) {
        return RMP_FAIL_INPUT;
    }
    entry = amd_snp_entry(s, pa);
    base = amd_snp_entry(s, QEMU_ALIGN_DOWN(pa, RMP_PAGE_2M));
    if (!entry) {
        return RMP_FAIL_INPUT;
    }

    old = snp_entry_lo(entry);
    for (i = 0; i < size / RMP_PAGE_4K; i++) {
        if (snp_entry_lo(entry + i) & RMP_IMMUTABLE) {
            return RMP_FAIL_PERMISSION;
        }
    }
    if (page_size ? snp_entry_count(base) : old & RMP_PAGE_SIZE_2M) {
        return RMP_FAIL_OVERLAP;
    }

    if (snp_vmsa_in_use(pa, size)) {
        return RMP_FAIL_INUSE;
    }

    *assigns = assigned && !(old & RMP_ASSIGNED);
    *guest = (old & RMP_ASID_MASK) >> RMP_ASID_SHIFT;
    lo = !assigned ? 0 : RMP_ASSIGNED | gpa |
         (page_size ? RMP_PAGE_SIZE_2M : 0) | (immutable ? RMP_IMMUTABLE : 0) |
         (uint64_t)asid << RMP_ASID_SHIFT;
    for (; pa < end; pa += RMP_PAGE_4K) {
        amd_snp_set_entry(s, pa, lo);
        if (assigned) {
            lo = deposit64(lo, 12, 39, extract64(lo, 12, 39) + 1);
        }
    }
    return RMP_SUCCESS;
}

void helper_rmpupdate(CPUX86State *env)
{
    X86CPU *cpu = env_archcpu(env);
    hwaddr pa = env->regs[R_EAX];
    uint64_t gpa, state;
    uint32_t guest = 0;
    uint32_t result;
    bool assigns = false;

    snp_check_host(env, true, GETPC());
    /* These may fault, so the lock comes later */
    gpa = cpu_ldq_data_ra(env, env->regs[R_ECX], GETPC());
    state = cpu_ldq_data_ra(env, env->regs[R_ECX] + 8, GETPC());

    qemu_spin_lock(&amd_snp->lock);
    result = amd_snp_rmpupdate_failure(amd_snp);
    if (!result) {
        result = snp_rmpupdate(amd_snp, pa, gpa, state, &assigns, &guest);
    }
    qemu_spin_unlock(&amd_snp->lock);

    snp_count(&cpu->snp->stats.rmpupdate, 1);
    trace_amd_snp_rmpupdate(CPU(cpu)->cpu_index, pa, gpa, state, result);
    if (assigns) {
        snp_flush_all(env, pa, extract64(state, RMP_STATE_PAGE_SIZE_SHIFT, 1));
    } else if (guest) {
        snp_flush_guest(env, guest, pa,
                        extract64(state, RMP_STATE_PAGE_SIZE_SHIFT, 1));
    }
    x86_cpu_snp_set_result(env, result);
}

/* The lock is held. *@guest: ASID of the guest whose page it is, or 0 */
static uint32_t snp_psmash(AMDSNPHost *s, hwaddr pa, uint32_t *guest)
{
    RMPEntry *entry = amd_snp_entry(s, pa);
    hwaddr end = pa + RMP_PAGE_2M;
    uint64_t lo, perms;

    if (pa % RMP_PAGE_2M || !entry) {
        return RMP_FAIL_INPUT;
    }
    lo = snp_entry_lo(entry);
    if (!(lo & RMP_ASSIGNED) || !(lo & RMP_PAGE_SIZE_2M)) {
        return RMP_FAIL_INPUT;
    }
    if (lo & RMP_IMMUTABLE) {
        return RMP_FAIL_PERMISSION;
    }
    perms = le64_to_cpu(qatomic_read(&entry->hi)) & RMP_PERMS_MASK;
    *guest = (lo & RMP_ASID_MASK) >> RMP_ASID_SHIFT;
    /* All pieces get what the guest has made of the first one's entry. */
    lo &= RMP_VALIDATED | RMP_VMSA;
    for (; pa < end; pa += RMP_PAGE_4K) {
        entry = amd_snp_entry(s, pa);
        amd_snp_set_entry_perms(s, pa,
                                (snp_entry_lo(entry) & ~RMP_PAGE_SIZE_2M) | lo,
                                perms);
    }
    return RMP_SUCCESS;
}

void helper_psmash(CPUX86State *env)
{
    X86CPU *cpu = env_archcpu(env);
    hwaddr pa = env->regs[R_EAX];
    uint32_t guest = 0;
    uint32_t result;

    snp_check_host(env, true, GETPC());
    qemu_spin_lock(&amd_snp->lock);
    result = snp_psmash(amd_snp, pa, &guest);
    qemu_spin_unlock(&amd_snp->lock);

    /* All of it was assigned before, so no TLB allows the host to write. */
    if (guest) {
        snp_flush_guest(env, guest, pa, true);
    }
    snp_count(&cpu->snp->stats.psmash, 1);
    trace_amd_snp_psmash(CPU(cpu)->cpu_index, pa, result);
    x86_cpu_snp_set_result(env, result);
}

void helper_rmpread(CPUX86State *env)
{
    hwaddr pa = env->regs[R_EAX];
    target_ulong ptr = env->regs[R_ECX];
    RMPEntry *entry, *base;
    uint64_t lo, state;
    int mmu_idx = cpu_mmu_index(env_cpu(env), false);
    target_ulong rest = MIN(16, -(ptr | TARGET_PAGE_MASK));

    snp_check_host(env, false, GETPC());
    /* Assumption: SNP_EN does not matter, as Linux looks entries up early */
    entry = amd_snp ? amd_snp_entry(amd_snp, pa) : NULL;
    if (!entry) {
        x86_cpu_snp_set_result(env, RMP_FAIL_INPUT);
        return;
    }
    base = amd_snp_entry(amd_snp, QEMU_ALIGN_DOWN(pa, RMP_PAGE_2M));
    lo = snp_entry_lo(entry);
    state = !!(lo & RMP_ASSIGNED) << RMP_STATE_ASSIGNED_SHIFT |
            !!(lo & RMP_PAGE_SIZE_2M) << RMP_STATE_PAGE_SIZE_SHIFT |
            !!(lo & RMP_IMMUTABLE) << RMP_STATE_IMMUTABLE_SHIFT |
            (lo & RMP_ASID_MASK) >> RMP_ASID_SHIFT << RMP_STATE_ASID_SHIFT;
    if (snp_entry_count(base)) {
        state |= RMP_STATE_REGION_STATUS;
    }

    /* All of it or nothing */
    probe_write(env, ptr, rest, mmu_idx, GETPC());
    if (rest < 16) {
        probe_write(env, ptr + rest, 16 - rest, mmu_idx, GETPC());
    }
    cpu_stq_data_ra(env, ptr, lo & RMP_GPA_MASK, GETPC());
    cpu_stq_data_ra(env, ptr + 8, state, GETPC());
    x86_cpu_snp_set_result(env, RMP_SUCCESS);
}

/* Whether nothing in the region is assigned. The lock is held. */
static bool rmpopt_scan(AMDSNPHost *s, SnpCpuStats *stats, hwaddr pa)
{
    hwaddr end = pa + RMPOPT_REGION_SIZE;
    uint64_t reads = 0;
    bool clean = true;

    if (amd_snp_is_rmp(s, pa, RMPOPT_REGION_SIZE)) {
        qatomic_set(&stats->rmpopt_failed_at, MAX(pa, s->rmp_base));
        return false;
    }
    for (; pa < end && clean; pa += RMP_PAGE_2M) {
        RMPEntry *entry = amd_snp_entry(s, pa);

        if (!entry) {
            clean = false;
        } else {
            reads++;
            clean = snp_entry_clean(entry);
        }
        if (!clean) {
            qatomic_set(&stats->rmpopt_failed_at, pa);
        }
    }
    snp_count(&stats->rmpopt_entries_read, reads);
    return clean;
}

static bool rmpopt_verify(CPUX86State *env, SnpCore *core, hwaddr pa)
{
    SnpCpuStats *stats = &env_archcpu(env)->snp->stats;
    uint64_t region = pa / RMPOPT_REGION_SIZE;
    AMDSNPHost *s = amd_snp;
    uint64_t base, index;
    bool clean = false, hole = false;

    if (snp_optimized(core, pa)) {
        snp_count(&stats->rmpopt_cached, 1);
        return true;
    }
    /*
     * The bit must not be set before the region has been verified, even for a
     * moment: the core's other thread would act on it.
     */
    qemu_spin_lock(&s->lock);
    base = core->base;
    index = snp_table_index(base, pa);
    if (!(base & RMPOPT_BASE_ENABLE) || index >= RMPOPT_REGIONS ||
        region >= s->regions || !amd_snp_entry(s, pa)) {
        snp_count(&stats->rmpopt_failed, 1);
        qatomic_set(&stats->rmpopt_failed_at, pa);
    } else if (test_bit(index, core->table) || test_bit(region, s->verified)) {
        clean = true;
        snp_count(&stats->rmpopt_cached, 1);
    } else if (rmpopt_scan(s, stats, pa)) {
        clean = true;
        set_bit(region, s->verified);
        snp_count(&stats->rmpopt_uncached, 1);
    } else {
        snp_count(&stats->rmpopt_failed, 1);
    }
    if (clean) {
        set_bit_atomic(index, core->table);
        /* The referee does not rely on counts and verdicts */
        hole = s->audit && amd_snp_region_assigned(s, region);
    }
    qemu_spin_unlock(&s->lock);
    if (hole) {
        snp_violation(env, SNP_VIOLATION_TABLE, pa);
    }
    return clean;
}

/*
 * Halts in front of the instruction. Interrupts are taken and come back to it,
 * and the machine's time goes on. See set_hold_rmpopt().
 */
static void wait_while_held(CPUX86State *env, hwaddr pa, uintptr_t ra)
{
    CPUState *cs = env_cpu(env);
    bool held = qatomic_read(&amd_snp->hold_rmpopt) == pa;

    if (held) {
        bql_lock();
        held = amd_snp->hold_rmpopt == pa;
        env_archcpu(env)->snp->held = held;
        cs->halted = held;
        bql_unlock();
    }
    if (held) {
        cs->exception_index = EXCP_HLT;
        cpu_loop_exit_restore(cs, ra);
    }
}

void helper_rmpopt(CPUX86State *env)
{
    X86CPU *cpu = env_archcpu(env);
    SnpCore *core = cpu->snp->core;
    hwaddr pa = env->regs[R_EAX];
    uint64_t function = env->regs[R_ECX];
    AMDSNPHost *s = amd_snp;
    bool optimized = false;
    SnpCpuStats before = cpu->snp->stats;
    bool ready, enabled, outside;
    uint64_t base;

    snp_check_host(env, !s, GETPC());
    base = qatomic_read(&core->base);
    ready = snp_enabled(env);
    enabled = base & RMPOPT_BASE_ENABLE;
    if (ready ? !enabled && s->rmpopt_ud_base_off : s->rmpopt_ud_snp_off) {
        snp_violation(env, SNP_VIOLATION_RULE, pa);
        raise_exception_ra(env, EXCP06_ILLOP, GETPC());
    }
    if ((pa % RMPOPT_REGION_SIZE && s->rmpopt_gp_unaligned) ||
        (function > RMPOPT_QUERY && s->rmpopt_gp_function)) {
        snp_violation(env, SNP_VIOLATION_RULE, pa);
        raise_exception_err_ra(env, EXCP0D_GPF, 0, GETPC());
    }
    outside = ready && enabled && snp_table_index(base, pa) >= RMPOPT_REGIONS;
    if (outside) {
        snp_count(&cpu->snp->stats.rmpopt_outside, 1);
        snp_violation(env, SNP_VIOLATION_OUTSIDE, pa);
        if (s->rmpopt_outside == RMPOPT_OUTSIDE_GP) {
            raise_exception_err_ra(env, EXCP0D_GPF, 0, GETPC());
        }
    }

    pa = QEMU_ALIGN_DOWN(pa, RMPOPT_REGION_SIZE);
    if (ready && function == RMPOPT_VERIFY) {
        /* That executes the instruction again. Outside there is no region. */
        if (!outside) {
            wait_while_held(env, pa, GETPC());
        }
        optimized = rmpopt_verify(env, core, pa);
    } else if (ready && function == RMPOPT_QUERY) {
        optimized = snp_optimized(core, pa);
        snp_count(&cpu->snp->stats.rmpopt_queries, 1);
    }
    trace_amd_snp_rmpopt(CPU(cpu)->cpu_index, pa, function, optimized);
    amd_snp_journal_event((AmdSnpJournalEntry) {
        .what = SNP_JOURNAL_RMPOPT,
        .cpu = CPU(cpu)->cpu_index, .core = core->id,
        .address = pa, .value = function,
        .result = optimized +
                  (cpu->snp->stats.rmpopt_uncached - before.rmpopt_uncached),
        .entries = cpu->snp->stats.rmpopt_entries_read -
                   before.rmpopt_entries_read,
        .irqs = env->eflags & IF_MASK,
    });
    x86_cpu_snp_set_carry(env, optimized);
}
