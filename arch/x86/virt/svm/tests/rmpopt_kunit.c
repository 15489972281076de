// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for RMPOPT, included by sev.c.
 *
 * They run the real code against a model of what it sees of the machine: see
 * rmpopt_kunit.h for how it gets in the way, and struct rmpopt_model for what
 * it keeps of the real thing. Most tests invent a topology, and play IPIs on the
 * CPU that sends them. Others use the CPUs there are, and real IPIs.
 */

#include <kunit/test.h>
#include <linux/bitmap.h>
#include <linux/completion.h>
#include <linux/debug_locks.h>
#include <linux/kmsg_dump.h>
#include <linux/kthread.h>
#include <linux/panic.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#include <asm/coco.h>

/* Possible CPUs, and the CPU numbers that an invented topology may use. */
#define MODEL_CPUS		16
#define MODEL_REGIONS		8192
#define MODEL_TABLE_REGIONS	2048
#define MODEL_EVENTS		4096

#define MB			((u64)SZ_1M)
#define GB			((u64)SZ_1G)
#define TB			((u64)SZ_1T)

/* One execution of RMPOPT. */
struct model_event {
	u64 pa;
	enum rmpopt_function func;
	unsigned int cpu;
	bool ipi;
	bool cf;
};

/*
 * What all threads of a core share. The table holds a bit for each 1GB region
 * from the address in RMPOPT_BASE on.
 */
struct model_core {
	u64 rmpopt_base;
	unsigned int nr_writes;
	/* The CPU that has written RMPOPT_BASE last. */
	unsigned int writer;
	DECLARE_BITMAP(table, MODEL_TABLE_REGIONS);
};

/**
 * struct rmpopt_model - A machine with RMPOPT
 *
 * @lock: Protects everything below that changes while code under test runs.
 *	  Innermost, taken in IPIs.
 * @invented: CPUs and topology are those given here, not the real ones.
 * @cpu: The CPU an invented machine runs on.
 * @ipi: An invented machine is in an IPI.
 * @online: Online CPUs of an invented machine.
 * @siblings: Online threads of the core that a CPU belongs to, likewise.
 * @ram: RAM, in bytes, the end is exclusive.
 * @nr_ram: Number of entries in @ram.
 * @feature: X86_FEATURE_RMPOPT is enabled.
 * @syscfg: SYSCFG MSR of all CPUs.
 * @core: Cores, by the number of their first thread.
 * @assigned: Number of assigned pages, by region.
 * @verdict: Regions that have been verified by some core and not been assigned
 *	     since. Other cores need not read the RMP again.
 * @event: What has been executed.
 * @nr_event: Number of entries in @event.
 * @nr_scan: Number of times the RMP of a region has been read.
 * @nr_fault: RMPOPT executed without RMPOPT_BASE and SnpEn, for an address not
 *	      aligned to 1GB, or outside of the window.
 * @nr_rule: Rules of the kernel broken, like a lock not held.
 * @nr_frozen: Balance of cpu_hotplug_disable() and cpu_hotplug_enable().
 * @frozen_at_enable: @nr_frozen at the time SnpEn got set.
 * @nr_live: Balance of allocations.
 * @fail_alloc: Fail the n-th allocation from now on, 0 for none.
 * @hold: Hold the first core of a pass at this address.
 * @held: The pass has got there.
 * @proceed: The pass may go on.
 * @debug_locks: Lockdep was alive when the test began.
 */
struct rmpopt_model {
	raw_spinlock_t lock;

	bool invented;
	unsigned int cpu;
	bool ipi;
	struct cpumask online;
	struct cpumask siblings[MODEL_CPUS];
	struct range ram[3];
	unsigned int nr_ram;

	bool feature;
	u64 syscfg;
	struct model_core core[MODEL_CPUS];
	unsigned int assigned[MODEL_REGIONS];
	DECLARE_BITMAP(verdict, MODEL_REGIONS);

	struct model_event event[MODEL_EVENTS];
	unsigned int nr_event;
	unsigned int nr_scan;
	unsigned int nr_fault;
	atomic_t nr_rule;
	int nr_frozen;
	int frozen_at_enable;
	int nr_live;
	unsigned int fail_alloc;

	u64 hold;
	struct completion held;
	struct completion proceed;
	int debug_locks;
};

/* Set while no pass and no other user of the replacements can run. */
static struct rmpopt_model *rmpopt_model;

#define NO_HOLD		U64_MAX

static unsigned int model_core_of(struct rmpopt_model *m, unsigned int cpu)
{
	return cpumask_first(m->invented ? &m->siblings[cpu] : real_siblings(cpu));
}

static bool model_execute(struct rmpopt_model *m, unsigned int cpu, u64 pa,
			  enum rmpopt_function func)
{
	struct model_core *core = &m->core[model_core_of(m, cpu)];
	u64 region = pa / GB, base, index;

	if (!(m->syscfg & MSR_AMD64_SYSCFG_SNP_EN) ||
	    !(core->rmpopt_base & MSR_AMD64_RMPOPT_ENABLE) || !IS_ALIGNED(pa, GB)) {
		m->nr_fault++;
		return false;
	}

	base = core->rmpopt_base & ~(u64)MSR_AMD64_RMPOPT_ENABLE;
	index = (pa - base) / GB;
	if (pa < base || index >= MODEL_TABLE_REGIONS) {
		m->nr_fault++;
		return false;
	}

	if (func == RMPOPT_VERIFY_AND_REPORT && !test_bit(region, m->verdict)) {
		m->nr_scan++;
		if (!m->assigned[region])
			__set_bit(region, m->verdict);
	}

	if (func == RMPOPT_VERIFY_AND_REPORT && test_bit(region, m->verdict))
		__set_bit(index, core->table);

	return test_bit(index, core->table);
}

static void model_assign(struct rmpopt_model *m, u64 pa)
{
	u64 region = pa / GB;
	unsigned int i;

	guard(raw_spinlock_irqsave)(&m->lock);

	m->assigned[region]++;
	__clear_bit(region, m->verdict);

	for (i = 0; i < MODEL_CPUS; i++) {
		u64 first = m->core[i].rmpopt_base / GB;

		if (region >= first && region - first < MODEL_TABLE_REGIONS)
			__clear_bit(region - first, m->core[i].table);
	}
}

static void model_unassign(struct rmpopt_model *m, u64 pa)
{
	guard(raw_spinlock_irqsave)(&m->lock);

	m->assigned[pa / GB]--;
}

