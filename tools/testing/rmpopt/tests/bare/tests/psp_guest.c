// SPDX-License-Identifier: GPL-2.0-only
/* The secure processor: commands on pages and guests. */
#include "psp.h"
#include "tests.h"

#define GPA(n) (0x100000ULL + (n) * SZ_4K)
/* Where pages in the states are */
#define PSP_S (R0 + 9 * SZ_2M)
#define LARGE (R0 + 12 * SZ_2M)
#define LARGE_GUEST (R0 + 13 * SZ_2M)
#define ZEN_VMSA_GPA 0xfffffffff000ULL

/* Contexts: of the page states, of the tests, of another guest. */
#define CTX_STATES PSP_G
#define CTX (PSP_G + SZ_4K)
#define CTX_OTHER (PSP_G + 2 * SZ_4K)
#define PAGE (PSP_G + 20 * SZ_4K)
#define TARGET (PSP_G + 21 * SZ_4K)

#define ASID_STATES 1
#define ASID_GUEST 2
#define ASID_OTHER 3

/* Pages in all states, for commands on a page. */
enum state {
	ST_HYPERVISOR, ST_FIXED, ST_FIRMWARE, ST_RECLAIM, ST_CONTEXT, ST_PRE_GUEST, ST_OTHER_PRE_GUEST,
	ST_GUEST_INVALID, ST_GUEST_VALID, ST_VMSA, ST_RMP, ST_IOMMU, ST_TMR, ST_UNCOVERED, NR_STATES
};

static const char *const state_names[NR_STATES] = {
	"Hypervisor", "HV-Fixed", "Firmware", "Reclaim", "Context", "Pre-Guest", "another guest's Pre-Guest",
	"Guest-Invalid", "Guest-Valid", "VMSA", "RMP", "IOMMU", "TMR", "uncovered",
};

static u8 *window(u64 pa)
{
	return map_4k(70, pa, PTE_ALL);
}

static u64 state_page(enum state st)
{
	switch (st) {
	case ST_FIXED:
		return PSP_FIXED;
	case ST_RMP:
		return ALIGN_DOWN((u64)rmp_raw(R0), SZ_4K);
	case ST_IOMMU:
		return PSP_IOMMU;
	case ST_TMR:
		return PSP_TMR + SZ_4K;
	case ST_UNCOVERED:
		return NOWHERE;
	default:
		/* The first is 2 MB aligned. */
		return PSP_S + (st - ST_FIRMWARE + NR_STATES) % NR_STATES * SZ_4K;
	}
}

static void assign(u64 pa, u64 gpa, u32 immutable, u32 asid)
{
	if (update(pa, gpa, 1, 0, immutable, asid) != RMP_OK)
		note("page %llx cannot be assigned", pa);
}

static void guest_page(u64 gctx, u32 type, u64 pa, u64 gpa, u32 asid)
{
	assign(pa, gpa, 1, asid);
	model_put(pa, E_GUEST(gpa, asid) | (type == VMSA ? E_VMSA : 0));
	if (psp_update(gctx, type, pa))
		note("page %llx cannot be launched", pa);
}

static void make_state(enum state st)
{
	u64 pa = state_page(st), gpa = GPA(st);

	switch (st) {
	case ST_FIRMWARE:
		to_firmware(pa);
		break;
	case ST_RECLAIM:
		assign(pa, 0, 0, 0);
		break;
	case ST_CONTEXT:
		make_guest(pa, 0);
		break;
	case ST_PRE_GUEST:
	case ST_OTHER_PRE_GUEST:
		assign(pa, gpa, 1, st == ST_PRE_GUEST ? ASID_STATES : ASID_OTHER);
		break;
	case ST_GUEST_INVALID:
		assign(pa, gpa, 0, ASID_STATES);
		break;
	case ST_GUEST_VALID:
		guest_page(CTX_STATES, NORMAL, pa, gpa, ASID_STATES);
		break;
	case ST_VMSA:
		guest_page(CTX_STATES, VMSA, pa, gpa, ASID_STATES);
		break;
	default:
		break;
	}
}

