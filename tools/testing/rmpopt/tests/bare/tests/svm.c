// SPDX-License-Identifier: GPL-2.0-only
/*
 * SVM guests without SEV: for each intercept of an instruction what #VMEXIT
 * reports of it (APM volume 2, 15.7.1 and 15.8.4), and injected events.
 */
#include "tests.h"
#include "svm.h"

#define BYTES(...) { __VA_ARGS__ }, sizeof((u8[]){ __VA_ARGS__ })
/* What the guest does if the instruction is not intercepted */
#define GOES_ON EXIT_VMMCALL
#define RAISES(vector) (EXIT_EXCEPTION + (vector))
/* It must not be tried: the guest would halt, or spoil state of the kernel. */
#define NOT_TRIED 0

#define READ_CR(n) ({ u64 v_; __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v_)); v_; })

#define CR0_TS BIT(3)
#define CR0_NE BIT(5)
#define CR0_PG BIT(31)
#define CR4_PAE BIT(5)
#define CR4_OSXSAVE BIT(18)

struct insn {
	const char *name;
	u8 bytes[12];
	u32 len;
	u32 code;
	u64 info;
	u64 otherwise;
};

/*
 * The guest starts with RAX = RBX = CR0, RDI = CR3, R8 = CR4, RDX = R11 = R12 = 0,
 * RSI = 400h, RBP = the data page, RCX = 0.
 */
