// SPDX-License-Identifier: GPL-2.0-only
/* The secure processor: commands for SEV and SEV-ES guests, with SNP initialized. */
#include "psp.h"
#include "tests.h"

/* In the 2 MB of the SNP guests' contexts: a buffer, guest memory and an output of two pages */
#define CTX (PSP_G + SZ_4K)
#define CMD (PSP_G + 40 * SZ_4K)
#define DATA (PSP_G + 41 * SZ_4K)
#define OUT (PSP_G + 43 * SZ_4K)
#define FREE (PSP_G + 45 * SZ_4K)

enum { CMD_WINDOW = 71, DATA_WINDOW, OUT_WINDOW = DATA_WINDOW + 2 };

enum { LUPDATE = 1, LSECRET, RUNNING };

/* Which API the policy asks for */
#define API(major, minor) ((major) << 16 | (u32)(minor) << 24)

static u8 *cmd, *data_page, *out_page;
static u32 min_sev_asid, max_asid;

/* On a page of the firmware, as what a command writes back needs */
static u32 call(u32 command, void *data, u32 size)
{
	u32 status;

	memcpy(cmd, data, size);
	to_firmware(CMD);
	status = psp_at(command, CMD, false);
	memcpy(data, cmd, size);
	to_hypervisor(CMD);
	return status;
}

static u32 launch_start(u32 policy, u32 *handle)
{
	struct psp_sev_start s = { .handle = *handle, .policy = policy };
	u32 status = call(LAUNCH_START, &s, sizeof(s));

	*handle = s.handle;
	return status;
}

static u32 a_guest(u32 policy, u32 asid)
{
	u32 handle = 0;

	if (launch_start(policy, &handle) || !handle)
		note("a guest with policy %x cannot be made", policy);
	if (asid) {
		struct psp_sev_activate s = { handle, asid };

		if (psp_call(ACTIVATE, &s, sizeof(s)))
			note("guest %u does not get ASID %u", handle, asid);
	}
	return handle;
}

static u32 activate(u32 handle, u32 asid)
{
	struct psp_sev_activate s = { handle, asid };

	return psp_call(ACTIVATE, &s, sizeof(s));
}

static u32 on_handle(u32 command, u32 handle)
{
	return psp_call(command, &handle, sizeof(handle));
}

static u32 launch_update(u32 command, u32 handle, u64 address, u32 len)
{
	struct psp_sev_update s = { .handle = handle, .address = address, .len = len };

	return psp_call(command, &s, sizeof(s));
}

static u32 measure(u32 handle, u64 address, u32 *len)
{
	struct psp_sev_update s = { .handle = handle, .address = address, .len = *len };
	u32 status = call(LAUNCH_MEASURE, &s, sizeof(s));

	*len = s.len;
	return status;
}

static u32 dbg(u32 command, u32 handle, u64 src, u64 dst, u32 len)
{
	struct psp_sev_dbg s = { .handle = handle, .src = src, .dst = dst, .len = len };

	return psp_call(command, &s, sizeof(s));
}

static void drop(u32 handle)
{
	on_handle(DEACTIVATE, handle);
	if (on_handle(SEV_DECOMMISSION, handle))
		note("guest %u cannot be decommissioned", handle);
}

static void platform(u32 state, u32 guests)
{
	struct psp_status s = { 0 };

	call(PLATFORM_STATUS, &s, sizeof(s));
	is(s.state, state, "the platform's state is %u", state);
	is(s.guests, guests, "it has %u guests", guests);
}

static void guest_is(u32 handle, u32 policy, u32 asid, u32 state, const char *text)
{
	struct psp_sev_guest_status s = { .handle = handle };
	u32 status = call(SEV_GUEST_STATUS, &s, sizeof(s));

	if (!ok(!status && s.handle == handle && s.policy == policy && s.asid == asid && s.state == state,
		"GUEST_STATUS: %s", text))
		note("status %x handle %x policy %x ASID %u state %u", status, s.handle, s.policy, s.asid, s.state);
}

