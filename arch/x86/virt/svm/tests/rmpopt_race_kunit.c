// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of RMPOPT: what happens at the same time as a pass, a tick or an IPI.
 */

/* The three steps of a conversion, at the points of a pass at which they happen. */
struct conversion {
	u64 pa;
	unsigned int at[3];
	/* The next point, and the next step of the conversion. */
	unsigned int point, next;
};

static void run_conversion(struct rmpopt_model *m, struct conversion *c)
{
	for (; c->next < 3 && c->at[c->next] <= c->point; c->next++) {
		switch (c->next) {
		case 0:
			model_assign(m, c->pa);
			break;
		case 1:
			model_rmpupdate(m, c->pa);
			break;
		case 2:
			rmpopt_page_returned(c->pa);
			break;
		}
	}
	c->point++;
}

static void conversion_hook(struct rmpopt_model *m, const struct model_step *step)
{
	/* RMP and marks do not matter where a timer is armed or disarmed. */
	if (step->point != POINT_RUN_TIME && step->point != POINT_ARMED &&
	    step->point != POINT_TICK_DISARMED && step->point != POINT_TICK_END)
		run_conversion(m, m->hook_data);
}

/*
 * A page is assigned, is returned by RMPUPDATE, and the return is noted: each of
 * these at each point of a pass, and of ticks after it. Point 0 is before it. The pass
 * begins, looks for regions, queries two, visits a third on the first core, looks for
 * more, and ends. Two cores have a tick, which begins and visits the region.
 */
#define CONVERSION_POINTS	(1 + 1 + 1 + 2 * 2 + 2 + 1 + 1 + 2 * (1 + 2))

static void __init test_conversion(struct kunit *test)
{
	struct topology_case tc = { .core = ADJACENT, .online = 0x8430, .nr_cores = 3 };
	struct rmpopt_model *m = test->priv;
	struct conversion c;
	u64 pa;

	invent_topology(test, &tc);
	reboot(test, 3);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);

	for (pa = 0; pa < 3 * GB; pa += GB) {
		unsigned int a, b, n;

		for (n = 0; n < CONVERSION_POINTS * CONVERSION_POINTS * CONVERSION_POINTS; n++) {
			a = n % CONVERSION_POINTS;
			b = n / CONVERSION_POINTS % CONVERSION_POINTS;
			c = (struct conversion) {
				.pa = pa,
				.at = { a, b, n / (CONVERSION_POINTS * CONVERSION_POINTS) },
			};
			if (b < a || c.at[2] < b)
				continue;

			/* Region 1 is to be visited. */
			model_assign(m, 1 * GB);
			model_unassign(m, 1 * GB);
			snp_rmpopt_all_physmem();

			run_conversion(m, &c);
			m->hook_data = &c;
			m->hook = conversion_hook;
			run_pass_and_ticks(test);
			m->hook = NULL;
			if (a == CONVERSION_POINTS - 1)
				KUNIT_EXPECT_EQ(test, c.point, CONVERSION_POINTS);

			/* There are fewer points if a page stays assigned. */
			c.point = CONVERSION_POINTS;
			run_conversion(m, &c);
			KUNIT_ASSERT_EQ(test, c.next, 3);
			run_all_passes(test);
			if (!expect_covered(test)) {
				KUNIT_FAIL(test, "page at 0x%llx, steps at %u, %u, %u", pa,
					   c.at[0], c.at[1], c.at[2]);
				return;
			}
		}
	}
}

/* Several pages, in one region and in others, while a pass visits @late_region. */
static u64 late_region;

static void late_conversions(struct rmpopt_model *m, const struct model_step *step)
{
	unsigned int n, region;

	if (step->point != POINT_AFTER_INSN || step->pa != late_region ||
	    step->context == IN_PASS)
		return;

	/* Once, at the first tick or in the first IPI. */
	m->hook = NULL;
	for (region = 0; region < 20; region++) {
		for (n = 0; n < 3; n++)
			model_assign(m, region * GB + n * MB);
		for (n = 0; n < 3; n++)
			model_unassign(m, region * GB + n * MB);
	}
}

