// SPDX-License-Identifier: GPL-2.0-only
/* What the host may and may not write. */
#include "tests.h"

/* The 2 MB in question, the page in it, and its neighbours. */
#define AREA (R0 + 100 * SZ_2M)
#define PAGE (AREA + 5 * SZ_4K)
#define TABLE (R0 + 110 * SZ_2M)
#define BEHIND (R0 + 111 * SZ_2M)

#define RMP_FAULT (PF_P | PF_W | PF_RMP)

struct store_arg {
	void *p;
	u64 value;
	enum store how;
	u32 vector;
	struct trap trap;
};

static void remote_store(void *arg)
{
	struct store_arg *s = arg;

	s->vector = try_store(s->p, s->value, s->how);
	s->trap = this_cpu()->trap;
}

static u32 store_on(u32 cpu, void *p, u64 value)
{
	struct store_arg s = { .p = p, .value = value };

	run_on(cpu, remote_store, &s);
	return s.vector;
}

static void allowed(void *p, const char *text)
{
	u64 value = 0x1122334455667788ULL ^ (u64)p, got = 0;
	u32 vector = try_store(p, value, STORE_8);

	try_load(p, &got);
	if (!ok(vector == NO_TRAP && got == value, "%s", text))
		note("vector %u error %llx, %llx there", vector, this_cpu()->trap.error, got);
}

static void blocked(void *p, enum store how, const char *text)
{
	const struct trap *t = &this_cpu()->trap;
	u64 old = 1, now = 2, e, cr2;
	u32 vector;

	try_load(p, &old);
	vector = try_store(p, ~old, how);
	e = t->error;
	cr2 = t->cr2;
	try_load(p, &now);
	if (!ok(vector == VEC_PF && e == RMP_FAULT && cr2 == (u64)p && old == now, "%s", text))
		note("vector %u error %llx cr2 %llx for %llx, %llx became %llx", vector, e, cr2, (u64)p,
		     old, now);
}

static void blocked_user(void *p, const char *text)
{
	const struct trap *t = &this_cpu()->trap;
	u64 old = 1, now = 2;
	u32 vector;

	try_load(p, &old);
	vector = try_store_user(p, ~old);
	if (!ok(vector == VEC_PF && t->error == (RMP_FAULT | PF_U) && t->cr2 == (u64)p, "%s", text))
		note("vector %u error %llx cr2 %llx", vector, t->error, t->cr2);
	try_load(p, &now);
	is(now, old, "%s: memory unchanged", text);
}

/* One page assigned, seen through one size of mapping. base maps the GB or less. */
static void one_size(const char *name, u8 *page, u8 *neighbour, u8 *next_area, bool large)
{
	u64 v;

	section(name);
	allowed(page, "a free page can be written");
	allowed(neighbour, "its neighbour too");
	is(assign_4k(PAGE), RMP_OK, "assign it");
	blocked(page, STORE_8, "write faults at once, TLB entry or not");
	blocked(page + 0x128, STORE_8, "CR2 has the offset");
	blocked(page + 0xff8, STORE_1, "last quadword");
	blocked_user(page + 8, "user write: bit 2 as well");
	is(try_load(page, &v), NO_TRAP, "read is allowed");
	is(try_load_user(page, &v), NO_TRAP, "user read is allowed");
	if (large) {
		blocked(neighbour, STORE_8, "neighbour in the same 2M faults through the large mapping");
		blocked_user(neighbour, "so it does for the user");
	} else {
		allowed(neighbour, "neighbour can be written");
	}
	allowed(next_area, "the next 2M can be written");
	is(free_4k(PAGE), RMP_OK, "free it");
	allowed(page, "it can be written again");
	allowed(neighbour, "and its neighbour");
	is(try_store_user(page, 1), NO_TRAP, "and by the user");
}