static void start_params(void)
{
	struct psp_sev_guest_status known = { 0 }, unknown = { .handle = 0x1234 };
	struct psp_sev_start s = { 0 };
	u32 bad = 0, handle, other = 0;

	section("psp sev LAUNCH_START");
	gives(psp_call(LAUNCH_START, &s, sizeof(s)), INVALID_PAGE_STATE, "buffer that is not the firmware's");
	s.reserved = 1;
	gives(call(LAUNCH_START, &s, sizeof(s)), INVALID_PARAM, "reserved field");
	for (u32 bit = 6; bit < 16; bit++) {
		handle = 0;
		bad += launch_start(BIT(bit), &handle) != INVALID_PARAM;
	}
	is(bad, 0, "reserved bits of the policy");
	s = (struct psp_sev_start){ .dh_cert = NOWHERE, .dh_cert_len = 2084 };
	gives(call(LAUNCH_START, &s, sizeof(s)), INVALID_ADDRESS, "no RAM at the certificate");
	s = (struct psp_sev_start){ .session = NO_RAM, .session_len = 128 };
	gives(call(LAUNCH_START, &s, sizeof(s)), INVALID_ADDRESS, "a device at the session");
	handle = 0;
	gives(launch_start(API(2, 0), &handle), POLICY_FAILURE, "a newer major API");
	gives(launch_start(API(1, 56), &handle), POLICY_FAILURE, "a newer minor API");
	handle = 0x1234;
	gives(launch_start(0, &handle), INVALID_GUEST, "key of a guest that does not exist");
	platform(1, 0);

	handle = 0;
	gives(launch_start(API(1, 55), &handle), SUCCESS, "the same API");
	ok(handle, "there is a handle");
	platform(2, 1);
	guest_is(handle, API(1, 55), 0, LUPDATE, "a new guest");
	known.handle = handle;
	gives(psp_call(SEV_GUEST_STATUS, &known, sizeof(known)), INVALID_PAGE_STATE,
	      "GUEST_STATUS: buffer that is not the firmware's");
	gives(psp_call(SEV_GUEST_STATUS, &unknown, sizeof(unknown)), INVALID_GUEST,
	      "GUEST_STATUS of a guest that does not exist");
	other = handle;
	gives(launch_start(SEV_NODBG | API(1, 55), &other), POLICY_FAILURE, "key of a guest with another policy");
	other = handle;
	gives(launch_start(API(1, 55), &other), SUCCESS, "key of a guest with the same policy");
	ok(other && other != handle, "it is a guest of its own");
	platform(2, 2);
	gives(on_handle(SEV_DECOMMISSION, other), SUCCESS, "DECOMMISSION");
	platform(2, 1);
	gives(on_handle(SEV_DECOMMISSION, other), INVALID_GUEST, "DECOMMISSION once more");
	gives(on_handle(SEV_DECOMMISSION, handle), SUCCESS, "DECOMMISSION of the last guest");
	platform(1, 0);
	handle = a_guest(SEV_NOKS, 0);
	other = handle;
	gives(launch_start(SEV_NOKS, &other), POLICY_FAILURE, "key of a guest with NOKS");
	drop(handle);
}

/* What is refused while there is a guest, and what is not */
static void working(void)
{
	u32 handle = a_guest(0, 0);

	section("psp sev WORKING");
	gives(psp_call(DF_FLUSH, NULL, 0), SUCCESS, "DF_FLUSH");
	gives(psp_call(PDH_GEN, NULL, 0), SUCCESS, "PDH_GEN");
	gives(psp_call(PEK_GEN, NULL, 0), INVALID_PLATFORM_STATE, "PEK_GEN");
	gives(psp_call(FACTORY_RESET, NULL, 0), INVALID_PLATFORM_STATE, "FACTORY_RESET");
	gives(psp_init(1, 0, 0), INVALID_PLATFORM_STATE, "INIT");
	gives(psp_snp_shutdown(0), INVALID_PLATFORM_STATE, "SNP_SHUTDOWN_EX");
	gives(psp_reclaim(PSP_TMR), INVALID_PAGE_STATE, "the TMR is still in use");
	drop(handle);
}