static const struct insn insns[] = {
	{ "mov %cr0, %rax", BYTES(0x0f, 0x20, 0xc0), EXIT_READ_CR0, EXITINFO1_MOV_CR, GOES_ON },
	{ "mov %cr2, %rsi", BYTES(0x0f, 0x20, 0xd6), EXIT_READ_CR2, EXITINFO1_MOV_CR | 6, GOES_ON },
	{ "mov %cr3, %r9", BYTES(0x41, 0x0f, 0x20, 0xd9), EXIT_READ_CR3, EXITINFO1_MOV_CR | 9, GOES_ON },
	{ "mov %cr4, %r15", BYTES(0x41, 0x0f, 0x20, 0xe7), EXIT_READ_CR4, EXITINFO1_MOV_CR | 15, GOES_ON },
	{ "mov %cr8, %rdx", BYTES(0x44, 0x0f, 0x20, 0xc2), EXIT_READ_CR8, EXITINFO1_MOV_CR | 2, GOES_ON },
	{ "lock mov %cr0, %rcx, which is CR8", BYTES(0xf0, 0x0f, 0x20, 0xc1), EXIT_READ_CR8,
	  EXITINFO1_MOV_CR | 1, GOES_ON },
	{ "smsw %eax", BYTES(0x0f, 0x01, 0xe0), EXIT_READ_CR0, 0, GOES_ON },
	{ "mov %rbx, %cr0", BYTES(0x0f, 0x22, 0xc3), EXIT_WRITE_CR0, EXITINFO1_MOV_CR | 3, GOES_ON },
	{ "mov %r10, %cr2", BYTES(0x41, 0x0f, 0x22, 0xd2), EXIT_WRITE_CR2, EXITINFO1_MOV_CR | 10, GOES_ON },
	{ "mov %rdi, %cr3", BYTES(0x0f, 0x22, 0xdf), EXIT_WRITE_CR3, EXITINFO1_MOV_CR | 7, GOES_ON },
	{ "mov %r8, %cr4", BYTES(0x41, 0x0f, 0x22, 0xe0), EXIT_WRITE_CR4, EXITINFO1_MOV_CR | 8, GOES_ON },
	{ "mov %r11, %cr8", BYTES(0x45, 0x0f, 0x22, 0xc3), EXIT_WRITE_CR8, EXITINFO1_MOV_CR | 11, GOES_ON },
	{ "lmsw %ax", BYTES(0x0f, 0x01, 0xf0), EXIT_WRITE_CR0, 0, GOES_ON },
	{ "clts", BYTES(0x0f, 0x06), EXIT_WRITE_CR0, 0, GOES_ON },
	{ "lmsw %ax, selective", BYTES(0x0f, 0x01, 0xf0), EXIT_CR0_SEL_WRITE, 0, EXIT_WRITE_CR0 },
	{ "mov %dr0, %rcx", BYTES(0x0f, 0x21, 0xc1), EXIT_READ_DR0, 1, GOES_ON },
	{ "mov %dr3, %r13", BYTES(0x41, 0x0f, 0x21, 0xdd), EXIT_READ_DR0 + 3, 13, GOES_ON },
	{ "mov %dr6, %rdx", BYTES(0x0f, 0x21, 0xf2), EXIT_READ_DR0 + 6, 2, GOES_ON },
	{ "mov %dr7, %r14", BYTES(0x41, 0x0f, 0x21, 0xfe), EXIT_READ_DR0 + 7, 14, GOES_ON },
	{ "mov %rdx, %dr0", BYTES(0x0f, 0x23, 0xc2), EXIT_WRITE_DR0, 2, GOES_ON },
	{ "mov %r12, %dr3", BYTES(0x41, 0x0f, 0x23, 0xdc), EXIT_WRITE_DR0 + 3, 12, GOES_ON },
	{ "mov %rsi, %dr7", BYTES(0x0f, 0x23, 0xfe), EXIT_WRITE_DR0 + 7, 6, GOES_ON },
	{ "int3", BYTES(0xcc), EXIT_EXCEPTION + 3, 0, NOT_TRIED },
	{ "int $3", BYTES(0xcd, 0x03), EXIT_SWINT, 3, RAISES(VEC_GP) },
	{ "int $0x30", BYTES(0xcd, 0x30), EXIT_SWINT, 0x30, RAISES(VEC_GP) },
	{ "int $0xf0", BYTES(0xcd, 0xf0), EXIT_SWINT, 0xf0, RAISES(VEC_GP) },
	{ "sidt (%rbp)", BYTES(0x0f, 0x01, 0x4d, 0x00), EXIT_IDTR_READ, 0, GOES_ON },
	{ "sgdt (%rbp)", BYTES(0x0f, 0x01, 0x45, 0x00), EXIT_GDTR_READ, 0, GOES_ON },
	{ "sldt (%rbp)", BYTES(0x0f, 0x00, 0x45, 0x00), EXIT_LDTR_READ, 0, GOES_ON },
	{ "str %eax", BYTES(0x0f, 0x00, 0xc8), EXIT_TR_READ, 0, GOES_ON },
	{ "lidt (%rbp)", BYTES(0x0f, 0x01, 0x5d, 0x00), EXIT_IDTR_WRITE, 0, GOES_ON },
	{ "lgdt (%rbp)", BYTES(0x0f, 0x01, 0x55, 0x00), EXIT_GDTR_WRITE, 0, GOES_ON },
	{ "lldt %dx", BYTES(0x0f, 0x00, 0xd2), EXIT_LDTR_WRITE, 0, GOES_ON },
	{ "ltr %dx", BYTES(0x0f, 0x00, 0xda), EXIT_TR_WRITE, 0, RAISES(VEC_GP) },
	{ "rdtsc", BYTES(0x0f, 0x31), EXIT_RDTSC, 0, GOES_ON },
	{ "rdtscp", BYTES(0x0f, 0x01, 0xf9), EXIT_RDTSCP, 0, GOES_ON },
	{ "rdpmc", BYTES(0x0f, 0x33), EXIT_RDPMC, 0, NOT_TRIED },
	{ "pushf", BYTES(0x9c), EXIT_PUSHF, 0, GOES_ON },
	{ "pushfw", BYTES(0x66, 0x9c), EXIT_PUSHF, 0, GOES_ON },
	{ "popf", BYTES(0x9d), EXIT_POPF, 0, GOES_ON },
	{ "cpuid", BYTES(0x0f, 0xa2), EXIT_CPUID, 0, GOES_ON },
	{ "cpuid with 7 prefixes", BYTES(0x66, 0x67, 0x2e, 0x36, 0x3e, 0x26, 0x48, 0x0f, 0xa2), EXIT_CPUID, 0,
	  GOES_ON },
	{ "rsm", BYTES(0x0f, 0xaa), EXIT_RSM, 0, RAISES(VEC_UD) },
	{ "iretq", BYTES(0x48, 0xcf), EXIT_IRET, 0, RAISES(VEC_GP) },
	{ "invd", BYTES(0x0f, 0x08), EXIT_INVD, 0, GOES_ON },
	{ "pause", BYTES(0xf3, 0x90), EXIT_PAUSE, 0, GOES_ON },
	{ "hlt", BYTES(0xf4), EXIT_HLT, 0, NOT_TRIED },
	{ "invlpga", BYTES(0x0f, 0x01, 0xdf), EXIT_INVLPGA, 0, GOES_ON },
	{ "vmrun", BYTES(0x0f, 0x01, 0xd8), EXIT_VMRUN, 0, NOT_TRIED },
	{ "vmmcall", BYTES(0x0f, 0x01, 0xd9), EXIT_VMMCALL, 0, RAISES(VEC_UD) },
	{ "vmload", BYTES(0x0f, 0x01, 0xda), EXIT_VMLOAD, 0, NOT_TRIED },
	{ "vmsave", BYTES(0x0f, 0x01, 0xdb), EXIT_VMSAVE, 0, NOT_TRIED },
	{ "stgi", BYTES(0x0f, 0x01, 0xdc), EXIT_STGI, 0, GOES_ON },
	{ "clgi", BYTES(0x0f, 0x01, 0xdd), EXIT_CLGI, 0, GOES_ON },
	{ "skinit", BYTES(0x0f, 0x01, 0xde), EXIT_SKINIT, 0, RAISES(VEC_UD) },
	{ "icebp", BYTES(0xf1), EXIT_ICEBP, 0, NOT_TRIED },
	{ "wbinvd", BYTES(0x0f, 0x09), EXIT_WBINVD, 0, GOES_ON },
	{ "xsetbv", BYTES(0x0f, 0x01, 0xd1), EXIT_XSETBV, 0, GOES_ON },
};

