// SPDX-License-Identifier: GPL-2.0-only
/* The instructions: when they fault, what they return, what they do to the RMP. */
#include "tests.h"

/* A 2 MB area for most of it, one whose pages become immutable, one more. */
#define P (R0 + 64 * SZ_2M)
#define Q (R0 + 65 * SZ_2M)
#define FIXED (R2 + 3 * SZ_2M)

static bool exists(enum op op)
{
	switch (op) {
	case OP_RMPUPDATE:
	case OP_PSMASH:
		return has.snp;
	case OP_RMPREAD:
		return has.rmpread;
	case OP_RMPOPT:
		return has.rmpopt;
	default:
		return false;
	}
}

static u32 run_bytes(const u8 *bytes, u32 len, u64 rax, u64 rcx, enum mode mode)
{
	struct regs r;

	regs_fill(&r);
	r.rax = rax;
	r.rcx = rcx;
	return insn_run(bytes, len, &r, mode);
}

static void decoding(enum op op)
{
	static const u8 wrong[] = { 0x66, 0xf0 };
	const char *name = op_names[op];
	struct rmp_state *s = new_page();
	const u8 *b = op_bytes[op];
	struct outcome out;
	u8 code[8];
	u32 v;

	memset(s, 0, sizeof(*s));
	if (!exists(op)) {
		is(snp_run(op, P, (u64)s, KERNEL, &out), VEC_UD, "%s is #UD", name);
		is(snp_run(op, P, (u64)s, USER, &out), VEC_UD, "%s is #UD at CPL 3, not #GP", name);
		return;
	}
	is(snp_run(op, P, (u64)s, COMPAT, &out), VEC_UD, "%s is #UD outside 64-bit mode", name);
	v = snp_run(op, P, (u64)s, USER, &out);
	ok(v == VEC_GP && !out.trap.error, "%s is #GP(0) at CPL 3", name);
	/* LOCK in front, and once more at CPL 3, where #UD comes first. */
	code[0] = 0xf0;
	memcpy(code + 1, b, 4);
	is(run_bytes(code, 5, P, (u64)s, KERNEL), VEC_UD, "%s is #UD with LOCK", name);
	is(run_bytes(code, 5, P, (u64)s, USER), VEC_UD, "%s is #UD with LOCK at CPL 3", name);
	is(run_bytes(b + 1, 3, P, (u64)s, KERNEL), VEC_UD, "%s is #UD without its prefix", name);
	code[0] = wrong[0];
	memcpy(code + 1, b + 1, 3);
	is(run_bytes(code, 4, P, (u64)s, KERNEL), VEC_UD, "%s is #UD with 66 for its prefix", name);
}

void tests_insn(void)
{
	static const u8 rmpopt_f3[] = { 0xf3, 0x0f, 0x01, 0xfc };
	/* REX.W between prefix and opcode. */
	static const u8 rex[] = { 0xf2, 0x48, 0x0f, 0x01, 0xfe };
	static struct rmp_state s;

	section("decoding");
	for (u32 op = 0; op < NR_OPS; op++)
		decoding(op);
	is(run_bytes(rmpopt_f3, 4, R0, 0, KERNEL), VEC_UD, "F3 0F 01 FC is #UD");
	is(run_bytes(rex, 5, P, (u64)&s, KERNEL), NO_TRAP, "a REX prefix does no harm");
	this_cpu()->counts.rmpupdate++;
	is(check_raw(P), 0, "no entry changed");
}

