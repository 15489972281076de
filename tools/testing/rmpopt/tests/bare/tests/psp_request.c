// SPDX-License-Identifier: GPL-2.0-only
/* Messages of a guest to the secure processor: reports, keys, and all that it refuses. */
#include "gcm.h"
#include "psp.h"
#include "tests.h"

#define CTX (PSP_G + 40 * SZ_4K)
#define SECRETS_PA (PSP_G + 41 * SZ_4K)
#define RESPONSE (PSP_G + 42 * SZ_4K)
#define OTHER (PSP_G + 43 * SZ_4K)
#define LARGE (R0 + 12 * SZ_2M)
#define GPA 0x200000ULL
#define ASID_GUEST 2
#define HEADER 0x60
#define VCEK_DISABLED 4

static struct psp_message msg __aligned(4096), answer __aligned(4096);
static struct psp_report_rsp *const report = (void *)answer.payload;
static struct psp_key_rsp *const derived = (void *)answer.payload;
static struct psp_snp_status platform;
static u8 keys[4][GCM_KEY], digest[48];
/* Messages so far with each key, as the firmware has to count them. */
static u64 counts[4];
static u64 seed;

static u32 rnd(u32 n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (seed >> 33) % n;
}

static void random_bytes(void *p, u32 len)
{
	for (u32 i = 0; i < len; i++)
		((u8 *)p)[i] = rnd(256);
}

/* A guest with a secrets page, and that digest, up to SNP_LAUNCH_FINISH. */
static void load(void)
{
	u8 info[0x70] = { 0 };

	make_guest(CTX, ASID_GUEST);
	update(SECRETS_PA, GPA, 1, 0, 1, ASID_GUEST);
	model_put(SECRETS_PA, E_GUEST(GPA, ASID_GUEST));
	gives(psp_update(CTX, SECRETS, SECRETS_PA), SUCCESS, "a secrets page");
	memcpy(keys, (u8 *)phys(SECRETS_PA) + 0x20, sizeof(keys));
	info[0x60] = sizeof(info);
	info[0x62] = SECRETS;
	info[0x68 + 2] = GPA >> 16;
	sha384(info, sizeof(info), digest);
	for (u32 i = 0; i < 4; i++)
		counts[i] = flag_value("message-count", 0);
}

static void launch(u64 flags)
{
	struct psp_finish s = { .gctx = CTX, .flags = flags };

	memset(s.host_data, 0x5a, sizeof(s.host_data));
	load();
	gives(psp_call(SNP_LAUNCH_FINISH, &s, sizeof(s)), SUCCESS, "SNP_LAUNCH_FINISH");
}

static void drop(void)
{
	to_hypervisor(SECRETS_PA);
	drop_guest(CTX);
}

static void cipher(bool encrypt, struct psp_message *m, u8 tag[GCM_TAG])
{
	u32 len = m->size < sizeof(m->payload) ? m->size : sizeof(m->payload);
	u8 iv[GCM_IV] = { 0 };

	memcpy(iv, &m->seqno, sizeof(m->seqno));
	gcm(encrypt, keys[m->vmpck & 3], iv, &m->algo, HEADER - 0x30, m->payload, len, tag);
}

static void seal(void)
{
	cipher(true, &msg, msg.tag);
}

/* A good message, not encrypted yet. */
static void *prepare(u32 vmpck, u32 type)
{
	memset(&msg, 0, sizeof(msg));
	msg.seqno = counts[vmpck] + 1;
	msg.algo = 1;
	msg.hdr_version = 1;
	msg.hdr_size = HEADER;
	msg.type = type;
	msg.version = 1;
	msg.size = type == KEY_REQ ? sizeof(struct psp_key_req) : sizeof(struct psp_report_req);
	msg.vmpck = vmpck;
	return msg.payload;
}

static u32 send(void)
{
	struct psp_request s = { CTX, (u64)&msg, RESPONSE };

	return psp_call(SNP_GUEST_REQUEST, &s, sizeof(s));
}

