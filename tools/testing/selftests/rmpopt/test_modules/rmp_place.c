// SPDX-License-Identifier: GPL-2.0
/*
 * Keeps one page private in each of many 1GB regions, as close to the end of the
 * region as can be had: RMPOPT reads the RMP in order, so that it has to read all
 * of a region to find that page. It stands in for guests of which only the regions
 * matter that they have pages in.
 *
 * The pages are private until the module is unloaded. Writing 0 or 1 to the parameter
 * private has them shared and private again meanwhile, without any allocation and
 * without interrupting other CPUs. With measure=1 some pages of one region are
 * converted to and fro first, and the kernel log tells how long that takes.
 *
 * Nothing keeps others from ending SNP meanwhile, so nobody should.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cc_platform.h>
#include <linux/gfp.h>
#include <linux/irqflags.h>
#include <linux/kstrtox.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/memory_hotplug.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/nodemask.h>
#include <linux/pgtable.h>
#include <linux/sched.h>
#include <linux/sizes.h>

#include <asm/sev.h>

static unsigned int first;
module_param(first, uint, 0444);
MODULE_PARM_DESC(first, "Lowest region, its physical address in GB");

static unsigned int regions = UINT_MAX;
module_param(regions, uint, 0444);
MODULE_PARM_DESC(regions, "Number of regions, all that there are by default");

static bool measure;
module_param(measure, bool, 0444);
MODULE_PARM_DESC(measure, "Tell how long conversions take");

/* To whom private pages are assigned. No matter if there is such a guest. */
#define ASID		1

/* Pageblocks at the end of a region that are tried. */
#define MAX_TRIES	64

#define MEASURE_PAGES	64
#define MEASURE_ROUNDS	16

static LIST_HEAD(placed_pages);
/* Whether some of them may be private */
static bool placed_private;
static struct page *measured[MEASURE_PAGES];

static int make_private(struct page *page)
{
	return rmp_make_private(page_to_pfn(page), 0, PG_LEVEL_4K, ASID, false);
}

static int make_shared(struct page *page)
{
	return rmp_make_shared(page_to_pfn(page), PG_LEVEL_4K);
}

/* Nobody may ever write to a page that is still private. */
static void free_or_leak(struct page *page, bool shared)
{
	if (shared)
		free_contig_range(page_to_pfn(page), 1);
	else
		snp_leak_pages(page_to_pfn(page), 1);
}

/* The last page of the region from @start on that can be had, NULL if there is none. */
static struct page *alloc_last_page(unsigned long start)
{
	unsigned long pfn = start + PHYS_PFN(SZ_1G);
	unsigned int tries = 0;
	struct page *page;

	while (pfn-- > start && tries < MAX_TRIES) {
		page = pfn_to_online_page(pfn);
		if (!page) {
			pfn = ALIGN_DOWN(pfn, PAGES_PER_SUBSECTION);
			continue;
		}

		if (PageReserved(page))
			continue;

		if (!alloc_contig_range(pfn, pfn + 1, ACR_FLAGS_NONE, GFP_KERNEL | __GFP_NOWARN))
			return page;

		/* Who uses one of a pageblock for good often uses more of it. */
		pfn = ALIGN_DOWN(pfn, pageblock_nr_pages);
		tries++;
		cond_resched();
	}

	return NULL;
}

static bool place_page(unsigned long start)
{
	struct page *page = alloc_last_page(start);

	if (!page)
		return false;

	if (make_private(page)) {
		free_or_leak(page, true);
		return false;
	}

	list_add_tail(&page->lru, &placed_pages);
	placed_private = true;
	pr_info("0x%llx\n", (u64)page_to_phys(page));
	return true;
}

static void return_pages(void)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &placed_pages, lru) {
		list_del(&page->lru);
		free_or_leak(page, !placed_private || !make_shared(page));
		cond_resched();
	}
}

/* Large pages of the direct map have been split when the pages were placed. */
static int set_private(const char *val, const struct kernel_param *kp)
{
	struct page *page;
	bool private;
	int ret;

	ret = kstrtobool(val, &private);
	if (ret)
		return ret;

	if (private == placed_private)
		return 0;

	placed_private = true;
	list_for_each_entry(page, &placed_pages, lru) {
		ret = private ? make_private(page) : make_shared(page);
		if (ret)
			return ret;
	}
	placed_private = private;

	return 0;
}

static const struct kernel_param_ops private_ops = {
	.set = set_private,
	.get = param_get_bool,
};
module_param_cb(private, &private_ops, &placed_private, 0644);
MODULE_PARM_DESC(private, "Whether the pages are private, only to be set once the module is loaded");

static u64 time_conversions(int (*convert)(struct page *page), int *ret)
{
	unsigned long flags;
	unsigned int i;
	u64 ns;

	local_irq_save(flags);
	ns = ktime_get_raw_ns();
	for (i = 0; i < MEASURE_PAGES && !*ret; i++)
		*ret = convert(measured[i]);
	ns = ktime_get_raw_ns() - ns;
	local_irq_restore(flags);

	return ns;
}

static int measure_conversions(void)
{
	u64 to_private = U64_MAX, to_shared = U64_MAX;
	unsigned int i, order = ilog2(MEASURE_PAGES);
	struct page *page;
	int ret = 0;

	page = alloc_pages(GFP_KERNEL, order);
	if (!page)
		return -ENOMEM;

	split_page(page, order);
	for (i = 0; i < MEASURE_PAGES; i++) {
		measured[i] = page + i;
		/* Large pages of the direct map are split now and not later. */
		ret = ret ?: make_private(measured[i]);
	}
	for (i = 0; i < MEASURE_PAGES && !ret; i++)
		ret = make_shared(measured[i]);

	for (i = 0; i < MEASURE_ROUNDS && !ret; i++) {
		to_private = min(to_private, time_conversions(make_private, &ret));
		to_shared = min(to_shared, time_conversions(make_shared, &ret));
		cond_resched();
	}

	/* After a failure nobody knows which of them are private. */
	for (i = 0; i < MEASURE_PAGES; i++)
		free_or_leak(measured[i], !ret);

	if (!ret)
		pr_info("%u pages: %llu ns to private, %llu ns to shared\n", MEASURE_PAGES,
			to_private, to_shared);
	return ret;
}

static int __init rmp_place_init(void)
{
	unsigned int placed = 0, missed = 0;
	unsigned long pfn, end = 0;
	int node, ret;

	if (!cc_platform_has(CC_ATTR_HOST_SEV_SNP))
		return -ENODEV;

	if (measure) {
		ret = measure_conversions();
		if (ret)
			return ret;
	}

	for_each_online_node(node)
		end = max(end, node_end_pfn(node));

	for (pfn = first * PHYS_PFN(SZ_1G); pfn < end && placed < regions;
	     pfn += PHYS_PFN(SZ_1G)) {
		if (place_page(pfn))
			placed++;
		else
			missed++;
	}

	pr_info("%u regions have a private page, %u cannot\n", placed, missed);
	return 0;
}
module_init(rmp_place_init);

static void __exit rmp_place_exit(void)
{
	return_pages();
}
module_exit(rmp_place_exit);

MODULE_DESCRIPTION("Private pages in many regions of 1GB");
MODULE_LICENSE("GPL");
