// SPDX-License-Identifier: GPL-2.0-only
/*
 * Enables RMPOPT_BASE as a kernel might have done that has other RMPOPT tables than this
 * one, before it boots this one by kexec. SnpEn has to be set.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/module.h>
#include <linux/sizes.h>

#include <asm/msr.h>

/* A kernel without the series does not know these. */
#ifndef MSR_AMD64_RMPOPT_BASE
#define MSR_AMD64_RMPOPT_BASE	0xc0010139
#endif
#ifndef MSR_AMD64_RMPOPT_ENABLE
#define MSR_AMD64_RMPOPT_ENABLE	BIT_ULL(0)
#endif

static unsigned int first;
module_param(first, uint, 0444);
MODULE_PARM_DESC(first, "Where the tables start, physical address in GB");

static char *cpus = "all";
module_param(cpus, charp, 0444);
MODULE_PARM_DESC(cpus, "Of which CPUs, a list");

static int __init rmpopt_window_init(void)
{
	u64 base = (u64)first * SZ_1G | MSR_AMD64_RMPOPT_ENABLE;
	cpumask_var_t mask;
	int cpu, ret;
	u64 val;

	if (!zalloc_cpumask_var(&mask, GFP_KERNEL))
		return -ENOMEM;

	ret = cpulist_parse(cpus, mask);
	if (ret)
		goto out;

	cpus_read_lock();
	for_each_cpu_and(cpu, mask, cpu_online_mask) {
		/* Another thread of the core may have done it. */
		ret = rdmsrq_safe_on_cpu(cpu, MSR_AMD64_RMPOPT_BASE, &val);
		if (!ret && val != base)
			ret = wrmsrq_safe_on_cpu(cpu, MSR_AMD64_RMPOPT_BASE, base);
		if (ret) {
			pr_err("CPU %d refuses 0x%llx\n", cpu, base);
			break;
		}
	}
	cpus_read_unlock();
out:
	free_cpumask_var(mask);
	return ret;
}
module_init(rmpopt_window_init);

static void __exit rmpopt_window_exit(void)
{
}
module_exit(rmpopt_window_exit);

MODULE_DESCRIPTION("Enable RMPOPT_BASE with other tables than this kernel's");
MODULE_LICENSE("GPL");
