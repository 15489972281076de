// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of RMPOPT: set-up, clean-up, passes and what asks for them.
 */

/*
 * The instruction, and the model.
 */

static void execute_real_insn(void *nr_true)
{
	if ((__rmpopt)(0, RMPOPT_REPORT))
		atomic_inc(nr_true);
}

/* #UD is handled in tasks and in IPIs, and reported once. */
static void __init test_fault(struct kunit *test)
{
	atomic_t nr_true = ATOMIC_INIT(0);
	struct kmsg_dump_iter iter;

	/* An older CPU may take it for CLZERO, from which it differs in a prefix. */
	if (boot_cpu_has(X86_FEATURE_RMPOPT) || boot_cpu_has(X86_FEATURE_CLZERO))
		kunit_skip(test, "RMPOPT need not fault on this CPU");

	skip_messages(&iter);
	execute_real_insn(&nr_true);
	(on_each_cpu)(execute_real_insn, &nr_true, 1);

	KUNIT_EXPECT_EQ(test, atomic_read(&nr_true), 0);
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "RMPOPT faulted"), 1);
}

/* What siblings share, what clears a bit, and what is a fault. */
static void __init test_model(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SMT);
	reboot(test, MODEL_REGIONS);
	set_segment(m, 1, 10);

	guard(cpus_read_lock)();

	KUNIT_EXPECT_FALSE(test, model_execute(m, 0, GB, RMPOPT_REPORT));
	KUNIT_EXPECT_EQ_MSG(test, m->nr_fault, 1, "RMPOPT_BASE not enabled");

	rmpopt_model_write_msr_on_cpu(0, MSR_AMD64_RMPOPT_BASE, GB | BASE_EN);
	rmpopt_model_write_msr_on_cpu(2, MSR_AMD64_RMPOPT_BASE, GB | BASE_EN);

	KUNIT_EXPECT_FALSE(test, model_execute(m, 0, 0, RMPOPT_VERIFY_AND_REPORT));
	KUNIT_EXPECT_EQ_MSG(test, m->nr_fault, 2, "below the window");
	KUNIT_EXPECT_FALSE(test, model_execute(m, 0, 2 * TB + GB, RMPOPT_VERIFY_AND_REPORT));
	KUNIT_EXPECT_EQ_MSG(test, m->nr_fault, 3, "above the window");
	KUNIT_EXPECT_FALSE(test, model_execute(m, 0, GB + SZ_4K, RMPOPT_VERIFY_AND_REPORT));
	KUNIT_EXPECT_EQ_MSG(test, m->nr_fault, 4, "not aligned");
	KUNIT_EXPECT_FALSE(test, model_execute(m, 0, 74 * GB, RMPOPT_VERIFY_AND_REPORT));
	KUNIT_EXPECT_EQ_MSG(test, m->nr_fault, 5, "not covered by the segment");
	KUNIT_EXPECT_TRUE(test, model_execute(m, 0, 73 * GB, RMPOPT_VERIFY_AND_REPORT));
	m->nr_scan = 0;

	KUNIT_EXPECT_TRUE(test, model_execute(m, 1, 2 * TB, RMPOPT_VERIFY_AND_REPORT));
	KUNIT_EXPECT_TRUE(test, model_execute(m, 0, 2 * TB, RMPOPT_REPORT));
	KUNIT_EXPECT_FALSE(test, model_execute(m, 2, 2 * TB, RMPOPT_REPORT));
	KUNIT_EXPECT_TRUE(test, model_execute(m, 2, 2 * TB, RMPOPT_VERIFY_AND_REPORT));
	KUNIT_EXPECT_EQ(test, m->nr_scan, 1);

	model_assign(m, 2 * TB);
	KUNIT_EXPECT_FALSE(test, model_execute(m, 0, 2 * TB, RMPOPT_REPORT));
	KUNIT_EXPECT_FALSE(test, model_execute(m, 2, 2 * TB, RMPOPT_VERIFY_AND_REPORT));
	model_unassign(m, 2 * TB);
	KUNIT_EXPECT_FALSE(test, model_execute(m, 2, 2 * TB, RMPOPT_REPORT));
	KUNIT_EXPECT_TRUE(test, model_execute(m, 2, 2 * TB, RMPOPT_VERIFY_AND_REPORT));

	m->core[2].unable[5] = 1;
	KUNIT_EXPECT_FALSE(test, model_execute(m, 2, 5 * GB, RMPOPT_VERIFY_AND_REPORT));
	KUNIT_EXPECT_TRUE(test, model_execute(m, 2, 5 * GB, RMPOPT_VERIFY_AND_REPORT));

	model_snp_init(m);
	KUNIT_EXPECT_FALSE(test, model_execute(m, 2, 2 * TB, RMPOPT_REPORT));

	KUNIT_EXPECT_EQ(test, m->nr_fault, 5);
	m->syscfg = 0;
	KUNIT_EXPECT_FALSE(test, model_execute(m, 2, 2 * TB, RMPOPT_VERIFY_AND_REPORT));
	KUNIT_EXPECT_EQ_MSG(test, m->nr_fault, 6, "SnpEn not set");
	m->nr_fault = 0;
}

struct lock_case {
	const char *name;
	enum model_lock lock;
	int ret;
	u64 base;
};

static const struct lock_case lock_cases[] = {
	{ "write faults",	LOCK_FAULTS,	-EIO,	5 * GB | BASE_EN },
	{ "write is ignored",	LOCK_IGNORES,	0,	5 * GB | BASE_EN },
	{ "write works",	LOCK_NONE,	0,	0 },
};

KUNIT_ARRAY_PARAM_DESC(lock, lock_cases, name);

/* The model again: who writes an enabled base breaks a rule, whatever comes of it. */
static void __init test_model_lock(struct kunit *test)
{
	const struct lock_case *lc = test->param_value;
	struct rmpopt_model *m = test->priv;
	unsigned int deaf;
	u64 base;

	invent_topology(test, SMT);
	m->base_lock = lc->lock;

	guard(cpus_read_lock)();

	for (deaf = 0; deaf < 2; deaf++) {
		m->deaf = deaf;
		m->core[0].rmpopt_base = 5 * GB | BASE_EN;
		__set_bit(1, m->core[0].table);
		__set_bit(2, m->core[0].table);

		KUNIT_EXPECT_EQ(test, rmpopt_model_write_msr_on_cpu(1, MSR_AMD64_RMPOPT_BASE, 0),
				lc->ret);
		KUNIT_EXPECT_EQ(test, atomic_read(&m->nr_rule), 1);
		KUNIT_EXPECT_EQ(test, rmpopt_model_read_msr_on_cpu(0, MSR_AMD64_RMPOPT_BASE,
								   &base), 0);
		KUNIT_EXPECT_EQ(test, base, lc->base);
		atomic_set(&m->nr_rule, 0);
		if (lc->base)
			continue;

		/* With luck a disabled table is empty. */
		m->core[0].rmpopt_base = 5 * GB;
		model_assign(m, 6 * GB);
		KUNIT_EXPECT_EQ(test, test_bit(1, m->core[0].table), deaf);
		KUNIT_EXPECT_EQ(test, test_bit(2, m->core[0].table), deaf);

		/* This is how it is done. */
		KUNIT_EXPECT_EQ(test, rmpopt_model_write_msr_on_cpu(0, MSR_AMD64_RMPOPT_BASE,
								    5 * GB | BASE_EN), 0);
		KUNIT_EXPECT_EQ(test, atomic_read(&m->nr_rule), 0);
		KUNIT_EXPECT_EQ(test, test_bit(2, m->core[0].table), deaf);
	}
}

/*
 * Set-up.
 */

static void __init test_base_on_each_core(struct kunit *test)
{
	const struct topology_case *tc = test->param_value;
	struct kmsg_dump_iter iter;
	char text[96];

	invent_topology(test, tc);
	skip_messages(&iter);

	snp_setup_rmpopt();
	expect_base(test, tc, BASE_EN, 1);

	snprintf(text, sizeof(text), "RMPOPT enabled on %u cores for [0x%016llx - 0x%016llx]",
		 tc->nr_cores, 0ULL, 2 * TB - 1);
	KUNIT_EXPECT_EQ(test, count_messages(&iter, text), 1);
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "RMPOPT is not used"), 0);

	/* The MSR stays as it is, and the message does not come again. */
	snp_cleanup_rmpopt();
	snp_setup_rmpopt();
	snp_cleanup_rmpopt();
	expect_base(test, tc, BASE_EN, 1);
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "RMPOPT"), 1);
}

/* Isolated CPUs are only used for cores that have no other. */
static void __init test_housekeeping(struct kunit *test)
{
	static const unsigned long housekeeping[] = {
		0x0001, 0x5555, 0xaaaa, 0x00ff, 0xff00, 0xfffe, 0x0cf0, 0x0ff1,
	};
	const struct topology_case *tc = test->param_value;
	unsigned int i, cpu, worker, leader;
	struct rmpopt_model *m = test->priv;

	invent_topology(test, tc);
	worker = m->cpu;

	for (i = 0; i < ARRAY_SIZE(housekeeping); i++) {
		cpumask_clear(&m->housekeeping);
		for_each_set_bit(cpu, &housekeeping[i], MODEL_CPUS)
			cpumask_set_cpu(cpu, &m->housekeeping);
		memset(m->core, 0, sizeof(m->core));
		reset_counts(m);

		snp_setup_rmpopt();
		expect_base(test, tc, BASE_EN, 1);

		/* The worker goes first itself, or the first one that is not isolated. */
		leader = worker;
		for_each_cpu_and(cpu, &m->online, &m->housekeeping) {
			if (cpumask_test_cpu(worker, &m->housekeeping))
				break;
			if (cpu == worker_of(m, cpu)) {
				leader = cpu;
				break;
			}
		}
		run_pass();
		KUNIT_EXPECT_EQ(test, m->nr_moved, leader != worker);
		m->cpu = leader;
		catch_up_all(test);
		KUNIT_EXPECT_EQ(test, expect_pass(test, 0, 0, 4, 0, tc->nr_cores), m->nr_event);
		expect_covered(test);
		m->cpu = worker;
		snp_cleanup_rmpopt();
	}
}

struct window_case {
	const char *name;
	/* In GB: the first region of the tables, the end of the RMP, and of memory. */
	unsigned int base, rmp, memory;
	/* Regions that are visited, and how many of them have memory. */
	unsigned int first, end;
	unsigned int reached;
};