static void sizes(void)
{
	u8 *p, *q;

	p = map_4k(0, PAGE, PTE_ALL);
	map_4k(1, PAGE + SZ_4K, PTE_ALL);
	q = map_4k(2, AREA + SZ_2M, PTE_ALL);
	one_size("4K mapping", p, p + SZ_4K, q, false);
	p = map_2m(0, AREA, PTE_ALL);
	map_2m(1, AREA + SZ_2M, PTE_ALL);
	one_size("2M mapping", p + (PAGE - AREA), p, p + SZ_2M, true);
	p = map_1g(0, R0, PTE_ALL);
	one_size("1G mapping", p + (PAGE - R0), p + (PAGE - R0) + 100 * SZ_4K, p + (AREA + SZ_2M - R0), true);
	/* The last page of the 2 MB counts for the first as well. */
	section("2M mapping");
	p = map_2m(0, AREA, PTE_ALL);
	assign_4k(AREA + 511 * SZ_4K);
	blocked(p, STORE_8, "the last page alone blocks the first");
	assign_4k(AREA);
	free_4k(AREA + 511 * SZ_4K);
	blocked(p + 511 * SZ_4K, STORE_8, "the first page alone blocks the last");
	free_4k(AREA);
	allowed(p, "all free");
}

/* The C-bit selects the same memory, and is no part of the address for the RMP. */
static void encrypted(void)
{
	u8 *plain = map_4k(0, PAGE, PTE_ALL), *c = map_4k(1, PAGE | BIT(51), PTE_ALL);
	u64 v;

	section("C-bit");
	allowed(c, "a free page can be written");
	try_store(plain, 0x5a5a5a5a, STORE_8);
	try_load(c, &v);
	is(v, 0x5a5a5a5a, "it is the same memory");
	is(assign_4k(PAGE), RMP_OK, "assign it");
	blocked(c, STORE_8, "write faults");
	is(try_load(c, &v), NO_TRAP, "read is allowed");
	is(free_4k(PAGE), RMP_OK, "free it");
	allowed(c, "it can be written again");
}

static void large_entry(void)
{
	u8 *p = map_4k(0, PAGE, PTE_ALL), *large = map_2m(0, AREA, PTE_ALL);
	u8 *last = map_4k(1, AREA + 511 * SZ_4K, PTE_ALL), *next = map_4k(2, AREA + SZ_2M, PTE_ALL);

	section("2M entry");
	allowed(p, "free");
	is(assign_2m(AREA), RMP_OK, "assign");
	blocked(p, STORE_8, "4K mapping of a page inside");
	blocked(last, STORE_8, "4K mapping of the last page");
	blocked(large, STORE_8, "2M mapping");
	blocked(large + 0x123450, STORE_8, "2M mapping, inside");
	allowed(next, "the next 2M can be written");
	is(psmash(AREA), RMP_OK, "PSMASH");
	blocked(p, STORE_8, "4K mapping");
	blocked(large, STORE_8, "2M mapping");
	is(free_4k(PAGE), RMP_OK, "free one page");
	allowed(p, "4K mapping of it can be written");
	blocked(last, STORE_8, "4K mapping of another cannot");
	blocked(large + 5 * SZ_4K, STORE_8, "2M mapping of it cannot");
	is(free_all_4k(AREA), RMP_OK, "free all");
	allowed(large, "2M mapping can be written");
	allowed(last, "4K mapping can be written");
	is(assign_2m(AREA), RMP_OK, "assign 2M");
	is(free_2m(AREA), RMP_OK, "free 2M");
	allowed(large + 0x1ff000, "can be written");
}