static void model_snp_init(struct rmpopt_model *m)
{
	unsigned int i;

	guard(raw_spinlock_irqsave)(&m->lock);

	bitmap_zero(m->verdict, MODEL_REGIONS);
	for (i = 0; i < MODEL_CPUS; i++)
		bitmap_zero(m->core[i].table, MODEL_TABLE_REGIONS);
}

/* Whether this task holds cpus_read_lock(), @otherwise if there is no telling. */
static bool cpus_held(bool otherwise)
{
	return IS_ENABLED(CONFIG_LOCKDEP) ? lockdep_is_cpus_held() : otherwise;
}

/*
 * The replacements.
 */

static bool rmpopt_kunit_insn(u64 pa, enum rmpopt_function func)
{
	struct rmpopt_model *m = rmpopt_model;
	struct model_event *e;
	unsigned int cpu;
	bool ipi, cf;

	if (!m)
		return (__rmpopt)(pa, func);

	cpu = rmpopt_kunit_cpu();
	/* An idle CPU may serve an IPI outside of the interrupt handler. */
	ipi = m->invented ? m->ipi : irqs_disabled();

	if (!ipi) {
		if (!cpus_held(true) || !current->migration_disabled)
			atomic_inc(&m->nr_rule);

		if (pa == m->hold) {
			complete(&m->held);
			wait_for_completion(&m->proceed);
		}
	}

	guard(raw_spinlock_irqsave)(&m->lock);

	cf = model_execute(m, cpu, pa, func);

	if (m->nr_event < MODEL_EVENTS) {
		e = &m->event[m->nr_event++];
		e->pa = pa;
		e->func = func;
		e->cpu = cpu;
		e->ipi = ipi;
		e->cf = cf;
	}

	return cf;
}

static int rmpopt_kunit_wrmsrq_on_cpu(unsigned int cpu, u32 msr, u64 val)
{
	struct rmpopt_model *m = rmpopt_model;
	struct model_core *core;

	if (!m)
		return (wrmsrq_on_cpu)(cpu, msr, val);

	if (msr != MSR_AMD64_RMPOPT_BASE || !cpus_held(true) ||
	    !cpumask_test_cpu(cpu, cpu_online_mask)) {
		atomic_inc(&m->nr_rule);
		return -ENXIO;
	}

	guard(raw_spinlock_irqsave)(&m->lock);

	core = &m->core[model_core_of(m, cpu)];
	if (core->rmpopt_base != val)
		bitmap_zero(core->table, MODEL_TABLE_REGIONS);
	core->rmpopt_base = val;
	core->nr_writes++;
	core->writer = cpu;

	return 0;
}

static u64 rmpopt_kunit_read_msr(u32 msr)
{
	struct rmpopt_model *m = rmpopt_model;

	if (m && msr == MSR_AMD64_SYSCFG)
		return m->syscfg;

	return real_read_msr(msr);
}

static bool rmpopt_kunit_has_feature(unsigned int bit)
{
	struct rmpopt_model *m = rmpopt_model;

	if (m && bit == X86_FEATURE_RMPOPT)
		return m->feature;

	return boot_cpu_has(bit);
}

static unsigned int rmpopt_kunit_cpu(void)
{
	struct rmpopt_model *m = rmpopt_model;

	return m && m->invented ? m->cpu : real_cpu();
}

static const struct cpumask *rmpopt_kunit_online_mask(void)
{
	struct rmpopt_model *m = rmpopt_model;

	return m && m->invented ? &m->online : real_online_mask();
}

static const struct cpumask *rmpopt_kunit_siblings(unsigned int cpu)
{
	struct rmpopt_model *m = rmpopt_model;

	return m && m->invented ? &m->siblings[cpu] : real_siblings(cpu);
}

static int rmpopt_kunit_walk_ram(unsigned long pfn, unsigned long nr_pages, void *arg,
				 int (*func)(unsigned long, unsigned long, void *))
{
	struct rmpopt_model *m = rmpopt_model;
	unsigned int i;
	int ret = 0;

	if (!m)
		return (walk_system_ram_range)(pfn, nr_pages, arg, func);

	for (i = 0; i < m->nr_ram && !ret; i++) {
		ret = func(PHYS_PFN(m->ram[i].start),
			   PHYS_PFN(m->ram[i].end - m->ram[i].start), arg);
	}

	return ret;
}

/* What snp_prepare() and snp_shutdown() do on each CPU. */
static void rmpopt_kunit_on_each_cpu(smp_call_func_t func, void *info, int wait)
{
	struct rmpopt_model *m = rmpopt_model;

	if (!m) {
		(on_each_cpu)(func, info, wait);
		return;
	}

	if (func == snp_enable) {
		m->syscfg |= MSR_AMD64_SYSCFG_SNP_EN;
		m->frozen_at_enable = m->nr_frozen;
	}
}

static void rmpopt_kunit_on_each_cpu_cond_mask(smp_cond_func_t cond, smp_call_func_t func,
					       void *info, bool wait,
					       const struct cpumask *mask)
{
	struct rmpopt_model *m = rmpopt_model;
	unsigned int cpu, sender;

	/* What @info points to is gone as soon as this returns. */
	if (m && !wait)
		atomic_inc(&m->nr_rule);

	if (!m || !m->invented) {
		(on_each_cpu_cond_mask)(cond, func, info, wait, mask);
		return;
	}

	sender = m->cpu;
	for_each_cpu_and(cpu, mask, &m->online) {
		if (cond && !cond(cpu, info))
			continue;

		m->cpu = cpu;
		m->ipi = true;
		func(info);
		m->ipi = false;
		m->cpu = sender;
	}
}

static void rmpopt_kunit_hotplug_disable(void)
{
	struct rmpopt_model *m = rmpopt_model;

	(cpu_hotplug_disable)();

	if (m) {
		m->nr_frozen++;
		if (cpus_held(false))
			atomic_inc(&m->nr_rule);
	}
}

static void rmpopt_kunit_hotplug_enable(void)
{
	struct rmpopt_model *m = rmpopt_model;

	(cpu_hotplug_enable)();

	if (m) {
		m->nr_frozen--;
		if (cpus_held(false))
			atomic_inc(&m->nr_rule);
	}
}

static bool rmpopt_kunit_alloc(void)
{
	struct rmpopt_model *m = rmpopt_model;

	if (!m)
		return true;

	if (m->fail_alloc && !--m->fail_alloc)
		return false;

	m->nr_live++;

	return true;
}

