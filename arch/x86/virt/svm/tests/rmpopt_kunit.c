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
#include <linux/delay.h>
#include <linux/kmsg_dump.h>
#include <linux/kthread.h>
#include <linux/panic.h>
#include <linux/prandom.h>
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

/* What a hook is told. */
enum model_point {
	/* A pass has not looked for marks yet. */
	POINT_PASS_BEGIN,
	POINT_BEFORE_INSN,
	POINT_AFTER_INSN,
	POINT_PASS_END,
};

/* Where a pass has got to. Only @point means anything at its begin and end. */
struct model_step {
	enum model_point point;
	u64 pa;
	enum rmpopt_function func;
	bool ipi;
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
 * @nr_verify: Number of executions that verify a region.
 * @nr_query: Number of executions that do not.
 * @nr_call: Number of times that IPIs have been sent.
 * @nr_ipi: Number of IPIs of an invented machine.
 * @nr_pass: Number of passes that have begun.
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
 * @hold_queue: Hold whoever has set a mark before the pass gets queued.
 * @cleaned: Clean-up has ended meanwhile.
 * @hook: Called at each step of a pass, may be NULL. In an IPI or without one, and
 *	  on the CPU there is in the former case, which may not sleep.
 * @hook_data: Belongs to @hook.
 * @offline: RAM that is offline, in bytes, the end is exclusive.
 * @memory_nb: The memory notifier, if it has been registered.
 * @pm_nb: The PM notifier, likewise.
 * @nr_notifiers: Number of registrations.
 * @delay_ms: The delay outside of this test.
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
	unsigned int nr_verify;
	unsigned int nr_query;
	unsigned int nr_call;
	unsigned int nr_ipi;
	unsigned int nr_pass;
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
	bool hold_queue;
	bool cleaned;
	void (*hook)(struct rmpopt_model *m, const struct model_step *step);
	void *hook_data;

	struct range offline;
	struct notifier_block *memory_nb;
	struct notifier_block *pm_nb;
	unsigned int nr_notifiers;

	unsigned int delay_ms;
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

/* Have a region lose its bit on all cores. */
static void model_lose_locked(struct rmpopt_model *m, u64 pa)
{
	u64 region = pa / GB;
	unsigned int i;

	__clear_bit(region, m->verdict);

	for (i = 0; i < MODEL_CPUS; i++) {
		u64 first = m->core[i].rmpopt_base / GB;

		if (region >= first && region - first < MODEL_TABLE_REGIONS)
			__clear_bit(region - first, m->core[i].table);
	}
}

static void model_lose(struct rmpopt_model *m, u64 pa)
{
	guard(raw_spinlock_irqsave)(&m->lock);

	model_lose_locked(m, pa);
}

/* RMPUPDATE that assigns a page of the region at @pa. */
static void model_assign(struct rmpopt_model *m, u64 pa)
{
	guard(raw_spinlock_irqsave)(&m->lock);

	m->assigned[pa / GB]++;
	model_lose_locked(m, pa);
}

/* RMPUPDATE that returns a page, without what rmpupdate() does after that. */
static void model_rmpupdate(struct rmpopt_model *m, u64 pa)
{
	guard(raw_spinlock_irqsave)(&m->lock);

	m->assigned[pa / GB]--;
}

static void model_unassign(struct rmpopt_model *m, u64 pa)
{
	model_rmpupdate(m, pa);
	rmpopt_page_returned(PHYS_PFN(pa));
}

static void model_snp_init(struct rmpopt_model *m)
{
	unsigned int i;

	guard(raw_spinlock_irqsave)(&m->lock);

	bitmap_zero(m->verdict, MODEL_REGIONS);
	for (i = 0; i < MODEL_CPUS; i++)
		bitmap_zero(m->core[i].table, MODEL_TABLE_REGIONS);
}

static void model_call_hook(struct rmpopt_model *m, enum model_point point, u64 pa,
			    enum rmpopt_function func, bool ipi)
{
	struct model_step step = { .point = point, .pa = pa, .func = func, .ipi = ipi };

	if (m->hook)
		m->hook(m, &step);
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

		if (func == RMPOPT_VERIFY_AND_REPORT && pa == m->hold) {
			complete(&m->held);
			wait_for_completion(&m->proceed);
		}
	}

	model_call_hook(m, POINT_BEFORE_INSN, pa, func, ipi);

	scoped_guard(raw_spinlock_irqsave, &m->lock) {
		cf = model_execute(m, cpu, pa, func);

		if (func == RMPOPT_VERIFY_AND_REPORT)
			m->nr_verify++;
		else
			m->nr_query++;

		if (m->nr_event < MODEL_EVENTS) {
			e = &m->event[m->nr_event++];
			e->pa = pa;
			e->func = func;
			e->cpu = cpu;
			e->ipi = ipi;
			e->cf = cf;
		}
	}

	model_call_hook(m, POINT_AFTER_INSN, pa, func, ipi);

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
	unsigned long flags;

	/* What @info points to is gone as soon as this returns. */
	if (m && !wait)
		atomic_inc(&m->nr_rule);

	if (m)
		m->nr_call++;

	if (!m || !m->invented) {
		(on_each_cpu_cond_mask)(cond, func, info, wait, mask);
		return;
	}