static void start(const u8 *bytes, u32 len)
{
	struct vmcb *v = guest.vmcb;

	guest_reset();
	v->cr4 |= CR4_OSXSAVE;
	/* A page number, for the instructions of SVM that take an address */
	v->rax = v->cr0;
	guest.regs.rbx = v->cr0;
	guest.regs.rdi = v->cr3;
	guest.regs.r8 = v->cr4;
	guest.regs.rcx = guest.regs.rdx = guest.regs.r11 = guest.regs.r12 = 0;
	guest.regs.rsi = 0x400;
	guest.regs.rbp = (u64)guest.data;
	guest_code(bytes, len);
	/* What no exit must leave */
	v->next_rip = v->exit_info_1 = 0x5a5a5a5a5a5a5a5aULL;
	v->insn_len = 0x5a;
}

static bool exited(u64 code, u64 rip, u64 next_rip, u64 info, const char *text)
{
	const struct vmcb *v = guest.vmcb;

	if (ok(v->exit_code == code && v->rip == rip && v->next_rip == next_rip &&
	       v->exit_info_1 == info && !v->insn_len, "%s", text))
		return true;
	note("exit %llx at %llx, nRIP %llx, EXITINFO1 %llx, %u bytes", v->exit_code, v->rip - (u64)guest.code,
	     v->next_rip, v->exit_info_1, v->insn_len);
	return false;
}

static void special_registers(const struct insn *i)
{
	struct vmcb *v = guest.vmcb;

	if (i->code >= EXIT_VMRUN && i->code <= EXIT_CLGI)
		v->rax = (u64)guest.data;
	if (i->code == EXIT_XSETBV)
		v->rax = 1;
}

static void instructions(void)
{
	const u64 rip = (u64)guest.code;

	section("svm intercepts");
	for (u32 n = 0; n < ARRAY_SIZE(insns); n++) {
		const struct insn *i = &insns[n];
		struct vmcb *v = guest.vmcb;

		start(i->bytes, i->len);
		special_registers(i);
		guest_intercept(i->code, true);
		guest_run();
		exited(i->code, rip, rip + i->len, i->info, i->name);
		if (i->otherwise == NOT_TRIED)
			continue;
		/* All but that one; HLT would end the test if VMMCALL were missed. */
		start(i->bytes, i->len);
		special_registers(i);
		memset(v->intercepts, 0xff, sizeof(v->intercepts));
		/* Without the write traps, of which tests/sev.c knows more */
		v->intercepts[EXIT_EFER_TRAP / 32] &= BIT(EXIT_EFER_TRAP % 32) - 1;
		guest_intercept(i->code, false);
		/* MOV is checked against the selective intercept after its own. */
		guest_intercept(EXIT_CR0_SEL_WRITE, false);
		guest_run();
		if (!ok(v->exit_code == i->otherwise &&
			v->rip == rip + (i->otherwise == GOES_ON ? i->len : 0), "%s without its intercept",
			i->name))
			note("exit %llx at %llx", v->exit_code, v->rip - rip);
	}
}

