// SPDX-License-Identifier: GPL-2.0-only
/* A random walk of commands over a few pages and guests, each judged by a model. */
#include "psp.h"
#include "tests.h"

#define AREA (R0 + 30 * SZ_2M)
#define NR_PAGES 12
#define NR_ASIDS 3

/* What the PSP knows of the page, while it is a context. */
static struct guest {
	u8 state, asid;
	u64 policy;
	u8 digest[48];
} guests[NR_PAGES];

/* By whom an ASID is used, and whether it is to be flushed. */
static struct { struct guest *owner; bool dirty; } asids[NR_ASIDS + 1];
static u8 *pages[NR_PAGES];
static u64 seed, seen[64];

static u32 rnd(u32 n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (seed >> 33) % n;
}

static u64 page(u32 n)
{
	/* The first and the last of the 2 MB take part. */
	return AREA + (n == NR_PAGES - 1 ? 511 : n) * SZ_4K;
}

/* A page, more often one whose entry is as given. */
static u32 rnd_page(u64 mask, u64 entry)
{
	u32 n = rnd(NR_PAGES);

	for (u32 i = 0; i < NR_PAGES && rnd(8); i++, n = (n + 1) % NR_PAGES) {
		if ((model_raw(page(n)) & mask) == entry)
			break;
	}
	return n;
}

static u32 rnd_context(void)
{
	return rnd_page(~0ULL, E_CONTEXT);
}

static bool is_context(u32 n)
{
	return model_raw(page(n)) == E_CONTEXT;
}

static bool pre_guest(u64 raw)
{
	return (raw & (E_FIRMWARE | E_VMSA | E_VALIDATED)) == E_FIRMWARE && raw & E_ASID(0x3ff);
}

static u32 to_page(u32 n)
{
	u64 raw = model_raw(page(n));

	if (raw != E_FIRMWARE)
		return INVALID_PAGE_STATE;
	model_put(page(n), E_RECLAIM);
	return SUCCESS;
}

static bool step_update(void)
{
	u32 n = rnd_page(E_IMMUTABLE, 0), what = rnd(5), asid = 1 + rnd(NR_ASIDS);
	u32 before = bad_model;

	switch (what) {
	case 0:
		update(page(n), 0, 0, 0, 0, 0);
		break;
	case 1:
	case 2:
		update(page(n), 0, 1, 0, 1, 0);
		break;
	default:
		update(page(n), (u64)rnd(1 << 30) << 12, 1, 0, rnd(4) > 0, asid);
	}
	return bad_model == before;
}

static bool step_store(void)
{
	u32 n = rnd(NR_PAGES);
	bool block = model_assigned(page(n));

	return try_store(pages[n] + rnd(511) * 8, seed, rnd(NR_STORES - 1)) == (block ? VEC_PF : NO_TRAP);
}

static bool step_reclaim(void)
{
	u32 n = rnd(NR_PAGES), want = INVALID_PAGE_STATE;
	u64 raw = model_raw(page(n));

	if (raw == E_FIRMWARE || raw == E_RECLAIM || pre_guest(raw)) {
		want = SUCCESS;
		model_put(page(n), E_RECLAIM);
	}
	seen[want]++;
	return psp_good(psp_reclaim(page(n)), want);
}

static bool step_gctx(void)
{
	u32 n = rnd_page(~0ULL, E_FIRMWARE), want = INVALID_PAGE_STATE;

	if (model_raw(page(n)) == E_FIRMWARE) {
		want = SUCCESS;
		model_put(page(n), E_CONTEXT);
		memset(&guests[n], 0, sizeof(guests[n]));
	}
	seen[want]++;
	return psp_good(psp_gctx(page(n)), want);
}

static bool step_start(void)
{
	u32 n = rnd_context(), want = SUCCESS;
	u64 policy = POLICY | rnd(4) * BIT(18);

	if (!rnd(10))
		policy &= ~BIT(17);
	if (!is_context(n))
		want = INVALID_GUEST;
	else if (guests[n].state)
		want = INVALID_GUEST_STATE;
	else if (!(policy & BIT(17)))
		want = POLICY_FAILURE;
	/* Which of two faults is named first is open for a bad policy. */
	if (want && want != POLICY_FAILURE && !(policy & BIT(17)))
		want = FAILS;
	if (!want) {
		guests[n].state = 1;
		guests[n].policy = policy;
	}
	seen[want & 63]++;
	return psp_good(psp_start(page(n), policy), want);
}

