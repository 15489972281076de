// SPDX-License-Identifier: GPL-2.0-only
/* Single instructions, and what they do to registers and flags. */
#include "kernel.h"

extern u8 compat_back[];
void snippet_call(struct regs *regs, void *code);
void user_call(u64 a, u64 b, void *fn, u64 user_rsp, u64 *saved_rsp);
void compat_call(u32 rax, u32 rcx, void *code);

const char *const store_names[] = {
	"mov", "mov byte", "lock cmpxchg", "lock xadd", "movsq", "rep stosb", "lock cmpxchg16b"
};

/* Puts code into this vCPU's code page. Unchanged code keeps its translation. */
static u8 *put_code(struct cpu *cpu, const u8 *bytes, u32 len)
{
	u8 *code = (u8 *)cpu + CPU_CODE;

	if (memcmp(code, bytes, len))
		memcpy(code, bytes, len);
	return code;
}

static u64 stack_of_user(struct cpu *cpu)
{
	return (u64)cpu + CPU_USER_STACK;
}

u32 insn_run(const u8 *bytes, u32 len, struct regs *regs, enum mode mode)
{
	struct cpu *cpu = this_cpu();
	u8 all[32];
	u8 *code;

	memcpy(all, bytes, len);
	cpu->trap.vector = NO_TRAP;
	if (mode == COMPAT) {
		u32 target = (u32)(u64)compat_back;
		u16 sel = KERNEL_CS;

		/* ljmp back */
		all[len] = 0xea;
		memcpy(all + len + 1, &target, 4);
		memcpy(all + len + 5, &sel, 2);
		code = put_code(cpu, all, len + 7);
		compat_call(regs->rax, regs->rcx, code);
		return cpu->trap.vector;
	}

	all[len] = 0xc3;
	code = put_code(cpu, all, len + 1);
	cpu->code_len = len;
	if (mode == USER)
		user_call((u64)regs, (u64)code, snippet_call, stack_of_user(cpu), &cpu->saved_rsp);
	else
		snippet_call(regs, code);
	cpu->code_len = 0;
	return cpu->trap.vector;
}

/* Values that no instruction would leave by chance. */
void regs_fill(struct regs *regs)
{
	u64 *r = (u64 *)regs;

	for (u32 i = 0; i < R_RFLAGS / 8; i++)
		r[i] = 0xa5a5000000000000ULL + 0x0101010101ULL * (i + 1);
	regs->rflags = 2;
}

const char *regs_differ(const struct regs *a, const struct regs *b)
{
	static const char *const names[] = {
		"RAX", "RCX", "RDX", "RBX", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12",
		"R13", "R14", "R15"
	};
	const u64 *x = (const u64 *)a, *y = (const u64 *)b;

	for (u32 i = 1; i < ARRAY_SIZE(names); i++) {
		if (x[i] != y[i])
			return names[i];
	}
	return NULL;
}

u32 try_rdmsr(u32 msr, u64 *value)
{
	struct cpu *cpu = this_cpu();
	u32 lo = 0, hi = 0;

	cpu->trap.vector = NO_TRAP;
	__asm__ volatile("1: rdmsr\n2:\n\t" EXTABLE(1b, 2b) : "+a"(lo), "+d"(hi) : "c"(msr) : "memory");
	*value = (u64)hi << 32 | lo;
	return cpu->trap.vector;
}

u32 try_wrmsr(u32 msr, u64 value)
{
	struct cpu *cpu = this_cpu();

	cpu->trap.vector = NO_TRAP;
	__asm__ volatile("1: wrmsr\n2:\n\t" EXTABLE(1b, 2b)
			 :: "a"((u32)value), "d"((u32)(value >> 32)), "c"(msr) : "memory");
	return cpu->trap.vector;
}

u64 rdmsr(u32 msr)
{
	u64 v;

	if (try_rdmsr(msr, &v) != NO_TRAP)
		bail_out("rdmsr %x faults", msr);
	return v;
}

u32 try_store(void *p, u64 value, enum store how)
{
	struct cpu *cpu = this_cpu();
	u64 v = value;

	cpu->trap.vector = NO_TRAP;
	switch (how) {
	case STORE_1:
		__asm__ volatile("1: movb %b1, %0\n2:\n\t" EXTABLE(1b, 2b)
				 : "=m"(*(u8 *)p) : "q"(value) : "memory");
		break;
	case STORE_CMPXCHG: {
		u64 old = *(volatile u64 *)p;

		__asm__ volatile("1: lock cmpxchgq %2, %0\n2:\n\t" EXTABLE(1b, 2b)
				 : "+m"(*(u64 *)p), "+a"(old) : "r"(value) : "memory", "cc");
		break;
	}
	case STORE_XADD:
		v = value - *(volatile u64 *)p;
		__asm__ volatile("1: lock xaddq %1, %0\n2:\n\t" EXTABLE(1b, 2b)
				 : "+m"(*(u64 *)p), "+r"(v) :: "memory", "cc");
		break;
	case STORE_MOVS: {
		void *to = p;
		const void *from = &v;

		__asm__ volatile("1: movsq\n2:\n\t" EXTABLE(1b, 2b)
				 : "+D"(to), "+S"(from) :: "memory");
		break;
	}
	case STORE_STOS: {
		void *to = p;
		u64 n = 8;

		__asm__ volatile("1: rep stosb\n2:\n\t" EXTABLE(1b, 2b)
				 : "+D"(to), "+c"(n) : "a"(value) : "memory");
		break;
	}
	case STORE_CMPXCHG16B: {
		u64 lo = ((volatile u64 *)p)[0], hi = ((volatile u64 *)p)[1];

		__asm__ volatile("1: lock cmpxchg16b (%4)\n2:\n\t" EXTABLE(1b, 2b)
				 : "+a"(lo), "+d"(hi) : "b"(value), "c"(hi), "r"(p)
				 : "memory", "cc");
		break;
	}
	default:
		__asm__ volatile("1: movq %1, %0\n2:\n\t" EXTABLE(1b, 2b)
				 : "=m"(*(u64 *)p) : "r"(value) : "memory");
	}
	return cpu->trap.vector;
}

u32 try_load(const void *p, u64 *value)
{
	struct cpu *cpu = this_cpu();
	u64 v = 0;

	cpu->trap.vector = NO_TRAP;
	__asm__ volatile("1: movq (%1), %0\n2:\n\t" EXTABLE(1b, 2b) : "+r"(v) : "r"(p) : "memory");
	*value = v;
	return cpu->trap.vector;
}

/* mov %rcx, (%rax) */
u32 try_store_user(void *p, u64 value)
{
	static const u8 code[] = { 0x48, 0x89, 0x08 };
	struct regs r;

	regs_fill(&r);
	r.rax = (u64)p;
	r.rcx = value;
	return insn_run(code, sizeof(code), &r, USER);
}

/* mov (%rax), %rcx */
u32 try_load_user(const void *p, u64 *value)
{
	static const u8 code[] = { 0x48, 0x8b, 0x08 };
	struct regs r;
	u32 vector;

	regs_fill(&r);
	r.rax = (u64)p;
	vector = insn_run(code, sizeof(code), &r, USER);
	*value = r.rcx;
	return vector;
}

/* The page must hold a RET, or whatever returns. */
u32 try_fetch(void *p)
{
	static const u8 code[] = { 0xff, 0xd0 };
	struct regs r;

	regs_fill(&r);
	r.rax = (u64)p;
	return insn_run(code, sizeof(code), &r, KERNEL);
}
