// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of RMPOPT: how the other cores catch up with a pass.
 */

/*
 * The other cores catch up at their ticks.
 */

/* Let the CPU tick until its core has caught up. Returns the number of ticks. */
static unsigned int tick_until_done(struct kunit *test, unsigned int cpu)
{
	struct rmpopt_model *m = test->priv;
	unsigned int n = 0;

	while (n < 1000 && model_tick(m, cpu)) {
		bool left = !bitmap_empty(per_cpu_ptr(rmpopt_cpus, cpu)->core->todo,
					  RMPOPT_MAX_REGIONS);

		n++;
		KUNIT_EXPECT_EQ_MSG(test, !!m->timer[cpu], left, "CPU %u, tick %u", cpu, n);
		KUNIT_EXPECT_EQ_MSG(test, per_cpu_ptr(rmpopt_cpus, cpu)->armed, left,
				    "CPU %u, tick %u", cpu, n);
	}

	return n;
}

/*
 * 16 regions at each tick, once on each core. The first thread to tick takes them: the
 * others may be asleep, and find nothing when they wake up.
 */
static void __init test_ticks(struct kunit *test)
{
	static const unsigned int nr_stale[] = { 1, 2, 15, 16, 17, 31, 32, 33, 40 };
	const struct topology_case *tc = test->param_value;
	struct rmpopt_model *m = test->priv;
	unsigned int i, cpu, nr, last;

	invent_topology(test, tc);
	reboot(test, 40);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, m->nr_verify, 40 * tc->nr_cores);

	for (i = 0; i < 2 * ARRAY_SIZE(nr_stale); i++) {
		reset_counts(m);
		nr = nr_stale[i / 2];
		last = i % 2;
		return_regions(m, nr);
		run_pass();
		KUNIT_EXPECT_EQ(test, m->nr_verify, nr);

		for_each_cpu(cpu, &m->online) {
			const struct cpumask *siblings = &m->siblings[cpu];

			if (!(followers(m) & BIT(cpu)) ||
			    cpu != (last ? cpumask_last(siblings) : cpumask_first(siblings)))
				continue;

			KUNIT_EXPECT_EQ_MSG(test, tick_until_done(test, cpu),
					    DIV_ROUND_UP(nr, 16), "%u regions, CPU %u", nr,
					    cpu);
		}
		KUNIT_EXPECT_EQ_MSG(test, m->nr_verify, nr * tc->nr_cores, "%u regions", nr);
		KUNIT_EXPECT_EQ(test, rmpopt_behind(), 0);
		expect_covered(test);

		/* The other threads. */
		for_each_cpu(cpu, &m->online)
			KUNIT_EXPECT_LE(test, tick_until_done(test, cpu), 1);
		KUNIT_EXPECT_EQ(test, m->nr_verify, nr * tc->nr_cores);
		KUNIT_EXPECT_EQ(test, m->nr_query, 0);
		KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);
		KUNIT_EXPECT_EQ(test, pending_timers(m), 0);
	}
}

/* Threads that tick in turn share the work, and are armed as long as there is any. */
static void __init test_ticks_in_turn(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int n;

	invent_topology(test, SMT);
	reboot(test, 80);
	snp_setup_rmpopt();
	run_pass();
	reset_counts(m);

	for (n = 1; n <= 5; n++) {
		KUNIT_EXPECT_TRUE(test, model_tick(m, 4 + n % 2));
		KUNIT_EXPECT_EQ(test, m->nr_verify, 16 * n);
		KUNIT_EXPECT_TRUE(test, is_optimized(m, 4, (16 * n - 1) * GB));
		KUNIT_EXPECT_FALSE(test, is_optimized(m, 4, 16 * n * GB));
		/* The one that has taken the last regions is not armed any more. */
		KUNIT_EXPECT_EQ(test, pending_timers(m) & (BIT(4) | BIT(5)),
				n < 5 ? BIT(4) | BIT(5) : BIT(4));
	}
	KUNIT_EXPECT_TRUE(test, model_tick(m, 4));
	KUNIT_EXPECT_EQ(test, m->nr_verify, 80);
	KUNIT_EXPECT_EQ(test, pending_timers(m) & (BIT(4) | BIT(5)), 0);
}

/* What several passes leave adds up, each region once, and timers are armed once. */
static void __init test_ticks_of_passes(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int n;

	invent_topology(test, SPARSE);
	reboot(test, 40);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	reset_counts(m);

	for (n = 1; n <= 10; n++) {
		return_regions(m, n);
		run_pass();
		KUNIT_EXPECT_EQ(test, m->nr_tick, 0);
		KUNIT_EXPECT_EQ(test, pending_timers(m), followers(m));
	}
	m->nr_verify = 0;
	catch_up_all(test);
	KUNIT_EXPECT_EQ(test, m->nr_verify, 10 * (SPARSE->nr_cores - 1));
	KUNIT_EXPECT_EQ(test, m->nr_tick, hweight32(followers(m)));
	expect_covered(test);
}

static void tick_at_once(struct rmpopt_model *m, const struct model_step *step)
{
	unsigned int cpu;

	/* Not what such a tick arms. */
	if (step->point != POINT_ARMED || step->context != IN_PASS)
		return;

	for (cpu = 0; cpu < MODEL_CPUS; cpu++)
		model_tick(m, cpu);
}

