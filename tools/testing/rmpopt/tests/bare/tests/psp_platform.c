// SPDX-License-Identifier: GPL-2.0-only
/* The secure processor: registers, platform commands, SNP up and down. */
#include "psp.h"
#include "tests.h"

#define LAPIC_IRR 0xfee00200ULL
#define NV_SIZE 0x8000
#define CERT_SIZE 2084
#define CHAIN_SIZE 6252
#define ID_SIZE 64
/* A 2 MB whose entries are made dirty before the RMP is initialized. */
#define DIRTY (7 * SZ_1G + 17 * SZ_2M)

#define IOMMU 0xfed80000ULL
#define IOMMU_EVENT_LOG (0x10 / 8)
#define IOMMU_CWWB_BASE (0x20 / 8)
#define IOMMU_CWWB_LIMIT (0x28 / 8)
#define IOMMU_PPR_LOG (0x38 / 8)
#define LOG_4K (8ULL << 56)
#define LOG_8K (9ULL << 56)

/* Two pages of events, one of PPRs, one written by COMPLETION_WAIT. */
static const u64 iommu_pages[] = {
	PSP_IOMMU, PSP_IOMMU + SZ_4K, PSP_IOMMU + 4 * SZ_4K, PSP_IOMMU + 6 * SZ_4K
};

static struct psp_ranges ranges __aligned(4096);
static u8 nv[NV_SIZE] __aligned(NV_SIZE);
static u8 zero_page[SZ_4K] __aligned(4096);
/* What the PSP may write to, which must not be near the kernel: mapped here, page by page. */
static u8 *out;

/* Which of the four combinations of states refuse the command. */
enum { NONE_UP = 1, LEGACY_UP = 2, SNP_UP = 4, BOTH_UP = 8 };

static const struct { u16 command, refused; const char *name; } states_of[] = {
	{ INIT, LEGACY_UP | BOTH_UP, "INIT" },
	{ INIT_EX, LEGACY_UP | BOTH_UP, "INIT_EX" },
	{ FACTORY_RESET, LEGACY_UP | BOTH_UP, "FACTORY_RESET" },
	{ PEK_GEN, NONE_UP | SNP_UP, "PEK_GEN" },
	{ PDH_GEN, NONE_UP | SNP_UP, "PDH_GEN" },
	{ PEK_CSR, NONE_UP | SNP_UP, "PEK_CSR" },
	{ PEK_CERT_IMPORT, NONE_UP | SNP_UP, "PEK_CERT_IMPORT" },
	{ DF_FLUSH, NONE_UP | SNP_UP, "DF_FLUSH" },
	{ LAUNCH_START, NONE_UP | SNP_UP, "LAUNCH_START" },
	{ SEV_DECOMMISSION, NONE_UP | LEGACY_UP | SNP_UP | BOTH_UP, "DECOMMISSION" },
	{ ACTIVATE, NONE_UP | LEGACY_UP | SNP_UP | BOTH_UP, "ACTIVATE" },
	{ DEACTIVATE, NONE_UP | LEGACY_UP | SNP_UP | BOTH_UP, "DEACTIVATE" },
	{ SEV_GUEST_STATUS, NONE_UP | LEGACY_UP | SNP_UP | BOTH_UP, "GUEST_STATUS" },
	{ LAUNCH_UPDATE_DATA, NONE_UP | LEGACY_UP | SNP_UP | BOTH_UP, "LAUNCH_UPDATE_DATA" },
	{ LAUNCH_UPDATE_VMSA, NONE_UP | LEGACY_UP | SNP_UP | BOTH_UP, "LAUNCH_UPDATE_VMSA" },
	{ LAUNCH_MEASURE, NONE_UP | LEGACY_UP | SNP_UP | BOTH_UP, "LAUNCH_MEASURE" },
	{ LAUNCH_FINISH, NONE_UP | LEGACY_UP | SNP_UP | BOTH_UP, "LAUNCH_FINISH" },
	{ DBG_DECRYPT, NONE_UP | LEGACY_UP | SNP_UP | BOTH_UP, "DBG_DECRYPT" },
	{ DBG_ENCRYPT, NONE_UP | LEGACY_UP | SNP_UP | BOTH_UP, "DBG_ENCRYPT" },
	{ SNP_INIT, LEGACY_UP | SNP_UP | BOTH_UP, "SNP_INIT" },
	{ SNP_INIT_EX, LEGACY_UP | SNP_UP | BOTH_UP, "SNP_INIT_EX" },
	{ SNP_SHUTDOWN, NONE_UP | LEGACY_UP | BOTH_UP, "SNP_SHUTDOWN" },
	{ SNP_SHUTDOWN_EX, NONE_UP | LEGACY_UP | BOTH_UP, "SNP_SHUTDOWN_EX" },
	{ SNP_DF_FLUSH, NONE_UP | LEGACY_UP, "SNP_DF_FLUSH" },
	{ SNP_GCTX_CREATE, NONE_UP | LEGACY_UP, "SNP_GCTX_CREATE" },
	{ SNP_LAUNCH_START, NONE_UP | LEGACY_UP, "SNP_LAUNCH_START" },
	{ SNP_ACTIVATE, NONE_UP | LEGACY_UP, "SNP_ACTIVATE" },
	{ SNP_LAUNCH_UPDATE, NONE_UP | LEGACY_UP, "SNP_LAUNCH_UPDATE" },
	{ SNP_LAUNCH_FINISH, NONE_UP | LEGACY_UP, "SNP_LAUNCH_FINISH" },
	{ SNP_GUEST_STATUS, NONE_UP | LEGACY_UP, "SNP_GUEST_STATUS" },
	{ SNP_DECOMMISSION, NONE_UP | LEGACY_UP, "SNP_DECOMMISSION" },
	{ SNP_GUEST_REQUEST, NONE_UP | LEGACY_UP, "SNP_GUEST_REQUEST" },
	{ SNP_PAGE_RECLAIM, NONE_UP | LEGACY_UP, "SNP_PAGE_RECLAIM" },
	{ SNP_CONFIG, NONE_UP | LEGACY_UP, "SNP_CONFIG" },
	{ SNP_VLEK_LOAD, NONE_UP | LEGACY_UP, "SNP_VLEK_LOAD" },
};

static void wrong_states(u32 state)
{
	static const u16 unknown[] = {
		0, 0x00e, 0x01f, 0x024, 0x02f, 0x034, 0x036, 0x042, 0x053, 0x05f, 0x062, 0x080, 0x087,
		0x08f, 0x095, 0x0a3, 0x0b0, 0x0b2, 0x0c0, 0x0c6, 0x0c8, 0x0ca, 0x0cc, 0x0cf,
		0x0d0, 0x0d5, 0x100, 0x400, 0x7ff
	};
	u32 bad = 0;

	for (u32 i = 0; i < ARRAY_SIZE(states_of); i++) {
		if (states_of[i].refused & state)
			gives(psp_call(states_of[i].command, zero_page, 64), INVALID_PLATFORM_STATE,
			      "%s is refused", states_of[i].name);
	}
	for (u32 i = 0; i < ARRAY_SIZE(unknown); i++)
		bad += !psp_good(psp_call(unknown[i], zero_page, 64), INVALID_COMMAND);
	is(bad, 0, "%u commands that do not exist are refused", (u32)ARRAY_SIZE(unknown));
}

