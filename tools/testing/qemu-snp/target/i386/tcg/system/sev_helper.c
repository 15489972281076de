/*
 * Guests of an SEV host: VMRUN and #VMEXIT of SEV and SEV-ES guests
 *
 * From the AMD64 Architecture Programmer's Manual, Volume 2 (24593), sections
 * "Secure Encrypted Virtualization" and "Encrypted State". Memory is not
 * encrypted here: what is private and what is shared is the same memory. What
 * the manual leaves open is marked as an assumption.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "exec/cputlb.h"
#include "hw/i386/amd_snp.h"
#include "tcg/helper-tcg.h"

static uint64_t vmcb_ldq(CPUX86State *env, size_t offset)
{
    return x86_ldq_phys(env_cpu(env), env->vm_vmcb + offset);
}

/* INT n, INT3 and INTO cannot be injected: the hypervisor lacks nRIP. */
static bool event_valid(uint32_t event_inj)
{
    if (!(event_inj & SVM_EVTINJ_VALID)) {
        return true;
    }
    switch (event_inj & SVM_EVTINJ_TYPE_MASK) {
    case SVM_EVTINJ_TYPE_SOFT:
        return false;
    case SVM_EVTINJ_TYPE_EXEPT:
        return (event_inj & SVM_EVTINJ_VEC_MASK) != EXCP03_INT3 &&
               (event_inj & SVM_EVTINJ_VEC_MASK) != EXCP04_INTO;
    default:
        return true;
    }
}

static bool es_valid(CPUX86State *env, hwaddr vmsa, uint64_t *features)
{
    CPUState *cs = env_cpu(env);

    if (!(vmcb_ldq(env, offsetof(struct vmcb, control.lbr_ctl)) &
          V_LBR_ENABLED_MASK) ||
        (vmsa & ~TARGET_PAGE_MASK) || vmsa >> cpu_sev_phys_bits(env) ||
        !event_valid(vmcb_ldq(env, offsetof(struct vmcb, control.event_inj)))) {
        return false;
    }
    /* CPUID offers no other feature that would be allowed here. */
    *features = x86_ldq_phys(cs, vmsa + offsetof(struct sev_es_save_area,
                                                 sev_features));
    return !(*features & ~SVM_SEV_FEATURES_SNP_ACTIVE) &&
           /* Assumption: XCR0 is checked like this */
           cpu_x86_xcr0_valid(env, x86_ldq_phys(cs, vmsa +
                              offsetof(struct sev_es_save_area, xcr0)));
}

void cpu_sev_count_vmrun(CPUX86State *env)
{
    SnpCpuStats *stats;

    if (!env->sev_status) {
        return;
    }
    stats = &env_archcpu(env)->snp->stats;
    if (env->sev_status & MSR_AMD64_SEV_STATUS_SNP) {
        snp_count(&stats->vmrun_snp, 1);
    } else if (env->sev_status & MSR_AMD64_SEV_STATUS_SEV_ES) {
        snp_count(&stats->vmrun_sev_es, 1);
    } else {
        snp_count(&stats->vmrun_sev, 1);
    }
}

uint64_t cpu_sev_vmrun(CPUX86State *env, hwaddr *save)
{
    uint64_t ctl = vmcb_ldq(env, offsetof(struct vmcb, control.nested_ctl));
    uint32_t asid = vmcb_ldq(env, offsetof(struct vmcb, control.asid));
    uint32_t eax, ebx, max_asid, min_sev_asid;
    CPUState *cs = env_cpu(env);
    uint64_t status, features;
    hwaddr vmsa;

    if (!(env->msr_syscfg & MSR_AMD64_SYSCFG_MEM_ENC) ||
        !(ctl & (SVM_SEV_ENABLED | SVM_SEV_ES_ENABLED))) {
        return 0;
    }
    cpu_x86_cpuid(env, 0x8000001f, 0, &eax, &ebx, &max_asid, &min_sev_asid);
    if (!(ctl & SVM_SEV_ENABLED) || !(ctl & SVM_NPT_ENABLED) ||
        !(env->msr_hwcr & MSR_K7_HWCR_SMMLOCK) ||
        !(env->efer & MSR_EFER_LMA) || asid > max_asid) {
        return SVM_EXIT_ERR;
    }
    if (!(ctl & SVM_SEV_ES_ENABLED)) {
        if (asid < min_sev_asid) {
            return SVM_EXIT_ERR;
        }
        env->sev_status = MSR_AMD64_SEV_STATUS_SEV;
        return 0;
    }
    vmsa = vmcb_ldq(env, offsetof(struct vmcb, control.vmsa));
    if (!es_valid(env, vmsa, &features)) {
        return SVM_EXIT_ERR;
    }
    status = MSR_AMD64_SEV_STATUS_SEV | MSR_AMD64_SEV_STATUS_SEV_ES;
    if (features & SVM_SEV_FEATURES_SNP_ACTIVE) {
        unsigned vmpl = x86_ldub_phys(cs, vmsa +
                                      offsetof(struct sev_es_save_area,
                                               save.vmpl));
        uint64_t exit_code = x86_cpu_snp_take_vmsa(env, vmsa, asid, vmpl);

        if (exit_code) {
            return exit_code;
        }
        status |= MSR_AMD64_SEV_STATUS_SNP;
    } else if (!x86_cpu_snp_owns_page(env, vmsa)) {
        return SVM_EXIT_ERR;
    }
    env->sev_status = status;
    *save = vmsa;
    return 0;
}