static bool step_activate(void)
{
	u32 n = rnd_context(), asid = rnd(12) ? 1 + rnd(NR_ASIDS) : 0, want = SUCCESS;
	struct guest *g = &guests[n];
	/* Which of two is named first is open. */
	bool both = (asids[asid].owner && asids[asid].owner != g) + (g->asid > 0) + asids[asid].dirty > 1;

	if (!is_context(n))
		want = INVALID_GUEST;
	else if (!g->state)
		want = INVALID_GUEST_STATE;
	else if (!asid)
		want = g->asid ? FAILS : INVALID_ASID;
	else if (both)
		want = FAILS;
	else if (asids[asid].owner && asids[asid].owner != g)
		want = ASID_OWNED;
	else if (g->asid)
		want = ACTIVE;
	else if (asids[asid].dirty)
		want = DFFLUSH_REQUIRED;
	if (!want) {
		g->asid = asid;
		asids[asid].owner = g;
	}
	seen[want & 63]++;
	return psp_good(psp_activate(page(n), asid), want);
}

static void extend(struct guest *g, u32 type, u32 n)
{
	struct {
		u8 digest[48], contents[48];
		u16 length;
		u8 type, rest[5];
		u64 gpa;
	} __packed info = { .length = 0x70, .type = type };

	memcpy(info.digest, g->digest, 48);
	info.gpa = model_raw(page(n)) & 0x7fffffffff000ULL;
	if (type <= VMSA)
		sha384(phys(page(n)), SZ_4K, info.contents);
	sha384(&info, sizeof(info), g->digest);
}

static bool step_launch(void)
{
	/* Not CPUID, which looks at the contents. */
	u32 n = rnd_context(), type = rnd(12) ? 1 + rnd(5) : 7 * rnd(2), want = SUCCESS;
	struct guest *g = &guests[n];
	u32 p = rnd_page(E_FIRMWARE | E_ASID(0x3ff), E_FIRMWARE | E_ASID(g->asid));
	u64 raw = model_raw(page(p));

	if (!type || type > 6)
		want = INVALID_PARAM;
	else if (!is_context(n))
		want = INVALID_GUEST;
	else if (g->state != 1)
		want = INVALID_GUEST_STATE;
	else if (!g->asid)
		want = INACTIVE;
	else if (!pre_guest(raw))
		want = INVALID_PAGE_STATE;
	else if ((raw >> 51 & 0x3ff) != g->asid)
		want = INVALID_PAGE_OWNER;
	if (!want) {
		extend(g, type, p);
		model_put(page(p), (raw & ~E_IMMUTABLE) | E_VALIDATED | (type == VMSA ? E_VMSA : 0));
	}
	seen[want]++;
	return psp_good(psp_update(page(n), type, page(p)), want);
}

static bool step_finish(void)
{
	u32 n = rnd_context(), want = SUCCESS, how = rnd(4);
	struct guest *g = &guests[n];
	struct psp_id_block id = { .policy = g->policy };

	memcpy(id.digest, g->digest, 48);
	if (!is_context(n))
		want = INVALID_GUEST;
	else if (g->state != 1)
		want = INVALID_GUEST_STATE;
	else if (!g->asid)
		want = INACTIVE;
	else if (how == 1)
		want = BAD_MEASUREMENT;
	id.digest[rnd(48)] ^= how == 1;
	if (!want) {
		g->state = 2;
		if (how)
			psp_sign(&id);
	}
	seen[want]++;
	return psp_good(psp_finish(page(n), how ? &id : NULL), want);
}