/* A write of CR0 that changes NE, or TS only */
static void selective(void)
{
	static const u8 mov[] = { 0x41, 0x0f, 0x22, 0xc1 };
	const u64 rip = (u64)guest.code;
	struct vmcb *v = guest.vmcb;

	section("svm selective write of CR0");
	start(mov, sizeof(mov));
	guest.regs.r9 = v->cr0 ^ CR0_NE;
	guest_intercept(EXIT_CR0_SEL_WRITE, true);
	guest_run();
	exited(EXIT_CR0_SEL_WRITE, rip, rip + 4, EXITINFO1_MOV_CR | 9, "MOV changes NE");
	start(mov, sizeof(mov));
	guest.regs.r9 = v->cr0 ^ CR0_TS;
	guest_intercept(EXIT_CR0_SEL_WRITE, true);
	guest_run();
	exited(EXIT_VMMCALL, rip + 4, rip + 7, 0, "MOV changes TS");
	is(v->cr0 & CR0_TS, CR0_TS, "TS is set");
	start(mov, sizeof(mov));
	guest.regs.r9 = v->cr0 ^ CR0_NE;
	guest_intercept(EXIT_CR0_SEL_WRITE, true);
	guest_intercept(EXIT_WRITE_CR0, true);
	guest_run();
	exited(EXIT_WRITE_CR0, rip, rip + 4, EXITINFO1_MOV_CR | 9, "the intercept of all writes comes first");
}

static void operands(void)
{
	static const u8 invlpg[] = { 0x64, 0x0f, 0x01, 0x7d, 0x10 };
	static const struct {
		const char *name;
		u8 bytes[8];
		u32 len;
		/* EXITINFO1 without the port */
		u32 info;
	} io[] = {
		{ "in %dx, %al", BYTES(0xec), IOIO_IN | IOIO_SZ(1) | IOIO_A64 },
		{ "addr32 in %dx, %ax", BYTES(0x67, 0x66, 0xed), IOIO_IN | IOIO_SZ(2) | IOIO_A32 },
		{ "out %eax, $0x60", BYTES(0xe7, 0x60), IOIO_SZ(4) | IOIO_A64 },
		{ "outsb", BYTES(0x6e), IOIO_STR | IOIO_SZ(1) | IOIO_A64 | IOIO_SEG(3) },
		{ "gs rep outsl", BYTES(0x65, 0xf3, 0x6f),
		  IOIO_STR | IOIO_REP | IOIO_SZ(4) | IOIO_A64 | IOIO_SEG(5) },
		{ "gs insw", BYTES(0x65, 0x66, 0x6d), IOIO_IN | IOIO_STR | IOIO_SZ(2) | IOIO_A64 },
	};
	static const u8 rdmsr_code[] = { 0x0f, 0x32 }, wrmsr_code[] = { 0x0f, 0x30 };
	const u64 rip = (u64)guest.code;
	struct vmcb *v = guest.vmcb;

	section("svm operands");
	start(invlpg, sizeof(invlpg));
	guest_intercept(EXIT_INVLPG, true);
	guest_run();
	/* VMRUN does not load FS, so its base is the kernel's: 0. */
	exited(EXIT_INVLPG, rip, rip + 5, (u64)guest.data + 16, "INVLPG: linear address");

	for (u32 i = 0; i < ARRAY_SIZE(io); i++) {
		start(io[i].bytes, io[i].len);
		guest.iopm[0x60 / 8] = 1;
		guest.regs.rdx = 0x60;
		guest.regs.rcx = 2;
		guest.regs.rsi = guest.regs.rdi = (u64)guest.data;
		guest_intercept(EXIT_IOIO, true);
		guest_run();
		exited(EXIT_IOIO, rip, rip + io[i].len, 0x60 << 16 | io[i].info, io[i].name);
		is(v->exit_info_2, rip + io[i].len, "EXITINFO2 has the next instruction");
	}

	start(rdmsr_code, sizeof(rdmsr_code));
	guest.msrpm[0] = 1;
	guest_intercept(EXIT_MSR, true);
	guest_run();
	exited(EXIT_MSR, rip, rip + 2, 0, "RDMSR");
	start(wrmsr_code, sizeof(wrmsr_code));
	guest.msrpm[0] = 2;
	guest_intercept(EXIT_MSR, true);
	guest_run();
	exited(EXIT_MSR, rip, rip + 2, 1, "WRMSR");
}