static u32 irr(void)
{
	return *(volatile u32 *)(LAPIC_IRR + IPI_VECTOR / 32 * 16) >> IPI_VECTOR % 32 & 1;
}

static void registers(void)
{
	bool msix;
	u32 rc;

	section("psp registers");
	/* The old interrupt controller is not to come in between. */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	is(psp_read(PSP_CAPABILITY), 1, "SEV is the only capability");
	psp_write(PSP_INTEN, 0);
	psp_write(PSP_INTSTS, ~0U);
	is(psp_read(PSP_INTSTS), 0, "no interrupt status");
	msix = psp_msix();
	ok(msix, "MSI-X");
	psp_write(PSP_INTEN, ~0U);
	is(psp_read(PSP_INTEN), ~0U, "all interrupts can be enabled");
	is(psp_at(SHUTDOWN, 0, false), SUCCESS, "a command without interrupt");
	is(psp_read(PSP_INTSTS), 0, "leaves no status");
	is(irr(), 0, "and sends no message");
	rc = psp_at(SHUTDOWN, 0, true);
	for (u32 i = 0; msix && i < 100000 && !irr(); i++)
		pause();
	is(rc, SUCCESS, "a command with interrupt");
	is(psp_read(PSP_INTSTS), PSP_INT_DONE, "leaves the status");
	is(irr(), msix, "and sends the message");
	__asm__ volatile("sti; nop; nop; cli" ::: "memory");
	is(irr(), 0, "which is delivered once");
	psp_write(PSP_INTSTS, ~(u32)PSP_INT_DONE);
	is(psp_read(PSP_INTSTS), PSP_INT_DONE, "a zero does not clear the status");
	psp_write(PSP_INTSTS, PSP_INT_DONE);
	is(psp_read(PSP_INTSTS), 0, "a one does");
	is(psp_at(0x7ff, 0, true), INVALID_COMMAND, "a failure with interrupt");
	is(psp_read(PSP_INTSTS), PSP_INT_DONE, "has the status as well");
	psp_write(PSP_INTSTS, PSP_INT_DONE);
	__asm__ volatile("sti; nop; nop; cli" ::: "memory");
	psp_at(SNP_COMMIT, (u64)&(u32){ 4 }, false);
	ok(psp_read(PSP_CMDRESP) & PSP_DONE && !psp_read(PSP_INTSTS), "CMDRESP can be read again");
}

static bool snp_is_up;

/* The pages that the PSP writes belong to it while SNP is up. */
static void give_out(bool give)
{
	for (u64 pa = PSP_OUT; snp_is_up && pa < PSP_OUT + OUT_SIZE; pa += SZ_4K) {
		if (give)
			to_firmware(pa);
		else
			to_hypervisor(pa);
	}
}

static bool is_full(const u8 *p, u32 n, u8 value)
{
	for (; n; n--) {
		if (*p++ != value)
			return false;
	}
	return true;
}

/* A command with one or two outputs: lengths too small, right and large, and a query. */
static void output(u32 command, const char *name, u32 size0, u32 size1)
{
	static const struct { s8 more0, more1; bool query; } lens[] = {
		{ -1, 0, false }, { 0, -1, false }, { 0, 0, false }, { 0, 0, false }, { 10, 10, false },
		{ 0, 0, true }
	};
	const u32 bytes = size1 ? sizeof(struct psp_blobs) : sizeof(struct psp_blob);
	/* The command, the first output, the second. */
	u8 *buf = out, *p0 = out + SZ_4K, *p1 = out + 2 * SZ_4K;
	u8 *first = new_page(), *second = new_page();
	struct psp_blobs *b = (void *)buf;
	bool known = false;

	for (u32 i = 0; i < ARRAY_SIZE(lens); i++) {
		u32 n0 = lens[i].query ? 0 : size0 + lens[i].more0;
		u32 n1 = lens[i].query || !size1 ? 0 : size1 + lens[i].more1;
		const bool good = n0 >= size0 && n1 >= size1;

		memset(out, 0x5a, OUT_SIZE);
		memset(buf, 0, bytes);
		b->first = lens[i].query ? 0 : PSP_OUT + SZ_4K;
		b->first_len = n0;
		if (size1) {
			b->second = lens[i].query ? 0 : PSP_OUT + 2 * SZ_4K;
			b->second_len = n1;
		}
		give_out(true);
		gives(psp_at(command, PSP_OUT, false), good ? SUCCESS : INVALID_LEN,
		      "%s of %u and %u bytes", name, n0, n1);
		if (good)
			ok(b->first_len >= size0 && b->first_len <= n0 &&
			   (!size1 || (b->second_len >= size1 && b->second_len <= n1)), "lengths");
		else
			ok(b->first_len == size0 && (!size1 || b->second_len == size1),
			   "the lengths are written back");
		is(is_full(buf + bytes, 64, 0x5a), 1, "nothing behind the command is written");
		if (!good) {
			is(is_full(p0, OUT_SIZE - SZ_4K, 0x5a), 1, "no output");
		} else {
			is(is_full(p0, size0, 0), 0, "the output is not empty");
			is(p0[n0], 0x5a, "and ends where it must");
			if (size1)
				ok(!is_full(p1, size1, 0) && p1[n1] == 0x5a, "the second, too");
			if (known)
				ok(!memcmp(first, p0, size0) && !memcmp(second, p1, size1 < SZ_4K ? size1 :
				   SZ_4K), "they are the same as before");
			memcpy(first, p0, size0);
			memcpy(second, p1, SZ_4K);
			known = true;
		}
		give_out(false);
	}
	/* Every page it writes must be the firmware's, and be RAM. */
	memset(out, 0, OUT_SIZE);
	b->first = NOWHERE;
	b->second = PSP_OUT + 2 * SZ_4K;
	b->first_len = size0;
	if (size1)
		b->second_len = size1;
	give_out(true);
	gives(psp_at(command, PSP_OUT, false), FAILS, "%s: output outside RAM", name);
	give_out(false);
	for (u32 page = 1; snp_is_up && page < (size1 ? 4 : 2); page++) {
		u64 pa = PSP_OUT + page * SZ_4K;

		b->first = PSP_OUT + SZ_4K;
		give_out(true);
		to_hypervisor(pa);
		gives(psp_at(command, PSP_OUT, false), INVALID_PAGE_STATE,
		      "%s: output page %u of the hypervisor", name, page);
		update(pa, 0, 1, 0, 0, 0);
		gives(psp_at(command, PSP_OUT, false), INVALID_PAGE_STATE,
		      "%s: output page %u in Reclaim", name, page);
		free_4k(pa);
		update(pa, 0, 1, 0, 1, 1);
		gives(psp_at(command, PSP_OUT, false), INVALID_PAGE_STATE,
		      "%s: output page %u in Pre-Guest", name, page);
		is(is_full(p0, OUT_SIZE - SZ_4K, 0), 1, "nothing is written");
		give_out(false);
	}
}