/* Each core has a tick as soon as its timer is armed, and does all there is. */
static void __init test_tick_at_once(struct kunit *test)
{
	const struct topology_case *tc = test->param_value;
	struct rmpopt_model *m = test->priv;

	invent_topology(test, tc);
	reboot(test, 40);
	m->hook = tick_at_once;
	snp_setup_rmpopt();
	run_pass();
	m->hook = NULL;
	KUNIT_EXPECT_EQ(test, m->nr_verify, 40 * tc->nr_cores);
	KUNIT_EXPECT_EQ(test, pending_timers(m), 0);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_chase_work));
	expect_covered(test);
}

/* A timer wheel that is behind makes the timer expire several times at a tick. */
static void __init test_tick_of_late_wheel(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int i;

	invent_topology(test, SMT);
	reboot(test, 40);
	snp_setup_rmpopt();
	run_pass();
	reset_counts(m);

	for (i = 1; i <= 3; i++) {
		KUNIT_ASSERT_TRUE(test, model_tick(m, 2));
		KUNIT_EXPECT_EQ(test, m->nr_verify, min(16 * i, 40));
		if (!m->timer[2])
			break;
		model_expire(m, 2, 2);
		model_expire(m, 2, 2);
		KUNIT_EXPECT_EQ(test, m->nr_verify, min(16 * i, 40));
		KUNIT_EXPECT_NOT_NULL(test, m->timer[2]);
	}
	KUNIT_EXPECT_EQ(test, i, 3);
}

/* All of it in a window that does not begin at 0. */
static void __init test_ticks_in_window(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int i;

	invent_topology(test, SPARSE);
	reboot(test, 60);
	for (i = 0; i < MODEL_CPUS; i++)
		m->core[i].rmpopt_base = 5 * GB | BASE_EN;
	m->core[10].unable[35] = 1;
	snp_setup_rmpopt();
	run_pass();
	KUNIT_EXPECT_EQ(test, expect_leader(test, 0, 5 * GB, 55, 0), m->nr_event);
	m->nr_event = 0;
	rmpopt_page_returned(40 * GB);
	catch_up_all(test);

	/* One core has missed region 35, the others have skipped what is stale by then. */
	for (i = 0; i < m->nr_event; i++) {
		KUNIT_EXPECT_NE(test, m->event[i].pa, 40 * GB);
		if (m->event[i].pa == 35 * GB)
			KUNIT_EXPECT_EQ(test, m->event[i].cf, m->event[i].cpu != 10);
	}
	KUNIT_EXPECT_EQ(test, find_first_bit(rmpopt_regions.failed, rmpopt_regions.nr), 35);
	reset_counts(m);
	run_pass_and_ticks(test);
	i = expect_leader(test, 0, 35 * GB, 1, 0);
	i = expect_leader(test, i, 40 * GB, 1, 0);
	KUNIT_EXPECT_EQ(test, m->nr_verify, 2 * SPARSE->nr_cores);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	expect_covered(test);

	/* The CPU goes away with it. */
	model_lose(m, 50 * GB);
	rmpopt_page_returned(50 * GB);
	run_pass();
	model_expire(m, 10, 4);
	catch_up_all(test);
	reset_counts(m);
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, expect_pass(test, 0, 50 * GB, 1, 0, SPARSE->nr_cores), m->nr_event);
	expect_covered(test);

	/* And so does the first core, by a request. */
	model_lose(m, 59 * GB);
	rmpopt_page_returned(59 * GB);
	run_pass();
	reset_counts(m);
	m->cpu = 15;
	snp_rmpopt_all_physmem();
	run_pass();
	i = expect_leader(test, 0, 59 * GB, 1, 0);
	KUNIT_EXPECT_EQ(test, m->nr_query, 55);
	KUNIT_EXPECT_EQ(test, m->nr_event, i + 55);
}

/* The core that goes first is another one each time, and behind with the last pass. */
static void __init test_leader_behind(struct kunit *test)
{
	const struct topology_case *tc = test->param_value;
	struct rmpopt_model *m = test->priv;
	unsigned int cpu;

	invent_topology(test, tc);
	reboot(test, 40);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);

	for_each_cpu(cpu, &m->online) {
		m->cpu = cpu;
		return_regions(m, 20);
		run_pass();
	}
	catch_up_all(test);
	expect_covered(test);
}

/* A batch of which the verdicts are lost between the first core and the others. */
static void lose_verdicts(struct rmpopt_model *m, const struct model_step *step)
{
	unsigned int region;

	if (step->point != POINT_PASS_END)
		return;

	m->hook = NULL;
	for (region = 3; region < 16; region++)
		model_assign(m, region * GB);
}

/* Each core reads the RMP of one region at most at a tick. */
static void __init test_follower_stops(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int region, n, i;

	invent_topology(test, SPARSE);
	reboot(test, 16);
	snp_setup_rmpopt();
	m->cpu = 15;
	m->hook = lose_verdicts;
	run_pass();
	KUNIT_EXPECT_NULL(test, m->hook);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

	/* One core sees all of them, and each tick is over with the first failure. */
	for (n = 0; n < 13; n++) {
		reset_counts(m);
		KUNIT_EXPECT_TRUE(test, model_tick(m, 1));
		KUNIT_EXPECT_EQ(test, m->nr_verify, n ? 1 : 4);
		KUNIT_EXPECT_EQ(test, m->nr_scan_once, 1);
		KUNIT_EXPECT_EQ(test, m->event[m->nr_event - 1].pa, (3 + n) * GB);
		KUNIT_EXPECT_FALSE(test, m->event[m->nr_event - 1].cf);
		KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_delayed_work));
	}
	KUNIT_EXPECT_FALSE(test, model_tick(m, 1));

	/* The others know by then. */
	reset_counts(m);
	catch_up_all(test);
	KUNIT_EXPECT_EQ(test, m->nr_verify, 2 * 3);
	KUNIT_EXPECT_EQ(test, m->nr_scan, 0);

	/* All of these are tried once more, and by the first core. */
	reset_counts(m);
	run_pass_and_ticks(test);
	i = expect_pass(test, 0, 3 * GB, 13, GENMASK(12, 0), SPARSE->nr_cores);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

	for (region = 3; region < 16; region++)
		model_unassign(m, region * GB);
	run_all_passes(test);
	expect_covered(test);
}