static const struct window_case window_cases[] = {
	{ "one region",			0,	1,	1,	0,	1,	1 },
	{ "less than 2TB",		0,	2047,	2047,	0,	2047,	2047 },
	{ "2TB",			0,	2048,	2048,	0,	2048,	2048 },
	{ "RMP larger than 2TB",	0,	2112,	2048,	0,	2048,	2048 },
	{ "more than 2TB",		0,	2112,	2049,	0,	2048,	2048 },
	{ "3TB",			0,	3072,	3072,	0,	2048,	2048 },
	{ "2TB from 5GB on",		5,	2048,	2048,	5,	2048,	2043 },
	{ "up to the end of the window", 5,	2053,	2053,	5,	2053,	2048 },
	{ "beyond the end of it",	5,	2112,	2054,	5,	2053,	2048 },
	{ "3TB from 1TB on",		1024,	3072,	3072,	1024,	3072,	2048 },
	{ "behind the RMP",		100,	4,	4,	100,	100,	0 },
};

KUNIT_ARRAY_PARAM_DESC(window, window_cases, name);

static void __init test_window(struct kunit *test)
{
	const struct window_case *wc = test->param_value;
	u64 end = (wc->base + 2048) * GB;
	struct rmpopt_model *m = test->priv;
	struct kmsg_dump_iter iter;
	unsigned int i;
	char text[96];

	invent_topology(test, ONE_CPU);
	reboot(test, wc->rmp);
	for (i = wc->memory; i < wc->rmp; i++)
		m->memory[i] = MODEL_HOLE;
	/* Where the tables do not start at 0 an earlier kernel has said so. */
	if (wc->base)
		m->core[0].rmpopt_base = wc->base * GB | BASE_EN;
	skip_messages(&iter);

	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, m->core[0].rmpopt_base, wc->base * GB | BASE_EN);
	KUNIT_EXPECT_EQ(test, m->core[0].nr_writes, !wc->base);

	snprintf(text, sizeof(text), "on 1 cores for [0x%016llx - 0x%016llx]", wc->base * GB,
		 end - 1);
	KUNIT_EXPECT_EQ(test, count_messages(&iter, text), 1);
	snprintf(text, sizeof(text), "], nodes 0, %u of %uGB", wc->reached, wc->memory);
	KUNIT_EXPECT_EQ(test, count_messages(&iter, text), wc->reached != wc->memory);
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "nodes"), wc->reached != wc->memory);

	/* A pass visits the window from end to end, and nothing else. */
	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_event, wc->end - wc->first);
	for (i = 0; i < m->nr_event; i++)
		KUNIT_EXPECT_EQ(test, m->event[i].pa, (wc->first + i) * GB);
	expect_covered(test);

	/* So does a request. */
	reset_counts(m);
	snp_rmpopt_all_physmem();
	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_query, wc->end - wc->first);
	KUNIT_EXPECT_EQ(test, m->nr_event, m->nr_query);

	/* The message is about the machine. */
	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "RMPOPT enabled"), 1);
}

/*
 * The RMP says what may be worth it, with holes inside of segments and between them.
 * What kind of memory there is, if there is any, does not matter.
 */
static void __init test_covered(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int i, region;

	invent_topology(test, ONE_CPU);
	unboot(test);
	set_segment(m, 0, 2);
	set_segment(m, 2, MODEL_SEGMENT_REGIONS);
	set_segment(m, 3, 1);
	set_segment(m, 30, 3);
	boot(m);

	/* No RAM of this machine, neither online nor not. */
	KUNIT_ASSERT_LT(test, PFN_PHYS(max_pfn), 128 * GB);
	KUNIT_ASSERT_EQ(test, region_intersects(128 * GB, 66 * GB, IORESOURCE_SYSTEM_RAM,
						IORES_DESC_NONE), REGION_DISJOINT);

	snp_setup_rmpopt();
	run_pass();
	for (i = 0, region = 0; region < MODEL_REGIONS; region++) {
		if (model_covers(m, region * GB) && region < 2048)
			i = expect_leader(test, i, region * GB, 1, 0);
	}
	KUNIT_EXPECT_EQ(test, i, 2 + 64 + 1 + 3);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);

	/* The same goes for pages that are returned. */
	for (region = 128; region < 193; region++) {
		model_assign(m, region * GB);
		model_unassign(m, region * GB);
	}
	run_all_passes(test);
	expect_covered(test);
}

static void __init test_setup_without_snp(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	m->syscfg = 0;
	snp_setup_rmpopt();
	expect_not_set_up(test);
}

/* Nobody is going to need it, and passes would disturb what is going on. */
static void __init test_setup_during_reboot(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	enum system_states state;

	for (state = SYSTEM_HALT; state <= SYSTEM_SUSPEND; state++) {
		m->state = state;
		snp_setup_rmpopt();
		expect_not_set_up(test);
	}

	/* Early in boot is all right. */
	m->state = SYSTEM_SCHEDULING;
	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	expect_covered(test);

	/* What has been set up is not any more: the firmware may have shut SNP down. */
	m->state = SYSTEM_RESTART;
	snp_rmpopt_all_physmem();
	snp_setup_rmpopt();
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	snp_rmpopt_all_physmem();
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
}

/* As after SNP_SHUTDOWN_EX without x86 shutdown, and SNP_INIT_EX. */
static void __init test_setup_twice(struct kunit *test)
{
	const struct lock_case *lc = test->param_value;
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SMT);
	m->base_lock = lc->lock;
	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	expect_optimized(test, 0, true);

	model_snp_init(m);
	expect_optimized(test, 0, false);

	expect_queues_pass(test, snp_setup_rmpopt);
	KUNIT_EXPECT_EQ(test, m->nr_live, 8);
	expect_base(test, SMT, BASE_EN, 1);

	run_pass_and_ticks(test);
	expect_covered(test);
}

/* As after SNP_SHUTDOWN_EX has failed, or has left SnpEn alone. */
static void __init test_setup_after_cleanup(struct kunit *test)
{
	const struct lock_case *lc = test->param_value;
	struct rmpopt_model *m = test->priv;
	unsigned int i;

	invent_topology(test, SMT);
	m->base_lock = lc->lock;
	snp_setup_rmpopt();
	run_pass_and_ticks(test);

	for (i = 0; i < 3; i++) {
		snp_cleanup_rmpopt();
		snp_rmpopt_all_physmem();
		KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

		/* The tables follow the RMP meanwhile. */
		expect_optimized(test, 0, true);
		model_assign(m, 2 * GB);
		expect_optimized(test, 2 * GB, false);
		model_unassign(m, 2 * GB);
		KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

		expect_queues_pass(test, snp_setup_rmpopt);
		expect_base(test, SMT, BASE_EN, 1);
		reset_counts(m);
		run_pass_and_ticks(test);
		KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
		expect_covered(test);
	}
}

struct life_case {
	const char *name;
	bool clears_en, deaf;
};

static const struct life_case life_cases[] = {
	{ "clears RMPOPT_EN, tables empty",	true,	false },
	{ "clears RMPOPT_EN, tables stay",	true,	true },
	{ "keeps RMPOPT_EN, tables empty",	false,	false },
	{ "keeps RMPOPT_EN, tables stay",	false,	true },
};

KUNIT_ARRAY_PARAM_DESC(life, life_cases, name);

/* x86 shutdown clears SnpEn, nobody says what else, and then all begins again. */
static void __init test_x86_shutdown(struct kunit *test)
{
	const struct life_case *lc = test->param_value;
	struct rmpopt_model *m = test->priv;
	unsigned int i;

	invent_topology(test, SMT);
	m->deaf = lc->deaf;

	for (i = 1; i <= 3; i++) {
		m->syscfg = MSR_AMD64_SYSCFG_SNP_EN;
		model_snp_init(m);
		snp_setup_rmpopt();
		expect_base(test, SMT, BASE_EN, lc->clears_en ? i : 1);
		run_pass_and_ticks(test);
		expect_covered(test);

		snp_cleanup_rmpopt();
		model_x86_shutdown(m, lc->clears_en);
		snp_setup_rmpopt();
		snp_rmpopt_all_physmem();
		KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

		/* Pages that are assigned before the tables exist again. */
		model_assign(m, i * GB);
	}
}

/* The base that another kernel has left is used, core by core. */
static void __init test_kexec(struct kunit *test)
{
	const struct topology_case *tc = test->param_value;
	static const u64 bases[] = { 0, 2 * GB, TB };
	struct rmpopt_model *m = test->priv;
	unsigned int i, cpu, which;

	invent_topology(test, tc);
	reboot(test, 3072);
	/* All but a few regions, which would take long. */
	for (i = 0; i < MODEL_REGIONS; i++)
		m->assigned[i] = i % 1024 > 8 && i % 1024 < 1016;

	for (i = 0; i < ARRAY_SIZE(bases); i++) {
		/* All of them, the last core only, and all but one. */
		for (which = 0; which < 3; which++) {
			unsigned int last = model_core_of(m, cpumask_last(&m->online));

			memset(m->core, 0, sizeof(m->core));
			for_each_cpu(cpu, &m->online) {
				unsigned int core = model_core_of(m, cpu);

				if (!which || which == (core == last ? 1 : 2))
					m->core[core].rmpopt_base = bases[i] | BASE_EN;
			}
			model_snp_init(m);

			snp_setup_rmpopt();
			for_each_cpu(cpu, &m->online) {
				unsigned int core = model_core_of(m, cpu);
				bool left = !which || which == (core == last ? 1 : 2);

				KUNIT_EXPECT_EQ(test, m->core[core].rmpopt_base,
						(left ? bases[i] : 0) | BASE_EN);
				KUNIT_EXPECT_EQ(test, m->core[core].nr_writes, !left);
			}
			run_pass_and_ticks(test);
			expect_covered(test);
			snp_cleanup_rmpopt();
		}
	}
}

/* A core with another window has a pass of its own, and shares no more than regions. */
static void __init test_two_windows(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	struct kmsg_dump_iter iter;
	unsigned int i;

	invent_topology(test, SMT);
	m->core[4].rmpopt_base = GB | BASE_EN;
	skip_messages(&iter);

	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "on 7 cores for [0x0000000000000000 "), 1);
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "on 1 cores for [0x0000000040000000 "), 1);
	KUNIT_EXPECT_EQ(test, m->core[4].rmpopt_base, GB | BASE_EN);

	/* The lower window first, wherever the worker runs. */
	m->cpu = 5;
	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_moved, 1);
	m->cpu = 0;
	i = expect_leader(test, 0, 0, 4, 0);
	m->cpu = 5;
	KUNIT_EXPECT_EQ(test, expect_leader(test, i, GB, 3, 0), m->nr_event);
	KUNIT_EXPECT_EQ(test, m->nr_scan, 4);
	catch_up_all(test);
	KUNIT_EXPECT_EQ(test, m->nr_verify, 4 * 7 + 3);
	expect_covered(test);

	/* What the other window has alone is nothing to that core, nor the other way round. */
	m->cpu = 9;
	reset_counts(m);
	model_lose(m, 0);
	rmpopt_page_returned(0);
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, expect_pass(test, 0, 0, 1, 0, 7), m->nr_event);
	KUNIT_EXPECT_EQ(test, m->nr_moved, 0);
	expect_covered(test);

	/* Told once, true each time. */
	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "RMPOPT enabled"), 2);
	run_pass_and_ticks(test);
	expect_covered(test);
}