static void rmpopt_kunit_free(void)
{
	if (rmpopt_model)
		rmpopt_model->nr_live--;
}

/*
 * Topologies.
 */

struct topology_case {
	const char *name;
	/* Core of each CPU. */
	u8 core[MODEL_CPUS];
	u16 online;
	/* Number of cores with a thread online. */
	unsigned int nr_cores;
};

#define ADJACENT	{ 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7 }
#define HALF_APART	{ 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7 }
#define ONE_EACH	{ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 }

static const struct topology_case topology_cases[] = {
	{ "SMT, siblings adjacent",			ADJACENT,	0xffff,	8 },
	{ "SMT, siblings half of the CPUs apart",	HALF_APART,	0xffff,	8 },
	{ "SMT off",					HALF_APART,	0x00ff,	8 },
	{ "no SMT",					ONE_EACH,	0xffff,	16 },
	{ "a core with only its secondary thread",	HALF_APART,	0xdff7,	8 },
	{ "only secondary threads but for CPU 0",	ADJACENT,	0xaaa9,	8 },
	{ "a core that is offline",			ADJACENT,	0xffcf,	7 },
	{ "sparse CPU numbers",				ADJACENT,	0x8432,	4 },
	{ "one core",					ADJACENT,	0x000c,	1 },
	{ "one CPU",					ADJACENT,	0x0001,	1 },
};

KUNIT_ARRAY_PARAM_DESC(topology, topology_cases, name);

static void invent_topology(struct kunit *test, const struct topology_case *tc)
{
	struct rmpopt_model *m = test->priv;
	unsigned int cpu, other;

	m->invented = true;
	for (cpu = 0; cpu < MODEL_CPUS; cpu++) {
		cpumask_clear(&m->siblings[cpu]);
		if (tc->online & BIT(cpu))
			cpumask_set_cpu(cpu, &m->online);

		for (other = 0; other < MODEL_CPUS; other++) {
			if ((tc->online & BIT(other)) && tc->core[other] == tc->core[cpu])
				cpumask_set_cpu(other, &m->siblings[cpu]);
		}
	}

	m->cpu = cpumask_first(&m->online);
}

/*
 * Helpers.
 */

static void set_ram(struct rmpopt_model *m, u64 start, u64 end)
{
	m->ram[0].start = start;
	m->ram[0].end = end;
	m->nr_ram = 1;
}

/* Start the queued pass at once, and wait for it and for any that follows it. */
static void run_pass(void)
{
	flush_delayed_work(&rmpopt_delayed_work);
}

/* Whether the region at @pa is optimized on the core of @cpu. */
static bool is_optimized(struct rmpopt_model *m, unsigned int cpu, u64 pa)
{
	guard(raw_spinlock_irqsave)(&m->lock);

	return model_execute(m, cpu, pa, RMPOPT_REPORT);
}

static void expect_optimized(struct kunit *test, u64 pa, bool optimized)
{
	struct rmpopt_model *m = test->priv;
	unsigned int cpu;

	for_each_cpu(cpu, cpu_online_mask)
		KUNIT_EXPECT_EQ_MSG(test, is_optimized(m, cpu, pa), optimized,
				    "region 0x%llx, CPU %u", pa, cpu);
}

/* @func has a pass queued, which starts 10 seconds from then. */
static void expect_queues_pass(struct kunit *test, void (*func)(void))
{
	unsigned long from = jiffies, expires;

	func();

	expires = rmpopt_delayed_work.timer.expires;
	KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_delayed_work));
	KUNIT_EXPECT_TRUE(test, timer_pending(&rmpopt_delayed_work.timer));
	KUNIT_EXPECT_TRUE(test, time_in_range(expires, from + 10 * HZ, jiffies + 10 * HZ));
}

static unsigned int nr_passes(struct rmpopt_model *m)
{
	unsigned int i, nr = 0;

	for (i = 0; i < m->nr_event; i++) {
		if (!m->event[i].ipi && m->event[i].pa == rmpopt_start)
			nr++;
	}

	return nr;
}

/* The first online thread of each core, and no other, has written @val. */
static void expect_base(struct kunit *test, const struct topology_case *tc, u64 val,
			unsigned int nr_writes)
{
	struct rmpopt_model *m = test->priv;
	unsigned int cpu, nr_cores = 0;

	for (cpu = 0; cpu < MODEL_CPUS; cpu++) {
		struct model_core *core = &m->core[cpu];

		if (!core->nr_writes)
			continue;

		nr_cores++;
		KUNIT_EXPECT_EQ_MSG(test, core->rmpopt_base, val, "core of CPU %u", cpu);
		KUNIT_EXPECT_EQ_MSG(test, core->nr_writes, nr_writes, "core of CPU %u", cpu);
		KUNIT_EXPECT_EQ_MSG(test, core->writer, cpu, "core of CPU %u", cpu);
	}

	KUNIT_EXPECT_EQ(test, nr_cores, tc->nr_cores);
}

/* Position @iter behind the last message. */
static void skip_messages(struct kmsg_dump_iter *iter)
{
	char line[256];
	size_t len;

	kmsg_dump_rewind(iter);
	while (kmsg_dump_get_line(iter, false, line, sizeof(line), &len))
		;
}

/* Number of messages from @iter on that contain @text. */
static unsigned int count_messages(struct kmsg_dump_iter *iter, const char *text)
{
	unsigned int nr = 0;
	char line[256];
	size_t len;

	while (kmsg_dump_get_line(iter, false, line, sizeof(line) - 1, &len)) {
		line[len] = '\0';
		if (strstr(line, text))
			nr++;
	}

	return nr;
}

static int rmpopt_test_init(struct kunit *test)
{
	struct rmpopt_model *m;

	if (nr_cpu_ids != MODEL_CPUS)
		kunit_skip(test, "needs %d possible CPUs", MODEL_CPUS);
	if (cc_vendor != CC_VENDOR_AMD)
		kunit_skip(test, "needs an AMD CPU");
	if (cc_platform_has(CC_ATTR_HOST_SEV_SNP))
		kunit_skip(test, "would disturb an SNP host");

	m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m);

	raw_spin_lock_init(&m->lock);
	init_completion(&m->held);
	init_completion(&m->proceed);
	m->hold = NO_HOLD;
	m->debug_locks = debug_locks;
	m->feature = true;
	m->syscfg = MSR_AMD64_SYSCFG_SNP_EN;
	set_ram(m, 0, 4 * GB);

	test->priv = m;
	rmpopt_model = m;
	rmpopt_capable = true;

	return 0;
}