/* The same, but the pages have been returned by then. */
static void convert_verdicts(struct rmpopt_model *m, const struct model_step *step)
{
	unsigned int region;

	if (step->point != POINT_PASS_END)
		return;

	m->hook = NULL;
	for (region = 3; region < 16; region++) {
		if (region == 9)
			continue;
		model_assign(m, region * GB);
		model_unassign(m, region * GB);
	}
}

static void __init test_follower_skips_stale(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SMT);
	reboot(test, 16);
	snp_setup_rmpopt();
	m->hook = convert_verdicts;
	run_pass_and_ticks(test);
	KUNIT_EXPECT_NULL(test, m->hook);
	KUNIT_EXPECT_EQ(test, m->nr_scan_once, 0);
	KUNIT_EXPECT_EQ(test, m->nr_verify, 16 + 7 * 4);
	expect_optimized(test, 9 * GB, true);

	/* The next pass has to serve that. */
	reset_counts(m);
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, m->nr_verify, 12 * SMT->nr_cores);
	KUNIT_EXPECT_EQ(test, run_all_passes(test), 0);
	expect_covered(test);
}

/* Whatever else happens then, SnpEn may have been cleared. */
static void __init test_tick_in_panic(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SMT);
	snp_setup_rmpopt();
	run_pass();
	reset_counts(m);

	m->panic = true;
	m->syscfg = 0;
	KUNIT_EXPECT_TRUE(test, model_tick(m, 4));
	KUNIT_EXPECT_FALSE(test, model_tick(m, 4));
	/* Nor on another CPU. */
	model_expire(m, 6, 8);
	KUNIT_EXPECT_EQ(test, m->nr_event, 0);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
}

/*
 * A CPU that goes offline leaves its timer to another one, which cannot do its work.
 * When it comes back, its table may be empty.
 */
static void __init test_timer_migrates(struct kunit *test)
{
	const struct topology_case *tc = test->param_value;
	struct rmpopt_model *m = test->priv;
	unsigned int cpu, i;

	invent_topology(test, tc);
	reboot(test, 20);

	for_each_cpu(cpu, &m->online) {
		snp_setup_rmpopt();
		run_pass();
		if (!(followers(m) & BIT(cpu)))
			continue;

		reset_counts(m);
		model_expire(m, cpu, m->cpu);
		KUNIT_EXPECT_EQ(test, m->nr_event, 0);
		KUNIT_EXPECT_EQ(test, per_cpu_ptr(rmpopt_cpus, cpu)->armed, 0);
		KUNIT_EXPECT_TRUE(test, bitmap_empty(per_cpu_ptr(rmpopt_cpus, cpu)->core->todo,
						     RMPOPT_MAX_REGIONS));
		KUNIT_EXPECT_EQ(test, pending_timers(m), followers(m) & ~BIT(cpu));
		KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_delayed_work));
		/* The others do not visit what is stale. */
		catch_up_all(test);
		KUNIT_EXPECT_EQ(test, m->nr_event, 0);

		/* All of it once more, and only once. */
		run_pass_and_ticks(test);
		i = expect_pass(test, 0, 0, 20, 0, tc->nr_cores);
		KUNIT_EXPECT_EQ(test, i, m->nr_event);
		KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
		expect_covered(test);
	}
}

/* Nothing to give back if the other thread has been quicker. */
static void __init test_timer_migrates_late(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SMT);
	snp_setup_rmpopt();
	run_pass();
	KUNIT_EXPECT_TRUE(test, model_tick(m, 4));
	reset_counts(m);
	model_expire(m, 5, 0);
	KUNIT_EXPECT_EQ(test, m->nr_event, 0);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	catch_up_all(test);
	expect_covered(test);
}

/*
 * Cores that miss something.
 */

static struct kunit *missing_test;

static void queue_missed(void)
{
	catch_up_all(missing_test);
}

/* What some core misses for no reason comes back once, after the usual time. */
static void __init test_missed_once(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int i;

	invent_topology(test, SMT);
	reboot(test, 33);
	m->core[4].unable[18] = 1;
	snp_setup_rmpopt();
	run_pass();
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	missing_test = test;
	expect_queues_pass(test, queue_missed);

	/* Nothing but this region. Who ticks later leaves it to the next pass. */
	for (i = 0; i < 33; i++)
		KUNIT_EXPECT_EQ(test, is_optimized(m, 4, i * GB), i != 18);
	KUNIT_EXPECT_TRUE(test, is_optimized(m, 2, 18 * GB));
	KUNIT_EXPECT_FALSE(test, is_optimized(m, 6, 18 * GB));

	reset_counts(m);
	run_pass_and_ticks(test);
	i = expect_pass(test, 0, 18 * GB, 1, 0, SMT->nr_cores);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	expect_covered(test);
}

/* Several cores fail in several places, each a few times. */
static void __init test_missed_here_and_there(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SMT);
	reboot(test, 40);
	m->core[2].unable[5] = 1;
	m->core[6].unable[3] = 1;
	m->core[6].unable[39] = 1;
	m->core[8].unable[15] = 1;
	m->core[10].unable[16] = 1;
	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, run_all_passes(test), 2);
	expect_covered(test);
}

