// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of the windows that are chosen for NUMA nodes.
 */

#include <kunit/test.h>
#include <linux/bitops.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/sched.h>

#include "../rmpopt_window.h"

#define MAX_NODES	8
#define MAX_PIECES	256

/* What SLIT says of nodes of one socket, and of those of others. */
struct slit {
	unsigned int per_socket;
	u8 near, far;
	/* Of nodes from 2 on, which have memory only and belong to nodes 0 and 1. */
	u8 memory_near, memory_far;
};

/**
 * struct machine - Memory, distances, and the windows to be chosen
 *
 * @name: What it is.
 * @slit: Distances of its nodes.
 * @nodes: How many there are.
 * @nodes_with_cores: As a mask.
 * @as_is: Memory has no holes at [2, 4) and [1012, 1024).
 * @ram: Memory up to an empty piece.
 * @windows: By node.
 * @renumbered: Likewise, with nodes numbered the other way round, if that is not
 *		the same, as nodes join windows of nodes before them.
 */
struct machine {
	const char *name;
	struct slit slit;
	unsigned int nodes;
	unsigned long nodes_with_cores;
	bool as_is;
	struct rmpopt_ram ram[16];
	unsigned int windows[MAX_NODES];
	unsigned int renumbered[MAX_NODES];
};

