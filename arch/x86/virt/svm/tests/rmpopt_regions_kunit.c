// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for the bookkeeping of RMPOPT regions in rmpopt.c.
 */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/prandom.h>
#include <linux/sched.h>

#include "../rmpopt.h"

#define GB	((u64)SZ_1G)
#define TB	((u64)SZ_1T)

static int regions_test_init(struct kunit *test)
{
	test->priv = kunit_kzalloc(test, sizeof(struct rmpopt_regions), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, test->priv);
	rmpopt_reset_regions(test->priv, 0);

	return 0;
}

/* Add @nr regions from @pa on, each of which must not have been marked. */
static void add_ram(struct kunit *test, u64 pa, unsigned int nr)
{
	struct rmpopt_regions *r = test->priv;

	for (; nr; nr--, pa += GB)
		KUNIT_EXPECT_TRUE(test, rmpopt_add_ram(r, pa));
}

/* All that a pass would visit. Returns the number of regions. */
static unsigned int take_all(struct kunit *test)
{
	struct rmpopt_regions *r = test->priv;
	unsigned int next = 0, nr = 0;
	struct rmpopt_batch batch;

	while (rmpopt_take_batch(r, &next, &batch)) {
		KUNIT_EXPECT_GT(test, batch.nr, 0);
		KUNIT_EXPECT_LE(test, batch.nr, RMPOPT_BATCH);
		nr += batch.nr;
	}
	KUNIT_EXPECT_EQ(test, batch.nr, 0);

	return nr;
}

static void expect_next_pa(struct kunit *test, unsigned int *next, u64 pa)
{
	struct rmpopt_regions *r = test->priv;
	u64 got;

	KUNIT_EXPECT_TRUE(test, rmpopt_next_optimized(r, next, &got));
	KUNIT_EXPECT_EQ(test, got, pa);
}

static void expect_no_next_pa(struct kunit *test, unsigned int next)
{
	struct rmpopt_regions *r = test->priv;
	u64 got;

	KUNIT_EXPECT_FALSE(test, rmpopt_next_optimized(r, &next, &got));
}

static void test_nothing(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, take_all(test), 0);
	expect_no_next_pa(test, 0);
}

struct edge_case {
	const char *name;
	u64 start;
	u64 pa;
	bool inside;
};

static const struct edge_case edge_cases[] = {
	{ "first page",			0,	0,			true },
	{ "last page",			0,	2 * TB - SZ_4K,		true },
	{ "page after the end",		0,	2 * TB,			false },
	{ "far beyond the end",		0,	512 * TB,		false },
	{ "first page, not from 0",	3 * GB,	3 * GB,			true },
	{ "page before the start",	3 * GB,	3 * GB - SZ_4K,		false },
	{ "page 0, not from 0",		3 * GB,	0,			false },
	{ "last page, not from 0",	3 * GB,	2 * TB + 3 * GB - SZ_4K, true },
	{ "after the end, not from 0",	3 * GB,	2 * TB + 3 * GB,	false },
	{ "start beyond 4TB",		5 * TB,	5 * TB + 7 * GB + SZ_2M, true },
	{ "below a start beyond 4TB",	5 * TB,	4 * TB,			false },
};

KUNIT_ARRAY_PARAM_DESC(edge, edge_cases, name);

static void test_edge(struct kunit *test)
{
	const struct edge_case *ec = test->param_value;
	struct rmpopt_regions *r = test->priv;
	struct rmpopt_batch batch;
	unsigned int next = 0;
	u64 region;

	rmpopt_reset_regions(r, ec->start);
	for (region = 0; region < RMPOPT_MAX_REGIONS; region++)
		rmpopt_add_ram(r, ec->start + region * GB);
	KUNIT_EXPECT_EQ(test, take_all(test), RMPOPT_MAX_REGIONS);

	/* Only the first mark tells the caller to do something about it. */
	KUNIT_EXPECT_EQ(test, rmpopt_mark_stale(r, PHYS_PFN(ec->pa)), ec->inside);
	KUNIT_EXPECT_FALSE(test, rmpopt_mark_stale(r, PHYS_PFN(ec->pa)));

	KUNIT_EXPECT_EQ(test, rmpopt_take_batch(r, &next, &batch), ec->inside);
	KUNIT_ASSERT_EQ(test, batch.nr, ec->inside);
	if (ec->inside)
		KUNIT_EXPECT_EQ(test, batch.pa[0], ALIGN_DOWN(ec->pa, GB));

	/* Nor does RAM outside of the table matter. */
	KUNIT_EXPECT_EQ(test, rmpopt_add_ram(r, ALIGN_DOWN(ec->pa, GB)), ec->inside);
	rmpopt_remove_ram(r, ALIGN_DOWN(ec->pa, GB));
	KUNIT_EXPECT_EQ(test, take_all(test), 0);
	KUNIT_EXPECT_EQ(test, bitmap_weight(r->ram, RMPOPT_MAX_REGIONS),
			RMPOPT_MAX_REGIONS - ec->inside);
}