/* A core that cannot optimize some regions keeps nobody busy, and costs no others. */
static void __init test_missed_forever(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int region;

	invent_topology(test, SMT);
	reboot(test, 40);
	m->core[4].unable[2] = UNABLE_FOREVER;
	m->core[4].unable[7] = UNABLE_FOREVER;
	m->core[4].unable[15] = UNABLE_FOREVER;
	m->core[6].unable[8] = UNABLE_FOREVER;
	m->core[6].unable[39] = UNABLE_FOREVER;
	snp_setup_rmpopt();
	/* One to see, and one to give up. */
	KUNIT_EXPECT_EQ(test, run_all_passes(test), 2);

	for (region = 0; region < 40; region++) {
		KUNIT_EXPECT_EQ_MSG(test, is_optimized(m, 4, region * GB),
				    region != 2 && region != 7 && region != 15, "region %u",
				    region);
		KUNIT_EXPECT_EQ_MSG(test, is_optimized(m, 6, region * GB),
				    region != 8 && region != 39, "region %u", region);
	}

	/* Another chance when a page of it is returned. */
	m->core[4].unable[7] = 0;
	model_assign(m, 7 * GB);
	model_unassign(m, 7 * GB);
	KUNIT_EXPECT_EQ(test, run_all_passes(test), 1);
	KUNIT_EXPECT_TRUE(test, is_optimized(m, 4, 7 * GB));

	model_assign(m, 2 * GB);
	model_unassign(m, 2 * GB);
	KUNIT_EXPECT_EQ(test, run_all_passes(test), 2);
	KUNIT_EXPECT_FALSE(test, is_optimized(m, 4, 2 * GB));
}

/* Neither is a pass for something else another chance, nor does it cost one. */
static void __init test_missed_and_returned(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SMT);
	m->core[4].unable[2] = 5;
	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	rmpopt_page_returned(0);
	KUNIT_EXPECT_EQ(test, run_all_passes(test), 1);
	snp_rmpopt_all_physmem();
	KUNIT_EXPECT_EQ(test, run_all_passes(test), 1);
	KUNIT_EXPECT_FALSE(test, is_optimized(m, 4, 2 * GB));
	KUNIT_EXPECT_TRUE(test, is_optimized(m, 4, 3 * GB));
	KUNIT_EXPECT_EQ(test, m->core[4].unable[2], 3);

	rmpopt_page_returned(2 * GB);
	run_pass_and_ticks(test);
	rmpopt_page_returned(0);
	KUNIT_EXPECT_EQ(test, run_all_passes(test), 1);
	KUNIT_EXPECT_FALSE(test, is_optimized(m, 4, 2 * GB));
	KUNIT_EXPECT_EQ(test, m->core[4].unable[2], 1);

	/* Set-up is one. */
	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, run_all_passes(test), 2);
	expect_covered(test);
}

/* The first core may fail as well. That looks like an assigned page. */
static void __init test_leader_unable(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SMT);
	m->core[0].unable[2] = UNABLE_FOREVER;
	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, run_all_passes(test), 1);
	KUNIT_EXPECT_EQ(test, expect_pass(test, 0, 0, 4, BIT(2), SMT->nr_cores), m->nr_event);
}

/*
 * Cores that run, but have no tick at which they could catch up.
 */

/* Have all cores but that of m->cpu be behind with @nr regions. */
static void leave_behind(struct kunit *test, unsigned int nr)
{
	struct rmpopt_model *m = test->priv;

	return_regions(m, nr);
	run_pass();
	reset_counts(m);
}

/* All CPUs are idle but that of the pass and @cpu. */
static void let_two_run(struct rmpopt_model *m, unsigned int cpu)
{
	cpumask_setall(&m->idle);
	cpumask_clear_cpu(m->cpu, &m->idle);
	cpumask_clear_cpu(cpu, &m->idle);
}

/* What a core visits by IPIs, from event @i on. Returns the index of the next event. */
static unsigned int expect_ipis(struct kunit *test, unsigned int i, unsigned int cpu,
				unsigned int nr)
{
	struct rmpopt_model *m = test->priv;
	u64 last = 0;

	for (; nr; nr--) {
		KUNIT_ASSERT_LT(test, i, m->nr_event);
		KUNIT_EXPECT_GE(test, m->event[i].pa, last);
		last = m->event[i].pa + GB;
		i = expect_event(test, i, m->event[i].pa, RMPOPT_VERIFY_AND_REPORT, IN_IPI, cpu,
				 true);
	}

	return i;
}

