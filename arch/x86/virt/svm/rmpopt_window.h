/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * AMD SVM-SEV Host Support: which memory an RMPOPT table covers.
 */
#ifndef X86_VIRT_SVM_RMPOPT_WINDOW_H
#define X86_VIRT_SVM_RMPOPT_WINDOW_H

#include <linux/nodemask.h>

/* 1GB regions of an RMPOPT table, which starts where RMPOPT_BASE says. */
#define RMPOPT_MAX_REGIONS	2048

/**
 * struct rmpopt_ram - Memory with an address and a node
 *
 * @first: The first region of 1GB.
 * @end: The region behind the last one.
 * @nid: The node.
 * @weight: What each region is worth to the node that a window is chosen for.
 *	    Belongs to rmpopt_choose_windows().
 */
struct rmpopt_ram {
	unsigned int first, end;
	int nid;
	unsigned int weight;
};

void rmpopt_choose_windows(struct rmpopt_ram *ram, unsigned int nr, const nodemask_t *nodes,
			   int (*distance)(int from, int to), unsigned int *windows);

#endif