static void instructions(void)
{
	u8 *p = map_4k(0, PAGE, PTE_ALL);
	u8 *q = map_4k(1, PAGE + SZ_4K, PTE_ALL);
	const struct trap *t = &this_cpu()->trap;
	u64 *edge = (u64 *)(q - 4);
	u64 v;

	section("instructions");
	for (u32 i = 0; i < NR_STORES; i++) {
		is(try_store(p, 3, i), NO_TRAP, "%s into a free page", store_names[i]);
		assign_4k(PAGE);
		blocked(p + 0x40, i, store_names[i]);
		free_4k(PAGE);
	}
	assign_4k(PAGE);
	map_4k(0, PAGE, PTE_P | PTE_U | PTE_A);
	is(try_store(p, 3, STORE_8), VEC_PF, "assigned and mapped read-only: #PF");
	is(t->error, PF_P | PF_W, "for the mapping, without bit 31");
	map_4k(0, 0, 0);
	is(try_store(p, 3, STORE_8), VEC_PF, "assigned and not mapped: #PF");
	is(t->error, PF_W, "for the mapping, without bit 31");
	map_4k(0, PAGE, PTE_ALL);
	free_4k(PAGE);
	/* RET. */
	p[0x80] = 0xc3;
	assign_4k(PAGE);
	is(try_fetch(p + 0x80), NO_TRAP, "fetch from an assigned page is allowed");
	free_4k(PAGE);

	section("two pages");
	*edge = 0x5555555555555555ULL;
	assign_4k(PAGE + SZ_4K);
	is(try_store(edge, 0, STORE_8), VEC_PF, "the second is assigned: fault");
	is(t->error, RMP_FAULT, "error code");
	is(t->cr2, (u64)q, "CR2 is the start of the second");
	is(*edge, 0x5555555555555555ULL, "nothing was written to the first");
	is(try_store(edge, 0, STORE_MOVS), VEC_PF, "movsq: fault");
	is(*edge, 0x5555555555555555ULL, "movsq: nothing was written to the first");
	is(try_load(edge, &v), NO_TRAP, "read across is allowed");
	free_4k(PAGE + SZ_4K);
	assign_4k(PAGE);
	is(try_store(edge, 0, STORE_8), VEC_PF, "the first is assigned: fault");
	is(t->error, RMP_FAULT, "error code");
	is(t->cr2, (u64)edge, "CR2 is in the first");
	is(*edge, 0x5555555555555555ULL, "nothing was written to the second");
	free_4k(PAGE);
	is(try_store(edge, 7, STORE_8), NO_TRAP, "both free: written");
	is(*edge, 7, "all of it");
}

/* A TLB entry that allowed writes must be gone when RMPUPDATE is done. */
static void other_cpus(void)
{
	u8 *p = map_4k(0, PAGE, PTE_ALL), *large = map_2m(0, AREA, PTE_ALL);
	u32 bad = 0;

	section("other vCPUs");
	for (u32 i = 1; i < nr_cpus; i++)
		bad += store_on(i, p, i) != NO_TRAP || store_on(i, large, i) != NO_TRAP;
	is(bad, 0, "all could write");
	assign_4k(PAGE);
	bad = 0;
	for (u32 i = 1; i < nr_cpus; i++)
		bad += store_on(i, p, i) != VEC_PF || store_on(i, large, i) != VEC_PF;
	is(bad, 0, "none can after the assignment here");
	free_4k(PAGE);
	bad = 0;
	for (u32 i = 1; i < nr_cpus; i++)
		bad += store_on(i, p, i) != NO_TRAP || store_on(i, large, i) != NO_TRAP;
	is(bad, 0, "all can when it is free again");
}

static void table_row(u8 *p, volatile u64 *pte, u64 want_pte, u32 access, u32 want, const char *text)
{
	const struct trap *t = &this_cpu()->trap;
	u64 v, error = RMP_FAULT | (access & 2 ? PF_U : 0);
	u32 vector;

	invlpg(p);
	switch (access) {
	case 0:
		vector = try_load(p, &v);
		break;
	case 1:
		vector = try_store(p, 1, STORE_8);
		break;
	case 2:
		vector = try_load_user(p, &v);
		break;
	default:
		vector = try_store_user(p, 1);
	}
	if (!ok(vector == want && *pte == want_pte &&
		(vector != VEC_PF || (t->error == error && t->cr2 == (u64)p)), "%s", text))
		note("vector %u error %llx cr2 %llx pte %llx", vector, t->error, t->cr2, *pte);
}

