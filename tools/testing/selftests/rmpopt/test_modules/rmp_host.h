/* SPDX-License-Identifier: GPL-2.0 */
/* What test modules ask of the host before they change the RMP */
#ifndef _RMP_HOST_H
#define _RMP_HOST_H

#include <linux/cc_platform.h>
#include <linux/errno.h>
#include <linux/printk.h>

#include <asm/msr.h>

/* Whether RMPUPDATE and PSMASH are defined: 0, or -ENODEV with a message why they are not. */
static inline int rmp_host_check(void)
{
	u64 syscfg;

	if (!cc_platform_has(CC_ATTR_HOST_SEV_SNP)) {
		pr_err("this is no SEV-SNP host\n");
		return -ENODEV;
	}

	rdmsrq(MSR_AMD64_SYSCFG, syscfg);
	if (!(syscfg & MSR_AMD64_SYSCFG_SNP_EN)) {
		pr_err("SEV-SNP is not initialized\n");
		return -ENODEV;
	}

	return 0;
}

#endif /* _RMP_HOST_H */
