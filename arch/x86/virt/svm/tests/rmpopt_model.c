// SPDX-License-Identifier: GPL-2.0-only
/*
 * A model of a machine with RMPOPT, for the KUnit tests beside it, included by
 * sev.c. See rmpopt_model.h for how it gets in the way, and struct rmpopt_model for
 * what it keeps of the real thing. Most tests invent a topology, and play its ticks
 * and IPIs on the CPU that the test runs on. Others use the CPUs there are, with real
 * timers and IPIs.
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
/* The timer wheel of an idle CPU may be so far behind, in jiffies. */
#define WHEEL_LAG		(24UL * 60 * 60 * HZ)
#define MODEL_EVENTS		4096
#define MODEL_NODES		4
/* Cores may be unable to optimize some of these. */
#define MODEL_UNABLE_REGIONS	64
#define UNABLE_FOREVER		U8_MAX

#define MB			((u64)SZ_1M)
#define GB			((u64)SZ_1G)
#define TB			((u64)SZ_1T)

#define BASE_EN			MSR_AMD64_RMPOPT_ENABLE

/* How long a core may run before it has to have caught up, in us. */
#define TWO_TICKS		(2 * TICK_USEC)

/* What RMPOPT is executed by. */
enum model_context {
	/* A task: the pass. */
	IN_PASS,
	/* A timer, in softirq with interrupts enabled. */
	IN_TICK,
	/* An IPI, with interrupts disabled. */
	IN_IPI,
};

/* One execution of RMPOPT. */
struct model_event {
	u64 pa;
	enum rmpopt_function func;
	unsigned int cpu;
	enum model_context context;
	bool cf;
};

/* What a hook is told. */
enum model_point {
	/* A pass has not looked for its reasons and for marks yet. */
	POINT_PASS_BEGIN,
	/* A pass looks for the next region, possibly on another CPU. */
	POINT_NEXT_REGION,
	POINT_BEFORE_INSN,
	POINT_AFTER_INSN,
	POINT_PASS_END,
	/* A timer has expired, and its function has not begun. */
	POINT_TICK_BEGIN,
	/* The timer can be armed again, and nothing has been looked at since. */
	POINT_TICK_DISARMED,
	POINT_TICK_END,
	/* For how long a CPU has run is looked at, among others when a timer is armed. */
	POINT_RUN_TIME,
	/* A timer has been armed. */
	POINT_ARMED,
	/* Time passes for which an idle CPU is waited for. */
	POINT_WAIT,
	POINT_IPI_END,
};

/* Where code under test has got to. @pa and @func are those of an instruction. */
struct model_step {
	enum model_point point;
	u64 pa;
	enum rmpopt_function func;
	enum model_context context;
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
 * @tickless: The same goes for timers and time, on the real CPUs.
 * @cpu: The CPU an invented machine runs on.
 * @context: What it is doing there.
 * @disarms: The function of a timer has begun, and can be told from others by that.
 * @online: Online CPUs of an invented machine.
 * @idle: Those that are idle now.
 * @timer: Pending timers by CPU, NULL for none. On the real CPUs these are elsewhere.
 * @us: The time since boot in us, on the real CPUs that there is no need to invent.
 * @idle_us: For how long each CPU was idle of that.
 * @iowait_us: For how long each CPU was idle and waited for I/O.
 * @siblings: Online threads of the core that a CPU belongs to, likewise.
 * @housekeeping: CPUs that nohz_full= does not name.
 * @domain: Those that isolcpus= does not name, nor is isolated by a cpuset.
 * @segment: RMP segments, each with the number of pages it covers.
 * @segment_table: The ones that exist.
 * @memory: What there is at the start of a region that the RMP covers.
 * @node: The node of that.
 * @cpu_node: The node of a CPU.
 * @distance: As node_distance(), 0 for what it is without a SLIT.
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
 * @nr_tick: Number of timers that have expired on an invented machine.
 * @ticks: Ticks there, by which time has passed for those who ask at a tick.
 * @nr_ipi: Number of IPIs to catch up.
 * @nr_moved: Number of times that a pass had itself moved to another CPU.
 * @nr_pass: Number of passes that have begun.
 * @nr_scan: Number of times the RMP of a region has been read.
 * @nr_scan_once: The largest number of these in a single tick or IPI.
 * @nr_fault: RMPOPT executed without RMPOPT_BASE and SnpEn, for an address not
 *	      aligned to 1GB, outside of the window, or outside of the RMP.
 * @nr_rule: Rules of the kernel and of the hardware broken, like a lock not held.
 * @nr_frozen: Balance of cpu_hotplug_disable() and cpu_hotplug_enable().
 * @frozen_at_enable: @nr_frozen at the time SnpEn got set.
 * @nr_live: Balance of allocations that outlive a function.
 * @fail_alloc: Fail the n-th allocation from now on, 0 for none.
 * @now: What the time is, in jiffies. It does not pass by itself. Nor does @us.
 * @state: What the machine is doing.
 * @panic: It is about to die.
 * @hold: Hold the first core of a pass at this address.
 * @held: The pass has got there.
 * @proceed: The pass may go on.
 * @stopping: Clean-up waits for timers now.
 * @hook: Called at each step, may be NULL. May only sleep in a task, and not where
 *	  a timer is armed.
 * @hook_data: Belongs to @hook.
 * @saved_rmp: The RMP outside of this test.
 * @debug_locks: Lockdep was alive when the test began.
 */
struct rmpopt_model {
	raw_spinlock_t lock;