/* Whatever a test does, nothing may be left behind, and no rule be broken. */
static void rmpopt_test_exit(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int i;

	if (!m)
		return;

	complete_all(&m->proceed);
	snp_cleanup_rmpopt();

	KUNIT_EXPECT_NULL(test, rmpopt_wq);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	KUNIT_EXPECT_EQ(test, m->nr_live, 0);
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 0);
	KUNIT_EXPECT_EQ(test, m->nr_fault, 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&m->nr_rule), 0);
	for (i = 0; i < MODEL_CPUS; i++)
		KUNIT_EXPECT_EQ_MSG(test, m->core[i].rmpopt_base, 0, "core of CPU %u", i);

	/* A lockdep splat turns it off, and does not fail anything by itself. */
	KUNIT_EXPECT_EQ(test, debug_locks, m->debug_locks);

	/* Let the next test start from scratch. */
	while (m->nr_frozen > 0)
		rmpopt_kunit_hotplug_enable();
	rmpopt_capable = false;
	rmpopt_model = NULL;
}

/*
 * The instruction.
 */

static void execute_real_insn(void *nr_true)
{
	if ((__rmpopt)(0, RMPOPT_REPORT))
		atomic_inc(nr_true);
}

/* #UD is handled in process context and in IPIs, and reported once. */
static void test_fault(struct kunit *test)
{
	atomic_t nr_true = ATOMIC_INIT(0);
	struct kmsg_dump_iter iter;
	static bool reported;

	/* An older CPU may take it for CLZERO, from which it differs in a prefix. */
	if (boot_cpu_has(X86_FEATURE_RMPOPT) || boot_cpu_has(X86_FEATURE_CLZERO))
		kunit_skip(test, "RMPOPT need not fault on this CPU");

	skip_messages(&iter);
	execute_real_insn(&nr_true);
	(on_each_cpu)(execute_real_insn, &nr_true, 1);

	KUNIT_EXPECT_EQ(test, atomic_read(&nr_true), 0);
	KUNIT_EXPECT_EQ(test, count_messages(&iter, "RMPOPT faulted"), reported ? 0 : 1);
	reported = true;
}

/* The model itself: what siblings share, and what clears a bit. */
static void test_model(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, &topology_cases[0]);

	guard(cpus_read_lock)();

	KUNIT_EXPECT_FALSE(test, model_execute(m, 0, GB, RMPOPT_REPORT));
	KUNIT_EXPECT_EQ_MSG(test, m->nr_fault, 1, "RMPOPT_BASE not enabled");

	rmpopt_kunit_wrmsrq_on_cpu(0, MSR_AMD64_RMPOPT_BASE, GB | MSR_AMD64_RMPOPT_ENABLE);
	rmpopt_kunit_wrmsrq_on_cpu(2, MSR_AMD64_RMPOPT_BASE, GB | MSR_AMD64_RMPOPT_ENABLE);

	KUNIT_EXPECT_FALSE(test, model_execute(m, 0, 0, RMPOPT_VERIFY_AND_REPORT));
	KUNIT_EXPECT_EQ_MSG(test, m->nr_fault, 2, "below the window");
	KUNIT_EXPECT_FALSE(test, model_execute(m, 0, 2 * TB + GB, RMPOPT_VERIFY_AND_REPORT));
	KUNIT_EXPECT_EQ_MSG(test, m->nr_fault, 3, "above the window");
	KUNIT_EXPECT_FALSE(test, model_execute(m, 0, GB + SZ_4K, RMPOPT_VERIFY_AND_REPORT));
	KUNIT_EXPECT_EQ_MSG(test, m->nr_fault, 4, "not aligned");

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

	model_snp_init(m);
	KUNIT_EXPECT_FALSE(test, model_execute(m, 2, 2 * TB, RMPOPT_REPORT));

	m->syscfg = 0;
	KUNIT_EXPECT_FALSE(test, model_execute(m, 2, 2 * TB, RMPOPT_VERIFY_AND_REPORT));
	KUNIT_EXPECT_EQ_MSG(test, m->nr_fault, 5, "SnpEn not set");

	m->nr_fault = 0;
	rmpopt_kunit_wrmsrq_on_cpu(0, MSR_AMD64_RMPOPT_BASE, 0);
	rmpopt_kunit_wrmsrq_on_cpu(2, MSR_AMD64_RMPOPT_BASE, 0);
}

/*
 * Set-up and clean-up.
 */

static void test_base_on_each_core(struct kunit *test)
{
	const struct topology_case *tc = test->param_value;
	struct rmpopt_model *m = test->priv;
	struct kmsg_dump_iter iter;
	char text[32];

	invent_topology(test, tc);
	set_ram(m, 3 * GB, 5 * GB);
	skip_messages(&iter);

	snp_setup_rmpopt();
	expect_base(test, tc, 0xc0000001, 1);

	snprintf(text, sizeof(text), "RMPOPT enabled on %u cores", tc->nr_cores);
	KUNIT_EXPECT_EQ(test, count_messages(&iter, text), 1);

	snp_cleanup_rmpopt();
	expect_base(test, tc, 0, 2);
}

struct window_case {
	const char *name;
	u64 ram_start, ram_end;
	u64 start, end;
	bool capped;
};

static const struct window_case window_cases[] = {
	{ "less than a region",		0, 512 * MB,		0, 1 * GB },
	{ "ends within a region",	0, 5 * GB + 4096,	0, 6 * GB },
	{ "ends with a region",		0, 6 * GB,		0, 6 * GB },
	{ "starts within a region",	3 * GB + 4096, 8 * GB,	3 * GB, 8 * GB },
	{ "starts with a region",	3 * GB, 8 * GB,		3 * GB, 8 * GB },
	{ "a page less than 2TB",	0, 2 * TB - 4096,	0, 2 * TB },
	{ "2TB",			0, 2 * TB,		0, 2 * TB },
	{ "a page more than 2TB",	0, 2 * TB + 4096,	0, 2 * TB, true },
	{ "3TB",			0, 3 * TB,		0, 2 * TB, true },
	{ "2TB not from 0",		4 * GB, 2 * TB + 4 * GB, 4 * GB, 2 * TB + 4 * GB },
	{ "3TB not from 0",		1 * TB, 4 * TB,		1 * TB, 3 * TB, true },
	{ "2TB from within a region",	4096, 2 * TB + 4096,	0, 2 * TB, true },
};

