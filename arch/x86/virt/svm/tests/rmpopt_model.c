// SPDX-License-Identifier: GPL-2.0-only
/*
 * A model of a machine with RMPOPT, for the KUnit tests beside it, included by
 * sev.c. See rmpopt_model.h for how it gets in the way, and struct rmpopt_model for
 * what it keeps of the real thing. Most tests invent a topology, and play IPIs on the
 * CPU that sends them. Others use the CPUs there are, and real IPIs.
 *
 * The tests boot the code under test themselves, and thus run before initialization
 * has ended: they write what is read-only after that, and call __init functions.
 */

/* Possible CPUs, and the CPU numbers that an invented topology may use. */
#define MODEL_CPUS		16
#define MODEL_SEGMENT_SHIFT	36
#define MODEL_SEGMENT_REGIONS	(1U << (MODEL_SEGMENT_SHIFT - 30))
#define MODEL_SEGMENTS		64
#define MODEL_REGIONS		(MODEL_SEGMENTS * MODEL_SEGMENT_REGIONS)
#define MODEL_TABLE_REGIONS	2048
#define MODEL_EVENTS		4096
/* Cores may be unable to optimize some of these. */
#define MODEL_UNABLE_REGIONS	64
#define UNABLE_FOREVER		U8_MAX

#define MB			((u64)SZ_1M)
#define GB			((u64)SZ_1G)
#define TB			((u64)SZ_1T)

#define BASE_EN			MSR_AMD64_RMPOPT_ENABLE

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
	/* A pass has not looked for its reasons and for marks yet. */
	POINT_PASS_BEGIN,
	POINT_BEFORE_INSN,
	POINT_AFTER_INSN,
	/* All IPIs for some regions have been served. */
	POINT_IPIS_DONE,
	POINT_PASS_END,
};

/* Where a pass has got to. @pa, @func and @ipi are those of an instruction. */
struct model_step {
	enum model_point point;
	u64 pa;
	enum rmpopt_function func;
	bool ipi;
};

/* What a write does to an enabled RMPOPT_BASE while SnpEn is set. */
enum model_lock {
	LOCK_FAULTS,
	LOCK_IGNORES,
	LOCK_NONE,
};

/* What is wrong with RMPOPT_BASE of a core. */
enum model_fault {
	BASE_FINE,
	BASE_WRITE_FAULTS,
	BASE_WRITE_IGNORED,
	BASE_READ_FAULTS,
	BASE_ABSENT,
};

/*
 * What all threads of a core share. The table holds a bit for each 1GB region
 * from the address in RMPOPT_BASE on.
 */
struct model_core {
	u64 rmpopt_base;
	enum model_fault fault;
	/* Not to be used although it may have RMPOPT_BASE enabled. */
	bool left_out;
	/* Attempts, and the CPU of the last one. */
	unsigned int nr_writes;
	unsigned int writer;
	DECLARE_BITMAP(table, MODEL_TABLE_REGIONS);
	/* The next so many times RMPOPT fails for a region for no reason. */
	u8 unable[MODEL_UNABLE_REGIONS];
};

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
 * @housekeeping: CPUs that are not isolated.
 * @segment: RMP segments, each with the number of pages it covers.
 * @segment_table: The ones that exist.
 * @end_pfn: The end of memory, 0 for the real one.
 * @booted: The code under test has been initialized, and found RMPOPT usable.
 * @feature: X86_FEATURE_RMPOPT is enabled.
 * @syscfg: SYSCFG MSR of all CPUs.
 * @base_lock: What keeps an enabled RMPOPT_BASE from being changed.
 * @deaf: A table keeps its bits while its core has RMPOPT_BASE disabled, and does not
 *	  follow the RMP. It is empty when RMPOPT_BASE gets enabled otherwise.
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
 * @nr_moved: Number of times that a pass had itself moved to another CPU.
 * @nr_pass: Number of passes that have begun.
 * @nr_scan: Number of times the RMP of a region has been read.
 * @nr_scan_ipi: The largest number of these in a single IPI.
 * @nr_fault: RMPOPT executed without RMPOPT_BASE and SnpEn, for an address not
 *	      aligned to 1GB, outside of the window, or outside of the RMP.
 * @nr_rule: Rules of the kernel and of the hardware broken, like a lock not held.
 * @nr_frozen: Balance of cpu_hotplug_disable() and cpu_hotplug_enable().
 * @frozen_at_enable: @nr_frozen at the time SnpEn got set.
 * @nr_live: Balance of allocations.
 * @fail_alloc: Fail the n-th allocation from now on, 0 for none.
 * @now: What the time is, in jiffies. It does not pass by itself.
 * @state: What the machine is doing.
 * @panic: It is about to die.
 * @hold: Hold the first core of a pass at this address.
 * @held: The pass has got there.
 * @proceed: The pass may go on.
 * @hook: Called at each step of a pass, may be NULL. In an IPI or without one, and
 *	  on the CPU there is in the former case, which may not sleep.
 * @hook_data: Belongs to @hook.
 * @saved_rmp: The RMP outside of this test.
 * @debug_locks: Lockdep was alive when the test began.
 */