/* Operands that cannot be read. */
static void update_operands(void)
{
	struct rmp_state s = { .assigned = 1, .asid = 5 };
	u8 *page = new_page(), *const p_page = page;
	u8 *p = map_4k(10, (u64)page, PTE_ALL);
	u64 bad = (u64)map_4k(11, 0, 0);
	struct outcome out;

	section("rmpupdate operand");
	snp_run(OP_RMPUPDATE, P, bad + 0x120, KERNEL, &out);
	ok(out.vector == VEC_PF && out.trap.error == 0 && out.trap.cr2 == bad + 0x120,
	   "#PF(0) when it is not mapped");
	memcpy(p + 0xff8, &s, 8);
	snp_run(OP_RMPUPDATE, P, (u64)p + 0xff8, KERNEL, &out);
	ok(out.vector == VEC_PF && out.trap.error == 0 && out.trap.cr2 == bad,
	   "#PF(0) when its second page is not mapped");
	snp_run(OP_RMPUPDATE, P, 0x800000000000ULL, KERNEL, &out);
	ok(out.vector == VEC_GP && !out.trap.error, "#GP(0) when not canonical");
	is(check_raw(P), 0, "nothing was changed");

	/* Across two pages, both read-only. */
	s.gpa = 0x1234000;
	memcpy(page + 0xff8, &s, 8);
	page = new_page();
	memcpy(page, (u8 *)&s + 8, 8);
	p = map_4k(10, (u64)p_page, PTE_P | PTE_A);
	map_4k(11, (u64)page, PTE_P | PTE_A);
	is(rmpupdate(P, (void *)(p + 0xff8)), RMP_OK, "an operand across two read-only pages is read");
	is(*rmp_raw(P), 0x1234000ULL | 5ULL << 51 | 1, "and taken");
	is(free_4k(P), RMP_OK, "free it");
}