/* Each CPU in turn has no tick. It is interrupted once for 16 regions, and nobody else. */
static void __init test_chase(struct kunit *test)
{
	static const unsigned int nr_stale[] = { 1, 16, 17, 32, 40 };
	const struct topology_case *tc = test->param_value;
	struct rmpopt_model *m = test->priv;
	unsigned int i, cpu, nr;

	invent_topology(test, tc);
	reboot(test, 40);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);

	for (i = 0; i < ARRAY_SIZE(nr_stale); i++) {
		nr = nr_stale[i];
		for_each_cpu(cpu, &m->online) {
			leave_behind(test, nr);
			model_pass_time(m, BIT(cpu), TWO_TICKS + 1);
			run_chase();
			if (!(followers(m) & BIT(cpu))) {
				/* It has gone first. */
				KUNIT_EXPECT_EQ(test, m->nr_event, 0);
				KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);
				catch_up_all(test);
				continue;
			}

			KUNIT_EXPECT_EQ_MSG(test, m->nr_ipi, DIV_ROUND_UP(nr, 16),
					    "%u regions, CPU %u", nr, cpu);
			KUNIT_EXPECT_EQ(test, expect_ipis(test, 0, cpu, nr), m->nr_event);
			KUNIT_EXPECT_EQ(test, rmpopt_behind(), tc->nr_cores - 2);
			/* Again if there are others. */
			KUNIT_EXPECT_EQ(test, delayed_work_pending(&rmpopt_chase_work),
					tc->nr_cores > 2);

			/* Its timer may expire some day, and then nothing is left for it. */
			reset_counts(m);
			KUNIT_EXPECT_EQ(test, pending_timers(m), followers(m));
			catch_up_all(test);
			KUNIT_EXPECT_EQ(test, m->nr_verify, nr * (tc->nr_cores - 2));
			expect_covered(test);
		}
	}

	/* Nobody is behind any more, which ends it. */
	reset_counts(m);
	model_pass_time(m, -1UL, USEC_PER_SEC);
	run_chase();
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_chase_work));
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);
}

/* All of them at once. A core is done when one of its threads is. */
static void __init test_chase_all(struct kunit *test)
{
	const struct topology_case *tc = test->param_value;
	struct rmpopt_model *m = test->priv;

	invent_topology(test, tc);
	reboot(test, 40);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);

	leave_behind(test, 33);
	model_pass_time(m, -1UL, USEC_PER_SEC);
	run_chase();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 3 * (tc->nr_cores - 1));
	KUNIT_EXPECT_EQ(test, m->nr_verify, 33 * (tc->nr_cores - 1));
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_chase_work));
	expect_covered(test);
}

/* Not before 30 seconds after the pass, and as long as somebody is behind. */
static void __init test_chase_deadline(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned long from;
	unsigned int n;

	invent_topology(test, SMT);
	reboot(test, 40);
	from = real_jiffies();
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_chase_work));
	snp_setup_rmpopt();
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_chase_work));
	run_pass();
	expect_due_in(test, &rmpopt_chase_work, from, 30);

	/* Another pass does not put it off. */
	advance(m, 20);
	rmpopt_page_returned(0);
	run_pass();
	expect_due_in(test, &rmpopt_chase_work, from, 10);

	for (n = 0; n < 3; n++) {
		from = real_jiffies();
		run_chase();
		expect_due_in(test, &rmpopt_chase_work, from, 30);
	}
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);

	catch_up_all(test);
	run_chase();
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_chase_work));

	/* Where all have caught up at the end of the pass there is nobody to look after. */
	snp_rmpopt_all_physmem();
	run_pass();
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_chase_work));
}

/* A core may run for two ticks in all until its tick comes. Then it has none. */
static void __init test_chase_run_time(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int n;

	invent_topology(test, SMT);
	reboot(test, 40);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);

	/* All sleep, be it for I/O or not. */
	leave_behind(test, 1);
	model_pass_time(m, 0, 30 * USEC_PER_SEC);
	run_chase();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);

	/* A little at a time. */
	for (n = 0; n < TWO_TICKS; n += TWO_TICKS / 8) {
		run_chase();
		KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);
		model_pass_time(m, BIT(4), TWO_TICKS / 8);
		model_pass_time(m, 0, USEC_PER_SEC);
	}
	run_chase();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);
	model_pass_time(m, BIT(4), 1);
	run_chase();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 1);
	KUNIT_EXPECT_EQ(test, expect_ipis(test, 0, 4, 1), m->nr_event);

	/* What it has run before does not count. */
	catch_up_all(test);
	model_pass_time(m, -1UL, USEC_PER_SEC);
	leave_behind(test, 1);
	model_pass_time(m, -1UL, TWO_TICKS);
	run_chase();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);

	/* More to catch up with does not put it off. */
	catch_up_all(test);
	leave_behind(test, 1);
	model_pass_time(m, BIT(4), TWO_TICKS);
	leave_behind(test, 2);
	model_pass_time(m, BIT(4), 1);
	run_chase();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 1);
	KUNIT_EXPECT_EQ(test, expect_ipis(test, 0, 4, 2), m->nr_event);

	/* From each tick on anew. */
	catch_up_all(test);
	leave_behind(test, 40);
	model_pass_time(m, BIT(6), TWO_TICKS);
	KUNIT_EXPECT_TRUE(test, model_tick(m, 6));
	model_pass_time(m, BIT(6), TWO_TICKS);
	run_chase();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);

	/* The kernel does not promise that these times only grow. */
	m->idle_us[8] += USEC_PER_SEC;
	run_chase();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);
}

/* CPU 4 becomes busy when the machine has waited for so many us in all. */
static u64 busy_at;

static void become_busy(struct rmpopt_model *m, const struct model_step *step)
{
	if (step->point == POINT_WAIT && m->us >= busy_at)
		cpumask_clear_cpu(4, &m->idle);
}