/* Whether the response is right, which is the message that is counted. Decrypts it. */
static bool opened(void)
{
	static const u8 zero[35];
	u32 vmpck = msg.vmpck, size = msg.type == KEY_REQ ? sizeof(*derived) : sizeof(*report);
	u8 tag[GCM_TAG];

	memcpy(&answer, phys(RESPONSE), sizeof(answer));
	counts[vmpck] += 2;
	if (answer.seqno != counts[vmpck] || answer.algo != 1 || answer.hdr_version != 1 ||
	    answer.hdr_size != HEADER || answer.type != msg.type + 1 || answer.version != 1 ||
	    answer.size != size || answer.vmpck != vmpck || memcmp(answer.tag + GCM_TAG, zero, 16) ||
	    memcmp(answer.rsvd, zero, 8) || memcmp(answer.rsvd2, zero, 4) || memcmp(answer.rsvd3, zero, 35))
		return false;
	cipher(false, &answer, tag);
	return !memcmp(tag, answer.tag, GCM_TAG);
}

/* A request that gets a response, which has that status. */
static bool answered(u32 want)
{
	u32 got;

	seal();
	if (!psp_good(send(), SUCCESS))
		return false;
	if (!opened()) {
		note("the response is wrong");
		return false;
	}
	got = derived->status;
	if (got != want)
		note("status %x in the response, expected %x", got, want);
	return got == want;
}

/* The page for the response stays as it is. */
static bool refused(u32 want)
{
	static u8 before[4096];

	memcpy(before, phys(RESPONSE), sizeof(before));
	return psp_good(send(), want) && !memcmp(before, phys(RESPONSE), sizeof(before));
}

static u32 send_from(u64 pa)
{
	struct psp_request s = { CTX, pa, RESPONSE };

	return psp_call(SNP_GUEST_REQUEST, &s, sizeof(s));
}

static u32 send_to(u64 pa)
{
	struct psp_request s = { CTX, (u64)&msg, pa };

	return psp_call(SNP_GUEST_REQUEST, &s, sizeof(s));
}

static u32 send_of(u64 gctx)
{
	struct psp_request s = { gctx, (u64)&msg, RESPONSE };

	return psp_call(SNP_GUEST_REQUEST, &s, sizeof(s));
}

/* What is wrong before the message is looked at. */
static void places(void)
{
	u32 bad = 0;

	section("psp request: guest and pages");
	prepare(0, REPORT_REQ);
	seal();
	gives(send_of(CTX + SZ_4K), INVALID_GUEST, "a page that is no context");
	gives(send_of(NOWHERE), INVALID_GUEST, "no page");
	make_guest(OTHER, 0);
	gives(send_of(OTHER), INVALID_GUEST_STATE, "a guest that is being launched");
	drop_guest(OTHER);
	for (u32 bit = 0; bit < 12; bit++) {
		bad += !psp_good(send_from((u64)&msg | BIT(bit)), INVALID_ADDRESS);
		bad += !psp_good(send_to(RESPONSE | BIT(bit)), INVALID_ADDRESS);
	}
	is(bad, 0, "pages that are not aligned");
	gives(send_from(NOWHERE), INVALID_ADDRESS, "request: no RAM");
	gives(send_from(NO_RAM), INVALID_ADDRESS, "request: a device");
	gives(send_to(NOWHERE), INVALID_ADDRESS, "response: no RAM");
	gives(send_to(NO_RAM), INVALID_ADDRESS, "response: a device");
	is(update(LARGE, 0, 1, 1, 1, 0), RMP_OK, "2M to the firmware");
	gives(send_to(LARGE), INVALID_PAGE_SIZE, "response: page of 2M");
	for (u32 i = 0; i < 512; i++)
		model_put(LARGE + i * SZ_4K, E_RECLAIM | E_2M);
	gives(psp_reclaim(LARGE | 1), SUCCESS, "back");
	is(free_2m(LARGE), RMP_OK, "free it");
	gives(send_to(OTHER), INVALID_PAGE_STATE, "response: Hypervisor page");
	gives(send_to((u64)&msg), INVALID_PAGE_STATE, "response: the request's page");
	update(OTHER, 0, 1, 0, 0, 0);
	gives(send_to(OTHER), INVALID_PAGE_STATE, "response: Reclaim page");
	to_hypervisor(OTHER);
	gives(send_to(CTX), INVALID_PAGE_STATE, "response: Context page");
	gives(send_to(SECRETS_PA), INVALID_PAGE_STATE, "response: Guest-Valid page");
	gives(send_to(rmp_base), INVALID_PAGE_STATE, "response: RMP page");
	/* Nothing of this has been counted. */
	prepare(0, REPORT_REQ);
	ok(answered(SUCCESS), "the same message to a good page");
	/* The firmware may read what it cannot write. */
	prepare(0, REPORT_REQ);
	seal();
	/* Of its 2 MB, others are assigned. */
	memcpy(map_4k(70, OTHER, PTE_ALL), &msg, sizeof(msg));
	to_firmware(OTHER);
	gives(send_from(OTHER), SUCCESS, "request: Firmware page");
	ok(opened(), "has a response");
	to_hypervisor(OTHER);
}