static void asids(void)
{
	u32 sev = a_guest(0, 0), other = a_guest(0, 0), es = a_guest(SEV_ES, 0);

	section("psp sev ACTIVATE");
	gives(activate(0x1234, max_asid), INVALID_GUEST, "a guest that does not exist");
	gives(activate(sev, 0), INVALID_ASID, "SEV guest with ASID 0");
	gives(activate(es, 0), INVALID_ASID, "SEV-ES guest with ASID 0");
	gives(activate(sev, max_asid + 1), INVALID_ASID, "ASID above the last");
	gives(activate(sev, min_sev_asid - 1), INVALID_ASID, "SEV guest with the ASID of SEV-ES guests");
	gives(activate(es, min_sev_asid), INVALID_ASID, "SEV-ES guest with the ASID of SEV guests");
	gives(on_handle(DEACTIVATE, sev), INACTIVE, "DEACTIVATE before");
	gives(on_handle(DEACTIVATE, 0x1234), INVALID_GUEST, "DEACTIVATE of a guest that does not exist");
	gives(activate(sev, min_sev_asid), SUCCESS, "SEV guest with its first ASID");
	guest_is(sev, 0, min_sev_asid, LUPDATE, "it has the ASID");
	gives(activate(sev, max_asid), ACTIVE, "once more");
	gives(activate(other, min_sev_asid), ASID_OWNED, "another guest with that ASID");
	gives(activate(other, max_asid), SUCCESS, "another guest with the last ASID");
	gives(activate(es, min_sev_asid - 1), SUCCESS, "SEV-ES guest with its last ASID");
	gives(on_handle(SEV_DECOMMISSION, es), ACTIVE, "DECOMMISSION of an active guest");

	make_guest(CTX, 0);
	gives(psp_activate(CTX, min_sev_asid - 1), ASID_OWNED, "SNP guest with the ASID of an SEV-ES guest");
	gives(on_handle(DEACTIVATE, es), SUCCESS, "DEACTIVATE");
	guest_is(es, SEV_ES, 0, LUPDATE, "it has no ASID");
	gives(activate(es, min_sev_asid - 1), DFFLUSH_REQUIRED, "the same ASID before DF_FLUSH");
	gives(psp_activate(CTX, min_sev_asid - 1), DFFLUSH_REQUIRED, "SNP guest with that ASID before DF_FLUSH");
	gives(psp_call(DF_FLUSH, NULL, 0), SUCCESS, "DF_FLUSH");
	gives(psp_activate(CTX, min_sev_asid - 1), SUCCESS, "SNP guest with that ASID");
	gives(activate(es, min_sev_asid - 1), ASID_OWNED, "SEV-ES guest with the ASID of an SNP guest");
	drop_guest(CTX);
	gives(activate(es, min_sev_asid - 1), SUCCESS, "SEV-ES guest after SNP_DF_FLUSH");
	drop(es);
	drop(other);
	drop(sev);
	psp_call(DF_FLUSH, NULL, 0);
}