static void drop_state(enum state st)
{
	u64 pa = state_page(st);

	if (st >= ST_RMP || st <= ST_FIXED)
		return;
	if (model_raw(pa) == E_CONTEXT)
		drop_guest(pa);
	else
		to_hypervisor(pa);
}

static void states_setup(void)
{
	make_guest(CTX_STATES, ASID_STATES);
	tmr_make();
	for (u32 st = 0; st < NR_STATES; st++)
		make_state(st);
	is(psp_good(0, 0), 1, "pages in all states");
}

static void states_drop(void)
{
	for (u32 st = 0; st < NR_STATES; st++)
		drop_state(st);
	drop_guest(CTX_STATES);
	tmr_drop();
}

static void every_state(const char *what, u32 (*fn)(u64 pa), const u32 *want, u64 entry)
{
	for (u32 st = 0; st < NR_STATES; st++) {
		u64 pa = state_page(st);

		if (want[st] == SKIP || (st == ST_IOMMU && !psp_has_iommu()))
			continue;
		if (want[st] == SUCCESS)
			model_put(pa, entry);
		gives(fn(pa), want[st], "%s: %s page", what, state_names[st]);
		if (want[st] == SUCCESS) {
			drop_state(st);
			make_state(st);
		}
	}
}

static u32 reclaim_large(u64 pa)
{
	return psp_reclaim(pa | 1);
}

static u32 status_of_states(u64 pa)
{
	return psp_guest_status(CTX_STATES, pa);
}

static u32 update_states(u64 pa)
{
	return psp_update(CTX_STATES, UNMEASURED, pa);
}

static u32 status_to_target(u64 gctx)
{
	return psp_guest_status(gctx, TARGET);
}

static u32 start_plain(u64 gctx)
{
	return psp_start(gctx, POLICY);
}

static u32 activate_guest(u64 gctx)
{
	return psp_activate(gctx, ASID_GUEST);
}

static u32 update_page(u64 gctx)
{
	return psp_update(gctx, UNMEASURED, PAGE);
}

static u32 finish_plain(u64 gctx)
{
	return psp_finish(gctx, NULL);
}

#define P_STATE INVALID_PAGE_STATE

/* Every command that takes a page, on pages in all states. */
void tests_psp_states(void)
{
	static const u32 reclaims[NR_STATES] = {
		P_STATE, P_STATE, SUCCESS, SUCCESS, P_STATE, SUCCESS, SUCCESS, P_STATE, P_STATE, P_STATE,
		INVALID_ADDRESS, P_STATE, P_STATE, INVALID_ADDRESS
	}, creates[NR_STATES] = {
		P_STATE, P_STATE, SUCCESS, P_STATE, P_STATE, P_STATE, P_STATE, P_STATE, P_STATE, P_STATE,
		P_STATE, P_STATE, P_STATE, INVALID_ADDRESS
	}, outputs[NR_STATES] = {
		P_STATE, P_STATE, SUCCESS, P_STATE, P_STATE, P_STATE, P_STATE, P_STATE, P_STATE, P_STATE,
		FAILS, FAILS, FAILS, INVALID_ADDRESS
	}, updates[NR_STATES] = {
		P_STATE, P_STATE, P_STATE, P_STATE, P_STATE, SUCCESS, INVALID_PAGE_OWNER, P_STATE, P_STATE,
		P_STATE, FAILS, P_STATE, P_STATE, INVALID_ADDRESS
	}, larges[NR_STATES] = {
		SKIP, SKIP, INVALID_PAGE_SIZE, SKIP, SKIP, SKIP, SKIP, SKIP, SKIP, SKIP, SKIP, SKIP, SKIP,
		SKIP
	}, guests[NR_STATES] = {
		INVALID_GUEST, INVALID_GUEST, INVALID_GUEST, INVALID_GUEST, SKIP, INVALID_GUEST,
		INVALID_GUEST, INVALID_GUEST, INVALID_GUEST, INVALID_GUEST, INVALID_GUEST, INVALID_GUEST,
		INVALID_GUEST, FAILS
	};
	static const struct { u32 (*fn)(u64 gctx); const char *name; } by_guest[] = {
		{ start_plain, "SNP_LAUNCH_START" }, { activate_guest, "SNP_ACTIVATE" },
		{ update_page, "SNP_LAUNCH_UPDATE" }, { finish_plain, "SNP_LAUNCH_FINISH" },
		{ status_to_target, "SNP_GUEST_STATUS" }, { psp_decommission, "SNP_DECOMMISSION" },
	};

	section("psp page states");
	states_setup();
	every_state("SNP_PAGE_RECLAIM", psp_reclaim, reclaims, E_RECLAIM);
	every_state("SNP_PAGE_RECLAIM of 2M", reclaim_large, larges, 0);
	every_state("SNP_GCTX_CREATE", psp_gctx, creates, E_CONTEXT);
	every_state("SNP_PLATFORM_STATUS", psp_snp_status, outputs, E_RECLAIM);
	every_state("SNP_FEATURE_INFO", psp_feature_info, outputs, E_RECLAIM);
	every_state("SNP_GUEST_STATUS", status_of_states, outputs, E_RECLAIM);
	every_state("SNP_LAUNCH_UPDATE", update_states, updates, E_GUEST(GPA(ST_PRE_GUEST), ASID_STATES));
	section("psp guests by page state");
	to_firmware(TARGET);
	for (u32 i = 0; i < ARRAY_SIZE(by_guest); i++)
		every_state(by_guest[i].name, by_guest[i].fn, guests, 0);
	section("psp page states");
	to_hypervisor(TARGET);
	states_drop();
	is(psp_good(0, 0), 1, "all is free again");
}