/* What is checked first shows in the code. */
void tests_update(void)
{
	u64 uncovered = 4096 * SZ_1G;
	struct rmp_state s;

	update_operands();

	section("rmpupdate");
	is(update(P, 0, 1, 0, 0, 0), RMP_OK, "assign 4K");
	is(*rmp_raw(P) & 3, 1, "assigned and 4K in memory");
	is(update(P, 0, 0, 0, 0, 0), RMP_OK, "free 4K");
	is(*rmp_raw(P), 0, "the entry is zero");
	is(update(P, 0, 0, 0, 0, 0), RMP_OK, "free 4K that is free");
	is(update(P + SZ_4K, 0x123456000, 1, 0, 0, 0x3ff), RMP_OK, "address and highest ASID");
	is(*rmp_raw(P + SZ_4K), 0x123456000ULL | 0x3ffULL << 51 | 1, "both in memory");
	is(update(P + SZ_4K, 0x7fffffffff000, 1, 0, 0, 1), RMP_OK, "highest address, over an assigned page");
	is(*rmp_raw(P + SZ_4K), 0x7fffffffff000ULL | 1ULL << 51 | 1, "replaced in memory");
	is(check_raw(P), 0, "the neighbours' entries are as they were");
	is(update(P + SZ_4K, 0, 0, 0, 0, 0), RMP_OK, "free it");
	is(update(P + SZ_4K, 0x5000, 0, 0, 0, 0), RMP_OK, "free with an address is no error");
	is(check_raw(P), 0, "all is free");

	section("rmpupdate input");
	is(update(P, 0, 1, 2, 0, 0), RMP_FAIL_INPUT, "page size 2");
	is(update(P, 0, 1, 0xff, 0, 0), RMP_FAIL_INPUT, "page size 255");
	is(update(P + 1, 0, 1, 0, 0, 0), RMP_FAIL_INPUT, "address not a multiple of 4K");
	is(update(P + 0x800, 0, 0, 0, 0, 0), RMP_FAIL_INPUT, "the same, to free");
	is(update(P + SZ_4K, 0, 1, 1, 0, 0), RMP_FAIL_INPUT, "2M address not a multiple of 2M");
	is(update(uncovered, 0, 1, 0, 0, 0), RMP_FAIL_INPUT, "address that the RMP does not cover");
	is(update(BIT(52), 0, 1, 0, 0, 0), RMP_FAIL_INPUT, "address beyond 52 bits");
	is(update(BIT(63) | P, 0, 1, 0, 0, 0), RMP_FAIL_INPUT, "address with bit 63");
	is(update(rmp_base, 0, 1, 0, 0, 0), RMP_FAIL_INPUT, "the RMP's first page");
	is(update(rmp_memory_end - SZ_4K, 0, 1, 0, 0, 0), RMP_FAIL_INPUT, "the RMP's last page");
	is(update(rmp_base, 0, 0, 0, 0, 0), RMP_FAIL_INPUT, "the RMP's first page, to free");
	is(update(ALIGN_DOWN(rmp_base, SZ_2M), 0, 1, 1, 0, 0), RMP_FAIL_INPUT, "2M with the RMP");
	is(update(P, 0, 2, 0, 0, 0), RMP_FAIL_INPUT, "assigned 2");
	is(update(P, 0, 1, 0, 2, 0), RMP_FAIL_INPUT, "immutable 2");
	is(update(P, 0, 1, 0, 0, 0x400), RMP_FAIL_INPUT, "ASID 400h");
	is(update(P, 0, 1, 0, 0, 0x80000001), RMP_FAIL_INPUT, "ASID 80000001h");
	is(update(P, 0, 0, 0, 0, 1), RMP_FAIL_INPUT, "free with an ASID");
	is(update(P, 0, 0, 0, 1, 0), RMP_FAIL_INPUT, "free and immutable");
	is(update(P, 0x800, 1, 0, 0, 1), RMP_FAIL_INPUT, "guest address not a multiple of 4K");
	is(update(P, BIT(51), 1, 0, 0, 1), RMP_FAIL_INPUT, "guest address of 52 bits");
	memset(&s, 0, sizeof(s));
	s.assigned = 1;
	s.rsvd = 1;
	is(rmpupdate(P, &s), RMP_FAIL_INPUT, "reserved byte");
	is(check_raw(P), 0, "nothing was changed");

	section("rmpupdate 2M");
	is(update(P, 0x40000000, 1, 1, 0, 7), RMP_OK, "assign 2M");
	is(*rmp_raw(P), 0x40000000ULL | 7ULL << 51 | 3, "first entry in memory");
	is(*rmp_raw(P + 511 * SZ_4K), 0x401ff000ULL | 7ULL << 51 | 3, "last entry in memory");
	is(check_raw(P), 0, "all 512 entries");
	is(update(P, 0, 1, 1, 0, 8), RMP_OK, "over its own entry");
	is(check_raw(P), 0, "all 512 entries replaced");
	is(update(P, 0, 1, 0, 0, 1), RMP_FAIL_OVERLAP, "4K over a 2M entry, first page");
	is(update(P + 77 * SZ_4K, 0, 1, 0, 0, 1), RMP_FAIL_OVERLAP, "4K over a 2M entry, inside");
	is(update(P + 77 * SZ_4K, 0, 0, 0, 0, 0), RMP_FAIL_OVERLAP, "free 4K in a 2M entry");
	is(update(P + 77 * SZ_4K, 0, 0, 0, 0, 1), RMP_FAIL_INPUT, "input comes before overlap");
	is(check_raw(P), 0, "nothing was changed");
	is(update(P, 0, 0, 1, 0, 0), RMP_OK, "free 2M");
	is(check_raw(P), 0, "all 512 entries zero");
	is(update(P, 0, 0, 1, 0, 0), RMP_OK, "free 2M that is free");
	is(check_raw(P), 0, "the page size is not kept");
	is(update(P + 511 * SZ_4K, 0, 1, 0, 0, 1), RMP_OK, "assign the last 4K");
	is(update(P, 0, 1, 1, 0, 1), RMP_FAIL_OVERLAP, "2M over a 4K entry");
	is(update(P, 0, 0, 1, 0, 0), RMP_FAIL_OVERLAP, "free 2M over a 4K entry");
	is(check_raw(P), 0, "nothing was changed");
	is(update(P + 511 * SZ_4K, 0, 0, 0, 0, 0), RMP_OK, "free the last 4K");
	is(update(P, 0, 1, 1, 0, 1), RMP_OK, "then 2M can be assigned");
	is(update(P, 0, 0, 1, 0, 0), RMP_OK, "and freed");

	section("rmpupdate immutable");
	is(update(FIXED + SZ_4K, 0, 1, 0, 1, 0), RMP_OK, "assign an immutable 4K");
	is(*rmp_raw(FIXED + SZ_4K), 5, "immutable in memory");
	is(update(FIXED + SZ_4K, 0, 0, 0, 0, 0), RMP_FAIL_PERMISSION, "cannot be freed");
	is(update(FIXED + SZ_4K, 0, 1, 0, 1, 0), RMP_FAIL_PERMISSION, "nor set again");
	is(update(FIXED + SZ_4K, 0, 1, 0, 0, 3), RMP_FAIL_PERMISSION, "nor given to a guest");
	is(update(FIXED + SZ_4K, 0, 2, 0, 0, 0), RMP_FAIL_INPUT, "input comes before permission");
	is(update(FIXED, 0, 1, 1, 0, 0), RMP_FAIL_PERMISSION, "2M over it: permission before overlap");
	is(update(FIXED + 2 * SZ_4K, 0, 1, 0, 0, 0), RMP_OK, "its neighbour can be assigned");
	is(update(FIXED + 2 * SZ_4K, 0, 0, 0, 0, 0), RMP_OK, "and freed");
	is(check_raw(FIXED), 0, "entries in memory");
	is(update(FIXED + SZ_2M, 0x200000, 1, 1, 1, 4), RMP_OK, "assign an immutable 2M");
	is(update(FIXED + SZ_2M, 0, 0, 1, 0, 0), RMP_FAIL_PERMISSION, "cannot be freed");
	is(update(FIXED + SZ_2M + 9 * SZ_4K, 0, 1, 0, 0, 0), RMP_FAIL_PERMISSION,
	   "4K in it: permission before overlap");
	is(psmash(FIXED + SZ_2M), RMP_FAIL_PERMISSION, "PSMASH has no permission");
	is(check_raw(FIXED + SZ_2M), 0, "nothing was changed");
}