/* A machine without memory and with a second node: CPUs from 8, regions from @first on. */
static void __init invent_second_node(struct kunit *test, unsigned int first)
{
	struct rmpopt_model *m = test->priv;
	unsigned int i;

	if (MAX_NUMNODES < MODEL_NODES)
		kunit_skip(test, "needs a kernel for %d nodes", MODEL_NODES);

	invent_topology(test, SMT);
	unboot(test);
	m->distance[0][1] = 32;
	m->distance[1][0] = 32;
	for (i = first; i < MODEL_REGIONS; i++)
		m->node[i] = 1;
	for (i = 8; i < MODEL_CPUS; i++)
		m->cpu_node[i] = 1;
}

/* A machine with two nodes, and memory far apart. */
static void __init invent_nodes(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_second_node(test, 1664);
	set_segment(m, 0, 4);
	set_segment(m, 1472 / MODEL_SEGMENT_REGIONS, 1);
	set_segment(m, 1664 / MODEL_SEGMENT_REGIONS, 1);
	set_segment(m, 1792 / MODEL_SEGMENT_REGIONS, 1);
	set_segment(m, 3008 / MODEL_SEGMENT_REGIONS, 1);
	set_segment(m, 3136 / MODEL_SEGMENT_REGIONS, 1);
	boot(m);
}

/* Where the window of the second node begins. */
#define NODE1		(1089 * GB)

/* Each node has a window, a core that goes first, and what only it can reach. */
static void __init test_nodes(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	struct kmsg_dump_iter iter;
	unsigned int cpu, i;

	invent_nodes(test);
	skip_messages(&iter);
	snp_setup_rmpopt();
	for (cpu = 0; cpu < MODEL_CPUS; cpu += 2)
		KUNIT_EXPECT_EQ(test, m->core[cpu].rmpopt_base, (cpu < 8 ? 0 : NODE1) | BASE_EN);
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "on 4 cores for [0x0000000000000000 "), 1);
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "1ffffffffff], nodes 0, 7 of 9GB"), 1);
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "on 4 cores for [0x0000011040000000 "), 1);
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "3103fffffff], nodes 1, 5 of 9GB"), 1);

	/* What both windows have is visited in both, and read once. */
	m->cpu = 9;
	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_moved, 1);
	m->cpu = 0;
	i = expect_leader(test, 0, 0, 4, 0);
	i = expect_leader(test, i, 1472 * GB, 1, 0);
	i = expect_leader(test, i, 1664 * GB, 1, 0);
	i = expect_leader(test, i, 1792 * GB, 1, 0);
	m->cpu = 9;
	i = expect_leader(test, i, 1472 * GB, 1, 0);
	i = expect_leader(test, i, 1664 * GB, 1, 0);
	i = expect_leader(test, i, 1792 * GB, 1, 0);
	i = expect_leader(test, i, 3008 * GB, 1, 0);
	KUNIT_EXPECT_EQ(test, expect_leader(test, i, 3136 * GB, 1, 0), m->nr_event);
	KUNIT_EXPECT_EQ(test, m->nr_scan, 9);
	catch_up_all(test);
	KUNIT_EXPECT_EQ(test, m->nr_verify, 4 * 7 + 4 * 5);
	expect_covered(test);

	/* Asked about once, by the first window that has it. */
	reset_counts(m);
	model_lose(m, 1664 * GB);
	model_lose(m, 3136 * GB);
	snp_rmpopt_all_physmem();
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, m->nr_query, 9);
	KUNIT_EXPECT_EQ(test, m->nr_verify, 4 + 4 + 4);
	KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
	expect_covered(test);

	/* A guest on the second node disturbs nobody on the first one. */
	reset_counts(m);
	model_lose(m, 3008 * GB);
	rmpopt_page_returned(3008 * GB);
	m->cpu = 8;
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, m->nr_moved, 0);
	KUNIT_EXPECT_EQ(test, expect_pass(test, 0, 3008 * GB, 1, 0, 4), m->nr_event);
	for (i = 0; i < m->nr_event; i++)
		KUNIT_EXPECT_GE(test, m->event[i].cpu, 8);
	expect_covered(test);

	/* What fails in one window is not tried in the next one. */
	reset_counts(m);
	model_assign(m, 1664 * GB);
	rmpopt_page_returned(1664 * GB);
	m->cpu = 0;
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, expect_leader(test, 0, 1664 * GB, 1, 1), m->nr_event);
	model_unassign(m, 1664 * GB);
	run_pass_and_ticks(test);
	expect_covered(test);
}

/* Assign a page when the second window is about to visit its region. */
static void assign_between_windows(struct rmpopt_model *m, const struct model_step *step)
{
	if (step->point == POINT_BEFORE_INSN && step->context == IN_PASS && m->cpu >= 8) {
		m->hook = NULL;
		model_assign(m, step->pa);
	}
}

static void __init test_assigned_between_windows(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_nodes(test);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);

	reset_counts(m);
	model_lose(m, 1664 * GB);
	rmpopt_page_returned(1664 * GB);
	m->hook = assign_between_windows;
	run_pass();
	KUNIT_EXPECT_NULL(test, m->hook);
	KUNIT_EXPECT_EQ(test, m->nr_verify, 2);
	KUNIT_EXPECT_FALSE(test, m->event[1].cf);
	run_all_passes(test);
	expect_covered(test);
	expect_optimized(test, 1664 * GB, false);

	model_unassign(m, 1664 * GB);
	run_all_passes(test);
	expect_covered(test);
}

/* A page that is returned once its region has been visited is left to another pass. */
static void return_between_windows(struct rmpopt_model *m, const struct model_step *step)
{
	if (step->point == POINT_BEFORE_INSN && step->context == IN_PASS && m->cpu >= 8) {
		m->hook = NULL;
		model_assign(m, 0);
		model_unassign(m, 0);
		model_assign(m, step->pa);
		model_unassign(m, step->pa);
	}
}

static void __init test_returned_between_windows(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_nodes(test);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);

	model_lose(m, 1664 * GB);
	rmpopt_page_returned(1664 * GB);
	m->hook = return_between_windows;
	run_pass();
	KUNIT_EXPECT_NULL(test, m->hook);
	run_all_passes(test);
	expect_covered(test);
}

/* Take a CPU away when the second window is about to visit its first region. */
static void unplug_between_windows(struct rmpopt_model *m, const struct model_step *step)
{
	if (step->point == POINT_BEFORE_INSN && step->context == IN_PASS && m->cpu >= 8) {
		m->hook = NULL;
		cpumask_clear_cpu(6, &m->online);
	}
}

/* What a pass has taken, and has not got to, is left to another one. */
static void __init test_cpu_gone_between_windows(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_nodes(test);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);

	reset_counts(m);
	model_lose(m, 1472 * GB);
	model_lose(m, 3008 * GB);
	snp_rmpopt_all_physmem();
	m->hook = unplug_between_windows;
	run_pass();
	KUNIT_EXPECT_NULL(test, m->hook);
	KUNIT_EXPECT_EQ(test, m->nr_verify, 2);
	KUNIT_EXPECT_TRUE(test, bitmap_empty(rmpopt_regions.todo, rmpopt_regions.nr));
	KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_delayed_work));

	cpumask_set_cpu(6, &m->online);
	run_all_passes(test);
	expect_covered(test);
}

/* One window will do, and none need be chosen if all cores have one. */
static void __init test_no_memory_to_choose(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	struct kmsg_dump_iter iter;
	unsigned int cpu;

	invent_nodes(test);
	skip_messages(&iter);
	m->fail_alloc = 1;
	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, m->fail_alloc, 0);
	for (cpu = 0; cpu < MODEL_CPUS; cpu += 2)
		KUNIT_EXPECT_EQ(test, m->core[cpu].rmpopt_base, BASE_EN);
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "Out of memory, all RMPOPT windows are"), 1);
	run_pass_and_ticks(test);
	expect_covered(test);

	skip_messages(&iter);
	m->fail_alloc = 1;
	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, m->fail_alloc, 1);
	m->fail_alloc = 0;
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "Out of memory"), 0);
}

/* Pages that no window reaches are no reason for a pass. */
static void __init test_out_of_reach(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_nodes(test);
	unboot(test);
	set_segment(m, 3200 / MODEL_SEGMENT_REGIONS, 1);
	/* It may come later. */
	m->memory[3200] = MODEL_HOLE;
	boot(m);
	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, m->core[8].rmpopt_base, NODE1 | BASE_EN);
	run_pass_and_ticks(test);

	model_assign(m, 3200 * GB);
	model_unassign(m, 3200 * GB);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	reset_counts(m);
	snp_rmpopt_all_physmem();
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, m->nr_verify, 0);
	expect_covered(test);

	/* Nor is what another window has reached. */
	snp_cleanup_rmpopt();
	memset(m->core, 0, sizeof(m->core));
	m->memory[3136] = MODEL_HOLE;
	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, m->core[8].rmpopt_base, 961 * GB | BASE_EN);
	run_pass_and_ticks(test);
	expect_covered(test);
	model_assign(m, 3136 * GB);
	model_unassign(m, 3136 * GB);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
}

struct memory_case {
	const char *name;
	enum model_memory memory;
	u64 base;
};

static const struct memory_case memory_cases[] = {
	{ "RAM",				MODEL_RAM,			NODE1 },
	{ "hole",				MODEL_HOLE,			961 * GB },
	{ "Soft Reserved",			MODEL_SOFT_RESERVED,		NODE1 },
	{ "Soft Reserved, in /proc/iomem",	MODEL_SOFT_RESERVED_DESC,	NODE1 },
	{ "persistent memory",			MODEL_PMEM,			NODE1 },
	{ "legacy persistent memory",		MODEL_PMEM_LEGACY,		NODE1 },
};

KUNIT_ARRAY_PARAM_DESC(memory, memory_cases, name);

/* Memory that is not RAM yet counts. */
static void __init test_memory(struct kunit *test)
{
	const struct memory_case *mc = test->param_value;
	struct rmpopt_model *m = test->priv;

	invent_nodes(test);
	m->memory[3136] = mc->memory;
	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, m->core[0].rmpopt_base, BASE_EN);
	KUNIT_EXPECT_EQ(test, m->core[8].rmpopt_base, mc->base | BASE_EN);
	run_pass_and_ticks(test);
	expect_covered(test);
}