static void __init test_conversions_in_tick(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int ipi;

	invent_topology(test, SPARSE);
	reboot(test, 20);
	snp_setup_rmpopt();

	for (ipi = 0; ipi < 2; ipi++) {
		run_pass();
		reset_counts(m);
		late_region = 3 * GB;
		m->hook = late_conversions;
		if (ipi) {
			model_pass_time(m, -1UL, TWO_TICKS + 1);
			run_chase();
		}
		catch_up_all(test);
		KUNIT_EXPECT_NULL(test, m->hook);
		KUNIT_EXPECT_EQ(test, m->nr_verify, 4);
		KUNIT_EXPECT_EQ(test, !!m->nr_ipi, ipi);

		/* All marks are new. */
		KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_delayed_work));
		reset_counts(m);
		run_pass_and_ticks(test);
		KUNIT_EXPECT_EQ(test, expect_pass(test, 0, 0, 20, 0, SPARSE->nr_cores),
				m->nr_event);
		KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
		expect_covered(test);

		snp_setup_rmpopt();
	}
}

/* A page that is assigned between the first core and the others. */
static void late_assign(struct rmpopt_model *m, const struct model_step *step)
{
	if (step->point == POINT_AFTER_INSN && step->pa == late_region &&
	    step->context == IN_PASS) {
		m->hook = NULL;
		model_assign(m, late_region);
	}
}

static void __init test_assigned_before_tick(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SPARSE);
	snp_setup_rmpopt();

	late_region = 3 * GB;
	m->hook = late_assign;
	run_pass();
	KUNIT_EXPECT_NULL(test, m->hook);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	catch_up_all(test);
	expect_optimized(test, 3 * GB, false);

	/* The others say so, and then the first core sees it as well. */
	KUNIT_EXPECT_EQ(test, run_all_passes(test), 1);
	expect_covered(test);

	model_unassign(m, 3 * GB);
	run_all_passes(test);
	expect_optimized(test, 3 * GB, true);
}

/* What happens at a point of a tick, and where. */
struct meanwhile {
	unsigned int at;
	unsigned int point;
	/* The first core adds this region, or none. */
	u64 pa;
	/* Another CPU has a tick. */
	bool tick;
	unsigned int cpu;
};

#define NO_REGION		U64_MAX

static void meanwhile_hook(struct rmpopt_model *m, const struct model_step *step)
{
	struct meanwhile *mw = m->hook_data;
	struct model_interrupted i;

	if (step->context != IN_TICK || mw->point++ != mw->at)
		return;

	if (mw->pa != NO_REGION) {
		i = model_interrupt(m, 0, IN_PASS);
		model_lose(m, mw->pa);
		rmpopt_optimize(mw->pa);
		model_return(m, i);
	}
	if (mw->tick)
		model_tick(m, mw->cpu);
}

/*
 * Nothing is lost that the first core adds at any point of a tick, and that another
 * thread takes: either this tick sees it, or the timer is armed for another one.
 */