KUNIT_ARRAY_PARAM_DESC(window, window_cases, name);

static void test_window(struct kunit *test)
{
	const struct window_case *wc = test->param_value;
	struct rmpopt_model *m = test->priv;
	struct kmsg_dump_iter iter;
	unsigned int i, count = 0;
	u64 highest = 0;

	set_ram(m, wc->ram_start, wc->ram_end);
	skip_messages(&iter);

	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, rmpopt_start, wc->start);
	KUNIT_EXPECT_EQ(test, rmpopt_end, wc->end);
	KUNIT_EXPECT_EQ(test, m->core[model_core_of(m, 0)].rmpopt_base, wc->start | 1);

	/* A pass visits the window from end to end, and nothing else. */
	for (i = wc->start / GB + 1; i < wc->end / GB; i++)
		m->assigned[i]++;
	run_pass();
	for (i = 0; i < m->nr_event; i++) {
		if (m->event[i].ipi)
			continue;
		KUNIT_EXPECT_EQ(test, m->event[i].pa, wc->start + count * GB);
		highest = m->event[i].pa;
		count++;
	}
	KUNIT_EXPECT_EQ(test, highest, wc->end - GB);
	KUNIT_EXPECT_EQ(test, count, (wc->end - wc->start) / GB);

	if (wc->capped) {
		char text[80];

		snprintf(text, sizeof(text), "does not cover memory from 0x%016llx on",
			 wc->end);
		KUNIT_EXPECT_EQ(test, count_messages(&iter, text), 1);
	} else {
		KUNIT_EXPECT_EQ(test, count_messages(&iter, "does not cover"), 0);
	}
}

/* The window spans all of RAM, in whatever order it is reported. */
static void test_window_ram_in_pieces(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	m->ram[0] = (struct range) { 64 * GB, 66 * GB };
	m->ram[1] = (struct range) { 2 * GB, 3 * GB };
	m->ram[2] = (struct range) { 8 * GB, 9 * GB };
	m->nr_ram = 3;

	snp_setup_rmpopt();
	KUNIT_EXPECT_EQ(test, rmpopt_start, 2 * GB);
	KUNIT_EXPECT_EQ(test, rmpopt_end, 66 * GB);
}

static void expect_not_set_up(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int i;

	KUNIT_EXPECT_NULL(test, rmpopt_wq);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	KUNIT_EXPECT_EQ(test, m->nr_live, 0);
	for (i = 0; i < MODEL_CPUS; i++)
		KUNIT_EXPECT_EQ(test, m->core[i].nr_writes, 0);
}

static void test_setup_not_capable(struct kunit *test)
{
	snp_clear_rmpopt_capable();
	snp_setup_rmpopt();
	expect_not_set_up(test);

	snp_rmpopt_all_physmem();
	expect_not_set_up(test);
}

static void test_setup_without_snp(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	m->syscfg = 0;
	snp_setup_rmpopt();
	expect_not_set_up(test);
}

static void test_setup_alloc_failure(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	struct kmsg_dump_iter iter;
	unsigned int n;

	skip_messages(&iter);

	for (n = 1; ; n++) {
		m->fail_alloc = n;
		snp_setup_rmpopt();
		if (m->fail_alloc)
			break;

		expect_not_set_up(test);
		KUNIT_EXPECT_EQ(test, count_messages(&iter, "RMPOPT is not used"), 1);

		/* Not set up is not half set up. */
		snp_rmpopt_all_physmem();
		snp_cleanup_rmpopt();
		expect_not_set_up(test);
	}

	/* The CPU mask and the workqueue, and then it has worked out. */
	KUNIT_EXPECT_EQ(test, n - 1, 2);
	KUNIT_EXPECT_NOT_NULL(test, rmpopt_wq);
	KUNIT_EXPECT_EQ(test, m->nr_live, 2);
}

/* As after SNP_SHUTDOWN_EX without x86 shutdown, and SNP_INIT_EX. */
static void test_setup_twice(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[0];
	struct rmpopt_model *m = test->priv;
	struct workqueue_struct *wq;

	invent_topology(test, tc);
	snp_setup_rmpopt();
	run_pass();
	expect_optimized(test, 0, true);

	wq = rmpopt_wq;
	model_snp_init(m);
	expect_optimized(test, 0, false);

	expect_queues_pass(test, snp_setup_rmpopt);
	KUNIT_EXPECT_PTR_EQ(test, rmpopt_wq, wq);
	KUNIT_EXPECT_EQ(test, m->nr_live, 2);
	expect_base(test, tc, MSR_AMD64_RMPOPT_ENABLE, 1);

	run_pass();
	expect_optimized(test, 0, true);
}

static void test_cleanup_without_setup(struct kunit *test)
{
	snp_cleanup_rmpopt();
	snp_cleanup_rmpopt();
	expect_not_set_up(test);

	snp_rmpopt_all_physmem();
	expect_not_set_up(test);
}

static void test_setup_after_cleanup(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[0];
	struct rmpopt_model *m = test->priv;

	invent_topology(test, tc);
	snp_setup_rmpopt();
	run_pass();
	snp_cleanup_rmpopt();
	m->nr_event = 0;

	snp_rmpopt_all_physmem();
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

	/* The window may have changed in the meantime. */
	set_ram(m, 1 * GB, 3 * GB);
	snp_setup_rmpopt();
	expect_base(test, tc, 1 * GB | MSR_AMD64_RMPOPT_ENABLE, 3);
	run_pass();
	KUNIT_EXPECT_EQ(test, nr_passes(m), 1);
	expect_optimized(test, 2 * GB, true);
}

/* As after SNP_SHUTDOWN_EX has failed: SnpEn is still set. */
static void test_setup_again(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[0];
	struct rmpopt_model *m = test->priv;

	invent_topology(test, tc);
	snp_setup_rmpopt();
	run_pass();

	snp_cleanup_rmpopt();
	snp_setup_rmpopt();
	expect_base(test, tc, MSR_AMD64_RMPOPT_ENABLE, 3);
	expect_optimized(test, 0, false);
	KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_delayed_work));
	KUNIT_EXPECT_EQ(test, m->nr_live, 2);

	run_pass();
	expect_optimized(test, 0, true);
}

/* A pass that is queued does not outlive clean-up. */
static void test_cleanup_before_pass(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	snp_setup_rmpopt();
	snp_cleanup_rmpopt();
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	KUNIT_EXPECT_EQ(test, m->nr_event, 0);
}

