/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the program snp_guest and the code in its guest have agreed on: where
 * things are in guest memory, and how a vCPU gets a command and reports its end.
 *
 * A vCPU that waits for a command has exited to the program by OUT, so nothing
 * runs and nothing polls. Once KVM_RUN goes on, the vCPU executes the command in
 * its mailbox, and exits in the same way.
 */
#ifndef SELFTEST_RMPOPT_GUEST_CODE_H
#define SELFTEST_RMPOPT_GUEST_CODE_H

#define GUEST_PAGE_SIZE		0x1000
#define GUEST_MAX_VCPUS		16

/*
 * Guest physical addresses. Up to the mailboxes all is private and launched with
 * the guest, as far as it is used. The mailbox and the GHCB of a vCPU are shared.
 * What follows is free: private, but neither allocated nor validated.
 */
#define GUEST_PML4		0x1000
#define GUEST_PDPT_PRIVATE	0x2000
#define GUEST_PDPT_SHARED	0x3000
#define GUEST_GDT		0x4000
#define GUEST_IMAGE		0x5000
#define GUEST_IMAGE_END		0x20000
#define GUEST_STACKS		0x20000
#define GUEST_STACK_SIZE	0x2000
#define GUEST_MAILBOXES		0x80000
#define GUEST_GHCBS		0x90000
#define GUEST_SHARED_END	0xa0000
#define GUEST_FREE		0x100000

/* Bytes of virtual memory that each of the two windows to guest memory has. */
#define GUEST_WINDOW_SHIFT	39
/* Pages of 1 GB in a window */
#define GUEST_MAX_MEMORY	0x8000000000ULL

#define GUEST_CS		0x08
#define GUEST_DS		0x10

/* Port to which a vCPU writes one of enum guest_event. */
#define GUEST_PORT		0x500

#ifndef __ASSEMBLER__

#include <linux/types.h>

enum guest_event {
	GUEST_WAITS = 1,
	GUEST_DIED,
	GUEST_ENDED,
};

enum guest_type {
	GUEST_PLAIN,
	GUEST_SEV,
	GUEST_SEV_ES,
	GUEST_SNP,
};

enum guest_command {
	GUEST_NOP,
	/* Asks the host, and does no PVALIDATE. */
	GUEST_PSC,
	GUEST_PVALIDATE,
	GUEST_RMPADJUST,
	/* PSC and PVALIDATE in the right order */
	GUEST_MAKE_SHARED,
	GUEST_MAKE_PRIVATE,
	/* Of each page in a range: shared, and private again */
	GUEST_CONVERT,
	GUEST_WRITE,
	GUEST_READ,
	GUEST_AP_CREATE,
	GUEST_AP_DESTROY,
	GUEST_END,
};

enum guest_status {
	GUEST_OK,
	GUEST_NOT_VALIDATED,
	GUEST_PSC_FAILED,
	GUEST_PVALIDATE_FAILED,
	/* The page was validated already, or already not. */
	GUEST_PVALIDATE_UNCHANGED,
	GUEST_RMPADJUST_FAILED,
	GUEST_AP_FAILED,
};

/* How to ask the host to change the state of pages. */
enum guest_method {
	/* One page at a time, by the MSR protocol */
	GUEST_BY_MSR,
	/* Many pages at a time, by a list in the GHCB */
	GUEST_BY_LIST,
};

/**
 * struct guest_mailbox - What program and vCPU tell each other
 * @type:	Of the guest, an enum guest_type
 * @command:	What to do, an enum guest_command
 * @stop:	Ends a command that has no end
 * @method:	How to ask for changes of the state of pages
 * @shared:	Whether to use the shared window, or whether pages are to be shared
 * @vcpu:	Which AP to create or destroy
 * @gpa:	Start of a range, or a page
 * @size:	Bytes of the range
 * @stride:	Bytes from one page of the range to the next one
 * @count:	How often to do it, 0 for until @stop
 * @operand:	RDX of RMPADJUST or PVALIDATE
 * @done:	How often the vCPU has done it so far, page by page
 * @status:	How the command has ended, an enum guest_status
 * @page:	GPA of the last page that was used
 * @value:	What was read, or a result that says more about @status
 * @not_validated: #VC since the start, because a page was not validated
 * @vector:	Exception that has ended the guest
 * @error:	Its error code
 * @cr2:	CR2 of it
 * @rip:	RIP of it
 */
struct guest_mailbox {
	__u32 type;
	__u32 command;
	__u32 stop;
	__u32 method;
	__u32 shared;
	__u32 vcpu;
	__u64 gpa;
	__u64 size;
	__u64 stride;
	__u64 count;
	__u64 operand;

	__u64 done;
	__u64 status;
	__u64 page;
	__u64 value;
	__u64 not_validated;
	__u64 vector;
	__u64 error;
	__u64 cr2;
	__u64 rip;
};

/* The linked code of the guest, in snp_guest */
extern const char guest_image[], guest_image_end[];

#endif /* __ASSEMBLER__ */

#endif /* SELFTEST_RMPOPT_GUEST_CODE_H */