/* Holes in the memory of a node count nothing, and neighbours may be of two nodes. */
static void __init test_pieces_of_memory(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_second_node(test, 2113);
	set_segment(m, 0, 8);
	set_segment(m, 2112 / MODEL_SEGMENT_REGIONS, 10);
	boot(m);

	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, m->core[0].rmpopt_base, BASE_EN);
	KUNIT_EXPECT_EQ(test, m->core[8].rmpopt_base, 74 * GB | BASE_EN);
	run_pass_and_ticks(test);
	expect_covered(test);

	snp_cleanup_rmpopt();
	memset(m->core, 0, sizeof(m->core));
	memset(m->node, 0, sizeof(m->node));
	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, m->core[0].rmpopt_base, 74 * GB | BASE_EN);
}

/* Cores that have a window keep it, others get that of their node. */
static void __init test_nodes_after_kexec(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_nodes(test);
	m->core[2].rmpopt_base = NODE1 | BASE_EN;
	m->core[8].rmpopt_base = BASE_EN;
	m->core[10].rmpopt_base = 7 * GB | BASE_EN;
	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, m->core[0].rmpopt_base, BASE_EN);
	KUNIT_EXPECT_EQ(test, m->core[2].rmpopt_base, NODE1 | BASE_EN);
	KUNIT_EXPECT_EQ(test, m->core[8].rmpopt_base, BASE_EN);
	KUNIT_EXPECT_EQ(test, m->core[10].rmpopt_base, 7 * GB | BASE_EN);
	KUNIT_EXPECT_EQ(test, m->core[12].rmpopt_base, NODE1 | BASE_EN);
	run_pass_and_ticks(test);
	expect_covered(test);
}

struct fault_case {
	const char *name;
	enum model_fault fault;
};

static const struct fault_case fault_cases[] = {
	{ "write faults",	BASE_WRITE_FAULTS },
	{ "write is ignored",	BASE_WRITE_IGNORED },
	{ "read faults",	BASE_READ_FAULTS },
	{ "no such MSR",	BASE_ABSENT },
};

KUNIT_ARRAY_PARAM_DESC(fault, fault_cases, name);

/* Cores that do not let RMPOPT_BASE be set are left out. Others are not. */
static void __init test_core_refuses(struct kunit *test)
{
	const struct fault_case *fc = test->param_value;
	struct rmpopt_model *m = test->priv;
	struct kmsg_dump_iter iter;
	unsigned int cpu, i;

	invent_topology(test, SMT);
	for (cpu = 6; cpu <= 8; cpu += 2) {
		m->core[cpu].fault = fc->fault;
		m->core[cpu].left_out = true;
	}
	skip_messages(&iter);

	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "RMPOPT enabled on 6 cores"), 1);
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "cannot be enabled on 2 core(s),"), 1);
	for (cpu = 0; cpu < MODEL_CPUS; cpu += 2)
		KUNIT_EXPECT_EQ(test, m->core[cpu].nr_writes, 1);

	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, expect_pass(test, 0, 0, 4, 0, 6), m->nr_event);
	KUNIT_EXPECT_EQ(test, m->nr_moved, 0);
	expect_covered(test);

	/* A worker that runs on such a core is of no use, and finds another one. */
	reset_counts(m);
	m->cpu = 7;
	snp_rmpopt_all_physmem();
	model_lose(m, 0);
	model_assign(m, GB);
	model_unassign(m, GB);
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, m->nr_moved, 1);
	KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
	KUNIT_EXPECT_EQ(test, m->cpu, 7);
	m->cpu = 0;
	i = expect_query(test, 0, 0, false);
	i = expect_query(test, i, 2 * GB, true);
	i = expect_query(test, i, 3 * GB, true);
	KUNIT_EXPECT_EQ(test, expect_pass(test, i, 0, 2, 0, 6), m->nr_event);
	expect_covered(test);
}

/* The core that it finds has a table, and is neither isolated nor idle if possible. */
static void __init test_other_leader(struct kunit *test)
{
	static const struct {
		unsigned long nohz_full, isolated, idle;
		unsigned int leader;
	} cases[] = {
		{ .leader = 2 },
		/* A secondary thread. */
		{ .nohz_full = 0x00f7, .leader = 3 },
		{ .nohz_full = 0x0fff, .leader = 12 },
		{ .nohz_full = 0x7fff, .leader = 15 },
		/* Only cores without a table are left, or that of the worker. */
		{ .nohz_full = 0xffec, .leader = 2 },
		{ .nohz_full = 0xffff, .leader = 2 },
		{ .isolated = 0x00ff, .leader = 8 },
		{ .isolated = 0xffff, .leader = 2 },
		{ .nohz_full = 0x00ff, .isolated = 0xff00, .leader = 2 },
		{ .idle = 0x00ff, .leader = 8 },
		{ .idle = 0xffff, .leader = 2 },
		/* Rather idle than isolated. */
		{ .isolated = 0x00ff, .idle = 0xff00, .leader = 8 },
		{ .nohz_full = 0x00ff, .idle = 0xff00, .leader = 8 },
		{ .isolated = 0x0fff, .idle = 0x3000, .leader = 14 },
	};
	struct rmpopt_model *m = test->priv;
	struct kmsg_dump_iter iter;
	unsigned int i;

	invent_topology(test, SMT);
	/* Cores 0 and 4 are of no use, and the worker runs on one of them. */
	for (i = 0; i <= 4; i += 4) {
		m->core[i].fault = BASE_ABSENT;
		m->core[i].left_out = true;
	}

	skip_messages(&iter);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		cpumask_bits(&m->housekeeping)[0] = ~cases[i].nohz_full;
		cpumask_bits(&m->domain)[0] = ~cases[i].isolated;
		cpumask_bits(&m->idle)[0] = cases[i].idle;
		m->cpu = 4;
		reset_counts(m);

		snp_setup_rmpopt();
		run_pass();
		cpumask_clear(&m->idle);
		catch_up_all(test);
		KUNIT_EXPECT_EQ(test, m->nr_moved, 1);
		m->cpu = cases[i].leader;
		KUNIT_EXPECT_EQ(test, expect_pass(test, 0, 0, 4, 0, 6), m->nr_event);
		expect_covered(test);
		snp_cleanup_rmpopt();
	}
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "cannot be enabled on 2 core(s)"), 1);
}

/* A pass does not keep the queue of another CPU for long. */
static void __init test_slices(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SMT);
	reboot(test, 80);
	m->core[0].fault = BASE_ABSENT;
	m->core[0].left_out = true;
	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	/* 32, 32 and 16 regions. */
	KUNIT_EXPECT_EQ(test, m->nr_moved, 3);
	KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
	m->cpu = 2;
	KUNIT_EXPECT_EQ(test, expect_leader(test, 0, 0, 80, 0), 80);
	KUNIT_EXPECT_EQ(test, m->nr_verify, 7 * 80);
	expect_covered(test);
}

static void __init test_all_cores_refuse(struct kunit *test)
{
	const struct fault_case *fc = test->param_value;
	struct rmpopt_model *m = test->priv;
	struct kmsg_dump_iter iter;
	unsigned int cpu;

	invent_topology(test, SMT);
	for (cpu = 0; cpu < MODEL_CPUS; cpu++)
		m->core[cpu].fault = fc->fault;
	skip_messages(&iter);

	snp_setup_rmpopt();
	snp_rmpopt_all_physmem();
	rmpopt_page_returned(GB);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "RMPOPT enabled"), 0);
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "cannot be enabled on 8 core(s),"), 1);
}

/* The worker wakes up on a core without a table in the middle of a pass. */
static void go_astray(struct rmpopt_model *m, const struct model_step *step)
{
	if (step->point == POINT_NEXT_REGION && m->nr_verify == 16) {
		m->hook = NULL;
		m->cpu = 10;
	}
}

static void __init test_worker_goes_astray(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int i;

	invent_topology(test, SPARSE);
	reboot(test, 40);
	m->core[10].fault = BASE_ABSENT;
	m->core[10].left_out = true;
	snp_setup_rmpopt();
	run_pass_and_ticks(test);

	reset_counts(m);
	for (i = 0; i < 40; i++)
		model_lose(m, i * GB);
	snp_rmpopt_all_physmem();
	m->hook = go_astray;
	m->cpu = 15;
	run_pass();
	KUNIT_EXPECT_NULL(test, m->hook);
	KUNIT_EXPECT_EQ(test, m->cpu, 10);
	KUNIT_EXPECT_EQ(test, m->nr_moved, 1);
	KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
	/* It has asked about each of them once, and goes on where it was. */
	KUNIT_EXPECT_EQ(test, m->nr_query, 40);
	KUNIT_EXPECT_EQ(test, m->nr_verify, 40);
	/* The two leaders catch up with each other, and the third core with both. */
	catch_up_all(test);
	KUNIT_EXPECT_EQ(test, m->nr_verify, 40 + 24 + 16 + 40);
	expect_covered(test);
}

/*
 * Clean-up.
 */

static void __init test_cleanup_without_setup(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	snp_cleanup_rmpopt();
	snp_cleanup_rmpopt();
	expect_not_set_up(test);

	/* Disabled as often as it takes one set-up to enable. */
	snp_setup_rmpopt();
	snp_cleanup_rmpopt();
	snp_cleanup_rmpopt();
	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
	expect_covered(test);
}

/* A pass that is queued does not outlive clean-up. */
static void __init test_cleanup_before_pass(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	snp_setup_rmpopt();
	snp_cleanup_rmpopt();
	expect_stopped(test);
	KUNIT_EXPECT_EQ(test, m->nr_event, 0);
}

/* Clean-up waits for a running pass, and so does a set-up. */
static void __init test_cleanup_during_pass(struct kunit *test)
{
	static void (* const stops[])(void) = { snp_cleanup_rmpopt, snp_setup_rmpopt };
	struct rmpopt_model *m = test->priv;
	struct thread stop, request;
	unsigned int i;

	invent_topology(test, SMT);
	for (i = 0; i < ARRAY_SIZE(stops); i++) {
		snp_setup_rmpopt();
		reset_counts(m);
		hold_pass(m, 2 * GB);

		run_thread(test, &stop, stops[i]);
		KUNIT_EXPECT_TRUE(test, thread_blocks(&stop));

		/* Somebody who wants another pass now comes too late. */
		run_thread(test, &request, snp_rmpopt_all_physmem);
		KUNIT_EXPECT_TRUE(test, thread_blocks(&request));
		rmpopt_page_returned(GB);
		KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

		release_pass(m);
		join_thread(&stop);
		join_thread(&request);

		/* The pass has been allowed to end, and no other has begun. */
		KUNIT_EXPECT_EQ(test, m->nr_event, 4);
		KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
		KUNIT_EXPECT_EQ(test, delayed_work_pending(&rmpopt_delayed_work), i == 1);
		expect_base(test, SMT, BASE_EN, 1);
		snp_cleanup_rmpopt();
		expect_stopped(test);
	}
}