struct thread {
	struct task_struct *task;
	struct completion started;
	struct completion done;
	void (*func)(void);
};

static int thread_fn(void *data)
{
	struct thread *t = data;

	complete(&t->started);
	t->func();
	complete(&t->done);

	return 0;
}

static void run_thread(struct kunit *test, struct thread *t, void (*func)(void))
{
	init_completion(&t->started);
	init_completion(&t->done);
	t->func = func;
	t->task = kthread_create(thread_fn, t, "rmpopt_kunit");
	if (IS_ERR(t->task)) {
		/* Other threads may use what is gone if the test ended here. */
		KUNIT_FAIL(test, "no thread: %ld", PTR_ERR(t->task));
		t->task = NULL;
		complete(&t->started);
		complete(&t->done);
		return;
	}

	get_task_struct(t->task);
	wake_up_process(t->task);
}

/* Wait until the thread sleeps, or has ended. Returns whether it sleeps. */
static bool thread_blocks(struct thread *t)
{
	wait_for_completion(&t->started);

	while (!completion_done(&t->done)) {
		if (wait_task_inactive(t->task, TASK_UNINTERRUPTIBLE))
			return true;
		cond_resched();
	}

	return false;
}

static void join_thread(struct thread *t)
{
	wait_for_completion(&t->done);
	if (t->task)
		put_task_struct(t->task);
}

/* Have a pass running, and stop it before it executes RMPOPT for @pa. */
static void hold_pass(struct rmpopt_model *m, u64 pa)
{
	m->hold = pa;
	mod_delayed_work(rmpopt_wq, &rmpopt_delayed_work, 0);
	wait_for_completion(&m->held);
}

static void release_pass(struct rmpopt_model *m)
{
	m->hold = NO_HOLD;
	complete(&m->proceed);
}

/* Clean-up waits for a running pass, and leaves everything in place for it. */
static void test_cleanup_during_pass(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[0];
	struct rmpopt_model *m = test->priv;
	struct thread cleanup, request;
	unsigned int nr_event;

	invent_topology(test, tc);
	snp_setup_rmpopt();
	hold_pass(m, 2 * GB);

	run_thread(test, &cleanup, snp_cleanup_rmpopt);
	KUNIT_EXPECT_TRUE(test, thread_blocks(&cleanup));
	expect_base(test, tc, MSR_AMD64_RMPOPT_ENABLE, 1);
	KUNIT_EXPECT_EQ(test, m->nr_live, 2);

	/* Somebody who wants another pass now comes too late. */
	run_thread(test, &request, snp_rmpopt_all_physmem);
	KUNIT_EXPECT_TRUE(test, thread_blocks(&request));

	release_pass(m);
	join_thread(&cleanup);
	join_thread(&request);

	expect_base(test, tc, 0, 2);
	KUNIT_EXPECT_EQ(test, m->nr_live, 0);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

	/* The pass has been allowed to end, and no other has begun. */
	nr_event = m->nr_event;
	KUNIT_EXPECT_EQ(test, nr_event, 4 * tc->nr_cores);
}

/*
 * Passes.
 */

/*
 * Check what a pass from event @i on has done to the region at @pa. Returns the
 * index of the next event.
 */
static unsigned int expect_region(struct kunit *test, unsigned int i, u64 pa, bool cf,
				  unsigned int nr_cores)
{
	struct rmpopt_model *m = test->priv;
	unsigned long seen = 0;
	unsigned int n;

	if (!cf)
		nr_cores = 1;

	for (n = 0; n < nr_cores; n++, i++) {
		struct model_event *e = &m->event[i];
		unsigned int core;

		KUNIT_ASSERT_LT(test, i, m->nr_event);
		core = model_core_of(m, e->cpu);

		KUNIT_EXPECT_EQ(test, e->pa, pa);
		KUNIT_EXPECT_EQ(test, e->func, RMPOPT_VERIFY_AND_REPORT);
		KUNIT_EXPECT_EQ(test, e->cf, cf);
		KUNIT_EXPECT_EQ_MSG(test, e->ipi, n > 0, "the first core goes first");
		if (!n)
			KUNIT_EXPECT_EQ(test, e->cpu, m->cpu);
		KUNIT_EXPECT_FALSE_MSG(test, seen & BIT(core), "core of CPU %u twice", e->cpu);
		seen |= BIT(core);
	}

	return i;
}

static void test_pass(struct kunit *test)
{
	const struct topology_case *tc = test->param_value;
	struct rmpopt_model *m = test->priv;
	unsigned int cpu, i, region;

	invent_topology(test, tc);
	snp_setup_rmpopt();

	/* No matter which thread of which core the worker runs on. */
	for_each_cpu(cpu, &m->online) {
		m->cpu = cpu;
		m->nr_event = 0;
		m->nr_scan = 0;
		model_snp_init(m);

		snp_rmpopt_all_physmem();
		run_pass();

		i = 0;
		for (region = 0; region < 4; region++) {
			i = expect_region(test, i, region * GB, true, tc->nr_cores);
			expect_optimized(test, region * GB, true);
		}
		KUNIT_EXPECT_EQ(test, i, m->nr_event);

		/* The RMP is read once for each region, not once on each core. */
		KUNIT_EXPECT_EQ(test, m->nr_scan, 4);
	}
}

static void test_pass_assigned(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[0];
	struct rmpopt_model *m = test->priv;
	unsigned int i = 0, region;

	invent_topology(test, tc);
	snp_setup_rmpopt();
	model_assign(m, 1 * GB);
	run_pass();

	for (region = 0; region < 4; region++) {
		i = expect_region(test, i, region * GB, region != 1, tc->nr_cores);
		expect_optimized(test, region * GB, region != 1);
	}
	KUNIT_EXPECT_EQ(test, i, m->nr_event);

	/* It is up to a request to optimize what has been returned. */
	model_unassign(m, 1 * GB);
	model_assign(m, 3 * GB);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	expect_optimized(test, 1 * GB, false);

	snp_rmpopt_all_physmem();
	run_pass();
	for (region = 0; region < 4; region++)
		expect_optimized(test, region * GB, region != 3);
}