/* 32-bit code has INTO and BOUND, and addresses of 32 bits. */
static void code32(void)
{
	static const u8 into[] = { 0xce }, bound[] = { 0x62, 0x45, 0x00 }, cpuid_code[] = { 0x0f, 0xa2 };
	const u64 rip = (u64)guest.code;
	struct vmcb *v = guest.vmcb;

	section("svm 32-bit code");
	start(into, sizeof(into));
	v->cs.attrib = SEG_CODE32;
	v->rflags |= FL_OF;
	guest_run();
	exited(EXIT_EXCEPTION + 4, rip, rip + 1, 0, "INTO");
	start(into, sizeof(into));
	v->cs.attrib = SEG_CODE32;
	guest_run();
	exited(EXIT_VMMCALL, rip + 1, rip + 4, 0, "INTO without overflow");
	start(into, sizeof(into));
	v->cs.attrib = SEG_CODE32;
	v->rflags |= FL_OF;
	guest_intercept(EXIT_EXCEPTION + 4, false);
	guest_intercept(EXIT_SWINT, true);
	guest_run();
	is(v->exit_code, RAISES(VEC_GP), "INTO has no intercept of a software interrupt");
	start(bound, sizeof(bound));
	v->cs.attrib = SEG_CODE32;
	v->rax = 5;
	guest_run();
	exited(EXIT_EXCEPTION + 5, rip, rip + 3, 0, "BOUND");
	start(cpuid_code, sizeof(cpuid_code));
	v->cs.attrib = SEG_CODE32;
	v->cs.base = rip + 2;
	v->rip = 0xfffffffe;
	guest_intercept(EXIT_CPUID, true);
	guest_run();
	exited(EXIT_CPUID, 0xfffffffe, 0, 0, "nRIP has 32 bits");
}

static void other_exits(void)
{
	static const u8 ud2[] = { 0x0f, 0x0b }, int3[] = { 0xcc };
	const u64 rip = (u64)guest.code;
	struct vmcb *v = guest.vmcb;

	section("svm exits without nRIP");
	start(ud2, sizeof(ud2));
	guest_run();
	exited(RAISES(VEC_UD), rip, 0, 0, "#UD");
	start(int3, sizeof(int3));
	guest_intercept(EXIT_EXCEPTION + 3, false);
	guest_intercept(EXIT_SWINT, true);
	guest_run();
	is(v->exit_code, RAISES(VEC_GP), "INT3 has no intercept of a software interrupt");
	/* No vector can be delivered, with an IDT of limit 0. */
	start(int3, sizeof(int3));
	v->intercepts[EXIT_EXCEPTION / 32] = 0;
	guest_run();
	exited(EXIT_SHUTDOWN, v->rip, 0, 0, "shutdown");
	start(int3, sizeof(int3));
	v->asid = 0;
	guest_run();
	is(v->exit_code, EXIT_INVALID, "a VMRUN that fails");
	is(v->next_rip, 0, "has none");
}

static void bytes(u64 code, const u8 *want, u32 len, const char *text)
{
	const struct vmcb *v = guest.vmcb;

	if (!ok(v->exit_code == code && !v->next_rip && v->insn_len == len &&
		!memcmp(v->insn_bytes, want, len), "%s", text))
		note("exit %llx at %llx, nRIP %llx, %u bytes %x %x", v->exit_code, v->rip, v->next_rip, v->insn_len,
		     v->insn_bytes[0], v->insn_bytes[len ? len - 1 : 0]);
}

