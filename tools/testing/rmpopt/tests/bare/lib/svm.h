/* SPDX-License-Identifier: GPL-2.0-only */
/* An SVM guest of the bare kernel: its VMCB, and what it starts with. */
#ifndef BARE_SVM_H
#define BARE_SVM_H

#include "kernel.h"

#define MSR_EFER 0xc0000080
#define EFER_SVME BIT(12)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
#define EFER_NXE BIT(11)
#define MSR_PAT 0x277
#define MSR_GHCB 0xc0010130

/* Exit codes; an intercept has the bit of its exit code. */
enum {
	EXIT_READ_CR0 = 0x00,
	EXIT_READ_CR2 = 0x02,
	EXIT_READ_CR3 = 0x03,
	EXIT_READ_CR4 = 0x04,
	EXIT_READ_CR8 = 0x08,
	EXIT_WRITE_CR0 = 0x10,
	EXIT_WRITE_CR2 = 0x12,
	EXIT_WRITE_CR3 = 0x13,
	EXIT_WRITE_CR4 = 0x14,
	EXIT_WRITE_CR8 = 0x18,
	EXIT_READ_DR0 = 0x20,
	EXIT_WRITE_DR0 = 0x30,
	EXIT_EXCEPTION = 0x40,
	EXIT_INTR = 0x60,
	EXIT_NMI = 0x61,
	EXIT_VINTR = 0x64,
	EXIT_CR0_SEL_WRITE = 0x65,
	EXIT_IDTR_READ = 0x66,
	EXIT_GDTR_READ = 0x67,
	EXIT_LDTR_READ = 0x68,
	EXIT_TR_READ = 0x69,
	EXIT_IDTR_WRITE = 0x6a,
	EXIT_GDTR_WRITE = 0x6b,
	EXIT_LDTR_WRITE = 0x6c,
	EXIT_TR_WRITE = 0x6d,
	EXIT_RDTSC = 0x6e,
	EXIT_RDPMC = 0x6f,
	EXIT_PUSHF = 0x70,
	EXIT_POPF = 0x71,
	EXIT_CPUID = 0x72,
	EXIT_RSM = 0x73,
	EXIT_IRET = 0x74,
	EXIT_SWINT = 0x75,
	EXIT_INVD = 0x76,
	EXIT_PAUSE = 0x77,
	EXIT_HLT = 0x78,
	EXIT_INVLPG = 0x79,
	EXIT_INVLPGA = 0x7a,
	EXIT_IOIO = 0x7b,
	EXIT_MSR = 0x7c,
	EXIT_SHUTDOWN = 0x7f,
	EXIT_VMRUN = 0x80,
	EXIT_VMMCALL = 0x81,
	EXIT_VMLOAD = 0x82,
	EXIT_VMSAVE = 0x83,
	EXIT_STGI = 0x84,
	EXIT_CLGI = 0x85,
	EXIT_SKINIT = 0x86,
	EXIT_RDTSCP = 0x87,
	EXIT_ICEBP = 0x88,
	EXIT_WBINVD = 0x89,
	EXIT_XSETBV = 0x8d,
	/* Write traps: the write has taken effect. */
	EXIT_EFER_TRAP = 0x8f,
	EXIT_CR_TRAP = 0x90,
	EXIT_NPF = 0x400,
	EXIT_VMGEXIT = 0x403,
};

#define EXIT_INVALID ~0ULL
/* The VMSA is that of a vCPU that runs. */
#define EXIT_BUSY ~1ULL

#define EXITINFO1_MOV_CR BIT(63)

/* EXITINFO1 of I/O; segments are numbered from ES = 0 to GS = 5. */
#define IOIO_IN BIT(0)
#define IOIO_STR BIT(2)
#define IOIO_REP BIT(3)
#define IOIO_SZ(bytes) ((bytes) << 4)
#define IOIO_A32 BIT(8)
#define IOIO_A64 BIT(9)
#define IOIO_SEG(n) ((n) << 10)

#define INT_CTL_V_TPR(n) (u64)(n)
#define INT_CTL_V_IRQ BIT(8)
#define INT_CTL_V_INTR_PRIO(n) ((u64)(n) << 16)
#define INT_CTL_V_INTR_MASKING BIT(24)

/* The interrupt state: RFLAGS.IF of a guest whose registers the host does not see */
#define INT_STATE_GUEST_IF BIT(1)

#define NESTED_NP BIT(0)
#define NESTED_SEV BIT(1)
#define NESTED_SEV_ES BIT(2)

#define LBR_VIRTUALIZATION BIT(0)

/* EXITINFO1 of a nested page fault, besides the bits of any page fault */
#define NPF_RSVD BIT(3)
#define NPF_FETCH BIT(4)
#define NPF_FINAL BIT(32)
#define NPF_TABLE BIT(33)
#define NPF_ENC BIT(34)
#define NPF_SIZEM BIT(35)
#define NPF_VMPL BIT(36)

