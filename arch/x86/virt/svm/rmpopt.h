/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The regions that RMPOPT covers, and which of them a pass has to visit. This is
 * bookkeeping only, the hardware is up to sev.c.
 */
#ifndef ARCH_X86_VIRT_SVM_RMPOPT_H
#define ARCH_X86_VIRT_SVM_RMPOPT_H

#include <linux/bitmap.h>
#include <linux/bitops.h>
#include <linux/pfn.h>
#include <linux/sizes.h>
#include <linux/types.h>

#include <asm/barrier.h>
#include <asm/page.h>

/* An RMPOPT table covers this many bytes, starting at RMPOPT_BASE. */
#define RMPOPT_TABLE_COVERAGE	SZ_2T
#define RMPOPT_MAX_REGIONS	(RMPOPT_TABLE_COVERAGE / SZ_1G)

/*
 * Regions that a core handles in one IPI, with interrupts disabled. RMPOPT takes
 * up to 5,700 cycles if another core has verified the region before, as AMD has
 * published. 16 of them take 91,200 cycles, or 46 us at 2 GHz, which stays below
 * 50 us.
 */
#define RMPOPT_BATCH		16

/**
 * struct rmpopt_regions - The 1GB regions of an RMPOPT table
 *
 * A region is known by its index, which counts from @first on.
 *
 * @first: Physical address in bytes of the first region, divided by 1GB. Changes
 *	   while no pass can run. Pages may be returned at any time, though, thus
 *	   use READ_ONCE() and WRITE_ONCE().
 * @ram: The region contains RAM. Atomic, changes with memory hotplug.
 * @stale: A page of the region has been returned to the hypervisor since RMPOPT
 *	   was executed for it, which may succeed therefore. Atomic, set from any
 *	   context. Means nothing without @ram.
 * @optimized: RMPOPT has succeeded when it was executed last. A page may have been
 *	       assigned since then, only hardware knows whether the region is
 *	       optimized. Belongs to the pass, and to whoever knows that none runs.
 */
struct rmpopt_regions {
	u64 first;
	DECLARE_BITMAP(ram, RMPOPT_MAX_REGIONS);
	DECLARE_BITMAP(stale, RMPOPT_MAX_REGIONS);
	DECLARE_BITMAP(optimized, RMPOPT_MAX_REGIONS);
};

/**
 * struct rmpopt_batch - Regions that are handled at a time
 *
 * @nr: Number of entries in @pa.
 * @pa: Physical addresses of the regions in bytes, aligned to 1GB.
 */
struct rmpopt_batch {
	unsigned int nr;
	u64 pa[RMPOPT_BATCH];
};

/**
 * rmpopt_mark_stale() - Have the next pass visit the region of a page
 *
 * To be called after the page has been returned to the hypervisor. If the region
 * is marked already, which it is for most pages of a guest, this comes down to a
 * barrier, a load and a branch.
 *
 * @r: The regions.
 * @pfn: PFN of the page. Nothing is done if it is outside of the table.
 *
 * Context: Any.
 * Return: Whether the region was not marked yet. Then it is up to the caller to
 *	   see to it that a pass runs.
 */
static inline bool rmpopt_mark_stale(struct rmpopt_regions *r, u64 pfn)
{
	u64 region = PFN_PHYS(pfn) / SZ_1G - READ_ONCE(r->first);

	if (region >= RMPOPT_MAX_REGIONS)
		return false;

	/*
	 * Either the pass sees that the page is not assigned any more, or this
	 * sees that the pass has taken the mark. Pairs with test_and_clear_bit()
	 * in rmpopt_take_batch().
	 */
	smp_mb();

	return !test_bit(region, r->stale) && !test_and_set_bit(region, r->stale);
}

void rmpopt_reset_regions(struct rmpopt_regions *r, u64 start);
bool rmpopt_add_ram(struct rmpopt_regions *r, u64 pa);
void rmpopt_remove_ram(struct rmpopt_regions *r, u64 pa);
bool rmpopt_take_batch(struct rmpopt_regions *r, unsigned int *next, struct rmpopt_batch *batch);
void rmpopt_set_optimized(struct rmpopt_regions *r, u64 pa, bool optimized);
bool rmpopt_next_optimized(struct rmpopt_regions *r, unsigned int *next, u64 *pa);

#endif