static u8 legacy_state(struct psp_status *s)
{
	memset(out, 0xee, SZ_4K);
	give_out(true);
	gives(psp_at(PLATFORM_STATUS, PSP_OUT, false), SUCCESS, "PLATFORM_STATUS");
	memcpy(s, out, sizeof(*s));
	is(out[sizeof(*s)], 0xee, "12 bytes are written");
	give_out(false);
	return s->state;
}

static u8 snp_state(struct psp_snp_status *s)
{
	/* Anywhere in a page, but for the alignment. */
	const u32 off = 0x12c;

	memset(out, 0xee, SZ_4K);
	if (snp_is_up) {
		to_firmware(PSP_OUT);
		model_put(PSP_OUT, E_RECLAIM);
	}
	gives(psp_snp_status(PSP_OUT + off), SUCCESS, "SNP_PLATFORM_STATUS");
	memcpy(s, out + off, sizeof(*s));
	ok(out[off - 1] == 0xee && out[off + sizeof(*s)] == 0xee, "32 bytes are written");
	if (snp_is_up)
		to_hypervisor(PSP_OUT);
	return s->state;
}

static void both_states(u32 legacy, u32 snp)
{
	struct psp_snp_status s;
	struct psp_status l;

	is(legacy_state(&l), legacy, "legacy state is %u", legacy);
	is(snp_state(&s), snp, "SNP state is %u", snp);
	is(l.major << 8 | l.minor, s.major << 8 | s.minor, "both name the same API");
	ok(s.major == 1 && s.minor >= 52, "it has SNP_INIT_EX");
}

static void init_params(void)
{
	static const struct { struct psp_init s; u32 want; const char *text; } rows[] = {
		{ { .flags = 2 }, INVALID_PARAM, "flag 1" },
		{ { .flags = BIT(31) }, INVALID_PARAM, "flag 31" },
		{ { .reserved = 1 }, INVALID_PARAM, "reserved field" },
		{ { .tmr = PSP_TMR, .tmr_len = SZ_1M - 1 }, INVALID_LEN, "TMR below 1 MB" },
		{ { .tmr = PSP_TMR, .tmr_len = 1 }, INVALID_LEN, "TMR of a byte" },
		{ { .tmr = PSP_TMR + SZ_4K, .tmr_len = SZ_1M }, INVALID_ADDRESS, "TMR not aligned" },
		{ { .tmr = PSP_TMR + SZ_1M, .tmr_len = SZ_2M }, INVALID_ADDRESS, "TMR of 2 MB at 1 MB" },
		{ { .tmr = NOWHERE, .tmr_len = SZ_1M }, FAILS, "TMR outside RAM" },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++)
		if (!gives(psp_call(INIT, &rows[i].s, sizeof(rows[i].s)), rows[i].want, "INIT: %s",
			   rows[i].text))
			psp_call(SHUTDOWN, NULL, 0);
}

static void init_ex(void)
{
	const struct psp_init_ex good = { .length = sizeof(good), .nv = (u64)nv, .nv_len = NV_SIZE };
	struct psp_init_ex s;

	for (u32 i = 0; i < 5; i++) {
		static const u32 want[] = { INVALID_LEN, INVALID_LEN, INVALID_PARAM, INVALID_LEN,
					    INVALID_ADDRESS };

		s = good;
		s.length += (i == 0) - (i == 1);
		s.flags = i == 2 ? 2 : 0;
		s.nv_len -= i == 3;
		s.nv = i == 4 ? NOWHERE : s.nv;
		gives(psp_call(INIT_EX, &s, sizeof(s)), want[i], "INIT_EX: wrong parameter %u", i);
	}
	for (u32 fill = 0; fill < 256; fill += 0x55) {
		const bool bad = fill == 0x55 || fill == 0xaa;

		memset(nv, fill, sizeof(nv));
		gives(psp_call(INIT_EX, &good, sizeof(good)), bad ? SECURE_DATA_INVALID : SUCCESS,
		      "INIT_EX with storage full of %x", fill);
		if (bad)
			gives(psp_call(INIT_EX, &good, sizeof(good)), SUCCESS, "once more, as it was reset");
		gives(psp_call(SHUTDOWN, NULL, 0), SUCCESS, "SHUTDOWN");
		gives(psp_call(INIT_EX, &good, sizeof(good)), SUCCESS, "INIT_EX with what it has left");
		psp_call(SHUTDOWN, NULL, 0);
	}
	gives(psp_call(INIT_EX, &good, sizeof(good)), SUCCESS, "and again");
	ok(!is_full(nv, NV_SIZE, 0), "something is stored");
	psp_call(SHUTDOWN, NULL, 0);
	memset(nv, 0xaa, NV_SIZE);
	gives(psp_call(FACTORY_RESET, NULL, 0), SUCCESS, "FACTORY_RESET after the storage was given back");
	ok(is_full(nv, NV_SIZE, 0xaa), "nothing is stored");
}

static void cert_import(void)
{
	static u32 cert[2][1024];
	struct psp_blobs good = { (u64)cert[0], CERT_SIZE, 0, (u64)cert[1], CERT_SIZE }, s;

	cert[0][0] = cert[1][0] = 1;
	for (u32 i = 0; i < 4; i++) {
		s = good;
		s.first_len += (i == 0) - (i == 1);
		s.second_len += (i == 2) - (i == 3);
		gives(psp_call(PEK_CERT_IMPORT, &s, sizeof(s)), INVALID_LEN, "PEK_CERT_IMPORT: length %u", i);
	}
	for (u32 i = 0; i < 2; i++) {
		cert[i][0] = 2;
		gives(psp_call(PEK_CERT_IMPORT, &good, sizeof(good)), INVALID_CERTIFICATE,
		      "PEK_CERT_IMPORT: version of certificate %u", i);
		cert[i][0] = 1;
	}
	s = good;
	s.first = NOWHERE;
	gives(psp_call(PEK_CERT_IMPORT, &s, sizeof(s)), INVALID_ADDRESS, "PEK_CERT_IMPORT: no RAM");
	gives(psp_call(PEK_CERT_IMPORT, &good, sizeof(good)), SUCCESS, "PEK_CERT_IMPORT");
	gives(psp_call(PEK_CERT_IMPORT, &good, sizeof(good)), ALREADY_OWNED, "PEK_CERT_IMPORT once more");
}