/* The CPUs there are, with a worker that runs anywhere, and real IPIs. */
static void test_pass_real_cpus(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int cpu, nr_cores = 0, region, i, n;

	for_each_cpu(cpu, real_online_mask())
		nr_cores += cpu == cpumask_first(real_siblings(cpu));

	snp_setup_rmpopt();
	model_assign(m, 2 * GB);
	run_pass();

	for (region = 0; region < 4; region++)
		expect_optimized(test, region * GB, region != 2);

	/* Each core once for each region, the worker's without an IPI. */
	KUNIT_EXPECT_EQ(test, m->nr_event, 3 * nr_cores + 1);
	for (region = 0, i = 0; region < 4; region++) {
		unsigned long seen = 0;

		for (n = 0; n < (region == 2 ? 1 : nr_cores) && i < m->nr_event; n++, i++) {
			KUNIT_EXPECT_EQ(test, m->event[i].pa, region * GB);
			KUNIT_EXPECT_EQ(test, m->event[i].ipi, n > 0);
			seen |= BIT(model_core_of(m, m->event[i].cpu));
		}
		KUNIT_EXPECT_EQ(test, hweight_long(seen), region == 2 ? 1 : nr_cores);
	}
}

/* A CPU that has gone in spite of frozen hotplug stops the pass. */
static void test_pass_cpu_gone(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, &topology_cases[0]);
	snp_setup_rmpopt();

	cpumask_clear_cpu(6, &m->online);
	kunit_warning_suppress(test) {
		rmpopt_work_handler(&rmpopt_delayed_work.work);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_EQ(test, m->nr_event, 0);

	cpumask_set_cpu(6, &m->online);
}

/*
 * Requests.
 */

/* As if what has been queued, had been queued @secs seconds earlier. */
static void backdate_timer(unsigned int secs)
{
	mod_timer(&rmpopt_delayed_work.timer,
		  rmpopt_delayed_work.timer.expires - secs * HZ);
}

/* Set-up leads to a pass, but not before the firmware has settled. */
static void test_setup_queues_pass(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	expect_queues_pass(test, snp_setup_rmpopt);
	KUNIT_EXPECT_EQ(test, m->nr_event, 0);

	run_pass();
	KUNIT_EXPECT_EQ(test, nr_passes(m), 1);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
}

/* One pass, 10 seconds after the last request. */
static void test_request_restarts_timer(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	snp_setup_rmpopt();
	run_pass();
	m->nr_event = 0;

	expect_queues_pass(test, snp_rmpopt_all_physmem);

	backdate_timer(7);
	expect_queues_pass(test, snp_rmpopt_all_physmem);
	KUNIT_EXPECT_EQ(test, m->nr_event, 0);

	run_pass();
	KUNIT_EXPECT_EQ(test, nr_passes(m), 1);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
}

static void test_request_during_pass(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	snp_setup_rmpopt();
	model_assign(m, 0);
	hold_pass(m, 2 * GB);

	/* The pass has been there already. */
	model_unassign(m, 0);
	expect_queues_pass(test, snp_rmpopt_all_physmem);

	release_pass(m);
	run_pass();
	KUNIT_EXPECT_EQ(test, nr_passes(m), 2);
	expect_optimized(test, 0, true);
}

static bool stop_requests;

static void request_many(void)
{
	do {
		snp_rmpopt_all_physmem();
		cond_resched();
	} while (!READ_ONCE(stop_requests));
}

/* From all CPUs at once, while RMPOPT comes and goes and passes run. */
static void test_requests_from_all_cpus(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int cpu, i, nr = 0;
	struct thread *threads;

	threads = kunit_kcalloc(test, nr_cpu_ids, sizeof(*threads), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, threads);

	WRITE_ONCE(stop_requests, false);
	for_each_cpu(cpu, real_online_mask()) {
		run_thread(test, &threads[nr], request_many);
		if (threads[nr].task)
			set_cpus_allowed_ptr(threads[nr].task, cpumask_of(cpu));
		nr++;
	}

	/* A request may take a pass off the queue again that is to run at once. */
	for (i = 0; i < 5; i++) {
		snp_setup_rmpopt();
		run_pass();
		snp_cleanup_rmpopt();
		KUNIT_EXPECT_NULL(test, rmpopt_wq);
		KUNIT_EXPECT_EQ(test, m->nr_live, 0);
	}

	WRITE_ONCE(stop_requests, true);
	for (i = 0; i < nr; i++)
		join_thread(&threads[i]);

	/* No worse for it. */
	m->nr_event = 0;
	snp_setup_rmpopt();
	run_pass();
	KUNIT_EXPECT_EQ(test, nr_passes(m), 1);
	expect_optimized(test, 0, true);
}

/*
 * The freeze of CPU hotplug.
 */

static void test_hotplug_frozen(struct kunit *test)
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

static void test_hotplug_cpu_offline(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, &topology_cases[2]);
	m->syscfg = 0;
	KUNIT_EXPECT_EQ(test, snp_prepare(), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, m->syscfg & MSR_AMD64_SYSCFG_SNP_EN, 0);
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 0);
}

static struct kunit_case rmpopt_test_cases[] = {
	KUNIT_CASE(test_fault),
	KUNIT_CASE(test_model),
	KUNIT_CASE_PARAM(test_base_on_each_core, topology_gen_params),
	KUNIT_CASE_PARAM(test_window, window_gen_params),
	KUNIT_CASE(test_window_ram_in_pieces),
	KUNIT_CASE(test_setup_not_capable),
	KUNIT_CASE(test_setup_without_snp),
	KUNIT_CASE(test_setup_alloc_failure),
	KUNIT_CASE(test_setup_twice),
	KUNIT_CASE(test_cleanup_without_setup),
	KUNIT_CASE(test_setup_after_cleanup),
	KUNIT_CASE(test_setup_again),
	KUNIT_CASE(test_cleanup_before_pass),
	KUNIT_CASE(test_cleanup_during_pass),
	KUNIT_CASE_PARAM(test_pass, topology_gen_params),
	KUNIT_CASE(test_pass_assigned),
	KUNIT_CASE(test_pass_real_cpus),
	KUNIT_CASE(test_pass_cpu_gone),
	KUNIT_CASE(test_setup_queues_pass),
	KUNIT_CASE(test_request_restarts_timer),
	KUNIT_CASE(test_request_during_pass),
	KUNIT_CASE_SLOW(test_requests_from_all_cpus),
	KUNIT_CASE_SLOW(test_hotplug_frozen),
	KUNIT_CASE(test_hotplug_cpu_offline),
	{}
};

static struct kunit_suite rmpopt_test_suite = {
	.name = "snp_rmpopt",
	.init = rmpopt_test_init,
	.exit = rmpopt_test_exit,
	.test_cases = rmpopt_test_cases,
};

