// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of RMPOPT: whether it can be used is found out at boot.
 */

enum rmp_kind {
	RMP_SEGMENTED,
	/* Asked for by the MSR, but it does not cover RAM. */
	RMP_SEGMENTED_BAD,
	RMP_CONTIGUOUS,
	NR_RMP_KINDS,
};

struct probe_case {
	bool feature;
	enum rmp_kind rmp;
	bool cc_cleared;
	bool capable;
};

static const struct probe_case probe_cases[] = {
	{ false, RMP_SEGMENTED,		false,	false },
	{ false, RMP_SEGMENTED,		true,	false },
	{ false, RMP_SEGMENTED_BAD,	false,	false },
	{ false, RMP_SEGMENTED_BAD,	true,	false },
	{ false, RMP_CONTIGUOUS,	false,	false },
	{ false, RMP_CONTIGUOUS,	true,	false },
	{ true,  RMP_SEGMENTED,		false,	true },
	{ true,  RMP_SEGMENTED,		true,	false },
	{ true,  RMP_SEGMENTED_BAD,	false,	false },
	{ true,  RMP_SEGMENTED_BAD,	true,	false },
	{ true,  RMP_CONTIGUOUS,	false,	false },
	{ true,  RMP_CONTIGUOUS,	true,	false },
};

static void probe_case_desc(const struct probe_case *pc, char *desc)
{
	static const char * const rmp[NR_RMP_KINDS] = {
		[RMP_SEGMENTED]		= "segmented RMP",
		[RMP_SEGMENTED_BAD]	= "failing segmented RMP",
		[RMP_CONTIGUOUS]	= "contiguous RMP",
	};

	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%s, %s%s",
		 pc->feature ? "RMPOPT" : "no RMPOPT", rmp[pc->rmp],
		 pc->cc_cleared ? ", CC attribute cleared" : "");
}

KUNIT_ARRAY_PARAM(probe, probe_cases, probe_case_desc);

#define FAKE_RMP_ORDER	get_order(RMPTABLE_CPU_BOOKKEEPING_SZ + RST_SIZE)

/*
 * Make an RMP of RAM, as the firmware would have left it. Nothing looks at its
 * entries, they only have to be there.
 */
static void __init fake_rmp(struct kunit *test, struct page *page[2], enum rmp_kind kind)
{
	u64 mapped_gb = DIV_ROUND_UP_ULL(PFN_PHYS(max_pfn), SZ_1G);
	u64 *rst, segment;

	/* 16 bytes for each page of RAM, and not more than can be allocated. */
	if (PFN_PHYS(max_pfn) > SZ_512M)
		kunit_skip(test, "needs 512MB of memory at most");

	page[0] = alloc_pages(GFP_KERNEL | __GFP_ZERO, FAKE_RMP_ORDER);
	page[1] = alloc_pages(GFP_KERNEL, MAX_PAGE_ORDER);
	KUNIT_ASSERT_NOT_NULL(test, page[0]);
	KUNIT_ASSERT_NOT_NULL(test, page[1]);

	probed_rmp_base = page_to_phys(page[0]);
	probed_rmp_size = 0;
	rmp_segment_table = NULL;
	rst_max_index = 512;
	set_rmp_segment_info(MODEL_SEGMENT_SHIFT);
	rmp_cfg = MSR_AMD64_SEG_RMP_ENABLED | MODEL_SEGMENT_SHIFT << 8;

	switch (kind) {
	case RMP_SEGMENTED:
		segment = page_to_phys(page[1]);
		rst = page_address(page[0]) + RMPTABLE_CPU_BOOKKEEPING_SZ;
		rst[0] = segment | mapped_gb;
		break;
	case RMP_CONTIGUOUS:
		probed_rmp_base = page_to_phys(page[1]);
		probed_rmp_size = PAGE_SIZE << MAX_PAGE_ORDER;
		rst_max_index = 1;
		set_rmp_segment_info(RMPTABLE_NON_SEGMENTED_SHIFT);
		rmp_cfg = 0;
		break;
	default:
		break;
	}

	amd_iommu_snp_en = true;
	cc_platform_set(CC_ATTR_HOST_SEV_SNP);
}

static void __init free_fake_rmp(struct page *page[2])
{
	cc_platform_clear(CC_ATTR_HOST_SEV_SNP);
	if (rmp_segment_table)
		free_rmp_segment_table();
	__free_pages(page[0], FAKE_RMP_ORDER);
	__free_pages(page[1], MAX_PAGE_ORDER);
}