/* With SNP down, and once more with SNP up: then the TMR is the firmware's. */
static void legacy(void)
{
	static const u16 with_buffer[] = { PEK_CSR, PEK_CERT_IMPORT, GET_ID, PLATFORM_STATUS };
	u32 sockets = flag_value("sockets", 1);
	struct psp_blob dl = { PSP_OUT, 512 };
	struct psp_status s;

	wrong_states(snp_is_up ? SNP_UP : NONE_UP);
	init_params();
	gives(psp_call(FACTORY_RESET, NULL, 0), SUCCESS, "FACTORY_RESET");
	gives(psp_call(DOWNLOAD_FIRMWARE, &dl, sizeof(dl)), BAD_SIGNATURE, "DOWNLOAD_FIRMWARE");
	output(GET_ID, "GET_ID", ID_SIZE * sockets, 0);
	if (snp_is_up) {
		tmr_make();
	} else {
		init_ex();
		gives(psp_init(0, 0, 0), SUCCESS, "INIT without a TMR");
		is(legacy_state(&s), 1, "legacy state is INIT");
		is(s.flags & 0x100, 0, "without SEV-ES");
		gives(psp_call(SHUTDOWN, NULL, 0), SUCCESS, "SHUTDOWN");
		gives(psp_init(1, PSP_TMR, SZ_1M), SUCCESS, "INIT with a TMR");
	}
	is(legacy_state(&s), 1, "legacy state is INIT");
	is(s.flags & 0x100, 0x100, "with SEV-ES");
	wrong_states(snp_is_up ? BOTH_UP : LEGACY_UP);
	psp_no_buffers(with_buffer, ARRAY_SIZE(with_buffer));
	gives(psp_call(DF_FLUSH, NULL, 0), SUCCESS, "DF_FLUSH");
	gives(psp_call(PEK_GEN, NULL, 0), SUCCESS, "PEK_GEN");
	gives(psp_call(PDH_GEN, NULL, 0), SUCCESS, "PDH_GEN");
	output(GET_ID, "GET_ID", ID_SIZE * sockets, 0);
	output(PEK_CSR, "PEK_CSR", CERT_SIZE, 0);
	output(PDH_CERT_EXPORT, "PDH_CERT_EXPORT", CERT_SIZE, CHAIN_SIZE);
	if (!snp_is_up)
		cert_import();
	if (snp_is_up)
		tmr_drop();
	else
		gives(psp_call(SHUTDOWN, NULL, 0), SUCCESS, "SHUTDOWN");
	gives(psp_call(SHUTDOWN, NULL, 0), SUCCESS, "SHUTDOWN once more");
	is(legacy_state(&s), 0, "legacy state is UNINIT");
	is(s.flags & 0x100, 0, "without SEV-ES");
}

static void commit_config(void)
{
	struct psp_config good = {}, c;
	struct psp_vlek v = { .len = 16, .address = (u64)zero_page }, w;
	struct psp_snp_status s;
	u64 tcb;
	u32 bad = 0, len;

	section("psp configuration");
	snp_state(&s);
	tcb = s.tcb;
	is(s.reported_tcb, tcb, "the reported TCB is the current one");
	for (u32 i = 0; i < 8; i++) {
		if ((tcb >> 8 * i & 0xff) == 0xff)
			continue;
		c = good;
		c.tcb = tcb + BIT(8 * i);
		bad += !psp_good(psp_call(SNP_CONFIG, &c, sizeof(c)), INVALID_PARAM);
	}
	is(bad, 0, "SNP_CONFIG: each byte of the TCB above the current one");
	for (u32 bit = 2; bit < 32; bit++) {
		c = good;
		c.flags = BIT(bit);
		bad += !psp_good(psp_call(SNP_CONFIG, &c, sizeof(c)), INVALID_PARAM);
	}
	for (u32 i = 0; i < sizeof(c.rsvd); i++) {
		c = good;
		c.rsvd[i] = 1;
		bad += !psp_good(psp_call(SNP_CONFIG, &c, sizeof(c)), INVALID_PARAM);
	}
	is(bad, 0, "SNP_CONFIG: each reserved bit");
	for (u32 i = 0; i < 8; i++) {
		c = good;
		if (!(tcb >> 8 * i & 0xff))
			continue;
		c.tcb = tcb - BIT(8 * i);
		c.flags = i & 3;
		gives(psp_call(SNP_CONFIG, &c, sizeof(c)), SUCCESS, "SNP_CONFIG: a lower byte %u", i);
		snp_state(&s);
		ok(s.reported_tcb == c.tcb && s.tcb == tcb && (s.flags & 3) == (i & 3), "as reported");
	}
	gives(psp_call(SNP_CONFIG, &good, sizeof(good)), SUCCESS, "SNP_CONFIG of 0");
	snp_state(&s);
	ok(s.reported_tcb == tcb && !(s.flags & 3), "reports the current TCB");

	for (len = 3; len < 6; len++)
		gives(psp_call(SNP_COMMIT, &len, 4), len == 4 ? SUCCESS : INVALID_LEN, "SNP_COMMIT of %u",
		      len);
	for (u32 i = 0; i < 6; i++) {
		static const u32 want[] = { INVALID_LEN, INVALID_LEN, INVALID_PARAM, INVALID_PARAM,
					    INVALID_ADDRESS, SUCCESS };

		w = v;
		w.len += (i == 0) - (i == 1);
		w.version = i == 2;
		w.rsvd[2] = i == 3;
		w.address = i == 4 ? NOWHERE : v.address;
		gives(psp_call(SNP_VLEK_LOAD, &w, sizeof(w)), want[i], "SNP_VLEK_LOAD %u", i);
	}
	snp_state(&s);
	is(s.flags >> 2 & 1, 1, "a VLEK is loaded");
}

static void features(void)
{
	struct psp_features s = { 15, 0, PSP_OUT };
	const u32 *r = (void *)out;

	section("psp features");
	memset(out, 0xee, SZ_4K);
	for (s.length = 15; s.length < 18; s.length += 2)
		gives(psp_call(SNP_FEATURE_INFO, &s, sizeof(s)), INVALID_LEN, "length %u", s.length);
	s.length = 16;
	s.ecx_in = 1;
	gives(psp_call(SNP_FEATURE_INFO, &s, sizeof(s)), INVALID_PARAM, "ECX of 1");
	gives(psp_feature_info(NOWHERE), INVALID_ADDRESS, "outside RAM");
	is(r[0], 0xeeeeeeee, "nothing is written");
	if (snp_is_up) {
		to_firmware(PSP_OUT);
		model_put(PSP_OUT, E_RECLAIM);
	}
	gives(psp_feature_info(PSP_OUT), SUCCESS, "SNP_FEATURE_INFO");
	is(r[2] & 2, flag_off("x86-shutdown") ? 0 : 2, "x86 shutdown as the machine was made");
	is(r[2] & ~2U, 0, "and nothing else");
	is(r[4], 0xeeeeeeee, "16 bytes are written");
	if (snp_is_up)
		to_hypervisor(PSP_OUT);
}

/* SNP up. */

struct bits_arg {
	u32 msr;
	u64 set, clear, value;
};

static void change_bits(void *p)
{
	struct bits_arg *a = p;

	a->value = (rdmsr(a->msr) & ~a->clear) | a->set;
	if ((a->set || a->clear) && try_wrmsr(a->msr, a->value) != NO_TRAP)
		note("MSR %x cannot be %llx", a->msr, a->value);
	a->value = rdmsr(a->msr);
}