static void updates(void)
{
	struct psp_sev_update s = { .address = DATA, .len = SZ_4K, .reserved = 1 };
	u32 sev = a_guest(0, 0), es = a_guest(SEV_ES, 1);

	section("psp sev LAUNCH_UPDATE");
	to_firmware(DATA);
	gives(launch_update(LAUNCH_UPDATE_DATA, 0x1234, DATA, 16), INVALID_GUEST, "a guest that does not exist");
	gives(launch_update(LAUNCH_UPDATE_DATA, sev, DATA, 16), INACTIVE, "without ASID");
	activate(sev, min_sev_asid);
	s.handle = sev;
	gives(psp_call(LAUNCH_UPDATE_DATA, &s, sizeof(s)), INVALID_PARAM, "DATA: reserved field");
	gives(launch_update(LAUNCH_UPDATE_DATA, sev, DATA, 0), INVALID_LEN, "DATA: nothing");
	gives(launch_update(LAUNCH_UPDATE_DATA, sev, DATA, 24), INVALID_LEN, "DATA: half a block");
	gives(launch_update(LAUNCH_UPDATE_DATA, sev, DATA + 8, 16), INVALID_ADDRESS, "DATA: unaligned");
	gives(launch_update(LAUNCH_UPDATE_DATA, sev, NOWHERE, 16), INVALID_ADDRESS, "DATA: no RAM");
	gives(launch_update(LAUNCH_UPDATE_DATA, sev, FREE, 16), INVALID_PAGE_STATE, "DATA: the hypervisor's page");
	gives(launch_update(LAUNCH_UPDATE_DATA, sev, PSP_TMR, 16), INVALID_PAGE_STATE, "DATA: the TMR");
	gives(launch_update(LAUNCH_UPDATE_DATA, sev, DATA + SZ_4K - 16, 32), INVALID_PAGE_STATE,
	      "DATA: into the hypervisor's page");
	gives(launch_update(LAUNCH_UPDATE_DATA, sev, DATA + SZ_4K - 16, 16), SUCCESS, "DATA: the last block");
	gives(launch_update(LAUNCH_UPDATE_DATA, es, DATA, SZ_4K), SUCCESS, "DATA of an SEV-ES guest");
	s.handle = es;
	gives(psp_call(LAUNCH_UPDATE_VMSA, &s, sizeof(s)), INVALID_PARAM, "VMSA: reserved field");
	gives(launch_update(LAUNCH_UPDATE_VMSA, sev, DATA, SZ_4K), POLICY_FAILURE, "VMSA of an SEV guest");
	gives(launch_update(LAUNCH_UPDATE_VMSA, es, DATA, 2048), INVALID_LEN, "VMSA: half a page");
	gives(launch_update(LAUNCH_UPDATE_VMSA, es, DATA + 16, SZ_4K), INVALID_ADDRESS, "VMSA: unaligned");
	gives(launch_update(LAUNCH_UPDATE_VMSA, es, FREE, SZ_4K), INVALID_PAGE_STATE, "VMSA: the hypervisor's page");
	gives(launch_update(LAUNCH_UPDATE_VMSA, es, DATA, SZ_4K), SUCCESS, "VMSA");
	to_hypervisor(DATA);
	drop(es);
	drop(sev);
	psp_call(DF_FLUSH, NULL, 0);
}

/*
 * From hashlib: SHA-256 of 4096 bytes 0 and 4096 bytes 11h, and the HMAC of API 1.55,
 * build 1, policy 0 and that.
 */
static const u8 nonce[16] = {
	0x5d, 0x09, 0x1f, 0x68, 0x0d, 0x8f, 0x5b, 0x14, 0x67, 0x88, 0x1e, 0xfc, 0xff, 0x6f, 0x85, 0xd2
};

static const u8 measurement[32] = {
	0x94, 0xf2, 0x2b, 0x6e, 0x98, 0xe1, 0xa5, 0x66, 0xe9, 0x3e, 0x31, 0x7a, 0x3c, 0xd7, 0x96, 0xe3,
	0xe7, 0x1d, 0x50, 0xc7, 0x7c, 0x8b, 0x1a, 0x20, 0xed, 0x80, 0xd3, 0x94, 0xa9, 0xa5, 0x4a, 0x0a
};