/* The highest PFN there may be, and what wraps around in a product with 4096. */
static void test_pfn_outside(struct kunit *test)
{
	struct rmpopt_regions *r = test->priv;

	rmpopt_reset_regions(r, 4 * GB);
	KUNIT_EXPECT_FALSE(test, rmpopt_mark_stale(r, PHYS_PFN(U64_MAX)));
	KUNIT_EXPECT_FALSE(test, rmpopt_mark_stale(r, PHYS_PFN(4 * GB) - 1));
	KUNIT_EXPECT_TRUE(test, bitmap_empty(r->stale, RMPOPT_MAX_REGIONS));
	rmpopt_remove_ram(r, 0);
	rmpopt_remove_ram(r, 4 * TB);
	KUNIT_EXPECT_FALSE(test, rmpopt_add_ram(r, 0));
	KUNIT_EXPECT_FALSE(test, rmpopt_add_ram(r, 4 * TB));
	KUNIT_EXPECT_TRUE(test, bitmap_empty(r->ram, RMPOPT_MAX_REGIONS));
}

static void test_reset(struct kunit *test)
{
	struct rmpopt_regions *r = test->priv;

	add_ram(test, 0, 20);
	KUNIT_EXPECT_EQ(test, take_all(test), 20);
	rmpopt_set_optimized(r, 7 * GB, true);
	rmpopt_mark_stale(r, PHYS_PFN(5 * GB));

	/* No RAM, hence nothing to visit, whatever has been marked. */
	rmpopt_reset_regions(r, 2 * GB);
	KUNIT_EXPECT_EQ(test, take_all(test), 0);
	expect_no_next_pa(test, 0);

	/* Old marks are gone. */
	KUNIT_EXPECT_TRUE(test, rmpopt_mark_stale(r, PHYS_PFN(7 * GB)));
	rmpopt_add_ram(r, 7 * GB);
	rmpopt_add_ram(r, 8 * GB);
	KUNIT_EXPECT_EQ(test, take_all(test), 2);
}

static void test_ram(struct kunit *test)
{
	struct rmpopt_regions *r = test->priv;
	struct rmpopt_batch batch;
	unsigned int next = 0;

	/* A mark means nothing without RAM, and is not lost by that. */
	KUNIT_EXPECT_TRUE(test, rmpopt_mark_stale(r, PHYS_PFN(3 * GB)));
	KUNIT_EXPECT_EQ(test, take_all(test), 0);
	KUNIT_EXPECT_FALSE(test, rmpopt_add_ram(r, 3 * GB));
	KUNIT_EXPECT_EQ(test, take_all(test), 1);

	/* RAM that is added once more is visited once more. */
	KUNIT_EXPECT_TRUE(test, rmpopt_add_ram(r, 3 * GB));
	KUNIT_EXPECT_EQ(test, take_all(test), 1);

	/* RAM that goes away takes its neighbours nowhere. */
	add_ram(test, 4 * GB, 2);
	rmpopt_remove_ram(r, 4 * GB);
	rmpopt_mark_stale(r, PHYS_PFN(3 * GB));
	KUNIT_EXPECT_TRUE(test, rmpopt_take_batch(r, &next, &batch));
	KUNIT_ASSERT_EQ(test, batch.nr, 2);
	KUNIT_EXPECT_EQ(test, batch.pa[0], 3 * GB);
	KUNIT_EXPECT_EQ(test, batch.pa[1], 5 * GB);
}

static const unsigned int batch_sizes[] = {
	0, 1, 2, RMPOPT_BATCH - 1, RMPOPT_BATCH, RMPOPT_BATCH + 1, 2 * RMPOPT_BATCH - 1,
	2 * RMPOPT_BATCH, 2 * RMPOPT_BATCH + 1, RMPOPT_MAX_REGIONS - 1, RMPOPT_MAX_REGIONS,
};