static u64 bits_on(u32 cpu, u32 msr, u64 set, u64 clear)
{
	struct bits_arg a = { msr, set, clear, 0 };

	run_on(cpu, change_bits, &a);
	return a.value;
}

static u32 init_rmp(void)
{
	return psp_snp_init(IX_INIT_RMP, 0);
}

static void iommu_program(void)
{
	volatile u64 *iommu = (volatile u64 *)IOMMU;

	if (!psp_has_iommu())
		return;
	iommu[IOMMU_EVENT_LOG] = iommu_pages[0] | LOG_8K;
	iommu[IOMMU_PPR_LOG] = iommu_pages[2] | LOG_4K;
	iommu[IOMMU_CWWB_BASE] = iommu_pages[3];
	iommu[IOMMU_CWWB_LIMIT] = iommu_pages[3];
	is(iommu[IOMMU_CWWB_BASE] & ~3ULL, iommu_pages[3], "the IOMMU's registers are as written");
}

static void iommu_put(u64 entry)
{
	for (u32 i = 0; psp_has_iommu() && i < ARRAY_SIZE(iommu_pages); i++)
		model_put(iommu_pages[i], entry);
}

static void range(u64 base, u32 count)
{
	ranges.r[ranges.count].base = base;
	ranges.r[ranges.count].rsvd = 0;
	ranges.r[ranges.count++].count = count;
}

/* Overlapping, empty, uncovered, huge, the RMP's own, the IOMMU's. */
static void make_ranges(void)
{
	memset(&ranges, 0, sizeof(ranges));
	range(PSP_FIXED, 2);
	range(PSP_FIXED + SZ_4K, 3);
	range(NOWHERE, 16);
	range(BIT(51), 0xffffffff);
	/* The next 1 GB boundary is 2^64 */
	range(-BIT(30), BIT(18) - 1);
	range(rmp_base, (rmp_memory_end - rmp_base) / SZ_4K);
	range(PSP_IOMMU, psp_has_iommu());
	range(PSP_FIXED + 100 * SZ_4K, 0);
	range(PSP_FIXED_2M, 513);
}

/* The effect of SNP_INIT_EX with them. */
static void ranges_put(void)
{
	for (u32 i = 0; i < 4; i++)
		model_put(PSP_FIXED + i * SZ_4K, E_FIXED);
	for (u32 i = 0; i < 513; i++)
		model_put(PSP_FIXED_2M + i * SZ_4K, E_FIXED);
	iommu_put(E_FIRMWARE);
}

/* Each bit of each vCPU must be there. The last bits are set on the vCPU given. */
static void conditions(u32 last)
{
	u32 bad = 0;

	section("psp init conditions");
	for (u32 i = 0; i < nr_cpus; i++)
		bits_on(i, MSR_SYSCFG, SYSCFG_MFDM, 0);
	bad += !psp_good(init_rmp(), INVALID_CONFIG);
	for (u32 i = 0; i < nr_cpus; i++) {
		u32 cpu = (last + 1 + i) % nr_cpus;

		bad += !psp_good(init_rmp(), INVALID_CONFIG);
		bits_on(cpu, MSR_SYSCFG, SYSCFG_SNP_EN, 0);
	}
	is(bad, 0, "SNP_EN is needed on each vCPU, last %u", last);
	for (u32 i = 0; i < nr_cpus; i++) {
		u32 cpu = (last + 1 + i) % nr_cpus;

		if (bits_on(cpu, MSR_SYSCFG, 0, 0) & SYSCFG_VMPL_EN)
			continue;
		bad += !psp_good(init_rmp(), INVALID_CONFIG);
		bits_on(cpu, MSR_SYSCFG, SYSCFG_VMPL_EN, 0);
	}
	is(bad, 0, "VMPL_EN is needed on each vCPU");
	for (u32 i = 0; i < nr_cpus; i++) {
		bits_on(i, MSR_SYSCFG, 0, SYSCFG_MFDM);
		bad += !psp_good(init_rmp(), INVALID_CONFIG);
		bits_on(i, MSR_SYSCFG, SYSCFG_MFDM, 0);
	}
	is(bad, 0, "MFDM is needed on each vCPU");
	for (u32 i = 0; i < nr_cpus; i++) {
		bits_on(i, MSR_VM_HSAVE_PA, SZ_1M, 0);
		bad += !psp_good(init_rmp(), INVALID_CONFIG);
		bits_on(i, MSR_VM_HSAVE_PA, 0, ~0ULL);
	}
	is(bad, 0, "VM_HSAVE_PA must be 0 on each vCPU");
}

static void init_snp_params(void)
{
	static const u32 flags[] = { IX_RAPL, IX_HIDING, IX_TIO, BIT(5), BIT(17), BIT(31) };
	struct psp_init_snp s;
	u32 bad = 0;

	section("psp init parameters");
	for (u32 i = 0; i < ARRAY_SIZE(flags); i++)
		gives(psp_snp_init(IX_INIT_RMP | flags[i], 0), INVALID_PARAM, "flag %x", flags[i]);
	for (u32 i = 0; i < sizeof(s.rsvd2) + 4; i++) {
		memset(&s, 0, sizeof(s));
		s.flags = IX_INIT_RMP;
		((u8 *)&s)[i < 4 ? i + 4 : i + 14] = 1;
		bad += !psp_good(psp_call(SNP_INIT_EX, &s, sizeof(s)), INVALID_PARAM);
	}
	is(bad, 0, "each reserved byte");
	make_ranges();
	ranges.count = 256;
	gives(psp_snp_init(IX_INIT_RMP | IX_LIST, (u64)&ranges), INVALID_PARAM, "256 ranges");
	ranges.count = ~0U;
	gives(psp_snp_init(IX_INIT_RMP | IX_LIST, (u64)&ranges), INVALID_PARAM, "2^32-1 ranges");
	make_ranges();
	ranges.rsvd = 1;
	gives(psp_snp_init(IX_INIT_RMP | IX_LIST, (u64)&ranges), INVALID_PARAM, "reserved field of the list");
	ranges.rsvd = 0;
	ranges.r[ranges.count - 1].rsvd = 1;
	gives(psp_snp_init(IX_INIT_RMP | IX_LIST, (u64)&ranges), INVALID_PARAM, "reserved field of a range");
	make_ranges();
	ranges.r[ranges.count - 1].base += 0x800;
	gives(psp_snp_init(IX_INIT_RMP | IX_LIST, (u64)&ranges), INVALID_ADDRESS, "range not aligned");
	gives(psp_snp_init(IX_INIT_RMP | IX_LIST, NOWHERE), INVALID_ADDRESS, "list outside RAM");
}