#define SAVE_LD(type, field) \
    x86_ld##type##_phys(cs, save + offsetof(struct sev_es_save_area, field))
#define SAVE_ST(type, field, val) \
    x86_st##type##_phys(cs, save + offsetof(struct sev_es_save_area, field), \
                        val)

/*
 * The manual says of the FPU's state where it is, and not how it is stored.
 * Assumption: as KVM writes it for the start of a guest. The tag word is that
 * of FXSAVE, with bits by the number of the register, and values are by
 * their place on the stack.
 */
static void load_fpu(CPUX86State *env, hwaddr save)
{
    CPUState *cs = env_cpu(env);
    uint16_t fsw = SAVE_LD(uw, x87_fsw);
    uint16_t ftw = SAVE_LD(uw, x87_ftw);
    int i;

    env->fpstt = (fsw >> 11) & 7;
    env->fpus = fsw & ~0x3800;
    cpu_set_fpuc(env, SAVE_LD(uw, x87_fcw));
    env->fpop = SAVE_LD(uw, x87_fop);
    env->fpcs = SAVE_LD(uw, x87_cs);
    env->fpds = SAVE_LD(uw, x87_ds);
    env->fpip = SAVE_LD(q, x87_rip);
    env->fpdp = SAVE_LD(q, x87_dp);
    for (i = 0; i < 8; i++) {
        env->fptags[i] = !(ftw & (1 << i));
        env->fpregs[(env->fpstt + i) & 7].d =
            make_floatx80(SAVE_LD(uw, x87_exponent[i]),
                          SAVE_LD(q, x87_mantissa[i]));
    }
    for (i = 0; i < CPU_NB_REGS; i++) {
        env->xmm_regs[i].ZMM_Q(0) = SAVE_LD(q, xmm[i][0]);
        env->xmm_regs[i].ZMM_Q(1) = SAVE_LD(q, xmm[i][1]);
        env->xmm_regs[i].ZMM_Q(2) = SAVE_LD(q, ymm_high[i][0]);
        env->xmm_regs[i].ZMM_Q(3) = SAVE_LD(q, ymm_high[i][1]);
    }
    cpu_set_mxcsr(env, SAVE_LD(l, mxcsr) & 0xffff);
}

static void save_fpu(CPUX86State *env, hwaddr save)
{
    CPUState *cs = env_cpu(env);
    uint16_t ftw = 0;
    int i;

    for (i = 0; i < 8; i++) {
        floatx80 val = env->fpregs[(env->fpstt + i) & 7].d;

        ftw |= !env->fptags[i] << i;
        SAVE_ST(w, x87_exponent[i], val.high);
        SAVE_ST(q, x87_mantissa[i], val.low);
    }
    SAVE_ST(w, x87_ftw, ftw);
    SAVE_ST(w, x87_fsw, (env->fpus & ~0x3800) | (env->fpstt & 7) << 11);
    SAVE_ST(w, x87_fcw, env->fpuc);
    SAVE_ST(w, x87_fop, env->fpop);
    SAVE_ST(w, x87_cs, env->fpcs);
    SAVE_ST(w, x87_ds, env->fpds);
    SAVE_ST(q, x87_rip, env->fpip);
    SAVE_ST(q, x87_dp, env->fpdp);
    for (i = 0; i < CPU_NB_REGS; i++) {
        SAVE_ST(q, xmm[i][0], env->xmm_regs[i].ZMM_Q(0));
        SAVE_ST(q, xmm[i][1], env->xmm_regs[i].ZMM_Q(1));
        SAVE_ST(q, ymm_high[i][0], env->xmm_regs[i].ZMM_Q(2));
        SAVE_ST(q, ymm_high[i][1], env->xmm_regs[i].ZMM_Q(3));
    }
    update_mxcsr_from_sse_status(env);
    SAVE_ST(l, mxcsr, env->mxcsr);
}

