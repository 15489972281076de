// SPDX-License-Identifier: GPL-2.0
/*
 * Assigns 2MB of a node as one entry of the RMP, splits that entry by PSMASH, and
 * returns the pieces. It stands in for guests with 2MB entries, which KVM does not
 * have. Once the module is loaded two parameters tell it what to do:
 *
 * private is the number of 4KB pages that are private. Writing 512 assigns all of
 * them as one entry. A smaller number returns pieces, the first ones first. Writing 0
 * returns the entry as a whole if it is not split.
 *
 * Writing 1 to split executes PSMASH.
 *
 * A write fails if the CPU has to refuse it: PSMASH of anything but a 2MB entry with
 * EIO, the return of a part of a 2MB entry with EBUSY. Nothing has changed then.
 *
 * Everything is returned when the module is unloaded. Nothing keeps others from
 * ending SNP meanwhile, so nobody should.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/gfp.h>
#include <linux/kstrtox.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/nodemask.h>
#include <linux/numa.h>
#include <linux/pgtable.h>
#include <linux/sched.h>

#include <asm/sev.h>

#include "rmp_host.h"

static int node = NUMA_NO_NODE;
module_param(node, int, 0444);
MODULE_PARM_DESC(node, "Node of the memory, the nearest one by default");

/* To whom private pages are assigned. No matter if there is such a guest. */
#define ASID		1

/*
 * Protected by the lock of the parameters, as all below. NULL until the module is
 * initialized, and as soon as nobody may touch the pages any more.
 */
static struct page *pages;
static unsigned int nr_private;
static bool is_split;

static int make_shared(unsigned int i, enum pg_level level)
{
	return rmp_make_shared(page_to_pfn(pages + i), level);
}

static int assign(void)
{
	int ret;

	ret = rmp_make_private(page_to_pfn(pages), 0, PG_LEVEL_2M, ASID, false);
	if (ret)
		return ret;

	nr_private = PTRS_PER_PMD;
	is_split = false;
	return 0;
}

static int return_whole(void)
{
	int ret;

	ret = make_shared(0, PG_LEVEL_2M);
	if (!ret)
		nr_private = 0;

	return ret;
}

static int return_pieces(unsigned int left)
{
	int ret;

	for (; nr_private > left; nr_private--) {
		ret = make_shared(PTRS_PER_PMD - nr_private, PG_LEVEL_4K);
		if (ret)
			return ret;

		cond_resched();
	}

	return 0;
}

/*
 * rmp_make_shared() would not return: it takes the error for a conflict with another
 * CPU, and tries again.
 */
static int return_part_of_whole(void)
{
	unsigned long paddr = page_to_phys(pages + PTRS_PER_PMD - 1);
	struct rmp_state state = {};
	int ret;

	/* Binutils version 2.36 supports the RMPUPDATE mnemonic. */
	asm volatile(".byte 0xF2, 0x0F, 0x01, 0xFE"
		     : "=a" (ret)
		     : "a" (paddr), "c" ((unsigned long)&state)
		     : "memory", "cc");

	if (ret == RMPUPDATE_FAIL_OVERLAP)
		return -EBUSY;

	if (!ret) {
		pr_err("a part of a 2MB entry could be returned\n");
		/* Nobody knows what is private now. */
		snp_leak_pages(page_to_pfn(pages), PTRS_PER_PMD);
		pages = NULL;
	}

	return -EIO;
}

static int set_private(const char *val, const struct kernel_param *kp)
{
	unsigned int nr;
	int ret;

	ret = kstrtouint(val, 0, &nr);
	if (ret)
		return ret;

	if (!pages)
		return -ENODEV;

	if (nr == nr_private)
		return 0;

	if (nr > nr_private)
		return !nr_private && nr == PTRS_PER_PMD ? assign() : -EINVAL;

	if (is_split)
		return return_pieces(nr);

	return nr ? return_part_of_whole() : return_whole();
}

static const struct kernel_param_ops private_ops = {
	.set = set_private,
	.get = param_get_uint,
};
module_param_cb(private, &private_ops, &nr_private, 0644);
MODULE_PARM_DESC(private, "Number of private 4KB pages, only to be set once the module is loaded");

static int set_split(const char *val, const struct kernel_param *kp)
{
	bool split;
	int ret;

	ret = kstrtobool(val, &split);
	if (ret)
		return ret;

	if (!split)
		return -EINVAL;

	if (!pages)
		return -ENODEV;

	/* Another CPU may be at the entry. */
	do {
		ret = psmash(page_to_pfn(pages));
	} while (ret == PSMASH_FAIL_INUSE);
	if (ret)
		return -EIO;

	is_split = true;
	return 0;
}

static const struct kernel_param_ops split_ops = {
	.set = set_split,
	.get = param_get_bool,
};
module_param_cb(split, &split_ops, &is_split, 0644);
MODULE_PARM_DESC(split, "Whether PSMASH has split the entry, only to be set once the module is loaded");

/* Nobody may ever write to a page that is still private. */
static void free_or_leak(void)
{
	unsigned int i;

	if (nr_private && !is_split && return_whole()) {
		snp_leak_pages(page_to_pfn(pages), PTRS_PER_PMD);
		return;
	}

	for (i = 0; i < PTRS_PER_PMD; i++) {
		if (i >= PTRS_PER_PMD - nr_private && make_shared(i, PG_LEVEL_4K))
			snp_leak_pages(page_to_pfn(pages + i), 1);
		else
			__free_page(pages + i);

		cond_resched();
	}
}

static int __init rmp_split_init(void)
{
	struct page *page;
	int ret;

	ret = rmp_host_check();
	if (ret)
		return ret;

	if (node != NUMA_NO_NODE &&
	    (node < 0 || node >= MAX_NUMNODES || !node_state(node, N_MEMORY))) {
		pr_err("node %d has no memory\n", node);
		return -EINVAL;
	}

	page = alloc_pages_node(node, GFP_KERNEL | __GFP_THISNODE, PMD_ORDER);
	if (!page)
		return -ENOMEM;

	/* Each may have to be leaked on its own. */
	split_page(page, PMD_ORDER);
	pr_info("0x%llx\n", (u64)page_to_phys(page));

	kernel_param_lock(THIS_MODULE);
	pages = page;
	kernel_param_unlock(THIS_MODULE);
	return 0;
}
module_init(rmp_split_init);

static void __exit rmp_split_exit(void)
{
	/* The parameters can still be written to. */
	kernel_param_lock(THIS_MODULE);
	if (pages)
		free_or_leak();
	pages = NULL;
	kernel_param_unlock(THIS_MODULE);
}
module_exit(rmp_split_exit);

MODULE_DESCRIPTION("A 2MB entry of the RMP that can be split");
MODULE_LICENSE("GPL");