struct rmpopt_model {
	raw_spinlock_t lock;

	bool invented;
	unsigned int cpu;
	bool ipi;
	struct cpumask online;
	struct cpumask siblings[MODEL_CPUS];
	struct cpumask housekeeping;

	struct rmp_segment_desc segment[MODEL_SEGMENTS];
	struct rmp_segment_desc *segment_table[MODEL_SEGMENTS];
	unsigned long end_pfn;
	bool booted;

	bool feature;
	u64 syscfg;
	enum model_lock base_lock;
	bool deaf;
	struct model_core core[MODEL_CPUS];
	unsigned int assigned[MODEL_REGIONS];
	DECLARE_BITMAP(verdict, MODEL_REGIONS);

	struct model_event event[MODEL_EVENTS];
	unsigned int nr_event;
	unsigned int nr_verify;
	unsigned int nr_query;
	unsigned int nr_call;
	unsigned int nr_ipi;
	unsigned int nr_moved;
	unsigned int nr_pass;
	unsigned int nr_scan;
	unsigned int nr_scan_ipi;
	unsigned int nr_fault;
	atomic_t nr_rule;
	int nr_frozen;
	int frozen_at_enable;
	int nr_live;
	unsigned int fail_alloc;

	unsigned long now;
	enum system_states state;
	bool panic;

	u64 hold;
	struct completion held;
	struct completion proceed;
	void (*hook)(struct rmpopt_model *m, const struct model_step *step);
	void *hook_data;

	struct saved_rmp saved_rmp;
	int debug_locks;
};

/* Set while no pass and no other user of the replacements can run. */
static struct rmpopt_model *rmpopt_model;

#define NO_HOLD		U64_MAX

static unsigned int model_core_of(struct rmpopt_model *m, unsigned int cpu)
{
	return cpumask_first(m->invented ? &m->siblings[cpu] : real_siblings(cpu));
}

static bool model_covers(struct rmpopt_model *m, u64 pa)
{
	struct rmp_segment_desc *desc;

	if (pa / GB >= MODEL_REGIONS)
		return false;

	desc = m->segment_table[pa >> MODEL_SEGMENT_SHIFT];

	return desc && PHYS_PFN(pa & (BIT_ULL(MODEL_SEGMENT_SHIFT) - 1)) < desc->max_index;
}

/* The index into the table of @core, or an invalid one. */
static u64 model_index(struct model_core *core, u64 pa)
{
	u64 base = core->rmpopt_base & ~(u64)BASE_EN;

	return pa < base ? U64_MAX : (pa - base) / GB;
}

static bool model_execute(struct rmpopt_model *m, unsigned int cpu, u64 pa,
			  enum rmpopt_function func)
{
	struct model_core *core = &m->core[model_core_of(m, cpu)];
	u64 region = pa / GB, index = model_index(core, pa);

	if (!(m->syscfg & MSR_AMD64_SYSCFG_SNP_EN) || !(core->rmpopt_base & BASE_EN) ||
	    !IS_ALIGNED(pa, GB) || index >= MODEL_TABLE_REGIONS || !model_covers(m, pa)) {
		m->nr_fault++;
		return false;
	}

	if (func == RMPOPT_REPORT)
		return test_bit(index, core->table);