	bool invented;
	bool tickless;
	unsigned int cpu;
	enum model_context context;
	bool disarms;
	struct cpumask online;
	struct cpumask idle;
	struct cpumask siblings[MODEL_CPUS];
	struct cpumask housekeeping;
	struct cpumask domain;
	struct timer_list *timer[MODEL_CPUS];
	u64 us;
	u64 idle_us[MODEL_CPUS];
	u64 iowait_us[MODEL_CPUS];

	struct rmp_segment_desc segment[MODEL_SEGMENTS];
	struct rmp_segment_desc *segment_table[MODEL_SEGMENTS];
	enum model_memory memory[MODEL_REGIONS];
	u8 node[MODEL_REGIONS];
	u8 cpu_node[MODEL_CPUS];
	u8 distance[MODEL_NODES][MODEL_NODES];
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
	unsigned int nr_tick;
	unsigned long ticks;
	unsigned int nr_ipi;
	unsigned int nr_moved;
	unsigned int nr_pass;
	unsigned int nr_scan;
	unsigned int nr_scan_once;
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
	bool stopping;
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

/* What the machine is doing on this CPU. */
static enum model_context model_context(struct rmpopt_model *m)
{
	if (m->invented)
		return m->context;

	/* An idle CPU may serve an IPI outside of the interrupt handler. */
	if (irqs_disabled())
		return IN_IPI;

	return in_serving_softirq() ? IN_TICK : IN_PASS;
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

static void model_call_insn_hook(struct rmpopt_model *m, enum model_point point, u64 pa,
				 enum rmpopt_function func)
{
	void (*hook)(struct rmpopt_model *m, const struct model_step *step) = READ_ONCE(m->hook);
	struct model_step step = { point, pa, func, model_context(m) };

	if (hook)
		hook(m, &step);
}

static void model_call_hook(struct rmpopt_model *m, enum model_point point)
{
	model_call_insn_hook(m, point, 0, 0);
}

/* Whether timers and time are those of the model. */
static bool model_plays_timers(struct rmpopt_model *m)
{
	return m && (m->invented || m->tickless);
}

/* What an interrupt returns to. */
struct model_interrupted {
	unsigned int cpu;
	enum model_context context;
	unsigned int nr_scan;
};

static struct model_interrupted model_interrupt(struct rmpopt_model *m, unsigned int cpu,
						enum model_context context)
{
	struct model_interrupted i = { m->cpu, m->context, m->nr_scan };

	m->cpu = cpu;
	m->context = context;

