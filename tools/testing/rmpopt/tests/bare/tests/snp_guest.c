// SPDX-License-Identifier: GPL-2.0-only
/*
 * A running SNP guest: what the RMP lets it do (APM volume 2, tables 15-39 to 15-42),
 * PVALIDATE and RMPADJUST (volume 3). Its first pages are launched by the secure processor,
 * the only one that can give a page the VMSA bit before a guest runs.
 *
 * The guest runs snp_code.S. The hypervisor cannot change its registers, so both talk through
 * a mailbox: the guest does one thing at a time, and ends by VMGEXIT. If that faults, the
 * hypervisor injects an exception, which the guest takes as the end of the attempt.
 */
#include "psp.h"
#include "snp_code.h"
#include "svm.h"
#include "tests.h"

#define ASID_SNP 4
#define ASID_STRANGE 5

/* Pages of the guest: where they are, and what it knows them by */
#define CTX (PSP_G + 3 * SZ_4K)
#define PAGES (R0 + 14 * SZ_2M)
#define GPA_PAGES 0x10000000ULL
/* A whole 2 MB */
#define LARGE (R0 + 15 * SZ_2M)
#define GPA_LARGE 0x10400000ULL
#define GPA_BOX 0x20000000ULL
/* A page in a region that has no page of a guest */
#define CLEAN (SZ_1G + 77 * SZ_2M + 3 * SZ_4K)

/* Virtual addresses: private and shared ones of each page; through the table PT_T; of the 2 MB */
#define VA_PRIVATE 0x10000000ULL
#define VA_SHARED 0x10200000ULL
#define VA_LARGE 0x10400000ULL
#define VA_TABLE 0x10600000ULL
#define VA_LARGE_SHARED 0x10800000ULL
#define VA_LARGE_4K 0x10a00000ULL

/* What is in the pages; the first is left out, because it is 2 MB aligned. */
enum {
	VMSA_0 = 1, PML4, PDPT, PD, PT_P, PT_S, CODE, STACK, TABLES, PT_L, DIR_32,
	/* Made by the guest, or changed by the hypervisor */
	PT_T = 16, VMSA_1, VMSA_32, VMSA_PAGED, T, U, WALK,
	LAST = WALK + 3,
	/* Of the shared addresses, the last ones are mailboxes. */
	BOX = 508,
};

#define FL_SYSTEM 2
/* An exception without an error code, which nothing else here raises */
#define VEC_ABANDON 19

#define FRESH 0xc3c3c3c3c3c3c3c3ULL

static struct vcpu {
	struct vmcb *vmcb;
	u64 *box;
	u32 vmpl;
	u64 vmsa;
} vcpus[4];

static struct vcpu *cur;
static u64 *nested[3], *nested_pt, *nested_large, *nested_box;
static bool lost;

/* What came of the last attempt */
static struct {
	u64 exit, info_1, info_2;
	u32 vector;
	u64 error, rip, cs, cr2, rax, rflags;
} ran;

extern u8 snp_code[], snp_stubs[], snp_code_end[];
extern u8 snp_load[], snp_store[], snp_fetch[], snp_pvalidate[], snp_rmpadjust[], snp_rmpquery[],
	  snp_copy[], snp_rdmsr[], snp_user[], snp_user_load[], snp_user_fetch[], snp_user_pvalidate[],
	  snp_user_rmpadjust[], snp_spin_load[], snp_spin_store[], snp_withdraw[], snp_withdrawn[],
	  snp_nothing[], snp_legacy[], snp_load_store[], snp_load_fetch[], snp_fetch_store[];

static u64 page(u32 n)
{
	return PAGES + n * SZ_4K;
}

static u64 gpa(u32 n)
{
	return GPA_PAGES + n * SZ_4K;
}

static u64 va(u32 n)
{
	return VA_PRIVATE + n * SZ_4K;
}

static u64 shared_va(u32 n)
{
	return VA_SHARED + n * SZ_4K;
}

/* Where the guest has code of snp_code.S */
static u64 at(const u8 *code)
{
	return va(CODE) + (code - snp_code);
}

static u64 raw(u64 pa)
{
	return *rmp_raw(pa);
}

/* What the guest has done to an entry is not in the model. */
static void learn(u64 pa)
{
	model_put(pa, raw(pa));
}

/* A mapping of 4 KB: a larger one cannot be written while it has pages of the guest. */
static void *window(u64 pa)
{
	return map_4k(71, pa, PTE_ALL);
}

/* Contents that can be called */
static void fill(u64 pa)
{
	memset(window(pa), 0xc3, SZ_4K);
}

/* The tables: of the guest, in pages that it will own, and the nested ones */

static u64 *table(u32 n)
{
	return phys(page(n));
}

static void guest_tables(void)
{
	for (u32 n = PML4; n <= PT_S; n++)
		memset(table(n), 0, SZ_4K);
	/* 32-bit paging has no C-bit; 4 MB of it are the guest's pages. */
	memset(table(DIR_32), 0, SZ_4K);
	((u32 *)table(DIR_32))[GPA_PAGES >> 22] = GPA_PAGES | PTE_ALL | PTE_PS;
	table(PML4)[0] = gpa(PDPT) | C_BIT | PTE_ALL;
	table(PDPT)[0] = gpa(PD) | C_BIT | PTE_ALL;
	table(PD)[VA_PRIVATE >> 21] = gpa(PT_P) | C_BIT | PTE_ALL;
	/* A page table is private, whatever its C-bit says. */
	table(PD)[VA_SHARED >> 21] = gpa(PT_S) | PTE_ALL;
	table(PD)[VA_LARGE >> 21] = GPA_LARGE | C_BIT | PTE_ALL | PTE_PS;
	table(PD)[VA_TABLE >> 21] = gpa(PT_T) | C_BIT | PTE_ALL;
	table(PD)[VA_LARGE_SHARED >> 21] = GPA_LARGE | PTE_ALL | PTE_PS;
	table(PD)[VA_LARGE_4K >> 21] = gpa(PT_L) | C_BIT | PTE_ALL;
	for (u32 i = 0; i < 512; i++) {
		table(PT_P)[i] = gpa(i) | C_BIT | PTE_ALL;
		table(PT_S)[i] = i < BOX ? gpa(i) | PTE_ALL : (GPA_BOX + (i - BOX) * SZ_4K) | PTE_ALL;
		table(PT_L)[i] = (GPA_LARGE + i * SZ_4K) | C_BIT | PTE_ALL;
	}
	/* Not present in the guest's own tables */
	table(PT_P)[511] = table(PT_S)[507] = 0;
}

/* What a walk through PT_T finds: T, and T with the bits of access still to be set */
static void walked_table(void)
{
	u64 *entries = window(page(PT_T));

	memset(entries, 0, SZ_4K);
	entries[0] = gpa(T) | C_BIT | PTE_ALL;
	entries[1] = gpa(T) | C_BIT | PTE_P | PTE_W | PTE_U;
}

struct gate {
	u16 low, selector, type, middle;
	u32 high, rsvd;
};

#define GDT_AT 0x400
#define TSS_AT 0x800

static void guest_code_and_gates(void)
{
	struct gate *gates = phys(page(TABLES));
	u64 *gdt = phys(page(TABLES) + GDT_AT);
	u64 rsp0 = va(STACK) + SZ_4K;

	memset(phys(page(CODE)), 0xcc, SZ_4K);
	memcpy(phys(page(CODE)), snp_code, snp_code_end - snp_code);
	memset(phys(page(STACK)), 0, SZ_4K);
	memset(phys(page(TABLES)), 0, SZ_4K);
	for (u32 i = 0; i < 32; i++) {
		u64 stub = at(snp_stubs) + 16 * i;

		gates[i] = (struct gate){ stub, KERNEL_CS, 0x8e00, stub >> 16, stub >> 32, 0 };
	}
	gdt[KERNEL_CS / 8] = 0x00af9b000000ffff;
	gdt[KERNEL_DS / 8] = 0x00cf93000000ffff;
	gdt[USER_DS / 8] = 0x00cff3000000ffff;
	gdt[USER_CS / 8] = 0x00affb000000ffff;
	memcpy(phys(page(TABLES) + TSS_AT + 4), &rsp0, sizeof(rsp0));
}