	sender = m->cpu;
	for_each_cpu_and(cpu, mask, &m->online) {
		if (cond && !cond(cpu, info))
			continue;

		m->nr_ipi++;
		m->cpu = cpu;
		m->ipi = true;
		local_irq_save(flags);
		func(info);
		local_irq_restore(flags);
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

static bool model_has_ram(struct rmpopt_model *m, u64 start, u64 end)
{
	unsigned int i;

	for (i = 0; i < m->nr_ram; i++) {
		if (start < m->ram[i].end && end > m->ram[i].start)
			return true;
	}

	return false;
}

/* The kernel knows about holes by the subsection. */
static struct page *rmpopt_kunit_online_page(unsigned long pfn)
{
	u64 pa = ALIGN_DOWN(PFN_PHYS(pfn), SUBSECTION_SIZE);
	struct rmpopt_model *m = rmpopt_model;

	if (!m)
		return real_online_page(pfn);

	if ((pa >= m->offline.start && pa < m->offline.end) ||
	    !model_has_ram(m, pa, pa + SUBSECTION_SIZE))
		return NULL;

	/* Nobody looks at it. */
	return ZERO_PAGE(0);
}

static int rmpopt_kunit_register_memory(struct notifier_block *nb)
{
	struct rmpopt_model *m = rmpopt_model;

	if (!m)
		return (register_memory_notifier)(nb);

	m->memory_nb = nb;
	m->nr_notifiers++;

	return 0;
}

static int rmpopt_kunit_register_pm(struct notifier_block *nb)
{
	struct rmpopt_model *m = rmpopt_model;

	if (!m)
		return (register_pm_notifier)(nb);

	m->pm_nb = nb;
	m->nr_notifiers++;

	return 0;
}

/* Where a mark has been set, and whoever has set it looks at rmpopt_wq. */
static bool rmpopt_kunit_queue(struct workqueue_struct *wq, struct delayed_work *work,
			       unsigned long delay)
{
	struct rmpopt_model *m = rmpopt_model;
	unsigned int ms;

	if (m && READ_ONCE(m->hold_queue)) {
		complete(&m->held);
		/* Longer than clean-up takes if it does not wait for this. */
		for (ms = 0; ms < 1000 && !READ_ONCE(m->cleaned); ms++)
			mdelay(1);
	}

	return (queue_delayed_work)(wq, work, delay);
}

/* What the work item calls. */
static void (rmpopt_work_handler)(struct work_struct *work)
{
	struct rmpopt_model *m = rmpopt_model;

	if (m) {
		m->nr_pass++;
		model_call_hook(m, POINT_PASS_BEGIN, 0, 0, false);
	}

	rmpopt_kunit_pass(work);

	if (m)
		model_call_hook(m, POINT_PASS_END, 0, 0, false);
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

/* Run passes until nothing asks for another one. */
static void run_all_passes(struct kunit *test)
{
	unsigned int n;

	for (n = 0; n < 1000 && delayed_work_pending(&rmpopt_delayed_work); n++)
		run_pass();
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
}

/* Forget what has been executed so far. */
static void reset_counts(struct rmpopt_model *m)
{
	m->nr_event = 0;
	m->nr_verify = 0;
	m->nr_query = 0;
	m->nr_call = 0;
	m->nr_ipi = 0;
	m->nr_pass = 0;
	m->nr_scan = 0;
}

static bool is_set_up(void)
{
	return rcu_access_pointer(rmpopt_wq);
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

/*
 * What it is all about, once the RMP has been quiet for long enough: each region of
 * RAM that the tables reach holds an assigned page or is optimized on all cores.
 */
static bool expect_covered(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int cpu, i;
	u64 pa;

	for_each_cpu(cpu, cpu_online_mask) {
		for (i = 0; i < m->nr_ram; i++) {
			pa = max(ALIGN_DOWN(m->ram[i].start, GB), rmpopt_start);
			for (; pa < min(m->ram[i].end, rmpopt_start + 2 * TB); pa += GB) {
				if (m->assigned[pa / GB] || is_optimized(m, cpu, pa))
					continue;

				KUNIT_FAIL(test, "region 0x%llx is not optimized on CPU %u", pa,
					   cpu);
				return false;
			}
		}
	}

	return true;
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
	m->delay_ms = rmpopt_kunit_delay_ms;
	rmpopt_kunit_delay_ms = 10000;
	memset(&rmpopt_regions, 0, sizeof(rmpopt_regions));
	atomic_set(&rmpopt_reason, 0);
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

	KUNIT_EXPECT_FALSE(test, is_set_up());
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
	rmpopt_kunit_delay_ms = m->delay_ms;
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

	KUNIT_EXPECT_FALSE(test, is_set_up());
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

	rmpopt_page_returned(PHYS_PFN(GB));
	KUNIT_EXPECT_TRUE(test, bitmap_empty(rmpopt_regions.stale, RMPOPT_MAX_REGIONS));

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
	KUNIT_EXPECT_TRUE(test, is_set_up());
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

	wq = rcu_access_pointer(rmpopt_wq);
	model_snp_init(m);
	expect_optimized(test, 0, false);

	expect_queues_pass(test, snp_setup_rmpopt);
	KUNIT_EXPECT_PTR_EQ(test, rcu_access_pointer(rmpopt_wq), wq);
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
	reset_counts(m);

	snp_rmpopt_all_physmem();
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

	/* The window may have changed in the meantime. */
	set_ram(m, 1 * GB, 3 * GB);
	snp_setup_rmpopt();
	expect_base(test, tc, 1 * GB | MSR_AMD64_RMPOPT_ENABLE, 3);
	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
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
	mod_delayed_work(rcu_access_pointer(rmpopt_wq), &rmpopt_delayed_work, 0);
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

/* Check that event @i is what is expected, returns the index of the next one. */
static unsigned int expect_event(struct kunit *test, unsigned int i, u64 pa,
				 enum rmpopt_function func, bool ipi, bool cf)
{
	struct rmpopt_model *m = test->priv;
	struct model_event *e = &m->event[i];

	KUNIT_ASSERT_LT(test, i, m->nr_event);
	KUNIT_EXPECT_EQ_MSG(test, e->pa, pa, "event %u", i);
	KUNIT_EXPECT_EQ_MSG(test, e->func, func, "event %u", i);
	KUNIT_EXPECT_EQ_MSG(test, e->ipi, ipi, "event %u", i);
	KUNIT_EXPECT_EQ_MSG(test, e->cf, cf, "event %u", i);
	if (!ipi)
		KUNIT_EXPECT_EQ_MSG(test, e->cpu, m->cpu, "event %u", i);

	return i + 1;
}

/*
 * Check that a pass has handled @nr regions from @pa on as a batch, from event @i
 * on: the first core visits all of them, then each other core those for which it has
 * succeeded, that is which are not in @failing. Returns the index of the next event.
 */
static unsigned int expect_batch(struct kunit *test, unsigned int i, u64 pa, unsigned int nr,
				 unsigned long failing, unsigned int nr_cores)
{
	struct rmpopt_model *m = test->priv;
	unsigned long seen = BIT(model_core_of(m, m->cpu));
	unsigned int n, core, done;

	for (n = 0; n < nr; n++)
		i = expect_event(test, i, pa + n * GB, RMPOPT_VERIFY_AND_REPORT, false,
				 !(failing & BIT(n)));

	if (hweight_long(failing) == nr)
		return i;

	for (done = 1; done < nr_cores; done++) {
		unsigned int cpu = m->event[i].cpu;

		core = model_core_of(m, cpu);
		KUNIT_EXPECT_FALSE_MSG(test, seen & BIT(core), "core of CPU %u twice", cpu);
		seen |= BIT(core);

		for (n = 0; n < nr; n++) {
			if (failing & BIT(n))
				continue;
			KUNIT_EXPECT_EQ(test, m->event[i].cpu, cpu);
			i = expect_event(test, i, pa + n * GB, RMPOPT_VERIFY_AND_REPORT, true,
					 true);
		}
	}

	return i;
}

static void test_pass(struct kunit *test)
{
	const struct topology_case *tc = test->param_value;
	struct rmpopt_model *m = test->priv;
	unsigned int cpu, i, region;
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
			i = expect_event(test, i, region * GB, RMPOPT_REPORT, false, false);
		first = false;

		i = expect_batch(test, i, 0, 4, 0, tc->nr_cores);
		for (region = 0; region < 4; region++)
			expect_optimized(test, region * GB, true);
		KUNIT_EXPECT_EQ(test, i, m->nr_event);

		/* The RMP is read once for each region, not once on each core. */
		KUNIT_EXPECT_EQ(test, m->nr_scan, 4);
	}
}

static void test_pass_assigned(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[0];
	struct rmpopt_model *m = test->priv;
	unsigned int i, region;

	invent_topology(test, tc);
	snp_setup_rmpopt();
	model_assign(m, 1 * GB);
	run_pass();

	i = expect_batch(test, 0, 0, 4, BIT(1), tc->nr_cores);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);
	for (region = 0; region < 4; region++)
		expect_optimized(test, region * GB, region != 1);

	/* That a page is assigned is no reason for a pass, that it is returned is one. */
	model_assign(m, 3 * GB);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	model_unassign(m, 1 * GB);
	KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_delayed_work));
	expect_optimized(test, 1 * GB, false);

	/* Nothing but the region of the page is visited. */
	m->nr_event = 0;
	run_pass();
	i = expect_batch(test, 0, 1 * GB, 1, 0, tc->nr_cores);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);
	for (region = 0; region < 4; region++)
		expect_optimized(test, region * GB, region != 3);
}

