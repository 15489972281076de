// SPDX-License-Identifier: GPL-2.0
/*
 * Lets a page fail to become private or firmware-owned, as it does if the hardware
 * refuses the RMPUPDATE: nth=N in /sys/module/rmp_fail/parameters is the call of
 * rmp_make_private() from now on that fails, once. 0 is what it reads after that.
 *
 * For tests that have nothing else going on that calls it.
 */
#include <linux/kprobes.h>
#include <linux/module.h>

static unsigned int nth;
module_param(nth, uint, 0644);
MODULE_PARM_DESC(nth, "The call of rmp_make_private() from now on that fails");

static int fail_nth(struct kprobe *probe, struct pt_regs *regs)
{
	if (!nth || --nth)
		return 0;

	/* Nothing of the function has been executed: return to its caller instead. */
	regs_set_return_value(regs, -EFAULT);
	instruction_pointer_set(regs, *(unsigned long *)regs->sp);
	regs->sp += sizeof(unsigned long);
	return 1;
}
NOKPROBE_SYMBOL(fail_nth);

/* A probe that has one is not turned into a jump, which ignores what fail_nth() does. */
static void not_optimized(struct kprobe *probe, struct pt_regs *regs, unsigned long flags)
{
}
NOKPROBE_SYMBOL(not_optimized);

static struct kprobe probe = {
	.symbol_name = "rmp_make_private",
	.pre_handler = fail_nth,
	.post_handler = not_optimized,
};

static int __init rmp_fail_init(void)
{
	return register_kprobe(&probe);
}
module_init(rmp_fail_init);

static void __exit rmp_fail_exit(void)
{
	unregister_kprobe(&probe);
}
module_exit(rmp_fail_exit);

MODULE_DESCRIPTION("Failing transitions of pages in the RMP");
MODULE_LICENSE("GPL");
