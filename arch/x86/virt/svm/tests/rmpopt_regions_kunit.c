// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of the bookkeeping of RMPOPT regions.
 */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched.h>

#include "../rmpopt_regions.h"

#define GB		((u64)SZ_1G)

/* Not a multiple of the bits in a word, so that the last word has some to spare. */
#define NR_REGIONS	200

static int regions_test_init(struct kunit *test)
{
	struct rmpopt_regions *r;

	r = kunit_kzalloc(test, sizeof(*r), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, r);

	r->nr = NR_REGIONS;
	r->reach = kunit_kcalloc(test, BITS_TO_LONGS(NR_REGIONS), sizeof(long), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, r->reach);
	r->stale = kunit_kcalloc(test, BITS_TO_LONGS(NR_REGIONS), sizeof(long), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, r->stale);
	r->todo = kunit_kcalloc(test, BITS_TO_LONGS(NR_REGIONS), sizeof(long), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, r->todo);
	bitmap_fill(r->reach, NR_REGIONS);
	test->priv = r;

	return 0;
}

/* Expect that these regions are left to do, and no others, and do them. */
static void expect_todo(struct kunit *test, const unsigned int *regions, unsigned int nr)
{
	struct rmpopt_regions *r = test->priv;
	unsigned int i;

	KUNIT_EXPECT_EQ(test, bitmap_weight(r->todo, NR_REGIONS), nr);
	for (i = 0; i < nr; i++)
		KUNIT_EXPECT_TRUE(test, test_bit(regions[i], r->todo));

	bitmap_zero(r->todo, NR_REGIONS);
}

static void expect_taken(struct kunit *test, const unsigned int *regions, unsigned int nr)
{
	rmpopt_take_stale(test->priv);
	expect_todo(test, regions, nr);
}

#define EXPECT_TODO(test, ...)							\
	expect_todo(test, (const unsigned int []) { __VA_ARGS__ }, COUNT_ARGS(__VA_ARGS__))

#define EXPECT_TAKEN(test, ...)							\
	expect_taken(test, (const unsigned int []) { __VA_ARGS__ }, COUNT_ARGS(__VA_ARGS__))

struct mark_case {
	const char *name;
	u64 pa;
	bool inside;
};

static const struct mark_case mark_cases[] = {
	{ "first page",			0,				true },
	{ "last page of a region",	8 * GB - SZ_4K,			true },
	{ "first page of a region",	8 * GB,				true },
	{ "last page",			NR_REGIONS * GB - SZ_4K,	true },
	{ "page after the end",		NR_REGIONS * GB,		false },
	{ "far beyond the end",		(BIT_ULL(32) + 1) * GB,		false },
	{ "highest page",		U64_MAX & ~(u64)(SZ_4K - 1),	false },
};

KUNIT_ARRAY_PARAM_DESC(mark, mark_cases, name);

static void test_mark(struct kunit *test)
{
	const struct mark_case *mc = test->param_value;
	struct rmpopt_regions *r = test->priv;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		/* Only the first mark tells the caller to do something about it. */
		KUNIT_EXPECT_EQ(test, rmpopt_mark_stale(r, mc->pa), mc->inside);
		KUNIT_EXPECT_FALSE(test, rmpopt_mark_stale(r, mc->pa));

		if (mc->inside)
			EXPECT_TAKEN(test, mc->pa / GB);
		EXPECT_TAKEN(test);
	}
}

static void test_take_all(struct kunit *test)
{
	static const unsigned int regions[] = { 0, 1, 62, 63, 64, 65, 127, 128, 198, 199 };
	struct rmpopt_regions *r = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(regions); i++)
		KUNIT_EXPECT_TRUE(test, rmpopt_mark_stale(r, regions[i] * GB));

	expect_taken(test, regions, ARRAY_SIZE(regions));
}

/* What is out of reach keeps its mark. */
static void test_take_in_reach(struct kunit *test)
{
	struct rmpopt_regions *r = test->priv;
	unsigned int region;

	for (region = 99; region <= 103; region++)
		KUNIT_EXPECT_TRUE(test, rmpopt_mark_stale(r, region * GB));

	bitmap_zero(r->reach, NR_REGIONS);
	EXPECT_TAKEN(test);
	bitmap_set(r->reach, 100, 3);
	EXPECT_TAKEN(test, 100, 101, 102);
	bitmap_fill(r->reach, NR_REGIONS);
	EXPECT_TAKEN(test, 99, 103);
}

/* A region that is marked once marks have been taken is left to the next pass. */
static void test_mark_during_pass(struct kunit *test)
{
	struct rmpopt_regions *r = test->priv;

	rmpopt_mark_stale(r, 3 * GB);
	rmpopt_mark_stale(r, 30 * GB);
	rmpopt_take_stale(r);

	KUNIT_EXPECT_TRUE(test, rmpopt_mark_stale(r, 3 * GB));
	KUNIT_EXPECT_TRUE(test, rmpopt_mark_stale(r, 31 * GB));
	EXPECT_TODO(test, 3, 30);

	EXPECT_TAKEN(test, 3, 31);
}

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
		WRITE_ONCE(m->value[i % MARKED_REGIONS], i);
		rmpopt_mark_stale(m->r, i % MARKED_REGIONS * GB);
		cond_resched();
	}
	complete(&m->done);

	return 0;
}

/*
 * Whatever is written before a mark is set is seen by the pass on another CPU that
 * takes the mark, or by one that follows.
 */
static void test_concurrent_marks(struct kunit *test)
{
	struct marker m = { .r = test->priv };
	unsigned int seen[MARKED_REGIONS] = {}, region, i;
	struct task_struct *task;
	bool done;

	init_completion(&m.done);
	task = kthread_run(mark_many, &m, "rmpopt_regions");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));

	do {
		done = completion_done(&m.done);
		rmpopt_take_stale(m.r);
		for_each_set_bit(region, m.r->todo, NR_REGIONS)
			seen[region] = READ_ONCE(m.value[region]);
		bitmap_zero(m.r->todo, NR_REGIONS);
		cond_resched();
	} while (!done);

	wait_for_completion(&m.done);
	for (i = 0; i < MARKED_REGIONS; i++)
		KUNIT_EXPECT_EQ(test, seen[i], m.value[i]);
}

static struct kunit_case regions_test_cases[] = {
	KUNIT_CASE_PARAM(test_mark, mark_gen_params),
	KUNIT_CASE(test_take_all),
	KUNIT_CASE(test_take_in_reach),
	KUNIT_CASE(test_mark_during_pass),
	KUNIT_CASE_SLOW(test_concurrent_marks),
	{}
};

static struct kunit_suite regions_test_suite = {
	.name = "snp_rmpopt_regions",
	.init = regions_test_init,
	.test_cases = regions_test_cases,
};

kunit_test_suite(regions_test_suite);

MODULE_DESCRIPTION("KUnit tests of the bookkeeping of RMPOPT regions");
MODULE_LICENSE("GPL");