static void launch(void)
{
	u32 handle = a_guest(0, 0), len = 0;

	section("psp sev launch");
	gives(measure(0x1234, OUT, &len), INVALID_GUEST, "LAUNCH_MEASURE of a guest that does not exist");
	gives(measure(handle, OUT, &len), INACTIVE, "LAUNCH_MEASURE without ASID");
	activate(handle, min_sev_asid);
	gives(on_handle(LAUNCH_FINISH, handle), INVALID_GUEST_STATE, "LAUNCH_FINISH before LAUNCH_MEASURE");
	memset(data_page, 0, SZ_4K);
	memset(data_page + SZ_4K, 0x11, SZ_4K);
	to_firmware(DATA);
	to_firmware(DATA + SZ_4K);
	/* A piece at a time gives the same digest. */
	gives(launch_update(LAUNCH_UPDATE_DATA, handle, DATA, 0x1f0), SUCCESS, "first piece");
	gives(launch_update(LAUNCH_UPDATE_DATA, handle, DATA + 0x1f0, 2 * SZ_4K - 0x1f0), SUCCESS, "second piece");
	len = 0;
	gives(measure(handle, 0, &len), INVALID_LEN, "LAUNCH_MEASURE asks for the length");
	is(len, 48, "the length is written back");
	len = 47;
	gives(measure(handle, OUT, &len), INVALID_LEN, "one byte less");
	gives(measure(handle, OUT, &len), INVALID_PAGE_STATE, "the hypervisor's page");
	guest_is(handle, 0, min_sev_asid, LUPDATE, "failures do not change the state");
	memset(out_page, 0xee, SZ_4K);
	to_firmware(OUT);
	gives(measure(handle, OUT + 8, &len), SUCCESS, "LAUNCH_MEASURE");
	is(len, 48, "48 bytes");
	ok(!memcmp(out_page + 8, measurement, 32), "the measurement is right");
	ok(!memcmp(out_page + 40, nonce, 16), "the nonce is that of this emulation");
	ok(out_page[7] == 0xee && out_page[56] == 0xee, "nothing around it is written");
	guest_is(handle, 0, min_sev_asid, LSECRET, "LSECRET");
	gives(launch_update(LAUNCH_UPDATE_DATA, handle, DATA, 16), INVALID_GUEST_STATE, "DATA after that");
	gives(measure(handle, OUT, &len), INVALID_GUEST_STATE, "LAUNCH_MEASURE after that");
	gives(on_handle(LAUNCH_FINISH, 0x1234), INVALID_GUEST, "LAUNCH_FINISH of a guest that does not exist");
	gives(on_handle(LAUNCH_FINISH, handle), SUCCESS, "LAUNCH_FINISH");
	guest_is(handle, 0, min_sev_asid, RUNNING, "RUNNING");
	gives(on_handle(LAUNCH_FINISH, handle), INVALID_GUEST_STATE, "LAUNCH_FINISH once more");
	gives(psp_call(LAUNCH_UPDATE_SECRET, data_page, 52), INVALID_COMMAND, "LAUNCH_UPDATE_SECRET is not there");
	to_hypervisor(OUT);
	to_hypervisor(DATA);
	to_hypervisor(DATA + SZ_4K);
	drop(handle);
	psp_call(DF_FLUSH, NULL, 0);
}

static void debugging(void)
{
	static const struct { u32 command; const char *name; } rows[] = {
		{ DBG_DECRYPT, "DBG_DECRYPT" }, { DBG_ENCRYPT, "DBG_ENCRYPT" },
	};
	u32 handle = a_guest(0, 0), closed = a_guest(SEV_NODBG, max_asid);

	section("psp sev debugging");
	to_firmware(OUT);
	to_firmware(OUT + SZ_4K);
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		const u32 c = rows[i].command;
		struct psp_sev_dbg s = { .handle = handle, .src = DATA, .dst = OUT, .len = 16, .reserved = 1 };

		gives(psp_call(c, &s, sizeof(s)), INVALID_PARAM, "%s: reserved field", rows[i].name);
		gives(dbg(c, 0x1234, DATA, OUT, 16), INVALID_GUEST, "%s: a guest that does not exist", rows[i].name);
		gives(dbg(c, closed, DATA, OUT, 16), POLICY_FAILURE, "%s: NODBG", rows[i].name);
		gives(dbg(c, handle, DATA, OUT, 16), INACTIVE, "%s: without ASID", rows[i].name);
		activate(handle, min_sev_asid);
		gives(dbg(c, handle, DATA, OUT, 0), INVALID_LEN, "%s: nothing", rows[i].name);
		gives(dbg(c, handle, DATA, OUT, 8), INVALID_LEN, "%s: half a block", rows[i].name);
		gives(dbg(c, handle, DATA + 8, OUT, 16), INVALID_ADDRESS, "%s: unaligned source", rows[i].name);
		gives(dbg(c, handle, DATA, OUT + 8, 16), INVALID_ADDRESS, "%s: unaligned destination", rows[i].name);
		gives(dbg(c, handle, NOWHERE, OUT, 16), INVALID_ADDRESS, "%s: no RAM at the source", rows[i].name);
		gives(dbg(c, handle, DATA, NOWHERE, 16), INVALID_ADDRESS, "%s: no RAM at the destination", rows[i].name);
		gives(dbg(c, handle, DATA, FREE, 16), INVALID_PAGE_STATE, "%s: into the hypervisor's page", rows[i].name);
		memset(data_page, 0x30 + i, SZ_4K);
		memset(data_page + SZ_4K, 0x40 + i, SZ_4K);
		gives(dbg(c, handle, DATA + 0x20, OUT + 0x40, 2 * SZ_4K - 0x40), SUCCESS, rows[i].name);
		ok(out_page[0x3f] != 0x30 + i && !memcmp(out_page + 0x40, data_page + 0x20, 2 * SZ_4K - 0x40),
		   "%s copies", rows[i].name);
		on_handle(DEACTIVATE, handle);
		psp_call(DF_FLUSH, NULL, 0);
	}
	to_hypervisor(OUT);
	to_hypervisor(OUT + SZ_4K);
	drop(closed);
	drop(handle);
	psp_call(DF_FLUSH, NULL, 0);
}