/* Host accesses to what the PSP has. */
static void access(u64 pa, bool blocked, const char *text)
{
	u8 *p = window(pa);
	u64 v;

	is(try_store(p + 0x800, 1, STORE_8), blocked ? VEC_PF : NO_TRAP, "%s page: write", text);
	if (blocked)
		is(this_cpu()->trap.error, PF_P | PF_W | PF_RMP, "faults because of the RMP");
	is(try_store_user(p + 0x800, 1), blocked ? VEC_PF : NO_TRAP, "%s page: user write", text);
	is(try_load(p, &v), NO_TRAP, "%s page: read", text);
}

static void accesses(void)
{
	section("psp host accesses");
	states_setup();
	for (u32 st = 0; st < ST_UNCOVERED; st++) {
		if (st != ST_IOMMU || psp_has_iommu())
			access(state_page(st), st > ST_FIXED, state_names[st]);
	}
	states_drop();
	access(state_page(ST_GUEST_VALID), false, "a freed");
}

static void reclaim(void)
{
	u32 bad = 0;

	section("psp reclaim");
	to_firmware(PAGE);
	for (u32 bit = 1; bit < 12; bit++)
		bad += !psp_good(psp_reclaim(PAGE | BIT(bit)), INVALID_ADDRESS);
	is(bad, 0, "bits 11:1");
	gives(psp_reclaim(rmp_base), INVALID_ADDRESS, "first page of the RMP");
	gives(psp_reclaim(rmp_memory_end - SZ_4K), INVALID_ADDRESS, "last page of the RMP");
	to_hypervisor(PAGE);

	is(update(LARGE, 0, 1, 1, 1, 0), RMP_OK, "2M to the firmware");
	gives(psp_reclaim(LARGE), INVALID_PAGE_SIZE, "2M as 4K");
	gives(psp_reclaim(LARGE + SZ_4K), INVALID_PAGE_SIZE, "a page of it");
	gives(psp_reclaim(LARGE + SZ_4K + 1), INVALID_ADDRESS, "2M not aligned");
	if (!gives(psp_gctx(LARGE), INVALID_PAGE_SIZE, "2M for a context")) {
		psp_decommission(LARGE);
		check_areas();
		return;
	}
	for (u32 i = 0; i < 512; i++)
		model_put(LARGE + i * SZ_4K, E_RECLAIM | E_2M);
	gives(psp_reclaim(LARGE | 1), SUCCESS, "2M");
	gives(psp_reclaim(LARGE | 1), SUCCESS, "once more");
	is(free_2m(LARGE), RMP_OK, "free it");
}