static void __init test_probe(struct kunit *test)
{
	const struct probe_case *pc = test->param_value;
	struct rmpopt_model *m = test->priv;
	struct kmsg_dump_iter iter;
	struct page *page[2];

	unboot(test);
	m->feature = pc->feature;
	/* snp_prepare() is going to set it. */
	m->syscfg = 0;
	skip_messages(&iter);
	fake_rmp(test, page, pc->rmp);

	KUNIT_EXPECT_EQ(test, snp_rmptable_init() == 0, pc->rmp != RMP_SEGMENTED_BAD);
	m->booted = rmpopt_capable;
	KUNIT_EXPECT_EQ(test, m->booted, pc->feature && pc->rmp == RMP_SEGMENTED);
	if (pc->cc_cleared)
		cc_platform_clear(CC_ATTR_HOST_SEV_SNP);
	KUNIT_EXPECT_EQ(test, rmpopt_capable, pc->capable);

	/* Who never had it does not lose it. */
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "RMPOPT is not used"),
			m->booted && !pc->capable);

	m->syscfg = MSR_AMD64_SYSCFG_SNP_EN;
	rmpopt_page_returned(0);
	snp_rmpopt_all_physmem();
	snp_setup_rmpopt();
	if (pc->capable) {
		KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_delayed_work));
		KUNIT_EXPECT_EQ(test, rmpopt_regions.nr, MODEL_SEGMENT_REGIONS);
		/* The region that there is, none of the rest of the segment. */
		run_pass_and_ticks(test);
		KUNIT_EXPECT_EQ(test, m->nr_scan, 1);
		expect_optimized(test, 0, true);
	} else {
		expect_not_set_up(test);
		KUNIT_EXPECT_EQ(test, m->nr_pass, 0);
	}

	unboot(test);
	free_fake_rmp(page);
}

/* Whatever cannot be allocated at boot, nothing is left of it, and nothing used. */
static void __init test_probe_no_memory(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	struct kmsg_dump_iter iter;
	unsigned int n;

	for (n = 1; ; n++) {
		unboot(test);
		skip_messages(&iter);
		m->fail_alloc = n;
		boot(m);
		if (m->fail_alloc)
			break;

		KUNIT_EXPECT_EQ(test, count_messages(&iter, "Out of memory, RMPOPT is not used"),
				1);
		KUNIT_EXPECT_EQ(test, m->nr_live, 0);
		snp_setup_rmpopt();
		expect_not_set_up(test);
		snp_cleanup_rmpopt();
		expect_not_set_up(test);
	}

	/* The workqueue, five bitmaps, what cores have to do, the CPU mask. */
	KUNIT_EXPECT_EQ(test, n - 1, 8);
	KUNIT_EXPECT_EQ(test, m->nr_live, 8);
	m->fail_alloc = 0;
	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	expect_covered(test);
}

/* SnpEn may be set at boot. Then snp_rmptable_init() has to freeze hotplug. */
static void __init test_hotplug_kexec(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	struct page *page[2];

	unboot(test);
	fake_rmp(test, page, RMP_SEGMENTED);

	KUNIT_EXPECT_EQ(test, snp_rmptable_init(), 0);
	m->booted = rmpopt_capable;
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 1);
	KUNIT_EXPECT_TRUE(test, m->booted);

	/* There is nothing left to prepare. */
	KUNIT_EXPECT_EQ(test, snp_prepare(), 0);
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 1);

	m->syscfg = 0;
	snp_shutdown();
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 0);
	unboot(test);
	free_rmp_segment_table();

	/* The ordinary boot, without SnpEn. */
	KUNIT_EXPECT_EQ(test, snp_rmptable_init(), 0);
	m->booted = rmpopt_capable;
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 0);

	unboot(test);
	free_fake_rmp(page);
}

static struct kunit_case rmpopt_probe_test_cases[] __refdata = {
	KUNIT_CASE_PARAM(test_probe, probe_gen_params),
	KUNIT_CASE(test_probe_no_memory),
	KUNIT_CASE(test_hotplug_kexec),
	{}
};

static struct kunit_suite rmpopt_probe_test_suite __refdata = {
	.name = "snp_rmpopt_probe",
	.init = rmpopt_test_init,
	.exit = rmpopt_test_exit,
	.test_cases = rmpopt_probe_test_cases,
};