/* The bytes of an instruction whose data access has faulted */
static void insn_bytes(void)
{
	/* mov (%r9), %rax; mov %rax, (%r9); then bytes that differ */
	static const u8 load[] = { 0x49, 0x8b, 0x01, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };
	static const u8 store[] = { 0x49, 0x89, 0x01, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };
	static const u8 jump[] = { 0x41, 0xff, 0xe1 };
	/* mov (%ecx), %eax */
	static const u8 load32[] = { 0x8b, 0x01, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13 };
	u8 *absent, *outside, *edge;
	struct vmcb *v = guest.vmcb;
	u64 *table = new_page();

	section("svm instruction bytes");
	absent = map_4k(0, 0, 0);
	/* In the guest's tables, but not in the nested one */
	outside = map_4k(1, 600 * SZ_1G, PTE_ALL);
	start(load, sizeof(load));
	guest.regs.r9 = (u64)absent;
	guest_run();
	bytes(RAISES(VEC_PF), load, 15, "#PF of a load");
	is(v->exit_info_2, (u64)absent, "EXITINFO2 has the address");
	start(store, sizeof(store));
	guest.regs.r9 = (u64)absent;
	guest_run();
	bytes(RAISES(VEC_PF), store, 15, "#PF of a store");
	start(load, sizeof(load));
	guest.regs.r9 = (u64)outside;
	guest_run();
	bytes(EXIT_NPF, load, 15, "nested page fault of a load");
	is(v->exit_info_2, 600 * SZ_1G, "EXITINFO2 has the guest physical address");
	start(store, sizeof(store));
	guest.regs.r9 = (u64)outside;
	guest_run();
	bytes(EXIT_NPF, store, 15, "nested page fault of a store");
	start(load, sizeof(load));
	guest.regs.r9 = (u64)map_table(0, 600 * SZ_1G);
	guest_run();
	bytes(EXIT_NPF, load, 15, "nested page fault of a page table");
	map_table(0, (u64)table);

	start(jump, sizeof(jump));
	guest.regs.r9 = (u64)absent;
	guest_run();
	bytes(RAISES(VEC_PF), NULL, 0, "#PF of a fetch");
	start(jump, sizeof(jump));
	guest.regs.r9 = (u64)outside;
	guest_run();
	bytes(EXIT_NPF, NULL, 0, "nested page fault of a fetch");

	/* The next page can be fetched from, or cannot. */
	edge = map_4k(2, (u64)guest.data, PTE_ALL) + SZ_4K - 5;
	start(load, sizeof(load));
	memcpy(guest.data + SZ_4K - 5, load, 5);
	guest.regs.r9 = (u64)absent;
	v->rip = (u64)edge;
	map_4k(3, 0, 0);
	guest_run();
	bytes(RAISES(VEC_PF), load, 5, "5 bytes before a page that is not present");
	/* Half of the instruction */
	v->rip = (u64)edge + 3;
	memcpy(guest.data + SZ_4K - 2, load, 2);
	guest_run();
	bytes(RAISES(VEC_PF), NULL, 0, "#PF of a fetch that crosses into that page");
	is(v->exit_info_2, (u64)edge + 5, "EXITINFO2 has the second page");
	v->rip = (u64)edge;
	memcpy(guest.data + SZ_4K - 5, load, 5);
	memcpy(guest.stack, load + 5, 10);
	map_4k(3, (u64)guest.stack, PTE_ALL);
	guest_run();
	bytes(RAISES(VEC_PF), load, 15, "bytes from two pages");
	map_4k(3, 600 * SZ_1G, PTE_ALL);
	guest_run();
	bytes(RAISES(VEC_PF), load, 5, "5 bytes before a page that the nested table lacks");

	start(load32, sizeof(load32));
	v->cs.attrib = SEG_CODE32;
	v->cs.base = (u64)guest.code - 0x100;
	v->rip = 0x100;
	guest.regs.rcx = 2 * SZ_1G;
	guest_run();
	bytes(EXIT_NPF, load32, 15, "32-bit code");
	v->cs.limit = 0x106;
	guest_run();
	bytes(EXIT_NPF, load32, 7, "7 bytes up to the limit of CS");
}

static void reserved_bits(void)
{
	/* mov $0x1234, %ebx; mov %rbx, %r10; mov %r9, %cr4 or %cr3 */
	static const u8 code[2][12] = {
		{ 0xbb, 0x34, 0x12, 0, 0, 0x49, 0x89, 0xda, 0x41, 0x0f, 0x22, 0xe1 },
		{ 0xbb, 0x34, 0x12, 0, 0, 0x49, 0x89, 0xda, 0x41, 0x0f, 0x22, 0xd9 },
	};
	const u64 rip = (u64)guest.code;
	struct vmcb *v = guest.vmcb;
	struct regs r;
	u32 vector;

	section("svm reserved bits");
	for (u32 i = 0; i < 2; i++) {
		const char *name = i ? "CR3" : "CR4";
		u64 value;

		start(code[i], sizeof(code[i]));
		value = i ? v->cr3 | BIT(60) : v->cr4 | BIT(31);
		guest.regs.r9 = value;
		guest_run();
		ok(v->exit_code == RAISES(VEC_GP) && v->rip == rip + 8 && !v->next_rip &&
		   guest.regs.rbx == 0x1234 && guest.regs.r10 == 0x1234,
		   "#GP if the guest writes %s, which keeps its registers", name);
		regs_fill(&r);
		r.r9 = value;
		vector = insn_run(code[i], sizeof(code[i]), &r, KERNEL);
		ok(vector == VEC_GP && r.rbx == 0x1234 && r.r10 == 0x1234,
		   "#GP if the host writes %s, which keeps its registers", name);
	}
}