static void gctx(void)
{
	u32 bad = 0;

	section("psp contexts");
	to_firmware(CTX);
	for (u32 bit = 0; bit < 12; bit++)
		bad += !psp_good(psp_gctx(CTX | BIT(bit)), INVALID_ADDRESS);
	is(bad, 0, "not aligned");
	to_hypervisor(CTX);
	/* A 2 MB aligned one. */
	make_guest(PSP_S, 0);
	is(psp_good(0, 0), 1, "2 MB aligned");
	drop_guest(PSP_S);
	is(psp_good(0, 0), 1, "and gone");
}

static void guest_is(u64 ctx, u64 policy, u32 asid, u32 state)
{
	struct psp_guest_status *s = (void *)window(TARGET);

	to_firmware(TARGET);
	model_put(TARGET, E_RECLAIM);
	gives(psp_guest_status(ctx, TARGET), SUCCESS, "SNP_GUEST_STATUS");
	ok(s->policy == policy && s->asid == asid && s->state == state,
	   "policy %llx, ASID %u, state %u", policy, asid, state);
	if (s->policy != policy || s->asid != asid || s->state != state)
		note("policy %llx, ASID %u, state %u", s->policy, s->asid, s->state);
	to_hypervisor(TARGET);
}

static u32 guest_count(void)
{
	const struct psp_snp_status *s = (void *)window(TARGET);
	u32 n;

	to_firmware(TARGET);
	model_put(TARGET, E_RECLAIM);
	gives(psp_snp_status(TARGET), SUCCESS, "SNP_PLATFORM_STATUS");
	n = s->guests;
	to_hypervisor(TARGET);
	return n;
}

static u32 raw_start(u64 policy, u32 flags)
{
	struct psp_start s = { .gctx = CTX, .policy = policy, .flags = flags };

	return psp_call(SNP_LAUNCH_START, &s, sizeof(s));
}

static void launch_start(void)
{
	u32 r[4], bad = 0;
	bool smt;

	section("psp launch start");
	cpuid(0xb, 0, r);
	smt = (r[1] & 0xffff) > 1;
	to_firmware(CTX);
	model_put(CTX, E_CONTEXT);
	gives(psp_gctx(CTX), SUCCESS, "SNP_GCTX_CREATE");
	guest_is(CTX, 0, 0, 0);
	gives(psp_activate(CTX, ASID_GUEST), INVALID_GUEST_STATE, "SNP_ACTIVATE in init");
	assign(PAGE, GPA(0), 1, ASID_GUEST);
	gives(psp_update(CTX, NORMAL, PAGE), INVALID_GUEST_STATE, "SNP_LAUNCH_UPDATE in init");
	to_hypervisor(PAGE);
	gives(psp_finish(CTX, NULL), INVALID_GUEST_STATE, "SNP_LAUNCH_FINISH in init");

	gives(raw_start(POLICY, 1), UNSUPPORTED, "migration agent");
	gives(raw_start(POLICY, 2), UNSUPPORTED, "IMI");
	for (u32 bit = 2; bit < 32; bit++)
		bad += !psp_good(raw_start(POLICY, BIT(bit)), INVALID_PARAM);
	is(bad, 0, "reserved bits");
	gives(psp_start(CTX, POLICY & ~BIT(17)), POLICY_FAILURE, "policy bit 17 clear");
	for (u32 bit = 21; bit < 25; bit++)
		gives(psp_start(CTX, POLICY | BIT(bit)), POLICY_FAILURE, "policy bit %u", bit);
	gives(psp_start(CTX, POLICY | 0xff00), POLICY_FAILURE, "ABI major version");
	gives(psp_start(CTX, POLICY | 0x01ff), POLICY_FAILURE, "ABI minor version");
	gives(psp_start(CTX, POLICY | 0x0200), POLICY_FAILURE, "ABI 2.0");
	if (smt)
		gives(psp_start(CTX, BIT(17)), POLICY_FAILURE, "no SMT on a machine that has it");
	guest_is(CTX, 0, 0, 0);
	/* All that is allowed. */
	gives(psp_start(CTX, (smt ? POLICY : BIT(17)) | BIT(18) | BIT(19) | 0x0100), SUCCESS, "good policy");
	guest_is(CTX, (smt ? POLICY : BIT(17)) | BIT(18) | BIT(19) | 0x0100, 0, 1);
	gives(psp_start(CTX, POLICY), INVALID_GUEST_STATE, "once more");
	is(guest_count(), 1, "one guest");
	assign(PAGE, GPA(0), 1, ASID_GUEST);
	gives(psp_update(CTX, NORMAL, PAGE), INACTIVE, "SNP_LAUNCH_UPDATE before SNP_ACTIVATE");
	gives(psp_finish(CTX, NULL), INACTIVE, "SNP_LAUNCH_FINISH before SNP_ACTIVATE");
	to_hypervisor(PAGE);
	gives(psp_decommission(CTX | 8), FAILS, "context not aligned");
	drop_guest(CTX);
	is(guest_count(), 0, "no guest");
	to_firmware(CTX);
	gives(psp_decommission(CTX), INVALID_GUEST, "a former context");
	gives(psp_start(CTX, POLICY), INVALID_GUEST, "is none");
	to_hypervisor(CTX);
}

