/* SPDX-License-Identifier: GPL-2.0-only */
/* Which 1GB regions a pass of RMPOPT has to visit, without the hardware. */
#ifndef ARCH_X86_VIRT_SVM_RMPOPT_REGIONS_H
#define ARCH_X86_VIRT_SVM_RMPOPT_REGIONS_H

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
 * @next: The region to go on with.
 * @queried: Regions that the hardware was asked about.
 * @regions: Stale regions that the core which goes first has visited.
 * @optimized: Those of them for which RMPOPT has succeeded on that core.
 * @behind: Cores that have not caught up at the end.
 */
struct rmpopt_pass {
	unsigned int reason;
	unsigned int next;
	unsigned int queried;
	unsigned int regions;
	unsigned int optimized;
	unsigned int behind;
};

/**
 * struct rmpopt_regions - The 1GB regions up to the end of the RMP
 *
 * A region is known by its physical address divided by 1GB.
 *
 * @nr: Number of regions. Written once at boot, like the pointers.
 * @stale: A page of the region was returned to the hypervisor since RMPOPT was
 *	   executed for it, which may succeed now. Atomic, set in any context.
 * @optimized: RMPOPT has succeeded the last time. Only hardware knows whether
 *	       the region is still optimized. Belongs to the pass.
 * @failed: RMPOPT has failed on some core, until a page is returned. Atomic.
 */
struct rmpopt_regions {
	unsigned int nr;
	unsigned long *stale;
	unsigned long *optimized;
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
 * rmpopt_take_stale() - Take the mark of the next region that has one
 *
 * RMPOPT has to follow: a page that is returned later leaves a mark.
 *
 * @r: The regions.
 * @next: Where to go on, the region on return.
 * @end: Where to stop, not above the number of regions.
 *
 * Context: The pass.
 * Return: Whether there is one.
 */
static inline bool rmpopt_take_stale(struct rmpopt_regions *r, unsigned int *next,
				     unsigned int end)
{
	for (; *next < end; ++*next) {
		/* Most are not stale, and locked operations are slow. */
		if (test_bit(*next, r->stale) && test_and_clear_bit(*next, r->stale))
			return true;
	}

	return false;
}

#endif