/* A region with an assigned page costs nobody anything until the page is returned. */
static void test_pass_all_assigned(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[0];
	struct rmpopt_model *m = test->priv;
	unsigned int i, region;

	invent_topology(test, tc);
	for (region = 0; region < 4; region++)
		model_assign(m, region * GB);
	snp_setup_rmpopt();
	run_pass();

	i = expect_batch(test, 0, 0, 4, 0xf, tc->nr_cores);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);
	KUNIT_EXPECT_EQ(test, m->nr_call, 0);

	snp_rmpopt_all_physmem();
	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_pass, 2);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);

	m->nr_event = 0;
	model_unassign(m, 2 * GB);
	run_pass();
	i = expect_batch(test, 0, 2 * GB, 1, 0, tc->nr_cores);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);
	expect_covered(test);
}

/* More than a batch. */
static void test_pass_batches(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[7];
	struct rmpopt_model *m = test->priv;
	unsigned int i;

	invent_topology(test, tc);
	set_ram(m, 0, 33 * GB);
	model_assign(m, 20 * GB);
	snp_setup_rmpopt();
	run_pass();

	i = expect_batch(test, 0, 0, 16, 0, tc->nr_cores);
	i = expect_batch(test, i, 16 * GB, 16, BIT(4), tc->nr_cores);
	i = expect_batch(test, i, 32 * GB, 1, 0, tc->nr_cores);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);
	expect_covered(test);
}

/* The CPUs there are, with a worker that runs anywhere, and real IPIs. */
static void test_pass_real_cpus(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int cpu, nr_cores = 0, region, i;
	u64 last[MODEL_CPUS] = {};

	for_each_cpu(cpu, real_online_mask())
		nr_cores += cpu == cpumask_first(real_siblings(cpu));

	snp_setup_rmpopt();
	model_assign(m, 2 * GB);
	run_pass();

	for (region = 0; region < 4; region++)
		expect_optimized(test, region * GB, region != 2);

	/* The worker's core goes first, the others go at once and need one IPI each. */
	KUNIT_EXPECT_EQ(test, m->nr_event, 4 + 3 * (nr_cores - 1));
	KUNIT_EXPECT_EQ(test, m->nr_call, 1);
	for (i = 0; i < m->nr_event; i++) {
		struct model_event *e = &m->event[i];
		unsigned int core = model_core_of(m, e->cpu);

		KUNIT_EXPECT_EQ(test, e->ipi, i >= 4);
		KUNIT_EXPECT_EQ(test, e->cf, e->pa != 2 * GB);
		if (!e->ipi) {
			KUNIT_EXPECT_EQ(test, e->pa, i * GB);
			KUNIT_EXPECT_EQ(test, core, model_core_of(m, m->event[0].cpu));
			continue;
		}
		KUNIT_EXPECT_NE(test, core, model_core_of(m, m->event[0].cpu));
		KUNIT_EXPECT_NE(test, e->pa, 2 * GB);
		/* Ascending, which with the number of events makes it once. */
		KUNIT_EXPECT_GE(test, e->pa, last[core]);
		last[core] = e->pa + GB;
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
	/* Nothing if there is nothing queued. */
	mod_timer_pending(&rmpopt_delayed_work.timer,
			  rmpopt_delayed_work.timer.expires - secs * HZ);
}

/* Set-up leads to a pass, but not before the firmware has settled. */
static void test_setup_queues_pass(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	expect_queues_pass(test, snp_setup_rmpopt);
	KUNIT_EXPECT_EQ(test, m->nr_event, 0);

	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
}

/* One pass, 10 seconds after the last request. */
static void test_request_restarts_timer(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	snp_setup_rmpopt();
	run_pass();
	reset_counts(m);

	expect_queues_pass(test, snp_rmpopt_all_physmem);

	backdate_timer(7);
	expect_queues_pass(test, snp_rmpopt_all_physmem);
	KUNIT_EXPECT_EQ(test, m->nr_event, 0);

	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
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
	KUNIT_EXPECT_EQ(test, m->nr_pass, 2);
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
		KUNIT_EXPECT_FALSE(test, is_set_up());
		KUNIT_EXPECT_EQ(test, m->nr_live, 0);
	}

	WRITE_ONCE(stop_requests, true);
	for (i = 0; i < nr; i++)
		join_thread(&threads[i]);

	/* No worse for it. */
	reset_counts(m);
	snp_setup_rmpopt();
	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
	expect_optimized(test, 0, true);
}

/*
 * Marks.
 */

/* 10 seconds, which the header makes adjustable. */
static void test_delay(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, real_work_timeout(), 10 * HZ);
	KUNIT_EXPECT_EQ(test, RMPOPT_WORK_TIMEOUT, 10 * HZ);
}

/* The page that is returned by return_page(). */
static u64 page_to_return;

static void return_page(void)
{
	rmpopt_page_returned(PHYS_PFN(page_to_return));
}

/* A pass starts 10 seconds after the first mark, however many may follow. */
static void test_mark_queues_pass(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned long expires;
	unsigned int i;

	invent_topology(test, &topology_cases[7]);
	snp_setup_rmpopt();
	run_pass();
	reset_counts(m);

	page_to_return = 1 * GB + 12 * MB;
	expect_queues_pass(test, return_page);

	backdate_timer(7);
	expires = rmpopt_delayed_work.timer.expires;
	rmpopt_page_returned(PHYS_PFN(1 * GB + 14 * MB));
	rmpopt_page_returned(PHYS_PFN(2 * GB));
	rmpopt_page_returned(PHYS_PFN(4 * GB - 4096));
	KUNIT_EXPECT_EQ(test, rmpopt_delayed_work.timer.expires, expires);

	/* A request waits for the last one, and thus for its own delay. */
	expect_queues_pass(test, snp_rmpopt_all_physmem);

	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
	i = expect_event(test, 0, 0, RMPOPT_REPORT, false, true);
	KUNIT_EXPECT_EQ(test, expect_batch(test, i, 1 * GB, 3, 0, 4), m->nr_event);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

	/* And again from the start. */
	reset_counts(m);
	expect_queues_pass(test, return_page);
	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_query, 0);
	KUNIT_EXPECT_EQ(test, expect_batch(test, 0, 1 * GB, 1, 0, 4), m->nr_event);
}

static void test_mark_not_set_up(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	rmpopt_page_returned(PHYS_PFN(1 * GB));
	expect_not_set_up(test);

	snp_setup_rmpopt();
	snp_cleanup_rmpopt();
	rmpopt_page_returned(PHYS_PFN(2 * GB));
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	KUNIT_EXPECT_EQ(test, m->nr_pass, 0);

	/* A mark that is left over does no harm. */
	snp_setup_rmpopt();
	run_all_passes(test);
	expect_covered(test);
	reset_counts(m);
	model_assign(m, 2 * GB);
	model_unassign(m, 2 * GB);
	run_all_passes(test);
	KUNIT_EXPECT_EQ(test, m->nr_pass, 1);
	expect_covered(test);
}