#define C_BIT BIT(51)
#define VEC_VC 29
/* Error code of #VC: the page is not validated. */
#define VC_NOT_VALIDATED 0x404

#define SEV_SNP_ACTIVE BIT(0)

#define EVENTINJ_EXCEPTION (3 << 8)
#define EVENTINJ_SOFTWARE (4 << 8)
#define EVENTINJ_VALID BIT(31)

#define SEG_CODE64 0xa9b
#define SEG_CODE32 0xc9b
#define SEG_DATA 0xc93
#define SEG_DPL3 0x60

struct vmcb_seg {
	u16 selector, attrib;
	u32 limit;
	u64 base;
};

struct vmcb {
	/* The control area; bit n of the intercepts is that of exit code n. */
	u32 intercepts[5];
	u8 rsvd014[44];
	u64 iopm_base, msrpm_base, tsc_offset;
	u32 asid;
	u8 tlb_control, rsvd05d[3];
	u64 int_ctl;
	u64 int_state;
	u64 exit_code, exit_info_1, exit_info_2;
	u64 exit_int_info, nested_ctl;
	u64 rsvd098, ghcb;
	u64 event_inj, nested_cr3, lbr_ctl, clean, next_rip;
	u8 insn_len, insn_bytes[15];
	u8 rsvd0e0[40];
	u64 vmsa;
	u8 rsvd110[752];
	/* The save area */
	struct vmcb_seg es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	u8 rsvd4a0[43], cpl, rsvd4cc[4];
	u64 efer;
	u8 rsvd4d8[112];
	u64 cr4, cr3, cr0, dr7, dr6, rflags, rip;
	u8 rsvd580[88];
	u64 rsp;
	u8 rsvd5e0[24];
	u64 rax;
	u8 rsvd600[64];
	u64 cr2;
	u8 rsvd648[32];
	u64 g_pat;
	u8 rsvd670[0x990];
};

_Static_assert(__builtin_offsetof(struct vmcb, int_ctl) == 0x60, "struct vmcb");
_Static_assert(__builtin_offsetof(struct vmcb, exit_code) == 0x70, "struct vmcb");
_Static_assert(__builtin_offsetof(struct vmcb, ghcb) == 0xa0, "struct vmcb");
_Static_assert(__builtin_offsetof(struct vmcb, event_inj) == 0xa8, "struct vmcb");
_Static_assert(__builtin_offsetof(struct vmcb, next_rip) == 0xc8, "struct vmcb");
_Static_assert(__builtin_offsetof(struct vmcb, lbr_ctl) == 0xb8, "struct vmcb");
_Static_assert(__builtin_offsetof(struct vmcb, vmsa) == 0x108, "struct vmcb");
_Static_assert(__builtin_offsetof(struct vmcb, es) == 0x400, "struct vmcb");
_Static_assert(__builtin_offsetof(struct vmcb, efer) == 0x4d0, "struct vmcb");
_Static_assert(__builtin_offsetof(struct vmcb, rip) == 0x578, "struct vmcb");
_Static_assert(__builtin_offsetof(struct vmcb, rsp) == 0x5d8, "struct vmcb");
_Static_assert(__builtin_offsetof(struct vmcb, rax) == 0x5f8, "struct vmcb");
_Static_assert(__builtin_offsetof(struct vmcb, g_pat) == 0x668, "struct vmcb");
_Static_assert(sizeof(struct vmcb) == SZ_4K, "struct vmcb");

/*
 * All registers of an SEV-ES guest (APM volume 2, table B-4). Up to 2A0h it is the save
 * area of a VMCB. The hypervisor's own are in the same layout at VM_HSAVE_PA + 400h.
 */
struct vmsa {
	struct vmcb_seg es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	u64 ssp[4], u_cet;
	u8 rsvd0c8[2], vmpl, cpl, rsvd0cc[4];
	u64 efer;
	u8 rsvd0d8[104];
	u64 xss, cr4, cr3, cr0, dr7, dr6, rflags, rip;
	u8 rsvd180[88];
	u64 rsp;
	u8 rsvd1e0[24];
	u64 rax;
	u64 star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip;
	u64 cr2;
	u8 rsvd248[32];
	u64 g_pat, dbgctl;
	u8 rsvd278[112];
	u32 pkru, tsc_aux;
	u64 tsc_scale, tsc_offset;
	/* By the number of the register: RAX and RSP are elsewhere, number 4 is not used. */
	u64 gprs[16];
	u8 rsvd380[16];
	u64 exit_info_1, exit_info_2, exit_int_info, nrip, sev_features, vintr_ctrl, exit_code;
	u64 vtom, tlb_id, pcpu_id, event_inj, xcr0;
	u8 rsvd3f0[16];
	u64 x87_dp;
	u32 mxcsr;
	u16 ftw, fsw, fcw, fop, x87_ds, x87_cs;
	u64 x87_rip;
	u64 x87_mantissa[8];
	u16 x87_exponent[8];
	u64 xmm[16][2], ymm[16][2];
	u8 rsvd670[0x990];
};