/* A CPU that is idle is not woken up, but waited for, for two ticks. */
static void __init test_chase_idle(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	u64 start;

	invent_topology(test, SMT);
	reboot(test, 40);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);

	let_two_run(m, m->cpu);
	leave_behind(test, 40);
	model_pass_time(m, BIT(4), USEC_PER_SEC);
	start = m->us;
	run_chase();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);
	KUNIT_EXPECT_GE(test, m->us - start, TWO_TICKS);
	KUNIT_EXPECT_LE(test, m->us - start, TWO_TICKS + 200);

	/* It is left alone until it has run again. */
	cpumask_clear_cpu(4, &m->idle);
	start = m->us;
	run_chase();
	model_pass_time(m, BIT(4), TWO_TICKS);
	run_chase();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);
	KUNIT_EXPECT_EQ(test, m->us - start, TWO_TICKS);
	model_pass_time(m, BIT(4), 1);
	run_chase();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 3);
	KUNIT_EXPECT_EQ(test, expect_ipis(test, 0, 4, 40), m->nr_event);

	/* It wakes up in time. */
	m->hook = become_busy;
	catch_up_all(test);
	leave_behind(test, 40);
	model_pass_time(m, BIT(4), TWO_TICKS + 1);
	cpumask_set_cpu(4, &m->idle);
	busy_at = m->us + TWO_TICKS - 100;
	run_chase();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 3);
	KUNIT_EXPECT_EQ(test, expect_ipis(test, 0, 4, 40), m->nr_event);

	/* And too late. */
	catch_up_all(test);
	leave_behind(test, 40);
	model_pass_time(m, BIT(4), TWO_TICKS + 1);
	cpumask_set_cpu(4, &m->idle);
	busy_at = m->us + TWO_TICKS + 200;
	run_chase();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);
	m->hook = NULL;
}

static void fall_asleep(struct rmpopt_model *m, const struct model_step *step)
{
	if (step->point == POINT_IPI_END) {
		m->hook = NULL;
		cpumask_set_cpu(4, &m->idle);
	}
}

/* It falls asleep between two IPIs. The rest waits. */
static void __init test_chase_falls_asleep(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SMT);
	reboot(test, 40);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);

	leave_behind(test, 40);
	model_pass_time(m, BIT(4), TWO_TICKS + 1);
	let_two_run(m, 4);
	m->hook = fall_asleep;
	run_chase();
	KUNIT_EXPECT_NULL(test, m->hook);
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 1);
	KUNIT_EXPECT_EQ(test, expect_ipis(test, 0, 4, 16), m->nr_event);

	/* It goes on at its tick if it has got one by then. */
	m->nr_verify = 0;
	KUNIT_EXPECT_EQ(test, tick_until_done(test, 4), 2);
	KUNIT_EXPECT_EQ(test, m->nr_verify, 24);
}

/* The threads of a core may be one of each kind. */
static void __init test_chase_siblings(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int cpu;

	invent_topology(test, SMT);
	reboot(test, 40);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);

	/* Its sibling has a tick, and has caught up. */
	leave_behind(test, 16);
	model_pass_time(m, BIT(4) | BIT(5), USEC_PER_SEC);
	KUNIT_EXPECT_EQ(test, tick_until_done(test, 5), 1);
	run_chase();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);

	/* Its sibling is asleep, whichever it is. */
	for (cpu = 4; cpu <= 5; cpu++) {
		catch_up_all(test);
		leave_behind(test, 16);
		let_two_run(m, cpu);
		model_pass_time(m, BIT(cpu), TWO_TICKS + 1);
		run_chase();
		KUNIT_EXPECT_EQ(test, m->nr_ipi, 1);
		KUNIT_EXPECT_EQ(test, expect_ipis(test, 0, cpu, 16), m->nr_event);
	}

	/* Both have run, and the first one has just fallen asleep. */
	catch_up_all(test);
	leave_behind(test, 16);
	model_pass_time(m, BIT(4) | BIT(5), TWO_TICKS + 1);
	run_chase();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 1);
	KUNIT_EXPECT_EQ(test, expect_ipis(test, 0, 5, 16), m->nr_event);
}

/* Each IPI reads the RMP of one region at most, and the next one goes on. */
static void __init test_chase_stops(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SMT);
	reboot(test, 16);
	snp_setup_rmpopt();
	m->hook = lose_verdicts;
	run_pass();
	KUNIT_EXPECT_NULL(test, m->hook);

	reset_counts(m);
	model_pass_time(m, BIT(4), TWO_TICKS + 1);
	run_chase();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 13);
	KUNIT_EXPECT_EQ(test, m->nr_verify, 16);
	KUNIT_EXPECT_EQ(test, m->nr_scan_once, 1);
	KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_delayed_work));
}

/* CPUs that come and go, in spite of frozen hotplug. */
static void __init test_chase_cpu_gone(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	/* CPU 13 has been offline. */
	invent_topology(test, &topology_cases[4]);
	reboot(test, 40);
	snp_setup_rmpopt();
	run_pass();
	reset_counts(m);
	cpumask_set_cpu(13, &m->online);
	model_offline(m, 6);
	model_pass_time(m, BIT(6) | BIT(13), USEC_PER_SEC);
	run_chase();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 0);
	KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_chase_work));
}

/* The CPUs there are, and real IPIs to all of them. */
static void __init test_chase_real_cpus(struct kunit *test)
{
	unsigned int nr_cores = count_real_cores(), i;
	struct rmpopt_model *m = test->priv;

	if (nr_cores < 2)
		kunit_skip(test, "needs two cores");

	m->tickless = true;
	reboot(test, 40);
	snp_setup_rmpopt();
	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_event, 40);
	reset_counts(m);
	model_assign(m, 20 * GB);
	model_pass_time(m, -1UL, USEC_PER_SEC);
	run_chase();

	/* The one that fails for region 20 is told to stop there, and tells all others. */
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 3 * (nr_cores - 1) + 1);
	KUNIT_EXPECT_EQ(test, m->nr_event, 39 * (nr_cores - 1) + 1);
	KUNIT_EXPECT_EQ(test, rmpopt_behind(), 0);
	for (i = 0; i < m->nr_event; i++) {
		KUNIT_EXPECT_EQ(test, m->event[i].context, IN_IPI);
		KUNIT_EXPECT_EQ(test, m->event[i].cf, m->event[i].pa != 20 * GB);
	}

	/* Another core may go first this time. */
	model_unassign(m, 20 * GB);
	run_pass();
	model_pass_time(m, -1UL, USEC_PER_SEC);
	run_chase();
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	expect_covered(test);
	snp_cleanup_rmpopt();
	m->tickless = false;
}