static void headers(void)
{
	static const struct { u8 from, to; const char *name; } fields[] = {
		{ 0x10, 0x1f, "tag above 16 bytes" }, { 0x28, 0x2f, "reserved, 28h" }, { 0x30, 0x30, "ALGO" },
		{ 0x31, 0x31, "HDR_VERSION" }, { 0x32, 0x33, "HDR_SIZE" }, { 0x34, 0x34, "MSG_TYPE" },
		{ 0x35, 0x35, "MSG_VERSION" }, { 0x36, 0x37, "MSG_SIZE" }, { 0x38, 0x3b, "reserved, 38h" },
		{ 0x3c, 0x3c, "MSG_VMPCK" }, { 0x3d, 0x5f, "reserved, 3Dh" },
	};
	u32 bad = 0;

	section("psp request: header");
	for (u32 i = 0; i < ARRAY_SIZE(fields); i++) {
		bad = 0;
		for (u32 bit = fields[i].from * 8; bit < fields[i].to * 8 + 8U; bit++) {
			/* There are keys 0 to 3. */
			if (bit == 0x3c * 8 || bit == 0x3c * 8 + 1)
				continue;
			prepare(0, REPORT_REQ);
			((u8 *)&msg)[bit / 8] ^= BIT(bit % 8);
			seal();
			bad += !refused(INVALID_PARAM);
		}
		is(bad, 0, "INVALID_PARAM: %s, each bit", fields[i].name);
	}
	bad = 0;
	for (u32 type = 0; type < 256; type++) {
		prepare(0, REPORT_REQ);
		msg.type = type;
		seal();
		bad += type != REPORT_REQ && !refused(INVALID_PARAM);
	}
	is(bad, 0, "INVALID_PARAM: all types but that of the request");
	bad = 0;
	for (u32 size = 0; size < 0x10000; size += size < 0x80 || size >= 0xff80 ? 1 : 0x7f) {
		for (u32 type = KEY_REQ; type <= REPORT_REQ; type += 2) {
			if (size == (type == KEY_REQ ? sizeof(struct psp_key_req) : sizeof(struct psp_report_req)))
				continue;
			prepare(0, type);
			msg.size = size;
			bad += !refused(INVALID_PARAM);
		}
	}
	is(bad, 0, "INVALID_PARAM: other sizes");
}

static void sequence(void)
{
	static const s8 wrong[] = { -3, -2, -1, 1, 2, 3 };
	static struct psp_message old;
	u32 bad = 0;

	section("psp request: sequence numbers and tags");
	for (u32 key = 0; key < 4; key++) {
		bad = 0;
		for (u32 i = 0; i < ARRAY_SIZE(wrong); i++) {
			prepare(key, KEY_REQ);
			msg.seqno += wrong[i];
			((struct psp_key_req *)msg.payload)->vmpl = key;
			seal();
			bad += !refused(INVALID_PARAM);
		}
		is(bad, 0, "VMPCK%u: INVALID_PARAM: other numbers than the next one", key);
		((struct psp_key_req *)prepare(key, KEY_REQ))->vmpl = key;
		ok(answered(SUCCESS), "VMPCK%u: the next one", key);
		memcpy(&old, &msg, sizeof(old));
		ok(refused(INVALID_PARAM), "VMPCK%u: INVALID_PARAM: the same message again", key);
		((struct psp_key_req *)prepare(key, KEY_REQ))->vmpl = key;
		ok(answered(SUCCESS), "VMPCK%u: the one after it", key);
		memcpy(&msg, &old, sizeof(msg));
		ok(refused(INVALID_PARAM), "VMPCK%u: INVALID_PARAM: an old message", key);
		msg.seqno = counts[key] + 1;
		ok(refused(BAD_MEASUREMENT), "VMPCK%u: BAD_MEASUREMENT: with the number changed", key);
	}
	bad = 0;
	for (u32 bit = 0; bit < GCM_TAG * 8; bit++) {
		prepare(0, REPORT_REQ);
		seal();
		msg.tag[bit / 8] ^= BIT(bit % 8);
		bad += !refused(BAD_MEASUREMENT);
	}
	is(bad, 0, "BAD_MEASUREMENT: each bit of the tag");
	bad = 0;
	for (u32 i = 0; i < sizeof(struct psp_report_req); i++) {
		prepare(0, REPORT_REQ);
		seal();
		msg.payload[i] ^= BIT(i % 8);
		bad += !refused(BAD_MEASUREMENT);
	}
	is(bad, 0, "BAD_MEASUREMENT: each byte of the payload");
	for (u32 key = 1; key < 4; key++) {
		prepare(0, REPORT_REQ);
		msg.seqno = counts[key] + 1;
		seal();
		msg.vmpck = key;
		ok(refused(BAD_MEASUREMENT), "BAD_MEASUREMENT: VMPCK%u is not the key", key);
	}
	prepare(0, REPORT_REQ);
	msg.payload[sizeof(msg.payload) - 1] = 1;
	ok(answered(SUCCESS), "what is behind the payload does not matter");
}