static void __init test_meanwhile(struct kunit *test)
{
	/* In the tick, in a further one, in none. */
	static const u64 regions[] = { NO_REGION, 0, 7 * GB, 35 * GB, 39 * GB };
	static const unsigned int nr_left[] = { 1, 16, 17, 33 };
	struct rmpopt_model *m = test->priv;
	unsigned int i, n, cpu, nr_points = 0;
	struct meanwhile mw;

	invent_topology(test, SMT);
	reboot(test, 40);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);

	for (i = 0; i < 4 * ARRAY_SIZE(regions) * ARRAY_SIZE(nr_left); i++) {
		unsigned int nr = nr_left[i / 4 / ARRAY_SIZE(regions)];

		mw = (struct meanwhile) {
			.pa = regions[i / 4 % ARRAY_SIZE(regions)],
			.tick = i % 4,
			/* The sibling, the same one, and a core that has nothing to do with it. */
			.cpu = i % 4 == 1 ? 5 : i % 4 == 2 ? 4 : 8,
		};

		for (mw.at = 0; ; mw.at++) {
			return_regions(m, nr);
			run_pass();

			mw.point = 0;
			m->hook_data = &mw;
			m->hook = meanwhile_hook;
			scoped_guard(cpus_read_lock) {
				guard(migrate)();
				for (n = 0; n < 100 && model_tick(m, 4); n++)
					;
			}
			m->hook = NULL;
			if (mw.point <= mw.at)
				break;

			for_each_cpu(cpu, &m->online)
				KUNIT_EXPECT_EQ(test, per_cpu_ptr(rmpopt_cpus, cpu)->armed,
						!!m->timer[cpu]);
			catch_up_all(test);
			if (!expect_covered(test)) {
				KUNIT_FAIL(test, "%u regions, added 0x%llx, tick of CPU %u, at %u",
					   nr, mw.pa, mw.cpu, mw.at);
				return;
			}
		}
		catch_up_all(test);
		nr_points = max(nr_points, mw.at);
	}

	/* 33 regions take 3 ticks, which begin, disarm the timer, and all but one arm it. */
	KUNIT_EXPECT_GE(test, nr_points, 33 * 2 + 3 * 3 + 2);
}

/*
 * A request that comes when a pass has been taken off the queue, but has not looked
 * why it runs: the next pass has to serve what hardware drops after that.
 */
static void hold_at_begin(struct rmpopt_model *m, const struct model_step *step)
{
	if (step->point == POINT_PASS_BEGIN) {
		m->hook = NULL;
		complete(&m->held);
		wait_for_completion(&m->proceed);
	}
}

static void __init test_request_at_begin(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SPARSE);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	reset_counts(m);

	rmpopt_page_returned(2 * GB);
	m->hook = hold_at_begin;
	mod_delayed_work(rmpopt_wq, &rmpopt_delayed_work, 0);
	wait_for_completion(&m->held);
	expect_queues_pass(test, snp_rmpopt_all_physmem);
	complete(&m->proceed);
	/* Waits for the one that is running, not for the timer of the next one. */
	flush_work(&rmpopt_delayed_work.work);
	KUNIT_EXPECT_EQ(test, m->nr_pass, 1);

	model_lose(m, 0);
	KUNIT_EXPECT_EQ(test, run_all_passes(test), 1);
	expect_covered(test);

	/* Once is enough. */
	reset_counts(m);
	rmpopt_page_returned(2 * GB);
	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_query, 0);
}

/* A request that comes later during a pass leads to another one, which queries. */
static void __init test_request_in_pass(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, SPARSE);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	reset_counts(m);

	rmpopt_page_returned(2 * GB);
	hold_pass(m, 2 * GB);
	model_lose(m, 0);
	expect_queues_pass(test, snp_rmpopt_all_physmem);
	KUNIT_EXPECT_EQ(test, m->nr_query, 0);
	release_pass(m);

	run_all_passes(test);
	KUNIT_EXPECT_EQ(test, m->nr_pass, 2);
	KUNIT_EXPECT_EQ(test, m->nr_query, 4);
	expect_covered(test);
}

/* The same with a page, on the CPUs there are. */
static void __init test_return_in_pass(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	snp_setup_rmpopt();
	model_assign(m, 0);
	hold_pass(m, 2 * GB);

	/* The pass has been there already. */
	model_unassign(m, 0);
	expect_queues_pass(test, snp_rmpopt_all_physmem);

	release_pass(m);
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, m->nr_pass, 2);
	expect_optimized(test, 0, true);
}

/*
 * Anything goes, and after that it is quiet.
 */

#define RANDOM_HOT		6
#define RANDOM_MARKS		4
#define RANDOM_REGIONS		50
/* No page of this one is converted. */
#define RANDOM_MISSED		(RANDOM_REGIONS - 1)