static void asids(void)
{
	const u32 max = max_snp_asid();
	const u32 wrong[] = { 0, max + 1, max + 2, 0x400, 0x10001, ~0U };
	u32 bad = 0;

	section("psp asids");
	make_guest(CTX, 0);
	for (u32 i = 0; i < ARRAY_SIZE(wrong); i++)
		gives(psp_activate(CTX, wrong[i]), INVALID_ASID, "ASID %u", wrong[i]);
	guest_is(CTX, POLICY, 0, 1);
	drop_guest(CTX);
	make_guest(CTX_OTHER, 0);
	for (u32 asid = 1; asid <= max; asid++) {
		make_guest(CTX, 0);
		bad += !psp_good(psp_activate(CTX, asid), SUCCESS);
		bad += !psp_good(psp_activate(CTX, asid), ACTIVE);
		bad += !psp_good(psp_activate(CTX, asid == max ? 1 : asid + 1), ACTIVE);
		bad += !psp_good(psp_activate(CTX_OTHER, asid), ASID_OWNED);
		model_put(CTX, E_FIRMWARE);
		bad += !psp_good(psp_decommission(CTX), SUCCESS);
		to_hypervisor(CTX);
		bad += !psp_good(psp_activate(CTX_OTHER, asid), DFFLUSH_REQUIRED);
	}
	for (u32 asid = 1; asid <= max; asid++)
		bad += psp_activate(CTX_OTHER, asid) != DFFLUSH_REQUIRED;
	is(bad, 0, "1 to %u: free, active, owned, to be flushed", max);
	gives(psp_call(SNP_DF_FLUSH, NULL, 0), SUCCESS, "SNP_DF_FLUSH");
	drop_guest(CTX_OTHER);
	for (u32 asid = 1; asid <= max; asid++) {
		make_guest(CTX, asid);
		bad += !psp_good(0, 0);
		drop_guest(CTX);
	}
	is(bad, 0, "all can be used after it");
	/* A guest that never was active leaves nothing to flush. */
	make_guest(CTX, ASID_GUEST);
	guest_is(CTX, POLICY, ASID_GUEST, 1);
	gives(psp_call(SNP_DF_FLUSH, NULL, 0), SUCCESS, "SNP_DF_FLUSH with an active guest");
	gives(psp_finish(CTX, NULL), SUCCESS, "SNP_LAUNCH_FINISH");
	gives(psp_activate(CTX, ASID_OTHER), ACTIVE, "SNP_ACTIVATE of a running guest");
	drop_guest(CTX);
}