	return i;
}

static void model_return(struct rmpopt_model *m, struct model_interrupted i)
{
	m->nr_scan_once = max(m->nr_scan_once, m->nr_scan - i.nr_scan);
	m->context = i.context;
	m->cpu = i.cpu;
}

/* The timer of @of expires on @cpu. */
static void model_expire(struct rmpopt_model *m, unsigned int of, unsigned int cpu)
{
	struct timer_list *timer = m->timer[of];
	struct model_interrupted i;

	m->timer[of] = NULL;
	m->nr_tick++;

	/* As in softirq: nobody may sleep. */
	local_bh_disable();
	i = model_interrupt(m, cpu, IN_TICK);
	model_call_hook(m, POINT_TICK_BEGIN);
	m->disarms = true;
	timer->function(timer);
	model_call_hook(m, POINT_TICK_END);
	model_return(m, i);
	local_bh_enable();
}

/* A tick of a CPU that is not idle. Returns whether it has made a timer expire. */
static bool model_tick(struct rmpopt_model *m, unsigned int cpu)
{
	m->ticks++;
	if (!m->timer[cpu])
		return false;

	model_expire(m, cpu, cpu);

	return true;
}

/* Let @us pass, for which only @running are not idle. */
static void model_pass_time(struct rmpopt_model *m, unsigned long running, u64 us)
{
	unsigned int cpu;

	m->us += us;
	for (cpu = 0; cpu < MODEL_CPUS; cpu++) {
		if (running & BIT(cpu))
			continue;
		m->idle_us[cpu] += us / 2;
		m->iowait_us[cpu] += us - us / 2;
	}
}

/* A CPU is gone, and so is its place among its siblings. */
static void model_offline(struct rmpopt_model *m, unsigned int cpu)
{
	unsigned int other;

	cpumask_clear_cpu(cpu, &m->online);
	for (other = 0; other < MODEL_CPUS; other++)
		cpumask_clear_cpu(cpu, &m->siblings[other]);
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
	enum model_context context;
	struct model_event *e;
	unsigned int cpu;
	bool ipi, cf;

	if (!m)
		return (__rmpopt)(pa, func);

	cpu = rmpopt_model_cpu();
	context = model_context(m);
	ipi = context == IN_IPI;
	if (irqs_disabled() != ipi)
		atomic_inc(&m->nr_rule);

	if (context == IN_PASS) {
		if (!cpus_held(true) || !current->migration_disabled)
			atomic_inc(&m->nr_rule);

		if (func == RMPOPT_VERIFY_AND_REPORT && pa == m->hold) {
			complete(&m->held);
			wait_for_completion(&m->proceed);
		}
	}

	model_call_insn_hook(m, POINT_BEFORE_INSN, pa, func);

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
			e->context = context;
			e->cf = cf;
		}
	}