/**
 * struct random_state - The state of a random test
 *
 * @rnd: Where random numbers come from.
 * @windows: Cores have different windows.
 * @hot: Regions that conversions take place in.
 * @nr_assigned: Pages of these that are assigned.
 * @mark: Pages of which the return has not been noted.
 * @nr_marks: Number of entries in @mark.
 * @budget: Number of operations left for this round.
 */
struct random_state {
	struct rnd_state rnd;
	bool windows;
	u64 hot[RANDOM_HOT];
	unsigned int nr_assigned[RANDOM_HOT];
	u64 mark[RANDOM_MARKS];
	unsigned int nr_marks;
	unsigned int budget;
};

static unsigned int random_below(struct random_state *r, unsigned int ceil)
{
	return prandom_u32_state(&r->rnd) % ceil;
}

static void random_mark(struct random_state *r)
{
	unsigned int n = random_below(r, r->nr_marks);
	u64 pa = r->mark[n];

	r->mark[n] = r->mark[--r->nr_marks];
	rmpopt_page_returned(pa);
}

static void random_op(struct rmpopt_model *m, struct random_state *r)
{
	unsigned int n = random_below(r, RANDOM_HOT);
	u64 pa = r->hot[n] + random_below(r, SZ_1G / SZ_4K) * (u64)SZ_4K;

	switch (random_below(r, 7)) {
	case 0:
		model_assign(m, pa);
		r->nr_assigned[n]++;
		break;
	case 1:
		if (r->nr_assigned[n]) {
			r->nr_assigned[n]--;
			model_unassign(m, pa);
		}
		break;
	case 2:
		if (r->nr_assigned[n] && r->nr_marks < RANDOM_MARKS) {
			r->nr_assigned[n]--;
			model_rmpupdate(m, pa);
			r->mark[r->nr_marks++] = pa;
		}
		break;
	case 3:
		if (r->nr_marks)
			random_mark(r);
		break;
	case 4:
	case 5:
		/* Ticks come when a CPU is not in one already. */
		if (m->context == IN_PASS)
			model_tick(m, random_below(r, MODEL_CPUS));
		break;
	case 6:
		cpumask_bits(&m->idle)[0] = prandom_u32_state(&r->rnd);
		model_pass_time(m, prandom_u32_state(&r->rnd), random_below(r, 2 * TWO_TICKS));
		break;
	}
}

static void random_hook(struct rmpopt_model *m, const struct model_step *step)
{
	struct random_state *r = m->hook_data;

	while (r->budget && !random_below(r, 4)) {
		r->budget--;
		random_op(m, r);
	}
}

/* Returns whether it is quiet after that. */
static bool random_round(struct kunit *test, struct random_state *r)
{
	struct rmpopt_model *m = test->priv;
	bool lose = !random_below(r, 4);
	unsigned int n, i;
	u64 pa;

	reset_counts(m);
	for (n = 0; n < RANDOM_HOT; n++) {
		/* Pages that stay assigned stay with their region. */
		if (r->nr_assigned[n])
			continue;
		do {
			pa = random_below(r, RANDOM_MISSED) * GB;
			for (i = 0; i < RANDOM_HOT; i++) {
				if (i != n && r->hot[i] == pa)
					break;
			}
		} while (i < RANDOM_HOT);
		r->hot[n] = pa;
	}

	for (n = random_below(r, 4); n; n--)
		random_op(m, r);

	if (lose) {
		catch_up_all(test);
		for (n = 0; n < 3; n++)
			model_lose(m, r->hot[n]);
	}
	if (lose || !random_below(r, 4))
		snp_rmpopt_all_physmem();

	/* The worker runs anywhere. */
	n = random_below(r, MODEL_CPUS);
	m->cpu = cpumask_next_wrap(n, &m->online);

	/*
	 * Now and then another core misses something, but not twice in a row. Not one
	 * that goes first in a window of its own: what has failed there is assigned.
	 */
	n = model_core_of(m, cpumask_last(&m->online));
	if (!r->windows && n != model_core_of(m, m->cpu) && !random_below(r, 4)) {
		model_lose(m, RANDOM_MISSED * GB);
		rmpopt_page_returned(RANDOM_MISSED * GB);
		m->core[n].unable[RANDOM_MISSED] = 1;
	}

	r->budget = random_below(r, 30);
	m->hook_data = r;
	m->hook = random_hook;
	for (n = random_below(r, 3); n; n--)
		run_pass();
	if (!random_below(r, 3))
		run_chase();
	if (random_below(r, 3))
		run_all_passes(test);
	m->hook = NULL;

	/* What it has not missed yet it is not going to. */
	for (n = 0; n < MODEL_CPUS; n++)
		memset(m->core[n].unable, 0, sizeof(m->core[n].unable));

	/* Some rounds leave something behind. */
	if (!random_below(r, 3))
		return false;

	/* Often all pages are gone. */
	for (n = 0; n < RANDOM_HOT && !random_below(r, 2); n++) {
		for (; r->nr_assigned[n]; r->nr_assigned[n]--)
			model_unassign(m, r->hot[n]);
	}
	while (r->nr_marks)
		random_mark(r);
	run_all_passes(test);
	catch_up_all(test);

	return true;
}