/* The largest number of a response is 2^64 - 1. */
static void overflow(void)
{
	section("psp request: last messages");
	launch(0);
	is(counts[0], ~2ULL, "there is room for two messages");
	for (u32 key = 0; key < 4; key++) {
		((struct psp_report_req *)prepare(key, REPORT_REQ))->vmpl = key;
		ok(answered(SUCCESS), "VMPCK%u: the last request", key);
		prepare(key, REPORT_REQ);
		seal();
		ok(refused(AEAD_OFLOW), "VMPCK%u: AEAD_OFLOW: one more", key);
	}
	drop();
}

static struct psp_report_req *report_req(u32 key)
{
	struct psp_report_req *r = prepare(key, REPORT_REQ);

	r->vmpl = key;
	for (u32 i = 0; i < sizeof(r->data); i++)
		r->data[i] = i ^ 0xa5;
	return r;
}

static void fields(const struct psp_report *r)
{
	static u8 first[32];
	u32 id[4], bad = 0;
	u8 ones = 0xff, zeros = 0;

	cpuid(1, 0, id);
	ok(r->version == 3 && r->algo == 1 && !r->flags && r->platform >> 1 == 0x10, "version, algorithm, flags");
	ok(r->policy == POLICY && !r->svn, "policy and SVN");
	is(r->family, (id[0] >> 8 & 15) + (id[0] >> 20 & 255), "family");
	is(r->model, (id[0] >> 4 & 15) | (id[0] >> 12 & 0xf0), "model");
	is(r->stepping, id[0] & 15, "stepping");
	ok(r->tcb == platform.tcb && r->reported_tcb == platform.reported_tcb && r->committed_tcb == platform.tcb &&
	   r->launch_tcb == platform.tcb, "TCB versions");
	ok(r->build == platform.build && r->minor == platform.minor && r->major == platform.major, "version");
	for (u32 i = 0; i < sizeof(r->data); i++)
		bad += r->data[i] != (i ^ 0xa5);
	is(bad, 0, "the guest's data");
	ok(!memcmp(r->digest, digest, sizeof(digest)), "launch digest");
	is(r->host_data[0] == 0x5a && r->host_data[31] == 0x5a, 1, "host data");
	for (u32 i = 0; i < 32; i++)
		ones &= r->id_ma[i];
	for (u32 i = 0; i < sizeof(r->chip); i++)
		zeros |= r->chip[i];
	is(ones, 0xff, "no migration agent");
	ok(zeros, "a chip");
	if (memcmp(first, (u8[32]){ 0 }, 32))
		ok(memcmp(first, r->id, 32), "another guest has another ID");
	memcpy(first, r->id, 32);
	ok(!memcmp(r->id_key, (u8[48]){ 0 }, 48) && !memcmp(r->author_key, (u8[48]){ 0 }, 48) &&
	   !memcmp(r->family_id, (u8[32]){ 0 }, 32), "no ID block");
}

static u32 config(u32 flags)
{
	struct psp_config c = { .flags = flags };

	return psp_call(SNP_CONFIG, &c, sizeof(c));
}