/* The RMP's own pages belong to the firmware, those around are as they were. */
static void own_pages(void)
{
	u32 bad = 0, count = 0;

	for (u64 pa = rmp_base; pa < rmp_memory_end; pa += SZ_4K) {
		if (!rmp_covers(pa, SZ_4K))
			continue;
		count++;
		if (*rmp_raw(pa) != E_FIRMWARE && !bad++)
			note("entry of the RMP's %llx is %llx", pa, *rmp_raw(pa));
	}
	is(bad, 0, "%u pages of the RMP are the firmware's", count);
	if (rmp_covers(rmp_memory_end, SZ_4K))
		is(*rmp_raw(rmp_memory_end) & E_ASSIGNED, 0, "the page behind it is not");
	if (rmp_covers(rmp_base - SZ_4K, SZ_4K))
		is(*rmp_raw(rmp_base - SZ_4K) & E_ASSIGNED, 0, "nor is the one in front");
}

/* Not at 0, to see what of it is cleared. */
#define WINDOW (SZ_1G | 1)

struct base_arg {
	u64 value;
	u32 optimized[3];
};

static void rmpopt_set(void *p)
{
	struct base_arg *a = p;

	if (this_cpu()->core == this_cpu()->index)
		set_rmpopt_base(a->value);
}

static void rmpopt_try(void *p)
{
	struct base_arg *a = p;

	a->optimized[0] += rmpopt(R0, a->value);
	a->optimized[1] += rmpopt(R1, a->value);
	a->optimized[2] += rmpopt(R2, a->value);
}

static void rmpopt_all(u64 fn, u32 r0, u32 r1, u32 r2, const char *text)
{
	struct base_arg a = { .value = fn };

	if (!has.rmpopt || !has.segments)
		return;
	run_on_all(rmpopt_try, &a);
	ok(a.optimized[0] == r0 * nr_cpus && a.optimized[1] == r1 * nr_cpus &&
	   a.optimized[2] == r2 * nr_cpus, "%s", text);
}

static void rmpopt_bases(u64 value)
{
	struct base_arg a = { .value = value };

	if (has.rmpopt && has.segments)
		run_on_all(rmpopt_set, &a);
}

static void rmpopt_bases_are(u64 value, const char *text)
{
	u32 bad = 0;

	for (u32 i = 0; has.rmpopt && has.segments && i < nr_cpus; i++)
		bad += bits_on(i, MSR_RMPOPT_BASE, 0, 0) != value;
	is(bad, 0, "%s", text);
}

/* A region in which nothing is assigned, on all vCPUs. */
static void on_cpu_clean(void *p)
{
	struct base_arg *a = p;

	a->optimized[0] += rmpopt(SZ_1G, a->value);
}

static u32 rmpopt_clean(u64 fn)
{
	struct base_arg a = { .value = fn };

	run_on_all(on_cpu_clean, &a);
	return a.optimized[0];
}

static void fixed_page(u64 pa, const char *text)
{
	u8 *p = map_4k(60, pa, PTE_ALL), *large = map_2m(20, ALIGN_DOWN(pa, SZ_2M), PTE_ALL);

	is(update(pa, 0, 0, 0, 0, 0), RMP_FAIL_PERMISSION, "%s: cannot be freed", text);
	is(update(pa, 0, 1, 0, 0, 5), RMP_FAIL_PERMISSION, "%s: cannot be assigned", text);
	is(update(pa, 0, 1, 0, 1, 0), RMP_FAIL_PERMISSION, "%s: cannot be given to the firmware", text);
	is(update(ALIGN_DOWN(pa, SZ_2M), 0, 1, 1, 0, 5), RMP_FAIL_PERMISSION, "%s: nor its 2M", text);
	is(psmash(ALIGN_DOWN(pa, SZ_2M)), RMP_FAIL_INPUT, "%s: PSMASH", text);
	for (u32 i = 0; i < NR_STORES; i++)
		is(try_store(p + 0x40, 1, i), NO_TRAP, "%s: %s works", text, store_names[i]);
	is(try_store(large + (pa & (SZ_2M - 1)), 2, STORE_8), NO_TRAP, "%s: through 2M", text);
	is(psp_good(0, 0), 1, "%s: entries unchanged", text);
}

/* With RMPREAD the same as in memory. */
static void read_page(u64 pa, const char *text)
{
	static struct rmp_state got, want;
	struct outcome o;

	if (!has.rmpread)
		return;
	model_read(pa, &want);
	snp_run(OP_RMPREAD, pa, (u64)&got, KERNEL, &o);
	ok(o.vector == NO_TRAP && !o.rax && !memcmp(&got, &want, sizeof(got)), "RMPREAD of %s", text);
}

static void after_init(void)
{
	const u8 *p;
	u64 v;

	section("psp init, pages");
	own_pages();
	fixed_page(PSP_FIXED, "HV-Fixed page");
	fixed_page(PSP_FIXED + 3 * SZ_4K, "last HV-Fixed page");
	fixed_page(PSP_FIXED_2M, "HV-Fixed 2M");
	is(update(PSP_FIXED + 4 * SZ_4K, 0, 1, 0, 0, 1), RMP_OK, "the neighbour can be assigned");
	is(free_4k(PSP_FIXED + 4 * SZ_4K), RMP_OK, "and freed");
	read_page(PSP_FIXED, "a HV-Fixed page");
	read_page(PSP_FIXED + 4 * SZ_4K, "its neighbour");
	for (u32 i = 0; psp_has_iommu() && i < ARRAY_SIZE(iommu_pages); i++) {
		p = map_4k(60, iommu_pages[i], PTE_ALL);
		is(try_store((void *)p, 1, STORE_8), VEC_PF, "IOMMU page %u cannot be written", i);
		is(this_cpu()->trap.error, PF_P | PF_W | PF_RMP, "because of the RMP");
		is(try_load(p, &v), NO_TRAP, "but read");
		is(free_4k(iommu_pages[i]), RMP_FAIL_PERMISSION, "nor freed");
		read_page(iommu_pages[i], "it");
	}
	p = map_4k(60, rmp_base, PTE_ALL);
	is(try_store((void *)p, 1, STORE_8), VEC_PF, "RMP memory cannot be written");
	rmpopt_all(0, 1, 0, 0, "RMPOPT works but for regions with fixed pages");
	rmpopt_all(1, 1, 0, 0, "and is reported so");
}

/* All vCPUs ready, SNP up with the list. */
static void psp_up(void)
{
	for (u32 i = 0; i < nr_cpus; i++) {
		bits_on(i, MSR_SYSCFG, SYSCFG_MFDM | SYSCFG_SNP_EN, 0);
		bits_on(i, MSR_SYSCFG, SYSCFG_VMPL_EN, 0);
	}
	iommu_program();
	make_ranges();
	model_snp_init(true);
	ranges_put();
	gives(psp_snp_init(IX_INIT_RMP | IX_LIST, (u64)&ranges), SUCCESS, "SNP_INIT_EX");
	gives(psp_call(SNP_DF_FLUSH, NULL, 0), SUCCESS, "SNP_DF_FLUSH");
	snp_is_up = true;
}