static void nested_tables(void)
{
	for (u32 i = 0; i < ARRAY_SIZE(nested); i++) {
		if (!nested[i])
			nested[i] = new_page();
		memset(nested[i], 0, SZ_4K);
	}
	if (!nested_pt) {
		nested_pt = new_page();
		nested_large = new_page();
		nested_box = new_page();
	}
	nested[0][0] = (u64)nested[1] | PTE_ALL;
	nested[1][0] = (u64)nested[2] | PTE_ALL;
	nested[2][GPA_PAGES >> 21] = (u64)nested_pt | PTE_ALL;
	nested[2][GPA_LARGE >> 21] = (u64)nested_large | PTE_ALL;
	nested[2][GPA_BOX >> 21] = (u64)nested_box | PTE_ALL;
	for (u32 i = 0; i < 512; i++) {
		nested_pt[i] = page(i) | PTE_ALL;
		nested_large[i] = (LARGE + i * SZ_4K) | PTE_ALL;
	}
}

/* How the nested table has the 2 MB */
static void nested_is_large(bool large)
{
	nested[2][GPA_LARGE >> 21] = large ? LARGE | PTE_PS | PTE_ALL : (u64)nested_large | PTE_ALL;
}

static void make_vmsa(struct vmsa *s, u32 n, u32 vmpl)
{
	const struct vmcb_seg data = { KERNEL_DS, SEG_DATA, ~0U, 0 };

	memset(s, 0, SZ_4K);
	s->es = s->ss = s->ds = s->fs = s->gs = data;
	s->cs = (struct vmcb_seg){ KERNEL_CS, SEG_CODE64, ~0U, 0 };
	s->gdtr = (struct vmcb_seg){ .limit = 0x3f, .base = va(TABLES) + GDT_AT };
	s->idtr = (struct vmcb_seg){ .limit = 32 * 16 - 1, .base = va(TABLES) };
	s->ldtr = (struct vmcb_seg){ .attrib = 0x82 };
	s->tr = (struct vmcb_seg){ .selector = 0x40, .attrib = 0x8b, .limit = 0x67,
				   .base = va(TABLES) + TSS_AT };
	s->vmpl = vmpl;
	s->efer = EFER_SVME | EFER_LME | EFER_LMA;
	/* PG, WP, NE, ET, MP, PE; PAE */
	s->cr0 = 0x80010033;
	s->cr4 = BIT(5);
	s->cr3 = gpa(PML4) | C_BIT;
	s->dr6 = 0xffff0ff0;
	s->dr7 = 0x400;
	s->g_pat = 0x0007040600070406;
	s->rflags = FL_SYSTEM;
	s->rip = at(snp_code);
	/* Stacks of vCPUs that run at the same time do not meet. */
	s->gprs[13] = s->rsp = va(STACK) + SZ_4K - n * 0x500;
	s->gprs[15] = shared_va(BOX + n);
	s->sev_features = SEV_SNP_ACTIVE;
	s->xcr0 = 1;
	s->mxcsr = 0x1f80;
	s->fcw = 0x37f;
}

static void make_vcpu(u32 n, u32 vmpl, u64 vmsa)
{
	struct vcpu *c = &vcpus[n];

	if (!c->vmcb) {
		c->vmcb = new_page();
		c->box = new_page();
	}
	memset(c->box, 0, SZ_4K);
	nested_box[n] = (u64)c->box | PTE_ALL;
	es_reset();
	memcpy(c->vmcb, guest.vmcb, SZ_4K);
	c->vmcb->asid = ASID_SNP;
	c->vmcb->nested_cr3 = (u64)nested[0];
	c->vmcb->int_ctl = INT_CTL_V_INTR_MASKING;
	c->vmcb->vmsa = c->vmsa = vmsa;
	c->vmpl = vmpl;
}

/* Running it */

static u64 vmrun(struct vcpu *c)
{
	struct regs unused;

	c->vmcb->tlb_control = 1;
	es_save_host();
	es_enter(c->vmcb, &unused);
	c->vmcb->event_inj = 0;
	return c->vmcb->exit_code;
}

static void prepare(struct vcpu *c, const u8 *what, u64 rax, u64 rbx, u64 rcx, u64 rdx)
{
	u64 *b = c->box;

	b[BOX_TARGET / 8] = at(what);
	b[BOX_RAX / 8] = rax;
	b[BOX_RBX / 8] = rbx;
	b[BOX_RCX / 8] = rcx;
	b[BOX_RDX / 8] = rdx;
	b[BOX_RFLAGS / 8] = FL_SYSTEM;
	b[BOX_VECTOR / 8] = NO_TRAP;
	b[BOX_ERROR / 8] = b[BOX_RIP / 8] = b[BOX_CS / 8] = b[BOX_CR2 / 8] = 0;
	b[BOX_OUT_RAX / 8] = b[BOX_OUT_RFLAGS / 8] = 0;
	b[BOX_COUNT / 8] = b[BOX_STOP / 8] = 0;
}

/* The end of an attempt. What has not ended by VMGEXIT is abandoned. */
static void conclude(struct vcpu *c)
{
	const u64 *b = c->box;

	ran.exit = c->vmcb->exit_code;
	ran.info_1 = c->vmcb->exit_info_1;
	ran.info_2 = c->vmcb->exit_info_2;
	if (ran.exit != EXIT_VMGEXIT) {
		c->vmcb->event_inj = EVENTINJ_VALID | EVENTINJ_EXCEPTION | VEC_ABANDON;
		if (vmrun(c) != EXIT_VMGEXIT || b[BOX_VECTOR / 8] != VEC_ABANDON) {
			if (!lost)
				note("VMPL%u is lost: exit %llx, then %llx %llx %llx, vector %llu", c->vmpl,
				     ran.exit, c->vmcb->exit_code, c->vmcb->exit_info_1,
				     c->vmcb->exit_info_2, b[BOX_VECTOR / 8]);
			lost = true;
		}
	}
	ran.vector = b[BOX_VECTOR / 8];
	ran.error = b[BOX_ERROR / 8];
	ran.rip = b[BOX_RIP / 8];
	ran.cs = b[BOX_CS / 8];
	ran.cr2 = b[BOX_CR2 / 8];
	ran.rax = b[BOX_OUT_RAX / 8];
	ran.rflags = b[BOX_OUT_RFLAGS / 8];
}

static void attempt_regs(const u8 *what, u64 rax, u64 rbx, u64 rcx, u64 rdx)
{
	prepare(cur, what, rax, rbx, rcx, rdx);
	vmrun(cur);
	conclude(cur);
}

static void attempt(const u8 *what, u64 address)
{
	attempt_regs(what, 0, address, 0, 0);
}

/* At CPL 3 */
static void attempt_user(const u8 *what, u64 rax, u64 rbx, u64 rcx, u64 rdx)
{
	prepare(cur, snp_user, rax, rbx, rcx, at(what));
	cur->box[BOX_RSI / 8] = rdx;
	vmrun(cur);
	conclude(cur);
}

static void tell(void)
{
	note("exit %llx, EXITINFO %llx %llx, vector %u, error %llx at %llx, CR2 %llx, RAX %llx", ran.exit,
	     ran.info_1, ran.info_2, ran.vector, ran.error, ran.rip, ran.cr2, ran.rax);
}

#define judged(good, ...) do { if (!ok(good, __VA_ARGS__)) tell(); } while (0)

static bool done(void)
{
	return ran.exit == EXIT_VMGEXIT && ran.vector == NO_TRAP;
}

/* Instructions that leave a code in EAX */

#define TRAPPED 0x1000U

static u32 bad_upper, bad_status;

static u32 code(void)
{
	u64 want = ran.rax ? 0 : FL_ZF;

	if (!done())
		return TRAPPED;
	if (!__builtin_parity(ran.rax & 0xff))
		want |= FL_PF;
	bad_upper += ran.rax >> 32 != 0;
	bad_status += (ran.rflags & FL_STATUS & ~FL_CF) != want;
	return ran.rax;
}

