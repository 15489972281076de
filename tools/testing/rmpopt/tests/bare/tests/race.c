// SPDX-License-Identifier: GPL-2.0-only
/*
 * One vCPU assigns and frees memory without a pause, the others write to it and
 * optimize its region. The sequence number is odd while the memory is assigned for
 * sure: a write done between two looks at the same odd number is a violation.
 */
#include "tests.h"

#define AREA (R0 + 77 * SZ_2M)
#define NR_PAGES 8

static struct {
	volatile u64 seq __aligned(64);
	volatile bool stop __aligned(64);
	u8 *base;
	u64 pages;
	bool optimize;
	/* The last vCPU moves its core's window by one region and back. */
	bool move;
	/* For a machine whose vCPUs share one thread and take turns. */
	bool yield;
} race;

static struct worker {
	u64 done, faults, violations, yes, no, strange;
	volatile u64 rounds;
} __aligned(64) workers[MAX_CPUS];

static bool raw_rmpopt(u64 pa)
{
	bool cf;

	__asm__ volatile(".byte 0xf2, 0x0f, 0x01, 0xfc" : "=@ccc"(cf) : "a"(pa), "c"(0UL) : "memory");
	return cf;
}

static u32 raw_update(u64 pa, const struct rmp_state *s)
{
	u64 rax = pa;

	__asm__ volatile(".byte 0xf2, 0x0f, 0x01, 0xfe" : "+a"(rax) : "c"(s) : "memory", "cc");
	return rax;
}

static u32 raw_psmash(u64 pa)
{
	u64 rax = pa;

	__asm__ volatile(".byte 0xf3, 0x0f, 0x01, 0xff" : "+a"(rax) :: "memory", "cc");
	return rax;
}

static void work(void *unused __unused)
{
	struct cpu *cpu = this_cpu();
	struct worker *w = &workers[cpu->index];
	u32 n = cpu->index;

	while (!race.stop) {
		for (u32 i = 0; i < 16; i++, n++) {
			u8 *p = race.base + n % race.pages * SZ_4K + 64 * cpu->index;
			u64 before = race.seq, after;
			u32 vector;

			barrier();
			vector = try_store(p, n, n / race.pages % (NR_STORES - 1));
			barrier();
			after = race.seq;
			if (vector == NO_TRAP) {
				w->done++;
				if (before & 1 && before == after)
					w->violations++;
			} else if (vector == VEC_PF && cpu->trap.error == (PF_P | PF_W | PF_RMP)) {
				w->faults++;
			} else {
				w->strange++;
			}
		}
		if (race.optimize) {
			if (raw_rmpopt(R0))
				w->yes++;
			else
				w->no++;
			if (race.move)
				raw_rmpopt(R1);
		}
		if (race.move && cpu->index == nr_cpus - 1 && w->rounds % 2)
			try_wrmsr(MSR_RMPOPT_BASE, (w->rounds % 4 == 1 ? SZ_1G : 0) | 1);
		w->rounds++;
		if (race.yield)
			pause();
	}
}

static u64 all_rounds(void)
{
	u64 sum = 0;

	for (u32 i = 1; i < nr_cpus; i++)
		sum += workers[i].rounds;
	return sum;
}

/* Lets the others get somewhere, but does not wait for ever. */
static void linger(u32 rounds)
{
	u64 until = all_rounds() + rounds;

	for (u32 i = 0; i < 2000 && all_rounds() < until; i++)
		pause();
}

enum kind { RACE_4K, RACE_2M, RACE_PSMASH };

static u32 toggle(enum kind kind, u32 i)
{
	struct rmp_state s = { .assigned = 1, .pagesize = kind != RACE_4K, .asid = 1 };
	struct rmp_state none = { .pagesize = kind == RACE_2M };
	u32 rc = 0;

	rc |= raw_update(AREA, &s);
	race.seq++;
	linger(i % 4);
	if (kind == RACE_PSMASH) {
		rc |= raw_psmash(AREA);
		linger(i % 3);
	}
	race.seq++;
	if (kind == RACE_PSMASH) {
		for (u32 k = 0; k < 512; k++)
			rc |= raw_update(AREA + k * SZ_4K, &none);
	} else {
		rc |= raw_update(AREA, &none);
	}
	linger(i % 5);
	return rc;
}

static void one_race(const char *name, enum kind kind, u8 *base, u64 pages, u32 toggles)
{
	struct worker sum = {};
	u32 failed = 0;

	section(name);
	memset(workers, 0, sizeof(workers));
	race.seq = 0;
	race.stop = false;
	race.base = base;
	race.pages = pages;
	race.optimize = has.rmpopt && has.segments;
	barrier();
	for (u32 i = 1; i < nr_cpus; i++)
		start_on(i, work, NULL);
	for (u32 i = 0; i < toggles; i++)
		failed += toggle(kind, i) != 0;
	/* Free for a while, so that all have written. */
	for (u32 i = 0; i < 20; i++)
		linger(10);
	race.stop = true;
	for (u32 i = 1; i < nr_cpus; i++) {
		const struct worker *w = &workers[i];

		wait_for(i);
		print("# %s: vCPU %u wrote %llu, faulted %llu, optimized %llu, not %llu, violations %llu\n",
		      name, i, w->done, w->faults, w->yes, w->no, w->violations);
		sum.done += w->done;
		sum.faults += w->faults;
		sum.violations += w->violations;
		sum.strange += w->strange;
		sum.yes += w->yes;
		sum.no += w->no;
	}
	is(failed, 0, "%u times assigned and freed", toggles);
	is(sum.violations, 0, "no write was done while the page was assigned");
	is(sum.strange, 0, "no other fault");
	ok(sum.done && sum.faults, "the writers have seen both");
	if (race.optimize)
		ok(sum.yes && sum.no, "RMPOPT has seen both");
	is(check_raw(AREA), 0, "all is free");
}