static void reports(void)
{
	static const u32 where[] = { 0, 0x50, 0x90, 0x29f, 0x2a0, 0x2e8 };
	struct psp_report *r = &report->report;
	struct psp_report_req *req;
	u8 none[512] = { 0 };
	u32 bad = 0;

	section("psp request: report");
	for (u32 key = 0; key < 4; key++) {
		for (u32 vmpl = 0; vmpl < 6; vmpl++) {
			report_req(key)->vmpl = vmpl;
			ok(answered(vmpl < key || vmpl > 3 ? INVALID_PARAM : SUCCESS), "VMPCK%u: VMPL %u", key, vmpl);
			if (vmpl == key)
				ok(report->size == sizeof(*r) && r->vmpl == vmpl && report_signed(r),
				   "VMPCK%u: the report is signed", key);
		}
	}
	report_req(0)->vmpl = ~0U;
	ok(answered(INVALID_PARAM), "VMPL FFFFFFFFh");
	report_req(0);
	ok(answered(SUCCESS), "a report");
	fields(r);
	for (u32 i = 0; i < ARRAY_SIZE(where); i++) {
		((u8 *)r)[where[i]] ^= 1;
		ok(!report_signed(r), "with byte %xh changed it is not", where[i]);
		((u8 *)r)[where[i]] ^= 1;
	}
	for (u32 select = 0; select < 5; select++) {
		report_req(0)->select = select;
		ok(answered(select < 2 ? SUCCESS : select == 2 ? INVALID_KEY : INVALID_PARAM), "key selection %u", select);
	}
	for (u32 bit = 3; bit < 32; bit++) {
		report_req(0)->select = BIT(bit);
		bad += !answered(INVALID_PARAM);
	}
	for (u32 i = 0; i < sizeof(req->rsvd); i++) {
		req = report_req(0);
		req->rsvd[i] = 1;
		bad += !answered(INVALID_PARAM);
	}
	is(bad, 0, "reserved bits");
	is(config(1), SUCCESS, "mask the chip's ID");
	report_req(0);
	ok(answered(SUCCESS) && !memcmp(r->chip, none, sizeof(r->chip)) && !r->flags && report_signed(r),
	   "the report has no chip");
	is(config(2), SUCCESS, "mask the chip's key");
	report_req(0);
	ok(answered(SUCCESS) && !memcmp(r->signature, none, sizeof(none)) && r->flags == (2 | 7 << 2),
	   "the report has no signature");
	is(config(0), SUCCESS, "as before");
}

static struct psp_key_req *key_req(u32 key)
{
	struct psp_key_req *r = prepare(key, KEY_REQ);

	r->vmpl = key;
	return r;
}

static void derived_keys(void)
{
	static u8 all[3 + 64 + 1][32], again[32];
	struct psp_key_req *r;
	u32 bad = 0, n = 0;

	section("psp request: derived keys");
	for (u32 vmpl = 0; vmpl < 3; vmpl++) {
		key_req(0)->vmpl = vmpl + 1;
		ok(answered(SUCCESS), "VMPL %u", vmpl + 1);
		memcpy(all[n++], derived->key, 32);
	}
	for (u64 fields = 0; fields < 64; fields++) {
		key_req(0)->fields = fields;
		bad += !answered(SUCCESS);
		memcpy(all[n++], derived->key, 32);
	}
	is(bad, 0, "any of 6 fields");
	key_req(0)->select = 1;
	ok(answered(SUCCESS), "VMRK as root");
	memcpy(all[n++], derived->key, 32);
	for (u32 i = 0; i < n; i++) {
		for (u32 k = 0; k < i; k++)
			bad += !memcmp(all[i], all[k], 32);
	}
	is(bad, 0, "%u keys, all different", n);
	key_req(0)->fields = 5;
	ok(answered(SUCCESS) && !memcmp(derived->key, all[3 + 5], 32), "the same request, the same key");
	key_req(0)->fields = 0x20;
	ok(answered(SUCCESS), "TCB version 0");
	memcpy(again, derived->key, 32);
	r = key_req(0);
	r->fields = 0x20;
	r->tcb = platform.tcb;
	ok(answered(SUCCESS) && memcmp(derived->key, again, 32), "the present TCB version");
	for (u32 i = 0; i < 8; i++) {
		key_req(0)->tcb = platform.tcb + BIT(8 * i);
		bad += !answered(INVALID_PARAM);
	}
	is(bad, 0, "a later TCB version: each byte");
	key_req(0)->svn = 1;
	ok(answered(INVALID_PARAM), "an SVN that the guest does not have");
	for (u32 bit = 6; bit < 64; bit++) {
		key_req(0)->fields = BIT(bit);
		bad += !answered(INVALID_PARAM);
	}
	is(bad, 0, "other fields");
	for (u32 select = 0; select < 16; select++) {
		key_req(0)->select = select;
		ok(answered(select > 5 ? INVALID_PARAM : select == 4 ? INVALID_KEY : SUCCESS), "key selection %u", select);
	}
	key_req(0)->rsvd = 1;
	ok(answered(INVALID_PARAM), "reserved field");
	for (u32 key = 0; key < 4; key++) {
		for (u32 vmpl = 0; vmpl < 6; vmpl++) {
			key_req(key)->vmpl = vmpl;
			ok(answered(vmpl < key || vmpl > 3 ? INVALID_PARAM : SUCCESS), "VMPCK%u: VMPL %u", key, vmpl);
		}
	}

	/* The chip's keys are for all guests that are equal, those of the VMRK for one. */
	drop();
	launch(0);
	key_req(0)->fields = 63;
	ok(answered(SUCCESS) && !memcmp(derived->key, all[3 + 63], 32), "an equal guest gets the same key");
	key_req(0)->select = 1;
	ok(answered(SUCCESS) && memcmp(derived->key, all[n - 1], 32), "but another one from its VMRK");
	report_req(0);
	ok(answered(SUCCESS), "a report");
	fields(&report->report);

	drop();
	launch(VCEK_DISABLED);
	section("psp request: VCEK disabled");
	for (u32 select = 0; select < 4; select++) {
		report_req(0)->select = select;
		ok(answered(select < 3 ? INVALID_KEY : INVALID_PARAM), "report, key selection %u", select);
	}
	key_req(0);
	ok(answered(INVALID_KEY), "a key from it");
	key_req(0)->select = 1;
	ok(answered(SUCCESS), "one from the VMRK");
}

