// SPDX-License-Identifier: GPL-2.0
/*
 * Changes the RMP from all CPUs at once, as the launch and the teardown of many
 * SNP guests would.
 *
 * Each CPU has pages of its own, from random nodes. It picks one of them at random,
 * and makes it private, or shared if it is private. Half of the pages are in 2MB
 * pages, which are now and then converted as such. The others are neighbours of
 * pages that other CPUs convert, and some of pages that the kernel writes to.
 *
 * All of this happens while the module is loaded. When that is done everything is
 * shared again, and the module can go.
 *
 * Nothing keeps others from ending SNP meanwhile, so nobody should.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/nodemask.h>
#include <linux/percpu.h>
#include <linux/pgtable.h>
#include <linux/prandom.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include <asm/sev.h>

#include "rmp_host.h"

static unsigned int conversions = 10000;
module_param(conversions, uint, 0444);
MODULE_PARM_DESC(conversions, "Conversions on each CPU");

static unsigned int pages = 2048;
module_param(pages, uint, 0444);
MODULE_PARM_DESC(pages, "4KB pages that each CPU converts");

static unsigned int seed;
module_param(seed, uint, 0444);
MODULE_PARM_DESC(seed, "Of the random numbers, 0 for a random one");

/* To whom private pages are assigned. No matter if there is such a guest. */
#define ASID		1

/* 4GB */
#define MAX_PAGES	0x100000

/* How many pages inside of a 2MB page are picked until all of it becomes private. */
#define LARGE_ONE_IN	8

struct storm {
	struct task_struct *task;
	struct rnd_state rnd;
	/* Those in 2MB pages come first. */
	struct page **page;
	unsigned int nr_pages;
	unsigned int nr_large;
	/* By page, and by 2MB page if it is private as a whole. */
	unsigned long *private;
	unsigned long *large_private;
	unsigned long small;
	unsigned long large;
	unsigned long failed;
	unsigned long leaked;
};

static DEFINE_PER_CPU(struct storm, storms);
static struct cpumask storm_cpus;
static atomic_t running;
static DECLARE_COMPLETION(calm);

static u32 pick(struct storm *s, u32 ceiling)
{
	return ((u64)prandom_u32_state(&s->rnd) * ceiling) >> 32;
}

/* Convert the page, or 2MB page, that begins with page @i. */
static bool convert(struct storm *s, unsigned int i, enum pg_level level, bool private)
{
	u64 pfn = page_to_pfn(s->page[i]);
	u64 gpa = (u64)prandom_u32_state(&s->rnd) << PAGE_SHIFT;
	int ret;

	if (private)
		ret = rmp_make_private(pfn, gpa & page_level_mask(level), level, ASID, false);
	else
		ret = rmp_make_shared(pfn, level);

	if (ret) {
		s->failed++;
		return false;
	}

	if (level == PG_LEVEL_2M) {
		__assign_bit(i / PTRS_PER_PMD, s->large_private, private);
		s->large++;
	} else {
		__assign_bit(i, s->private, private);
		s->small++;
	}

	return true;
}

/* Have the pages from @i on, up to but not including @end, shared. */
static bool share(struct storm *s, unsigned int i, unsigned int end)
{
	bool ok = true;

	for_each_set_bit_from(i, s->private, end) {
		if (!convert(s, i, PG_LEVEL_4K, false))
			ok = false;

		cond_resched();
	}

	return ok;
}

static bool share_all(struct storm *s)
{
	bool ok = share(s, 0, s->nr_pages);
	unsigned int large;

	for_each_set_bit(large, s->large_private, s->nr_large) {
		if (!convert(s, large * PTRS_PER_PMD, PG_LEVEL_2M, false))
			ok = false;
	}

	return ok;
}

static bool convert_any(struct storm *s)
{
	unsigned int i = pick(s, s->nr_pages);
	unsigned int large = i / PTRS_PER_PMD, first = large * PTRS_PER_PMD;

	if (large < s->nr_large) {
		if (test_bit(large, s->large_private))
			return convert(s, first, PG_LEVEL_2M, false);

		/* It can become private as a whole if no part of it is. */
		if (!pick(s, LARGE_ONE_IN))
			return share(s, first, first + PTRS_PER_PMD) &&
			       convert(s, first, PG_LEVEL_2M, true);
	}

	return convert(s, i, PG_LEVEL_4K, !test_bit(i, s->private));
}

static int storm_thread(void *arg)
{
	struct storm *s = arg;

	while (s->small + s->large < conversions && !kthread_should_stop()) {
		if (!convert_any(s))
			break;

		cond_resched();
	}

	share_all(s);

	if (atomic_dec_and_test(&running))
		complete(&calm);

	return 0;
}

static struct page *alloc_any_node(struct storm *s, unsigned int order)
{
	unsigned int skip = pick(s, num_node_state(N_MEMORY));
	int n, node = NUMA_NO_NODE;

	for_each_node_state(n, N_MEMORY) {
		node = n;
		if (!skip--)
			break;
	}

	return alloc_pages_node(node, GFP_KERNEL | __GFP_NOWARN | __GFP_RETRY_MAYFAIL, order);
}

static int init_storm(struct storm *s, unsigned int cpu)
{
	prandom_seed_state(&s->rnd, (u64)seed + cpu);

	s->page = kvcalloc(pages, sizeof(*s->page), GFP_KERNEL);
	s->private = bitmap_zalloc(pages, GFP_KERNEL);
	s->large_private = bitmap_zalloc(pages / PTRS_PER_PMD + 1, GFP_KERNEL);

	return s->page && s->private && s->large_private ? 0 : -ENOMEM;
}