static void first_init(void)
{
	static const u16 with_buffer[] = { SNP_INIT_EX, SNP_PLATFORM_STATUS, SNP_FEATURE_INFO, SNP_COMMIT,
					   INIT, INIT_EX };
	struct psp_snp_status s;
	u32 bad = 0;

	psp_no_buffers(with_buffer, ARRAY_SIZE(with_buffer));
	conditions(nr_cpus - 1);
	gives(psp_snp_init(0, 0), RMP_INIT_REQUIRED, "without clearing the RMP");
	init_snp_params();
	both_states(0, 0);
	snp_state(&s);
	is(s.rmp, BIT(1), "memory is checked for aliases, the RMP is not initialized");
	is(s.flags >> 3 & 1, 1, "features can be asked for");

	section("psp init");
	rmpopt_bases(WINDOW);
	rmpopt_all(0, 1, 1, 1, "RMPOPT of clean regions");
	psp_up();
	rmpopt_all(1, 0, 0, 0, "the tables of RMPOPT are cleared");
	rmpopt_bases_are(WINDOW, "their bases are not");
	for (u32 i = 0; i < 512; i++)
		bad += rmp_raw(DIRTY + i * SZ_4K)[0] != 0 || rmp_raw(DIRTY + i * SZ_4K)[1] != 0;
	is(bad, 0, "dirty entries are cleared");
	both_states(0, 1);
	snp_state(&s);
	is(s.rmp, BIT(1) | BIT(0), "the RMP is initialized");
	is(s.guests, 0, "no guests");
	after_init();
}

/* INIT with a TMR one of whose pages is in a wrong state. */
static void tmr_states(void)
{
	static const u32 at[] = { 0, 1, 255 };

	section("psp tmr");
	tmr_each(to_firmware);
	for (u32 i = 0; i < ARRAY_SIZE(at); i++) {
		u64 pa = PSP_TMR + at[i] * SZ_4K;

		to_hypervisor(pa);
		gives(psp_init(0, PSP_TMR, SZ_1M), INVALID_PAGE_STATE, "page %u of the hypervisor", at[i]);
		update(pa, 0, 1, 0, 0, 0);
		gives(psp_init(0, PSP_TMR, SZ_1M), INVALID_PAGE_STATE, "page %u in Reclaim", at[i]);
		free_4k(pa);
		update(pa, 0, 1, 0, 1, 3);
		gives(psp_init(0, PSP_TMR, SZ_1M), INVALID_PAGE_STATE, "page %u in Pre-Guest", at[i]);
		to_hypervisor(pa);
		to_firmware(pa);
	}
	gives(psp_init(0, PSP_TMR, SZ_1M), SUCCESS, "all of the firmware");
	gives(psp_reclaim(PSP_TMR), INVALID_PAGE_STATE, "its pages cannot be reclaimed");
	gives(psp_gctx(PSP_TMR + SZ_4K), INVALID_PAGE_STATE, "nor made a context");
	tmr_drop();
}

/* SNP down. */

static void on_cpu_down(void *p)
{
	static struct rmp_state free;
	u32 *bad = p;
	struct outcome o;

	*bad += rdmsr(MSR_SYSCFG) & SYSCFG_SNP_EN ? 1 : 0;
	*bad += !(rdmsr(MSR_SYSCFG) & SYSCFG_MEM_ENC);
	*bad += snp_run(OP_RMPUPDATE, R0, (u64)&free, KERNEL, &o) != VEC_UD;
	*bad += snp_run(OP_PSMASH, R0, 0, KERNEL, &o) != VEC_UD;
}

struct store_arg {
	void *p;
	u32 faults;
};

static void on_cpu_store(void *p)
{
	struct store_arg *a = p;

	a->faults += try_store(a->p, 1, STORE_8) == VEC_PF;
}

static u32 stores(u64 pa)
{
	struct store_arg a = { map_4k(60, pa, PTE_ALL), 0 };

	run_on_all(on_cpu_store, &a);
	return a.faults;
}

static void down(u32 flags, bool no_buffer)
{
	u64 ctx = PSP_G + SZ_4K, page = PSP_G + 2 * SZ_4K, guest = PSP_G + 3 * SZ_4K;
	bool x86 = flags & SX_X86;
	u32 bad = 0;

	section(x86 ? "psp x86 shutdown" : flags ? "psp shutdown" : "psp shutdown without flags");
	make_guest(ctx, 1);
	to_firmware(page);
	update(guest, 0x1000, 1, 0, 0, 1);
	is(stores(page) + stores(guest) + stores(ctx), 3 * nr_cpus, "assigned pages cannot be written");
	if (has.rmpopt && has.segments)
		is(rmpopt_clean(0), nr_cpus, "a region is optimized");

	model_put(ctx, E_FIRMWARE);
	if (flags & SX_IOMMU)
		iommu_put(E_RECLAIM);
	gives(no_buffer ? psp_call(SNP_SHUTDOWN, NULL, 0) : psp_snp_shutdown(flags), SUCCESS,
	      "SNP_SHUTDOWN%s", no_buffer ? "" : "_EX");
	snp_is_up = false;
	if (x86)
		model_x86_shutdown();
	if (x86 && !flag_is("shutdown-rmpopt-en", "keep"))
		rmpopt_bases_are(WINDOW & ~1ULL, "RMPOPT_EN is cleared, and no more of RMPOPT_BASE");
	else
		rmpopt_bases_are(WINDOW, "RMPOPT_BASE is left alone");
	both_states(0, 0);
	wrong_states(NONE_UP);
	if (x86) {
		run_on_all(on_cpu_down, &bad);
		is(bad, 0, "SNP_EN is off on all vCPUs, RMPUPDATE and PSMASH are #UD");
		is(stores(page) + stores(guest) + stores(ctx) + stores(iommu_pages[0]), 0,
		   "formerly assigned pages can be written");
		is(try_store((void *)rmp_raw(DIRTY), 5, STORE_8), NO_TRAP, "so can RMP memory");
		/* As the kernel does. */
		for (u64 pa = R0; pa < R0 + 3 * SZ_1G; pa += SZ_2M)
			memset((void *)rmp_raw(pa), 0, 512 * 16);
		model_clear_rmp();
		return;
	}
	if (has.rmpopt && has.segments)
		is(rmpopt_clean(1), nr_cpus, "the region is still optimized");
	for (u32 i = 0; i < nr_cpus; i++)
		bad += !(bits_on(i, MSR_SYSCFG, 0, 0) & SYSCFG_SNP_EN);
	is(bad, 0, "SNP_EN stays on all vCPUs");
	is(stores(page) + stores(guest) + stores(ctx), 3 * nr_cpus, "assigned pages cannot be written");
	is(free_4k(guest), RMP_OK, "RMPUPDATE works");
	is(stores(guest), 0, "and frees");
	is(free_4k(page), RMP_FAIL_PERMISSION, "but not immutable pages");
	for (u32 i = 0; flags & SX_IOMMU && psp_has_iommu() && i < ARRAY_SIZE(iommu_pages); i++)
		is(free_4k(iommu_pages[i]), RMP_OK, "IOMMU page %u can be freed", i);
	fixed_page(PSP_FIXED, "HV-Fixed page");
	is(psp_good(0, 0), 1, "entries");
	if (flags & SX_IOMMU)
		return;
	/* Once more without clearing: all stays, what is in the list is added. */
	make_ranges();
	ranges.count = 0;
	range(PSP_FIXED + 8 * SZ_4K, 1);
	range(page, 1);
	model_snp_init(false);
	model_put(PSP_FIXED + 8 * SZ_4K, E_FIXED);
	gives(psp_snp_init(IX_LIST, (u64)&ranges), SUCCESS, "SNP_INIT_EX without clearing the RMP");
	snp_is_up = true;
	gives(psp_call(SNP_DF_FLUSH, NULL, 0), SUCCESS, "SNP_DF_FLUSH");
	model_put(page, E_CONTEXT);
	gives(psp_gctx(page), SUCCESS, "a page that was the firmware's still is");
	model_put(page, E_FIRMWARE);
	gives(psp_decommission(page), SUCCESS, "and can be let go");
}