static u32 pvalidate(u64 address, u64 size, u64 validate)
{
	attempt_regs(snp_pvalidate, address, 0, size, validate);
	return code();
}

static bool carry(void)
{
	return ran.rflags & FL_CF;
}

static u32 rmpadjust(u64 address, u64 size, u64 attributes)
{
	attempt_regs(snp_rmpadjust, address, 0, size, attributes);
	return code();
}

#define ADJUST(vmpl, perms) ((vmpl) | (perms) << 8)
#define ADJUST_VMSA BIT(16)
enum { PERM_R = 1, PERM_W = 2, PERM_UX = 4, PERM_SX = 8, PERM_ALL = 15 };

/* Pages by the model */

static void assign(u64 pa, u64 guest_pa, u32 immutable, u32 asid)
{
	u32 rc = update(pa, guest_pa, 1, 0, immutable, asid);

	if (rc)
		note("page %llx cannot be assigned: %u", pa, rc);
}

/* The hypervisor's */
static void release(u32 n)
{
	nested_pt[n] = page(n) | PTE_ALL;
	learn(page(n));
	to_hypervisor(page(n));
	fill(page(n));
}

static void own(u32 n)
{
	release(n);
	assign(page(n), gpa(n), 0, ASID_SNP);
}

static void own_valid(u32 n)
{
	struct vcpu *was = cur;

	own(n);
	cur = &vcpus[0];
	if (pvalidate(va(n), 0, 1)) {
		note("page %u cannot be validated", n);
		tell();
	}
	cur = was;
	learn(page(n));
}

static void launch(u32 n, u32 type)
{
	assign(page(n), gpa(n), 1, ASID_SNP);
	model_put(page(n), E_GUEST(gpa(n), ASID_SNP) | (type == VMSA ? E_VMSA : 0));
	if (psp_update(CTX, type, page(n)))
		note("page %u cannot be launched", n);
}

/* Accesses */

enum access { LOAD, STORE, FETCH, NR_ACCESSES };
static const char *const access_names[NR_ACCESSES] = { "load", "store", "fetch" };
static const u64 access_bits[NR_ACCESSES] = { 0, PF_W, NPF_FETCH };
static const u8 *const access_code[NR_ACCESSES] = { snp_load, snp_store, snp_fetch };

#define FAULT_RMP (PF_P | PF_U | PF_RMP | NPF_FINAL | NPF_ENC)
#define FAULT_ABSENT (PF_U | NPF_FINAL)

/* A nested page fault, of exactly that kind */
static bool npf(u64 info_1, u64 info_2)
{
	return ran.exit == EXIT_NPF && ran.info_1 == info_1 && ran.info_2 == info_2;
}

/* #VC in the guest: the page is not validated. */
static bool not_validated(u64 address, u64 rip)
{
	return ran.exit == EXIT_VMGEXIT && ran.vector == VEC_VC && ran.error == VC_NOT_VALIDATED &&
	       ran.cr2 == address && ran.rip == rip;
}

static void st_hypervisor(u32 n __unused)
{
}

static void st_other_asid(u32 n)
{
	assign(page(n), gpa(n), 0, ASID_STRANGE);
}

static void st_reclaim(u32 n)
{
	assign(page(n), 0, 0, 0);
}

static void st_firmware(u32 n)
{
	to_firmware(page(n));
}

static void st_pre_guest(u32 n)
{
	assign(page(n), gpa(n), 1, ASID_SNP);
}

static void st_other_gpa(u32 n)
{
	assign(page(n), gpa(n + 1), 0, ASID_SNP);
}

static void st_nowhere(u32 n)
{
	nested_pt[n] = NOWHERE | PTE_ALL;
}

/* Pages that are not the guest's at its address */
static const struct {
	const char *name;
	void (*make)(u32 n);
} wrong[] = {
	{ "the hypervisor's", st_hypervisor }, { "another guest's", st_other_asid },
	{ "in reclaim", st_reclaim }, { "the firmware's", st_firmware },
	{ "immutable", st_pre_guest }, { "of another guest physical address", st_other_gpa },
	{ "not covered by the RMP", st_nowhere },
};

static void wrong_pages(void)
{
	section("snp guest, private access");
	for (u32 i = 0; i < ARRAY_SIZE(wrong); i++) {
		release(T);
		wrong[i].make(T);
		for (u32 a = 0; a < NR_ACCESSES; a++) {
			u64 address = va(T) + (a == FETCH ? 0 : 0x18);

			attempt(access_code[a], address);
			judged(npf(FAULT_RMP | access_bits[a], gpa(T) + (address & 0xfff)),
			       "%s, page is %s: nested page fault", access_names[a], wrong[i].name);
		}
		release(T);
	}
	own(T);
	for (u32 a = 0; a < NR_ACCESSES; a++) {
		u64 address = va(T) + (a == FETCH ? 0 : 0x18);

		attempt(access_code[a], address);
		judged(not_validated(address, a == FETCH ? address : at(access_code[a])),
		       "%s, page is not validated: #VC with CR2", access_names[a]);
	}
	own_valid(T);
	for (u32 a = 0; a < NR_ACCESSES; a++) {
		attempt_regs(access_code[a], 0x1234, va(T) + (a == FETCH ? 0 : 0x18), 0, 0);
		judged(done(), "%s, page is validated: no fault", access_names[a]);
		if (a == LOAD)
			is(ran.rax, FRESH, "and its contents");
		if (a == STORE)
			is(*(u64 *)(page(T) + 0x18), 0x1234, "and its contents");
	}
	/* The hypervisor moves it. */
	nested_pt[U] = page(T) | PTE_ALL;
	attempt(snp_load, va(U));
	judged(npf(FAULT_RMP, gpa(U)), "a validated page at another guest physical address");
	nested_pt[U] = page(U) | PTE_ALL;
	/* And gives it back behind the guest's back. */
	learn(page(T));
	free_4k(page(T));
	attempt(snp_load, va(T));
	judged(npf(FAULT_RMP, gpa(T)), "a page that has been taken away");
	assign(page(T), gpa(T), 0, ASID_SNP);
	attempt(snp_load, va(T));
	judged(not_validated(va(T), at(snp_load)), "is not validated when it comes back");
	release(T);
}

static void shared_access(void)
{
	static const struct { const char *name; void (*make)(u32 n); bool blocks; } rows[] = {
		{ "the hypervisor's", st_hypervisor, false }, { "another guest's", st_other_asid, true },
		{ "its own", NULL, true }, { "in reclaim", st_reclaim, true },
		{ "the firmware's", st_firmware, true }, { "immutable", st_pre_guest, true },
	};

	section("snp guest, shared access");
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		release(T);
		if (rows[i].make)
			rows[i].make(T);
		else
			own_valid(T);
		attempt(snp_load, shared_va(T) + 8);
		judged(done(), "load, page is %s: no fault", rows[i].name);
		attempt_regs(snp_store, 0x77, shared_va(T) + 8, 0, 0);
		if (rows[i].blocks)
			judged(npf((FAULT_RMP & ~NPF_ENC) | PF_W, gpa(T) + 8),
			       "store, page is %s: nested page fault without ENC", rows[i].name);
		else
			judged(done() && *(u64 *)(page(T) + 8) == 0x77, "store, page is %s: no fault",
			       rows[i].name);
		attempt(snp_fetch, shared_va(T));
		if (rows[i].make)
			judged(npf(FAULT_RMP | NPF_FETCH, gpa(T)),
			       "fetch is private, page is %s: nested page fault", rows[i].name);
		else
			judged(done(), "fetch is private, page is %s: no fault", rows[i].name);
		release(T);
	}
	/* The TLB must tell them apart. */
	attempt(snp_load_fetch, shared_va(T));
	judged(npf(FAULT_RMP | NPF_FETCH, gpa(T)), "fetch after a load: nested page fault all the same");
	own_valid(T);
	attempt(snp_fetch_store, shared_va(T));
	judged(npf((FAULT_RMP & ~NPF_ENC) | PF_W, gpa(T)),
	       "store after a fetch: nested page fault all the same");
	release(T);
}