/* What the ccp driver does if the firmware does not answer: nothing for ever after. */
static void __init test_clear_capable(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	struct kmsg_dump_iter iter;

	invent_topology(test, SMT);
	snp_setup_rmpopt();
	run_pass();
	model_tick(m, 4);
	model_assign(m, GB);
	model_unassign(m, GB);
	snp_rmpopt_all_physmem();
	reset_counts(m);
	skip_messages(&iter);

	snp_clear_rmpopt_capable();
	snp_cleanup_rmpopt();
	snp_clear_rmpopt_capable();
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "RMPOPT is not used any more"), 1);

	/* The command has been executed after all. */
	m->syscfg = 0;
	snp_setup_rmpopt();
	rmpopt_page_returned(2 * GB);
	snp_rmpopt_all_physmem();
	m->syscfg = MSR_AMD64_SYSCFG_SNP_EN;
	snp_setup_rmpopt();
	rmpopt_page_returned(3 * GB);
	snp_rmpopt_all_physmem();
	expect_stopped(test);
	KUNIT_EXPECT_EQ(test, m->nr_event, 0);
	KUNIT_EXPECT_EQ(test, m->nr_pass, 0);
	expect_base(test, SMT, BASE_EN, 1);
}

/*
 * Passes.
 */

static void __init test_pass(struct kunit *test)
{
	const struct topology_case *tc = test->param_value;
	struct rmpopt_model *m = test->priv;
	unsigned int cpu, other, i, region;
	bool first = true;

	invent_topology(test, tc);
	snp_setup_rmpopt();

	/* No matter which thread of which core the worker runs on. */
	for_each_cpu(cpu, &m->online) {
		m->cpu = cpu;
		reset_counts(m);
		model_snp_init(m);

		snp_rmpopt_all_physmem();
		run_pass();

		/* Nothing is believed to be optimized at first. */
		for (region = 0, i = 0; region < 4 && !first; region++)
			i = expect_query(test, i, region * GB, false);
		first = false;

		/* Nobody is disturbed, and what does not run is not optimized. */
		KUNIT_EXPECT_EQ(test, expect_leader(test, i, 0, 4, 0), m->nr_event);
		KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);
		KUNIT_EXPECT_EQ(test, m->nr_moved, 0);
		KUNIT_EXPECT_EQ(test, pending_timers(m), followers(m));
		for_each_cpu(other, &m->online) {
			for (region = 0; region < 4; region++)
				KUNIT_EXPECT_EQ(test, is_optimized(m, other, region * GB),
						!(followers(m) & BIT(other)));
		}

		catch_up_all(test);
		KUNIT_EXPECT_EQ(test, expect_pass(test, i, 0, 4, 0, tc->nr_cores), m->nr_event);
		KUNIT_EXPECT_EQ(test, m->nr_tick, hweight32(followers(m)));
		KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);
		expect_covered(test);

		/* The RMP is read once for each region, not once on each core. */
		KUNIT_EXPECT_EQ(test, m->nr_scan, 4);
	}
}

static void __init test_pass_assigned(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int i, region;

	invent_topology(test, SMT);
	snp_setup_rmpopt();
	model_assign(m, 1 * GB);
	run_pass_and_ticks(test);

	i = expect_pass(test, 0, 0, 4, BIT(1), SMT->nr_cores);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);
	for (region = 0; region < 4; region++)
		expect_optimized(test, region * GB, region != 1);

	/* A page that is returned is a reason for a pass. One that is assigned is not. */
	model_assign(m, 3 * GB);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	model_unassign(m, 1 * GB);
	KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_delayed_work));
	expect_optimized(test, 1 * GB, false);

	/* Nothing but the region of the page is visited. */
	m->nr_event = 0;
	run_pass_and_ticks(test);
	i = expect_pass(test, 0, 1 * GB, 1, 0, SMT->nr_cores);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);
	for (region = 0; region < 4; region++)
		expect_optimized(test, region * GB, region != 3);
}

/* A region with an assigned page costs nobody anything until the page is returned. */
static void __init test_pass_all_assigned(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int i, region;

	invent_topology(test, SMT);
	reboot(test, 20);
	for (region = 0; region < 20; region++)
		model_assign(m, region * GB);
	snp_setup_rmpopt();
	run_pass();

	i = expect_leader(test, 0, 0, 20, GENMASK(19, 0));
	KUNIT_EXPECT_EQ(test, i, m->nr_event);
	KUNIT_EXPECT_EQ(test, pending_timers(m), 0);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_chase_work));

	snp_rmpopt_all_physmem();
	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_pass, 2);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);

	m->nr_event = 0;
	model_unassign(m, 2 * GB);
	run_pass_and_ticks(test);
	i = expect_pass(test, 0, 2 * GB, 1, 0, SMT->nr_cores);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);
	expect_covered(test);
}

/* The CPUs there are, with a worker that runs anywhere, and real timers. */
static void __init test_pass_real_cpus(struct kunit *test)
{
	unsigned int nr_cores = count_real_cores(), region, i, leader;
	struct rmpopt_model *m = test->priv;
	u64 last[MODEL_CPUS] = {};
	unsigned int nr_leader = 0;

	snp_setup_rmpopt();
	model_assign(m, 2 * GB);
	run_pass_and_ticks(test);

	for (region = 0; region < 4; region++)
		expect_optimized(test, region * GB, region != 2);

	/* The worker's core goes first, and the others at their next tick. */
	KUNIT_EXPECT_EQ(test, m->nr_event, 4 + 3 * (nr_cores - 1));
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);
	KUNIT_EXPECT_EQ(test, m->nr_moved, 0);
	leader = model_core_of(m, m->event[0].cpu);
	for (i = 0; i < m->nr_event; i++) {
		struct model_event *e = &m->event[i];
		unsigned int core = model_core_of(m, e->cpu);

		KUNIT_EXPECT_EQ(test, e->cf, e->pa != 2 * GB);
		if (e->context == IN_PASS) {
			KUNIT_EXPECT_EQ(test, e->pa, nr_leader++ * GB);
			KUNIT_EXPECT_EQ(test, core, leader);
			continue;
		}
		KUNIT_EXPECT_EQ(test, e->context, IN_TICK);
		KUNIT_EXPECT_NE(test, core, leader);
		KUNIT_EXPECT_NE(test, e->pa, 2 * GB);
		/* Two threads may tick at once, but each takes its regions in order. */
		KUNIT_EXPECT_GE(test, e->pa, last[e->cpu]);
		last[e->cpu] = e->pa + GB;
	}
	KUNIT_EXPECT_EQ(test, nr_leader, 4);
}

/* A single core has a table, and it is another one each time. */
static void __init test_pass_moves_to_real_cpu(struct kunit *test)
{
	unsigned int cpu, core, i, nr_moved = 0;
	struct rmpopt_model *m = test->priv;

	if (count_real_cores() < 2)
		kunit_skip(test, "needs two cores");

	for_each_cpu(core, real_online_mask()) {
		if (core != cpumask_first(real_siblings(core)))
			continue;

		memset(m->core, 0, sizeof(m->core));
		for_each_cpu(cpu, real_online_mask()) {
			if (model_core_of(m, cpu) != core)
				m->core[cpu].fault = BASE_ABSENT;
		}
		reset_counts(m);

		snp_setup_rmpopt();
		run_pass();
		nr_moved += m->nr_moved;
		KUNIT_EXPECT_LE(test, m->nr_moved, 1);
		KUNIT_EXPECT_EQ(test, m->nr_event, 4);
		for (i = 0; i < m->nr_event; i++) {
			KUNIT_EXPECT_EQ(test, m->event[i].context, IN_PASS);
			KUNIT_EXPECT_EQ(test, model_core_of(m, m->event[i].cpu), core);
		}
		expect_covered(test);
		KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_chase_work));
		snp_cleanup_rmpopt();
	}

	/* The worker is not on the right core each time. */
	KUNIT_EXPECT_GT(test, nr_moved, 0);
}

/* If a CPU is gone in spite of frozen hotplug, the pass comes later. */
static void __init test_pass_cpu_gone(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SMT);
	snp_setup_rmpopt();

	cpumask_clear_cpu(6, &m->online);
	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_event, 0);
	KUNIT_EXPECT_EQ(test, m->nr_moved, 0);
	KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_delayed_work));

	cpumask_set_cpu(6, &m->online);
	KUNIT_EXPECT_EQ(test, run_all_passes(test), 1);
	expect_covered(test);
}

/*
 * Requests, marks, and when they are served.
 */

/* Set-up leads to a pass, but not before the firmware has settled. */
static void __init test_setup_queues_pass(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	expect_queues_pass(test, snp_setup_rmpopt);
	KUNIT_EXPECT_EQ(test, m->nr_event, 0);

	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
}

/* One pass, 10 seconds after the last request. */
static void __init test_request_restarts_timer(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	reset_counts(m);

	expect_queues_pass(test, snp_rmpopt_all_physmem);

	advance(m, 5);
	expect_queues_pass(test, snp_rmpopt_all_physmem);
	KUNIT_EXPECT_EQ(test, m->nr_event, 0);

	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
}

/* A pass does not wait for longer than 30 seconds after the first request or mark. */
static void __init test_deadline(struct kunit *test)
{
	static void (* const firsts[])(void) = { snp_rmpopt_all_physmem, return_page };
	struct rmpopt_model *m = test->priv;
	unsigned int i, round, secs;

	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	page_to_return = GB;

	/* Each round starts from scratch, whatever the one before has left to wait. */
	for (round = 0; round < 4; round++) {
		for (i = 0; i < ARRAY_SIZE(firsts); i++) {
			reset_counts(m);
			expect_queues_pass(test, firsts[i]);
			for (secs = 5; secs <= 25; secs += 5) {
				advance(m, 5);
				/* Marks do not matter. */
				rmpopt_page_returned(2 * GB);
				expect_queues_in(test, snp_rmpopt_all_physmem,
						 min(10, 30 - secs));
			}
			KUNIT_EXPECT_EQ(test, m->nr_pass, 0);
			run_pass();
			KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
			KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
		}
		advance(m, round * 13);
	}
}

/* Requests while a pass runs: the deadline is that of the next pass. */
static void __init test_deadline_during_pass(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int secs;

	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	reset_counts(m);

	snp_rmpopt_all_physmem();
	advance(m, 5);
	model_assign(m, 2 * GB);
	model_unassign(m, 2 * GB);
	hold_pass(m, 2 * GB);

	for (secs = 0; secs <= 25; secs += 5) {
		expect_queues_in(test, snp_rmpopt_all_physmem, min(10, 30 - secs));
		advance(m, secs < 25 ? 5 : 0);
	}

	/* Its time comes, and the other one is still running. */
	mod_delayed_work(rmpopt_wq, &rmpopt_delayed_work, 0);
	advance(m, 10);
	snp_rmpopt_all_physmem();
	KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_delayed_work));
	KUNIT_EXPECT_FALSE(test, timer_pending(&rmpopt_delayed_work.timer));

	release_pass(m);
	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_pass, 2);
}