static const struct machine machines[] = {
	{
		"1S 1.5TB", { 1 }, 1, 0x1, false,
		{ { 0, 1550, 0 } },
		{ 0 },
	}, {
		"1S 2TB", { 1 }, 1, 0x1, false,
		{ { 0, 2062, 0 } },
		{ 0 },
	}, {
		"1S 3TB", { 1 }, 1, 0x1, false,
		{ { 0, 3086, 0 } },
		{ 0 },
	}, {
		"1S 4TB NPS2", { 2, 12 }, 2, 0x3, false,
		{ { 0, 2062, 0 }, { 2062, 4110, 1 } },
		{ 0, 2062 },
	}, {
		"2S 2x1TB", { 1, 0, 32 }, 2, 0x3, false,
		{ { 0, 1038, 0 }, { 1038, 2062, 1 } },
		{ 0, 0 },
	}, {
		"2S 2x2TB with a hole", { 1, 0, 32 }, 2, 0x3, false,
		{ { 0, 2062, 0 }, { 4096, 6144, 1 } },
		{ 0, 4096 },
	}, {
		"2S 2x3TB NPS4", { 4, 12, 32 }, 8, 0xff, false,
		{ { 0, 770, 0 }, { 770, 1550, 1 }, { 1550, 2318, 2 }, { 2318, 3086, 3 },
		  { 3086, 3854, 4 }, { 3854, 4622, 5 }, { 4622, 5390, 6 }, { 5390, 6158, 7 } },
		{ 0, 0, 1024, 1024, 3086, 3086, 3342, 4110 },
		{ 0, 0, 1038, 1038, 3086, 3086, 4110, 4110 },
	}, {
		"2S 12TB NPS1", { 1, 0, 32 }, 2, 0x3, false,
		{ { 0, 6158, 0 }, { 6158, 12302, 1 } },
		{ 0, 6158 },
	}, {
		"2S 12TB NPS4", { 4, 12, 32 }, 8, 0xff, false,
		{ { 0, 1550, 0 }, { 1550, 3086, 1 }, { 3086, 4622, 2 }, { 4622, 6158, 3 },
		  { 6158, 7694, 4 }, { 7694, 9230, 5 }, { 9230, 10766, 6 }, { 10766, 12302, 7 } },
		{ 0, 1038, 2574, 4110, 6158, 7182, 8718, 10254 },
	}, {
		"2S 2x1TB and far CXL", { 1, 0, 32, 50, 60 }, 4, 0x3, false,
		{ { 0, 1038, 0 }, { 1038, 2062, 1 }, { 2062, 3086, 2 }, { 3086, 4110, 3 } },
		{ 0, 0 },
	}, {
		"2S 2x1TB and near CXL", { 1, 0, 32, 24, 46 }, 4, 0x3, false,
		{ { 0, 1038, 0 }, { 1038, 2062, 1 }, { 2062, 3086, 2 }, { 3086, 4110, 3 } },
		{ 0, 0 },
	}, {
		"2S 0.5TB and 3.5TB", { 1, 0, 32 }, 2, 0x3, false,
		{ { 0, 514, 0 }, { 514, 4110, 1 } },
		{ 0, 1024 },
	}, {
		"1S 4TB NPS4, two nodes without memory", { 4, 12 }, 4, 0xf, false,
		{ { 0, 2062, 0 }, { 2062, 4110, 2 } },
		{ 0, 0, 2062, 0 },
	}, {
		"4TB, one node", { 1 }, 1, 0x1, false,
		{ { 0, 4110, 0 } },
		{ 0 },
	}, {
		"4 pairs far apart", { 2, 12, 32 }, 8, 0xff, true,
		{ { 0, 2, 0 }, { 4, 64, 0 }, { 1022, 1024, 0 }, { 1024, 1088, 1 },
		  { 8192, 8256, 2 }, { 9216, 9280, 3 }, { 16384, 16448, 4 },
		  { 17408, 17472, 5 }, { 24576, 24640, 6 }, { 25600, 25664, 7 } },
		{ 0, 0, 7232, 7232, 15424, 15424, 23616, 23616 },
	}, {
		"4TB and 256GB", { 1, 0, 32 }, 2, 0x3, false,
		{ { 0, 4110, 0 }, { 8192, 8448, 1 } },
		{ 0, 6400 },
	}, {
		"2S 1TB and 4TB, no SLIT", { 1, 0, 20 }, 2, 0x3, false,
		{ { 0, 1038, 0 }, { 1038, 5134, 1 } },
		{ 0, 1038 },
	}, {
		"2S 2x2TB and HBM", { 1, 0, 32, 11, 33 }, 4, 0x3, false,
		{ { 0, 2062, 0 }, { 2062, 4110, 1 }, { 4110, 4238, 2 }, { 4238, 4366, 3 } },
		{ 0, 2062 },
	}, {
		"1S 3TB, L3 as NUMA", { 4, 11, 12 }, 8, 0xff, false,
		{ { 0, 1550, 0 }, { 1550, 3086, 4 } },
		{ 0, 0, 0, 0, 1038, 1038, 1038, 1038 },
	},
	/* The edges of it all. */
	{
		"one region", { 1 }, 1, 0x1, true,
		{ { 5, 6, 0 } },
		{ 5 },
	}, {
		"2048 regions, not from 0", { 1, 0, 20 }, 2, 0x3, true,
		{ { 5, 2052, 0 }, { 2052, 2053, 1 } },
		{ 5, 5 },
	}, {
		"2049 regions", { 1, 0, 20 }, 2, 0x3, true,
		{ { 0, 2048, 0 }, { 2048, 2049, 1 } },
		{ 0, 0 },
	}, {
		"node of 8 regions at 2048", { 1, 0, 20 }, 2, 0x3, true,
		{ { 0, 2048, 0 }, { 2048, 2056, 1 } },
		{ 0, 0 },
	}, {
		"node of 12 regions at 2048", { 1, 0, 20 }, 2, 0x3, true,
		{ { 0, 2048, 0 }, { 2048, 2060, 1 } },
		{ 0, 12 },
	}, {
		"hole of 2047", { 1, 0, 20 }, 2, 0x3, true,
		{ { 0, 100, 0 }, { 2147, 2247, 1 } },
		{ 0, 199 },
	}, {
		"hole of 2048", { 1, 0, 20 }, 2, 0x3, true,
		{ { 0, 100, 0 }, { 2148, 2248, 1 } },
		{ 0, 200 },
	}, {
		"hole of 2049", { 1, 0, 20 }, 2, 0x3, true,
		{ { 0, 100, 0 }, { 2149, 2249, 1 } },
		{ 0, 201 },
	}, {
		/* The best window has 64 regions, that at 0 has one less. */
		"at the limit of 1/64", { 1 }, 1, 0x1, true,
		{ { 0, 1, 0 }, { 1986, 2050, 0 } },
		{ 0 },
	}, {
		"below the limit of 1/64", { 1 }, 1, 0x1, true,
		{ { 0, 1, 0 }, { 1987, 2051, 0 } },
		{ 3 },
	}, {
		"distance 255", { 1, 0, 255 }, 2, 0x3, true,
		{ { 0, 2048, 0 }, { 4096, 4112, 1 } },
		{ 0, 2064 },
	}, {
		"all distances 10", { 1, 0, 10 }, 2, 0x3, true,
		{ { 0, 2048, 0 }, { 2048, 4096, 1 } },
		{ 0, 0 },
	},
};