	if (region < MODEL_UNABLE_REGIONS && core->unable[region]) {
		if (core->unable[region] != UNABLE_FOREVER)
			core->unable[region]--;
		return false;
	}

	if (!test_bit(region, m->verdict)) {
		m->nr_scan++;
		if (m->assigned[region])
			return false;
		__set_bit(region, m->verdict);
	}

	__set_bit(index, core->table);

	return true;
}

/* Have a region lose its bit on all cores. */
static void model_lose_locked(struct rmpopt_model *m, u64 pa)
{
	unsigned int i;

	__clear_bit(pa / GB, m->verdict);

	for (i = 0; i < MODEL_CPUS; i++) {
		struct model_core *core = &m->core[i];
		u64 index = model_index(core, pa);

		if (index < MODEL_TABLE_REGIONS && (core->rmpopt_base & BASE_EN || !m->deaf))
			__clear_bit(index, core->table);
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
	rmpopt_page_returned(pa);
}

/* SNP_INIT_EX. */
static void model_snp_init(struct rmpopt_model *m)
{
	unsigned int i;

	guard(raw_spinlock_irqsave)(&m->lock);

	bitmap_zero(m->verdict, MODEL_REGIONS);
	for (i = 0; i < MODEL_CPUS; i++)
		bitmap_zero(m->core[i].table, MODEL_TABLE_REGIONS);
}

/* SNP_SHUTDOWN_EX that clears SnpEn, and RMPOPT_EN or not. */
static void model_x86_shutdown(struct rmpopt_model *m, bool clears_en)
{
	unsigned int i;

	guard(raw_spinlock_irqsave)(&m->lock);

	m->syscfg &= ~MSR_AMD64_SYSCFG_SNP_EN;
	for (i = 0; clears_en && i < MODEL_CPUS; i++)
		m->core[i].rmpopt_base = 0;
}

static void model_call_hook(struct rmpopt_model *m, enum model_point point, u64 pa,
			    enum rmpopt_function func, bool ipi)
{
	struct model_step step = { .point = point, .pa = pa, .func = func, .ipi = ipi };

	if (m->hook)
		m->hook(m, &step);
}

/* Whether this task holds cpus_read_lock(), or @otherwise if that is not known. */
static bool cpus_held(bool otherwise)
{
	return IS_ENABLED(CONFIG_LOCKDEP) && debug_locks ? lockdep_is_cpus_held() : otherwise;
}

/*
 * The replacements.
 */

static bool rmpopt_model_insn(u64 pa, enum rmpopt_function func)
{
	struct rmpopt_model *m = rmpopt_model;
	struct model_event *e;
	unsigned int cpu;
	bool ipi, cf;

	if (!m)
		return (__rmpopt)(pa, func);

	cpu = rmpopt_model_cpu();
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

static int rmpopt_model_read_msr_on_cpu(unsigned int cpu, u32 msr, u64 *val)
{
	struct rmpopt_model *m = rmpopt_model;
	struct model_core *core;

	if (!m)
		return (rdmsrq_safe_on_cpu)(cpu, msr, val);

	*val = 0;
	if (msr != MSR_AMD64_RMPOPT_BASE || !cpus_held(true) ||
	    !cpumask_test_cpu(cpu, cpu_online_mask)) {
		atomic_inc(&m->nr_rule);
		return -ENXIO;
	}

	guard(raw_spinlock_irqsave)(&m->lock);

	core = &m->core[model_core_of(m, cpu)];
	if (core->fault == BASE_READ_FAULTS || core->fault == BASE_ABSENT)
		return -EIO;
	*val = core->rmpopt_base;

	return 0;
}

static int rmpopt_model_write_msr_on_cpu(unsigned int cpu, u32 msr, u64 val)
{
	struct rmpopt_model *m = rmpopt_model;
	struct model_core *core;

	if (!m)
		return (wrmsrq_safe_on_cpu)(cpu, msr, val);

	if (msr != MSR_AMD64_RMPOPT_BASE || !cpus_held(true) ||
	    !cpumask_test_cpu(cpu, cpu_online_mask)) {
		atomic_inc(&m->nr_rule);
		return -ENXIO;
	}

	guard(raw_spinlock_irqsave)(&m->lock);

	core = &m->core[model_core_of(m, cpu)];
	core->nr_writes++;
	core->writer = cpu;

	if (core->fault == BASE_WRITE_FAULTS || core->fault == BASE_ABSENT)
		return -EIO;
	if (core->fault == BASE_WRITE_IGNORED)
		return 0;

	if (!(m->syscfg & MSR_AMD64_SYSCFG_SNP_EN) || val & (GB - 1) & ~(u64)BASE_EN) {
		atomic_inc(&m->nr_rule);
		return -EIO;
	}

	/* The kernel has no business here, whatever the hardware makes of it. */
	if (core->rmpopt_base & BASE_EN) {
		atomic_inc(&m->nr_rule);
		if (m->base_lock == LOCK_FAULTS)
			return -EIO;
		if (m->base_lock == LOCK_IGNORES)
			return 0;
	}

	if (core->rmpopt_base != val && !m->deaf)
		bitmap_zero(core->table, MODEL_TABLE_REGIONS);
	core->rmpopt_base = val;

	return 0;
}

static u64 rmpopt_model_read_msr(u32 msr)
{
	struct rmpopt_model *m = rmpopt_model;

	if (m && msr == MSR_AMD64_SYSCFG)
		return m->syscfg;

	return real_read_msr(msr);
}

static bool rmpopt_model_has_feature(unsigned int bit)
{
	struct rmpopt_model *m = rmpopt_model;

	if (m && bit == X86_FEATURE_RMPOPT)
		return m->feature;

	return boot_cpu_has(bit);
}

static unsigned int rmpopt_model_cpu(void)
{
	struct rmpopt_model *m = rmpopt_model;

	return m && m->invented ? m->cpu : real_cpu();
}

static const struct cpumask *rmpopt_model_online_mask(void)
{
	struct rmpopt_model *m = rmpopt_model;

	return m && m->invented ? &m->online : real_online_mask();
}

static const struct cpumask *rmpopt_model_siblings(unsigned int cpu)
{
	struct rmpopt_model *m = rmpopt_model;

	return m && m->invented ? &m->siblings[cpu] : real_siblings(cpu);
}

static const struct cpumask *rmpopt_model_housekeeping(enum hk_type type)
{
	struct rmpopt_model *m = rmpopt_model;

	if (!m)
		return (housekeeping_cpumask)(type);

	if (type != HK_TYPE_KERNEL_NOISE)
		atomic_inc(&m->nr_rule);

	return &m->housekeeping;
}

static unsigned long rmpopt_model_max_pfn(void)
{
	struct rmpopt_model *m = rmpopt_model;

	return m && m->end_pfn ? m->end_pfn : real_max_pfn();
}

/* What snp_prepare() and snp_shutdown() do on each CPU. */
static void rmpopt_model_on_each_cpu(smp_call_func_t func, void *info, int wait)
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

static void rmpopt_model_on_each_cpu_cond_mask(smp_cond_func_t cond, smp_call_func_t func,
					       void *info, bool wait,
					       const struct cpumask *mask)
{
	unsigned int cpu, sender, nr_scan, nr_scan_ipi = 0;
	struct rmpopt_model *m = rmpopt_model;
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
		nr_scan = m->nr_scan;
		local_irq_save(flags);
		func(info);
		local_irq_restore(flags);
		nr_scan_ipi = max(nr_scan_ipi, m->nr_scan - nr_scan);
		m->ipi = false;
		m->cpu = sender;
	}
	m->nr_scan_ipi = max(m->nr_scan_ipi, nr_scan_ipi);

	model_call_hook(m, POINT_IPIS_DONE, 0, 0, false);
}

static long rmpopt_model_work_on_cpu(int cpu, long (*func)(void *), void *arg)
{
	struct rmpopt_model *m = rmpopt_model;
	unsigned int caller;
	long ret;

	if (m) {
		m->nr_moved++;
		/* Another worker is not going to get it, then. */
		if (cpus_held(false) || !cpumask_test_cpu(cpu, cpu_online_mask))
			atomic_inc(&m->nr_rule);
	}

	if (!m || !m->invented)
		return real_work_on_cpu(cpu, func, arg);

	caller = m->cpu;
	m->cpu = cpu;
	ret = func(arg);
	m->cpu = caller;

	return ret;
}

static void rmpopt_model_hotplug_disable(void)
{
	struct rmpopt_model *m = rmpopt_model;

	(cpu_hotplug_disable)();

	if (m) {
		m->nr_frozen++;
		if (cpus_held(false))
			atomic_inc(&m->nr_rule);
	}
}

static void rmpopt_model_hotplug_enable(void)
{
	struct rmpopt_model *m = rmpopt_model;

	(cpu_hotplug_enable)();

	if (m) {
		m->nr_frozen--;
		if (cpus_held(false))
			atomic_inc(&m->nr_rule);
	}
}

static unsigned long rmpopt_model_jiffies(void)
{
	struct rmpopt_model *m = rmpopt_model;

	return m ? READ_ONCE(m->now) : real_jiffies();
}

static enum system_states rmpopt_model_system_state(void)
{
	struct rmpopt_model *m = rmpopt_model;

	return m ? m->state : real_system_state();
}

static bool rmpopt_model_panic(void)
{
	struct rmpopt_model *m = rmpopt_model;

	return m ? m->panic : (panic_in_progress)();
}

/* What the work item calls. */
static void (rmpopt_work_handler)(struct work_struct *work)
{
	struct rmpopt_model *m = rmpopt_model;

	if (m) {
		m->nr_pass++;
		model_call_hook(m, POINT_PASS_BEGIN, 0, 0, false);
	}

	rmpopt_model_pass(work);

	if (m)
		model_call_hook(m, POINT_PASS_END, 0, 0, false);
}

static bool rmpopt_model_alloc(void)
{
	struct rmpopt_model *m = rmpopt_model;

	if (!m)
		return true;

	if (m->fail_alloc && !--m->fail_alloc)
		return false;

	m->nr_live++;

	return true;
}

static void rmpopt_model_free(void)
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

#define SMT		(&topology_cases[0])
#define SPARSE		(&topology_cases[7])
#define ONE_CPU		(&topology_cases[9])

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

/* The thread of a core that is to work for it. */
static unsigned int worker_of(struct rmpopt_model *m, unsigned int cpu)
{
	const struct cpumask *siblings = topology_sibling_cpumask(cpu);
	unsigned int sibling;

	for_each_cpu(sibling, siblings) {
		if (cpumask_test_cpu(sibling, &m->housekeeping))
			return sibling;
	}

	return cpumask_first(siblings);
}

/*
 * Boot and the end.
 */

static void save_rmp(struct saved_rmp *saved)
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
	rmp_segment_table = saved->segment_table;
	rst_max_index = saved->max_index;
	set_rmp_segment_info(saved->segment_shift);
	rmp_cfg = saved->cfg;
	probed_rmp_base = saved->base;
	probed_rmp_size = saved->size;
	rmp_bookkeeping = saved->bookkeeping;
	amd_iommu_snp_en = saved->snp_en;
	crash_kexec_post_notifiers = saved->post_notifiers;
}