static void update_params(void)
{
	struct psp_update good = { .gctx = CTX, .flags = NORMAL << 1, .address = PAGE }, s;
	u32 bad = 0;

	section("psp launch update parameters");
	make_guest(CTX, ASID_GUEST);
	assign(PAGE, GPA(0), 1, ASID_GUEST);
	gives(psp_update(CTX, 0, PAGE), INVALID_PARAM, "page type 0");
	gives(psp_update(CTX, NR_TYPES, PAGE), INVALID_PARAM, "page type 7");
	for (u32 bit = 4; bit < 32; bit++) {
		s = good;
		s.flags |= BIT(bit);
		bad += !psp_good(psp_call(SNP_LAUNCH_UPDATE, &s, sizeof(s)), INVALID_PARAM);
	}
	is(bad, 0, "IMI and reserved bits");
	for (u32 i = 0; i < 3; i++) {
		s = good;
		s.rsvd2 = i == 0;
		s.rsvd3 = i == 1;
		s.rsvd4 = i == 2;
		gives(psp_call(SNP_LAUNCH_UPDATE, &s, sizeof(s)), INVALID_PARAM, "reserved field %u", i);
	}
	for (u32 bit = 0; bit < 12; bit++)
		bad += !psp_good(psp_update(CTX, NORMAL, PAGE | BIT(bit)), INVALID_ADDRESS);
	is(bad, 0, "not aligned");
	s = good;
	s.flags |= 1;
	gives(psp_call(SNP_LAUNCH_UPDATE, &s, sizeof(s)), INVALID_ADDRESS, "2M not aligned");
	to_hypervisor(PAGE);
	assign(LARGE_GUEST, GPA(512), 1, ASID_GUEST);
	s.address = LARGE_GUEST;
	gives(psp_call(SNP_LAUNCH_UPDATE, &s, sizeof(s)), INVALID_PAGE_SIZE, "4K as 2M");
	to_hypervisor(LARGE_GUEST);
	is(update(LARGE_GUEST, 0x40000000, 1, 1, 1, ASID_GUEST), RMP_OK, "a 2M entry");
	gives(psp_update(CTX, NORMAL, LARGE_GUEST), INVALID_PAGE_SIZE, "2M as 4K");
	s.flags = VMSA << 1 | 1;
	gives(psp_call(SNP_LAUNCH_UPDATE, &s, sizeof(s)), INVALID_PAGE_SIZE, "VMSA of 2M");
	s.flags = ZERO << 1 | 1;
	for (u32 i = 0; i < 512; i++)
		model_put(LARGE_GUEST + i * SZ_4K, E_GUEST(0x40000000 + i * SZ_4K, ASID_GUEST) | E_2M);
	gives(psp_call(SNP_LAUNCH_UPDATE, &s, sizeof(s)), SUCCESS, "2M of zeros");
	gives(psp_call(SNP_LAUNCH_UPDATE, &s, sizeof(s)), P_STATE, "once more");
	is(free_2m(LARGE_GUEST), RMP_OK, "free it");

	/* Too many CPUID functions. */
	for (u32 n = 64; n < 66; n++) {
		*(u32 *)window(PAGE) = n;
		assign(PAGE, GPA(0), 1, ASID_GUEST);
		if (n <= 64)
			model_put(PAGE, E_GUEST(GPA(0), ASID_GUEST));
		gives(psp_update(CTX, CPUID_PAGE, PAGE), n > 64 ? INVALID_PARAM : SUCCESS,
		      "%u CPUID functions", n);
		to_hypervisor(PAGE);
		memset(window(PAGE), 0, SZ_4K);
	}
	gives(psp_finish(CTX, NULL), SUCCESS, "SNP_LAUNCH_FINISH");
	guest_is(CTX, POLICY, ASID_GUEST, 2);
	assign(PAGE, GPA(0), 1, ASID_GUEST);
	gives(psp_update(CTX, NORMAL, PAGE), INVALID_GUEST_STATE, "SNP_LAUNCH_UPDATE of a running guest");
	to_hypervisor(PAGE);
	gives(psp_finish(CTX, NULL), INVALID_GUEST_STATE, "SNP_LAUNCH_FINISH of a running guest");
	gives(psp_start(CTX, POLICY), INVALID_GUEST_STATE, "SNP_LAUNCH_START of a running guest");
	drop_guest(CTX);
}

