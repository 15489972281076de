/* SPDX-License-Identifier: GPL-2.0 */
/* Between guest_start.S and guest_code.c */
#ifndef SELFTEST_RMPOPT_GUEST_START_H
#define SELFTEST_RMPOPT_GUEST_START_H

#include <linux/types.h>

/* What the handlers of exceptions push, and the CPU before */
struct frame {
	__u64 registers[9];
	__u64 vector;
	__u64 error;
	__u64 rip;
	__u64 cs;
	__u64 rflags;
	__u64 rsp;
	__u64 ss;
};

extern const char guest_start[], guest_vectors[];
extern const char guest_access[], guest_access_end[], guest_access_failed[];

/* Return whether the page was not validated. */
int guest_store(__u64 address, __u64 value);
int guest_load(__u64 address, __u64 *value);
int guest_pvalidate(__u64 address, int validate, __u64 *result);
int guest_rmpadjust(__u64 address, __u64 operand, __u64 *result);

void guest_main(unsigned int index);
void guest_exception(struct frame *frame);

#endif /* SELFTEST_RMPOPT_GUEST_START_H */