static u32 finish_with(struct psp_id_block *id, const struct psp_id_auth *auth, u64 flags)
{
	struct psp_finish s = { .gctx = CTX, .id_block = (u64)id, .id_auth = (u64)auth, .flags = flags };

	return psp_call(SNP_LAUNCH_FINISH, &s, sizeof(s));
}

/* SNP_LAUNCH_FINISH with a bit of what it reads changed. */
static u32 finish_changed(struct psp_id_block *id, struct psp_id_auth *auth, u64 flags, void *byte)
{
	u32 status;

	*(u8 *)byte ^= 1;
	status = finish_with(id, auth, flags);
	*(u8 *)byte ^= 1;
	return status;
}

/* Whose guest that is: its owner has signed what it must be. */
static void id_blocks(void)
{
	static struct psp_id_block id __aligned(4096);
	struct psp_id_auth *auth;
	struct psp_report *r = &report->report;
	struct psp_key_req *req;
	u8 want[48], key[32];

	section("psp id block");
	for (u64 flags = 1; flags < 4; flags += 2) {
		const char *by = flags == 1 ? "ID key" : "ID key and author key";

		load();
		memset(&id, 0x77, sizeof(id));
		memcpy(id.digest, digest, sizeof(digest));
		id.version = 1;
		id.svn = 7;
		id.policy = POLICY;
		auth = psp_sign(&id);
		gives(finish_changed(&id, auth, flags, &auth->id_key_algo), INVALID_PARAM, "%s: algorithm", by);
		gives(finish_changed(&id, auth, flags, &auth->id_key.curve), BAD_SIGNATURE, "%s: curve", by);
		gives(finish_changed(&id, auth, flags, auth->id_key.x), BAD_SIGNATURE, "%s: no key", by);
		gives(finish_changed(&id, auth, flags, auth->block_signature.r), BAD_SIGNATURE, "%s: R", by);
		gives(finish_changed(&id, auth, flags, auth->block_signature.s), BAD_SIGNATURE, "%s: S", by);
		gives(finish_changed(&id, auth, flags, &id.svn), BAD_SIGNATURE, "%s: another SVN", by);
		gives(finish_changed(&id, auth, flags, id.ids), BAD_SIGNATURE, "%s: another family", by);
		gives(finish_changed(&id, auth, flags, id.digest), BAD_MEASUREMENT, "%s: another digest", by);
		gives(finish_changed(&id, auth, flags, &id.policy), POLICY_FAILURE, "%s: another policy", by);
		if (flags == 3) {
			gives(finish_changed(&id, auth, flags, &auth->author_key_algo), INVALID_PARAM,
			      "author key: algorithm");
			gives(finish_changed(&id, auth, flags, auth->key_signature.s), BAD_SIGNATURE, "author key: S");
			gives(finish_changed(&id, auth, flags, auth->author_key.y), BAD_SIGNATURE, "author key: none");
			gives(finish_changed(&id, auth, flags, &auth->id_key.rsvd[879]), BAD_SIGNATURE,
			      "author key: it has signed all of the ID key");
		}
		gives(finish_with(&id, auth, 2), INVALID_PARAM, "an author key without an ID block");
		gives(finish_with(&id, auth, flags), SUCCESS, "%s: signed", by);
		report_req(0);
		ok(answered(SUCCESS) && report_signed(r), "a report");
		ok(r->svn == 7 && !memcmp(r->family_id, id.ids, 32), "has SVN, family and image");
		sha384(&auth->id_key, sizeof(auth->id_key), want);
		ok(!memcmp(r->id_key, want, 48), "has the digest of the ID key");
		sha384(&auth->author_key, sizeof(auth->author_key), want);
		is(!memcmp(r->author_key, want, 48), flags == 3, "has that of the author key, if there is one");
		is(r->flags, flags == 3, "and says so");
		for (u32 svn = 6; svn < 9; svn++) {
			req = key_req(0);
			req->fields = BIT(4);
			req->svn = svn;
			ok(answered(svn > 7 ? INVALID_PARAM : SUCCESS), "a key for SVN %u", svn);
			if (svn == 7)
				ok(memcmp(key, derived->key, 32), "is not that for SVN 6");
			memcpy(key, derived->key, 32);
		}
		drop();
	}
}