static void shutdown_params(void)
{
	struct psp_shutdown_snp s = { 8, SX_IOMMU };
	u64 ctx = PSP_G + SZ_4K;
	u32 bad = 0;

	section("psp shutdown parameters");
	for (s.len = 0; s.len < 20; s.len++)
		bad += s.len != 8 && !psp_good(psp_call(SNP_SHUTDOWN_EX, &s, sizeof(s)), INVALID_LEN);
	is(bad, 0, "wrong lengths");
	for (u32 bit = 2; bit < 32; bit++)
		bad += !psp_good(psp_snp_shutdown(SX_IOMMU | BIT(bit)), INVALID_PARAM);
	is(bad, 0, "reserved bits");
	if (flag_off("x86-shutdown")) {
		gives(psp_snp_shutdown(SX_IOMMU | SX_X86), INVALID_PARAM, "x86 bit without the feature");
		gives(psp_snp_shutdown(SX_X86), INVALID_PARAM, "it alone");
	}
	make_guest(ctx, 2);
	model_put(ctx, E_FIRMWARE);
	gives(psp_decommission(ctx), SUCCESS, "decommission a guest");
	gives(psp_snp_shutdown(SX_IOMMU), DFFLUSH_REQUIRED, "shutdown needs a flush");
	gives(psp_call(SNP_SHUTDOWN, NULL, 0), DFFLUSH_REQUIRED, "the one without buffer as well");
	to_hypervisor(ctx);
	is(psp_good(0, 0), 1, "SNP is still up");
	gives(psp_call(SNP_DF_FLUSH, NULL, 0), SUCCESS, "SNP_DF_FLUSH");
}

static void on_cpu_base_off(void *unused __unused)
{
	if (this_cpu()->core != this_cpu()->index)
		return;
	is(set_rmpopt_base(WINDOW), VEC_GP, "RMPOPT_EN cannot be set, vCPU %u", this_cpu()->index);
	is(set_rmpopt_base(R0 | 1), VEC_GP, "nor with another base");
	is(set_rmpopt_base(R0), NO_TRAP, "without RMPOPT_EN another base can be written");
	is(set_rmpopt_base(0), NO_TRAP, "and 0");
}

/* After x86 shutdown, before and after SNP_INIT_EX. @touch: RMPOPT_BASE is written while SNP_EN is off. */
static void bases_come_up(u32 last, bool touch)
{
	bool en = flag_is("shutdown-rmpopt-en", "keep"), table = flag_is("rmpopt-disabled-table", "keep");
	bool rmpopt = has.rmpopt && has.segments;

	section("psp RMPOPT_BASE after x86 shutdown");
	if (rmpopt && touch) {
		run_on_all(on_cpu_base_off, NULL);
		en = false;
	}
	conditions(last);
	section("psp RMPOPT_BASE after SNP_EN");
	if (rmpopt && en) {
		is(rmpopt_clean(1), nr_cpus, "a table that was enabled all the time is as before");
	} else if (rmpopt && !touch) {
		is(rmpopt_clean(1), 0, "a disabled table says nothing");
		rmpopt_bases(WINDOW);
		is(rmpopt_clean(1), table ? nr_cpus : 0, "and enabled what was kept");
	}
	psp_up();
	rmpopt_bases_are(rmpopt && !touch ? WINDOW : 0, "SNP_INIT_EX leaves RMPOPT_BASE alone");
	if (rmpopt) {
		if (touch)
			rmpopt_bases(WINDOW);
		is(rmpopt_clean(1), 0, "and clears the tables, disabled ones as well");
		is(rmpopt_clean(0), nr_cpus, "RMPOPT works");
	}
}

static void down_and_up(void)
{
	/* No flag: SNP comes up again without clearing. */
	down(0, false);
	section("psp down and up");
	gives(psp_snp_shutdown(0), SUCCESS, "shutdown");
	snp_is_up = false;
	psp_up();
	down(SX_IOMMU, false);
	psp_up();
	after_init();
	down(0, true);
	gives(psp_call(SNP_SHUTDOWN, NULL, 0), SUCCESS, "shutdown");
	snp_is_up = false;
	model_snp_init(true);
	iommu_put(E_FIRMWARE);
	gives(psp_call(SNP_INIT, NULL, 0), SUCCESS, "SNP_INIT");
	own_pages();
	iommu_put(E_RECLAIM);
	gives(psp_snp_shutdown(SX_IOMMU), SUCCESS, "shutdown");
	snp_is_up = false;
	psp_up();
	for (u32 i = 0; !flag_off("x86-shutdown") && i < nr_cpus && i < 3; i++) {
		down(SX_IOMMU | SX_X86, false);
		bases_come_up(i, i == 1);
		after_init();
	}
}

void tests_psp_up(void)
{
	section("psp");
	if (!psp_find())
		bail_out("no PSP");
	/* The RMP is plain memory as yet; a reset leaves what was there. */
	for (u64 pa = R0; pa < R0 + 3 * SZ_1G; pa += SZ_2M)
		memset((void *)rmp_raw(pa), 0, 512 * 16);
	for (u32 i = 0; i < 512; i++) {
		rmp_raw(DIRTY + i * SZ_4K)[0] = E_GUEST(i * SZ_4K, i) | E_VMSA;
		rmp_raw(DIRTY + i * SZ_4K)[1] = 0x123456789abcdefULL * i;
	}
	for (u32 i = 0; i < OUT_SIZE / SZ_4K; i++)
		map_4k(64 + i, PSP_OUT + i * SZ_4K, PTE_ALL);
	out = map_4k(64, PSP_OUT, PTE_ALL);
	registers();
	section("psp legacy");
	both_states(0, 0);
	legacy();
	features();
	first_init();
	section("psp legacy, SNP is up");
	legacy();
	features();
	commit_config();
	tmr_states();
}

void tests_psp_down(void)
{
	shutdown_params();
	down_and_up();
}