/*
 * Clean-up of what cores have yet to do.
 */

/* What cores have not caught up with is of no use any more. */
static void __init test_cleanup_before_ticks(struct kunit *test)
{
	static void (* const stops[])(void) = { snp_cleanup_rmpopt, snp_setup_rmpopt };
	const struct topology_case *tc = test->param_value;
	struct rmpopt_model *m = test->priv;
	unsigned int i, ticks;

	invent_topology(test, tc);
	reboot(test, 40);

	for (i = 0; i < ARRAY_SIZE(stops); i++) {
		/* None, some and all but some have caught up. */
		for (ticks = 0; ticks < 3; ticks++) {
			unsigned int cpu, n;

			model_snp_init(m);
			snp_setup_rmpopt();
			run_pass();
			KUNIT_EXPECT_EQ(test, pending_timers(m), followers(m));
			for_each_cpu(cpu, &m->online) {
				for (n = 0; n < ticks; n++)
					model_tick(m, cpu);
			}

			reset_counts(m);
			stops[i]();
			KUNIT_EXPECT_EQ(test, pending_timers(m), 0);
			KUNIT_EXPECT_EQ(test, rmpopt_behind(), 0);
			catch_up_all(test);
			KUNIT_EXPECT_EQ(test, m->nr_event, 0);
			snp_cleanup_rmpopt();
			expect_stopped(test);

			/* The next set-up begins with all of them. */
			model_snp_init(m);
			snp_setup_rmpopt();
			run_pass_and_ticks(test);
			KUNIT_EXPECT_EQ(test, m->nr_verify, 40 * tc->nr_cores);
			expect_covered(test);
			snp_cleanup_rmpopt();
		}
	}
}

/* Its timer moves to another CPU, and is not to be found by the CPUs that are online. */
static void __init test_cleanup_without_cpu(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SMT);
	snp_setup_rmpopt();
	run_pass();
	model_offline(m, 7);
	KUNIT_EXPECT_NOT_NULL(test, m->timer[7]);

	snp_cleanup_rmpopt();
	expect_stopped(test);
}

/* A tick that is held, and what it sees of the clean-up meanwhile. */
struct held_tick {
	struct thread stop;
	void (*func)(void);
	struct completion go, run;
	/* Where the test runs. */
	unsigned int cpu;
	bool ready;
	bool begun;
	bool let_go;
	/* What keeps CPUs from being idle until one is in that tick. */
	struct thread busy[MODEL_CPUS];
};

static struct held_tick held_tick;

/* Hold the first tick on another CPU until clean-up has waited for it for a while. */
static void hold_tick(struct rmpopt_model *m, const struct model_step *step)
{
	ktime_t end = ktime_add_ms((ktime_get)(), 20 * MSEC_PER_SEC);
	struct held_tick *ht = &held_tick;

	if (step->point != POINT_BEFORE_INSN || step->context != IN_TICK ||
	    real_cpu() == ht->cpu || !READ_ONCE(ht->ready) || xchg(&ht->begun, true))
		return;

	while (!READ_ONCE(m->stopping) && ktime_before((ktime_get)(), end))
		cpu_relax();
	if (!READ_ONCE(m->stopping))
		atomic_inc(&m->nr_rule);

	end = ktime_add_ms((ktime_get)(), 50);
	while (ktime_before((ktime_get)(), end)) {
		if (completion_done(&ht->stop.done))
			WRITE_ONCE(ht->let_go, true);
		cpu_relax();
	}
}

static void stop_during_tick(void)
{
	wait_for_completion(&held_tick.go);
	held_tick.func();
}

static void run_until_tick(void)
{
	unsigned long end = real_jiffies() + 20 * HZ;

	wait_for_completion(&held_tick.run);
	while (!READ_ONCE(held_tick.begun) && time_before(real_jiffies(), end))
		cond_resched();
}

/* Keep a CPU from being idle for a few ticks. */
static long run_some_ticks(void *unused)
{
	unsigned long end = real_jiffies() + 3;

	while (time_before(real_jiffies(), end))
		cond_resched();

	return 0;
}