_Static_assert(__builtin_offsetof(struct vmsa, vmpl) == 0xca, "struct vmsa");
_Static_assert(__builtin_offsetof(struct vmsa, efer) == 0xd0, "struct vmsa");
_Static_assert(__builtin_offsetof(struct vmsa, xss) == 0x140, "struct vmsa");
_Static_assert(__builtin_offsetof(struct vmsa, rip) == 0x178, "struct vmsa");
_Static_assert(__builtin_offsetof(struct vmsa, rsp) == 0x1d8, "struct vmsa");
_Static_assert(__builtin_offsetof(struct vmsa, rax) == 0x1f8, "struct vmsa");
_Static_assert(__builtin_offsetof(struct vmsa, cr2) == 0x240, "struct vmsa");
_Static_assert(__builtin_offsetof(struct vmsa, g_pat) == 0x268, "struct vmsa");
_Static_assert(__builtin_offsetof(struct vmsa, pkru) == 0x2e8, "struct vmsa");
_Static_assert(__builtin_offsetof(struct vmsa, gprs) == 0x300, "struct vmsa");
_Static_assert(__builtin_offsetof(struct vmsa, sev_features) == 0x3b0, "struct vmsa");
_Static_assert(__builtin_offsetof(struct vmsa, xcr0) == 0x3e8, "struct vmsa");
_Static_assert(__builtin_offsetof(struct vmsa, mxcsr) == 0x408, "struct vmsa");
_Static_assert(__builtin_offsetof(struct vmsa, x87_mantissa) == 0x420, "struct vmsa");
_Static_assert(__builtin_offsetof(struct vmsa, xmm) == 0x470, "struct vmsa");
_Static_assert(__builtin_offsetof(struct vmsa, ymm) == 0x570, "struct vmsa");
_Static_assert(sizeof(struct vmsa) == SZ_4K, "struct vmsa");

/*
 * A guest with the page tables and the GDT of the kernel, in 64-bit mode at CPL 0.
 * Its nested table maps the first 2 GB by identity. There is one at a time.
 */
struct guest {
	struct vmcb *vmcb;
	/* RAX and RFLAGS are those of the VMCB. */
	struct regs regs;
	/* Pages: code, its stack, memory that it may use; permission maps */
	u8 *code, *stack, *data, *iopm, *msrpm;
	/* The registers of an SEV-ES guest */
	struct vmsa *vmsa;
};

extern struct guest guest;
/* The third level of its nested table: 1 GB for each entry */
extern u64 nested_pdpt[512];

/* Both for the vCPU that calls it: SVM on, with a host save area, and off again. */
void svm_on(void);
void svm_off(void);
/* Exits at any exception and at VMMCALL. */
void guest_reset(void);
void guest_intercept(u32 exit_code, bool on);
/* Puts code at the start of the code page, with VMMCALL behind it. */
void guest_code(const u8 *bytes, u32 len);
/* Runs until #VMEXIT. */
void guest_run(void);

/*
 * An SEV-ES guest, in what guest_reset() makes. Nothing exits but what must, and VMGEXIT.
 * Vector n of its IDT leads to a VMGEXIT of its own at es_stubs + 16 * n.
 */
extern u8 es_stubs[];
void es_reset(void);
/* As guest_code(), with VMGEXIT behind it. */
void es_code(const u8 *bytes, u32 len);
/* What #VMEXIT loads on this vCPU; what es_run() leaves there: what is there at present. */
struct vmsa *es_host(void);
void es_save_host(void);
/* Runs until #VMEXIT, and tells the registers that the hypervisor has then. */
void es_enter(struct vmcb *vmcb, struct regs *host);
/* Both. */
void es_run(void);
/* The vector whose stub has ended the guest, or NO_TRAP. */
u32 es_vector(void);
/* What #VC or another exception has pushed */
struct es_frame { u64 error, rip, cs, rflags, rsp, ss; };
const struct es_frame *es_frame(void);
/* ASIDs of SEV guests: SEV-ES and SNP from 1, others from the first to the last. */
void sev_asids(u32 *first, u32 *last);

/* FS, GS, TR, LDTR and the MSRs that go with them */
static inline void vmload(const struct vmcb *vmcb)
{
	__asm__ volatile("vmload %0" :: "a"(vmcb) : "memory");
}

static inline void vmsave(struct vmcb *vmcb)
{
	__asm__ volatile("vmsave %0" :: "a"(vmcb) : "memory");
}

#endif