/* A pass starts 10 seconds after the first mark, however many may follow. */
static void __init test_mark_queues_pass(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned long expires;
	unsigned int i;

	invent_topology(test, SPARSE);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	reset_counts(m);

	page_to_return = 1 * GB + 12 * MB;
	expect_queues_pass(test, return_page);

	advance(m, 5);
	expires = rmpopt_delayed_work.timer.expires;
	rmpopt_page_returned(1 * GB + 14 * MB);
	rmpopt_page_returned(2 * GB);
	rmpopt_page_returned(4 * GB - 4096);
	KUNIT_EXPECT_EQ(test, rmpopt_delayed_work.timer.expires, expires);

	/* A request waits for the last one, and thus for its own delay. */
	expect_queues_pass(test, snp_rmpopt_all_physmem);

	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
	i = expect_query(test, 0, 0, true);
	KUNIT_EXPECT_EQ(test, expect_pass(test, i, 1 * GB, 3, 0, 4), m->nr_event);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

	/* And again from the start. */
	reset_counts(m);
	expect_queues_pass(test, return_page);
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, m->nr_query, 0);
	KUNIT_EXPECT_EQ(test, expect_pass(test, 0, 1 * GB, 1, 0, 4), m->nr_event);
}

static void __init test_mark_not_set_up(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	/* Before set-up. */
	rmpopt_page_returned(1 * GB);
	expect_not_set_up(test);

	/* During clean-up, when the work is disabled, or after it. */
	snp_setup_rmpopt();
	snp_cleanup_rmpopt();
	rmpopt_page_returned(2 * GB);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	KUNIT_EXPECT_EQ(test, m->nr_pass, 0);

	/* Marks that are left over do no harm, and cost no pass of their own. */
	expect_queues_pass(test, snp_setup_rmpopt);
	KUNIT_EXPECT_EQ(test, run_all_passes(test), 1);
	expect_covered(test);
	reset_counts(m);
	model_assign(m, 2 * GB);
	model_unassign(m, 2 * GB);
	KUNIT_EXPECT_EQ(test, run_all_passes(test), 1);
	expect_covered(test);
}

/* The mark may be of use to whoever sees it, the locks of timers are not. */
static void __init test_mark_in_panic(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	snp_setup_rmpopt();
	run_pass_and_ticks(test);

	m->panic = true;
	rmpopt_page_returned(2 * GB);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
}

/* Pages above the tables and above the RMP. */
static void __init test_mark_beyond_window(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, ONE_CPU);
	reboot(test, 2050);
	snp_setup_rmpopt();
	run_pass();
	reset_counts(m);

	rmpopt_page_returned(2 * TB);
	rmpopt_page_returned(rmpopt_regions.nr * GB);
	rmpopt_page_returned(U64_MAX & PAGE_MASK);
	KUNIT_EXPECT_EQ(test, run_all_passes(test), 0);

	/* The last region in reach. */
	rmpopt_page_returned(2 * TB - SZ_4K);
	run_pass();
	KUNIT_EXPECT_EQ(test, expect_leader(test, 0, 2 * TB - GB, 1, 0), m->nr_event);
}

/* A request finds regions that are not optimized any more without a mark. */
static void __init test_request_queries(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int i, region;

	invent_topology(test, SPARSE);
	reboot(test, 6);
	model_assign(m, 5 * GB);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, m->nr_query, 0);
	reset_counts(m);

	/* Lost: 1. Assigned: 2. Marked: 3. Never optimized: 5. */
	model_lose(m, 1 * GB);
	model_assign(m, 2 * GB);
	model_assign(m, 3 * GB);
	model_unassign(m, 3 * GB);
	snp_rmpopt_all_physmem();
	run_pass_and_ticks(test);

	i = expect_query(test, 0, 0, true);
	i = expect_query(test, i, 1 * GB, false);
	i = expect_query(test, i, 2 * GB, false);
	i = expect_query(test, i, 4 * GB, true);
	i = expect_pass(test, i, 1 * GB, 3, BIT(1), SPARSE->nr_cores);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);
	expect_covered(test);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

	/* That the first core has failed is known by now. */
	m->nr_event = 0;
	snp_rmpopt_all_physmem();
	run_pass_and_ticks(test);
	for (region = 0, i = 0; region < 5; region++) {
		if (region != 2)
			i = expect_query(test, i, region * GB, true);
	}
	KUNIT_EXPECT_EQ(test, i, m->nr_event);

	m->nr_event = 0;
	model_unassign(m, 2 * GB);
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, expect_pass(test, 0, 2 * GB, 1, 0, SPARSE->nr_cores),
			m->nr_event);
	expect_covered(test);
}

/* A core that has not caught up does so first, as what it has yet to do is not lost. */
static void __init test_request_catches_up(struct kunit *test)
{
	const struct topology_case *tc = test->param_value;
	struct rmpopt_model *m = test->priv;
	unsigned int cpu, i, region;

	invent_topology(test, tc);
	reboot(test, 40);

	for_each_cpu(cpu, &m->online) {
		bool behind;

		model_snp_init(m);
		snp_setup_rmpopt();
		m->cpu = cpumask_first(&m->online);
		run_pass();
		behind = followers(m) & BIT(cpu);

		reset_counts(m);
		m->cpu = cpu;
		snp_rmpopt_all_physmem();
		run_pass();

		i = behind ? expect_leader(test, 0, 0, 40, 0) : 0;
		for (region = 0; region < 40; region++)
			i = expect_query(test, i, region * GB, true);
		KUNIT_EXPECT_EQ(test, i, m->nr_event);
		KUNIT_EXPECT_TRUE(test, bitmap_empty(per_cpu_ptr(rmpopt_cpus, cpu)->core->todo,
						     RMPOPT_MAX_REGIONS));

		/* It has done so for its ticks, and for nobody else. */
		catch_up_all(test);
		KUNIT_EXPECT_EQ(test, m->nr_verify, 40 * (tc->nr_cores - 1));
		expect_covered(test);
		snp_cleanup_rmpopt();
	}

	/* What it misses comes back as if it had been missed at a tick. */
	if (tc->nr_cores == 1)
		return;
	model_snp_init(m);
	m->cpu = cpumask_first(&m->online);
	snp_setup_rmpopt();
	run_pass();
	m->cpu = cpumask_last(&m->online);
	m->core[model_core_of(m, m->cpu)].unable[20] = 1;
	snp_rmpopt_all_physmem();
	run_pass();
	KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_delayed_work));
	KUNIT_EXPECT_EQ(test, m->core[model_core_of(m, m->cpu)].unable[20], 0);
	run_all_passes(test);
	expect_covered(test);
}

/*
 * Trace events.
 */

struct trace_log {
	unsigned int nr_begin, nr_end, nr_verdict, nr_stale, nr_catch_up;
	/* Of the last one. */
	unsigned int begin_reason, begin_cores;
	struct rmpopt_pass pass;
	unsigned int cores;
	u64 ns;
	unsigned int catch_up_regions, catch_up_left;
	bool catch_up_ipi;
	/* Of all of them. */
	unsigned long verdicts, optimized_regions, stale_regions;
	unsigned int stale_reasons;
	/* Of the last verdict. */
	u64 window;
};

static void probe_pass_begin(void *data, const struct rmpopt_pass *pass, unsigned int cores)
{
	struct trace_log *log = data;

	log->nr_begin++;
	log->begin_reason = pass->reason;
	log->begin_cores = cores;
}

static void probe_pass_end(void *data, const struct rmpopt_pass *pass, unsigned int cores,
			   u64 ns)
{
	struct trace_log *log = data;

	log->nr_end++;
	log->pass = *pass;
	log->cores = cores;
	log->ns = ns;
}

static void probe_verdict(void *data, u64 pa, bool optimized, u64 window)
{
	struct trace_log *log = data;

	log->nr_verdict++;
	log->window = window;
	if (pa / GB >= BITS_PER_LONG)
		return;

	__set_bit(pa / GB, &log->verdicts);
	if (optimized)
		__set_bit(pa / GB, &log->optimized_regions);
}

static void probe_stale(void *data, u64 pa, unsigned int reason)
{
	struct trace_log *log = data;

	log->nr_stale++;
	log->stale_reasons |= reason;
	if (IS_ALIGNED(pa, GB) && pa / GB < BITS_PER_LONG)
		__set_bit(pa / GB, &log->stale_regions);
}

static void probe_catch_up(void *data, unsigned int regions, const unsigned long *todo,
			   unsigned int nr)
{
	struct trace_log *log = data;

	log->nr_catch_up++;
	log->catch_up_regions = regions;
	log->catch_up_left = bitmap_weight(todo, nr);
	/* As the event has it. */
	log->catch_up_ipi = irqs_disabled();
}

static void unregister_probes(void *data)
{
	unregister_trace_rmpopt_pass_begin(probe_pass_begin, data);
	unregister_trace_rmpopt_pass_end(probe_pass_end, data);
	unregister_trace_rmpopt_verdict(probe_verdict, data);
	unregister_trace_rmpopt_stale(probe_stale, data);
	unregister_trace_rmpopt_catch_up(probe_catch_up, data);
	tracepoint_synchronize_unregister();
}

static struct trace_log * __init register_probes(struct kunit *test)
{
	struct trace_log *log;

	if (!IS_ENABLED(CONFIG_TRACEPOINTS))
		kunit_skip(test, "needs tracepoints");

	log = kunit_kzalloc(test, sizeof(*log), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, log);
	KUNIT_ASSERT_EQ(test, kunit_add_action(test, unregister_probes, log), 0);
	KUNIT_ASSERT_EQ(test, register_trace_rmpopt_pass_begin(probe_pass_begin, log), 0);
	KUNIT_ASSERT_EQ(test, register_trace_rmpopt_pass_end(probe_pass_end, log), 0);
	KUNIT_ASSERT_EQ(test, register_trace_rmpopt_verdict(probe_verdict, log), 0);
	KUNIT_ASSERT_EQ(test, register_trace_rmpopt_stale(probe_stale, log), 0);
	KUNIT_ASSERT_EQ(test, register_trace_rmpopt_catch_up(probe_catch_up, log), 0);

	return log;
}

/* Each RMPOPT of the first core takes 7 us. */
static void take_time(struct rmpopt_model *m, const struct model_step *step)
{
	if (step->point == POINT_BEFORE_INSN && step->context == IN_PASS)
		m->us += 7;
}

/*
 * Run a pass that is queued for @reason, and compare the log with the model. It leaves
 * all other cores behind if there is something to leave.
 */
