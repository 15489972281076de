// SPDX-License-Identifier: GPL-2.0-only
/* Runs an SVM guest. */
#include "svm.h"
#include "snp.h"

extern u64 pdpt[512];
extern struct { u16 limit; u64 base; } __packed gdtr;
void svm_enter(struct vmcb *vmcb, struct regs *regs);

struct guest guest;

/* The second half is what #VMEXIT of an SEV-ES guest loads besides. */
static u8 hsave[MAX_CPUS][4096] __aligned(4096);
static struct { u16 low, sel, type, mid; u32 high, zero; } es_idt[256] __aligned(4096);
static u8 iopm[3 * 4096] __aligned(4096);
static u8 msrpm[2 * 4096] __aligned(4096);
static u64 nested_pml4[512] __aligned(4096);
u64 nested_pdpt[512] __aligned(4096);

void svm_on(void)
{
	if (!guest.vmcb) {
		guest.vmcb = new_page();
		guest.code = new_page();
		guest.stack = new_page();
		guest.data = new_page();
		guest.iopm = iopm;
		guest.msrpm = msrpm;
		guest.vmsa = new_page();
		for (u32 i = 0; i < 256; i++) {
			u64 stub = (u64)es_stubs + 16 * i;

			es_idt[i].low = stub;
			es_idt[i].sel = KERNEL_CS;
			es_idt[i].type = 0x8e00;
			es_idt[i].mid = stub >> 16;
			es_idt[i].high = stub >> 32;
		}
		nested_pml4[0] = (u64)nested_pdpt | PTE_ALL;
		nested_pdpt[0] = pdpt[0];
		nested_pdpt[1] = pdpt[1];
	}
	try_wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	try_wrmsr(MSR_VM_HSAVE_PA, (u64)hsave[this_cpu()->index]);
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

void sev_asids(u32 *first, u32 *last)
{
	u32 r[4];

	cpuid(0x8000001f, 0, r);
	*first = r[3];
	*last = r[2];
}

void es_reset(void)
{
	struct vmcb *v = guest.vmcb;
	struct vmsa *s = guest.vmsa;

	guest_reset();
	v->intercepts[EXIT_EXCEPTION / 32] = 0;
	guest_intercept(EXIT_VMMCALL, false);
	v->nested_ctl = NESTED_NP | NESTED_SEV | NESTED_SEV_ES;
	v->lbr_ctl = LBR_VIRTUALIZATION;
	v->vmsa = (u64)s;
	memset(s, 0, sizeof(*s));
	memcpy(s, &v->es, __builtin_offsetof(struct vmsa, dbgctl));
	/* It must not matter. */
	memset(&v->es, 0x5a, sizeof(*v) - __builtin_offsetof(struct vmcb, es));
	s->idtr = (struct vmcb_seg){ .limit = sizeof(es_idt) - 1, .base = (u64)es_idt };
	s->ldtr = (struct vmcb_seg){ .attrib = 0x82 };
	s->tr = (struct vmcb_seg){ .selector = TSS_SEL, .attrib = 0x8b, .limit = 0x67,
				   .base = (u64)this_cpu()->tss };
	s->xcr0 = 1;
	s->mxcsr = 0x1f80;
	s->fcw = 0x37f;
	/* What no exit must leave */
	v->exit_code = v->exit_info_1 = v->exit_info_2 = 0x5a5a5a5a5a5a5a5aULL;
}

void es_code(const u8 *bytes, u32 len)
{
	static const u8 vmgexit[] = { 0xf3, 0x0f, 0x01, 0xd9 };

	memset(guest.code, 0xcc, 128);
	memcpy(guest.code, bytes, len);
	memcpy(guest.code + len, vmgexit, sizeof(vmgexit));
}

struct vmsa *es_host(void)
{
	return (struct vmsa *)(hsave[this_cpu()->index] + 0x400);
}

void es_save_host(void)
{
	struct vmsa *h = es_host();
	u32 low = 1, high = 0;

	/* VMSAVE writes to the same layout, from 400h of the page on. */
	vmsave((struct vmcb *)hsave[this_cpu()->index]);
	if (READ_CR(4) & BIT(18))
		__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	h->xcr0 = (u64)high << 32 | low;
	low = 0;
	if (READ_CR(4) & BIT(22))
		__asm__ volatile("rdpkru" : "=a"(low), "=d"(high) : "c"(0));
	h->pkru = low;
	h->xss = 0;
	for (u32 i = 0; i < 16; i++)
		h->gprs[i] = 0xbebe000000000000ULL + i;
}

void es_run(void)
{
	struct regs unused;

	es_save_host();
	es_enter(guest.vmcb, &unused);
}

u32 es_vector(void)
{
	u64 at = guest.vmsa->rip - (u64)es_stubs;

	return guest.vmcb->exit_code == EXIT_VMGEXIT && at < 16 * 256 ? at / 16 : NO_TRAP;
}

const struct es_frame *es_frame(void)
{
	return (const struct es_frame *)guest.vmsa->rsp;
}
