// SPDX-License-Identifier: GPL-2.0-only
/*
 * The regions that RMPOPT covers, and which of them a pass has to visit.
 */

#include "rmpopt.h"

static u64 region_pa(struct rmpopt_regions *r, unsigned int region)
{
	return (r->first + region) * SZ_1G;
}

/**
 * rmpopt_reset_regions() - Begin anew, without RAM
 *
 * @r: The regions.
 * @start: Physical address in bytes at which the table starts, aligned to 1GB.
 *
 * To be followed by rmpopt_add_ram() for all RAM, which makes up for marks that are
 * lost here. Memory hotplug meanwhile does no harm.
 *
 * Context: Process context, no pass may run.
 */
void rmpopt_reset_regions(struct rmpopt_regions *r, u64 start)
{
	unsigned int i;

	WRITE_ONCE(r->first, start / SZ_1G);
	for (i = 0; i < BITS_TO_LONGS(RMPOPT_MAX_REGIONS); i++) {
		WRITE_ONCE(r->ram[i], 0);
		WRITE_ONCE(r->stale[i], 0);
	}
	bitmap_zero(r->optimized, RMPOPT_MAX_REGIONS);
}

/**
 * rmpopt_add_ram() - Have passes visit a region, the next one to begin with
 *
 * @r: The regions.
 * @pa: Physical address of the region in bytes. Nothing is done if it is outside of
 *	the table.
 *
 * Context: Any.
 * Return: As rmpopt_mark_stale().
 */
bool rmpopt_add_ram(struct rmpopt_regions *r, u64 pa)
{
	u64 region = pa / SZ_1G - READ_ONCE(r->first);

	if (region < RMPOPT_MAX_REGIONS)
		set_bit(region, r->ram);

	return rmpopt_mark_stale(r, PHYS_PFN(pa));
}

/**
 * rmpopt_remove_ram() - Do not visit a region any more
 *
 * @r: The regions.
 * @pa: Physical address of the region in bytes.
 *
 * Context: Any.
 */
void rmpopt_remove_ram(struct rmpopt_regions *r, u64 pa)
{
	u64 region = pa / SZ_1G - READ_ONCE(r->first);

	if (region < RMPOPT_MAX_REGIONS)
		clear_bit(region, r->ram);
}

/**
 * rmpopt_take_batch() - What a pass is to visit next
 *
 * The marks are gone when this returns. RMPOPT must be executed after that: of a
 * page that is returned later, rmpopt_mark_stale() then leaves a mark for the next
 * pass.
 *
 * @r: The regions.
 * @next: Where to go on. 0 for the first batch of a pass.
 * @batch: The regions, in ascending order.
 *
 * Context: The pass.
 * Return: Whether there is any.
 */
bool rmpopt_take_batch(struct rmpopt_regions *r, unsigned int *next, struct rmpopt_batch *batch)
{
	unsigned int region;

	batch->nr = 0;
	for (region = *next; region < RMPOPT_MAX_REGIONS && batch->nr < RMPOPT_BATCH; region++) {
		/* Most are not stale, and locked operations are slow. */
		if (test_bit(region, r->ram) && test_bit(region, r->stale) &&
		    test_and_clear_bit(region, r->stale))
			batch->pa[batch->nr++] = region_pa(r, region);
	}
	*next = region;

	return batch->nr;
}

/**
 * rmpopt_set_optimized() - Note whether RMPOPT has succeeded
 *
 * @r: The regions.
 * @pa: Physical address of the region in bytes.
 * @optimized: What RMPOPT has returned on the first core.
 *
 * Context: The pass.
 */
void rmpopt_set_optimized(struct rmpopt_regions *r, u64 pa, bool optimized)
{
	__assign_bit(pa / SZ_1G - r->first, r->optimized, optimized);
}

/**
 * rmpopt_next_optimized() - The next region that is believed to be optimized
 *
 * Leaves out those that the next call of rmpopt_take_batch() returns anyway.
 *
 * @r: The regions.
 * @next: Where to go on. 0 for the first one.
 * @pa: Physical address of the region in bytes.
 *
 * Context: The pass.
 * Return: Whether there is any.
 */
bool rmpopt_next_optimized(struct rmpopt_regions *r, unsigned int *next, u64 *pa)
{
	unsigned int region = *next;

	for_each_set_bit_from(region, r->optimized, RMPOPT_MAX_REGIONS) {
		if (test_bit(region, r->ram) && !test_bit(region, r->stale)) {
			*pa = region_pa(r, region);
			*next = region + 1;
			return true;
		}
	}

	return false;
}
