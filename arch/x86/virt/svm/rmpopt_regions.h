/* SPDX-License-Identifier: GPL-2.0-only */
/* Which 1GB regions a pass of RMPOPT has to visit, without the hardware. */
#ifndef ARCH_X86_VIRT_SVM_RMPOPT_REGIONS_H
#define ARCH_X86_VIRT_SVM_RMPOPT_REGIONS_H

#include <linux/bitmap.h>
#include <linux/bitops.h>
#include <linux/sizes.h>
#include <linux/types.h>

#include <asm/barrier.h>

/* Why a region is stale, and why a pass runs, possibly several at once. */
#define RMPOPT_REASON_SETUP	0x1	/* RMPOPT was set up */
#define RMPOPT_REASON_REQUEST	0x2	/* snp_rmpopt_all_physmem() */
#define RMPOPT_REASON_RETURN	0x4	/* A page was returned */
#define RMPOPT_REASON_MISSED	0x8	/* Not optimized on some core */

/**
 * struct rmpopt_pass - A pass over the regions that are stale
 *
 * @reason: RMPOPT_REASON_*.
 * @window: The first region of the window under way.
 * @next: The region to go on with.
 * @asked: The region behind the last one that the hardware was asked about.
 * @queried: Regions that the hardware was asked about.
 * @regions: Stale regions that cores which go first have visited. One for each
 *	     window that has the region.
 * @optimized: Those of them for which RMPOPT has succeeded on that core.
 * @behind: Cores that have not caught up at the end.
 * @windows: Windows that the pass has been to.
 */
struct rmpopt_pass {
	unsigned int reason;
	unsigned int window;
	unsigned int next;
	unsigned int asked;
	unsigned int queried;
	unsigned int regions;
	unsigned int optimized;
	unsigned int behind;
	unsigned int windows;
};

/**
 * struct rmpopt_regions - The 1GB regions up to the end of the RMP
 *
 * A region is known by its physical address divided by 1GB.
 *
 * @nr: Number of regions. Written once at boot, like the pointers.
 * @reach: The region is in the window of some core. Written while no pass runs.
 * @stale: A page of the region was returned to the hypervisor since RMPOPT was
 *	   executed for it, which may succeed now. Atomic, set in any context.
 * @optimized: RMPOPT has succeeded the last time, in the last of the windows
 *	       that have the region. Only hardware knows whether it is still
 *	       optimized. Belongs to the pass.
 * @todo: What this pass visits in each window, until RMPOPT fails. Belongs to
 *	  the pass, empty between passes.
 * @failed: RMPOPT has failed on some core, until a page is returned. Atomic.
 */
struct rmpopt_regions {
	unsigned int nr;
	unsigned long *reach;
	unsigned long *stale;
	unsigned long *optimized;
	unsigned long *todo;
	unsigned long *failed;
};

/**
 * rmpopt_mark_stale() - Have the next pass visit a region
 *
 * To be called after a page was returned to the hypervisor. Most pages find
 * their region marked already, at the cost of a barrier and a load.
 *
 * @r: The regions.
 * @pa: Physical address in bytes.
 *
 * Context: Any.
 * Return: Whether the region was not marked yet. Then a pass has to be queued.
 */
static inline bool rmpopt_mark_stale(struct rmpopt_regions *r, u64 pa)
{
	u64 region = pa / SZ_1G;

	if (region >= r->nr)
		return false;

	/*
	 * Either RMPOPT sees that the page is free, or this that the mark was
	 * taken. Pairs with test_and_clear_bit() in rmpopt_take_stale().
	 */
	smp_mb();

	return !test_bit(region, r->stale) && !test_and_set_bit(region, r->stale);
}

/**
 * rmpopt_take_stale() - Take the marks of all regions in reach
 *
 * Puts them into @todo. RMPOPT has to follow: a page that is returned later
 * leaves a mark. All at once, as each window that has the region visits it.
 *
 * @r: The regions.
 *
 * Context: The pass.
 */
static inline void rmpopt_take_stale(struct rmpopt_regions *r)
{
	unsigned int region;

	for_each_set_bit(region, r->reach, r->nr) {
		/* Most are not stale, and locked operations are slow. */
		if (!test_bit(region, r->stale))
			continue;
		/* Pairs with rmpopt_is_due(): one of them is set meanwhile. */
		__set_bit(region, r->todo);
		test_and_clear_bit(region, r->stale);
	}
}

/**
 * rmpopt_is_due() - Whether the next pass, or the one that runs, visits a region
 *
 * @r: The regions.
 * @region: Number of the region, in reach.
 *
 * Context: Any. The answer may be old.
 * Return: Whether it does.
 */
static inline bool rmpopt_is_due(const struct rmpopt_regions *r, unsigned int region)
{
	/* The pass may change the second one meanwhile. */
	return test_bit_acquire(region, r->stale) || data_race(test_bit(region, r->todo));
}

#endif
