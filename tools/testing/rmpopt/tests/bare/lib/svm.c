// SPDX-License-Identifier: GPL-2.0-only
/* Runs an SVM guest. */
#include "svm.h"
#include "snp.h"

extern u64 pdpt[512];
extern struct { u16 limit; u64 base; } __packed gdtr;
void svm_enter(struct vmcb *vmcb, struct regs *regs);

struct guest guest;

static u8 hsave[4096] __aligned(4096);
static u8 iopm[3 * 4096] __aligned(4096);
static u8 msrpm[2 * 4096] __aligned(4096);
static u64 nested_pml4[512] __aligned(4096);
static u64 nested_pdpt[512] __aligned(4096);

void svm_on(void)
{
	if (!guest.vmcb) {
		guest.vmcb = new_page();
		guest.code = new_page();
		guest.stack = new_page();
		guest.data = new_page();
		guest.iopm = iopm;
		guest.msrpm = msrpm;
		nested_pml4[0] = (u64)nested_pdpt | PTE_ALL;
		nested_pdpt[0] = pdpt[0];
		nested_pdpt[1] = pdpt[1];
	}
	try_wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	try_wrmsr(MSR_VM_HSAVE_PA, (u64)hsave);
}

void svm_off(void)
{
	try_wrmsr(MSR_VM_HSAVE_PA, 0);
	try_wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_SVME);
}

#define READ_CR(n) ({ u64 v_; __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v_)); v_; })

void guest_reset(void)
{
	const struct vmcb_seg data = { KERNEL_DS, SEG_DATA, ~0U, 0 };
	struct vmcb *v = guest.vmcb;

	memset(v, 0, sizeof(*v));
	memset(guest.data, 0, SZ_4K);
	memset(guest.stack, 0, SZ_4K);
	memset(iopm, 0, sizeof(iopm));
	memset(msrpm, 0, sizeof(msrpm));
	v->intercepts[EXIT_EXCEPTION / 32] = ~0U;
	guest_intercept(EXIT_SHUTDOWN, true);
	guest_intercept(EXIT_VMRUN, true);
	guest_intercept(EXIT_VMMCALL, true);
	v->iopm_base = (u64)iopm;
	v->msrpm_base = (u64)msrpm;
	v->asid = 1;
	v->tlb_control = 1;
	v->nested_ctl = 1;
	v->nested_cr3 = (u64)nested_pml4;
	v->es = v->ss = v->ds = v->fs = v->gs = data;
	v->cs = (struct vmcb_seg){ KERNEL_CS, SEG_CODE64, ~0U, 0 };
	v->gdtr.limit = gdtr.limit;
	v->gdtr.base = gdtr.base;
	v->efer = rdmsr(MSR_EFER);
	v->cr0 = READ_CR(0);
	v->cr3 = READ_CR(3);
	v->cr4 = READ_CR(4);
	v->g_pat = rdmsr(MSR_PAT);
	v->dr6 = 0xffff0ff0;
	v->dr7 = 0x400;
	v->rflags = 2;
	v->rip = (u64)guest.code;
	v->rsp = (u64)guest.stack + SZ_4K / 2;
	regs_fill(&guest.regs);
}

void guest_intercept(u32 exit_code, bool on)
{
	u32 *word = &guest.vmcb->intercepts[exit_code / 32];
	u32 bit = 1U << exit_code % 32;

	*word = on ? *word | bit : *word & ~bit;
}

void guest_code(const u8 *bytes, u32 len)
{
	static const u8 vmmcall[] = { 0x0f, 0x01, 0xd9 };

	/* INT3 in the rest */
	memset(guest.code, 0xcc, 128);
	memcpy(guest.code, bytes, len);
	memcpy(guest.code + len, vmmcall, sizeof(vmmcall));
}

void guest_run(void)
{
	svm_enter(guest.vmcb, &guest.regs);
}