#define RANDOM_ROUNDS		150

static void __init run_at_random(struct kunit *test, bool windows)
{
	const struct topology_case *tc = test->param_value;
	u64 seed = 20260801 + (tc - topology_cases);
	struct rmpopt_model *m = test->priv;
	struct random_state *r;
	unsigned int round, i;

	r = kunit_kzalloc(test, sizeof(*r), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, r);
	kunit_info(test, "seed %llu\n", seed);
	prandom_seed_state(&r->rnd, seed);
	r->windows = windows;

	invent_topology(test, tc);
	reboot(test, RANDOM_REGIONS);
	for (i = 0; windows && i < MODEL_CPUS; i++)
		m->core[i].rmpopt_base = random_below(r, RANDOM_REGIONS + 2) * GB | BASE_EN;
	for (round = 0; round < RANDOM_HOT; round++)
		r->hot[round] = (2 + round) * GB;
	snp_setup_rmpopt();

	for (round = 0; round < RANDOM_ROUNDS; round++) {
		/* What the firmware does now and then. */
		if (!random_below(r, 32)) {
			snp_cleanup_rmpopt();
			random_op(m, r);
			snp_setup_rmpopt();
		}

		if (random_round(test, r) && !expect_covered(test)) {
			KUNIT_FAIL(test, "seed %llu, round %u", seed, round);
			return;
		}
	}
}

static void __init test_random(struct kunit *test)
{
	run_at_random(test, false);
}

static void __init test_random_windows(struct kunit *test)
{
	run_at_random(test, true);
}

/*
 * From all CPUs at once.
 */

static bool stop_requests;

static void request_many(void)
{
	do {
		snp_rmpopt_all_physmem();
		cond_resched();
	} while (!READ_ONCE(stop_requests));
}

/* Requests while RMPOPT comes and goes and passes run. */
static void __init test_requests_from_all_cpus(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int cpu, i, nr = 0;
	struct thread *threads;

	threads = kunit_kcalloc(test, nr_cpu_ids, sizeof(*threads), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, threads);

	WRITE_ONCE(stop_requests, false);
	for_each_cpu(cpu, real_online_mask()) {
		run_thread_on(test, &threads[nr], cpu, request_many);
		nr++;
	}

	/* A request may take a pass off the queue again that is to run at once. */
	for (i = 0; i < 5; i++) {
		snp_setup_rmpopt();
		run_pass();
		snp_cleanup_rmpopt();
		KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	}

	WRITE_ONCE(stop_requests, true);
	for (i = 0; i < nr; i++)
		join_thread(&threads[i]);

	/* No worse for it. */
	reset_counts(m);
	snp_setup_rmpopt();
	run_pass_and_ticks(test);
	KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
	expect_covered(test);
}

static bool stop_returns;