static void batch_size_desc(const unsigned int *nr, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%u regions", *nr);
}

KUNIT_ARRAY_PARAM(batch, batch_sizes, batch_size_desc);

/* Regions at the end of the table, so that nothing follows them. */
static void test_batch(struct kunit *test)
{
	const unsigned int *nr = test->param_value;
	struct rmpopt_regions *r = test->priv;
	unsigned int next = 0, done = 0, i;
	struct rmpopt_batch batch;
	u64 pa;

	rmpopt_reset_regions(r, 6 * GB);
	pa = 6 * GB + (RMPOPT_MAX_REGIONS - *nr) * GB;
	add_ram(test, pa, *nr);

	while (done < *nr) {
		KUNIT_ASSERT_TRUE(test, rmpopt_take_batch(r, &next, &batch));
		/* No batch but the last one is less than full. */
		KUNIT_ASSERT_EQ(test, batch.nr, min(*nr - done, RMPOPT_BATCH));
		for (i = 0; i < batch.nr; i++, done++, pa += GB)
			KUNIT_EXPECT_EQ(test, batch.pa[i], pa);
	}
	KUNIT_EXPECT_FALSE(test, rmpopt_take_batch(r, &next, &batch));
	KUNIT_EXPECT_EQ(test, batch.nr, 0);

	/* They are gone. */
	KUNIT_EXPECT_EQ(test, take_all(test), 0);
}

/* A pass goes on where it was, what is marked behind it is left to the next one. */
static void test_mark_during_pass(struct kunit *test)
{
	struct rmpopt_regions *r = test->priv;
	struct rmpopt_batch batch;
	unsigned int next = 0;

	add_ram(test, 0, 40);
	KUNIT_EXPECT_TRUE(test, rmpopt_take_batch(r, &next, &batch));

	/* Taken, and thus up to the caller once more. */
	KUNIT_EXPECT_TRUE(test, rmpopt_mark_stale(r, PHYS_PFN(3 * GB)));
	/* Not taken yet. */
	KUNIT_EXPECT_FALSE(test, rmpopt_mark_stale(r, PHYS_PFN(30 * GB)));

	KUNIT_EXPECT_TRUE(test, rmpopt_take_batch(r, &next, &batch));
	KUNIT_EXPECT_EQ(test, batch.pa[0], 16 * GB);
	KUNIT_EXPECT_TRUE(test, rmpopt_take_batch(r, &next, &batch));
	KUNIT_EXPECT_EQ(test, batch.nr, 8);
	KUNIT_EXPECT_FALSE(test, rmpopt_take_batch(r, &next, &batch));

	/* A verdict does not touch the mark. */
	rmpopt_set_optimized(r, 3 * GB, true);
	next = 0;
	KUNIT_EXPECT_TRUE(test, rmpopt_take_batch(r, &next, &batch));
	KUNIT_ASSERT_EQ(test, batch.nr, 1);
	KUNIT_EXPECT_EQ(test, batch.pa[0], 3 * GB);
}

static void test_next_optimized(struct kunit *test)
{
	struct rmpopt_regions *r = test->priv;
	unsigned int next = 0;

	rmpopt_reset_regions(r, 10 * GB);
	add_ram(test, 10 * GB, RMPOPT_MAX_REGIONS);
	take_all(test);
	expect_no_next_pa(test, 0);

	rmpopt_set_optimized(r, 10 * GB, true);
	rmpopt_set_optimized(r, 11 * GB, false);
	rmpopt_set_optimized(r, 13 * GB, true);
	rmpopt_set_optimized(r, 14 * GB, true);
	rmpopt_set_optimized(r, 2 * TB + 9 * GB, true);

	/* To be visited anyway, no RAM any more, and failed since then. */
	rmpopt_set_optimized(r, 20 * GB, true);
	rmpopt_mark_stale(r, PHYS_PFN(20 * GB));
	rmpopt_set_optimized(r, 21 * GB, true);
	rmpopt_remove_ram(r, 21 * GB);
	rmpopt_set_optimized(r, 22 * GB, true);
	rmpopt_set_optimized(r, 22 * GB, false);

	expect_next_pa(test, &next, 10 * GB);
	expect_next_pa(test, &next, 13 * GB);
	/* What gets marked ahead is left out. */
	rmpopt_mark_stale(r, PHYS_PFN(14 * GB));
	expect_next_pa(test, &next, 2 * TB + 9 * GB);
	expect_no_next_pa(test, next);
}