/* Up to the last one that exists. */
static unsigned int model_nr_segments(struct rmpopt_model *m)
{
	unsigned int i;

	for (i = MODEL_SEGMENTS; i && !m->segment_table[i - 1]; i--)
		;

	return i;
}

static void __init boot(struct rmpopt_model *m)
{
	rmp_segment_table = m->segment_table;
	rst_max_index = model_nr_segments(m);
	set_rmp_segment_info(MODEL_SEGMENT_SHIFT);
	rmp_cfg = MSR_AMD64_SEG_RMP_ENABLED | MODEL_SEGMENT_SHIFT << 8;

	rmpopt_init();
	m->booted = rmpopt_capable;
}

/*
 * Nobody but boot allocates, and nothing frees that. Check that passes are disabled
 * exactly once, as the firmware may go through any number of set-ups.
 */
static void __init unboot(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	snp_cleanup_rmpopt();
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

	if (m->booted) {
		KUNIT_EXPECT_TRUE(test, enable_delayed_work(&rmpopt_delayed_work));
		destroy_workqueue(rmpopt_wq);
		bitmap_free(rmpopt_regions.stale);
		bitmap_free(rmpopt_regions.optimized);
		bitmap_free(rmpopt_regions.failed);
		free_cpumask_var(rmpopt_cpumask);
		rmpopt_model_free();
	}
	KUNIT_EXPECT_EQ(test, m->nr_live, 0);

	m->booted = false;
	rmpopt_capable = false;
	rmpopt_regions.nr = 0;
	rmpopt_wq = NULL;
	rmpopt_reason = 0;
	rmpopt_first = 0;
}