	model_call_insn_hook(m, POINT_AFTER_INSN, pa, func);

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

static bool rmpopt_model_online(unsigned int cpu)
{
	struct rmpopt_model *m = rmpopt_model;

	return cpumask_test_cpu(cpu, m && m->invented ? &m->online : real_online_mask());
}

static const struct cpumask *rmpopt_model_online_mask(void)
{
	struct rmpopt_model *m = rmpopt_model;

	/* Only a pass looks at the mask while it cannot migrate: before each region. */
	if (m && current->migration_disabled)
		model_call_hook(m, POINT_NEXT_REGION);

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

	if (type == HK_TYPE_KERNEL_NOISE)
		return &m->housekeeping;

	/* That one may be replaced at any time. */
	if (type != HK_TYPE_DOMAIN || !rcu_read_lock_held())
		atomic_inc(&m->nr_rule);

	return &m->domain;
}

static int rmpopt_model_walk(enum model_memory memory, u64 start, u64 end, void *arg,
			     int (*func)(struct resource *, void *))
{
	struct rmpopt_model *m = rmpopt_model;
	struct resource res = DEFINE_RES_MEM(start, end - start + 1);

	if (!m)
		return memory == MODEL_RAM ? (walk_system_ram_res)(start, end, arg, func) :
					     (walk_soft_reserve_res)(start, end, arg, func);

	if (start / GB >= MODEL_REGIONS || m->memory[start / GB] != memory)
		return -EINVAL;

	return func(&res, arg);
}

static int rmpopt_model_walk_desc(unsigned long desc, unsigned long flags, u64 start, u64 end,
				  void *arg, int (*func)(struct resource *, void *))
{
	if (!rmpopt_model)
		return (walk_iomem_res_desc)(desc, flags, start, end, arg, func);

	switch (desc) {
	case IORES_DESC_SOFT_RESERVED:
		return rmpopt_model_walk(MODEL_SOFT_RESERVED_DESC, start, end, arg, func);
	case IORES_DESC_PERSISTENT_MEMORY:
		return rmpopt_model_walk(MODEL_PMEM, start, end, arg, func);
	case IORES_DESC_PERSISTENT_MEMORY_LEGACY:
		return rmpopt_model_walk(MODEL_PMEM_LEGACY, start, end, arg, func);
	default:
		return -EINVAL;
	}
}

/* What is invented has no struct pages. */
static struct page *rmpopt_model_online_page(unsigned long pfn)
{
	return rmpopt_model ? NULL : real_online_page(pfn);
}

static int rmpopt_model_target_node(u64 pa)
{
	return rmpopt_model ? rmpopt_model->node[pa / GB] : (phys_to_target_node)(pa);
}

static int rmpopt_model_cpu_to_node(unsigned int cpu)
{
	return rmpopt_model ? rmpopt_model->cpu_node[cpu] : real_cpu_to_node(cpu);
}

static int rmpopt_model_distance(int from, int to)
{
	struct rmpopt_model *m = rmpopt_model;

	if (!m)
		return real_distance(from, to);

	return m->distance[from][to] ?: from == to ? 10 : 20;
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

static int rmpopt_model_call_single(int cpu, smp_call_func_t func, void *info, int wait)
{
	struct rmpopt_model *m = rmpopt_model;
	struct model_interrupted i;
	unsigned long flags;

	if (!m)
		return (smp_call_function_single)(cpu, func, info, wait);

	m->nr_ipi++;
	/* Clean-up counts on the sender to wait, and nobody wants to be woken up. */
	if (!wait || !cpus_held(true) || !cpu_online(cpu) || cpumask_test_cpu(cpu, &m->idle))
		atomic_inc(&m->nr_rule);

	if (!m->invented)
		return (smp_call_function_single)(cpu, func, info, wait);

	i = model_interrupt(m, cpu, IN_IPI);
	local_irq_save(flags);
	func(info);
	local_irq_restore(flags);
	model_return(m, i);
	model_call_hook(m, POINT_IPI_END);

	return 0;
}

/* Nobody is woken up or interrupted for a timer of this kind. */
static void rmpopt_model_add_timer_on(struct timer_list *timer, int cpu)
{
	struct rmpopt_model *m = rmpopt_model;

	if (m && (!cpu_online(cpu) || timer != &per_cpu_ptr(rmpopt_cpus, cpu)->timer ||
		  !(timer->flags & TIMER_DEFERRABLE) ||
		  !time_before(timer->expires, m->now - WHEEL_LAG)))
		atomic_inc(&m->nr_rule);

	if (!model_plays_timers(m)) {
		(add_timer_on)(timer, cpu);
		return;
	}

	if (m->timer[cpu])
		atomic_inc(&m->nr_rule);
	m->timer[cpu] = timer;
	model_call_hook(m, POINT_ARMED);
}

static int rmpopt_model_timer_delete_sync(struct timer_list *timer)
{
	struct rmpopt_model *m = rmpopt_model;
	unsigned int cpu;

	if (!model_plays_timers(m)) {
		if (m)
			WRITE_ONCE(m->stopping, true);
		return (timer_delete_sync)(timer);
	}

	for (cpu = 0; cpu < MODEL_CPUS; cpu++) {
		if (m->timer[cpu] == timer) {
			m->timer[cpu] = NULL;
			return 1;
		}
	}

	return 0;
}

static int rmpopt_model_idle_cpu(int cpu)
{
	struct rmpopt_model *m = rmpopt_model;

	return model_plays_timers(m) ? cpumask_test_cpu(cpu, &m->idle) : (idle_cpu)(cpu);
}

static u64 rmpopt_model_idle_time(int cpu, u64 *now)
{
	struct rmpopt_model *m = rmpopt_model;

	if (!model_plays_timers(m))
		return (get_cpu_idle_time_us)(cpu, now);

	model_call_hook(m, POINT_RUN_TIME);
	if (now)
		*now = m->us;

	return m->idle_us[cpu];
}

static u64 rmpopt_model_iowait_time(int cpu, u64 *now)
{
	struct rmpopt_model *m = rmpopt_model;

	if (!model_plays_timers(m))
		return (get_cpu_iowait_time_us)(cpu, now);

	if (now)
		*now = m->us;

	return m->iowait_us[cpu];
}

static ktime_t rmpopt_model_ktime(void)
{
	struct rmpopt_model *m = rmpopt_model;

	return model_plays_timers(m) ? us_to_ktime(m->us) : (ktime_get)();
}

/* While the machine waits, the CPUs do what they have been doing. */
static void rmpopt_model_sleep(unsigned long min, unsigned long max)
{
	struct rmpopt_model *m = rmpopt_model;

	if (!model_plays_timers(m)) {
		(usleep_range)(min, max);
		return;
	}

	model_pass_time(m, ~cpumask_bits(&m->idle)[0], max);
	model_call_hook(m, POINT_WAIT);
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

	if (!m || (!model_plays_timers(m) && in_serving_softirq()))
		return real_jiffies();

	return READ_ONCE(m->now) + (m->context == IN_TICK ? m->ticks : 0);
}

static enum system_states rmpopt_model_system_state(void)
{
	struct rmpopt_model *m = rmpopt_model;

	return m ? m->state : real_system_state();
}

static bool rmpopt_model_panic(void)
{
	struct rmpopt_model *m = rmpopt_model;

	if (m && m->disarms) {
		m->disarms = false;
		model_call_hook(m, POINT_TICK_DISARMED);
	}

	return m ? m->panic : (panic_in_progress)();
}

/* What the work item calls. */
static void (rmpopt_work_handler)(struct work_struct *work)
{
	struct rmpopt_model *m = rmpopt_model;

	if (m) {
		m->nr_pass++;
		model_call_hook(m, POINT_PASS_BEGIN);
	}

	rmpopt_model_pass(work);

	if (m)
		model_call_hook(m, POINT_PASS_END);
}

static bool rmpopt_model_fails_alloc(void)
{
	struct rmpopt_model *m = rmpopt_model;

	return m && m->fail_alloc && !--m->fail_alloc;
}

static bool rmpopt_model_alloc(void)
{
	struct rmpopt_model *m = rmpopt_model;

	if (rmpopt_model_fails_alloc())
		return false;

	if (m)
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

/* No RMPOPT can follow: no work and no timer is left, and nothing to do for one. */
static void expect_stopped(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int cpu;

	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_chase_work));
	if (!m->booted)
		return;

	for_each_possible_cpu(cpu) {
		struct rmpopt_cpu *thread = per_cpu_ptr(rmpopt_cpus, cpu);

		KUNIT_EXPECT_NULL_MSG(test, m->timer[cpu], "CPU %u", cpu);
		KUNIT_EXPECT_FALSE_MSG(test, timer_pending(&thread->timer), "CPU %u", cpu);
		KUNIT_EXPECT_EQ_MSG(test, thread->armed, 0, "CPU %u", cpu);
		KUNIT_EXPECT_TRUE_MSG(test, bitmap_empty(thread->todo, RMPOPT_MAX_REGIONS),
				      "CPU %u", cpu);
	}
}

/*
 * Nobody but boot allocates, and nothing frees that. Check that works are disabled
 * exactly once, as the firmware may go through any number of set-ups.
 */
static void __init unboot(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;

	snp_cleanup_rmpopt();
	expect_stopped(test);

	if (m->booted) {
		KUNIT_EXPECT_TRUE(test, enable_delayed_work(&rmpopt_delayed_work));
		KUNIT_EXPECT_TRUE(test, enable_delayed_work(&rmpopt_chase_work));
		destroy_workqueue(rmpopt_wq);
		bitmap_free(rmpopt_regions.reach);
		bitmap_free(rmpopt_regions.stale);
		bitmap_free(rmpopt_regions.optimized);
		bitmap_free(rmpopt_regions.todo);
		bitmap_free(rmpopt_regions.failed);
		free_percpu(rmpopt_cpus);
		free_cpumask_var(rmpopt_cpumask);
	}
	KUNIT_EXPECT_EQ(test, m->nr_live, 0);

	m->booted = false;
	rmpopt_capable = false;
	rmpopt_regions.nr = 0;
	rmpopt_wq = NULL;
	rmpopt_cpus = NULL;
	rmpopt_reason = 0;
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
	m->us = USEC_PER_SEC;
	m->state = SYSTEM_RUNNING;
	cpumask_setall(&m->housekeeping);
	cpumask_setall(&m->domain);

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

/* The same with the look after cores that do not catch up. */
static void run_chase(void)
{
	flush_delayed_work(&rmpopt_chase_work);
}

static unsigned int pending_timers(struct rmpopt_model *m)
{
	unsigned int cpu, pending = 0;

	for (cpu = 0; cpu < MODEL_CPUS; cpu++) {
		if (m->timer[cpu])
			pending |= BIT(cpu);
	}

	return pending;
}

/* Keep a CPU from being idle until its timer does not expire any more. */
static long wait_for_ticks(void *data)
{
	ktime_t end = ktime_add_ms((ktime_get)(), 20 * MSEC_PER_SEC);
	struct rmpopt_cpu *thread = data;

	while (READ_ONCE(thread->armed)) {
		if (ktime_after((ktime_get)(), end))
			return -ETIMEDOUT;
		cond_resched();
	}

	return 0;
}

/* Let each CPU run until nothing is left for its core. */
static void catch_up_all(struct kunit *test)
{
	struct rmpopt_model *m = test->priv;
	unsigned int cpu, n;

	if (!m->invented) {
		for_each_cpu(cpu, real_online_mask()) {
			struct rmpopt_cpu *thread = per_cpu_ptr(rmpopt_cpus, cpu);

			KUNIT_EXPECT_EQ_MSG(test, real_work_on_cpu(cpu, wait_for_ticks, thread), 0,
					    "CPU %u", cpu);
		}
		return;
	}

	for (n = 0; n < 1000 && pending_timers(m); n++) {
		for_each_cpu(cpu, &m->online)
			model_tick(m, cpu);
	}
	KUNIT_EXPECT_EQ(test, pending_timers(m), 0);
	KUNIT_EXPECT_EQ(test, rmpopt_behind(), 0);
}

/*
 * Run passes until nothing asks for another one, and let all cores catch up each time.
 * Returns the number of passes.
 */
static unsigned int run_all_passes(struct kunit *test)
{
	unsigned int n;

	for (n = 0; n < 1000 && delayed_work_pending(&rmpopt_delayed_work); n++) {
		run_pass();
		catch_up_all(test);
	}
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&rmpopt_delayed_work));