KUNIT_ARRAY_PARAM_DESC(machine, machines, name);

static u8 distances[MAX_NODES][MAX_NODES];

static int distance(int from, int to)
{
	return distances[from][to];
}

static void set_distances(const struct machine *m, bool renumber)
{
	unsigned int a, b, last = m->nodes - 1;
	const struct slit *s = &m->slit;

	for (a = 0; a < m->nodes; a++) {
		for (b = 0; b < m->nodes; b++) {
			u8 *d = renumber ? &distances[last - a][last - b] : &distances[a][b];

			if (a == b)
				*d = 10;
			else if (s->memory_near && max(a, b) >= 2)
				*d = a % 2 == b % 2 ? s->memory_near : s->memory_far;
			else
				*d = a / s->per_socket == b / s->per_socket ? s->near : s->far;
		}
	}
}

/* Add [first, end), in pieces that end at multiples of @cut. */
static unsigned int add_ram(struct rmpopt_ram *ram, unsigned int nr, unsigned int first,
			    unsigned int end, int nid, unsigned int cut)
{
	for (; first < end; first = ram[nr++].end) {
		ram[nr].first = first;
		ram[nr].end = min(end, roundup(first + 1, cut));
		ram[nr].nid = nid;
	}

	return nr;
}

static void check_machine(struct kunit *test, unsigned int cut, bool renumber)
{
	static const unsigned int holes[] = { 2, 4, 1012, 1024, UINT_MAX, UINT_MAX };
	unsigned int windows[MAX_NODES], nr = 0, node, i;
	const struct machine *m = test->param_value;
	const struct rmpopt_ram *piece;
	const unsigned int *expected;
	struct rmpopt_ram *ram;
	nodemask_t nodes = NODE_MASK_NONE;

	ram = kunit_kcalloc(test, MAX_PIECES, sizeof(*ram), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ram);

	expected = renumber && m->renumbered[m->nodes - 1] ? m->renumbered : m->windows;
	set_distances(m, renumber);
	for (piece = m->ram; piece->end; piece++) {
		unsigned int first = piece->first;
		int nid = renumber ? m->nodes - 1 - piece->nid : piece->nid;

		for (i = 0; !m->as_is && holes[i] < piece->end; i += 2) {
			if (holes[i + 1] <= first)
				continue;
			nr = add_ram(ram, nr, first, holes[i], nid, cut);
			first = max(first, holes[i + 1]);
		}
		nr = add_ram(ram, nr, first, piece->end, nid, cut);
	}
	KUNIT_ASSERT_LE(test, nr, MAX_PIECES);

	for (node = 0; node < m->nodes; node++) {
		if (m->nodes_with_cores & BIT(node))
			node_set(renumber ? m->nodes - 1 - node : node, nodes);
	}
	rmpopt_choose_windows(ram, nr, &nodes, distance, windows);
	for (node = 0; node < m->nodes; node++) {
		if (m->nodes_with_cores & BIT(node))
			KUNIT_EXPECT_EQ_MSG(test,
					    windows[renumber ? m->nodes - 1 - node : node],
					    expected[node], "node %u", node);
	}
}

static void test_machine(struct kunit *test)
{
	check_machine(test, UINT_MAX / 2, false);
}

/* That a node's memory is known in pieces does not matter. */
static void test_pieces(struct kunit *test)
{
	check_machine(test, 61, false);
}

static void test_renumbered(struct kunit *test)
{
	check_machine(test, UINT_MAX / 2, true);
}