/*
 * All at once on pages of the same 2 MB: each assigns and frees its own, one also
 * tries the whole. Whoever has assigned a page keeps it until it frees it.
 */
static struct {
	u8 *page, *large;
	u32 count;
	volatile u32 ready;
	struct {
		u32 done, overlaps, whole, refused, bad;
	} cpu[MAX_CPUS];
} own;

static void own_page(void *unused __unused)
{
	u32 index = this_cpu()->index;
	u64 offset = (index + 1) * SZ_4K;
	struct rmp_state s = { .assigned = 1, .asid = index + 1 }, none = {}, whole = s, none_2m = {};

	whole.pagesize = 1;
	none_2m.pagesize = 1;
	__atomic_fetch_add(&own.ready, 1, __ATOMIC_SEQ_CST);
	while (own.ready < nr_cpus)
		pause();
	for (u32 i = 0; i < own.count; i++) {
		u32 rc = raw_update(AREA + offset, &s);

		if (rc == RMP_FAIL_OVERLAP) {
			own.cpu[index].overlaps++;
		} else if (rc) {
			own.cpu[index].bad++;
		} else {
			own.cpu[index].done++;
			for (u32 k = 0; k < (index + i) % 4; k++)
				pause();
			own.cpu[index].bad += try_store(own.page + offset, 1, i % (NR_STORES - 1)) != VEC_PF;
			own.cpu[index].bad += try_store(own.large + offset + SZ_2M / 2, 1, STORE_8) != VEC_PF;
			own.cpu[index].bad += *rmp_raw(AREA + offset) != ((index + 1ULL) << 51 | 1);
			own.cpu[index].bad += raw_update(AREA, &whole) != RMP_FAIL_OVERLAP;
			own.cpu[index].bad += raw_update(AREA + offset, &none) != RMP_OK;
		}
		if (index)
			continue;
		rc = raw_update(AREA, &whole);
		if (rc == RMP_FAIL_OVERLAP) {
			own.cpu[index].refused++;
			continue;
		}
		own.cpu[index].whole++;
		own.cpu[index].bad += rc != RMP_OK;
		for (u32 k = 0; k < i % 4; k++)
			pause();
		own.cpu[index].bad += try_store(own.page + offset, 1, STORE_8) != VEC_PF;
		own.cpu[index].bad += raw_update(AREA, &none_2m) != RMP_OK;
	}
}

static void own_pages(u8 *page, u8 *large, u32 count)
{
	u32 bad = 0, done = 0, overlaps = 0;

	section("race of assignments");
	for (u32 i = 0; i < nr_cpus; i++)
		map_4k(i + 1, AREA + (i + 1) * SZ_4K, PTE_ALL);
	memset(&own, 0, sizeof(own));
	own.page = page;
	own.large = large;
	own.count = count;
	for (u32 i = 1; i < nr_cpus; i++)
		start_on(i, own_page, NULL);
	own_page(NULL);
	for (u32 i = 0; i < nr_cpus; i++) {
		wait_for(i);
		bad += own.cpu[i].bad;
		done += own.cpu[i].done;
		overlaps += own.cpu[i].overlaps;
	}
	print("# 4K assigned %u times and refused %u times, 2M %u and %u\n", done, overlaps,
	      own.cpu[0].whole, own.cpu[0].refused);
	is(bad, 0, "nobody lost what it had assigned");
	ok(overlaps + own.cpu[0].refused, "they met");
	ok(done && done + overlaps == nr_cpus * count, "each tried %u times", count);
	is(check_raw(AREA), 0, "all is free");
	is(rmp_raw(AREA)[1], 0, "the number of assigned pages is 0 again");
}

void tests_race(void)
{
	u32 toggles = flag_value("toggles", nr_cpus > 2 ? 200 : 1000);
	u8 *page, *large;

	race.yield = flag_on("yield");
	if (nr_cpus < 2)
		return;
	page = map_4k(0, AREA, PTE_ALL);
	for (u32 i = 1; i < NR_PAGES; i++)
		map_4k(i, AREA + i * SZ_4K, PTE_ALL);
	large = map_2m(0, AREA, PTE_ALL);

	one_race("race 4K", RACE_4K, page, 1, toggles);
	one_race("race 4K, 2M mapping", RACE_4K, large, 512, toggles / 2);
	one_race("race 2M", RACE_2M, page, NR_PAGES, toggles);
	one_race("race 2M, 2M mapping", RACE_2M, large, 512, toggles / 2);
	one_race("race PSMASH", RACE_PSMASH, page, NR_PAGES, toggles / 5);
	if (has.rmpopt && has.segments && rmpopt_base_moves()) {
		race.move = true;
		one_race("race RMPOPT_BASE", RACE_4K, page, 1, toggles);
	}
	own_pages(page, large, toggles / 2);
}