/* Accessed and dirty bits are writes to the page table. */
static void accessed_dirty(void)
{
	volatile u64 *pt = phys(TABLE);
	const u64 none = BEHIND | PTE_P | PTE_W | PTE_U, a = none | PTE_A, ad = a | PTE_D;
	u8 *p;

	section("page table");
	memset(phys(TABLE), 0, SZ_4K);
	pt[0] = none;
	pt[1] = a;
	pt[2] = ad;
	p = map_table(2, TABLE);
	is(assign_4k(TABLE), RMP_OK, "assign it");
	table_row(p, pt, none, 0, VEC_PF, "read that would set A faults");
	table_row(p, pt, none, 1, VEC_PF, "write that would set A and D faults");
	table_row(p, pt, none, 2, VEC_PF, "user read that would set A faults");
	table_row(p, pt, none, 3, VEC_PF, "user write that would set A and D faults");
	table_row(p + SZ_4K, pt + 1, a, 0, NO_TRAP, "read with A set is allowed");
	table_row(p + SZ_4K, pt + 1, a, 1, VEC_PF, "write that would set D faults");
	table_row(p + SZ_4K, pt + 1, a, 0, NO_TRAP, "read is allowed after that");
	table_row(p + 2 * SZ_4K, pt + 2, ad, 0, NO_TRAP, "read with A and D set is allowed");
	table_row(p + 2 * SZ_4K, pt + 2, ad, 1, NO_TRAP, "write with A and D set is allowed");
	table_row(p + 2 * SZ_4K, pt + 2, ad, 3, NO_TRAP, "user write with A and D set is allowed");
	is(free_4k(TABLE), RMP_OK, "free it");
	table_row(p, pt, a, 0, NO_TRAP, "read sets A");
	table_row(p, pt, ad, 1, NO_TRAP, "write sets D");
	/* The page behind it is assigned, the table is not: D must not be set in vain. */
	pt[3] = a;
	assign_4k(BEHIND);
	invlpg(p + 3 * SZ_4K);
	is(try_store(p + 3 * SZ_4K, 1, STORE_8), VEC_PF, "write to an assigned page through it faults");
	free_4k(BEHIND);
}

/* The same one level up: entries for a page table and for 2 MB. */
static void directory(void)
{
	volatile u64 *pd = phys(TABLE);
	u64 *pt = new_page();
	const u64 table = (u64)pt | PTE_P | PTE_W | PTE_U;
	const u64 large = AREA | PTE_P | PTE_W | PTE_U | PTE_PS | PTE_A;
	u8 *p;

	section("page directory");
	memset(phys(TABLE), 0, SZ_4K);
	pt[0] = BEHIND | PTE_ALL;
	pd[0] = table;
	pd[1] = large;
	p = map_directory(3, TABLE);
	is(assign_4k(TABLE), RMP_OK, "assign it");
	table_row(p, pd, table, 0, VEC_PF, "read that would set A of a table's entry faults");
	table_row(p, pd, table, 3, VEC_PF, "user write that would set it faults");
	table_row(p + SZ_2M, pd + 1, large, 0, NO_TRAP, "read of 2M with A set is allowed");
	table_row(p + SZ_2M, pd + 1, large, 1, VEC_PF, "write that would set D of 2M faults");
	is(free_4k(TABLE), RMP_OK, "free it");
	table_row(p, pd, table | PTE_A, 1, NO_TRAP, "write sets A of the table's entry");
	table_row(p + SZ_2M, pd + 1, large | PTE_D, 1, NO_TRAP, "write sets D of 2M");
	map_directory(3, 0);
}

static void rmp_memory(void)
{
	u8 *p = map_4k(0, rmp_base, PTE_ALL);
	u8 *q = map_4k(1, ALIGN_DOWN((u64)rmp_raw(R0), SZ_4K), PTE_ALL);
	u64 v;

	section("rmp memory");
	blocked(p, STORE_8, "first page");
	blocked_user(p + 0x10, "first page, user");
	blocked(q, STORE_8, "page with entries");
	blocked(q + 0x10, STORE_XADD, "page with entries, lock xadd");
	blocked(map_4k(2, rmp_memory_end - SZ_4K, PTE_ALL), STORE_8, "last page");
	blocked(phys(rmp_base + 0x4000), STORE_8, "through the 1G mapping");
	is(try_load(q, &v), NO_TRAP, "read is allowed");
}

void tests_fault(void)
{
	sizes();
	encrypted();
	large_entry();
	instructions();
	other_cpus();
	accessed_dirty();
	directory();
	rmp_memory();
	section("faults");
	is(check_raw(AREA), 0, "no entry was left behind");
}