/* Faults of the nested table: EXITINFO1 tells whether the access was private. */
static void nested_faults(void)
{
	section("snp guest, nested table");
	own_valid(T);
	for (u32 shared = 0; shared < 2; shared++) {
		const char *kind = shared ? "shared" : "private";
		u64 address = (shared ? shared_va(T) : va(T)) + 0x28, enc = shared ? 0 : NPF_ENC;

		nested_pt[T] = 0;
		attempt(snp_load, address);
		judged(npf(FAULT_ABSENT | enc, gpa(T) + 0x28), "%s load, not present", kind);
		attempt(snp_store, address);
		judged(npf(FAULT_ABSENT | enc | PF_W, gpa(T) + 0x28), "%s store, not present", kind);
		attempt(snp_fetch, address);
		judged(npf(FAULT_ABSENT | NPF_ENC | NPF_FETCH, gpa(T) + 0x28),
		       "%s fetch, not present: it is private", kind);
		nested_pt[T] = page(T) | (PTE_ALL & ~PTE_W);
		attempt(snp_store, address);
		judged(npf(FAULT_ABSENT | PF_P | PF_W | enc, gpa(T) + 0x28), "%s store, read-only", kind);
		for (u32 bit = 46; bit < 51; bit++) {
			nested_pt[T] = page(T) | PTE_ALL | BIT(bit);
			attempt(snp_load, address);
			judged(ran.exit == EXIT_VMGEXIT && ran.vector == VEC_VC && ran.error == EXIT_NPF &&
			       ran.rip == at(snp_load), "%s load, reserved bit %u: #VC", kind, bit);
		}
		nested_pt[T] = page(T) | PTE_ALL;
	}
	nested_pt[T] = page(T) | PTE_ALL | C_BIT;
	attempt(snp_load, va(T));
	judged(done(), "the C-bit of a nested entry does not matter");
	nested_pt[T] = page(T) | PTE_ALL;
	attempt(snp_load, va(511));
	judged(ran.vector == VEC_PF && ran.cr2 == va(511) && !ran.error, "its own page fault comes first");
	release(T);
}

/* The guest's page table is in a page that is not its own. */
static void walks(void)
{
	const u64 want = PF_P | PF_U | PF_RMP | NPF_TABLE | NPF_ENC;

	section("snp guest, page table walk");
	own_valid(T);
	for (u32 i = 0; i < ARRAY_SIZE(wrong); i++) {
		release(PT_T);
		walked_table();
		wrong[i].make(PT_T);
		attempt(snp_load, VA_TABLE);
		/* Whether it is a write is up to the CPU: it may set the bit of an access. */
		judged(ran.exit == EXIT_NPF && (ran.info_1 & ~PF_W) == want &&
		       ALIGN_DOWN(ran.info_2, SZ_4K) == gpa(PT_T), "table is %s: nested page fault",
		       wrong[i].name);
		release(PT_T);
	}
	walked_table();
	assign(page(PT_T), gpa(PT_T), 0, ASID_SNP);
	attempt(snp_load, VA_TABLE + 0x30);
	judged(not_validated(VA_TABLE + 0x30, at(snp_load)), "table is not validated: #VC with CR2");
	nested_pt[PT_T] = 0;
	attempt(snp_load, VA_TABLE);
	judged(ran.exit == EXIT_NPF && (ran.info_1 & ~PF_W) == (PF_U | NPF_TABLE | NPF_ENC) &&
	       ALIGN_DOWN(ran.info_2, SZ_4K) == gpa(PT_T),
	       "table is not present: nested page fault with ENC");
	nested_pt[PT_T] = page(PT_T) | PTE_ALL;
	pvalidate(va(PT_T), 0, 1);
	learn(page(PT_T));
	attempt(snp_load, VA_TABLE);
	judged(done(), "table is validated: no fault");
	attempt(snp_store, VA_TABLE + SZ_4K);
	judged(done(), "the bits of a write are set in it");
	is(table(PT_T)[1] & (PTE_A | PTE_D), PTE_A | PTE_D, "both");
	release(PT_T);
	release(T);
}

/* Sizes of the nested mapping and of the entry */
static void sizes(void)
{
	const u64 at_5 = 5 * SZ_4K;

	section("snp guest, page sizes");
	nested_is_large(false);
	memset(phys(LARGE), 0xc3, SZ_2M);
	update(LARGE, GPA_LARGE, 1, 1, 0, ASID_SNP);
	attempt(snp_load, VA_LARGE + at_5);
	judged(npf(FAULT_RMP | NPF_SIZEM, GPA_LARGE + at_5), "4 KB nested mapping of a 2 MB entry");
	attempt(snp_load, VA_LARGE);
	judged(npf(FAULT_RMP | NPF_SIZEM, GPA_LARGE), "and of its first page");
	nested_is_large(true);
	attempt(snp_load, VA_LARGE + at_5);
	judged(not_validated(VA_LARGE + at_5, at(snp_load)), "2 MB nested mapping, not validated: #VC");
	is(pvalidate(VA_LARGE, 1, 1), 0, "PVALIDATE of 2 MB");
	judged(!carry(), "changes it");
	is(raw(LARGE) & E_VALIDATED, E_VALIDATED, "VALIDATED of the entry");
	is(pvalidate(VA_LARGE, 1, 1), 0, "once more");
	judged(carry(), "changes nothing");
	for (u32 i = 0; i < 512; i++)
		learn(LARGE + i * SZ_4K);
	attempt(snp_load, VA_LARGE + at_5);
	judged(done(), "2 MB nested mapping of a 2 MB entry");
	attempt(snp_store, VA_LARGE_4K + 511 * SZ_4K + 8);
	judged(done(), "the guest's own mapping may be of 4 KB");
	is(pvalidate(VA_LARGE + 1 * SZ_4K, 0, 1), TRAPPED, "PVALIDATE of 4 KB in it");
	judged(npf(FAULT_RMP | NPF_SIZEM, GPA_LARGE + 1 * SZ_4K), "nested page fault with SIZEM");
	is(rmpadjust(VA_LARGE + 1 * SZ_4K, 0, ADJUST(1, 1)), TRAPPED, "RMPADJUST of 4 KB in it");
	judged(npf(FAULT_RMP | NPF_SIZEM, GPA_LARGE + 1 * SZ_4K), "nested page fault with SIZEM");
	is(rmpadjust(VA_LARGE, 1, ADJUST(1, PERM_ALL)), 0, "RMPADJUST of 2 MB");
	is(rmpadjust(VA_LARGE + SZ_4K, 1, ADJUST(1, PERM_ALL)), RMP_FAIL_INPUT,
	   "RMPADJUST of 2 MB not aligned");
	is(rmpadjust(VA_LARGE, 1, ADJUST(1, PERM_ALL) | ADJUST_VMSA), RMP_FAIL_INPUT,
	   "RMPADJUST: VMSA of 2 MB");
	/* Split by the hypervisor: all pages stay what they were. */
	is(psmash(LARGE), RMP_OK, "PSMASH");
	for (u32 i = 0; i < 512; i++)
		learn(LARGE + i * SZ_4K);
	attempt(snp_load, VA_LARGE + at_5);
	judged(npf(FAULT_RMP | NPF_SIZEM, GPA_LARGE + at_5), "2 MB nested mapping of a 4 KB entry");
	is(pvalidate(VA_LARGE, 1, 0), 6, "PVALIDATE of 2 MB: FAIL_SIZEMISMATCH");
	judged(!carry(), "without carry");
	nested_is_large(false);
	attempt(snp_load, VA_LARGE + at_5);
	judged(done(), "4 KB nested mapping of a 4 KB entry");
	is(pvalidate(VA_LARGE, 1, 1), 6, "PVALIDATE of 2 MB: FAIL_SIZEMISMATCH");
	is(rmpadjust(VA_LARGE, 1, ADJUST(1, PERM_ALL)), 6, "RMPADJUST of 2 MB: FAIL_SIZEMISMATCH");
	is(pvalidate(VA_LARGE_4K + at_5, 0, 0), 0, "PVALIDATE of 4 KB");
	learn(LARGE + at_5);
	attempt(snp_load, VA_LARGE + at_5);
	judged(not_validated(VA_LARGE + at_5, at(snp_load)), "takes away one page");
	attempt(snp_load, VA_LARGE + at_5 + SZ_4K);
	judged(done(), "and not the next one");
	if (vcpus[1].vmpl) {
		cur = &vcpus[1];
		attempt(snp_load, VA_LARGE + 9 * SZ_4K);
		judged(done(), "VMPL1 has what RMPADJUST of 2 MB has given");
		cur = &vcpus[0];
	}
	free_all_4k(LARGE);
}