/* Have an RMP segment cover @nr regions. */
static void set_segment(struct rmpopt_model *m, unsigned int index, unsigned int nr)
{
	m->segment[index].max_index = PHYS_PFN(nr * GB);
	m->segment_table[index] = nr ? &m->segment[index] : NULL;
}

/* Boot with an RMP for @nr regions from 0 on. */
static void __init reboot(struct kunit *test, unsigned int nr)
{
	struct rmpopt_model *m = test->priv;
	unsigned int i;

	unboot(test);
	for (i = 0; i < MODEL_SEGMENTS; i++) {
		set_segment(m, i, min(nr, MODEL_SEGMENT_REGIONS));
		nr -= min(nr, MODEL_SEGMENT_REGIONS);
	}
	boot(m);
}

static int __init rmpopt_test_init(struct kunit *test)
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
	m->now = real_jiffies();
	m->state = SYSTEM_RUNNING;
	cpumask_setall(&m->housekeeping);

	/* Each test sees the messages that come once. */
	memset(__start_once, 0, __end_once - __start_once);

	test->priv = m;
	save_rmp(&m->saved_rmp);
	rmpopt_model = m;
	set_segment(m, 0, 4);
	boot(m);

	return 0;
}

/* Whatever a test does, nothing may be left behind, and no rule be broken. */
static void __init rmpopt_test_exit(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	if (!m)
		return;

	complete_all(&m->proceed);
	unboot(test);

	KUNIT_EXPECT_EQ(test, m->nr_frozen, 0);
	KUNIT_EXPECT_EQ(test, m->nr_fault, 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&m->nr_rule), 0);

	/* A lockdep splat turns it off, and does not fail anything by itself. */
	KUNIT_EXPECT_EQ(test, debug_locks, m->debug_locks);

	/* Let the next test start from scratch. */
	while (m->nr_frozen > 0)
		rmpopt_model_hotplug_enable();
	restore_rmp(&m->saved_rmp);
	rmpopt_model = NULL;
}