/* Clean-up waits for ticks as well, and so does a set-up. These are real. */
static void __init test_cleanup_during_tick(struct kunit *test)
{
	static void (* const stops[])(void) = { snp_cleanup_rmpopt, snp_setup_rmpopt };
	unsigned long end = real_jiffies() + 20 * HZ;
	struct rmpopt_model *m = test->priv;
	struct held_tick *ht = &held_tick;
	unsigned int i, cpu, nr;

	if (count_real_cores() < 2)
		kunit_skip(test, "needs two cores");

	/* Nothing that the test needs may wait for the CPU of the tick. */
	*ht = (struct held_tick) { .cpu = cpumask_first(real_online_mask()) };
	set_cpus_allowed_ptr(current, cpumask_of(ht->cpu));

	reboot(test, 40);
	for (i = 0; i < ARRAY_SIZE(stops); i++) {
		init_completion(&ht->go);
		init_completion(&ht->run);
		ht->func = stops[i];
		run_thread_on(test, &ht->stop, ht->cpu, stop_during_tick);
		KUNIT_EXPECT_TRUE(test, thread_blocks(&ht->stop));

		/* Before a tick is held, as kthreadd may be on that CPU. */
		ht->begun = false;
		for_each_cpu(cpu, real_online_mask())
			run_thread_on(test, &ht->busy[cpu], cpu, run_until_tick);

		snp_setup_rmpopt();
		m->stopping = false;
		m->hook = hold_tick;
		run_pass();
		WRITE_ONCE(ht->ready, true);
		complete_all(&ht->run);
		/* However far ticks have come during the pass. */
		scoped_guard(cpus_read_lock)
			rmpopt_follow(0);
		while (!READ_ONCE(ht->begun) && time_before(real_jiffies(), end))
			schedule_timeout_uninterruptible(1);
		KUNIT_EXPECT_TRUE(test, READ_ONCE(ht->begun));

		complete(&ht->go);
		join_thread(&ht->stop);
		for_each_cpu(cpu, real_online_mask())
			join_thread(&ht->busy[cpu]);
		nr = READ_ONCE(m->nr_verify);
		WRITE_ONCE(ht->ready, false);
		WRITE_ONCE(m->hook, NULL);
		KUNIT_EXPECT_FALSE(test, READ_ONCE(ht->let_go));

		for_each_cpu(cpu, real_online_mask())
			real_work_on_cpu(cpu, run_some_ticks, NULL);
		KUNIT_EXPECT_EQ(test, m->nr_verify, nr);
		snp_cleanup_rmpopt();
		expect_stopped(test);
	}

	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	expect_covered(test);
}

static void hold_chase(struct rmpopt_model *m, const struct model_step *step)
{
	if (step->point == POINT_WAIT) {
		m->hook = NULL;
		complete(&m->held);
		wait_for_completion(&m->proceed);
		cpumask_clear(&m->idle);
	}
}

/* Clean-up waits for it, and so does a set-up. */
static void __init test_cleanup_during_chase(struct kunit *test)
{
	static void (* const stops[])(void) = { snp_cleanup_rmpopt, snp_setup_rmpopt };
	struct rmpopt_model *m = test->priv;
	struct thread stop;
	unsigned int i;

	invent_topology(test, SMT);
	reboot(test, 40);
	for (i = 0; i < ARRAY_SIZE(stops); i++) {
		model_snp_init(m);
		snp_setup_rmpopt();
		run_pass();
		reset_counts(m);
		cpumask_setall(&m->idle);
		model_pass_time(m, -1UL, USEC_PER_SEC);
		m->hook = hold_chase;
		mod_delayed_work(rmpopt_wq, &rmpopt_chase_work, 0);
		wait_for_completion(&m->held);

		run_thread(test, &stop, stops[i]);
		KUNIT_EXPECT_TRUE(test, thread_blocks(&stop));
		complete(&m->proceed);
		join_thread(&stop);

		/* It has been allowed to end, and not to go on later. */
		KUNIT_EXPECT_EQ(test, m->nr_ipi, 3 * (SMT->nr_cores - 1));
		KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_chase_work));
		snp_cleanup_rmpopt();
		expect_stopped(test);
	}

	/* The same with some left. */
	snp_setup_rmpopt();
	run_pass();
	KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_chase_work));
	snp_cleanup_rmpopt();
	expect_stopped(test);
}

static struct kunit_case rmpopt_catch_up_test_cases[] __refdata = {
	KUNIT_CASE_PARAM(test_ticks, topology_gen_params),
	KUNIT_CASE(test_ticks_in_turn),
	KUNIT_CASE(test_ticks_of_passes),
	KUNIT_CASE_PARAM(test_tick_at_once, topology_gen_params),
	KUNIT_CASE(test_tick_of_late_wheel),
	KUNIT_CASE(test_ticks_in_window),
	KUNIT_CASE_PARAM(test_leader_behind, topology_gen_params),
	KUNIT_CASE(test_follower_stops),
	KUNIT_CASE(test_follower_skips_stale),
	KUNIT_CASE(test_tick_in_panic),
	KUNIT_CASE_PARAM(test_timer_migrates, topology_gen_params),
	KUNIT_CASE(test_timer_migrates_late),
	KUNIT_CASE(test_missed_once),
	KUNIT_CASE(test_missed_here_and_there),
	KUNIT_CASE(test_missed_forever),
	KUNIT_CASE(test_missed_and_returned),
	KUNIT_CASE(test_leader_unable),
	KUNIT_CASE_PARAM(test_chase, topology_gen_params),
	KUNIT_CASE_PARAM(test_chase_all, topology_gen_params),
	KUNIT_CASE(test_chase_deadline),
	KUNIT_CASE(test_chase_run_time),
	KUNIT_CASE(test_chase_idle),
	KUNIT_CASE(test_chase_falls_asleep),
	KUNIT_CASE(test_chase_siblings),
	KUNIT_CASE(test_chase_stops),
	KUNIT_CASE(test_chase_cpu_gone),
	KUNIT_CASE(test_chase_real_cpus),
	KUNIT_CASE_PARAM(test_cleanup_before_ticks, topology_gen_params),
	KUNIT_CASE(test_cleanup_without_cpu),
	KUNIT_CASE_SLOW(test_cleanup_during_tick),
	KUNIT_CASE(test_cleanup_during_chase),
	{}
};

static struct kunit_suite rmpopt_catch_up_test_suite __refdata = {
	.name = "snp_rmpopt_catch_up",
	.init = rmpopt_test_init,
	.exit = rmpopt_test_exit,
	.test_cases = rmpopt_catch_up_test_cases,
};