/* PVALIDATE and RMPADJUST */

static void wrong_pages_of(const char *name, u32 (*fn)(u64 address, u64 size, u64 value), u64 value)
{
	for (u32 i = 0; i < ARRAY_SIZE(wrong); i++) {
		release(T);
		wrong[i].make(T);
		fn(va(T), 0, value);
		judged(npf(FAULT_RMP, gpa(T)), "%s, page is %s: nested page fault", name, wrong[i].name);
		release(T);
	}
	nested_pt[T] = 0;
	fn(va(T), 0, value);
	judged(npf(FAULT_ABSENT | NPF_ENC, gpa(T)), "%s, not present in the nested table", name);
	release(T);
	fn(va(511), 0, value);
	judged(ran.exit == EXIT_VMGEXIT && ran.vector == VEC_PF && !ran.error && ran.cr2 == va(511),
	       "%s, not present in the guest's: #PF", name);
	own_valid(T);
	fn(shared_va(T), 0, value);
	judged(ran.exit == EXIT_VMGEXIT && ran.vector == VEC_PF && ran.error & NPF_RSVD &&
	       ran.cr2 == shared_va(T), "%s of a shared address: #PF with RSVD", name);
	release(T);
}

static void pvalidate_rows(void)
{
	static const struct { u64 size, validate; bool is_valid; } rows[] = {
		{ 0x7f00, 0x1, true },
		{ 0, 0xfffffffffffffffe, false },
		{ 0xffffff00fffffffe, 0xff01, true },
		{ 0x10, 0x7f00, false },
		{ 0, 0x8000000000000001, true },
	};
	const u64 entry = E_ASSIGNED | E_ASID(ASID_SNP) | gpa(T);

	section("snp guest, PVALIDATE");
	own(T);
	is(raw(page(T)), entry, "the entry");
	is(pvalidate(va(T), 0, 0), 0, "takes away");
	judged(carry(), "what was not there: carry");
	is(pvalidate(va(T), 0, 1), 0, "validates");
	judged(!carry(), "which it was not: no carry");
	is(raw(page(T)), entry | E_VALIDATED, "the entry has VALIDATED");
	is(pvalidate(va(T), 0, 1), 0, "validates once more");
	judged(carry(), "carry");
	is(raw(page(T)), entry | E_VALIDATED, "the entry stays");
	is(pvalidate(va(T), 0, 0), 0, "takes away");
	judged(!carry(), "no carry");
	is(raw(page(T)), entry, "VALIDATED is gone");
	/* A compiler leaves anything above the bit of a bool. */
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		is(pvalidate(va(T), rows[i].size, rows[i].validate), 0, "ECX %llx, EDX %llx: bit 0 counts",
		   rows[i].size, rows[i].validate);
		is(raw(page(T)), entry | (rows[i].is_valid ? E_VALIDATED : 0), "the entry is so");
	}
	/* It is checked as a read. */
	nested_pt[T] = page(T) | (PTE_ALL & ~PTE_W);
	is(pvalidate(va(T), 0, 1), 0, "of a page that the nested table has read-only");
	learn(page(T));
	release(T);
	wrong_pages_of("PVALIDATE", pvalidate, 1);

	section("snp guest, PVALIDATE and the TLB");
	own_valid(T);
	attempt(snp_withdraw, va(T));
	judged(not_validated(va(T), at(snp_withdrawn)), "what was read can no longer be read");
	learn(page(T));
	section("snp guest, PVALIDATE elsewhere");
	attempt_user(snp_user_pvalidate, va(T), 0, 0, 1);
	judged(ran.vector == VEC_GP && !ran.error && ran.cs == USER_CS, "#GP at CPL 3");
	is(raw(page(T)) & E_VALIDATED, 0, "the entry stays");
	release(T);
}

/* Guests that are not SNP-active: the lib's, with the kernel's memory */
static void not_in_others(void)
{
	static const enum op ops[] = { OP_PVALIDATE, OP_RMPADJUST, OP_RMPQUERY };
	struct vmcb *v = guest.vmcb;
	u32 first, last;

	section("snp instructions in other guests");
	sev_asids(&first, &last);
	for (u32 i = 0; i < ARRAY_SIZE(ops); i++) {
		for (u32 sev = 0; sev < 2; sev++) {
			guest_reset();
			guest_code(op_bytes[ops[i]], 4);
			v->rax = (u64)guest.data;
			if (sev) {
				v->nested_ctl |= NESTED_SEV;
				v->asid = first;
			}
			guest_run();
			is(v->exit_code, EXIT_EXCEPTION + VEC_UD, "%s is #UD in %s guest", op_names[ops[i]],
			   sev ? "an SEV" : "a plain");
		}
		es_reset();
		es_code(op_bytes[ops[i]], 4);
		guest.vmsa->rax = (u64)guest.data;
		es_run();
		is(es_vector(), VEC_UD, "%s is #UD in an SEV-ES guest", op_names[ops[i]]);
	}
	attempt(snp_rmpquery, va(STACK));
	judged(ran.exit == EXIT_VMGEXIT && ran.vector == VEC_UD, "RMPQUERY is #UD in an SNP guest");
}

static void rmpadjust_rows(void)
{
	section("snp guest, RMPADJUST");
	own_valid(T);
	for (u32 vmpl = 1; vmpl < 4; vmpl++)
		is(rmpadjust(va(T), 0, ADJUST(vmpl, PERM_ALL)), 0, "VMPL%u gets all", vmpl);
	is(rmpadjust(va(T) + 0x123, 0, ADJUST(1, PERM_R)), 0, "4 KB: address bits 11:0 are ignored");
	is(rmpadjust(va(T), 0x7f00, ADJUST(1, PERM_R)), 0, "bit 0 of ECX counts");
	is(rmpadjust(va(T), 0, ADJUST(0, PERM_ALL)), RMP_FAIL_PERMISSION, "VMPL0 itself: FAIL_PERMISSION");
	judged(rmpadjust(va(T), 0, ADJUST(4, PERM_ALL)) && done(), "VMPL4: fails");
	is(raw(page(T)) & E_VMSA, 0, "no VMSA yet");
	is(rmpadjust(va(T), 0, ADJUST(1, 0) | ADJUST_VMSA), 0, "makes a VMSA");
	is(raw(page(T)) & E_VMSA, E_VMSA, "the entry has the bit");
	is(rmpadjust(va(T), 0, ADJUST(1, 0)), 0, "reverts it");
	is(raw(page(T)) & E_VMSA, 0, "the bit is gone");
	is(raw(page(T)), E_GUEST(gpa(T), ASID_SNP), "and nothing else has changed");
	is(pvalidate(va(T), 0, 0), 0, "not validated");
	learn(page(T));
	rmpadjust(va(T), 0, ADJUST(1, PERM_R));
	judged(ran.exit == EXIT_VMGEXIT && ran.vector == VEC_VC && ran.error == VC_NOT_VALIDATED &&
	       ran.cr2 == va(T), "of a page that is not validated: #VC");
	release(T);
	wrong_pages_of("RMPADJUST", rmpadjust, ADJUST(1, PERM_R));
	own_valid(T);
	attempt_user(snp_user_rmpadjust, va(T), 0, 0, ADJUST(1, PERM_R));
	judged(ran.vector == VEC_GP && !ran.error && ran.cs == USER_CS, "#GP at CPL 3");
	release(T);
}

/* Another vCPU, whose VMSA the guest makes itself from the image. */
static struct vmsa *image;