void tests_psmash(void)
{
	section("psmash");
	is(psmash(P), RMP_FAIL_INPUT, "of a free page");
	is(update(P, 0, 1, 0, 0, 1), RMP_OK, "assign 4K");
	is(psmash(P), RMP_FAIL_INPUT, "of a 4K entry");
	is(update(P, 0, 0, 0, 0, 0), RMP_OK, "free 4K");
	is(update(P, 0x80000000, 1, 1, 0, 9), RMP_OK, "assign 2M");
	is(psmash(P + SZ_4K), RMP_FAIL_INPUT, "address not a multiple of 2M");
	is(psmash(P + 1), RMP_FAIL_INPUT, "address not a multiple of 4K");
	is(psmash(4096 * SZ_1G), RMP_FAIL_INPUT, "address that the RMP does not cover");
	is(psmash(BIT(63) | P), RMP_FAIL_INPUT, "address with bit 63");
	is(check_raw(P), 0, "nothing was changed");
	is(psmash(P), RMP_OK, "of a 2M entry");
	is(check_raw(P), 0, "512 4K entries, the rest kept");
	is(*rmp_raw(P + 3 * SZ_4K), 0x80003000ULL | 9ULL << 51 | 1, "the fourth of them");
	is(psmash(P), RMP_FAIL_INPUT, "once more");
	is(update(P, 0, 0, 1, 0, 0), RMP_FAIL_OVERLAP, "free 2M no longer");
	is(update(P + 5 * SZ_4K, 0, 0, 0, 0, 0), RMP_OK, "free one 4K");
	is(check_raw(P), 0, "the others stay");
	is(free_all_4k(P), RMP_OK, "free all");
	is(check_raw(P), 0, "all are zero");
	is(assign_2m(P), RMP_OK, "2M can be assigned again");
	is(free_2m(P), RMP_OK, "and freed");
	is(update(Q, 0, 0, 1, 0, 0), RMP_OK, "the next 2M was not touched");
}

/* RMPREAD against the model, for one page. */
static void read_row(u64 pa, const char *text)
{
	struct rmp_state *s = new_page(), want;
	u8 *after = (u8 *)(s + 1);
	struct outcome out;

	memset(s, 0xff, 32);
	model_read(pa, &want);
	snp_run(OP_RMPREAD, pa, (u64)s, KERNEL, &out);
	if (!ok(out.vector == NO_TRAP && out.rax == RMP_OK && !memcmp(s, &want, 16) && *after == 0xff,
		"%s", text))
		note("vector %u EAX %llu gpa %llx assigned %u size %u immutable %u rsvd %u asid %x",
		     out.vector, out.rax, s->gpa, s->assigned, s->pagesize, s->immutable, s->rsvd, s->asid);
}