/* SHUTDOWN ends all guests. INIT without SEV-ES allows none of these. */
static void shutdown(void)
{
	u32 handle = 0;

	section("psp sev SHUTDOWN");
	a_guest(SEV_ES, 1);
	handle = a_guest(0, 0);
	print("# expect psp working init 0\n");
	sync_referee();
	gives(psp_call(SHUTDOWN, NULL, 0), SUCCESS, "with two guests");
	make_guest(CTX, 0);
	gives(psp_activate(CTX, 1), DFFLUSH_REQUIRED, "the ASID of a guest needs a flush");
	drop_guest(CTX);
	gives(psp_init(0, 0, 0), SUCCESS, "INIT without SEV-ES");
	platform(1, 0);
	gives(on_handle(SEV_DECOMMISSION, handle), INVALID_PLATFORM_STATE, "no guest is left");
	handle = 0;
	gives(launch_start(SEV_ES, &handle), POLICY_FAILURE, "LAUNCH_START with SEV-ES");
	gives(launch_start(0, &handle), SUCCESS, "LAUNCH_START without");
	gives(psp_call(SHUTDOWN, NULL, 0), SUCCESS, "SHUTDOWN");
	psp_call(SNP_DF_FLUSH, NULL, 0);
	gives(psp_init(1, PSP_TMR, SZ_1M), SUCCESS, "INIT with SEV-ES");
}

void tests_psp_sev(void)
{
	static const u16 with_buffer[] = {
		LAUNCH_START, SEV_DECOMMISSION, ACTIVATE, DEACTIVATE, SEV_GUEST_STATUS, LAUNCH_UPDATE_DATA,
		LAUNCH_UPDATE_VMSA, LAUNCH_MEASURE, LAUNCH_FINISH, DBG_DECRYPT, DBG_ENCRYPT,
	};
	u32 r[4], handle;

	cpuid(0x8000001f, 0, r);
	max_asid = r[2];
	min_sev_asid = r[3];
	cmd = map_4k(CMD_WINDOW, CMD, PTE_ALL);
	data_page = map_4k(DATA_WINDOW, DATA, PTE_ALL);
	map_4k(DATA_WINDOW + 1, DATA + SZ_4K, PTE_ALL);
	out_page = map_4k(OUT_WINDOW, OUT, PTE_ALL);
	map_4k(OUT_WINDOW + 1, OUT + SZ_4K, PTE_ALL);
	tmr_make();
	start_params();
	working();
	handle = a_guest(0, 0);
	section("psp sev");
	psp_no_buffers(with_buffer, ARRAY_SIZE(with_buffer));
	drop(handle);
	asids();
	updates();
	launch();
	debugging();
	shutdown();
	tmr_drop();
	section("psp sev");
	is(psp_good(0, 0), 1, "all is free");
}