/* All RAM is visited, but nothing else. */
static void test_mark_ram(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int i;

	invent_topology(test, &topology_cases[9]);
	m->ram[0] = (struct range) { 3 * GB + 4 * MB, 5 * GB };
	m->ram[1] = (struct range) { 7 * GB - 4096, 7 * GB + 4096 };
	m->ram[2] = (struct range) { 20 * GB, 22 * GB + MB };
	m->nr_ram = 3;

	snp_setup_rmpopt();
	run_pass();
	i = expect_batch(test, 0, 3 * GB, 2, 0, 1);
	i = expect_batch(test, i, 6 * GB, 2, 0, 1);
	i = expect_batch(test, i, 20 * GB, 3, 0, 1);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);

	/* Whatever is returned elsewhere is of no use to RMPOPT. */
	rmpopt_page_returned(PHYS_PFN(5 * GB));
	rmpopt_page_returned(PHYS_PFN(2 * GB));
	rmpopt_page_returned(PHYS_PFN(3 * GB + 2 * TB));
	run_all_passes(test);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);
	expect_covered(test);
}

/* RAM above the tables is not visited, and its pages do not lead to a pass. */
static void test_mark_beyond_window(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int i;

	invent_topology(test, &topology_cases[9]);
	m->ram[0] = (struct range) { 1 * GB, 2 * GB };
	m->ram[1] = (struct range) { 2 * TB - GB, 2 * TB + 3 * GB };
	m->nr_ram = 2;

	snp_setup_rmpopt();
	run_pass();
	i = expect_batch(test, 0, 1 * GB, 1, 0, 1);
	i = expect_batch(test, i, 2 * TB - GB, 2, 0, 1);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);

	rmpopt_page_returned(PHYS_PFN(2 * TB + GB));
	rmpopt_page_returned(PHYS_PFN(0));
	rmpopt_page_returned(U64_MAX >> PAGE_SHIFT);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

	/* The last region in reach. */
	m->nr_event = 0;
	rmpopt_page_returned(PHYS_PFN(2 * TB + GB) - 1);
	run_pass();
	KUNIT_EXPECT_EQ(test, expect_batch(test, 0, 2 * TB, 1, 0, 1), m->nr_event);
}

/* A request finds regions that are not optimized any more without a mark. */
static void test_request_queries(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[7];
	struct rmpopt_model *m = test->priv;
	unsigned int i, region;

	invent_topology(test, tc);
	set_ram(m, 0, 6 * GB);
	model_assign(m, 5 * GB);
	snp_setup_rmpopt();
	run_pass();
	reset_counts(m);

	/* Lost: 1. Assigned: 2. Marked: 3. Never optimized: 5. */
	model_lose(m, 1 * GB);
	model_assign(m, 2 * GB);
	model_assign(m, 3 * GB);
	model_unassign(m, 3 * GB);
	snp_rmpopt_all_physmem();
	run_pass();

	i = expect_event(test, 0, 0, RMPOPT_REPORT, false, true);
	i = expect_event(test, i, 1 * GB, RMPOPT_REPORT, false, false);
	i = expect_event(test, i, 2 * GB, RMPOPT_REPORT, false, false);
	i = expect_event(test, i, 4 * GB, RMPOPT_REPORT, false, true);
	i = expect_batch(test, i, 1 * GB, 3, BIT(1), tc->nr_cores);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);
	expect_covered(test);

	/* That the first core has failed is known by now. */
	m->nr_event = 0;
	snp_rmpopt_all_physmem();
	run_pass();
	for (region = 0, i = 0; region < 5; region++) {
		if (region != 2)
			i = expect_event(test, i, region * GB, RMPOPT_REPORT, false, true);
	}
	KUNIT_EXPECT_EQ(test, i, m->nr_event);

	m->nr_event = 0;
	model_unassign(m, 2 * GB);
	run_pass();
	KUNIT_EXPECT_EQ(test, expect_batch(test, 0, 2 * GB, 1, 0, tc->nr_cores), m->nr_event);
	expect_covered(test);
}

/* One IPI to each other core for 16 regions, and RMPOPT once per region and core. */
static void test_ipis(struct kunit *test)
{
	static const unsigned int nr_stale[] = { 1, 2, 15, 16, 17, 31, 32, 33, 40 };
	const struct topology_case *tc = test->param_value;
	struct rmpopt_model *m = test->priv;
	unsigned int i, n, nr, nr_calls;

	invent_topology(test, tc);
	set_ram(m, 0, 40 * GB);
	snp_setup_rmpopt();
	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_ipi, 3 * (tc->nr_cores - 1));
	KUNIT_EXPECT_EQ(test, m->nr_verify, 40 * tc->nr_cores);

	for (i = 0; i < ARRAY_SIZE(nr_stale); i++) {
		reset_counts(m);
		nr = nr_stale[i];
		/* All over the place, 7 and 40 have no common divisor. */
		for (n = 0; n < nr; n++)
			rmpopt_page_returned(PHYS_PFN(n * 7 % 40 * GB));
		run_pass();

		nr_calls = DIV_ROUND_UP(nr, 16);
		KUNIT_EXPECT_EQ_MSG(test, m->nr_call, nr_calls, "%u regions", nr);
		KUNIT_EXPECT_EQ_MSG(test, m->nr_ipi, nr_calls * (tc->nr_cores - 1),
				    "%u regions", nr);
		KUNIT_EXPECT_EQ_MSG(test, m->nr_verify, nr * tc->nr_cores, "%u regions", nr);
		KUNIT_EXPECT_EQ(test, m->nr_query, 0);
	}
}

/*
 * Interleavings of passes and conversions.
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
			rmpopt_page_returned(PHYS_PFN(c->pa));
			break;
		}
	}
	c->point++;
}

static void conversion_hook(struct rmpopt_model *m, const struct model_step *step)
{
	run_conversion(m, m->hook_data);
}

/*
 * A page is assigned, is returned by RMPUPDATE, and the return is noted: each of
 * these at each point of a pass. Point 0 is before it. The pass begins, queries two
 * regions, and visits a third on three cores, the first one without an IPI.
 */
#define CONVERSION_POINTS	(1 + 2 + 2 * (2 + 3))

static void test_conversion(struct kunit *test)
{
	struct topology_case tc = { .core = ADJACENT, .online = 0x8430, .nr_cores = 3 };
	struct rmpopt_model *m = test->priv;
	struct conversion c;
	u64 pa;

	invent_topology(test, &tc);
	set_ram(m, 0, 3 * GB);
	snp_setup_rmpopt();
	run_pass();

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
			run_pass();
			m->hook = NULL;

			/* The pass is shorter if a page stays assigned, catch up. */
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

	if (step->point != POINT_AFTER_INSN || step->pa != late_region || !step->ipi)
		return;

	/* Once, in the first IPI. */
	m->hook = NULL;
	for (region = 0; region < 20; region++) {
		for (n = 0; n < 3; n++)
			model_assign(m, region * GB + n * MB);
		for (n = 0; n < 3; n++)
			model_unassign(m, region * GB + n * MB);
	}
}