static bool all_zero(const void *p, u32 len)
{
	const u8 *byte = p;

	while (len && !*byte)
		byte++, len--;
	return !len;
}

/* What the firmware has to say to the message, if its tag is good or not. */
static u32 model_status(bool sealed)
{
	u32 size = msg.type == KEY_REQ ? sizeof(struct psp_key_req) :
		   msg.type == REPORT_REQ ? sizeof(struct psp_report_req) : 0x10000;

	if (msg.algo != 1 || msg.hdr_version != 1 || msg.hdr_size != HEADER || msg.version != 1 ||
	    msg.size != size || msg.vmpck > 3 || !all_zero(msg.tag + GCM_TAG, 16) || !all_zero(msg.rsvd, 8) ||
	    !all_zero(msg.rsvd2, 4) || !all_zero(msg.rsvd3, 35) || msg.seqno != counts[msg.vmpck] + 1)
		return INVALID_PARAM;
	return sealed ? SUCCESS : BAD_MEASUREMENT;
}

/* And in the response. */
static u32 model_answer(void)
{
	const struct psp_report_req *r = (void *)msg.payload;
	const struct psp_key_req *k = (void *)msg.payload;
	u32 vmpl = msg.type == KEY_REQ ? k->vmpl : r->vmpl;

	if (vmpl < msg.vmpck || vmpl > 3)
		return INVALID_PARAM;
	if (msg.type == REPORT_REQ)
		return r->select > 2 || !all_zero(r->rsvd, 24) ? INVALID_PARAM : r->select == 2 ? INVALID_KEY : SUCCESS;
	if (k->select > 5 || k->rsvd || k->fields > 63 || k->svn)
		return INVALID_PARAM;
	for (u32 i = 0; i < 64; i += 8) {
		if ((k->tcb >> i & 255) > (platform.tcb >> i & 255))
			return INVALID_PARAM;
	}
	return k->select == 4 ? INVALID_KEY : SUCCESS;
}

/* A message with random contents, and a random fault in one of two. */
static bool random_message(u32 seen[64])
{
	u32 how = rnd(8), type = rnd(2) ? KEY_REQ : REPORT_REQ, want, inner = SUCCESS, got;
	struct psp_report_req *r = prepare(rnd(4), type);
	struct psp_key_req *k = (void *)r;
	bool sealed = true;

	if (type == REPORT_REQ) {
		random_bytes(r->data, sizeof(r->data));
		r->vmpl = rnd(5);
		r->select = rnd(8) ? 0 : rnd(4);
		r->rsvd[rnd(24)] = !rnd(16);
	} else {
		k->select = rnd(8) ? rnd(2) : rnd(8);
		k->fields = rnd(rnd(8) ? 64 : 128);
		k->vmpl = rnd(5);
		k->svn = !rnd(16);
		k->tcb = rnd(4) ? 0 : platform.tcb + BIT(rnd(64));
	}
	if (how == 0)
		((u8 *)&msg)[0x10 + rnd(HEADER - 0x10)] ^= BIT(rnd(8));
	if (how == 1)
		msg.seqno += rnd(4) - 2;
	inner = model_answer();
	seal();
	if (how == 2) {
		((u8 *)&msg)[rnd(HEADER + msg.size)] ^= BIT(rnd(8));
		sealed = false;
	}
	if (how == 3) {
		random_bytes(msg.payload, sizeof(msg.payload));
		sealed = false;
		if (rnd(2))
			random_bytes(&msg, HEADER);
		else
			msg.size = rnd(0x10000);
	}
	want = model_status(sealed);
	got = send();
	seen[want]++;
	if (got != want)
		note("status %x, expected %x", got, want);
	if (got != want || want)
		return got == want;
	seen[inner]++;
	return opened() && derived->status == inner;
}