/*
 * Helpers.
 */

/* Start the queued pass at once, and wait for it and for any that follows it. */
static void run_pass(void)
{
	flush_delayed_work(&rmpopt_delayed_work);
}

/* Run passes until nothing asks for another one. Returns their number. */
static unsigned int run_all_passes(struct kunit *test)
{
	unsigned int n;

	for (n = 0; n < 1000 && delayed_work_pending(&rmpopt_delayed_work); n++)
		run_pass();
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

	return n;
}

/* Forget what has been executed so far. */
static void reset_counts(struct rmpopt_model *m)
{
	m->nr_event = 0;
	m->nr_verify = 0;
	m->nr_query = 0;
	m->nr_call = 0;
	m->nr_ipi = 0;
	m->nr_moved = 0;
	m->nr_pass = 0;
	m->nr_scan = 0;
	m->nr_scan_ipi = 0;
}

/* Let @secs seconds pass, before what has been queued is due. */
static void advance(struct rmpopt_model *m, unsigned int secs)
{
	WRITE_ONCE(m->now, m->now + secs * HZ);
	/* Nothing if there is nothing queued. */
	mod_timer_pending(&rmpopt_delayed_work.timer,
			  rmpopt_delayed_work.timer.expires - secs * HZ);
}

/* Whether the core of @cpu takes part. */
static bool has_table(struct rmpopt_model *m, unsigned int cpu)
{
	struct model_core *core = &m->core[model_core_of(m, cpu)];

	return core->rmpopt_base & BASE_EN && !core->left_out;
}