static void test_conversions_in_ipi(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[7];
	struct rmpopt_model *m = test->priv;

	invent_topology(test, tc);
	set_ram(m, 0, 20 * GB);
	snp_setup_rmpopt();

	late_region = 3 * GB;
	m->hook = late_conversions;
	run_pass();
	KUNIT_EXPECT_NULL(test, m->hook);

	/* The first batch has been taken, its marks are new. The second one has not. */
	KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_delayed_work));
	reset_counts(m);
	run_pass();
	KUNIT_EXPECT_EQ(test, expect_batch(test, 0, 0, 16, 0, tc->nr_cores), m->nr_event);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	expect_covered(test);
}

/* A page that is assigned between the first core and the others. */
static void late_assign(struct rmpopt_model *m, const struct model_step *step)
{
	if (step->point == POINT_AFTER_INSN && step->pa == late_region && !step->ipi)
		model_assign(m, late_region);
}

static void test_assigned_before_ipi(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[7];
	struct rmpopt_model *m = test->priv;

	invent_topology(test, tc);
	snp_setup_rmpopt();

	late_region = 3 * GB;
	m->hook = late_assign;
	run_pass();
	m->hook = NULL;
	expect_optimized(test, 3 * GB, false);
	expect_covered(test);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

	model_unassign(m, 3 * GB);
	run_all_passes(test);
	expect_optimized(test, 3 * GB, true);
}

/* A request that comes during a pass leads to another one, which queries. */
static void test_request_in_pass(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, &topology_cases[7]);
	snp_setup_rmpopt();
	run_pass();
	reset_counts(m);

	rmpopt_page_returned(PHYS_PFN(2 * GB));
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

/*
 * Anything goes, and after that it is quiet.
 */

#define RANDOM_HOT		6
#define RANDOM_MARKS		4

/**
 * struct random_state - What a random test is up to
 *
 * @rnd: Where random numbers come from.
 * @hot: Regions that conversions take place in.
 * @nr_assigned: Pages of these that are assigned.
 * @mark: Pages of which the return has not been noted.
 * @nr_marks: Number of entries in @mark.
 * @budget: Number of operations left for this round.
 */
struct random_state {
	struct rnd_state rnd;
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
	rmpopt_page_returned(PHYS_PFN(pa));
}

static void random_op(struct rmpopt_model *m, struct random_state *r)
{
	unsigned int n = random_below(r, RANDOM_HOT);
	u64 pa = r->hot[n] + random_below(r, SZ_1G / SZ_4K) * (u64)SZ_4K;

	switch (random_below(r, 4)) {
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

static void random_round(struct kunit *test, struct random_state *r)
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
			pa = random_below(r, 50) * GB;
			for (i = 0; i < RANDOM_HOT; i++) {
				if (i != n && r->hot[i] == pa)
					break;
			}
		} while (i < RANDOM_HOT || !model_has_ram(m, pa, pa + PAGE_SIZE));
		r->hot[n] = pa;
	}

	for (n = random_below(r, 4); n; n--)
		random_op(m, r);

	if (lose) {
		for (n = 0; n < 3; n++)
			model_lose(m, r->hot[n]);
	}
	if (lose || !random_below(r, 4))
		snp_rmpopt_all_physmem();

	/* The worker runs anywhere. */
	n = random_below(r, MODEL_CPUS);
	m->cpu = cpumask_next_wrap(n, &m->online);

	r->budget = random_below(r, 30);
	m->hook_data = r;
	m->hook = random_hook;
	run_all_passes(test);
	m->hook = NULL;

	/* Often all pages are gone. */
	for (n = 0; n < RANDOM_HOT && !random_below(r, 2); n++) {
		for (; r->nr_assigned[n]; r->nr_assigned[n]--)
			model_unassign(m, r->hot[n]);
	}
	while (r->nr_marks)
		random_mark(r);
	run_all_passes(test);
}

#define RANDOM_ROUNDS		100

static void test_random(struct kunit *test)
{
	const struct topology_case *tc = test->param_value;
	u64 seed = 20260801 + (tc - topology_cases);
	struct rmpopt_model *m = test->priv;
	struct random_state *r;
	unsigned int round;

	r = kunit_kzalloc(test, sizeof(*r), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, r);
	kunit_info(test, "seed %llu\n", seed);
	prandom_seed_state(&r->rnd, seed);

	invent_topology(test, tc);
	m->ram[0] = (struct range) { 2 * GB, 18 * GB };
	m->ram[1] = (struct range) { 21 * GB + MB, 34 * GB + MB };
	m->ram[2] = (struct range) { 40 * GB, 50 * GB };
	m->nr_ram = 3;
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

		random_round(test, r);
		if (!expect_covered(test)) {
			KUNIT_FAIL(test, "seed %llu, round %u", seed, round);
			return;
		}
	}
}

/*
 * Pages that are returned while RMPOPT comes and goes.
 */

static bool stop_returns;

static void return_many(void)
{
	u64 pa = 0;

	do {
		rmpopt_page_returned(PHYS_PFN(pa));
		pa = (pa + GB) % (4 * GB);
		cond_resched();
	} while (!READ_ONCE(stop_returns));
}

static void test_returns_during_setup(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int cpu, i, nr = 0;
	struct thread threads[2];

	WRITE_ONCE(stop_returns, false);
	for_each_cpu(cpu, real_online_mask()) {
		run_thread(test, &threads[nr], return_many);
		if (threads[nr].task)
			set_cpus_allowed_ptr(threads[nr].task, cpumask_of(cpu));
		if (++nr == ARRAY_SIZE(threads))
			break;
	}

	for (i = 0; i < 6; i++) {
		set_ram(m, (i & 1) * GB, 4 * GB);
		snp_setup_rmpopt();
		run_pass();
		snp_cleanup_rmpopt();
		KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
		KUNIT_EXPECT_EQ(test, m->nr_live, 0);
	}
	snp_setup_rmpopt();
	run_pass();

	WRITE_ONCE(stop_returns, true);
	for (i = 0; i < nr; i++)
		join_thread(&threads[i]);

	run_all_passes(test);
	expect_covered(test);
}

/* Clean-up does not take the workqueue away from somebody who has a mark to queue. */
static void test_cleanup_waits_for_mark(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	struct thread t;

	if (num_online_cpus() < 2)
		kunit_skip(test, "needs two CPUs");

	snp_setup_rmpopt();
	run_pass();

	page_to_return = GB;
	m->hold_queue = true;
	run_thread(test, &t, return_page);
	KUNIT_EXPECT_NE(test, wait_for_completion_timeout(&m->held, 10 * HZ), 0);
	snp_cleanup_rmpopt();
	WRITE_ONCE(m->cleaned, true);
	join_thread(&t);
	m->hold_queue = false;

	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	/* The workqueue is gone, do not let it run if it is pending nonetheless. */
	cancel_delayed_work_sync(&rmpopt_delayed_work);
}

/*
 * Memory that comes and goes.
 */

static void memory_notify_model(unsigned long action, u64 start, u64 end)
{
	struct memory_notify mem = {
		.start_pfn = PHYS_PFN(start),
		.nr_pages = PHYS_PFN(end - start),
	};

	rmpopt_memory_notify(NULL, action, &mem);
}