static int add_page(struct storm *s)
{
	unsigned int order = 0, i;
	struct page *page;

	if (s->nr_pages + PTRS_PER_PMD <= pages / 2)
		order = PMD_ORDER;
	page = alloc_any_node(s, order);
	if (!page)
		return -ENOMEM;

	/* Each is to be given back on its own. */
	split_page(page, order);
	for (i = 0; i < 1U << order; i++)
		s->page[s->nr_pages++] = page + i;
	if (order)
		s->nr_large++;

	return 0;
}

/*
 * Nobody may ever write to a page that is still private. Inside of a 2MB page only
 * the entry of the first page tells.
 */
static bool must_leak(struct storm *s, unsigned int i, unsigned int *nr)
{
	unsigned int large = i / PTRS_PER_PMD;
	bool assigned;
	int level;

	if (large < s->nr_large && test_bit(large, s->large_private)) {
		*nr = PTRS_PER_PMD;
		return true;
	}

	*nr = 1;
	return snp_lookup_rmpentry(page_to_pfn(s->page[i]), &assigned, &level) || assigned;
}

static void free_storm(struct storm *s)
{
	unsigned int i, nr;

	/* What is left by a thread that has been stopped before it ran. */
	if (s->nr_pages)
		share_all(s);

	for (i = 0; i < s->nr_pages; i += nr) {
		if (must_leak(s, i, &nr)) {
			snp_leak_pages(page_to_pfn(s->page[i]), nr);
			s->leaked += nr;
		} else {
			__free_page(s->page[i]);
		}

		cond_resched();
	}

	kvfree(s->page);
	bitmap_free(s->private);
	bitmap_free(s->large_private);
}

static int alloc_storms(void)
{
	bool more = true;
	unsigned int cpu;
	int ret;

	for_each_cpu(cpu, &storm_cpus) {
		ret = init_storm(per_cpu_ptr(&storms, cpu), cpu);
		if (ret)
			return ret;
	}

	/* In turn, so that pages of different CPUs are neighbours. */
	while (more) {
		more = false;
		for_each_cpu(cpu, &storm_cpus) {
			struct storm *s = per_cpu_ptr(&storms, cpu);

			if (s->nr_pages == pages)
				continue;
			ret = add_page(s);
			if (ret)
				return ret;

			more = true;
			cond_resched();
		}
	}

	return 0;
}

static int create_threads(void)
{
	struct task_struct *task;
	unsigned int cpu;

	for_each_cpu(cpu, &storm_cpus) {
		struct storm *s = per_cpu_ptr(&storms, cpu);

		task = kthread_create_on_node(storm_thread, s, cpu_to_node(cpu),
					      "rmp_storm/%u", cpu);
		if (IS_ERR(task))
			return PTR_ERR(task);

		kthread_bind(task, cpu);
		/* It may have ended when it is told to stop. */
		s->task = get_task_struct(task);
	}

	return 0;
}

static void stop_threads(void)
{
	unsigned int cpu;

	for_each_cpu(cpu, &storm_cpus) {
		struct storm *s = per_cpu_ptr(&storms, cpu);

		if (s->task)
			kthread_stop_put(s->task);
	}
}

static int run_threads(void)
{
	unsigned int cpu;
	int ret;

	ret = create_threads();
	if (!ret) {
		atomic_set(&running, cpumask_weight(&storm_cpus));
		for_each_cpu(cpu, &storm_cpus)
			wake_up_process(per_cpu_ptr(&storms, cpu)->task);

		if (wait_for_completion_interruptible(&calm))
			ret = -EINTR;
	}
	stop_threads();

	return ret;
}

static int __init rmp_storm_init(void)
{
	unsigned long small = 0, large = 0, failed = 0, leaked = 0;
	unsigned int cpu;
	ktime_t time = 0;
	int ret;

	ret = rmp_host_check();
	if (ret)
		return ret;

	if (!pages || pages > MAX_PAGES || !conversions) {
		pr_err("pages is out of [1, %u], or conversions is 0\n", MAX_PAGES);
		return -EINVAL;
	}

	while (!seed)
		seed = get_random_u32();

	/* CPU hotplug is frozen while SNP is initialized. */
	cpumask_copy(&storm_cpus, cpu_online_mask);

	ret = alloc_storms();
	if (ret) {
		pr_err("no memory for %u pages on each CPU\n", pages);
	} else {
		time = ktime_get();
		ret = run_threads();
		time = ktime_sub(ktime_get(), time);
	}

	for_each_cpu(cpu, &storm_cpus) {
		struct storm *s = per_cpu_ptr(&storms, cpu);

		free_storm(s);
		small += s->small;
		large += s->large;
		failed += s->failed;
		leaked += s->leaked;
	}

	pr_info("%u CPUs, seed %u, %lld ms: converted %lu 4KB and %lu 2MB pages, %lu conversions failed, %lu pages leaked\n",
		cpumask_weight(&storm_cpus), seed, ktime_to_ms(time), small, large, failed,
		leaked);

	return ret;
}
module_init(rmp_storm_init);

static void __exit rmp_storm_exit(void)
{
}
module_exit(rmp_storm_exit);

MODULE_DESCRIPTION("Changes the RMP from all CPUs at once");
MODULE_LICENSE("GPL");
