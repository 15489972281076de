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
	r->stale = kunit_kcalloc(test, BITS_TO_LONGS(NR_REGIONS), sizeof(long), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, r->stale);
	test->priv = r;

	return 0;
}

/* Expect that the regions below @end from @next on are taken in this order. */
static void expect_taken(struct kunit *test, unsigned int next, unsigned int end,
			 const unsigned int *regions, unsigned int nr)
{
	struct rmpopt_regions *r = test->priv;
	unsigned int i;

	for (i = 0; i < nr; i++, next++) {
		KUNIT_ASSERT_TRUE(test, rmpopt_take_stale(r, &next, end));
		KUNIT_EXPECT_EQ(test, next, regions[i]);
	}

	KUNIT_EXPECT_FALSE(test, rmpopt_take_stale(r, &next, end));
	KUNIT_EXPECT_EQ(test, next, end);
}

#define EXPECT_TAKEN(test, next, end, ...)					\
	expect_taken(test, next, end, (const unsigned int []) { __VA_ARGS__ },	\
		     COUNT_ARGS(__VA_ARGS__))

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
			EXPECT_TAKEN(test, 0, NR_REGIONS, mc->pa / GB);
		EXPECT_TAKEN(test, 0, NR_REGIONS);
	}
}

static void test_take_in_order(struct kunit *test)
{
	static const unsigned int regions[] = { 0, 1, 62, 63, 64, 65, 127, 128, 198, 199 };
	struct rmpopt_regions *r = test->priv;
	unsigned int i;

	for (i = ARRAY_SIZE(regions); i > 0; i--)
		KUNIT_EXPECT_TRUE(test, rmpopt_mark_stale(r, regions[i - 1] * GB));

	expect_taken(test, 0, NR_REGIONS, regions, ARRAY_SIZE(regions));
}

/* What is not between the two ends keeps its mark. */
static void test_take_between(struct kunit *test)
{
	struct rmpopt_regions *r = test->priv;
	unsigned int region;

	for (region = 99; region <= 103; region++)
		rmpopt_mark_stale(r, region * GB);

	EXPECT_TAKEN(test, 100, 100);
	EXPECT_TAKEN(test, 100, 103, 100, 101, 102);
	EXPECT_TAKEN(test, 0, NR_REGIONS, 99, 103);
}

/* A region that is marked behind a pass is left to the next one. */
static void test_mark_during_pass(struct kunit *test)
{
	struct rmpopt_regions *r = test->priv;
	unsigned int next = 0;

	rmpopt_mark_stale(r, 3 * GB);
	rmpopt_mark_stale(r, 30 * GB);
	KUNIT_EXPECT_TRUE(test, rmpopt_take_stale(r, &next, NR_REGIONS));
	KUNIT_EXPECT_EQ(test, next, 3);

	/* It has been taken, so this is another mark, but not that of one ahead. */
	KUNIT_EXPECT_TRUE(test, rmpopt_mark_stale(r, 3 * GB));
	KUNIT_EXPECT_FALSE(test, rmpopt_mark_stale(r, 30 * GB));
	KUNIT_EXPECT_TRUE(test, rmpopt_mark_stale(r, 31 * GB));

	EXPECT_TAKEN(test, next + 1, NR_REGIONS, 30, 31);
	EXPECT_TAKEN(test, 0, NR_REGIONS, 3);
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
	unsigned int seen[MARKED_REGIONS] = {}, next, i;
	struct task_struct *task;
	bool done;

	init_completion(&m.done);
	task = kthread_run(mark_many, &m, "rmpopt_regions");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));

	do {
		done = completion_done(&m.done);
		for (next = 0; rmpopt_take_stale(m.r, &next, NR_REGIONS); next++)
			seen[next] = READ_ONCE(m.value[next]);
		cond_resched();
	} while (!done);

	wait_for_completion(&m.done);
	for (i = 0; i < MARKED_REGIONS; i++)
		KUNIT_EXPECT_EQ(test, seen[i], m.value[i]);
}

static struct kunit_case regions_test_cases[] = {
	KUNIT_CASE_PARAM(test_mark, mark_gen_params),
	KUNIT_CASE(test_take_in_order),
	KUNIT_CASE(test_take_between),
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