static bool add_vcpu(u32 n, u32 vmsa, u32 vmpl)
{
	make_vcpu(n, vmpl, page(vmsa));
	nested_box[3] = (u64)image | PTE_ALL;
	own_valid(vmsa);
	is(vmrun(&vcpus[n]), EXIT_INVALID, "VMRUN: a page of the guest that is no VMSA");
	prepare(cur, snp_copy, 0, 0, SZ_4K, 0);
	cur->box[BOX_RSI / 8] = shared_va(BOX + 3);
	cur->box[BOX_RDI / 8] = va(vmsa);
	vmrun(cur);
	conclude(cur);
	judged(done(), "the guest writes a VMSA");
	is(rmpadjust(va(vmsa), 0, ADJUST(1, 0) | ADJUST_VMSA), 0, "and makes it one");
	is(raw(page(vmsa)), E_GUEST(gpa(vmsa), ASID_SNP) | E_VMSA, "the entry is that of a VMSA");
	learn(page(vmsa));
	return ok(vmrun(&vcpus[n]) == EXIT_VMGEXIT, "VMRUN of it");
}

/* Without PAE or long mode there is no C-bit, and everything is private. */
static void legacy_modes(void)
{
	static const struct { const char *name; u32 n, vmsa; u64 cr0, cr4; } rows[] = {
		/* ET, PE; PG; PSE */
		{ "no paging", 2, VMSA_32, 0x11, 0 },
		{ "32-bit paging", 3, VMSA_PAGED, 0x80000011, 0x10 },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vcpu *c = &vcpus[rows[i].n];
		const struct vmsa *s = (const struct vmsa *)page(rows[i].vmsa);

		section("snp guest in legacy mode");
		make_vmsa(image, 0, 0);
		image->cs.attrib = SEG_CODE32;
		image->efer = EFER_SVME;
		image->cr0 = rows[i].cr0;
		image->cr4 = rows[i].cr4;
		image->cr3 = gpa(DIR_32);
		image->rip = gpa(CODE) + (snp_legacy - snp_code);
		image->gprs[3] = gpa(T) + 0x38;
		if (!add_vcpu(rows[i].n, rows[i].vmsa, 0))
			continue;
		release(T);
		vmrun(c);
		if (!ok(c->vmcb->exit_code == EXIT_NPF && c->vmcb->exit_info_1 == FAULT_RMP &&
			c->vmcb->exit_info_2 == gpa(T) + 0x38, "%s: a load is private", rows[i].name))
			note("exit %llx, EXITINFO %llx %llx", c->vmcb->exit_code, c->vmcb->exit_info_1,
			     c->vmcb->exit_info_2);
		own_valid(T);
		ok(vmrun(c) == EXIT_VMGEXIT && s->rax == (u32)FRESH, "%s: reads its own page", rows[i].name);
		release(T);
	}
}

/* What VMRUN of an SNP-active guest checks */
static void vmrun_checks(void)
{
	struct vmcb *v = vcpus[0].vmcb;

	section("snp guest, VMRUN");
	v->asid = ASID_STRANGE;
	is(vmrun(&vcpus[0]), EXIT_INVALID, "ASID of another guest");
	v->asid = ASID_SNP;
	v->vmsa = page(CODE);
	is(vmrun(&vcpus[0]), EXIT_INVALID, "a page of the guest that is no VMSA");
	v->vmsa = CTX;
	is(vmrun(&vcpus[0]), EXIT_INVALID, "the context page of the firmware");
	v->vmsa = NOWHERE;
	is(vmrun(&vcpus[0]), EXIT_INVALID, "not covered by the RMP");
	v->vmsa = page(VMSA_0);
	v->lbr_ctl = 0;
	is(vmrun(&vcpus[0]), EXIT_INVALID, "without LBR virtualization");
	v->lbr_ctl = LBR_VIRTUALIZATION;
	prepare(&vcpus[0], snp_nothing, 0, 0, 0, 0);
	is(vmrun(&vcpus[0]), EXIT_VMGEXIT, "the guest still runs");
}

static void msrs(void)
{
	section("snp guest, MSRs");
	attempt_regs(snp_rdmsr, 0, 0, MSR_SEV_STATUS, 0);
	judged(done() && ran.rax == 7, "SEV_STATUS is 7");
	vcpus[0].vmcb->ghcb = 0x5678000;
	attempt_regs(snp_rdmsr, 0, 0, MSR_GHCB, 0);
	judged(done() && ran.rax == 0x5678000, "GHCB is in the VMCB");
	vcpus[0].vmcb->ghcb = 0;
}

/* Permissions of VMPL1 */

static void to_vmpl1(u32 n, u32 perms)
{
	struct vcpu *was = cur;

	cur = &vcpus[0];
	if (rmpadjust(va(n), 0, ADJUST(1, perms)))
		note("page %u: RMPADJUST gives %llx", n, ran.rax);
	cur = was;
}

static const u32 used[] = { PML4, PDPT, PD, PT_P, PT_S, CODE, STACK, TABLES, PT_L };

static void vmpl_permissions(void)
{
	const u64 vmpl = FAULT_RMP | NPF_VMPL;

	section("snp guest, VMPL1");
	cur = &vcpus[1];
	own_valid(T);
	attempt(snp_load, va(T));
	judged(npf(vmpl, gpa(T)), "has no permission for a page at first");
	for (u32 perms = 0; perms <= PERM_ALL; perms++) {
		bool r = perms & PERM_R, w = perms & PERM_W;

		to_vmpl1(T, perms);
		attempt(snp_load, va(T) + 0x20);
		judged(r ? done() : npf(vmpl, gpa(T) + 0x20), "permissions %x: load", perms);
		attempt_regs(snp_store, FRESH, va(T) + 0x20, 0, 0);
		judged(r && w ? done() : npf(vmpl | PF_W, gpa(T) + 0x20), "permissions %x: store", perms);
		/* Whether a fetch needs to read as well is left open. */
		if (!r)
			continue;
		/* What the TLB has from the load must not be more. */
		attempt(snp_load_store, va(T));
		judged(w ? done() : npf(vmpl | PF_W, gpa(T)), "permissions %x: store after a load", perms);
		attempt(snp_load_fetch, va(T));
		judged(perms & PERM_SX ? done() : npf(vmpl | NPF_FETCH, gpa(T)),
		       "permissions %x: fetch after a load", perms);
		attempt(snp_fetch, va(T));
		judged(perms & PERM_SX ? done() : npf(vmpl | NPF_FETCH, gpa(T)),
		       "permissions %x: fetch at CPL 0", perms);
		attempt_user(snp_user_fetch, 0, va(T), 0, 0);
		judged(perms & PERM_UX ? ran.exit == EXIT_VMGEXIT && ran.vector == VEC_UD :
		       npf(vmpl | NPF_FETCH, gpa(T)), "permissions %x: fetch at CPL 3", perms);
		attempt_user(snp_user_load, 0, va(T), 0, 0);
		judged(ran.exit == EXIT_VMGEXIT && ran.vector == VEC_UD, "permissions %x: load at CPL 3",
		       perms);
	}
	/* Shared memory has no permissions. */
	to_vmpl1(T, 0);
	attempt(snp_load, shared_va(T));
	judged(done(), "a shared load needs none");
	/* Not what VMPL2 has */
	cur = &vcpus[0];
	rmpadjust(va(T), 0, ADJUST(2, PERM_ALL));
	cur = &vcpus[1];
	attempt(snp_load, va(T));
	judged(npf(vmpl, gpa(T)), "permissions of VMPL2 are no help");
	cur = &vcpus[0];
	attempt(snp_store, va(T));
	judged(done(), "VMPL0 always has all");
	learn(page(T));
	release(T);
	/* A page that comes back has lost them. */
	own_valid(T);
	to_vmpl1(T, PERM_ALL);
	learn(page(T));
	own_valid(T);
	cur = &vcpus[1];
	attempt(snp_load, va(T));
	judged(npf(vmpl, gpa(T)), "RMPUPDATE takes the permissions away");

	section("snp guest, VMPL1, page table walk");
	cur = &vcpus[0];
	to_vmpl1(T, PERM_ALL);
	release(PT_T);
	walked_table();
	assign(page(PT_T), gpa(PT_T), 0, ASID_SNP);
	pvalidate(va(PT_T), 0, 1);
	learn(page(PT_T));
	cur = &vcpus[1];
	attempt(snp_load, VA_TABLE);
	judged(ran.exit == EXIT_NPF && (ran.info_1 & ~PF_W) ==
	       (PF_P | PF_U | PF_RMP | NPF_TABLE | NPF_ENC | NPF_VMPL), "without permission");
	to_vmpl1(PT_T, PERM_R);
	attempt(snp_load, VA_TABLE);
	judged(done(), "permission to read is enough");
	attempt(snp_store, VA_TABLE + SZ_4K);
	judged(ran.exit == EXIT_NPF && (ran.info_1 & (PF_RMP | NPF_TABLE | NPF_VMPL)) ==
	       (PF_RMP | NPF_TABLE | NPF_VMPL), "but not to set the bits of an access");
	to_vmpl1(PT_T, PERM_R | PERM_W);
	attempt(snp_store, VA_TABLE + SZ_4K);
	judged(done(), "for which it needs to write");
	release(PT_T);

	section("snp guest, VMPL1, instructions");
	is(pvalidate(va(T), 0, 0), RMP_FAIL_PERMISSION, "PVALIDATE: FAIL_PERMISSION");
	judged(!carry(), "without carry");
	is(raw(page(T)) & E_VALIDATED, E_VALIDATED, "the entry stays");
	is(rmpadjust(va(T), 0, ADJUST(0, PERM_R)), RMP_FAIL_PERMISSION,
	   "RMPADJUST for VMPL0: FAIL_PERMISSION");
	is(rmpadjust(va(T), 0, ADJUST(1, PERM_R)), RMP_FAIL_PERMISSION,
	   "RMPADJUST for itself: FAIL_PERMISSION");
	is(rmpadjust(va(T), 0, ADJUST(2, PERM_ALL)), 0, "RMPADJUST for VMPL2, with what it has");
	to_vmpl1(T, PERM_R | PERM_W);
	is(rmpadjust(va(T), 0, ADJUST(2, PERM_R | PERM_W)), 0, "with all of what it has");
	is(rmpadjust(va(T), 0, ADJUST(2, PERM_R)), 0, "with less");
	is(rmpadjust(va(T), 0, ADJUST(2, PERM_R | PERM_UX)), RMP_FAIL_PERMISSION, "with more");
	rmpadjust(va(T), 0, ADJUST(2, PERM_R) | ADJUST_VMSA);
	is(raw(page(T)) & E_VMSA, 0, "it cannot make a VMSA");
	cur = &vcpus[0];
	release(T);
}

