// SPDX-License-Identifier: GPL-2.0-only
/*
 * AMD SVM-SEV Host Support: which memory an RMPOPT table covers.
 */

#include <kunit/visibility.h>
#include <linux/minmax.h>
#include <linux/sched.h>

#include "rmpopt_window.h"

/* What the memory in the window at @first is worth. */
static unsigned int rmpopt_score(const struct rmpopt_ram *ram, unsigned int nr,
				 unsigned int first)
{
	unsigned int i, score = 0;

	for (i = 0; i < nr; i++) {
		unsigned int start = max(ram[i].first, first);
		unsigned int end = min(ram[i].end, first + RMPOPT_MAX_REGIONS);

		if (start < end)
			score += (end - start) * ram[i].weight;
	}

	return score;
}

/*
 * The best window, of equals the lowest. As a window moves up, its score can
 * stop growing only where its end leaves a piece of @ram, or its start enters
 * one. So the lowest of the best windows ends or starts with a piece. It may
 * start below @ram, but is worth no more then than the one that starts with it.
 */
static unsigned int rmpopt_best_window(const struct rmpopt_ram *ram, unsigned int nr)
{
	unsigned int best = ram[0].first, score = 0, i;

	for (i = 0; i < 2 * nr; i++) {
		unsigned int first = i % 2 ? ram[i / 2].first :
				     max(ram[i / 2].end, RMPOPT_MAX_REGIONS) - RMPOPT_MAX_REGIONS;
		unsigned int this = rmpopt_score(ram, nr, first);

		if (this > score || (this == score && first < best)) {
			score = this;
			best = first;
		}
	}

	return best;
}

/**
 * rmpopt_choose_windows() - Choose the memory that RMPOPT tables cover
 * @ram: Memory, ascending, without overlap, at least one piece.
 * @nr: The number of pieces.
 * @nodes: The nodes that want a window.
 * @distance: As node_distance().
 * @windows: Indexed by node. Takes the first region of the window of each of
 *	     @nodes.
 *
 * A node gets the window whose memory is worth most, where a region at distance
 * d counts 1/d^2. A node uses the lowest window, or that of a node before it,
 * if it is worth at least 63/64 of that. So nodes whose memory is in one window
 * share it, and holes do not move the window of a host that just exceeds it.
 *
 * Context: Process context, as it may take some ms for each node.
 */
void rmpopt_choose_windows(struct rmpopt_ram *ram, unsigned int nr, const nodemask_t *nodes,
			   int (*distance)(int from, int to), unsigned int *windows)
{
	int nid, other;

	for_each_node_mask(nid, *nodes) {
		unsigned int i, best, enough;

		for (i = 0; i < nr; i++) {
			unsigned int d = distance(nid, ram[i].nid);

			ram[i].weight = 65536 / (d * d);
		}

		best = rmpopt_best_window(ram, nr);
		enough = rmpopt_score(ram, nr, best);
		enough -= enough / 64;

		windows[nid] = best;
		if (rmpopt_score(ram, nr, ram[0].first) >= enough) {
			windows[nid] = ram[0].first;
			continue;
		}
		for_each_node_mask(other, *nodes) {
			if (other == nid)
				break;
			if (rmpopt_score(ram, nr, windows[other]) >= enough) {
				windows[nid] = windows[other];
				break;
			}
		}

		cond_resched();
	}
}
EXPORT_SYMBOL_IF_KUNIT(rmpopt_choose_windows);