static void expect_trace_pass(struct kunit *test, struct trace_log *log, unsigned int reason,
			      unsigned int nr_cores)
{
	struct rmpopt_model *m = test->priv;
	unsigned int nr_leader = 0, nr_cf = 0, i;

	log->nr_begin = 0;
	log->nr_end = 0;
	log->nr_verdict = 0;
	log->nr_catch_up = 0;
	log->verdicts = 0;
	log->optimized_regions = 0;
	reset_counts(m);
	m->hook = take_time;
	run_pass();
	m->hook = NULL;

	for (i = 0; i < m->nr_event; i++) {
		struct model_event *e = &m->event[i];

		if (e->func != RMPOPT_VERIFY_AND_REPORT)
			continue;
		nr_leader++;
		nr_cf += e->cf;
		KUNIT_EXPECT_TRUE(test, test_bit(e->pa / GB, &log->verdicts));
		KUNIT_EXPECT_EQ(test, test_bit(e->pa / GB, &log->optimized_regions), e->cf);
	}

	KUNIT_EXPECT_EQ(test, log->nr_begin, 1);
	KUNIT_EXPECT_EQ(test, log->begin_reason, reason);
	KUNIT_EXPECT_EQ(test, log->begin_cores, nr_cores);
	KUNIT_EXPECT_EQ(test, log->nr_end, 1);
	KUNIT_EXPECT_EQ(test, log->pass.reason, reason);
	KUNIT_EXPECT_EQ(test, log->cores, nr_cores);
	KUNIT_EXPECT_EQ(test, log->pass.queried, m->nr_query);
	KUNIT_EXPECT_EQ(test, log->pass.regions, nr_leader);
	KUNIT_EXPECT_EQ(test, log->pass.optimized, nr_cf);
	KUNIT_EXPECT_EQ(test, log->pass.behind, nr_cf ? nr_cores - 1 : 0);
	KUNIT_EXPECT_EQ(test, log->ns, m->nr_event * 7 * NSEC_PER_USEC);
	KUNIT_EXPECT_EQ(test, log->nr_verdict, nr_leader);
	KUNIT_EXPECT_EQ(test, log->nr_catch_up, 0);
	KUNIT_EXPECT_EQ(test, log->pass.windows, nr_leader || reason & RMPOPT_REASON_REQUEST);
}

/* Each window has verdicts, and is counted if there is something to do in it. */
static void __init test_trace_windows(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	struct trace_log *log;

	invent_nodes(test);
	log = register_probes(test);
	snp_setup_rmpopt();
	/* Regions that no window has do not become stale. */
	KUNIT_EXPECT_EQ(test, log->nr_stale, 9);
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, log->pass.windows, 2);
	KUNIT_EXPECT_EQ(test, log->nr_verdict, 7 + 5);
	KUNIT_EXPECT_EQ(test, log->window, NODE1);

	model_lose(m, 0);
	rmpopt_page_returned(0);
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, log->pass.windows, 1);
	KUNIT_EXPECT_EQ(test, log->window, 0);

	model_lose(m, 3008 * GB);
	rmpopt_page_returned(3008 * GB);
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, log->pass.windows, 1);
	KUNIT_EXPECT_EQ(test, log->window, NODE1);
}

static void expect_trace_stale(struct kunit *test, struct trace_log *log, unsigned int reason,
			       unsigned long regions)
{
	KUNIT_EXPECT_EQ(test, log->stale_reasons, reason);
	KUNIT_EXPECT_EQ(test, log->nr_stale, hweight_long(regions));
	KUNIT_EXPECT_EQ(test, log->stale_regions, regions);
	log->nr_stale = 0;
	log->stale_reasons = 0;
	log->stale_regions = 0;
}

static void __init test_trace(struct kunit *test)
{
	struct trace_log *log = register_probes(test);
	unsigned int nr_cores = SPARSE->nr_cores;
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SPARSE);
	reboot(test, 20);
	model_assign(m, 3 * GB);

	snp_setup_rmpopt();
	expect_trace_stale(test, log, RMPOPT_REASON_SETUP, GENMASK(19, 0));
	expect_trace_pass(test, log, RMPOPT_REASON_SETUP, nr_cores);
	KUNIT_EXPECT_EQ(test, log->pass.regions, 20);
	KUNIT_EXPECT_EQ(test, log->pass.optimized, 19);
	catch_up_all(test);

	/* Each region once, however many pages of it are returned. */
	model_unassign(m, 3 * GB);
	rmpopt_page_returned(3 * GB + MB);
	rmpopt_page_returned(7 * GB + MB);
	expect_trace_stale(test, log, RMPOPT_REASON_RETURN, BIT(3) | BIT(7));
	expect_trace_pass(test, log, RMPOPT_REASON_RETURN, nr_cores);
	KUNIT_EXPECT_EQ(test, log->pass.regions, 2);
	catch_up_all(test);

	model_lose(m, 4 * GB);
	model_assign(m, 5 * GB);
	snp_rmpopt_all_physmem();
	expect_trace_stale(test, log, 0, 0);
	expect_trace_pass(test, log, RMPOPT_REASON_REQUEST, nr_cores);
	KUNIT_EXPECT_EQ(test, log->pass.queried, 20);
	KUNIT_EXPECT_EQ(test, log->pass.regions, 2);
	expect_trace_stale(test, log, RMPOPT_REASON_REQUEST, BIT(4) | BIT(5));
	catch_up_all(test);

	/* Without success nobody is left behind. */
	model_assign(m, 6 * GB);
	rmpopt_page_returned(6 * GB);
	expect_trace_pass(test, log, RMPOPT_REASON_RETURN, nr_cores);
	KUNIT_EXPECT_EQ(test, log->pass.optimized, 0);
	expect_trace_stale(test, log, RMPOPT_REASON_RETURN, BIT(6));

	/* What a core misses, and misses again. */
	m->core[10].unable[18] = UNABLE_FOREVER;
	rmpopt_page_returned(17 * GB);
	rmpopt_page_returned(18 * GB);
	rmpopt_page_returned(19 * GB);
	expect_trace_stale(test, log, RMPOPT_REASON_RETURN, GENMASK(19, 17));
	expect_trace_pass(test, log, RMPOPT_REASON_RETURN, nr_cores);
	KUNIT_EXPECT_EQ(test, log->pass.optimized, 3);
	expect_trace_stale(test, log, 0, 0);
	catch_up_all(test);
	expect_trace_stale(test, log, RMPOPT_REASON_MISSED, BIT(18));
	expect_trace_pass(test, log, RMPOPT_REASON_MISSED, nr_cores);
	catch_up_all(test);
	expect_trace_stale(test, log, 0, 0);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

	/* Several reasons, of which none is left for the next pass. */
	m->core[10].unable[18] = 0;
	rmpopt_page_returned(0);
	snp_rmpopt_all_physmem();
	snp_setup_rmpopt();
	expect_trace_pass(test, log, RMPOPT_REASON_RETURN | RMPOPT_REASON_REQUEST |
			  RMPOPT_REASON_SETUP, nr_cores);
	expect_trace_stale(test, log, RMPOPT_REASON_RETURN | RMPOPT_REASON_SETUP,
			   GENMASK(19, 0));
	catch_up_all(test);
	snp_rmpopt_all_physmem();
	expect_trace_pass(test, log, RMPOPT_REASON_REQUEST, nr_cores);
	KUNIT_EXPECT_EQ(test, log->pass.regions, 0);
}

/* That is about cores that are behind for whatever reason, and there may be none. */
static void __init test_trace_behind(struct kunit *test)
{
	struct trace_log *log = register_probes(test);
	const struct topology_case *tc = test->param_value;
	struct rmpopt_model *m = test->priv;
	unsigned int cpu, behind;

	invent_topology(test, tc);
	snp_setup_rmpopt();
	expect_trace_pass(test, log, RMPOPT_REASON_SETUP, tc->nr_cores);

	behind = tc->nr_cores - 1;
	for_each_cpu(cpu, &m->online) {
		/* Once for each core. */
		if (!(followers(m) & BIT(cpu)) || cpu != model_core_of(m, cpu))
			continue;
		model_tick(m, cpu);
		snp_rmpopt_all_physmem();
		run_pass();
		KUNIT_EXPECT_EQ(test, log->pass.behind, --behind);
	}
	KUNIT_EXPECT_EQ(test, behind, 0);
}

static void expect_trace_catch_up(struct kunit *test, struct trace_log *log,
				  unsigned int regions, unsigned int left, bool ipi)
{
	KUNIT_EXPECT_EQ(test, log->nr_catch_up, 1);
	KUNIT_EXPECT_EQ(test, log->catch_up_regions, regions);
	KUNIT_EXPECT_EQ(test, log->catch_up_left, left);
	KUNIT_EXPECT_EQ(test, log->catch_up_ipi, ipi);
	log->nr_catch_up = 0;
}

static void __init test_trace_catch_up(struct kunit *test)
{
	struct trace_log *log = register_probes(test);
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SMT);
	reboot(test, 40);
	m->core[4].unable[18] = 1;
	snp_setup_rmpopt();
	run_pass();
	KUNIT_EXPECT_EQ(test, log->nr_catch_up, 0);

	/* At ticks. The second one ends with a failure, which counts. */
	model_tick(m, 4);
	expect_trace_catch_up(test, log, 16, 24, false);
	model_tick(m, 4);
	expect_trace_catch_up(test, log, 3, 21, false);
	/* What is stale does not count, be it taken or not. */
	rmpopt_page_returned(20 * GB);
	rmpopt_page_returned(39 * GB);
	model_tick(m, 5);
	expect_trace_catch_up(test, log, 16, 4, false);
	/* An IPI. */
	model_pass_time(m, BIT(4), TWO_TICKS + 1);
	run_chase();
	expect_trace_catch_up(test, log, 3, 0, true);

	/* Nothing to do, nothing to tell. */
	model_tick(m, 4);
	model_tick(m, 5);
	KUNIT_EXPECT_EQ(test, log->nr_catch_up, 0);

	/* Nor where all is stale. */
	run_pass();
	model_tick(m, 4);
	expect_trace_catch_up(test, log, 3, 0, false);
	return_regions(m, 2);
	run_pass();
	return_regions(m, 2);
	model_tick(m, 4);
	KUNIT_EXPECT_EQ(test, log->nr_catch_up, 0);

	/* A task. */
	run_pass();
	m->cpu = 4;
	snp_rmpopt_all_physmem();
	run_pass();
	expect_trace_catch_up(test, log, 2, 0, false);
}

/*
 * The file in debugfs.
 */

#define FILE_SIZE	4096

static void expect_file(struct kunit *test, const char *text)
{
	struct seq_file m = { .size = FILE_SIZE };

	m.buf = kunit_kzalloc(test, FILE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m.buf);
	KUNIT_EXPECT_EQ(test, rmpopt_show(&m, NULL), 0);
	KUNIT_ASSERT_FALSE(test, seq_has_overflowed(&m));
	KUNIT_EXPECT_STREQ(test, m.buf, text);
}