void tests_read(void)
{
	u64 page = (u64)new_page(), bad;
	struct rmp_state *s = (void *)page;
	struct outcome out;
	u8 *p;

	section("rmpread");
	if (!has.rmpread)
		return;
	read_row(P, "a free page");
	update(P + 5 * SZ_4K, 0x7654321000, 1, 0, 0, 0x2aa);
	read_row(P + 5 * SZ_4K, "a 4K page with address and ASID");
	read_row(P + 5 * SZ_4K + 0x123, "low address bits are ignored");
	read_row(P, "region status at the first page");
	read_row(P + 511 * SZ_4K, "region status at the last page");
	read_row(P + SZ_2M, "no region status in the next 2M");
	update(P + 5 * SZ_4K, 0, 0, 0, 0, 0);
	read_row(P, "no region status when it was freed");
	update(P, 0x40000000, 1, 1, 0, 3);
	read_row(P, "2M: first page");
	read_row(P + 300 * SZ_4K, "2M: a page inside");
	psmash(P);
	read_row(P + 300 * SZ_4K, "the same after PSMASH");
	free_all_4k(P);
	read_row(P + 300 * SZ_4K, "the same freed");
	read_row(FIXED + SZ_4K, "immutable");
	read_row(FIXED + SZ_2M + SZ_4K, "immutable 2M");

	memset(s, 0xee, 16);
	snp_run(OP_RMPREAD, 4096 * SZ_1G, page, KERNEL, &out);
	is(out.rax, RMP_FAIL_INPUT, "an address that the RMP does not cover is 1");
	ok(((u8 *)s)[0] == 0xee && ((u8 *)s)[15] == 0xee, "and nothing is written");
	snp_run(OP_RMPREAD, BIT(63) | P, page, KERNEL, &out);
	is(out.rax, RMP_FAIL_INPUT, "an address with bit 63 is 1");

	section("rmpread operand");
	p = map_4k(10, page, PTE_ALL);
	bad = (u64)map_4k(11, 0, 0);
	snp_run(OP_RMPREAD, P, bad + 8, KERNEL, &out);
	ok(out.vector == VEC_PF && out.trap.error == PF_W && out.trap.cr2 == bad + 8,
	   "#PF(W) when it is not mapped");
	memset(p + 0xff0, 0xee, 16);
	snp_run(OP_RMPREAD, P, (u64)p + 0xff8, KERNEL, &out);
	ok(out.vector == VEC_PF && out.trap.error == PF_W && out.trap.cr2 == bad,
	   "#PF(W) when its second page is not mapped");
	is(p[0xff8], 0xee, "nothing was written to the first");
	snp_run(OP_RMPREAD, P, (u64)p + 0xffc, KERNEL, &out);
	ok(out.vector == VEC_PF && out.trap.cr2 == bad && p[0xffc] == 0xee, "the same not aligned");
	p = map_4k(10, page, PTE_P | PTE_U | PTE_A);
	snp_run(OP_RMPREAD, P, (u64)p, KERNEL, &out);
	ok(out.vector == VEC_PF && out.trap.error == (PF_P | PF_W) && out.trap.cr2 == (u64)p,
	   "#PF(P, W) when it is read-only");
	snp_run(OP_RMPREAD, P, 0x800000000000ULL, KERNEL, &out);
	ok(out.vector == VEC_GP && !out.trap.error, "#GP(0) when not canonical");

	/* Into a page that is assigned itself. */
	assign_4k(Q);
	p = map_4k(10, Q, PTE_ALL);
	snp_run(OP_RMPREAD, P, (u64)p + 0x40, KERNEL, &out);
	ok(out.vector == VEC_PF && out.trap.error == (PF_P | PF_W | PF_RMP) &&
	   out.trap.cr2 == (u64)p + 0x40, "RMP fault when it is in an assigned page");
	free_4k(Q);
	snp_run(OP_RMPREAD, P, (u64)p + 0x40, KERNEL, &out);
	is(out.vector, NO_TRAP, "none when that is freed");
}