/* A random walk: what the hypervisor, VMPL0 and VMPL1 do to a few pages, and what they find. */

static struct { bool assigned, mine, valid; u32 perms; } walked[LAST + 1 - WALK];
static u64 seed;

static u32 rnd(u32 n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (seed >> 33) % n;
}

static void step_update(u32 i)
{
	u32 what = rnd(5), n = WALK + i;

	learn(page(n));
	walked[i].assigned = what != 0;
	walked[i].mine = what > 2;
	walked[i].valid = false;
	walked[i].perms = 0;
	if (!what)
		free_4k(page(n));
	else
		assign(page(n), gpa(what == 1 ? n + 1 : n), 0, what == 2 ? ASID_STRANGE : ASID_SNP);
}

static bool step_pvalidate(u32 i)
{
	u32 validate = rnd(4) != 0, eax = pvalidate(va(WALK + i), 0, validate);
	bool good;

	if (!walked[i].mine)
		return npf(FAULT_RMP, gpa(WALK + i));
	good = !eax && carry() == (walked[i].valid == validate);
	walked[i].valid = validate;
	return good;
}

static bool step_rmpadjust(u32 i)
{
	u32 perms = rnd(4) ? PERM_ALL : rnd(16) | PERM_R, eax = rmpadjust(va(WALK + i), 0, ADJUST(1, perms));

	if (!walked[i].mine)
		return npf(FAULT_RMP, gpa(WALK + i));
	if (!walked[i].valid)
		return ran.exit == EXIT_VMGEXIT && ran.vector == VEC_VC && ran.error == VC_NOT_VALIDATED;
	walked[i].perms = perms;
	return !eax;
}

static bool step_access(u32 i, u32 a)
{
	static const u32 needs[NR_ACCESSES] = { PERM_R, PERM_R | PERM_W, PERM_R | PERM_SX };
	bool shared = !rnd(4), private = !shared || a == FETCH;
	u64 address = (shared ? shared_va(WALK + i) : va(WALK + i)) + (a == FETCH ? 0 : 8);
	u64 guest_pa = gpa(WALK + i) + (address & 0xfff);

	attempt_regs(access_code[a], FRESH, address, 0, 0);
	if (!private)
		return a == STORE && walked[i].assigned ?
		       npf((FAULT_RMP & ~NPF_ENC) | PF_W, guest_pa) : done();
	if (!walked[i].mine)
		return npf(FAULT_RMP | access_bits[a], guest_pa);
	if (!walked[i].valid)
		return not_validated(address, a == FETCH ? address : at(access_code[a]));
	if (cur->vmpl && needs[a] & ~walked[i].perms)
		return npf(FAULT_RMP | NPF_VMPL | access_bits[a], guest_pa);
	return done();
}

static void random_walk(void)
{
	u32 steps = flag_value("sev-steps", 300) * 4, bad = 0, wanted = 0;

	section("snp guest, random walk");
	seed = flag_value("seed", 1) * 91;
	memset(walked, 0, sizeof(walked));
	for (u32 n = WALK; n <= LAST; n++)
		release(n);
	for (u32 k = 0; k < steps; k++) {
		u32 i = rnd(ARRAY_SIZE(walked)), what = rnd(12);
		bool good = true;

		cur = &vcpus[0];
		if (what < 2)
			step_update(i);
		else if (what < 5)
			good = step_pvalidate(i);
		else if (what < 7)
			good = step_rmpadjust(i);
		else {
			cur = &vcpus[rnd(2)];
			good = step_access(i, rnd(NR_ACCESSES));
			wanted += done();
		}
		if (good)
			continue;
		if (!bad++)
			note("step %u, kind %u, VMPL%u, page %u: assigned %u mine %u valid %u permissions %x",
			     k, what, cur->vmpl, i, walked[i].assigned, walked[i].mine, walked[i].valid,
			     walked[i].perms);
		tell();
	}
	cur = &vcpus[0];
	is(bad, 0, "%u steps", steps);
	ok(!steps || wanted, "in which %u accesses found what they wanted", wanted);
	for (u32 n = WALK; n <= LAST; n++)
		release(n);
}

/* RMPOPT is for writes of the hypervisor: a region that is optimized is not the guest's. */
static void optimized_region(void)
{
	section("snp guest, RMPOPT");
	if (!has.rmpopt || !has.segments || !(model_rmpopt_base() & 1))
		return;
	is(rmpopt(ALIGN_DOWN(CLEAN, SZ_1G), 0), 1, "the region is optimized");
	fill(CLEAN);
	nested_pt[T] = CLEAN | PTE_ALL;
	for (u32 a = 0; a < NR_ACCESSES; a++) {
		attempt(access_code[a], va(T));
		judged(npf(FAULT_RMP | access_bits[a], gpa(T)),
		       "private %s: nested page fault all the same", access_names[a]);
	}
	attempt_regs(snp_store, 0x99, shared_va(T), 0, 0);
	judged(done() && *(u64 *)CLEAN == 0x99, "shared store: no fault");
	is(rmpopt(ALIGN_DOWN(CLEAN, SZ_1G), 1), 1, "the region is still optimized");
	nested_pt[T] = page(T) | PTE_ALL;
	is(rmpopt(R0, 0), 0, "a region with pages of a guest cannot be");
}

/* Two vCPUs */

static void spin(void *arg)
{
	vmrun(arg);
}

static void remote_svm_on(void *unused __unused)
{
	svm_on();
}

static void remote_svm_off(void *unused __unused)
{
	svm_off();
}

static void on_other(struct vcpu *c, const u8 *what)
{
	prepare(c, what, FRESH, va(T), 0, 0);
	start_on(nr_cpus - 1, spin, c);
	for (u32 i = 0; i < 100000000 && ((volatile u64 *)c->box)[BOX_COUNT / 8] < 100; i++) {
		if (!((volatile bool)cpu_ptr(nr_cpus - 1)->busy))
			break;
		pause();
	}
}