static bool step_status(void)
{
	u32 n = rnd_context(), p = rnd_page(~0ULL, E_FIRMWARE), want;
	const struct psp_guest_status *s = phys(page(p));
	const struct guest *g = &guests[n];

	want = is_context(n) ? to_page(p) : INVALID_GUEST;
	seen[want]++;
	return psp_good(psp_guest_status(page(n), page(p)), want) &&
	       (want || (s->state == g->state && s->asid == g->asid && s->policy == g->policy));
}

static bool step_platform(void)
{
	u32 p = rnd_page(~0ULL, E_FIRMWARE), want = to_page(p);

	seen[want]++;
	return psp_good(psp_snp_status(page(p)), want);
}

static bool step_decommission(void)
{
	u32 n = rnd(3) ? rnd(NR_PAGES) : rnd_context(), want = is_context(n) ? SUCCESS : INVALID_GUEST;
	u32 asid = guests[n].asid;

	if (!want) {
		model_put(page(n), E_FIRMWARE);
		asids[asid].owner = NULL;
		asids[asid].dirty = asid > 0;
		guests[n].asid = 0;
	}
	seen[want]++;
	return psp_good(psp_decommission(page(n)), want);
}

static bool step_flush(void)
{
	for (u32 i = 0; i <= NR_ASIDS; i++)
		asids[i].dirty = false;
	return psp_good(psp_call(SNP_DF_FLUSH, NULL, 0), SUCCESS);
}

static const struct { u32 weight; bool (*fn)(void); const char *name; } steps[] = {
	{ 6, step_update, "RMPUPDATE" }, { 2, step_store, "write" }, { 2, step_reclaim, "SNP_PAGE_RECLAIM" },
	{ 2, step_gctx, "SNP_GCTX_CREATE" }, { 3, step_start, "SNP_LAUNCH_START" },
	{ 3, step_activate, "SNP_ACTIVATE" }, { 6, step_launch, "SNP_LAUNCH_UPDATE" },
	{ 1, step_finish, "SNP_LAUNCH_FINISH" }, { 1, step_status, "SNP_GUEST_STATUS" },
	{ 1, step_platform, "SNP_PLATFORM_STATUS" }, { 1, step_decommission, "SNP_DECOMMISSION" },
	{ 1, step_flush, "SNP_DF_FLUSH" },
};

static void walk(void *arg)
{
	u32 *bad = arg, sum = 0, n, i = 0;

	for (n = 0; n < ARRAY_SIZE(steps); n++)
		sum += steps[n].weight;
	for (n = rnd(sum); n >= steps[i].weight; i++)
		n -= steps[i].weight;
	if (!steps[i].fn()) {
		note("%s", steps[i].name);
		++*bad;
	}
}

void tests_psp_random(void)
{
	static const u8 results[] = {
		SUCCESS, INVALID_GUEST_STATE, POLICY_FAILURE, INACTIVE, BAD_MEASUREMENT, ASID_OWNED,
		INVALID_ASID, DFFLUSH_REQUIRED, INVALID_GUEST, ACTIVE, INVALID_PARAM, INVALID_PAGE_STATE,
		INVALID_PAGE_OWNER
	};
	u32 total = flag_value("psp-steps", 6000), bad = 0, missing = 0;

	section("psp random");
	seed = flag_value("seed", 1);
	memset(guests, 0, sizeof(guests));
	for (u32 i = 0; i < NR_PAGES; i++)
		pages[i] = map_4k(80 + i, page(i), PTE_ALL);
	for (u32 i = 0; i < total; i++)
		run_on(rnd(nr_cpus), walk, &bad);
	is(bad, 0, "%u steps: results and entries as the model says", total);
	for (u32 i = 0; i < ARRAY_SIZE(results); i++) {
		if (!seen[results[i]]) {
			note("status %x was not seen", results[i]);
			missing++;
		}
	}
	is(missing, 0, "it has seen all results");
	for (u32 i = 0; i < NR_PAGES; i++) {
		if (is_context(i))
			drop_guest(page(i));
		else
			to_hypervisor(page(i));
	}
	gives(psp_call(SNP_DF_FLUSH, NULL, 0), SUCCESS, "SNP_DF_FLUSH");
	is(check_raw(AREA), 0, "all is free");
}