static void return_many(void)
{
	u64 pa = 0;

	do {
		rmpopt_page_returned(pa);
		pa = (pa + GB) % (4 * GB);
		cond_resched();
	} while (!READ_ONCE(stop_returns));
}

/* Pages are returned meanwhile. */
static void __init test_returns_during_setup(struct kunit *test)
{
	unsigned int cpu, i, nr = 0;
	struct thread threads[2];

	WRITE_ONCE(stop_returns, false);
	for_each_cpu(cpu, real_online_mask()) {
		run_thread_on(test, &threads[nr], cpu, return_many);
		if (++nr == ARRAY_SIZE(threads))
			break;
	}

	for (i = 0; i < 6; i++) {
		snp_setup_rmpopt();
		run_pass();
		snp_cleanup_rmpopt();
		KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	}
	snp_setup_rmpopt();
	run_pass();

	WRITE_ONCE(stop_returns, true);
	for (i = 0; i < nr; i++)
		join_thread(&threads[i]);

	run_all_passes(test);
	catch_up_all(test);
	expect_covered(test);
}

static bool stop_conversions;

static void convert_many(void)
{
	struct rmpopt_model *m = rmpopt_model;
	u64 pa = 0;

	do {
		model_assign(m, pa);
		model_unassign(m, pa);
		pa = (pa + 7 * GB) % (40 * GB);
		cond_resched();
	} while (!READ_ONCE(stop_conversions));
}

/* Passes add to what cores have yet to do, real ticks take from it, and pages move. */
static void __init test_real_ticks_during_passes(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int cpu, i, nr = 0;
	struct thread threads[3];
	bool ticked = false;

	reboot(test, 40);
	snp_setup_rmpopt();
	WRITE_ONCE(stop_conversions, false);
	for_each_cpu(cpu, real_online_mask()) {
		run_thread_on(test, &threads[nr], cpu, convert_many);
		if (++nr == ARRAY_SIZE(threads))
			break;
	}

	for (i = 0; i < 300; i++) {
		if (!(i % 16))
			snp_rmpopt_all_physmem();
		run_pass();
	}

	WRITE_ONCE(stop_conversions, true);
	for (i = 0; i < nr; i++)
		join_thread(&threads[i]);

	run_all_passes(test);
	catch_up_all(test);
	expect_covered(test);

	for (i = 0; i < m->nr_event; i++)
		ticked |= m->event[i].context == IN_TICK;
	KUNIT_EXPECT_TRUE(test, ticked);
}

static struct kunit_case rmpopt_race_test_cases[] __refdata = {
	KUNIT_CASE_SLOW(test_conversion),
	KUNIT_CASE(test_conversions_in_tick),
	KUNIT_CASE(test_assigned_before_tick),
	KUNIT_CASE_SLOW(test_meanwhile),
	KUNIT_CASE(test_request_at_begin),
	KUNIT_CASE(test_request_in_pass),
	KUNIT_CASE(test_return_in_pass),
	KUNIT_CASE_PARAM_ATTR(test_random, topology_gen_params,
			      ((struct kunit_attributes) { .speed = KUNIT_SPEED_SLOW })),
	KUNIT_CASE_PARAM_ATTR(test_random_windows, topology_gen_params,
			      ((struct kunit_attributes) { .speed = KUNIT_SPEED_SLOW })),
	KUNIT_CASE_SLOW(test_requests_from_all_cpus),
	KUNIT_CASE_SLOW(test_returns_during_setup),
	KUNIT_CASE_SLOW(test_real_ticks_during_passes),
	{}
};

static struct kunit_suite rmpopt_race_test_suite __refdata = {
	.name = "snp_rmpopt_race",
	.init = rmpopt_test_init,
	.exit = rmpopt_test_exit,
	.test_cases = rmpopt_race_test_cases,
};

/* What takes longest comes last, so that most faults show early. */
kunit_test_init_section_suites(&rmpopt_probe_test_suite, &rmpopt_test_suite,
			       &rmpopt_catch_up_test_suite, &rmpopt_race_test_suite);