/* The launch digest. */

static struct psp_id_block id;

struct page_info {
	u8 digest[48], contents[48];
	u16 length;
	u8 type, imi, vmpl3, vmpl2, vmpl1, zero;
	u64 gpa;
} __packed;

static void extend(u32 type, u64 pa, u64 gpa, const u8 vmpl[3])
{
	struct page_info info = {
		.length = sizeof(info), .type = type, .vmpl1 = vmpl[0], .vmpl2 = vmpl[1],
		.vmpl3 = vmpl[2], .gpa = gpa,
	};

	_Static_assert(sizeof(info) == 0x70, "page info");
	memcpy(info.digest, id.digest, 48);
	if (type == NORMAL || type == VMSA)
		sha384(phys(pa), SZ_4K, info.contents);
	sha384(&info, sizeof(info), id.digest);
}

/* Contents by the type: CPUID pages hold no function. */
static void fill(u32 type, u64 pa, u32 n)
{
	u64 *p = (u64 *)window(pa);

	for (u32 i = 0; i < 512; i++)
		p[i] = (i + 1) * 0x9e3779b97f4a7c15ULL * (n + 1);
	if (type == CPUID_PAGE)
		memset(p, 0, SZ_4K);
}

static bool all_zero(const u64 *p)
{
	u64 all = 0;

	for (u32 i = 0; i < 512; i++)
		all |= p[i];
	return !all;
}

/* A page of the guest, whose contents are afterwards as the type says. */
static void launch_page(u32 type, u64 pa, u64 gpa, u32 n, const u8 vmpl[3])
{
	static u64 old[512];
	struct psp_update s = {
		.gctx = CTX, .flags = type << 1, .address = pa, .vmpl1 = vmpl[0], .vmpl2 = vmpl[1],
		.vmpl3 = vmpl[2],
	};

	fill(type, pa, n);
	memcpy(old, phys(pa), SZ_4K);
	assign(pa, gpa, 1, ASID_GUEST);
	extend(type, pa, gpa, vmpl);
	model_put(pa, E_GUEST(gpa, ASID_GUEST) | (type == VMSA ? E_VMSA : 0));
	gives(psp_call(SNP_LAUNCH_UPDATE, &s, sizeof(s)), SUCCESS, "page of type %u", type);
	if (type == ZERO)
		ok(all_zero(phys(pa)), "is zero");
	else if (type == SECRETS)
		ok(*(u32 *)phys(pa) == 3 && memcmp(phys(pa), old, SZ_4K), "holds secrets");
	else
		ok(!memcmp(phys(pa), old, SZ_4K), "is as it was");
}

/* The digest is the one in id, and nothing else will do. */
static void finish(const char *text)
{
	struct psp_finish s = { .gctx = CTX, .id_block = NOWHERE, .id_auth = NOWHERE, .flags = 1 };
	u32 bad = 0;

	id.policy = POLICY;
	gives(psp_call(SNP_LAUNCH_FINISH, &s, sizeof(s)), INVALID_ADDRESS, "%s: ID block outside RAM", text);
	for (u32 i = 0; i < 48; i++) {
		id.digest[i] ^= 1 << i % 8;
		bad += !psp_good(psp_finish(CTX, &id), BAD_MEASUREMENT);
		id.digest[i] ^= 1 << i % 8;
	}
	is(bad, 0, "%s: each byte of the digest counts", text);
	id.policy ^= BIT(19);
	gives(psp_finish(CTX, &id), POLICY_FAILURE, "%s: another policy", text);
	id.policy ^= BIT(19);
	guest_is(CTX, POLICY, ASID_GUEST, 1);
	psp_sign(&id);
	gives(psp_finish(CTX, &id), SUCCESS, "%s: the digest is right", text);
	guest_is(CTX, POLICY, ASID_GUEST, 2);
}

