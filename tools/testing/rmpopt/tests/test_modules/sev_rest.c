// SPDX-License-Identifier: GPL-2.0
/*
 * Issues PEK_CSR with a buffer that is longer than its output, as KVM issues
 * LAUNCH_MEASURE on behalf of user space, which then gets the whole buffer: what
 * firmware has not written to has to be zero, as it was. Unless it is, the module
 * does not load.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/gfp.h>
#include <linux/module.h>
#include <linux/psp.h>
#include <linux/psp-sev.h>
#include <linux/slab.h>
#include <linux/string.h>

#define LENGTH	SEV_FW_BLOB_MAX_SIZE

static int __init sev_rest_init(void)
{
	struct sev_data_pek_csr csr = { .len = LENGTH };
	int error = 0, ret;
	void *buf, *dirty, *rest;

	buf = kzalloc(LENGTH, GFP_KERNEL);
	if (!buf)
		return -ENOMEM;

	/* The bounce buffer of ccp is going to be this memory. */
	dirty = (void *)__get_free_pages(GFP_KERNEL, get_order(LENGTH));
	if (!dirty) {
		ret = -ENOMEM;
		goto out;
	}
	memset(dirty, 0xa5, LENGTH);
	free_pages((unsigned long)dirty, get_order(LENGTH));

	csr.address = __psp_pa(buf);
	ret = sev_do_cmd(SEV_CMD_PEK_CSR, &csr, &error);
	if (ret) {
		pr_err("PEK_CSR: %d, firmware error %#x\n", ret, error);
		goto out;
	}
	/* No output, or nothing beside it, would show nothing. */
	if (csr.len >= LENGTH || !memchr_inv(buf, 0, csr.len)) {
		pr_err("PEK_CSR: output of %u bytes\n", csr.len);
		ret = -ERANGE;
		goto out;
	}
	rest = memchr_inv(buf + csr.len, 0, LENGTH - csr.len);
	if (rest) {
		pr_err("byte %td of %u is %#x\n", rest - buf, csr.len, *(u8 *)rest);
		ret = -EIO;
	}
out:
	kfree(buf);
	return ret;
}
module_init(sev_rest_init);

static void __exit sev_rest_exit(void)
{
}
module_exit(sev_rest_exit);

MODULE_DESCRIPTION("What a SEV command leaves in a buffer behind its output");
MODULE_LICENSE("GPL");