static void virtual_interrupt(void)
{
	static const u8 code[] = { 0x44, 0x0f, 0x22, 0xc0 };
	const u64 rip = (u64)guest.code;
	struct vmcb *v = guest.vmcb;

	section("svm CR8");
	for (u32 tpr = 2; tpr <= 15; tpr += 13) {
		start(code, sizeof(code));
		v->int_ctl = INT_CTL_V_INTR_MASKING | INT_CTL_V_IRQ | INT_CTL_V_INTR_PRIO(5) |
			INT_CTL_V_TPR(15) | 0x55ULL << 32;
		v->rflags |= BIT(9);
		v->rax = tpr;
		guest_intercept(EXIT_VINTR, true);
		guest_run();
		if (tpr == 2)
			exited(EXIT_VINTR, rip + 4, 0, 0, "a write that lets V_IRQ through is followed by it");
		else
			exited(EXIT_VMMCALL, rip + 4, rip + 7, 0, "a write that does not is not");
		is(v->int_ctl & 0xf, tpr, "V_TPR is what was written");
	}
}

struct gate {
	u16 low, selector, type, middle;
	u32 high, rsvd;
};

/* The frame of an injected software interrupt has nRIP, that of a fault has RIP. */
static void injection(void)
{
	static const struct { u32 event; bool next; const char *name; } rows[] = {
		{ EVENTINJ_SOFTWARE | 0x30, true, "software interrupt" },
		{ EVENTINJ_EXCEPTION | 3, true, "#BP" },
		{ EVENTINJ_EXCEPTION | 4, true, "#OF" },
		{ EVENTINJ_EXCEPTION | VEC_UD, false, "#UD" },
	};
	static const u8 nop[] = { 0x90 };
	const u64 rip = (u64)guest.code, handler = rip + 64;
	struct vmcb *v = guest.vmcb;

	section("svm injection");
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		struct gate *gate = (struct gate *)guest.data + (rows[i].event & 0xff);
		const u64 *frame = (const u64 *)(guest.stack + SZ_4K / 2 - 40);

		start(nop, sizeof(nop));
		*gate = (struct gate){ handler, KERNEL_CS, 0x8e00, handler >> 16, handler >> 32, 0 };
		v->idtr.base = (u64)guest.data;
		v->idtr.limit = SZ_4K - 1;
		memcpy(guest.code + 64, guest.code + 1, 3);
		v->event_inj = EVENTINJ_VALID | rows[i].event;
		v->next_rip = rip + 7;
		guest_run();
		exited(EXIT_VMMCALL, handler, handler + 3, 0, rows[i].name);
		is(frame[0], rows[i].next ? rip + 7 : rip, "%s: RIP in the frame", rows[i].name);
	}
}

/* A guest at CPL 3, in 64-bit mode or in 32-bit mode without paging */
static void user_guest(const u8 *code, u32 len, bool legacy)
{
	struct vmcb *v = guest.vmcb;

	start(code, len);
	v->cs = (struct vmcb_seg){ USER_CS, (legacy ? SEG_CODE32 : SEG_CODE64) | SEG_DPL3, ~0U, 0 };
	v->ss = v->ds = v->es = (struct vmcb_seg){ USER_DS, SEG_DATA | SEG_DPL3, ~0U, 0 };
	v->cpl = 3;
	v->idtr.base = (u64)guest.data;
	v->idtr.limit = SZ_4K - 1;
	if (legacy) {
		v->efer &= ~(EFER_LMA | EFER_LME);
		v->cr0 &= ~CR0_PG;
		v->cr4 &= ~CR4_PAE;
	}
}

