// SPDX-License-Identifier: GPL-2.0-only
/* IDT, TSS, and what happens on a trap. */
#include "kernel.h"

struct gate {
	u16 low, sel;
	u8 ist, type;
	u16 mid;
	u32 high, zero;
};

struct table_ptr {
	u16 limit;
	u64 base;
} __packed;

extern u8 trap_stubs[], stub_ipi[], stub_user[], user_back[], compat_back[];
extern const u64 extable_start[], extable_end[];
extern u64 gdt[];
extern struct table_ptr gdtr;

static struct gate idt[256];
static bool idt_made;

static void set_gate(u32 vector, void *handler, u8 type)
{
	u64 p = (u64)handler;

	idt[vector].low = p;
	idt[vector].mid = p >> 16;
	idt[vector].high = p >> 32;
	idt[vector].sel = KERNEL_CS;
	idt[vector].type = type;
}

static void make_idt(void)
{
	for (u32 i = 0; i < 32; i++)
		set_gate(i, trap_stubs + 16 * i, 0x8e);
	set_gate(IPI_VECTOR, stub_ipi, 0x8e);
	set_gate(USER_VECTOR, stub_user, 0xee);
	idt_made = true;
}

void trap_init_cpu(struct cpu *cpu)
{
	struct table_ptr idtr = { sizeof(idt) - 1, (u64)idt };
	u64 tss = (u64)cpu->tss;
	u32 sel = TSS_SEL + 16 * cpu->index;
	u64 rsp0 = (u64)cpu + CPU_TRAP_STACK;

	if (!idt_made)
		make_idt();
	memset(cpu->tss, 0, sizeof(cpu->tss));
	/* RSP0 is at offset 4 of the TSS. */
	memcpy((u8 *)cpu->tss + 4, &rsp0, 8);
	gdt[sel / 8] = 0x67 | (tss & 0xffffff) << 16 | 0x89ULL << 40 | (tss >> 24 & 0xff) << 56;
	gdt[sel / 8 + 1] = tss >> 32;
	__asm__ volatile("lgdt %0; lidt %1; ltr %w2" :: "m"(gdtr), "m"(idtr), "r"(sel) : "memory");
}

static u64 fixup(struct cpu *cpu, u64 rip)
{
	u64 code = (u64)cpu + CPU_CODE;

	if (cpu->code_len && rip >= code && rip < code + cpu->code_len)
		return code + cpu->code_len;
	for (const u64 *e = extable_start; e < extable_end; e += 2) {
		if (e[0] == rip)
			return e[1];
	}
	return 0;
}

void trap_handler(struct frame *f)
{
	struct cpu *cpu = this_cpu();
	u64 cr2, to;

	if (f->vector == IPI_VECTOR) {
		*(volatile u32 *)0xfee000b0 = 0;
		return;
	}
	if (f->vector == VEC_NMI && cpu->nmi_expected) {
		cpu->nmi_expected = false;
		return;
	}
	if (f->vector == USER_VECTOR) {
		f->cs = KERNEL_CS;
		f->ss = KERNEL_DS;
		f->rsp = cpu->saved_rsp;
		f->rip = (u64)user_back;
		return;
	}

	__asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
	cpu->trap.vector = f->vector;
	cpu->trap.error = f->error;
	cpu->trap.cr2 = cr2;
	cpu->trap.rip = f->rip;
	if (f->vector == VEC_PF && f->error & PF_RMP)
		cpu->counts.faults++;

	if (f->cs == COMPAT_CS) {
		f->cs = KERNEL_CS;
		f->rip = (u64)compat_back;
		return;
	}
	to = fixup(cpu, f->rip);
	if (!to)
		bail_out("unexpected trap %llu, error %llx, rip %llx, cs %llx, cr2 %llx, rsp %llx",
			 f->vector, f->error, f->rip, f->cs, cr2, f->rsp);
	f->rip = to;
	/* A string instruction may have been stopped while going down. */
	f->rflags &= ~FL_DF;
}