static void online_memory(void)
{
	struct rmpopt_model *m = rmpopt_model;

	m->ram[1] = (struct range) { 6 * GB + 512 * MB, 8 * GB + 128 * MB };
	m->nr_ram = 2;
	memory_notify_model(MEM_ONLINE, m->ram[1].start, m->ram[1].end);
}

static void test_memory_online(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[7];
	struct rmpopt_model *m = test->priv;

	invent_topology(test, tc);
	snp_setup_rmpopt();
	run_pass();
	reset_counts(m);

	expect_queues_pass(test, online_memory);
	run_pass();
	KUNIT_EXPECT_EQ(test, expect_batch(test, 0, 6 * GB, 3, 0, tc->nr_cores), m->nr_event);
	expect_covered(test);

	/* Like all others from then on. */
	reset_counts(m);
	model_assign(m, 8 * GB);
	model_unassign(m, 8 * GB);
	run_pass();
	KUNIT_EXPECT_EQ(test, expect_batch(test, 0, 8 * GB, 1, 0, tc->nr_cores), m->nr_event);

	/* Out of reach. */
	reset_counts(m);
	memory_notify_model(MEM_ONLINE, 2 * TB, 2 * TB + GB);
	run_all_passes(test);
	KUNIT_EXPECT_EQ(test, m->nr_event, 0);

	/* What comes before and what fails changes nothing. */
	memory_notify_model(MEM_GOING_ONLINE, 10 * GB, 11 * GB);
	memory_notify_model(MEM_CANCEL_ONLINE, 10 * GB, 11 * GB);
	memory_notify_model(MEM_GOING_OFFLINE, 6 * GB, 9 * GB);
	memory_notify_model(MEM_CANCEL_OFFLINE, 6 * GB, 9 * GB);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	rmpopt_page_returned(PHYS_PFN(7 * GB));
	run_all_passes(test);
	KUNIT_EXPECT_EQ(test, expect_batch(test, 0, 7 * GB, 1, 0, tc->nr_cores), m->nr_event);
}

/* A page of a region may have been marked before its RAM was known. */
static void test_memory_online_marked(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[7];
	struct rmpopt_model *m = test->priv;

	invent_topology(test, tc);
	snp_setup_rmpopt();
	rmpopt_page_returned(PHYS_PFN(7 * GB));
	run_all_passes(test);
	reset_counts(m);

	expect_queues_pass(test, online_memory);
	run_pass();
	KUNIT_EXPECT_EQ(test, expect_batch(test, 0, 6 * GB, 3, 0, tc->nr_cores), m->nr_event);
	expect_covered(test);
}

static void test_memory_online_not_set_up(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	online_memory();
	expect_not_set_up(test);

	snp_setup_rmpopt();
	run_pass();
	expect_covered(test);

	snp_cleanup_rmpopt();
	memory_notify_model(MEM_OFFLINE, m->ram[1].start, m->ram[1].end);
	memory_notify_model(MEM_ONLINE, m->ram[1].start, m->ram[1].end);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	KUNIT_EXPECT_EQ(test, m->nr_live, 0);
}

/* While a pass is running, which has been past the region already. */
static void late_online(struct rmpopt_model *m, const struct model_step *step)
{
	if (step->point != POINT_AFTER_INSN || !step->ipi)
		return;

	m->hook = NULL;
	online_memory();
}

static void test_memory_online_in_pass(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	invent_topology(test, &topology_cases[7]);
	set_ram(m, 0, 20 * GB);
	snp_setup_rmpopt();
	m->hook = late_online;
	run_pass();
	KUNIT_EXPECT_NULL(test, m->hook);
	KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_delayed_work));
	run_all_passes(test);
	expect_covered(test);
}

static void offline_memory(struct rmpopt_model *m, u64 start, u64 end)
{
	m->offline = (struct range) { start, end };
	memory_notify_model(MEM_OFFLINE, start, end);
}

/* A region is visited as long as any of it is online. */
static void test_memory_offline(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[7];
	struct rmpopt_model *m = test->priv;
	unsigned int region, i;

	invent_topology(test, tc);
	set_ram(m, 0, 6 * GB);
	snp_setup_rmpopt();
	run_pass();

	/* All but the last section of region 2, or but the first one. */
	offline_memory(m, 2 * GB, 3 * GB - 128 * MB);
	for (region = 2; region < 4; region++) {
		m->nr_event = 0;
		rmpopt_page_returned(PHYS_PFN(2 * GB));
		run_pass();
		KUNIT_EXPECT_EQ(test, expect_batch(test, 0, 2 * GB, 1, 0, tc->nr_cores),
				m->nr_event);
		offline_memory(m, 2 * GB + 128 * MB, 3 * GB);
	}

	/* All of regions 3 and 4, half of 2 and 5. */
	offline_memory(m, 2 * GB + 512 * MB, 5 * GB + 512 * MB);
	m->nr_event = 0;
	for (region = 0; region < 6; region++)
		rmpopt_page_returned(PHYS_PFN(region * GB));
	run_all_passes(test);
	for (i = 0; i < m->nr_event; i++) {
		KUNIT_EXPECT_NE(test, m->event[i].pa, 3 * GB);
		KUNIT_EXPECT_NE(test, m->event[i].pa, 4 * GB);
	}
	KUNIT_EXPECT_EQ(test, m->nr_event, 4 * tc->nr_cores);

	/* Neither does a request look there. */
	m->nr_event = 0;
	snp_rmpopt_all_physmem();
	run_pass();
	KUNIT_EXPECT_EQ(test, m->nr_event, 4);

	/* Until it is back. */
	m->nr_event = 0;
	m->offline = (struct range) {};
	memory_notify_model(MEM_ONLINE, 3 * GB, 4 * GB);
	run_pass();
	KUNIT_EXPECT_EQ(test, expect_batch(test, 0, 3 * GB, 1, 0, tc->nr_cores), m->nr_event);
}

/* RAM that has been added is none until it is online. */
static void test_memory_added(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int i;

	invent_topology(test, &topology_cases[9]);
	set_ram(m, 0, 6 * GB);
	m->offline = (struct range) { 2 * GB, 4 * GB };
	snp_setup_rmpopt();
	run_pass();
	i = expect_batch(test, 0, 0, 2, 0, 1);
	i = expect_batch(test, i, 4 * GB, 2, 0, 1);
	KUNIT_EXPECT_EQ(test, i, m->nr_event);

	m->nr_event = 0;
	m->offline = (struct range) {};
	memory_notify_model(MEM_ONLINE, 2 * GB, 4 * GB);
	run_pass();
	KUNIT_EXPECT_EQ(test, expect_batch(test, 0, 2 * GB, 2, 0, 1), m->nr_event);
	expect_covered(test);
}

/*
 * Suspend.
 */

struct suspend_case {
	const char *name;
	unsigned long prepare, post;
};

static const struct suspend_case suspend_cases[] = {
	{ "suspend",		PM_SUSPEND_PREPARE,	PM_POST_SUSPEND },
	{ "hibernation",	PM_HIBERNATION_PREPARE,	PM_POST_HIBERNATION },
	{ "restore",		PM_RESTORE_PREPARE,	PM_POST_RESTORE },
};

KUNIT_ARRAY_PARAM_DESC(suspend, suspend_cases, name);

