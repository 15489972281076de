// SPDX-License-Identifier: GPL-2.0-only
/* A random walk, each step of which is compared with the model. */
#include "tests.h"

#define NR_AREAS 4

static const u64 areas[NR_AREAS] = { R0, R0 + 200 * SZ_2M, R0 + 511 * SZ_2M, R1 + 300 * SZ_2M };
static void *pages[NR_AREAS], *large[NR_AREAS];
static u64 seed, seen[5];
static u64 refused, moved;
static u32 bad_reads, bad_writes, writes_done, writes_refused;
static u32 cf_seen[2];
static struct rmp_state buffer;

static u32 rnd(u32 n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (seed >> 33) % n;
}

static u64 rnd_page(u32 area)
{
	/* Few different ones, so that they meet. */
	static const u16 pages_of[] = { 0, 1, 2, 255, 510, 511 };

	return areas[area] + pages_of[rnd(ARRAY_SIZE(pages_of))] * SZ_4K;
}

static void step_update(u32 area)
{
	struct rmp_state s = { .assigned = rnd(2), .pagesize = !rnd(3) };
	u64 pa = rnd_page(area);
	u32 rc;

	if (s.pagesize && rnd(8))
		pa = areas[area];
	if (s.assigned || !rnd(20)) {
		s.gpa = (u64)rnd(1 << 30) << 12;
		s.asid = rnd(0x400);
	}
	if (!rnd(30))
		pa += rnd(SZ_4K);
	if (!rnd(50))
		((u8 *)&s)[rnd(16)] ^= 1 << rnd(8);
	/* An immutable page would stay for ever. */
	s.immutable &= ~1;
	rc = rmpupdate(pa, &s);
	if (rc < ARRAY_SIZE(seen))
		seen[rc]++;
}

static void step_free(u32 area)
{
	u64 pa = areas[area];

	if (free_2m(pa) != RMP_OK)
		free_all_4k(pa);
}

static void step_read(u64 pa)
{
	struct rmp_state want;
	struct outcome out;

	if (!has.rmpread)
		return;
	model_read(pa, &want);
	snp_run(OP_RMPREAD, pa, (u64)&buffer, KERNEL, &out);
	if (out.vector != NO_TRAP || out.rax || memcmp(&buffer, &want, 16)) {
		note("RMPREAD %llx", pa);
		bad_reads++;
	}
}

static void step_write(u32 area, u64 pa, bool big)
{
	u8 *p = big ? (u8 *)large[area] + (pa - areas[area]) : (u8 *)pages[area] + (pa >> 12 & 7) * SZ_4K;
	bool block, optimized;
	u32 vector;

	if (big) {
		block = model_assigned_in_2m(pa);
	} else {
		/* Only eight pages are mapped, from the first. */
		pa = areas[area] + (pa >> 12 & 7) * SZ_4K;
		block = model_assigned(pa);
	}
	/* Only with a table that was kept can these be true together. */
	optimized = model_optimized(this_cpu()->index, pa);
	if (flag_is("rmpopt-disabled-table", "keep")) {
		/* A base that is disabled is no reason to flush. */
		invlpg(p);
		write_violations += optimized && model_assigned(pa);
	}
	block = block && !optimized;
	vector = try_store(p + rnd(500) * 8, seed, rnd(NR_STORES - 1));
	if (vector != (block ? VEC_PF : NO_TRAP)) {
		note("write to %llx%s: vector %u, expected %u", pa, big ? " (2M)" : "", vector,
		     block ? VEC_PF : NO_TRAP);
		bad_writes++;
	}
	if (block)
		writes_refused++;
	else
		writes_done++;
}

static void step_rmpopt(u64 pa)
{
	static const u64 far[] = { 2048 * SZ_1G, 2052 * SZ_1G, 4096 * SZ_1G, BIT(63) };

	if (!rnd(20))
		pa = far[rnd(ARRAY_SIZE(far))];
	cf_seen[rmpopt(ALIGN_DOWN(pa, SZ_1G), !rnd(3))]++;
}

static void step_base(void)
{
	static const u64 values[] = { 0, SZ_1G, R1, 1, 1, 1, SZ_1G | 1, R1 | 1, BIT(12) };
	u64 before = model_rmpopt_base(), value = values[rnd(ARRAY_SIZE(values))];

	set_rmpopt_base(value);
	moved += model_rmpopt_base() != before;
	refused += before & 1 && value != before && value != BIT(12) && model_rmpopt_base() == before;
}

static void back_to_0(void *unused __unused)
{
	/* The second write clears the table. */
	set_rmpopt_base(1);
	set_rmpopt_base(1);
}

static void steps(void *arg)
{
	for (u32 n = *(u32 *)arg; n; n--) {
		u32 area = rnd(NR_AREAS), what = rnd(20);
		u64 pa = rnd_page(area);

		if (what < 6)
			step_update(area);
		else if (what < 7)
			psmash(rnd(4) ? areas[area] : pa);
		else if (what < 8)
			step_free(area);
		else if (what < 10)
			step_read(pa);
		else if (what < 15)
			step_write(area, pa, rnd(2));
		else if (!has.rmpopt || !has.segments)
			continue;
		else if (what < 19)
			step_rmpopt(pa);
		else
			step_base();
	}
}

void tests_random(void)
{
	u32 total = flag_value("steps", 6000), burst = nr_cpus > 1 ? 10 : 100, bad = 0;
	u32 before = bad_model;

	section("random");
	seed = flag_value("seed", 1);
	for (u32 i = 0; i < NR_AREAS; i++) {
		large[i] = map_2m(10 + i, areas[i], PTE_ALL);
		for (u32 k = 0; k < 8; k++) {
			void *p = map_4k(100 + 8 * i + k, areas[i] + k * SZ_4K, PTE_ALL);

			if (!k)
				pages[i] = p;
		}
	}
	for (u32 n = 0; n < total; n += burst)
		run_on(rnd(nr_cpus), steps, &burst);
	for (u32 i = 0; i < NR_AREAS; i++) {
		bad += check_raw(areas[i]);
		step_free(i);
		bad += check_raw(areas[i]);
	}
	if (has.rmpopt && has.segments) {
		ok(rmpopt_base_moves() ? moved && !refused : refused && !moved,
		   "RMPOPT_BASE changed %llu times, and was refused to %llu times", moved, refused);
		run_on_all(back_to_0, NULL);
	}
	is(bad_model - before, 0, "%u steps: results as the model says", total);
	is(bad, 0, "RMP in memory as the model says");
	is(bad_reads, 0, "RMPREAD as the model says");
	is(bad_writes, 0, "%u writes done and %u refused as the model says", writes_done, writes_refused);
	ok(seen[RMP_OK] && seen[RMP_FAIL_INPUT] && seen[RMP_FAIL_OVERLAP] && writes_done && writes_refused,
	   "it has seen all of that");
	if (has.rmpopt && has.segments)
		ok(cf_seen[0] && cf_seen[1], "RMPOPT said no %u times and yes %u times", cf_seen[0],
		   cf_seen[1]);
}