/* Whether the core of @cpu skips RMP checks in the region at @pa. */
static bool is_optimized(struct rmpopt_model *m, unsigned int cpu, u64 pa)
{
	struct model_core *core = &m->core[model_core_of(m, cpu)];
	u64 index = model_index(core, pa);

	return has_table(m, cpu) && index < MODEL_TABLE_REGIONS && test_bit(index, core->table);
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
 * What it is all about, once the RMP has been quiet for long enough: each region that
 * the RMP covers and the tables reach is optimized on all cores that have a table,
 * unless it holds an assigned page, when it must not be.
 */
static bool expect_covered(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	u64 end = (u64)model_nr_segments(m) << MODEL_SEGMENT_SHIFT, pa;
	unsigned int cpu, nr_cores = 0;

	for_each_cpu(cpu, cpu_online_mask) {
		if (cpu != model_core_of(m, cpu) || !has_table(m, cpu))
			continue;

		nr_cores++;
		for (pa = 0; pa < end; pa += GB) {
			if (!model_covers(m, pa) ||
			    model_index(&m->core[cpu], pa) >= MODEL_TABLE_REGIONS ||
			    is_optimized(m, cpu, pa) == !m->assigned[pa / GB])
				continue;

			KUNIT_FAIL(test, "region 0x%llx is %soptimized on CPU %u", pa,
				   m->assigned[pa / GB] ? "" : "not ", cpu);
			return false;
		}
	}
	KUNIT_EXPECT_GT(test, nr_cores, 0);

	return true;
}

/* @func leaves a pass queued, which starts @secs seconds from then. */
static void expect_queues_in(struct kunit *test, void (*func)(void), unsigned int secs)
{
	unsigned long from = real_jiffies(), expires;

	func();

	expires = rmpopt_delayed_work.timer.expires;
	KUNIT_EXPECT_TRUE(test, delayed_work_pending(&rmpopt_delayed_work));
	KUNIT_EXPECT_TRUE(test, timer_pending(&rmpopt_delayed_work.timer));
	KUNIT_EXPECT_TRUE_MSG(test, time_in_range(expires, from + secs * HZ,
						  real_jiffies() + secs * HZ),
			      "in %ld jiffies, not %u", (long)(expires - from), secs * HZ);
}

static void expect_queues_pass(struct kunit *test, void (*func)(void))
{
	expect_queues_in(test, func, 10);
}

/*
 * The thread of each core that is to work for it, and no other one, has written
 * RMPOPT_BASE @nr_writes times, which is @val now.
 */
static void expect_base(struct kunit *test, const struct topology_case *tc, u64 val,
			unsigned int nr_writes)
{
	struct rmpopt_model *m = test->priv;
	unsigned int cpu, nr_cores = 0;

	for_each_cpu(cpu, &m->online) {
		struct model_core *core = &m->core[cpu];

		if (cpu != model_core_of(m, cpu))
			continue;

		nr_cores++;
		KUNIT_EXPECT_EQ_MSG(test, core->rmpopt_base, val, "core of CPU %u", cpu);
		KUNIT_EXPECT_EQ_MSG(test, core->nr_writes, nr_writes, "core of CPU %u", cpu);
		if (nr_writes)
			KUNIT_EXPECT_EQ_MSG(test, core->writer, worker_of(m, cpu),
					    "core of CPU %u", cpu);
	}

	KUNIT_EXPECT_EQ(test, nr_cores, tc->nr_cores);
}

/* Nothing has been written, no pass is queued, and nothing makes one be queued. */
static void expect_not_set_up(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int i;

	snp_rmpopt_all_physmem();
	rmpopt_page_returned(GB);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	for (i = 0; i < MODEL_CPUS; i++)
		KUNIT_EXPECT_EQ(test, m->core[i].nr_writes, 0);
}

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
	if (ipi)
		KUNIT_EXPECT_EQ_MSG(test, e->cpu, worker_of(m, e->cpu), "event %u", i);
	else
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
	struct kmsg_dump_iter pos = *iter;
	unsigned int nr = 0;
	char line[256];
	size_t len;

	while (kmsg_dump_get_line(&pos, false, line, sizeof(line) - 1, &len)) {
		line[len] = '\0';
		if (strstr(line, text))
			nr++;
	}

	return nr;
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

/* The page that is returned by return_page(). */
static u64 page_to_return;

static void return_page(void)
{
	rmpopt_page_returned(page_to_return);
}