/* Assumption: "initialized to reset values" means what FNINIT does, and 0 */
static void reset_fpu(CPUX86State *env)
{
    int i;

    env->fpstt = 0;
    env->fpus = 0;
    cpu_set_fpuc(env, 0x37f);
    env->fpop = 0;
    env->fpcs = 0;
    env->fpds = 0;
    env->fpip = 0;
    env->fpdp = 0;
    for (i = 0; i < 8; i++) {
        env->fptags[i] = 1;
        env->fpregs[i].d = make_floatx80(0, 0);
    }
    memset(env->xmm_regs, 0, sizeof(env->xmm_regs));
    cpu_set_mxcsr(env, 0x1f80);
}

/*
 * General registers but RAX and RSP; what VMLOAD knows; XCR0, XSS, PKRU. The
 * manual calls all of these swap type B.
 */
static void load_type_b(CPUX86State *env, hwaddr save)
{
    CPUState *cs = env_cpu(env);
    uint64_t xcr0 = SAVE_LD(q, xcr0);
    int i;

    cpu_svm_vmload(env, save, MMU_PHYS_IDX);
    for (i = 0; i < CPU_NB_REGS; i++) {
        if (i != R_EAX && i != R_ESP) {
            env->regs[i] = SAVE_LD(q, regs[i]);
        }
    }
    /* A hypervisor that has left no valid one gets the FPU, and no more. */
    env->xcr0 = cpu_x86_xcr0_valid(env, xcr0) ? xcr0 : XSTATE_FP_MASK;
    cpu_sync_bndcs_hflags(env);
    cpu_sync_avx_hflag(env);
    env->xss = SAVE_LD(q, save.xss);
    env->pkru = SAVE_LD(l, pkru);
}

void cpu_sev_es_load(CPUX86State *env, hwaddr save)
{
    CPUState *cs = env_cpu(env);

    /* The host's is saved here, and all else of type B by the hypervisor. */
    x86_stq_phys(cs, env->vm_hsave + offsetof(struct vmcb, save.g_pat),
                 env->pat);
    env->pat = SAVE_LD(q, save.g_pat);
    env->sev_es_ghcb = vmcb_ldq(env, offsetof(struct vmcb, control.ghcb));
    load_type_b(env, save);
    load_fpu(env, save);
    /* PKRU is part of what the TLB has been filled by. */
    tlb_flush(cs);
}

void cpu_sev_es_save(CPUX86State *env, hwaddr save)
{
    CPUState *cs = env_cpu(env);
    int i;

    cpu_svm_vmsave(env, save, MMU_PHYS_IDX);
    for (i = 0; i < CPU_NB_REGS; i++) {
        if (i != R_EAX && i != R_ESP) {
            SAVE_ST(q, regs[i], env->regs[i]);
        }
    }
    SAVE_ST(q, xcr0, env->xcr0);
    SAVE_ST(q, save.xss, env->xss);
    SAVE_ST(l, pkru, env->pkru);
    SAVE_ST(q, save.g_pat, env->pat);
    save_fpu(env, save);
    x86_stq_phys(cs, env->vm_vmcb + offsetof(struct vmcb, control.ghcb),
                 env->sev_es_ghcb);
}

void cpu_sev_es_load_host(CPUX86State *env)
{
    CPUState *cs = env_cpu(env);

    load_type_b(env, env->vm_hsave + offsetof(struct vmcb, save));
    env->pat = x86_ldq_phys(cs, env->vm_hsave +
                            offsetof(struct vmcb, save.g_pat));
    /* Nothing of the guest stays. */
    reset_fpu(env);
    env->cr[2] = 0;
    env->sev_es_ghcb = 0;
    tlb_flush(cs);
}

bool cpu_sev_es_automatic_exit(uint64_t exit_code, uint64_t exit_info_1)
{
    switch (exit_code) {
    case SVM_EXIT_EXCP_BASE + EXCP12_MCHK:
    case SVM_EXIT_INTR ... SVM_EXIT_VINTR:
    case SVM_EXIT_PAUSE:
    case SVM_EXIT_HLT:
    case SVM_EXIT_SHUTDOWN:
    case SVM_EXIT_EFER_WRITE_TRAP ... SVM_EXIT_CR0_WRITE_TRAP + 15:
    case SVM_EXIT_VMGEXIT:
    case (uint64_t)SVM_EXIT_BUSY:
    case (uint64_t)SVM_EXIT_ERR:
        return true;
    case SVM_EXIT_NPF:
        /* The hypervisor marks what it emulates, and the guest asks for it. */
        return !(exit_info_1 & PG_ERROR_RSVD_MASK);
    default:
        return false;
    }
}