	return n;
}

static void run_pass_and_ticks(struct kunit *test)
{
	run_pass();
	catch_up_all(test);
}

/* Forget what has been executed so far. */
static void reset_counts(struct rmpopt_model *m)
{
	m->nr_event = 0;
	m->nr_verify = 0;
	m->nr_query = 0;
	m->nr_tick = 0;
	m->nr_ipi = 0;
	m->nr_moved = 0;
	m->nr_pass = 0;
	m->nr_scan = 0;
	m->nr_scan_once = 0;
}

/* Let @secs seconds pass, before what has been queued is due. */
static void advance(struct rmpopt_model *m, unsigned int secs)
{
	WRITE_ONCE(m->now, m->now + secs * HZ);
	/* Nothing if there is nothing queued. */
	mod_timer_pending(&rmpopt_delayed_work.timer,
			  rmpopt_delayed_work.timer.expires - secs * HZ);
	mod_timer_pending(&rmpopt_chase_work.timer,
			  rmpopt_chase_work.timer.expires - secs * HZ);
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
 * What it is all about, once the RMP has been quiet and each core has run for long
 * enough: each region that the RMP covers and the tables reach is optimized on all cores
 * that have a table, unless it holds an assigned page, when it must not be.
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

/* @work has been queued since @from, and starts @secs seconds from then. */
static void expect_due_in(struct kunit *test, struct delayed_work *work, unsigned long from,
			  unsigned int secs)
{
	unsigned long expires = work->timer.expires;

	KUNIT_EXPECT_TRUE(test, delayed_work_pending(work));
	KUNIT_EXPECT_TRUE(test, timer_pending(&work->timer));
	KUNIT_EXPECT_TRUE_MSG(test, time_in_range(expires, from + secs * HZ,
						  real_jiffies() + secs * HZ),
			      "in %ld jiffies, not %u", (long)(expires - from), secs * HZ);
}

/* @func leaves a pass queued, which starts @secs seconds from then. */
static void expect_queues_in(struct kunit *test, void (*func)(void), unsigned int secs)
{
	unsigned long from = real_jiffies();

	func();
	expect_due_in(test, &rmpopt_delayed_work, from, secs);
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

/* Online threads of all cores with a table but that of m->cpu. */
static unsigned int followers(struct rmpopt_model *m)
{
	unsigned int cpu, mask = 0;

	for_each_cpu(cpu, &m->online) {
		if (has_table(m, cpu) && model_core_of(m, cpu) != model_core_of(m, m->cpu))
			mask |= BIT(cpu);
	}

	return mask;
}

/* Check that event @i is what is expected, returns the index of the next one. */
static unsigned int expect_event(struct kunit *test, unsigned int i, u64 pa,
				 enum rmpopt_function func, enum model_context context,
				 unsigned int cpu, bool cf)
{
	struct rmpopt_model *m = test->priv;
	struct model_event *e = &m->event[i];

	KUNIT_ASSERT_LT(test, i, m->nr_event);
	KUNIT_EXPECT_EQ_MSG(test, e->pa, pa, "event %u", i);
	KUNIT_EXPECT_EQ_MSG(test, e->func, func, "event %u", i);
	KUNIT_EXPECT_EQ_MSG(test, e->context, context, "event %u", i);
	KUNIT_EXPECT_EQ_MSG(test, e->cpu, cpu, "event %u", i);
	KUNIT_EXPECT_EQ_MSG(test, e->cf, cf, "event %u", i);

	return i + 1;
}

/* The first core queries a region as event @i. */
static unsigned int expect_query(struct kunit *test, unsigned int i, u64 pa, bool cf)
{
	struct rmpopt_model *m = test->priv;

	return expect_event(test, i, pa, RMPOPT_REPORT, IN_PASS, m->cpu, cf);
}

/*
 * Check that the first core has visited @nr regions from @pa on, from event @i on, and
 * has succeeded but for those in @failing. Returns the index of the next event.
 */
static unsigned int expect_leader(struct kunit *test, unsigned int i, u64 pa, unsigned int nr,
				  unsigned long failing)
{
	struct rmpopt_model *m = test->priv;
	unsigned int n;

	for (n = 0; n < nr; n++)
		i = expect_event(test, i, pa + n * GB, RMPOPT_VERIFY_AND_REPORT, IN_PASS, m->cpu,
				 n >= BITS_PER_LONG || !(failing & BIT(n)));

	return i;
}

/*
 * The same, and that the other cores have visited those for which it has succeeded, each
 * in order and at its own ticks.
 */
static unsigned int expect_pass(struct kunit *test, unsigned int i, u64 pa, unsigned int nr,
				unsigned long failing, unsigned int nr_cores)
{
	struct rmpopt_model *m = test->priv;
	unsigned int next[MODEL_CPUS] = {};
	unsigned int n, core, done;

	i = expect_leader(test, i, pa, nr, failing);

	for (done = (nr - hweight_long(failing)) * (nr_cores - 1); done; done--) {
		KUNIT_ASSERT_LT(test, i, m->nr_event);
		core = model_core_of(m, m->event[i].cpu);
		KUNIT_EXPECT_NE(test, core, model_core_of(m, m->cpu));

		/* With the number of events this makes it each region once. */
		for (n = next[core]; n < BITS_PER_LONG && failing & BIT(n); n++)
			;
		KUNIT_EXPECT_LT_MSG(test, n, nr, "event %u", i);
		i = expect_event(test, i, pa + n * GB, RMPOPT_VERIFY_AND_REPORT, IN_TICK,
				 m->event[i].cpu, true);
		next[core] = n + 1;
	}

	return i;
}

static unsigned int __init count_real_cores(void)
{
	unsigned int cpu, nr_cores = 0;

	for_each_cpu(cpu, real_online_mask())
		nr_cores += cpu == cpumask_first(real_siblings(cpu));

	return nr_cores;
}

/* Have all of @nr regions be visited, in an order of no matter. */
static void return_regions(struct rmpopt_model *m, unsigned int nr)
{
	unsigned int n;

	/* All over the place, 7 and 40 have no common divisor. */
	for (n = 0; n < nr; n++) {
		model_lose(m, n * 7 % 40 * GB);
		rmpopt_page_returned(n * 7 % 40 * GB);
	}
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

static void run_thread_on(struct kunit *test, struct thread *t, unsigned int cpu,
			  void (*func)(void))
{
	run_thread(test, t, func);
	if (t->task)
		set_cpus_allowed_ptr(t->task, cpumask_of(cpu));
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