static void test_suspend(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[0];
	const struct suspend_case *sc = test->param_value;
	struct rmpopt_model *m = test->priv;

	invent_topology(test, tc);

	/* Not set up before is not set up after. */
	rmpopt_pm_notify(NULL, sc->prepare, NULL);
	rmpopt_pm_notify(NULL, sc->post, NULL);
	expect_not_set_up(test);

	snp_setup_rmpopt();
	run_pass();
	rmpopt_page_returned(PHYS_PFN(GB));

	rmpopt_pm_notify(NULL, sc->prepare, NULL);
	KUNIT_EXPECT_FALSE(test, is_set_up());
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	KUNIT_EXPECT_EQ(test, m->nr_live, 0);
	expect_base(test, tc, 0, 2);

	/* A page that is returned before tasks are frozen. */
	model_assign(m, 2 * GB);
	model_unassign(m, 2 * GB);
	model_snp_init(m);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

	rmpopt_pm_notify(NULL, sc->post, NULL);
	KUNIT_EXPECT_TRUE(test, is_set_up());
	expect_base(test, tc, MSR_AMD64_RMPOPT_ENABLE, 3);
	run_all_passes(test);
	expect_covered(test);

	/* The firmware has come back without SNP. */
	rmpopt_pm_notify(NULL, sc->prepare, NULL);
	m->syscfg = 0;
	rmpopt_pm_notify(NULL, sc->post, NULL);
	KUNIT_EXPECT_FALSE(test, is_set_up());
	expect_base(test, tc, 0, 4);

	/* And stays like that the next time. */
	m->syscfg = MSR_AMD64_SYSCFG_SNP_EN;
	rmpopt_pm_notify(NULL, sc->prepare, NULL);
	rmpopt_pm_notify(NULL, sc->post, NULL);
	KUNIT_EXPECT_FALSE(test, is_set_up());

	/* The driver shuts SNP down as soon as tasks run again. */
	snp_setup_rmpopt();
	rmpopt_pm_notify(NULL, sc->prepare, NULL);
	snp_cleanup_rmpopt();
	rmpopt_pm_notify(NULL, sc->post, NULL);
	KUNIT_EXPECT_FALSE(test, is_set_up());

	/* One transition inside of another, as with /dev/snapshot. */
	snp_setup_rmpopt();
	rmpopt_pm_notify(NULL, PM_HIBERNATION_PREPARE, NULL);
	rmpopt_pm_notify(NULL, sc->prepare, NULL);
	rmpopt_pm_notify(NULL, sc->post, NULL);
	rmpopt_pm_notify(NULL, PM_POST_HIBERNATION, NULL);
	KUNIT_EXPECT_TRUE(test, is_set_up());
}

/* Tasks run until they are frozen, and the CPUs lose what set-up has written then. */
static void test_suspend_setup_between(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[0];
	const struct suspend_case *sc = test->param_value;

	invent_topology(test, tc);

	rmpopt_pm_notify(NULL, sc->prepare, NULL);
	snp_setup_rmpopt();
	expect_base(test, tc, MSR_AMD64_RMPOPT_ENABLE, 1);
	rmpopt_pm_notify(NULL, sc->post, NULL);
	KUNIT_EXPECT_TRUE(test, is_set_up());
	expect_base(test, tc, MSR_AMD64_RMPOPT_ENABLE, 3);
	run_all_passes(test);
	expect_covered(test);
}

/* Set-up that has failed is tried again. */
static void test_suspend_setup_failed(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[0];
	const struct suspend_case *sc = test->param_value;
	struct rmpopt_model *m = test->priv;

	invent_topology(test, tc);

	m->fail_alloc = 1;
	snp_setup_rmpopt();
	KUNIT_EXPECT_FALSE(test, is_set_up());
	rmpopt_pm_notify(NULL, sc->prepare, NULL);
	rmpopt_pm_notify(NULL, sc->post, NULL);
	KUNIT_EXPECT_TRUE(test, is_set_up());
	expect_base(test, tc, MSR_AMD64_RMPOPT_ENABLE, 1);
	run_all_passes(test);
	expect_covered(test);
}

/*
 * Trace events.
 */

struct trace_log {
	unsigned int nr_begin, nr_end, nr_verdict, nr_stale;
	/* Of the last one. */
	unsigned int begin_reason, begin_cores;
	unsigned int reason, cores, queried, regions, optimized, ipis;
	u64 ns;
	/* Of all of them. */
	unsigned long verdicts, optimized_regions, stale_regions;
	unsigned int stale_reasons;
};

static void probe_pass_begin(void *data, unsigned int reason, unsigned int cores)
{
	struct trace_log *log = data;

	log->nr_begin++;
	log->begin_reason = reason;
	log->begin_cores = cores;
}

static void probe_pass_end(void *data, unsigned int reason, unsigned int cores,
			   unsigned int queried, unsigned int regions, unsigned int optimized,
			   unsigned int ipis, u64 ns)
{
	struct trace_log *log = data;

	log->nr_end++;
	log->reason = reason;
	log->cores = cores;
	log->queried = queried;
	log->regions = regions;
	log->optimized = optimized;
	log->ipis = ipis;
	log->ns = ns;
}

static void probe_verdict(void *data, u64 pa, bool optimized)
{
	struct trace_log *log = data;

	log->nr_verdict++;
	__set_bit(pa / GB, &log->verdicts);
	if (optimized)
		__set_bit(pa / GB, &log->optimized_regions);
}

static void probe_stale(void *data, u64 pa, unsigned int reason)
{
	struct trace_log *log = data;

	log->nr_stale++;
	log->stale_reasons |= reason;
	if (IS_ALIGNED(pa, GB))
		__set_bit(pa / GB, &log->stale_regions);
}

static void unregister_probes(void *data)
{
	unregister_trace_rmpopt_pass_begin(probe_pass_begin, data);
	unregister_trace_rmpopt_pass_end(probe_pass_end, data);
	unregister_trace_rmpopt_verdict(probe_verdict, data);
	unregister_trace_rmpopt_stale(probe_stale, data);
	tracepoint_synchronize_unregister();
}

static struct trace_log *register_probes(struct kunit *test)
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

	return log;
}