static void random_messages(void)
{
	static const u8 results[] = { SUCCESS, INVALID_PARAM, BAD_MEASUREMENT, INVALID_KEY };
	u32 total = flag_value("messages", 1000), bad = 0, missing = 0, seen[64] = { 0 };

	section("psp request: random messages");
	seed = flag_value("seed", 1);
	for (u32 i = 0; i < total; i++)
		bad += !random_message(seen);
	is(bad, 0, "%u messages", total);
	for (u32 i = 0; i < ARRAY_SIZE(results); i++)
		missing += !seen[results[i]];
	is(missing, 0, "all results were seen");
	is(psp_good(0, 0), 1, "pages are as they were");
}

/* Test case 16 of the specification of GCM that was submitted to NIST. */
static void vector(void)
{
	static const u8 key[16] = { 0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67,
				    0x30, 0x83, 0x08 };
	static const u8 iv[GCM_IV] = { 0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce, 0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88 };
	static const u8 known[20] = { 0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xfe, 0xed, 0xfa, 0xce, 0xde,
				      0xad, 0xbe, 0xef, 0xab, 0xad, 0xda, 0xd2 };
	static const u8 text[60] = { 0xd9, 0x31, 0x32, 0x25, 0xf8, 0x84, 0x06, 0xe5, 0xa5, 0x59, 0x09, 0xc5, 0xaf,
				     0xf5, 0x26, 0x9a, 0x86, 0xa7, 0xa9, 0x53, 0x15, 0x34, 0xf7, 0xda, 0x2e, 0x4c,
				     0x30, 0x3d, 0x8a, 0x31, 0x8a, 0x72, 0x1c, 0x3c, 0x0c, 0x95, 0x95, 0x68, 0x09,
				     0x53, 0x2f, 0xcf, 0x0e, 0x24, 0x49, 0xa6, 0xb5, 0x25, 0xb1, 0x6a, 0xed, 0xf5,
				     0xaa, 0x0d, 0xe6, 0x57, 0xba, 0x63, 0x7b, 0x39 };
	static const u8 want[GCM_TAG] = { 0x76, 0xfc, 0x6e, 0xce, 0x0f, 0x4e, 0x17, 0x68, 0xcd, 0xdf, 0x88, 0x53,
					  0xbb, 0x2d, 0x55, 0x1b };
	u8 data[60], twice[GCM_KEY], tag[GCM_TAG];

	section("aes-256-gcm");
	memcpy(data, text, 60);
	memcpy(twice, key, 16);
	memcpy(twice + 16, key, 16);
	gcm(true, twice, iv, known, 20, data, 60, tag);
	ok(!memcmp(tag, want, GCM_TAG), "tag of the test vector");
	gcm(false, twice, iv, known, 20, data, 60, tag);
	ok(!memcmp(tag, want, GCM_TAG) && !memcmp(data, text, 60), "and back");
}

void tests_psp_request(void)
{
	section("psp request");
	to_firmware(OTHER);
	model_put(OTHER, E_RECLAIM);
	gives(psp_snp_status(OTHER), SUCCESS, "SNP_PLATFORM_STATUS");
	memcpy(&platform, phys(OTHER), sizeof(platform));
	to_hypervisor(OTHER);
	vector();
	to_firmware(RESPONSE);
	if (flag_value("message-count", 0)) {
		overflow();
		to_hypervisor(RESPONSE);
		return;
	}
	launch(0);
	places();
	headers();
	sequence();
	reports();
	drop();
	launch(0);
	derived_keys();
	drop();
	id_blocks();
	launch(0);
	random_messages();
	drop();
	to_hypervisor(RESPONSE);
	is(psp_good(0, 0), 1, "all is free again");
}