static void digests(void)
{
	static const u8 none[3], perms[3] = { 0x01, 0x0f, 0x35 };
	struct psp_finish s = { .gctx = CTX };
	u32 bad = 0, n;

	section("psp launch digest");
	for (u32 type = 0; type < NR_TYPES; type++) {
		u64 gpa = type == VMSA ? ZEN_VMSA_GPA : GPA(type);

		memset(&id, 0, sizeof(id));
		make_guest(CTX, ASID_GUEST);
		if (type == ZERO) {
			print("# expect psp uninit init 1\n");
			sync_referee();
		}
		if (type)
			launch_page(type, PAGE, gpa, type, type & 1 ? none : perms);
		finish(type ? "one page" : "no page");
		if (type)
			to_hypervisor(PAGE);
		drop_guest(CTX);
	}
	/* All of them, with failures between. */
	memset(&id, 0, sizeof(id));
	make_guest(CTX, ASID_GUEST);
	for (n = 0; n < 2 * NR_TYPES; n++) {
		u32 type = 1 + n * 5 % (NR_TYPES - 1);
		u64 pa = PAGE + (2 + n) * SZ_4K;

		gives(psp_update(CTX, type, pa), P_STATE, "page %u is not assigned", n);
		launch_page(type, pa, GPA(3 * n), n, n & 1 ? none : perms);
		gives(psp_update(CTX, type, pa), P_STATE, "page %u once more", n);
	}
	for (u32 bit = 3; bit < 64; bit++) {
		s.flags = BIT(bit);
		bad += !psp_good(psp_call(SNP_LAUNCH_FINISH, &s, sizeof(s)), INVALID_PARAM);
	}
	is(bad, 0, "SNP_LAUNCH_FINISH: reserved bits");
	finish("all types");
	for (n = 0; n < 2 * NR_TYPES; n++)
		to_hypervisor(PAGE + (2 + n) * SZ_4K);
	drop_guest(CTX);
	is(psp_good(0, 0), 1, "all is free");
}

static void hash(void)
{
	/* FIPS 180-2, C.1 and C.2. */
	static const u8 abc[48] = {
		0xcb, 0x00, 0x75, 0x3f, 0x45, 0xa3, 0x5e, 0x8b, 0xb5, 0xa0, 0x3d, 0x69, 0x9a, 0xc6, 0x50,
		0x07, 0x27, 0x2c, 0x32, 0xab, 0x0e, 0xde, 0xd1, 0x63, 0x1a, 0x8b, 0x60, 0x5a, 0x43, 0xff,
		0x5b, 0xed, 0x80, 0x86, 0x07, 0x2b, 0xa1, 0xe7, 0xcc, 0x23, 0x58, 0xba, 0xec, 0xa1, 0x34,
		0xc8, 0x25, 0xa7
	};
	static const u8 two[] = { 0x09, 0x33, 0x0c, 0x33, 0xf7, 0x11, 0x47, 0xe8 };
	static const char text[] = "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
				   "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu";
	u8 got[48];

	section("sha-384");
	sha384("abc", 3, got);
	ok(!memcmp(got, abc, 48), "of \"abc\"");
	sha384(text, sizeof(text) - 1, got);
	ok(!memcmp(got, two, sizeof(two)), "of two blocks");
}

void tests_psp_guest(void)
{
	static const u16 with_buffer[] = {
		SNP_GCTX_CREATE, SNP_LAUNCH_START, SNP_ACTIVATE, SNP_LAUNCH_UPDATE, SNP_LAUNCH_FINISH,
		SNP_GUEST_STATUS, SNP_DECOMMISSION, SNP_GUEST_REQUEST, SNP_PAGE_RECLAIM, SNP_CONFIG, SNP_COMMIT,
		SNP_VLEK_LOAD, SNP_FEATURE_INFO, SNP_PLATFORM_STATUS, SNP_SHUTDOWN_EX
	};

	section("psp guest");
	psp_no_buffers(with_buffer, ARRAY_SIZE(with_buffer));
	accesses();
	reclaim();
	gctx();
	launch_start();
	asids();
	update_params();
	hash();
	digests();
}