/* An exception at CPL 3 needs the stack of the TSS. */
static void task_register(void)
{
	/* The type counts in legacy mode only. In 64-bit mode none but a TSS can be loaded by LTR. */
	static const struct { bool legacy; u16 attrib; } rows[] = {
		{ false, 0 }, { false, 0x0b }, { true, 0 }, { true, 0x09 }, { true, 0x82 },
	};
	static const u8 ltr[] = { 0x0f, 0x00, 0xda }, ud2[] = { 0x0f, 0x0b };
	struct vmcb *v = guest.vmcb, *host = new_page(), *bad = new_page();
	const u64 handler = (u64)guest.code + sizeof(ud2);
	struct regs r;

	section("svm task register");
	regs_fill(&r);
	r.rdx = 0;
	is(insn_run(ltr, sizeof(ltr), &r, KERNEL), VEC_GP, "#GP for LTR with a null selector");
	vmsave(host);
	memcpy(bad, host, sizeof(*bad));
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		const bool legacy = rows[i].legacy;
		struct gate *gate = (struct gate *)(guest.data + VEC_UD * (legacy ? 8 : 16));

		user_guest(ud2, sizeof(ud2), legacy);
		*gate = (struct gate){ handler, KERNEL_CS, 0x8e00, handler >> 16, 0, 0 };
		guest_intercept(RAISES(VEC_UD), false);
		bad->tr.attrib = rows[i].attrib;
		vmload(bad);
		guest_run();
		vmload(host);
		is(v->exit_code, RAISES(10), "#TS in %s mode with attributes %x", legacy ? "legacy" : "64-bit",
		   rows[i].attrib);
		is(v->exit_info_1, TSS_SEL, "with the selector");
	}
}

/* DR0 has a linear address. Of that, 32-bit code sees what is above the base of CS. */
static void breakpoints(void)
{
	static const struct { const char *name; u16 attrib; u64 base; bool paging; } rows[] = {
		{ "64-bit code", SEG_CODE64, 0, true },
		{ "32-bit code", SEG_CODE32, 0x100, true },
		{ "no paging", SEG_CODE32, 0x100, false },
	};
	static const u8 nops[] = { 0x90, 0x90, 0x90 };
	const u64 rip = (u64)guest.code;
	struct vmcb *v = guest.vmcb;

	section("svm breakpoints");
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		const u64 base = rows[i].base ? rip - rows[i].base : 0;

		for (u32 on = 0; on < 2; on++) {
			start(nops, sizeof(nops));
			v->cs.attrib = rows[i].attrib;
			v->cs.base = base;
			v->rip = rip - base;
			if (!rows[i].paging) {
				v->efer &= ~(EFER_LMA | EFER_LME);
				v->cr0 &= ~CR0_PG;
				v->cr4 &= ~CR4_PAE;
			}
			v->dr7 = 0x400 | on;
			__asm__ volatile("mov %0, %%dr0" :: "r"(rip + 1));
			guest_run();
			__asm__ volatile("mov %0, %%dr0" :: "r"(0ULL));
			if (on)
				exited(RAISES(1), v->rip, 0, 0, rows[i].name);
			else
				is(v->exit_code, EXIT_VMMCALL, "%s, not enabled", rows[i].name);
			is(v->rip, rip - base + (on ? 1 : 3), "where it should be");
		}
	}
}

/* A guest on its way to long mode, with each of the steps taken or not */
static void modes(void)
{
	static const u8 nop[] = { 0x90 };
	const u64 cr0 = READ_CR(0), cr4 = READ_CR(4), efer = rdmsr(MSR_EFER), rip = (u64)guest.code;
	struct vmcb *v = guest.vmcb;

	section("svm modes");
	for (u32 i = 0; i < 8; i++) {
		const bool invalid = i & 4;

		start(nop, sizeof(nop));
		v->cs.attrib = SEG_CODE32;
		v->cr0 &= ~CR0_PG;
		v->cr4 = i & 1 ? CR4_PAE : 0;
		v->efer = EFER_SVME | (i & 2 ? EFER_LME : 0);
		if (invalid)
			v->asid = 0;
		guest_run();
		if (invalid)
			is(v->exit_code, EXIT_INVALID, "no paging, PAE %u, LME %u, invalid", i & 1, i >> 1 & 1);
		else
			exited(EXIT_VMMCALL, rip + 1, rip + 4, 0, "no paging");
		ok(READ_CR(0) == cr0 && READ_CR(4) == cr4 && rdmsr(MSR_EFER) == efer,
		   "the host has its own, PAE %u, LME %u", i & 1, i >> 1 & 1);
		/* Not to go on without paging */
		__asm__ volatile("mov %0, %%cr0" :: "r"(cr0));
	}
}

void tests_svm(void)
{
	svm_on();
	instructions();
	selective();
	operands();
	code32();
	other_exits();
	insn_bytes();
	reserved_bits();
	virtual_interrupt();
	injection();
	breakpoints();
	modes();
	task_register();
	svm_off();
}