/*
 * Against a reference.
 */

struct reference {
	u64 first;
	bool ram[RMPOPT_MAX_REGIONS];
	bool stale[RMPOPT_MAX_REGIONS];
	bool optimized[RMPOPT_MAX_REGIONS];
};

static unsigned int below(struct rnd_state *rnd, unsigned int ceil)
{
	return prandom_u32_state(rnd) % ceil;
}

/* Mostly inside of the table, at its edges more often than not. */
static u64 random_pa(struct rnd_state *rnd, u64 first)
{
	u64 region = first;

	switch (below(rnd, 4)) {
	case 0:
		region += below(rnd, 40);
		break;
	case 1:
		region += RMPOPT_MAX_REGIONS - 20 + below(rnd, 30);
		break;
	case 2:
		region += below(rnd, RMPOPT_MAX_REGIONS);
		break;
	case 3:
		region = below(rnd, 4 * RMPOPT_MAX_REGIONS);
		break;
	}

	return region * GB;
}

static bool reference_mark(struct reference *ref, u64 pa)
{
	u64 region = pa / GB;
	bool marked;

	if (region < ref->first || region >= ref->first + RMPOPT_MAX_REGIONS)
		return false;

	marked = ref->stale[region - ref->first];
	ref->stale[region - ref->first] = true;

	return !marked;
}

static void reference_set_ram(struct reference *ref, u64 pa, bool ram)
{
	u64 region = pa / GB;

	if (region >= ref->first && region < ref->first + RMPOPT_MAX_REGIONS)
		ref->ram[region - ref->first] = ram;
}

/* A pass, and marks meanwhile. Returns whether all was as expected. */
static bool random_pass(struct rmpopt_regions *r, struct reference *ref, struct rnd_state *rnd)
{
	unsigned int next = 0, pos = 0, i;
	struct rmpopt_batch batch;

	while (rmpopt_take_batch(r, &next, &batch)) {
		for (i = 0; i < batch.nr; i++, pos++) {
			while (pos < RMPOPT_MAX_REGIONS && !(ref->ram[pos] && ref->stale[pos]))
				pos++;
			if (pos == RMPOPT_MAX_REGIONS || batch.pa[i] != (ref->first + pos) * GB)
				return false;

			ref->stale[pos] = false;
			ref->optimized[pos] = below(rnd, 2);
			rmpopt_set_optimized(r, batch.pa[i], ref->optimized[pos]);
		}
		/* Only the last batch may have room. */
		for (i = pos; batch.nr < RMPOPT_BATCH && i < RMPOPT_MAX_REGIONS; i++) {
			if (ref->ram[i] && ref->stale[i])
				return false;
		}

		for (i = below(rnd, 4); i; i--) {
			u64 pa = random_pa(rnd, ref->first);

			if (rmpopt_mark_stale(r, PHYS_PFN(pa)) != reference_mark(ref, pa))
				return false;
		}
		/* Marks behind a batch with room come too late for this pass. */
		if (batch.nr < RMPOPT_BATCH)
			return !rmpopt_take_batch(r, &next, &batch);
	}

	for (; pos < RMPOPT_MAX_REGIONS; pos++) {
		if (ref->ram[pos] && ref->stale[pos])
			return false;
	}

	return true;
}

static bool random_walk(struct rmpopt_regions *r, struct reference *ref)
{
	unsigned int next = 0, pos;
	u64 pa;

	for (pos = 0; pos < RMPOPT_MAX_REGIONS; pos++) {
		if (!ref->optimized[pos] || !ref->ram[pos] || ref->stale[pos])
			continue;
		if (!rmpopt_next_optimized(r, &next, &pa) || pa != (ref->first + pos) * GB)
			return false;
	}

	return !rmpopt_next_optimized(r, &next, &pa);
}

static bool matches(const struct rmpopt_regions *r, const struct reference *ref)
{
	unsigned int i;

	for (i = 0; i < RMPOPT_MAX_REGIONS; i++) {
		if (test_bit(i, r->ram) != ref->ram[i] ||
		    test_bit(i, r->stale) != ref->stale[i] ||
		    test_bit(i, r->optimized) != ref->optimized[i])
			return false;
	}

	return true;
}

#define RANDOM_STEPS	20000