/* Run a pass that is queued for @reason, and compare the log with the model. */
static void expect_trace_pass(struct kunit *test, struct trace_log *log, unsigned int reason,
			      unsigned int nr_cores)
{
	struct rmpopt_model *m = test->priv;
	unsigned int nr_leader = 0, nr_cf = 0, i;
	ktime_t start = ktime_get();
	s64 ns;

	log->nr_begin = 0;
	log->nr_end = 0;
	log->nr_verdict = 0;
	log->verdicts = 0;
	log->optimized_regions = 0;
	reset_counts(m);
	run_pass();
	ns = ktime_to_ns(ktime_sub(ktime_get(), start));

	for (i = 0; i < m->nr_event; i++) {
		struct model_event *e = &m->event[i];

		if (e->func != RMPOPT_VERIFY_AND_REPORT || e->ipi)
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
	KUNIT_EXPECT_EQ(test, log->reason, reason);
	KUNIT_EXPECT_EQ(test, log->cores, nr_cores);
	KUNIT_EXPECT_EQ(test, log->queried, m->nr_query);
	KUNIT_EXPECT_EQ(test, log->regions, nr_leader);
	KUNIT_EXPECT_EQ(test, log->optimized, nr_cf);
	KUNIT_EXPECT_EQ(test, log->ipis, m->nr_ipi);
	KUNIT_EXPECT_GT(test, (s64)log->ns, 0);
	KUNIT_EXPECT_LE(test, (s64)log->ns, ns);
	KUNIT_EXPECT_EQ(test, log->nr_verdict, nr_leader);
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

static void test_trace(struct kunit *test)
{
	const struct topology_case *tc = &topology_cases[7];
	struct trace_log *log = register_probes(test);
	struct rmpopt_model *m = test->priv;

	invent_topology(test, tc);
	set_ram(m, 0, 20 * GB);
	model_assign(m, 3 * GB);

	snp_setup_rmpopt();
	expect_trace_stale(test, log, RMPOPT_REASON_SETUP, GENMASK(19, 0));
	expect_trace_pass(test, log, RMPOPT_REASON_SETUP, tc->nr_cores);
	KUNIT_EXPECT_EQ(test, log->regions, 20);
	KUNIT_EXPECT_EQ(test, log->optimized, 19);
	KUNIT_EXPECT_EQ(test, log->ipis, 2 * (tc->nr_cores - 1));

	/* Each region once, however many pages of it are returned. */
	model_unassign(m, 3 * GB);
	rmpopt_page_returned(PHYS_PFN(3 * GB + MB));
	rmpopt_page_returned(PHYS_PFN(7 * GB + MB));
	expect_trace_stale(test, log, RMPOPT_REASON_RETURN, BIT(3) | BIT(7));
	expect_trace_pass(test, log, RMPOPT_REASON_RETURN, tc->nr_cores);
	KUNIT_EXPECT_EQ(test, log->regions, 2);

	model_lose(m, 4 * GB);
	model_assign(m, 5 * GB);
	snp_rmpopt_all_physmem();
	expect_trace_stale(test, log, 0, 0);
	expect_trace_pass(test, log, RMPOPT_REASON_REQUEST, tc->nr_cores);
	KUNIT_EXPECT_EQ(test, log->queried, 20);
	KUNIT_EXPECT_EQ(test, log->regions, 2);
	expect_trace_stale(test, log, RMPOPT_REASON_REQUEST, BIT(4) | BIT(5));

	/* A batch without success needs no IPI. */
	model_assign(m, 6 * GB);
	rmpopt_page_returned(PHYS_PFN(6 * GB));
	expect_trace_pass(test, log, RMPOPT_REASON_RETURN, tc->nr_cores);
	KUNIT_EXPECT_EQ(test, log->optimized, 0);
	KUNIT_EXPECT_EQ(test, log->ipis, 0);
	expect_trace_stale(test, log, RMPOPT_REASON_RETURN, BIT(6));

	/* Several reasons, of which none is left for the next pass. */
	m->ram[1] = (struct range) { 30 * GB, 31 * GB };
	m->nr_ram = 2;
	memory_notify_model(MEM_ONLINE, 30 * GB, 31 * GB);
	expect_trace_stale(test, log, RMPOPT_REASON_ONLINE, BIT(30));
	rmpopt_page_returned(PHYS_PFN(0));
	snp_rmpopt_all_physmem();
	snp_setup_rmpopt();
	expect_trace_pass(test, log, RMPOPT_REASON_ONLINE | RMPOPT_REASON_RETURN |
			  RMPOPT_REASON_REQUEST | RMPOPT_REASON_SETUP, tc->nr_cores);
	expect_trace_stale(test, log, RMPOPT_REASON_RETURN, BIT(0));
	snp_rmpopt_all_physmem();
	expect_trace_pass(test, log, RMPOPT_REASON_REQUEST, tc->nr_cores);
	KUNIT_EXPECT_EQ(test, log->regions, 0);

	/* Nor after clean-up. */
	snp_rmpopt_all_physmem();
	snp_cleanup_rmpopt();
	snp_setup_rmpopt();
	expect_trace_pass(test, log, RMPOPT_REASON_SETUP, tc->nr_cores);
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
	KUNIT_CASE(test_pass_all_assigned),
	KUNIT_CASE(test_pass_batches),
	KUNIT_CASE(test_pass_real_cpus),
	KUNIT_CASE(test_pass_cpu_gone),
	KUNIT_CASE(test_setup_queues_pass),
	KUNIT_CASE(test_request_restarts_timer),
	KUNIT_CASE(test_request_during_pass),
	KUNIT_CASE_SLOW(test_requests_from_all_cpus),
	KUNIT_CASE(test_delay),
	KUNIT_CASE(test_mark_queues_pass),
	KUNIT_CASE(test_mark_not_set_up),
	KUNIT_CASE(test_mark_ram),
	KUNIT_CASE(test_mark_beyond_window),
	KUNIT_CASE(test_request_queries),
	KUNIT_CASE_PARAM(test_ipis, topology_gen_params),
	KUNIT_CASE_SLOW(test_conversion),
	KUNIT_CASE(test_conversions_in_ipi),
	KUNIT_CASE(test_assigned_before_ipi),
	KUNIT_CASE(test_request_in_pass),
	KUNIT_CASE_PARAM_ATTR(test_random, topology_gen_params,
			      ((struct kunit_attributes) { .speed = KUNIT_SPEED_SLOW })),
	KUNIT_CASE_SLOW(test_returns_during_setup),
	KUNIT_CASE_SLOW(test_cleanup_waits_for_mark),
	KUNIT_CASE(test_memory_online),
	KUNIT_CASE(test_memory_online_marked),
	KUNIT_CASE(test_memory_online_not_set_up),
	KUNIT_CASE(test_memory_online_in_pass),
	KUNIT_CASE(test_memory_offline),
	KUNIT_CASE(test_memory_added),
	KUNIT_CASE_PARAM(test_suspend, suspend_gen_params),
	KUNIT_CASE_PARAM(test_suspend_setup_between, suspend_gen_params),
	KUNIT_CASE_PARAM(test_suspend_setup_failed, suspend_gen_params),
	KUNIT_CASE(test_trace),
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
		KUNIT_EXPECT_TRUE(test, is_set_up());
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

	/* Notifiers come with it. */
	KUNIT_EXPECT_TRUE(test, !IS_ENABLED(CONFIG_MEMORY_HOTPLUG) ||
			  (m->memory_nb && m->memory_nb->notifier_call == rmpopt_memory_notify));
	KUNIT_EXPECT_TRUE(test, !IS_ENABLED(CONFIG_PM_SLEEP) ||
			  (m->pm_nb && m->pm_nb->notifier_call == rmpopt_pm_notify));

	/* There is nothing left to prepare. */
	KUNIT_EXPECT_EQ(test, snp_prepare(), 0);
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 1);

	m->syscfg = 0;
	snp_shutdown();
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 0);
	free_rmp_segment_table();

	/* The ordinary boot, without SnpEn, and without RMPOPT. */
	m->feature = false;
	m->nr_notifiers = 0;
	KUNIT_EXPECT_EQ(test, snp_rmptable_init(), 0);
	KUNIT_EXPECT_EQ(test, m->nr_frozen, 0);
	KUNIT_EXPECT_EQ(test, m->nr_notifiers, 0);

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
