/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Puts a model in the place of what the RMPOPT code in sev.c sees of the machine,
 * while a test has one installed.
 *
 * Static stubs only hold for the task that runs the test, but RMPOPT is executed
 * by a worker, timers and IPIs. So sev.c includes this file below the definition of
 * __rmpopt(), and from there on the names below mean their replacements. Without
 * a model these do what is replaced. To get at a function itself, put its name in
 * parentheses.
 */

/* Before anything is replaced. */
#include <kunit/test.h>
#include <linux/bitmap.h>
#include <linux/bottom_half.h>
#include <linux/completion.h>
#include <linux/debug_locks.h>
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/kmsg_dump.h>
#include <linux/kthread.h>
#include <linux/memory_hotplug.h>
#include <linux/prandom.h>
#include <linux/range.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#include <asm/coco.h>
#include <asm/sections.h>

static bool rmpopt_model_insn(u64 pa, enum rmpopt_function func);
static u64 rmpopt_model_read_msr(u32 msr);
static int rmpopt_model_read_msr_on_cpu(unsigned int cpu, u32 msr, u64 *val);
static int rmpopt_model_write_msr_on_cpu(unsigned int cpu, u32 msr, u64 val);
static bool rmpopt_model_has_feature(unsigned int bit);

static unsigned int rmpopt_model_cpu(void);
static bool rmpopt_model_online(unsigned int cpu);
static const struct cpumask *rmpopt_model_online_mask(void);
static const struct cpumask *rmpopt_model_siblings(unsigned int cpu);
static const struct cpumask *rmpopt_model_housekeeping(enum hk_type type);

/* What kind of memory a region begins with. */
enum model_memory {
	MODEL_RAM,
	MODEL_HOLE,
	MODEL_SOFT_RESERVED,
	/* The same to those who do not look for it as such. */
	MODEL_SOFT_RESERVED_DESC,
	MODEL_PMEM,
	MODEL_PMEM_LEGACY,
};

static int rmpopt_model_walk(enum model_memory memory, u64 start, u64 end, void *arg,
			     int (*func)(struct resource *, void *));
static int rmpopt_model_walk_desc(unsigned long desc, unsigned long flags, u64 start, u64 end,
				  void *arg, int (*func)(struct resource *, void *));
static struct page *rmpopt_model_online_page(unsigned long pfn);
static int rmpopt_model_target_node(u64 pa);
static int rmpopt_model_cpu_to_node(unsigned int cpu);
static int rmpopt_model_distance(int from, int to);

static void rmpopt_model_on_each_cpu(smp_call_func_t func, void *info, int wait);
static int rmpopt_model_call_single(int cpu, smp_call_func_t func, void *info, int wait);
static long rmpopt_model_work_on_cpu(int cpu, long (*func)(void *), void *arg);
static void rmpopt_model_hotplug_disable(void);
static void rmpopt_model_hotplug_enable(void);

static void rmpopt_model_add_timer_on(struct timer_list *timer, int cpu);
static int rmpopt_model_timer_delete_sync(struct timer_list *timer);
static int rmpopt_model_idle_cpu(int cpu);
static u64 rmpopt_model_idle_time(int cpu, u64 *now);
static u64 rmpopt_model_iowait_time(int cpu, u64 *now);
static ktime_t rmpopt_model_ktime(void);
static void rmpopt_model_sleep(unsigned long min, unsigned long max);

static unsigned long rmpopt_model_jiffies(void);
static enum system_states rmpopt_model_system_state(void);
static bool rmpopt_model_panic(void);
static void rmpopt_model_pass(struct work_struct *work);

static bool rmpopt_model_fails_alloc(void);
static bool rmpopt_model_alloc(void);
static void rmpopt_model_free(void);

/* These are macros or variables, keep a way to get at them. */
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

static inline int real_cpu_to_node(unsigned int cpu)
{
	return cpu_to_node(cpu);
}

static inline struct page *real_online_page(unsigned long pfn)
{
	return pfn_to_online_page(pfn);
}

static inline int real_distance(int from, int to)
{
	return node_distance(from, to);
}

static inline long real_work_on_cpu(int cpu, long (*func)(void *), void *arg)
{
	return work_on_cpu(cpu, func, arg);
}

static inline unsigned long real_jiffies(void)
{
	return jiffies;
}

static inline enum system_states real_system_state(void)
{
	return system_state;
}

#undef rdmsrq
#undef cpu_feature_enabled
#undef smp_processor_id
#undef cpu_online_mask
#undef topology_sibling_cpumask
#undef work_on_cpu
#undef cpu_to_node
#undef nr_node_ids
#undef pfn_to_online_page
#undef node_distance
#undef alloc_workqueue
#undef alloc_percpu
#undef kvmalloc_objs

