/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Puts a model in the place of what the RMPOPT code in sev.c sees of the
 * machine while a test in rmpopt_kunit.c has one installed.
 *
 * Static stubs only hold for the task that runs the test, but a pass runs in a
 * worker and in IPIs. So sev.c includes this file below the definition of
 * __rmpopt(), and from there on the names below mean their replacements. Without
 * a model these do what is replaced. To get at a function itself, put its name in
 * parentheses.
 */

#include <linux/jiffies.h>
#include <linux/moduleparam.h>
#include <linux/notifier.h>

/* For stress tests, which can not wait that long for each pass. */
static unsigned int rmpopt_kunit_delay_ms = 10000;
module_param_named(rmpopt_delay_ms, rmpopt_kunit_delay_ms, uint, 0600);
MODULE_PARM_DESC(rmpopt_delay_ms, "Time in ms until an RMPOPT pass starts, for tests only");

static bool rmpopt_kunit_insn(u64 pa, enum rmpopt_function func);
static u64 rmpopt_kunit_read_msr(u32 msr);
static int rmpopt_kunit_wrmsrq_on_cpu(unsigned int cpu, u32 msr, u64 val);
static bool rmpopt_kunit_has_feature(unsigned int bit);

static unsigned int rmpopt_kunit_cpu(void);
static const struct cpumask *rmpopt_kunit_online_mask(void);
static const struct cpumask *rmpopt_kunit_siblings(unsigned int cpu);
static int rmpopt_kunit_walk_ram(unsigned long pfn, unsigned long nr_pages, void *arg,
				 int (*func)(unsigned long, unsigned long, void *));

static void rmpopt_kunit_on_each_cpu(smp_call_func_t func, void *info, int wait);
static void rmpopt_kunit_on_each_cpu_cond_mask(smp_cond_func_t cond, smp_call_func_t func,
					       void *info, bool wait,
					       const struct cpumask *mask);
static void rmpopt_kunit_hotplug_disable(void);
static void rmpopt_kunit_hotplug_enable(void);

static struct page *rmpopt_kunit_online_page(unsigned long pfn);
static int __maybe_unused rmpopt_kunit_register_memory(struct notifier_block *nb);
static int __maybe_unused rmpopt_kunit_register_pm(struct notifier_block *nb);

static bool rmpopt_kunit_queue(struct workqueue_struct *wq, struct delayed_work *work,
			       unsigned long delay);
static void rmpopt_kunit_pass(struct work_struct *work);

static bool rmpopt_kunit_alloc(void);
static void rmpopt_kunit_free(void);

/* These are macros already, keep a way to get at them. */
static inline u64 real_read_msr(u32 msr)
{
	u64 val;

	rdmsrq(msr, val);

	return val;
}

static inline unsigned int real_cpu(void)
{
	return smp_processor_id();
}

static inline const struct cpumask *real_siblings(unsigned int cpu)
{
	return topology_sibling_cpumask(cpu);
}

static inline const struct cpumask *real_online_mask(void)
{
	return cpu_online_mask;
}

static inline struct page *real_online_page(unsigned long pfn)
{
	return pfn_to_online_page(pfn);
}

static inline unsigned long real_work_timeout(void)
{
	return RMPOPT_WORK_TIMEOUT;
}

#undef rdmsrq
#undef cpu_feature_enabled
#undef smp_processor_id
#undef cpu_online_mask
#undef topology_sibling_cpumask
#undef pfn_to_online_page
#undef alloc_workqueue
#undef RMPOPT_WORK_TIMEOUT

#define RMPOPT_WORK_TIMEOUT			msecs_to_jiffies(READ_ONCE(rmpopt_kunit_delay_ms))

#define __rmpopt(pa, func)			rmpopt_kunit_insn(pa, func)
#define rdmsrq(msr, val)			((val) = rmpopt_kunit_read_msr(msr))
#define wrmsrq_on_cpu(cpu, msr, val)		rmpopt_kunit_wrmsrq_on_cpu(cpu, msr, val)
#define cpu_feature_enabled(bit)		rmpopt_kunit_has_feature(bit)

#define smp_processor_id()			rmpopt_kunit_cpu()
#define cpu_online_mask				rmpopt_kunit_online_mask()
#define topology_sibling_cpumask(cpu)		rmpopt_kunit_siblings(cpu)
#define walk_system_ram_range(pfn, nr, arg, func) \
	rmpopt_kunit_walk_ram(pfn, nr, arg, func)

#define on_each_cpu(func, info, wait)		rmpopt_kunit_on_each_cpu(func, info, wait)
#define on_each_cpu_cond_mask(cond, func, info, wait, mask) \
	rmpopt_kunit_on_each_cpu_cond_mask(cond, func, info, wait, mask)
#define cpu_hotplug_disable()			rmpopt_kunit_hotplug_disable()
#define cpu_hotplug_enable()			rmpopt_kunit_hotplug_enable()

#define pfn_to_online_page(pfn)			rmpopt_kunit_online_page(pfn)
#define register_memory_notifier(nb)		rmpopt_kunit_register_memory(nb)
#define register_pm_notifier(nb)		rmpopt_kunit_register_pm(nb)

#define queue_delayed_work(wq, work, delay)	rmpopt_kunit_queue(wq, work, delay)
/* The pass itself gets another name, as the work item calls what wraps it. */
#define rmpopt_work_handler(work)		rmpopt_kunit_pass(work)

#define zalloc_cpumask_var(mask, gfp) \
	(rmpopt_kunit_alloc() && zalloc_cpumask_var(mask, gfp))
#define free_cpumask_var(mask) \
	({ rmpopt_kunit_free(); free_cpumask_var(mask); })
#define alloc_workqueue(...) \
	(rmpopt_kunit_alloc() ? alloc_workqueue_noprof(__VA_ARGS__) : NULL)
#define destroy_workqueue(wq) \
	({ rmpopt_kunit_free(); destroy_workqueue(wq); })