kunit_test_suite(rmpopt_test_suite);

/*
 * Probing, which is __init code.
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

/* What probing has found out about the real RMP, to be put back. */
struct saved_rmp {
	struct rmp_segment_desc **segment_table;
	unsigned int max_index;
	unsigned int segment_shift;
	u64 cfg;
	u64 base, size;
	void *bookkeeping;
	bool snp_en;
	bool post_notifiers;
	struct page *page[2];
};

#define FAKE_RMP_ORDER	get_order(RMPTABLE_CPU_BOOKKEEPING_SZ + RST_SIZE)

static void __init save_rmp(struct saved_rmp *saved)
{
	saved->segment_table = rmp_segment_table;
	saved->max_index = rst_max_index;
	saved->segment_shift = rmp_segment_shift;
	saved->cfg = rmp_cfg;
	saved->base = probed_rmp_base;
	saved->size = probed_rmp_size;
	saved->bookkeeping = rmp_bookkeeping;
	saved->snp_en = amd_iommu_snp_en;
	saved->post_notifiers = crash_kexec_post_notifiers;
}

static void __init restore_rmp(struct saved_rmp *saved)
{
	if (rmp_segment_table && rmp_segment_table != saved->segment_table)
		free_rmp_segment_table();

	rmp_segment_table = saved->segment_table;
	rst_max_index = saved->max_index;
	set_rmp_segment_info(saved->segment_shift);
	rmp_cfg = saved->cfg;
	probed_rmp_base = saved->base;
	probed_rmp_size = saved->size;
	rmp_bookkeeping = saved->bookkeeping;
	amd_iommu_snp_en = saved->snp_en;
	crash_kexec_post_notifiers = saved->post_notifiers;

	if (saved->page[0])
		__free_pages(saved->page[0], FAKE_RMP_ORDER);
	if (saved->page[1])
		__free_pages(saved->page[1], MAX_PAGE_ORDER);
}

/*
 * Make an RMP of RAM, as the firmware would have left it. Nothing looks at its
 * entries, they only have to be there.
 */
static void __init fake_rmp(struct kunit *test, struct saved_rmp *saved, enum rmp_kind kind)
{
	u64 mapped_gb = DIV_ROUND_UP_ULL(PFN_PHYS(max_pfn), SZ_1G);
	u64 *rst, segment;

	/* 16 bytes for each page of RAM, and not more than can be allocated. */
	if (PFN_PHYS(max_pfn) > SZ_512M)
		kunit_skip(test, "needs 512MB of memory at most");

	saved->page[0] = alloc_pages(GFP_KERNEL | __GFP_ZERO, FAKE_RMP_ORDER);
	saved->page[1] = alloc_pages(GFP_KERNEL, MAX_PAGE_ORDER);
	KUNIT_ASSERT_NOT_NULL(test, saved->page[0]);
	KUNIT_ASSERT_NOT_NULL(test, saved->page[1]);

	probed_rmp_base = page_to_phys(saved->page[0]);
	probed_rmp_size = 0;
	rmp_segment_table = NULL;
	rst_max_index = 512;

	switch (kind) {
	case RMP_SEGMENTED:
		segment = page_to_phys(saved->page[1]);
		rst = page_address(saved->page[0]) + RMPTABLE_CPU_BOOKKEEPING_SZ;
		rst[0] = segment | mapped_gb;
		fallthrough;
	case RMP_SEGMENTED_BAD:
		set_rmp_segment_info(36);
		rmp_cfg = MSR_AMD64_SEG_RMP_ENABLED | 36 << 8;
		break;
	default:
		probed_rmp_base = page_to_phys(saved->page[1]);
		probed_rmp_size = PAGE_SIZE << MAX_PAGE_ORDER;
		rst_max_index = 1;
		set_rmp_segment_info(RMPTABLE_NON_SEGMENTED_SHIFT);
		rmp_cfg = 0;
		break;
	}
}

static void __init test_probe(struct kunit *test)
{
	const struct probe_case *pc = test->param_value;
	struct rmpopt_model *m = test->priv;
	struct saved_rmp saved = {};

	m->feature = pc->feature;
	rmpopt_capable = false;

	save_rmp(&saved);
	fake_rmp(test, &saved, pc->rmp);

	KUNIT_EXPECT_EQ(test, setup_rmptable(), pc->rmp != RMP_SEGMENTED_BAD);
	if (pc->cc_cleared)
		cc_platform_clear(CC_ATTR_HOST_SEV_SNP);
	KUNIT_EXPECT_EQ(test, rmpopt_capable, pc->capable);

	restore_rmp(&saved);

	snp_setup_rmpopt();
	if (pc->capable)
		KUNIT_EXPECT_NOT_NULL(test, rmpopt_wq);
	else
		expect_not_set_up(test);
}

/* SnpEn may be set at boot, then it is up to snp_rmptable_init() to freeze. */
static void __init test_hotplug_kexec(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	struct saved_rmp saved = {};

	save_rmp(&saved);
	fake_rmp(test, &saved, RMP_SEGMENTED);
	amd_iommu_snp_en = true;
	cc_platform_set(CC_ATTR_HOST_SEV_SNP);

	KUNIT_EXPECT_EQ(test, snp_rmptable_init(), 0);
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 1);
	KUNIT_EXPECT_TRUE(test, rmpopt_capable);

	/* There is nothing left to prepare. */
	KUNIT_EXPECT_EQ(test, snp_prepare(), 0);
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 1);

	m->syscfg = 0;
	snp_shutdown();
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 0);
	free_rmp_segment_table();

	/* The ordinary boot, without SnpEn. */
	KUNIT_EXPECT_EQ(test, snp_rmptable_init(), 0);
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 0);

	cc_platform_clear(CC_ATTR_HOST_SEV_SNP);
	restore_rmp(&saved);
}

static struct kunit_case rmpopt_init_test_cases[] __refdata = {
	KUNIT_CASE_PARAM(test_probe, probe_gen_params),
	KUNIT_CASE(test_hotplug_kexec),
	{}
};

static struct kunit_suite rmpopt_init_test_suite __refdata = {
	.name = "snp_rmpopt_init",
	.init = rmpopt_test_init,
	.exit = rmpopt_test_exit,
	.test_cases = rmpopt_init_test_cases,
};

kunit_test_init_section_suite(rmpopt_init_test_suite);