#define __rmpopt(pa, func)			rmpopt_model_insn(pa, func)
#define rdmsrq(msr, val)			((val) = rmpopt_model_read_msr(msr))
#define rdmsrq_safe_on_cpu(cpu, msr, val)	rmpopt_model_read_msr_on_cpu(cpu, msr, val)
#define wrmsrq_safe_on_cpu(cpu, msr, val)	rmpopt_model_write_msr_on_cpu(cpu, msr, val)
#define cpu_feature_enabled(bit)		rmpopt_model_has_feature(bit)

#define smp_processor_id()			rmpopt_model_cpu()
#define cpu_online(cpu)				rmpopt_model_online(cpu)
#define cpu_online_mask				rmpopt_model_online_mask()
#define topology_sibling_cpumask(cpu)		rmpopt_model_siblings(cpu)
#define housekeeping_cpumask(type)		rmpopt_model_housekeeping(type)
#define cpu_to_node(cpu)			rmpopt_model_cpu_to_node(cpu)
#define node_distance(from, to)			rmpopt_model_distance(from, to)
/* There may be less than this on the real machine. */
#define nr_node_ids				MAX_NUMNODES
#define __nodemask_pr_numnodes(mask)		((void)(mask), nr_node_ids)
#define walk_system_ram_res(start, end, arg, func) \
	rmpopt_model_walk(MODEL_RAM, start, end, arg, func)
#define walk_soft_reserve_res(start, end, arg, func) \
	rmpopt_model_walk(MODEL_SOFT_RESERVED, start, end, arg, func)
#define walk_iomem_res_desc(desc, flags, start, end, arg, func) \
	rmpopt_model_walk_desc(desc, flags, start, end, arg, func)
#define pfn_to_online_page(pfn)			rmpopt_model_online_page(pfn)
#define phys_to_target_node(pa)			rmpopt_model_target_node(pa)

#define on_each_cpu(func, info, wait)		rmpopt_model_on_each_cpu(func, info, wait)
#define smp_call_function_single(cpu, func, info, wait) \
	rmpopt_model_call_single(cpu, func, info, wait)
#define work_on_cpu(cpu, func, arg)		rmpopt_model_work_on_cpu(cpu, func, arg)
#define cpu_hotplug_disable()			rmpopt_model_hotplug_disable()
#define cpu_hotplug_enable()			rmpopt_model_hotplug_enable()

#define add_timer_on(timer, cpu)		rmpopt_model_add_timer_on(timer, cpu)
#define timer_delete_sync(timer)		rmpopt_model_timer_delete_sync(timer)
#define idle_cpu(cpu)				rmpopt_model_idle_cpu(cpu)
#define get_cpu_idle_time_us(cpu, now)		rmpopt_model_idle_time(cpu, now)
#define get_cpu_iowait_time_us(cpu, now)	rmpopt_model_iowait_time(cpu, now)
/* What read_poll_timeout() waits by. */
#define ktime_get()				rmpopt_model_ktime()
#define usleep_range(min, max)			rmpopt_model_sleep(min, max)

#define jiffies					rmpopt_model_jiffies()
#define system_state				rmpopt_model_system_state()
#define panic_in_progress()			rmpopt_model_panic()
/* The pass itself gets another name, as the work item calls what wraps it. */
#define rmpopt_work_handler(work)		rmpopt_model_pass(work)

#define zalloc_cpumask_var(mask, gfp) \
	(rmpopt_model_alloc() && zalloc_cpumask_var(mask, gfp))
#define bitmap_zalloc(nbits, gfp) \
	(rmpopt_model_alloc() ? bitmap_zalloc(nbits, gfp) : NULL)
#define bitmap_free(map) ({			\
	unsigned long *_map = (map);		\
						\
	if (_map)				\
		rmpopt_model_free();		\
	bitmap_free(_map);			\
})
#define kvmalloc_objs(obj, count) \
	(rmpopt_model_fails_alloc() ? NULL : kvmalloc_array(count, sizeof(obj), GFP_KERNEL))
#define free_cpumask_var(mask) ({		\
	rmpopt_model_free();			\
	free_cpumask_var(mask);			\
})
#define alloc_percpu(type) \
	(rmpopt_model_alloc() ? alloc_percpu_gfp(type, GFP_KERNEL) : NULL)
#define free_percpu(p) ({			\
	typeof(p) _p = (p);			\
						\
	if (_p)					\
		rmpopt_model_free();		\
	free_percpu(_p);			\
})
#define alloc_workqueue(...) \
	(rmpopt_model_alloc() ? alloc_workqueue_noprof(__VA_ARGS__) : NULL)
#define destroy_workqueue(wq) \
	({ rmpopt_model_free(); destroy_workqueue(wq); })