#define FILE_VERSION		"version 1\n"
#define FILE_WINDOWS			\
	FILE_VERSION			\
	"window 0-2047 cores 4 cpus 0-7\n" \
	"window 1089-3136 cores 4 cpus 8-15\n"

#define FILE_STALE			\
	FILE_WINDOWS			\
	"0-3 node 0 stale\n"		\
	"1472-1472 node 0 stale\n"	\
	"1664-1664 node 1 stale\n"	\
	"1792-1792 node 1 stale\n"	\
	"3008-3008 node 1 stale\n"	\
	"3136-3136 node 1 stale\n"

static void __init test_file(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_nodes(test);
	expect_file(test, FILE_VERSION);
	snp_setup_rmpopt();
	expect_file(test, FILE_STALE);

	/*
	 * A core that is asked catches up first. It is not the one that has gone first, and
	 * fails in region 0, so that the next pass has to visit that.
	 */
	m->cpu = 2;
	run_pass();
	model_assign(m, 0);
	model_assign(m, GB);
	model_unassign(m, GB);
	/* Without a word. */
	model_lose(m, 3008 * GB);
	m->node[2] = 1;
	reset_counts(m);
	expect_file(test,
		    FILE_WINDOWS
		    "0-1 node 0 stale\n"
		    "2-2 node 1 optimized\n"
		    "3-3 node 0 optimized\n"
		    "1472-1472 node 0 optimized\n"
		    "1664-1664 node 1 optimized\n"
		    "1792-1792 node 1 optimized\n"
		    "3008-3008 node 1 assigned\n"
		    "3136-3136 node 1 optimized\n");
	/*
	 * Once for each region, by one core of each window, in process context. To catch
	 * up is a slice, and to ask is another.
	 */
	KUNIT_EXPECT_EQ(test, m->nr_query, 9);
	KUNIT_EXPECT_EQ(test, m->nr_moved, 4);
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);
	KUNIT_EXPECT_EQ(test, m->cpu, 2);

	snp_cleanup_rmpopt();
	reset_counts(m);
	expect_file(test, FILE_VERSION);
	KUNIT_EXPECT_EQ(test, m->nr_query, 0);
}

/* All that the pass had to visit has been visited once the first region was looked at. */
static void end_of_pass(struct rmpopt_model *m, const struct model_step *step)
{
	if (step->point == POINT_AFTER_INSN)
		bitmap_zero(rmpopt_regions.todo, rmpopt_regions.nr);
}

/* What a pass has taken is stale until it has visited that. */
static void __init test_file_during_pass(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_nodes(test);
	snp_setup_rmpopt();
	rmpopt_take_stale(&rmpopt_regions);
	expect_file(test, FILE_STALE);
	m->hook = end_of_pass;
	expect_file(test, FILE_STALE);
	m->hook = NULL;

	/* Marks all of it anew. */
	snp_cleanup_rmpopt();
	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	expect_covered(test);
}

static void __init test_file_outside(struct kunit *test)
{
	/* Beyond the window, next to it and up to the last one that the RMP may reach. */
	static const unsigned int later[] = { 3137, 3200, 3263 };
	struct rmpopt_model *m = test->priv;
	unsigned int i;

	invent_nodes(test);
	unboot(test);
	set_segment(m, 3136 / MODEL_SEGMENT_REGIONS, 2);
	set_segment(m, 3200 / MODEL_SEGMENT_REGIONS, MODEL_SEGMENT_REGIONS);
	m->memory[3137] = MODEL_HOLE;
	for (i = 3200; i <= 3263; i++)
		m->memory[i] = MODEL_HOLE;
	boot(m);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	for (i = 0; i < ARRAY_SIZE(later); i++)
		m->memory[later[i]] = MODEL_RAM;
	m->memory[1792] = MODEL_HOLE;
	expect_file(test,
		    FILE_WINDOWS
		    "0-3 node 0 optimized\n"
		    "1472-1472 node 0 optimized\n"
		    "1664-1664 node 1 optimized\n"
		    "3008-3008 node 1 optimized\n"
		    "3136-3136 node 1 optimized\n"
		    "3137-3137 node 1 outside\n"
		    "3200-3200 node 1 outside\n"
		    "3263-3263 node 1 outside\n");
}

static void __init test_file_fails(struct kunit *test)
{
	struct seq_file m_seq = { .size = FILE_SIZE };
	struct rmpopt_model *m = test->priv;
	unsigned int i;

	m_seq.buf = kunit_kzalloc(test, FILE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m_seq.buf);
	invent_topology(test, SMT);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	reset_counts(m);

	for (i = 1; i <= 3; i++) {
		m->fail_alloc = i;
		KUNIT_EXPECT_EQ(test, rmpopt_show(&m_seq, NULL), -ENOMEM);
		KUNIT_EXPECT_EQ(test, m->fail_alloc, 0);
	}

	/* As while a system is suspended. */
	cpumask_clear_cpu(6, &m->online);
	KUNIT_EXPECT_EQ(test, rmpopt_show(&m_seq, NULL), -EBUSY);
	KUNIT_EXPECT_EQ(test, m->nr_query, 0);
	cpumask_set_cpu(6, &m->online);
}

/*
 * The freeze of CPU hotplug.
 */

static void __init test_hotplug_frozen(struct kunit *test)
{
	unsigned int cpu = cpumask_last(real_online_mask());
	struct rmpopt_model *m = test->priv;

	m->syscfg = 0;
	KUNIT_EXPECT_EQ(test, snp_prepare(), 0);
	KUNIT_EXPECT_NE(test, m->syscfg & MSR_AMD64_SYSCFG_SNP_EN, 0);
	KUNIT_EXPECT_EQ_MSG(test, m->frozen_at_enable, 1, "frozen before SnpEn is set");
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 1);
	KUNIT_EXPECT_EQ(test, remove_cpu(cpu), -EBUSY);

	/* Once more, as after SNP_SHUTDOWN_EX without x86 shutdown. */
	snp_shutdown();
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 1);
	KUNIT_EXPECT_EQ(test, snp_prepare(), 0);
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 1);
	KUNIT_EXPECT_EQ(test, remove_cpu(cpu), -EBUSY);

	/* The firmware clears SnpEn. */
	m->syscfg = 0;
	snp_shutdown();
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 0);
	KUNIT_EXPECT_EQ(test, remove_cpu(cpu), 0);
	KUNIT_EXPECT_EQ(test, add_cpu(cpu), 0);

	/* And again from the start. */
	KUNIT_EXPECT_EQ(test, snp_prepare(), 0);
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 1);
	m->syscfg = 0;
	snp_shutdown();
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 0);
}

static void __init test_hotplug_cpu_offline(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, &topology_cases[2]);
	m->syscfg = 0;
	KUNIT_EXPECT_EQ(test, snp_prepare(), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, m->syscfg & MSR_AMD64_SYSCFG_SNP_EN, 0);
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 0);
}

static struct kunit_case rmpopt_test_cases[] __refdata = {
	KUNIT_CASE(test_fault),
	KUNIT_CASE(test_model),
	KUNIT_CASE_PARAM(test_model_lock, lock_gen_params),
	KUNIT_CASE_PARAM(test_base_on_each_core, topology_gen_params),
	KUNIT_CASE_PARAM(test_housekeeping, topology_gen_params),
	KUNIT_CASE_PARAM(test_window, window_gen_params),
	KUNIT_CASE(test_covered),
	KUNIT_CASE(test_setup_without_snp),
	KUNIT_CASE(test_setup_during_reboot),
	KUNIT_CASE_PARAM(test_setup_twice, lock_gen_params),
	KUNIT_CASE_PARAM(test_setup_after_cleanup, lock_gen_params),
	KUNIT_CASE_PARAM(test_x86_shutdown, life_gen_params),
	KUNIT_CASE_PARAM(test_kexec, topology_gen_params),
	KUNIT_CASE(test_two_windows),
	KUNIT_CASE(test_nodes),
	KUNIT_CASE(test_assigned_between_windows),
	KUNIT_CASE(test_returned_between_windows),
	KUNIT_CASE(test_cpu_gone_between_windows),
	KUNIT_CASE(test_pieces_of_memory),
	KUNIT_CASE(test_out_of_reach),
	KUNIT_CASE(test_no_memory_to_choose),
	KUNIT_CASE_PARAM(test_memory, memory_gen_params),
	KUNIT_CASE(test_nodes_after_kexec),
	KUNIT_CASE_PARAM(test_core_refuses, fault_gen_params),
	KUNIT_CASE_PARAM(test_all_cores_refuse, fault_gen_params),
	KUNIT_CASE(test_other_leader),
	KUNIT_CASE(test_slices),
	KUNIT_CASE(test_worker_goes_astray),
	KUNIT_CASE(test_cleanup_without_setup),
	KUNIT_CASE(test_cleanup_before_pass),
	KUNIT_CASE(test_cleanup_during_pass),
	KUNIT_CASE(test_clear_capable),
	KUNIT_CASE_PARAM(test_pass, topology_gen_params),
	KUNIT_CASE(test_pass_assigned),
	KUNIT_CASE(test_pass_all_assigned),
	KUNIT_CASE(test_pass_real_cpus),
	KUNIT_CASE(test_pass_moves_to_real_cpu),
	KUNIT_CASE(test_pass_cpu_gone),
	KUNIT_CASE(test_setup_queues_pass),
	KUNIT_CASE(test_request_restarts_timer),
	KUNIT_CASE(test_deadline),
	KUNIT_CASE(test_deadline_during_pass),
	KUNIT_CASE(test_mark_queues_pass),
	KUNIT_CASE(test_mark_not_set_up),
	KUNIT_CASE(test_mark_in_panic),
	KUNIT_CASE(test_mark_beyond_window),
	KUNIT_CASE(test_request_queries),
	KUNIT_CASE_PARAM(test_request_catches_up, topology_gen_params),
	KUNIT_CASE(test_trace_windows),
	KUNIT_CASE(test_trace),
	KUNIT_CASE_PARAM(test_trace_behind, topology_gen_params),
	KUNIT_CASE(test_trace_catch_up),
	KUNIT_CASE(test_file),
	KUNIT_CASE(test_file_during_pass),
	KUNIT_CASE(test_file_outside),
	KUNIT_CASE(test_file_fails),
	KUNIT_CASE_SLOW(test_hotplug_frozen),
	KUNIT_CASE(test_hotplug_cpu_offline),
	{}
};

static struct kunit_suite rmpopt_test_suite __refdata = {
	.name = "snp_rmpopt",
	.init = rmpopt_test_init,
	.exit = rmpopt_test_exit,
	.test_cases = rmpopt_test_cases,
};