/* It must not go on. */
static bool other_has_ended(struct vcpu *c)
{
	volatile u64 *box = c->box;
	u64 begin = box[BOX_COUNT / 8];
	bool ended;

	for (u32 i = 0; i < 20000000 && cpu_ptr(nr_cpus - 1)->busy; i++) {
		if (box[BOX_COUNT / 8] > begin + 1000000)
			break;
		pause();
	}
	ended = !cpu_ptr(nr_cpus - 1)->busy;
	box[BOX_STOP / 8] = 1;
	wait_for(nr_cpus - 1);
	return ended && begin >= 100;
}

/* A VMSA whose vCPU runs stays one, and runs nowhere else. */
static void vmsa_in_use(void)
{
	const u64 entry = E_GUEST(gpa(VMSA_1), ASID_SNP) | E_VMSA;
	struct vcpu *other = &vcpus[1], second = *other;
	static struct rmp_state none;
	struct outcome out;

	section("snp guest, VMSA in use");
	run_on(nr_cpus - 1, remote_svm_on, NULL);
	second.vmcb = new_page();
	memcpy(second.vmcb, other->vmcb, SZ_4K);
	own_valid(T);
	to_vmpl1(T, PERM_ALL);
	on_other(other, snp_spin_load);
	is(vmrun(&second), EXIT_BUSY, "VMRUN elsewhere: busy");
	snp_run(OP_RMPUPDATE, page(VMSA_1), (u64)&none, KERNEL, &out);
	is(out.rax, RMP_FAIL_INUSE, "RMPUPDATE: FAIL_INUSE");
	is(rmpadjust(va(VMSA_1), 0, ADJUST(1, 0)), RMP_FAIL_INUSE, "RMPADJUST without VMSA: FAIL_INUSE");
	is(raw(page(VMSA_1)), entry, "the entry stays");
	is(other_has_ended(other), false, "the vCPU goes on");
	conclude(other);
	judged(done(), "until it is told to end");
	is(rmpadjust(va(VMSA_1), 0, ADJUST(1, 0)), 0, "RMPADJUST, not in use");
	is(vmrun(other), EXIT_INVALID, "it is no VMSA any more");
	is(rmpadjust(va(VMSA_1), 0, ADJUST(1, 0) | ADJUST_VMSA), 0, "RMPADJUST makes it one again");
	prepare(&second, snp_nothing, 0, 0, 0, 0);
	is(vmrun(&second), EXIT_VMGEXIT, "VMRUN elsewhere, not in use");
	release(T);
	run_on(nr_cpus - 1, remote_svm_off, NULL);
}

static void flushes(void)
{
	struct vcpu *other = &vcpus[1];

	section("snp guest, another vCPU's TLB");
	run_on(nr_cpus - 1, remote_svm_on, NULL);
	for (u32 i = 0; i < 4; i++) {
		const u8 *what = i & 1 ? snp_spin_store : snp_spin_load;
		const char *name = i & 1 ? "store" : "load";
		volatile u64 *word;

		own_valid(T);
		to_vmpl1(T, PERM_ALL);
		learn(page(T));
		/* Mapped while no vCPU is in the guest, which would get the interrupt. */
		word = window(page(T));
		on_other(other, what);
		if (i < 2)
			free_4k(page(T));
		else
			assign(page(T), gpa(T + 1), 0, ASID_SNP);
		if (i == 1)
			*word = 0;
		is(other_has_ended(other), true, "%s: RMPUPDATE %s ends it", name,
		   i < 2 ? "to the hypervisor" : "of its address");
		conclude(other);
		judged(npf(FAULT_RMP | (i & 1 ? PF_W : 0), gpa(T)), "by a nested page fault");
		if (i == 1)
			is(*word, 0, "no store comes after it");
		release(T);
	}
	own_valid(T);
	to_vmpl1(T, PERM_ALL);
	on_other(other, snp_spin_store);
	to_vmpl1(T, PERM_R);
	attempt_regs(snp_store, 0, va(T), 0, 0);
	judged(done(), "VMPL0 writes after RMPADJUST");
	is(other_has_ended(other), true, "RMPADJUST that takes away the write permission ends it");
	conclude(other);
	judged(npf(FAULT_RMP | NPF_VMPL | PF_W, gpa(T)), "by a nested page fault");
	is(*(volatile u64 *)page(T), 0, "no store comes after it");
	to_vmpl1(T, PERM_ALL);
	on_other(other, snp_spin_load);
	is(pvalidate(va(T), 0, 0), 0, "PVALIDATE takes the validation away");
	learn(page(T));
	is(other_has_ended(other), true, "which ends it");
	conclude(other);
	judged(not_validated(va(T), at(snp_spin_load)), "by #VC");
	release(T);
	update(LARGE, GPA_LARGE, 1, 1, 0, ASID_SNP);
	nested_is_large(true);
	pvalidate(VA_LARGE, 1, 1);
	rmpadjust(VA_LARGE, 1, ADJUST(1, PERM_ALL));
	for (u32 i = 0; i < 512; i++)
		learn(LARGE + i * SZ_4K);
	prepare(other, snp_spin_load, 0, VA_LARGE, 0, 0);
	start_on(nr_cpus - 1, spin, other);
	for (u32 i = 0; i < 100000000 && ((volatile u64 *)other->box)[BOX_COUNT / 8] < 100; i++) {
		if (!cpu_ptr(nr_cpus - 1)->busy)
			break;
		pause();
	}
	psmash(LARGE);
	is(other_has_ended(other), true, "PSMASH ends it");
	conclude(other);
	judged(npf(FAULT_RMP | NPF_SIZEM, GPA_LARGE), "by a nested page fault with SIZEM");
	nested_is_large(false);
	free_all_4k(LARGE);
	run_on(nr_cpus - 1, remote_svm_off, NULL);
}

static void launch_guest(void)
{
	make_guest(CTX, ASID_SNP);
	guest_tables();
	guest_code_and_gates();
	nested_tables();
	make_vmsa(phys(page(VMSA_0)), 0, 0);
	for (u32 n = PML4; n <= DIR_32; n++)
		launch(n, NORMAL);
	launch(VMSA_0, VMSA);
	make_vcpu(0, 0, page(VMSA_0));
	cur = &vcpus[0];
	if (!image)
		image = new_page();
}

static void end_guest(void)
{
	for (u32 n = VMSA_0; n <= LAST; n++)
		release(n);
	drop_guest(CTX);
}

static void in_the_guest(void)
{
	wrong_pages();
	shared_access();
	nested_faults();
	walks();
	pvalidate_rows();
	rmpadjust_rows();
	not_in_others();
	msrs();
	vmrun_checks();
	optimized_region();
	legacy_modes();
	section("snp guest, VMPL1");
	make_vmsa(image, 1, 1);
	for (u32 i = 0; i < ARRAY_SIZE(used); i++)
		to_vmpl1(used[i], PERM_ALL);
	if (add_vcpu(1, VMSA_1, 1)) {
		vmpl_permissions();
		flushes();
		vmsa_in_use();
		random_walk();
	}
	cur = &vcpus[0];
	sizes();
	section("snp guest");
	is(bad_upper, 0, "PVALIDATE and RMPADJUST clear the upper half of RAX");
	is(bad_status, 0, "and set the flags by EAX");
	is(lost, false, "the guest was always there");
}

void tests_snp_guest(void)
{
	u64 efer = rdmsr(MSR_EFER);

	svm_on();
	/* So that a nested page fault tells a fetch from a load */
	try_wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
	section("snp guest");
	launch_guest();
	if (ok(vmrun(cur) == EXIT_VMGEXIT, "runs"))
		in_the_guest();
	else
		note("exit %llx, EXITINFO %llx %llx", cur->vmcb->exit_code, cur->vmcb->exit_info_1,
		     cur->vmcb->exit_info_2);
	end_guest();
	is(psp_good(0, 0), 1, "all is free again");
	svm_off();
	try_wrmsr(MSR_EFER, efer);
}
