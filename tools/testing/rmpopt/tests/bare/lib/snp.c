// SPDX-License-Identifier: GPL-2.0-only
/* The SNP instructions, the RMP in memory, and what CPUID says of them. */
#include "snp.h"

/* An entry of the segment table; the size is in GB of memory. */
#define RST_BASE 0xffffffff00000ULL
#define RST_MAPPED 0xfffffULL

const u8 op_bytes[NR_OPS][4] = {
	[OP_RMPUPDATE] = { 0xf2, 0x0f, 0x01, 0xfe },
	[OP_PSMASH] = { 0xf3, 0x0f, 0x01, 0xff },
	[OP_RMPREAD] = { 0xf2, 0x0f, 0x01, 0xfd },
	[OP_RMPOPT] = { 0xf2, 0x0f, 0x01, 0xfc },
	[OP_PVALIDATE] = { 0xf2, 0x0f, 0x01, 0xff },
	[OP_RMPADJUST] = { 0xf3, 0x0f, 0x01, 0xfe },
	[OP_RMPQUERY] = { 0xf3, 0x0f, 0x01, 0xfd },
};

const char *const op_names[NR_OPS] = {
	"RMPUPDATE", "PSMASH", "RMPREAD", "RMPOPT", "PVALIDATE", "RMPADJUST", "RMPQUERY"
};

struct features has;
u32 bad_regs, bad_flags, bad_model;
u64 rmp_base, rmp_end, rmp_cfg, rmp_memory_end;
/* Copied, so that a broken emulator may overwrite it. */
static u64 rst[512];

void snp_detect(void)
{
	u32 r[4], max;
	u64 v;

	cpuid(0x80000000, 0, r);
	max = r[0];
	if (max >= 0x8000001f) {
		cpuid(0x8000001f, 0, r);
		has.snp = r[0] & BIT(4);
		has.rmpread = r[0] & BIT(21);
		has.segmented = r[0] & BIT(23);
	}
	if (max >= 0x80000025) {
		cpuid(0x80000025, 0, r);
		has.rmpopt = r[3] & BIT(0);
	}
	if (!has.snp)
		return;
	rmp_base = rdmsr(MSR_RMP_BASE);
	rmp_end = rdmsr(MSR_RMP_END);
	if (has.segmented && try_rdmsr(MSR_RMP_CFG, &v) == NO_TRAP)
		rmp_cfg = v;
	has.segments = rmp_cfg & 1;
	has.rmp = rmp_base && (has.segments || rmp_end);
	if (!has.rmp)
		return;

	rmp_memory_end = rmp_end + 1;
	if (has.segments) {
		memcpy(rst, phys(rmp_base + 0x4000), sizeof(rst));
		rmp_memory_end = rmp_base + 0x5000;
		for (u32 i = 0; i < 512; i++) {
			u64 end = (rst[i] & RST_BASE) + (rst[i] & RST_MAPPED) * (SZ_1G / 256);

			if (rst[i] && end > rmp_memory_end)
				rmp_memory_end = end;
		}
	}
}

volatile u64 *rmp_raw(u64 pa)
{
	u64 entry;

	if (has.segments) {
		u32 shift = rmp_cfg >> 8 & 0x3f;
		u64 index = pa >> shift, offset = pa & (BIT(shift) - 1);

		if (index >= 512 || offset >> 30 >= (rst[index] & RST_MAPPED))
			return NULL;
		entry = (rst[index] & RST_BASE) + (offset >> 12) * 16;
	} else {
		entry = rmp_base + 0x4000 + (pa >> 12) * 16;
		if (entry + 15 > rmp_end)
			return NULL;
	}
	return phys(entry);
}

bool rmp_covers(u64 pa, u64 size)
{
	return rmp_raw(pa) && rmp_raw(pa + size - 1);
}

bool is_rmp_memory(u64 pa, u64 size)
{
	return pa < rmp_memory_end && pa + size > rmp_base;
}

bool snp_enabled(void)
{
	return rdmsr(MSR_SYSCFG) & SYSCFG_SNP_EN;
}

void snp_enable(void *unused __unused)
{
	if (try_wrmsr(MSR_SYSCFG, rdmsr(MSR_SYSCFG) | SYSCFG_VMPL_EN | SYSCFG_SNP_EN) != NO_TRAP)
		bail_out("SNP_EN cannot be set");
}

static u64 result_flags(u32 eax)
{
	u64 fl = 0;

	if (!eax)
		fl |= FL_ZF;
	if (eax >> 31)
		fl |= FL_SF;
	if (!__builtin_parity(eax & 0xff))
		fl |= FL_PF;
	return fl;
}

/* Alternates between all flags set and all clear before the instruction. */
u32 snp_run(enum op op, u64 rax, u64 rcx, enum mode mode, struct outcome *out)
{
	static u32 turn;
	struct regs in, regs;
	struct cpu *cpu = this_cpu();
	const char *differ;
	u64 want;

	regs_fill(&in);
	in.rax = rax;
	in.rcx = rcx;
	in.rflags = 2 | (__atomic_fetch_add(&turn, 1, __ATOMIC_RELAXED) & 1 ? FL_STATUS : 0);
	regs = in;
	out->vector = insn_run(op_bytes[op], 4, &regs, mode);
	out->trap = cpu->trap;
	out->rax = regs.rax;
	out->cf = regs.rflags & FL_CF;
	if (mode == COMPAT)
		return out->vector;

	differ = regs_differ(&regs, &in);
	if (differ) {
		note("%s changed %s", op_names[op], differ);
		bad_regs++;
	}
	if (out->vector != NO_TRAP) {
		want = in.rflags;
		if (regs.rax != in.rax) {
			note("%s changed RAX on a fault", op_names[op]);
			bad_regs++;
		}
	} else if (op == OP_RMPOPT) {
		want = (in.rflags & ~FL_CF) | (regs.rflags & FL_CF);
		if (regs.rax != in.rax) {
			note("RMPOPT changed RAX");
			bad_regs++;
		}
	} else {
		want = 2 | (in.rflags & FL_CF) | result_flags(regs.rax);
		if (regs.rax >> 32) {
			note("%s left %llx in RAX", op_names[op], regs.rax);
			bad_regs++;
		}
	}
	if ((regs.rflags & (FL_STATUS | FL_DF)) != (want & (FL_STATUS | FL_DF))) {
		note("%s(%llx, %llx): flags %llx became %llx, expected %llx", op_names[op], rax, rcx,
		     in.rflags, regs.rflags, want);
		bad_flags++;
	}
	return out->vector;
}