static unsigned int score(const struct rmpopt_ram *ram, unsigned int nr, unsigned int first,
			  int nid)
{
	unsigned int sum = 0, i;

	for (i = 0; i < nr; i++) {
		unsigned int start = max(ram[i].first, first);
		unsigned int end = min(ram[i].end, first + RMPOPT_MAX_REGIONS);
		int d = distance(nid, ram[i].nid);

		if (start < end)
			sum += (end - start) * (65536 / d / d);
	}

	return sum;
}

/* All windows that are possible, one after the other. */
static unsigned int best_score(const struct rmpopt_ram *ram, unsigned int nr, int nid,
			       unsigned int *best)
{
	unsigned int first = ram[0].first, highest = 0;

	*best = first;
	do {
		unsigned int this = score(ram, nr, first, nid);

		if (this > highest) {
			highest = this;
			*best = first;
		}
	} while (first++ + RMPOPT_MAX_REGIONS < ram[nr - 1].end);

	return highest;
}

static void test_random_machines(struct kunit *test)
{
	static const unsigned int lengths[] = { 1, 2, 12, 64, 2047, 2048, 2049 };
	static const u8 far[] = { 10, 11, 12, 20, 32, 50, 255 };
	unsigned int windows[MAX_NODES], machine, i, a, b;
	struct rmpopt_ram ram[8];
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 20261127);

	for (machine = 0; machine < 1000; machine++) {
		unsigned int nr = 1 + prandom_u32_state(&rnd) % ARRAY_SIZE(ram);
		unsigned int nr_nodes = 1 + prandom_u32_state(&rnd) % 4, pos = 0;
		nodemask_t nodes = NODE_MASK_NONE;

		for (a = 0; a < nr_nodes; a++) {
			for (b = 0; b < nr_nodes; b++)
				distances[a][b] = a == b ? 10 :
						  far[prandom_u32_state(&rnd) % ARRAY_SIZE(far)];
			if (prandom_u32_state(&rnd) % 4)
				node_set(a, nodes);
		}
		for (i = 0; i < nr; i++) {
			u32 r = prandom_u32_state(&rnd);

			pos += r % 4 ? r / 4 % 400 : lengths[r / 4 % ARRAY_SIZE(lengths)];
			ram[i].first = pos;
			r = prandom_u32_state(&rnd);
			pos += r % 4 ? 1 + r / 4 % 400 : lengths[r / 4 % ARRAY_SIZE(lengths)];
			ram[i].end = pos;
			ram[i].nid = prandom_u32_state(&rnd) % nr_nodes;
		}

		rmpopt_choose_windows(ram, nr, &nodes, distance, windows);

		for_each_node_mask(a, nodes) {
			unsigned int best, enough = best_score(ram, nr, a, &best);
			unsigned int expected = best;

			enough -= enough / 64;
			if (score(ram, nr, ram[0].first, a) >= enough) {
				expected = ram[0].first;
			} else {
				for_each_node_mask(b, nodes) {
					if (b == a)
						break;
					if (score(ram, nr, windows[b], a) >= enough) {
						expected = windows[b];
						break;
					}
				}
			}
			KUNIT_EXPECT_EQ_MSG(test, windows[a], expected, "machine %u, node %u",
					    machine, a);
		}
		cond_resched();
	}
}

static int window_test_init(struct kunit *test)
{
	if (MAX_NUMNODES < MAX_NODES)
		kunit_skip(test, "needs a kernel for %d nodes", MAX_NODES);

	return 0;
}

static struct kunit_case window_test_cases[] = {
	KUNIT_CASE_PARAM(test_machine, machine_gen_params),
	KUNIT_CASE_PARAM(test_pieces, machine_gen_params),
	KUNIT_CASE_PARAM(test_renumbered, machine_gen_params),
	KUNIT_CASE_SLOW(test_random_machines),
	{}
};

static struct kunit_suite window_test_suite = {
	.name = "snp_rmpopt_window",
	.init = window_test_init,
	.test_cases = window_test_cases,
};

kunit_test_suite(window_test_suite);

MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
MODULE_DESCRIPTION("KUnit tests of the windows of RMPOPT tables");
MODULE_LICENSE("GPL");