static void test_random(struct kunit *test)
{
	struct rmpopt_regions *r = test->priv;
	const u64 seed = 20260801;
	struct reference *ref;
	struct rnd_state rnd;
	unsigned int step;
	bool ok = true;
	u64 pa;

	ref = kunit_kzalloc(test, sizeof(*ref), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ref);
	kunit_info(test, "seed %llu\n", seed);
	prandom_seed_state(&rnd, seed);

	for (step = 0; step < RANDOM_STEPS && ok; step++) {
		unsigned int op = below(&rnd, 512);

		pa = random_pa(&rnd, ref->first);
		if (op < 1) {
			ref->first = below(&rnd, RMPOPT_MAX_REGIONS);
			memset(ref->ram, 0, sizeof(ref->ram));
			memset(ref->stale, 0, sizeof(ref->stale));
			memset(ref->optimized, 0, sizeof(ref->optimized));
			rmpopt_reset_regions(r, ref->first * GB);
		} else if (op < 8) {
			ok = random_pass(r, ref, &rnd);
		} else if (op < 16) {
			ok = random_walk(r, ref);
		} else if (op < 200) {
			reference_set_ram(ref, pa, true);
			ok = rmpopt_add_ram(r, pa) == reference_mark(ref, pa);
		} else if (op < 300) {
			reference_set_ram(ref, pa, false);
			rmpopt_remove_ram(r, pa);
		} else {
			pa += below(&rnd, SZ_1G);
			ok = rmpopt_mark_stale(r, PHYS_PFN(pa)) == reference_mark(ref, pa);
		}

		if (ok && step % 32 == 0)
			ok = matches(r, ref);
	}

	KUNIT_EXPECT_TRUE_MSG(test, ok, "seed %llu, step %u", seed, step);
	KUNIT_EXPECT_TRUE(test, matches(r, ref));
}

/*
 * A pass on another CPU than those who mark. Whatever is written before a mark is
 * seen by the pass that takes the mark, or by one that follows.
 */

#define MARKED_REGIONS	4
#define NR_MARKS	20000

struct marker {
	struct rmpopt_regions *r;
	unsigned int value[MARKED_REGIONS];
	struct completion done;
};

static int mark_many(void *data)
{
	struct marker *m = data;
	unsigned int i;

	for (i = 1; i <= NR_MARKS; i++) {
		unsigned int region = i % MARKED_REGIONS;

		WRITE_ONCE(m->value[region], i);
		rmpopt_mark_stale(m->r, PHYS_PFN(region * GB));
		cond_resched();
	}
	complete(&m->done);

	return 0;
}

static void test_concurrent_marks(struct kunit *test)
{
	unsigned int seen[MARKED_REGIONS] = {}, next, i;
	struct rmpopt_regions *r = test->priv;
	struct rmpopt_batch batch;
	struct task_struct *task;
	struct marker *m;
	bool done;

	m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m);
	m->r = r;
	add_ram(test, 0, MARKED_REGIONS);
	take_all(test);

	init_completion(&m->done);
	task = kthread_run(mark_many, m, "rmpopt_kunit");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));

	do {
		done = completion_done(&m->done);
		next = 0;
		while (rmpopt_take_batch(r, &next, &batch)) {
			for (i = 0; i < batch.nr; i++)
				seen[batch.pa[i] / GB] = READ_ONCE(m->value[batch.pa[i] / GB]);
		}
		cond_resched();
	} while (!done);

	wait_for_completion(&m->done);
	for (i = 0; i < MARKED_REGIONS; i++)
		KUNIT_EXPECT_EQ(test, seen[i], m->value[i]);
}

static struct kunit_case regions_test_cases[] = {
	KUNIT_CASE(test_nothing),
	KUNIT_CASE_PARAM(test_edge, edge_gen_params),
	KUNIT_CASE(test_pfn_outside),
	KUNIT_CASE(test_reset),
	KUNIT_CASE(test_ram),
	KUNIT_CASE_PARAM(test_batch, batch_gen_params),
	KUNIT_CASE(test_mark_during_pass),
	KUNIT_CASE(test_next_optimized),
	KUNIT_CASE_SLOW(test_random),
	KUNIT_CASE_SLOW(test_concurrent_marks),
	{}
};

static struct kunit_suite regions_test_suite = {
	.name = "snp_rmpopt_regions",
	.init = regions_test_init,
	.test_cases = regions_test_cases,
};

kunit_test_suite(regions_test_suite);
