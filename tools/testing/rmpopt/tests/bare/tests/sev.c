// SPDX-License-Identifier: GPL-2.0-only
/*
 * SEV and SEV-ES guests: what VMRUN checks, which registers it loads and #VMEXIT stores,
 * what exits to the hypervisor and what raises #VC in the guest (APM volume 2, 15.34 and
 * 15.35). What depends on the RMP is tested once SNP is enabled.
 */
#include "sev_code.h"
#include "svm.h"
#include "tests.h"

#define BYTES(...) { __VA_ARGS__ }, sizeof((u8[]){ __VA_ARGS__ })

#define CR0_TS BIT(3)
#define CR0_NE BIT(5)
#define CR0_AM BIT(18)
#define CR0_PG BIT(31)
#define CR3_PWT BIT(3)
#define CR4_DE BIT(3)
#define CR4_PCE BIT(8)
#define CR4_OSFXSR BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_OSXSAVE BIT(18)
#define CR4_PKE BIT(22)
#define EFER_SCE BIT(0)
#define FL_TF BIT(8)
#define FL_IF BIT(9)
#define POISON 0x5a5a5a5a5a5a5a5aULL

#define READ_CR(n) ({ u64 v_; __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v_)); v_; })

enum type { PLAIN, SEV, SEV_ES, NR_TYPES };

static const char *const type_names[NR_TYPES] = { "plain", "SEV", "SEV-ES" };

static u32 first_sev_asid, last_asid;
static u64 host_cr4;
static bool has_avx;

void see_fpu(void);
void set_fpu(void);

static const u8 nop[] = { 0x90 };

/* A guest that does nothing but end: by VMMCALL, or by VMGEXIT. */
static void make(enum type type, const u8 *bytes, u32 len)
{
	if (type == SEV_ES) {
		es_reset();
		es_code(bytes, len);
		return;
	}
	guest_reset();
	guest_code(bytes, len);
	if (type == SEV) {
		guest.vmcb->nested_ctl = NESTED_NP | NESTED_SEV;
		guest.vmcb->asid = first_sev_asid;
	}
}

/* What is left for #VMEXIT to load must be right even if an SEV-ES guest does not run. */
static u64 run(void)
{
	es_run();
	return guest.vmcb->exit_code;
}

static u64 end_of(enum type type)
{
	return type == SEV_ES ? EXIT_VMGEXIT : EXIT_VMMCALL;
}

/* What VMRUN checks */

static void es_without_sev(void)
{
	guest.vmcb->nested_ctl &= ~NESTED_SEV;
}

static void without_np(void)
{
	guest.vmcb->nested_ctl &= ~NESTED_NP;
}

static void asid_0(void)
{
	guest.vmcb->asid = 0;
}

static void asid_last(void)
{
	guest.vmcb->asid = last_asid;
}

static void asid_above(void)
{
	guest.vmcb->asid = last_asid + 1;
}

static void asid_huge(void)
{
	guest.vmcb->asid |= 0x80000000;
}

static void asid_last_es(void)
{
	guest.vmcb->asid = first_sev_asid - 1;
}

static void no_lbr(void)
{
	guest.vmcb->lbr_ctl = 0;
}

static void vmsa_odd(void)
{
	guest.vmcb->vmsa += 8;
}

/* What the CPU knows of a VMSA has room there. */
static void vmsa_2k(void)
{
	memcpy((u8 *)guest.vmsa + SZ_4K / 2, guest.vmsa, __builtin_offsetof(struct vmsa, rsvd670));
	guest.vmcb->vmsa += SZ_4K / 2;
}

static void vmsa_46(void)
{
	guest.vmcb->vmsa |= BIT(46);
}

static void vmsa_50(void)
{
	guest.vmcb->vmsa |= BIT(50);
}

static void vmsa_52(void)
{
	guest.vmcb->vmsa |= BIT(52);
}

static void vmsa_63(void)
{
	guest.vmcb->vmsa |= BIT(63);
}

static void inject_software(void)
{
	guest.vmcb->event_inj = EVENTINJ_VALID | EVENTINJ_SOFTWARE | 0x30;
}

static void inject_bp(void)
{
	guest.vmcb->event_inj = EVENTINJ_VALID | EVENTINJ_EXCEPTION | 3;
}

static void inject_of(void)
{
	guest.vmcb->event_inj = EVENTINJ_VALID | EVENTINJ_EXCEPTION | 4;
}

static void inject_not_valid(void)
{
	guest.vmcb->event_inj = EVENTINJ_SOFTWARE | 0x30;
}

static void snp_active(void)
{
	guest.vmsa->sev_features = SEV_SNP_ACTIVE;
}

static void feature_63(void)
{
	guest.vmsa->sev_features = BIT(63);
}

static void without_vmrun(void)
{
	guest_intercept(EXIT_VMRUN, false);
}

static void svme_clear(void)
{
	guest.vmsa->efer &= ~EFER_SVME;
}

static void spoil_save_area(void)
{
	memset(&guest.vmcb->es, 0xff, sizeof(*guest.vmcb) - 0x400);
}

static const struct {
	const char *name;
	enum type type;
	void (*change)(void);
	bool invalid;
} checks[] = {
	{ "plain guest", PLAIN, NULL, false },
	{ "SEV guest", SEV, NULL, false },
	{ "SEV-ES guest", SEV_ES, NULL, false },
	{ "SEV-ES without SEV", SEV_ES, es_without_sev, true },
	{ "SEV without nested paging", SEV, without_np, true },
	{ "SEV-ES without nested paging", SEV_ES, without_np, true },
	{ "ASID 0, plain", PLAIN, asid_0, true },
	{ "ASID 0, SEV", SEV, asid_0, true },
	{ "ASID 0, SEV-ES", SEV_ES, asid_0, true },
	{ "SEV with the last ASID", SEV, asid_last, false },
	{ "SEV with an ASID above ECX", SEV, asid_above, true },
	{ "SEV with bit 31 in the ASID", SEV, asid_huge, true },
	{ "SEV with an ASID of SEV-ES guests", SEV, asid_last_es, true },
	{ "SEV-ES with the last of these", SEV_ES, asid_last_es, false },
	{ "SEV-ES with an ASID above ECX", SEV_ES, asid_above, true },
	{ "SEV-ES with bit 31 in the ASID", SEV_ES, asid_huge, true },
	{ "SEV-ES without LBR virtualization", SEV_ES, no_lbr, true },
	{ "SEV without LBR virtualization", SEV, no_lbr, false },
	{ "VMSA not aligned", SEV_ES, vmsa_odd, true },
	{ "VMSA in the middle of a page", SEV_ES, vmsa_2k, true },
	{ "VMSA above the reduced address width", SEV_ES, vmsa_46, true },
	{ "VMSA at bit 50", SEV_ES, vmsa_50, true },
	{ "VMSA at bit 52", SEV_ES, vmsa_52, true },
	{ "VMSA at bit 63", SEV_ES, vmsa_63, true },
	{ "SEV does not look at the VMSA pointer", SEV, vmsa_odd, false },
	{ "SEV-ES: software interrupt injected", SEV_ES, inject_software, true },
	{ "SEV-ES: #BP injected", SEV_ES, inject_bp, true },
	{ "SEV-ES: #OF injected", SEV_ES, inject_of, true },
	{ "SEV-ES: an event that is not valid", SEV_ES, inject_not_valid, false },
	{ "SNPActive without SNP_EN", SEV_ES, snp_active, true },
	{ "SEV does not look at SEV_FEATURES", SEV, feature_63, false },
	{ "SEV without the intercept of VMRUN", SEV, without_vmrun, true },
	{ "SEV-ES without the intercept of VMRUN", SEV_ES, without_vmrun, true },
	{ "SEV-ES with EFER.SVME clear in the VMSA", SEV_ES, svme_clear, true },
	{ "SEV-ES with nonsense in the VMCB's save area", SEV_ES, spoil_save_area, false },
};

static void check_vmrun(void)
{
	u32 bad = 0;

	for (u32 i = 0; i < ARRAY_SIZE(checks); i++) {
		enum type type = checks[i].type;

		make(type, nop, sizeof(nop));
		if (checks[i].change == snp_active && snp_enabled())
			continue;
		if (checks[i].change)
			checks[i].change();
		is(run(), checks[i].invalid ? EXIT_INVALID : end_of(type), "%s: %s", checks[i].name,
		   checks[i].invalid ? "invalid" : "runs");
	}
	for (u32 bit = 1; bit < 64; bit++) {
		make(SEV_ES, nop, sizeof(nop));
		guest.vmsa->sev_features = BIT(bit);
		if (run() != EXIT_INVALID) {
			note("bit %u: exit %llx", bit, guest.vmcb->exit_code);
			bad++;
		}
	}
	is(bad, 0, "SEV_FEATURES 63:1 are invalid");
	/* A valid one of the fields that were refused */
	make(SEV_ES, nop, sizeof(nop));
	guest.vmcb->event_inj = EVENTINJ_VALID | EVENTINJ_EXCEPTION | VEC_UD;
	run();
	is(es_vector(), VEC_UD, "SEV-ES: #UD injected: its handler runs");
	is(es_frame()->error, (u64)guest.code, "with RIP on the stack");
	make(SEV_ES, nop, sizeof(nop));
	guest.vmcb->event_inj = EVENTINJ_VALID | 0x77;
	guest.vmsa->rflags |= FL_IF;
	run();
	is(es_vector(), 0x77, "SEV-ES: external interrupt injected: its handler runs");
}

/* Registers */

u64 sev_seen[NR_SEEN];
u8 sev_fxsave[512] __aligned(16);
u64 sev_ymm[16][4], sev_new_ymm[16][4];
u64 sev_new_gprs[16], sev_new_msrs[NR_SEV_MSRS];
u32 sev_msrs[NR_SEV_MSRS], sev_has_pku, sev_new_xcr0, sev_new_pkru, sev_new_mxcsr;
u16 sev_new_fcw;
u64 sev_new_cr0, sev_new_cr2, sev_new_cr3, sev_new_cr4, sev_new_dr6, sev_new_dr7, sev_new_rflags;
struct table_ptr { u16 limit; u64 base; } __packed;
struct table_ptr sev_new_gdtr, sev_new_idtr;
extern u8 sev_registers[], sev_registers_end[];
extern u64 pdpt[512];

static const char *const gpr_names[16] = {
	"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13",
	"R14", "R15"
};

static const struct {
	const char *name;
	u32 msr, offset;
	u64 start, end;
} msrs[NR_SEV_MSRS] = {
#define AT(field) __builtin_offsetof(struct vmsa, field)
	/* EFER starts as that of the kernel. */
	{ "EFER", MSR_EFER, AT(efer), 0, EFER_SCE | EFER_LME | EFER_LMA | EFER_SVME },
	{ "STAR", 0xc0000081, AT(star), 0x0023001012345678, 0x0033002087654321 },
	{ "LSTAR", 0xc0000082, AT(lstar), 0xffff800000001111, 0x0000700000002222 },
	{ "CSTAR", 0xc0000083, AT(cstar), 0xffff900000001113, 0x0000600000002224 },
	{ "SFMASK", 0xc0000084, AT(sfmask), 0x47700, 0x257fd5 },
	{ "FS.base", 0xc0000100, AT(fs.base), 0x0000123400005678, 0xffff877700005555 },
	{ "GS.base", 0xc0000101, AT(gs.base), 0xffff823400005679, 0x0000177700005556 },
	{ "KERNEL_GS_BASE", 0xc0000102, AT(kernel_gs_base), 0xffff83340000567a, 0x0000277700005557 },
	{ "SYSENTER_CS", 0x174, AT(sysenter_cs), 0x1238, 0x4328 },
	{ "SYSENTER_ESP", 0x175, AT(sysenter_esp), 0xffff84440000567b, 0x0000377700005558 },
	{ "SYSENTER_EIP", 0x176, AT(sysenter_eip), 0xffff85550000567c, 0x0000477700005559 },
	{ "PAT", MSR_PAT, AT(g_pat), 0x0007010600070501, 0x0106000405070106 },
};

static u64 *field(u32 offset)
{
	return (u64 *)((u8 *)guest.vmsa + offset);
}

static u64 distinct(u32 n)
{
	return 0x1111111111111111ULL * (n % 15 + 1) ^ n << 8;
}

static const struct {
	const char *name;
	u32 offset;
	struct vmcb_seg seg;
} segs[] = {
	{ "ES", AT(es), { 0x20, SEG_DATA | SEG_DPL3, 0xfffeffff, 0x11110000 } },
	{ "SS", AT(ss), { KERNEL_DS, SEG_DATA, 0xfffcffff, 0x22220000 } },
	{ "DS", AT(ds), { 0x23, SEG_DATA | SEG_DPL3, 0xfffdffff, 0x33330000 } },
	{ "FS", AT(fs), { 0x33, SEG_DATA, 0xfffbffff, 0 } },
	{ "GS", AT(gs), { 0x3b, SEG_DATA, 0xfffaffff, 0 } },
	{ "LDTR", AT(ldtr), { 0x78, 0x82, 0xffff, 0x55550000 } },
	{ "TR", AT(tr), { 0x68, 0x8b, 0x1234, 0x66660000 } },
};

static void registers_start(void)
{
	struct vmsa *s = guest.vmsa;
	u64 cr0 = s->cr0, cr3 = s->cr3, cr4 = s->cr4;

	for (u32 i = 0; i < 16; i++) {
		s->gprs[i] = distinct(i);
		sev_new_gprs[i] = ~distinct(i + 40);
		for (u32 k = 0; k < 2; k++) {
			s->xmm[i][k] = distinct(100 + 2 * i + k);
			s->ymm[i][k] = distinct(140 + 2 * i + k);
			sev_new_ymm[i][k] = ~distinct(180 + 2 * i + k);
			sev_new_ymm[i][2 + k] = ~distinct(220 + 2 * i + k);
		}
	}
	s->rax = distinct(0);
	/* Number 4 is not RSP there. */
	s->gprs[0] = s->gprs[4] = ~POISON;
	for (u32 i = 0; i < ARRAY_SIZE(segs); i++)
		*(struct vmcb_seg *)field(segs[i].offset) = segs[i].seg;
	for (u32 i = 0; i < NR_SEV_MSRS; i++) {
		sev_msrs[i] = msrs[i].msr;
		sev_new_msrs[i] = msrs[i].end;
		if (msrs[i].start)
			*field(msrs[i].offset) = msrs[i].start;
	}
	s->rip = (u64)sev_registers;
	s->rflags = 2 | FL_CF | FL_ZF;
	s->cr2 = 0xabcdef0123456;
	s->dr6 = 0xffff4ff0;
	s->dr7 = 0x700;
	s->xcr0 = sev_has_pku ? 0x207 : 7;
	s->pkru = 0x55555550;
	s->mxcsr = 0x1f00;
	s->fcw = 0x27f;
	s->fsw = 0x4300;
	s->ftw = 0xb7;
	for (u32 i = 0; i < 8; i++) {
		s->x87_mantissa[i] = BIT(63) | distinct(i + 60);
		s->x87_exponent[i] = 0x3ff0 + i;
	}
	sev_new_cr0 = cr0 ^ CR0_AM;
	sev_new_cr2 = 0x6543210fedcba;
	sev_new_cr3 = cr3 ^ CR3_PWT;
	sev_new_cr4 = cr4 ^ CR4_DE;
	sev_new_dr6 = 0xffff2ff0;
	sev_new_dr7 = 0x500;
	sev_new_rflags = 2 | FL_PF | FL_SF | FL_OF;
	sev_new_xcr0 = sev_has_pku ? 7 : 3;
	sev_new_pkru = 0xaaaaaaa0;
	sev_new_mxcsr = 0x1fa0;
	sev_new_fcw = 0x77f;
	sev_new_gdtr = (struct table_ptr){ s->gdtr.limit - 16, s->gdtr.base };
	sev_new_idtr = (struct table_ptr){ s->idtr.limit - 32, s->idtr.base };
	memset(sev_seen, 0, sizeof(sev_seen));
	memset(sev_fxsave, 0, sizeof(sev_fxsave));
	memset(sev_ymm, 0, sizeof(sev_ymm));
}

static void fpu_loaded(const struct vmsa *was)
{
	const u16 *x = (const u16 *)sev_fxsave;
	u32 bad = 0;

	is(x[0], was->fcw, "FCW is loaded");
	is(x[1], was->fsw, "FSW is loaded");
	is(sev_fxsave[4], was->ftw, "FTW is loaded, as one bit for each register");
	is(*(u32 *)(sev_fxsave + 24), was->mxcsr, "MXCSR is loaded");
	for (u32 i = 0; i < 8; i++)
		bad += *(u64 *)(sev_fxsave + 32 + 16 * i) != was->x87_mantissa[i] ||
		       *(u16 *)(sev_fxsave + 40 + 16 * i) != was->x87_exponent[i];
	is(bad, 0, "x87 registers are loaded");
	for (u32 i = 0; i < 16; i++)
		bad += memcmp(sev_ymm[i], was->xmm[i], 16) != 0;
	is(bad, 0, "XMM0-15 are loaded");
	for (u32 i = bad = 0; i < 16; i++)
		bad += memcmp(sev_ymm[i] + 2, was->ymm[i], 16) != 0;
	is(bad, 0, "the upper halves of YMM0-15 are loaded");
}

static void fpu_stored(void)
{
	/* ST0 is what was pushed last: 1, ln 2, log10 2, log2 e, log2 10, pi, 1, 0 */
	static const u64 mantissas[8] = {
		0x8000000000000000, 0xb17217f7d1cf79ac, 0x9a209a84fbcff799, 0xb8aa3b295c17f0bc,
		0xd49a784bcd1b8afe, 0xc90fdaa22168c235, 0x8000000000000000, 0
	};
	static const u16 exponents[8] = { 0x3fff, 0x3ffe, 0x3ffd, 0x3fff, 0x4000, 0x4000, 0x3fff, 0 };
	const struct vmsa *s = guest.vmsa;
	u32 bad = 0;

	is(s->fcw, sev_new_fcw, "FCW is stored");
	is(s->fsw & 0x3800, 0, "FSW is stored");
	is(s->ftw, 0xfb, "FTW is stored");
	is(s->mxcsr, sev_new_mxcsr, "MXCSR is stored");
	for (u32 i = 0; i < 8; i++) {
		if (s->x87_exponent[i] == exponents[i] && s->x87_mantissa[i] - mantissas[i] + 1 <= 2)
			continue;
		note("ST%u is %x %llx", i, s->x87_exponent[i], s->x87_mantissa[i]);
		bad++;
	}
	is(bad, 0, "x87 registers are stored");
	for (u32 i = bad = 0; i < 16; i++)
		bad += memcmp(sev_new_ymm[i], s->xmm[i], 16) != 0;
	is(bad, 0, "XMM0-15 are stored");
	for (u32 i = bad = 0; i < 16; i++)
		bad += memcmp(sev_new_ymm[i] + 2, s->ymm[i], 16) != 0;
	is(bad, 0, "the upper halves of YMM0-15 are stored");
}

static void loaded(const struct vmsa *was)
{
	for (u32 i = 0; i < 16; i++)
		is(sev_seen[SEEN_GPR + i], i == 4 ? was->rsp : distinct(i), "%s is loaded", gpr_names[i]);
	is(sev_seen[SEEN_RFLAGS], was->rflags, "RFLAGS is loaded");
	is(sev_seen[SEEN_CR0], was->cr0, "CR0 is loaded");
	is(sev_seen[SEEN_CR2], was->cr2, "CR2 is loaded");
	is(sev_seen[SEEN_CR3], was->cr3, "CR3 is loaded");
	is(sev_seen[SEEN_CR4], was->cr4, "CR4 is loaded");
	is(sev_seen[SEEN_DR6], was->dr6, "DR6 is loaded");
	is(sev_seen[SEEN_DR7], was->dr7, "DR7 is loaded");
	is(sev_seen[SEEN_SEG], was->es.selector, "ES is loaded");
	is(sev_seen[SEEN_SEG + 1], was->cs.selector, "CS is loaded");
	is(sev_seen[SEEN_SEG + 2], was->ss.selector, "SS is loaded");
	is(sev_seen[SEEN_SEG + 3], was->ds.selector, "DS is loaded");
	is(sev_seen[SEEN_SEG + 4], was->fs.selector, "FS is loaded");
	is(sev_seen[SEEN_SEG + 5], was->gs.selector, "GS is loaded");
	is(sev_seen[SEEN_LDTR], was->ldtr.selector, "LDTR is loaded");
	is(sev_seen[SEEN_TR], was->tr.selector, "TR is loaded");
	is((u16)sev_seen[SEEN_GDTR], was->gdtr.limit, "GDTR is loaded");
	is((u16)sev_seen[SEEN_IDTR], was->idtr.limit, "IDTR is loaded");
	is(sev_seen[SEEN_XCR0], was->xcr0, "XCR0 is loaded");
	if (sev_has_pku)
		is(sev_seen[SEEN_PKRU], was->pkru, "PKRU is loaded");
	for (u32 i = 0; i < NR_SEV_MSRS; i++)
		is(sev_seen[SEEN_MSR + i], *(const u64 *)((const u8 *)was + msrs[i].offset),
		   "%s is loaded", msrs[i].name);
	fpu_loaded(was);
}

static void stored(const struct vmsa *was)
{
	static const struct { const char *name; u32 offset; } flat[] = {
		{ "ES", AT(es) }, { "SS", AT(ss) }, { "DS", AT(ds) },
	};
	const struct vmsa *s = guest.vmsa;

	for (u32 i = 0; i < 16; i++) {
		u64 got = i == 0 ? s->rax : i == 4 ? s->rsp : s->gprs[i];

		is(got, sev_new_gprs[i], "%s is stored", gpr_names[i]);
	}
	is(s->rip, (u64)sev_registers_end, "RIP is behind VMGEXIT");
	is(s->rflags, sev_new_rflags, "RFLAGS is stored");
	is(s->cr0, sev_new_cr0, "CR0 is stored");
	is(s->cr2, sev_new_cr2, "CR2 is stored");
	is(s->cr3, sev_new_cr3, "CR3 is stored");
	is(s->cr4, sev_new_cr4, "CR4 is stored");
	is(s->dr6, sev_new_dr6, "DR6 is stored");
	is(s->dr7, sev_new_dr7, "DR7 is stored");
	for (u32 i = 0; i < ARRAY_SIZE(flat); i++) {
		const struct vmcb_seg *seg = (const struct vmcb_seg *)field(flat[i].offset);

		if (!ok(seg->selector == KERNEL_DS && seg->limit == ~0U && !seg->base &&
			(seg->attrib & ~1) == (SEG_DATA & ~1), "%s is stored", flat[i].name))
			note("%x %x %x %llx", seg->selector, seg->attrib, seg->limit, seg->base);
	}
	ok(s->fs.selector == KERNEL_DS && s->fs.limit == ~0U, "FS is stored");
	ok(s->gs.selector == KERNEL_DS && s->gs.limit == ~0U, "GS is stored");
	ok(!memcmp(&s->cs, &was->cs, sizeof(s->cs)), "CS is as it was");
	ok(!memcmp(&s->tr, &was->tr, sizeof(s->tr)), "TR is as it was");
	is(s->ldtr.selector, 0, "LDTR is stored");
	ok(s->gdtr.limit == sev_new_gdtr.limit && s->gdtr.base == sev_new_gdtr.base, "GDTR is stored");
	ok(s->idtr.limit == sev_new_idtr.limit && s->idtr.base == sev_new_idtr.base, "IDTR is stored");
	is(s->cpl, 0, "CPL is stored");
	is(s->xcr0, sev_new_xcr0, "XCR0 is stored");
	if (sev_has_pku)
		is(s->pkru, sev_new_pkru, "PKRU is stored");
	for (u32 i = 0; i < NR_SEV_MSRS; i++)
		is(*field(msrs[i].offset), msrs[i].end, "%s is stored", msrs[i].name);
	fpu_stored();
	is(s->sev_features, was->sev_features, "SEV_FEATURES is as it was");
	is(s->vmpl, was->vmpl, "VMPL is as it was");
}

/* The hypervisor's registers after #VMEXIT */
static const struct { const char *name; u32 msr, offset; u64 value; } host_msrs[] = {
	{ "STAR", 0xc0000081, AT(star), 0x0053004011112222 },
	{ "LSTAR", 0xc0000082, AT(lstar), 0xffff810000003331 },
	{ "CSTAR", 0xc0000083, AT(cstar), 0xffff910000003332 },
	{ "SFMASK", 0xc0000084, AT(sfmask), 0x700 },
	{ "FS.base", 0xc0000100, AT(fs.base), 0xffff920000003333 },
	{ "GS.base", 0xc0000101, AT(gs.base), 0xffff930000003334 },
	{ "KERNEL_GS_BASE", 0xc0000102, AT(kernel_gs_base), 0xffff940000003335 },
	{ "SYSENTER_CS", 0x174, AT(sysenter_cs), 0x88 },
	{ "SYSENTER_ESP", 0x175, AT(sysenter_esp), 0xffff950000003336 },
	{ "SYSENTER_EIP", 0x176, AT(sysenter_eip), 0xffff960000003337 },
};

static u64 read_xcr0(void)
{
	u32 low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (u64)high << 32 | low;
}

static void host_fpu(void)
{
	const u16 *x = (const u16 *)sev_fxsave;
	u64 any = 0;

	see_fpu();
	is(x[0], 0x37f, "the host's FCW is initialized");
	is(x[1], 0, "its FSW");
	is(sev_fxsave[4], 0, "its x87 registers are empty");
	is(*(u32 *)(sev_fxsave + 24), 0x1f80, "its MXCSR is initialized");
	for (u32 i = 0; i < 16; i++)
		any |= sev_ymm[i][0] | sev_ymm[i][1] | sev_ymm[i][2] | sev_ymm[i][3];
	is(any, 0, "its XMM and YMM registers are 0");
}

static void registers(void)
{
	static struct vmsa was;
	static u8 save_area[SZ_4K - 0x400];
	struct vmsa *h = es_host();
	u64 pat = rdmsr(MSR_PAT), efer = rdmsr(MSR_EFER), cr0 = READ_CR(0), cr3 = READ_CR(3);
	u64 cr4 = READ_CR(4), old_pkru;
	struct table_ptr gdtr[2], idtr[2];
	struct vmcb *before = new_page();
	const u64 *r;
	struct regs regs;
	u16 tr;

	section("sev-es registers at VMRUN");
	if (!has_avx) {
		print("# no AVX, no test\n");
		return;
	}
	make(SEV_ES, nop, sizeof(nop));
	registers_start();
	was = *guest.vmsa;
	memcpy(save_area, &guest.vmcb->es, sizeof(save_area));
	vmsave(before);
	es_save_host();
	old_pkru = h->pkru;
	for (u32 i = 0; i < ARRAY_SIZE(host_msrs); i++)
		*(u64 *)((u8 *)h + host_msrs[i].offset) = host_msrs[i].value;
	h->xcr0 = 1;
	h->pkru = 0xccccccc0;
	__asm__ volatile("sgdt %0; sidt %1" : "=m"(gdtr[0]), "=m"(idtr[0]));
	set_fpu();
	es_enter(guest.vmcb, &regs);
	__asm__ volatile("str %0; sgdt %1; sidt %2" : "=r"(tr), "=m"(gdtr[1]), "=m"(idtr[1]));
	is(guest.vmcb->exit_code, EXIT_VMGEXIT, "the guest ends by VMGEXIT");
	loaded(&was);
	section("sev-es registers at #VMEXIT");
	stored(&was);
	ok(!memcmp(save_area, &guest.vmcb->es, sizeof(save_area)), "the VMCB's save area is untouched");

	section("sev-es registers of the hypervisor");
	is(read_xcr0(), 1, "XCR0 is loaded");
	if (sev_has_pku) {
		u32 pkru;

		__asm__ volatile("rdpkru" : "=a"(pkru) : "c"(0) : "edx");
		is(pkru, 0xccccccc0, "PKRU is loaded");
		__asm__ volatile("wrpkru" :: "a"((u32)old_pkru), "c"(0), "d"(0));
	}
	__asm__ volatile("xsetbv" :: "a"(7), "d"(0), "c"(0));
	host_fpu();
	is(regs.rax, (u64)guest.vmcb, "RAX is restored");
	r = (const u64 *)&regs;
	for (u32 i = 0; i < R_RFLAGS / 8; i++) {
		/* struct regs has neither RSP nor its place. */
		u32 n = i < 4 ? i : i + 1;

		if (n)
			is(r[i], 0xbebe000000000000ULL + n, "%s is loaded", gpr_names[n]);
	}
	for (u32 i = 0; i < ARRAY_SIZE(host_msrs); i++)
		is(rdmsr(host_msrs[i].msr), host_msrs[i].value, "%s is loaded", host_msrs[i].name);
	is(tr, TSS_SEL + 16 * this_cpu()->index, "TR is loaded");
	is(rdmsr(MSR_PAT), pat, "PAT is restored");
	is(rdmsr(MSR_EFER), efer, "EFER is restored");
	is(READ_CR(0), cr0, "CR0 is restored");
	is(READ_CR(3), cr3, "CR3 is restored");
	is(READ_CR(4), cr4, "CR4 is restored");
	ok(gdtr[1].limit == gdtr[0].limit && gdtr[1].base == gdtr[0].base, "GDTR is restored");
	ok(idtr[1].limit == idtr[0].limit && idtr[1].base == idtr[0].base, "IDTR is restored");
	vmload(before);
	for (u32 i = 0; i < ARRAY_SIZE(host_msrs); i++)
		try_wrmsr(host_msrs[i].msr, *(u64 *)((u8 *)before + 0x400 + host_msrs[i].offset));
}

/* What exits, and what raises #VC */

/* Not without the intercept: it would halt, or spoil something. */
#define NOT_TRIED 0
#define GOES_ON EXIT_VMGEXIT
#define RAISES(vector) (EXIT_EXCEPTION + (vector))

struct insn {
	const char *name;
	u8 bytes[12];
	u32 len;
	u32 code;
	u64 otherwise;
};

/*
 * RAX = RBX = CR0, RDI = CR3, R8 = CR4, RCX = 0, RDX = 80h, RBP = the data page, RSI = 400h.
 */
static const struct insn insns[] = {
	{ "mov %cr0, %rax", BYTES(0x0f, 0x20, 0xc0), EXIT_READ_CR0, GOES_ON },
	{ "mov %cr3, %r9", BYTES(0x41, 0x0f, 0x20, 0xd9), EXIT_READ_CR3, GOES_ON },
	{ "mov %cr4, %r15", BYTES(0x41, 0x0f, 0x20, 0xe7), EXIT_READ_CR4, GOES_ON },
	{ "mov %cr8, %rdx", BYTES(0x44, 0x0f, 0x20, 0xc2), EXIT_READ_CR8, GOES_ON },
	{ "mov %rbx, %cr0", BYTES(0x0f, 0x22, 0xc3), EXIT_WRITE_CR0, GOES_ON },
	{ "clts", BYTES(0x0f, 0x06), EXIT_WRITE_CR0, GOES_ON },
	{ "mov %rdi, %cr3", BYTES(0x0f, 0x22, 0xdf), EXIT_WRITE_CR3, GOES_ON },
	{ "mov %r8, %cr4", BYTES(0x41, 0x0f, 0x22, 0xe0), EXIT_WRITE_CR4, GOES_ON },
	{ "mov %rcx, %cr8", BYTES(0x44, 0x0f, 0x22, 0xc1), EXIT_WRITE_CR8, GOES_ON },
	{ "mov %dr7, %r14", BYTES(0x41, 0x0f, 0x21, 0xfe), EXIT_READ_DR0 + 7, GOES_ON },
	{ "mov %dr0, %rcx", BYTES(0x0f, 0x21, 0xc1), EXIT_READ_DR0, GOES_ON },
	{ "mov %rsi, %dr7", BYTES(0x0f, 0x23, 0xfe), EXIT_WRITE_DR0 + 7, GOES_ON },
	{ "int3", BYTES(0xcc), RAISES(3), NOT_TRIED },
	{ "ud2", BYTES(0x0f, 0x0b), RAISES(VEC_UD), NOT_TRIED },
	{ "int $0x30", BYTES(0xcd, 0x30), EXIT_SWINT, NOT_TRIED },
	{ "sidt (%rbp)", BYTES(0x0f, 0x01, 0x4d, 0x00), EXIT_IDTR_READ, GOES_ON },
	{ "sgdt (%rbp)", BYTES(0x0f, 0x01, 0x45, 0x00), EXIT_GDTR_READ, GOES_ON },
	{ "sldt %eax", BYTES(0x0f, 0x00, 0xc0), EXIT_LDTR_READ, GOES_ON },
	{ "str %eax", BYTES(0x0f, 0x00, 0xc8), EXIT_TR_READ, GOES_ON },
	{ "lidt (%rbp)", BYTES(0x0f, 0x01, 0x5d, 0x00), EXIT_IDTR_WRITE, NOT_TRIED },
	{ "lgdt (%rbp)", BYTES(0x0f, 0x01, 0x55, 0x00), EXIT_GDTR_WRITE, GOES_ON },
	{ "lldt %cx", BYTES(0x0f, 0x00, 0xd1), EXIT_LDTR_WRITE, GOES_ON },
	{ "ltr %cx", BYTES(0x0f, 0x00, 0xd9), EXIT_TR_WRITE, NOT_TRIED },
	{ "rdtsc", BYTES(0x0f, 0x31), EXIT_RDTSC, GOES_ON },
	{ "rdtscp", BYTES(0x0f, 0x01, 0xf9), EXIT_RDTSCP, GOES_ON },
	{ "rdpmc", BYTES(0x0f, 0x33), EXIT_RDPMC, NOT_TRIED },
	{ "pushf", BYTES(0x9c), EXIT_PUSHF, GOES_ON },
	{ "popf", BYTES(0x9d), EXIT_POPF, GOES_ON },
	{ "cpuid", BYTES(0x0f, 0xa2), EXIT_CPUID, NOT_TRIED },
	{ "iretq", BYTES(0x48, 0xcf), EXIT_IRET, NOT_TRIED },
	{ "invd", BYTES(0x0f, 0x08), EXIT_INVD, GOES_ON },
	{ "wbinvd", BYTES(0x0f, 0x09), EXIT_WBINVD, GOES_ON },
	{ "invlpg (%rbp)", BYTES(0x0f, 0x01, 0x7d, 0x00), EXIT_INVLPG, GOES_ON },
	{ "invlpga", BYTES(0x0f, 0x01, 0xdf), EXIT_INVLPGA, NOT_TRIED },
	{ "vmrun", BYTES(0x0f, 0x01, 0xd8), EXIT_VMRUN, NOT_TRIED },
	{ "vmmcall", BYTES(0x0f, 0x01, 0xd9), EXIT_VMMCALL, NOT_TRIED },
	{ "vmload", BYTES(0x0f, 0x01, 0xda), EXIT_VMLOAD, NOT_TRIED },
	{ "vmsave", BYTES(0x0f, 0x01, 0xdb), EXIT_VMSAVE, NOT_TRIED },
	{ "stgi", BYTES(0x0f, 0x01, 0xdc), EXIT_STGI, NOT_TRIED },
	{ "clgi", BYTES(0x0f, 0x01, 0xdd), EXIT_CLGI, NOT_TRIED },
	{ "skinit", BYTES(0x0f, 0x01, 0xde), EXIT_SKINIT, NOT_TRIED },
	{ "icebp", BYTES(0xf1), EXIT_ICEBP, NOT_TRIED },
	{ "xsetbv", BYTES(0x0f, 0x01, 0xd1), EXIT_XSETBV, NOT_TRIED },
	{ "rdmsr", BYTES(0x0f, 0x32), EXIT_MSR, NOT_TRIED },
	{ "wrmsr", BYTES(0x0f, 0x30), EXIT_MSR, NOT_TRIED },
	{ "in %dx, %al", BYTES(0xec), EXIT_IOIO, NOT_TRIED },
	{ "in $0x80, %eax", BYTES(0xe5, 0x80), EXIT_IOIO, NOT_TRIED },
	{ "out %al, %dx", BYTES(0xee), EXIT_IOIO, NOT_TRIED },
	{ "outsb", BYTES(0x6e), EXIT_IOIO, NOT_TRIED },
};

static void start(const u8 *bytes, u32 len)
{
	struct vmsa *s;

	make(SEV_ES, bytes, len);
	s = guest.vmsa;
	s->rax = s->gprs[3] = s->cr0;
	s->gprs[2] = 0x80;
	s->gprs[5] = (u64)guest.data;
	s->gprs[6] = 0x400;
	s->gprs[7] = s->cr3;
	s->gprs[8] = s->cr4;
}

/* The guest's #VC handler has run. */
static bool vc(u64 error, u64 rip, const char *fmt, const char *name)
{
	const struct es_frame *f = es_frame();

	if (ok(es_vector() == VEC_VC && f->error == error && f->rip == rip, fmt, name))
		return true;
	note("exit %llx, RIP %llx", guest.vmcb->exit_code, guest.vmsa->rip);
	if (es_vector() != NO_TRAP)
		note("vector %u, error code or RIP %llx, RIP %llx", es_vector(), f->error,
		     f->rip - (u64)guest.code);
	return false;
}

static void instructions(void)
{
	const u64 rip = (u64)guest.code;

	section("sev-es #VC");
	for (u32 n = 0; n < ARRAY_SIZE(insns); n++) {
		const struct insn *i = &insns[n];

		start(i->bytes, i->len);
		/* An address of a page: else #GP may come first. */
		if (i->code >= EXIT_VMRUN && i->code <= EXIT_VMSAVE)
			guest.vmsa->rax = (u64)guest.data;
		guest_intercept(i->code, true);
		memset(guest.msrpm, 0xff, 2 * SZ_4K);
		memset(guest.iopm, 0xff, 3 * SZ_4K);
		run();
		if (vc(i->code, rip, "%s", i->name) && !n) {
			const struct es_frame *f = es_frame();

			is(f->cs, KERNEL_CS, "the frame has CS");
			is(f->ss, KERNEL_DS, "SS");
			is(f->rsp, (u64)guest.stack + SZ_4K / 2, "RSP");
			/* With RF set, as of any fault, or not */
			is(f->rflags & ~BIT(16), 2, "RFLAGS");
		}
		if (i->otherwise == NOT_TRIED)
			continue;
		start(i->bytes, i->len);
		run();
		if (!ok(guest.vmcb->exit_code == EXIT_VMGEXIT && guest.vmsa->rip == rip + i->len + 4,
			"%s without its intercept", i->name))
			note("exit %llx, vector %u", guest.vmcb->exit_code, es_vector());
	}

	section("sev-es intercepts that are not asked for");
	for (u32 n = 0; n < ARRAY_SIZE(insns); n++) {
		const struct insn *i = &insns[n];

		if (i->code != EXIT_CPUID && i->code != EXIT_IOIO)
			continue;
		/* Nor by the permission map */
		start(i->bytes, i->len);
		run();
		vc(i->code, rip, "%s: #VC without its intercept", i->name);
		start(i->bytes, i->len);
		guest_intercept(i->code, true);
		run();
		vc(i->code, rip, "%s: #VC with the permission map clear", i->name);
	}
	/* A trap: RIP is behind. */
	start(nop, sizeof(nop));
	guest.vmsa->rflags |= FL_TF;
	guest_intercept(RAISES(1), true);
	run();
	vc(RAISES(1), rip + 1, "%s raises #VC behind the instruction", "intercepted #DB");
	start(nop, sizeof(nop));
	guest.vmsa->rflags |= FL_TF;
	run();
	is(es_vector(), 1, "#DB without its intercept");
}

/* #VC at CPL 3 switches stacks as any exception does. */
static void from_user(void)
{
	static const u8 cpuid_code[] = { 0x0f, 0xa2 };
	struct vmsa *s;

	section("sev-es #VC at CPL 3");
	start(cpuid_code, sizeof(cpuid_code));
	s = guest.vmsa;
	s->cs = (struct vmcb_seg){ USER_CS, SEG_CODE64 | SEG_DPL3, ~0U, 0 };
	s->ss = s->ds = s->es = (struct vmcb_seg){ USER_DS, SEG_DATA | SEG_DPL3, ~0U, 0 };
	s->cpl = 3;
	/* RSP0, at offset 4 of the TSS */
	s->tr.base = (u64)guest.data + 0x800;
	*(u64 *)(guest.data + 0x804) = (u64)guest.stack + SZ_4K;
	run();
	vc(EXIT_CPUID, (u64)guest.code, "%s raises #VC", "CPUID");
	is(s->cpl, 0, "whose handler runs at CPL 0");
	is(s->rsp, (u64)guest.stack + SZ_4K - sizeof(struct es_frame), "on the stack of the TSS");
	is(es_frame()->cs, USER_CS, "the frame has CS");
	is(es_frame()->ss, USER_DS, "SS");
	is(es_frame()->rsp, (u64)guest.stack + SZ_4K / 2, "RSP");
}

/* What reaches the hypervisor: the code, how far RIP is, and what more is known. */
static void exited(u64 code, u64 rip, const char *text)
{
	const struct vmcb *v = guest.vmcb;

	if (!ok(v->exit_code == code && guest.vmsa->rip == rip, "%s", text))
		note("exit %llx at %llx, vector %u", v->exit_code, guest.vmsa->rip - (u64)guest.code,
		     es_vector());
}

static void automatic_exits(void)
{
	static const u8 hlt[] = { 0xf4 }, pause_code[] = { 0xf3, 0x90 }, ud2[] = { 0x0f, 0x0b };
	/* mov (%r9), %rax; mov %rax, (%r9) */
	static const u8 load[] = { 0x49, 0x8b, 0x01 }, store[] = { 0x49, 0x89, 0x01 };
	const u64 rip = (u64)guest.code;
	struct vmcb *v = guest.vmcb;
	u8 *outside;

	section("sev-es automatic exits");
	start(hlt, sizeof(hlt));
	guest_intercept(EXIT_HLT, true);
	run();
	exited(EXIT_HLT, rip + 1, "HLT: RIP is behind");
	start(pause_code, sizeof(pause_code));
	guest_intercept(EXIT_PAUSE, true);
	run();
	exited(EXIT_PAUSE, rip + 2, "PAUSE: RIP is behind");
	start(pause_code, sizeof(pause_code));
	run();
	exited(EXIT_VMGEXIT, rip + 6, "PAUSE without its intercept");
	start(ud2, sizeof(ud2));
	guest.vmsa->idtr.limit = 0;
	run();
	is(v->exit_code, EXIT_SHUTDOWN, "shutdown");

	start(nop, sizeof(nop));
	v->int_ctl = INT_CTL_V_INTR_MASKING;
	guest_intercept(EXIT_INTR, true);
	self_interrupt();
	run();
	exited(EXIT_INTR, rip, "physical interrupt, with RFLAGS.IF clear in the guest");
	take_interrupts();
	start(nop, sizeof(nop));
	v->int_ctl = INT_CTL_V_INTR_MASKING;
	guest_intercept(EXIT_NMI, true);
	/* Held until GIF is set. */
	__asm__ volatile("clgi" ::: "memory");
	self_nmi();
	run();
	exited(EXIT_NMI, rip, "NMI");
	is(this_cpu()->nmi_expected, false, "which the hypervisor takes after it");

	start(nop, sizeof(nop));
	v->int_ctl = INT_CTL_V_INTR_MASKING | INT_CTL_V_IRQ | INT_CTL_V_INTR_PRIO(5) | 0x55ULL << 32;
	guest.vmsa->rflags |= FL_IF;
	guest_intercept(EXIT_VINTR, true);
	run();
	exited(EXIT_VINTR, rip, "virtual interrupt");
	start(nop, sizeof(nop));
	v->int_ctl = INT_CTL_V_INTR_MASKING | INT_CTL_V_IRQ | INT_CTL_V_INTR_PRIO(5) | 0x55ULL << 32;
	guest.vmsa->rflags |= FL_IF;
	run();
	is(es_vector(), 0x55, "virtual interrupt without its intercept: the guest takes it");
	start(nop, sizeof(nop));
	v->int_ctl = INT_CTL_V_INTR_MASKING | INT_CTL_V_IRQ | INT_CTL_V_INTR_PRIO(5) | 0x55ULL << 32;
	guest_intercept(EXIT_VINTR, true);
	run();
	exited(EXIT_VMGEXIT, rip + 5, "no virtual interrupt with RFLAGS.IF clear");

	/* In the guest's tables, but not in the nested one */
	outside = map_4k(1, 600 * SZ_1G, PTE_ALL);
	start(load, sizeof(load));
	guest.vmsa->gprs[9] = (u64)outside + 8;
	run();
	exited(EXIT_NPF, rip, "nested page fault of a load");
	is(v->exit_info_2, 600 * SZ_1G + 8, "EXITINFO2 has the guest physical address");
	is(v->exit_info_1 & ~NPF_ENC, PF_U | NPF_FINAL, "EXITINFO1 has the kind of access");
	start(store, sizeof(store));
	guest.vmsa->gprs[9] = (u64)outside;
	run();
	exited(EXIT_NPF, rip, "nested page fault of a store");
	is(v->exit_info_1 & ~NPF_ENC, PF_W | PF_U | NPF_FINAL, "EXITINFO1 has the kind of access");
	is(guest.vmsa->cr2, 0, "CR2 is none of its");
	/* The IDT cannot be read, so the event is lost unless the hypervisor injects it again. */
	start(ud2, sizeof(ud2));
	guest.vmsa->idtr.base = (u64)outside;
	run();
	exited(EXIT_NPF, rip, "nested page fault while an exception is delivered");
	is(v->exit_int_info, EVENTINJ_VALID | EVENTINJ_EXCEPTION | VEC_UD, "EXITINTINFO has the exception");
}


/* A nested page fault because of a reserved bit is the guest's: this is how MMIO is emulated. */
static void reserved_bits(void)
{
	static const u8 load[] = { 0x49, 0x8b, 0x01 };
	/* To exit or not, by what follows */
	static const struct { u32 bit; bool reserved; } rows[] = {
		{ 45, false }, { 46, true }, { 47, true }, { 48, true }, { 49, true }, { 50, true },
	};
	const u64 rip = (u64)guest.code;

	section("sev-es reserved bits of nested tables");
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		for (enum type type = PLAIN; type < NR_TYPES; type++) {
			struct vmcb *v = guest.vmcb;

			if (type == SEV_ES)
				start(load, sizeof(load));
			else
				make(type, load, sizeof(load));
			v->tlb_control = 1;
			guest.vmsa->gprs[9] = guest.regs.r9 = 3 * SZ_1G;
			nested_pdpt[3] = PTE_PS | PTE_ALL | BIT(rows[i].bit);
			if (type == SEV_ES)
				run();
			else
				guest_run();
			if (!rows[i].reserved)
				is(v->exit_code, end_of(type), "bit %u is part of an address, %s guest",
				   rows[i].bit, type_names[type]);
			else if (type == SEV_ES)
				vc(EXIT_NPF, rip, "%s raises #VC", "nested page fault with RSVD");
			else if (!ok(v->exit_code == EXIT_NPF &&
				     (v->exit_info_1 & 0xf) == (PF_P | PF_U | NPF_RSVD),
				     "bit %u is reserved, %s guest", rows[i].bit, type_names[type]))
				note("exit %llx, EXITINFO1 %llx", v->exit_code, v->exit_info_1);
		}
	}
	nested_pdpt[3] = 0;
}

static void traps(void)
{
	/* Each writes RBX, of which one bit is new. */
	static const struct {
		const char *name;
		u8 bytes[4];
		u32 len, code, offset;
		u64 bit;
	} rows[] = {
		{ "CR0", BYTES(0x0f, 0x22, 0xc3), EXIT_CR_TRAP + 0, AT(cr0), CR0_AM },
		{ "CR3", BYTES(0x0f, 0x22, 0xdb), EXIT_CR_TRAP + 3, AT(cr3), CR3_PWT },
		{ "CR4", BYTES(0x0f, 0x22, 0xe3), EXIT_CR_TRAP + 4, AT(cr4), CR4_PCE },
	};
	static const u8 cr8[] = { 0x44, 0x0f, 0x22, 0xc3 }, wrmsr_code[] = { 0x0f, 0x30 };
	const u64 rip = (u64)guest.code;
	struct vmcb *v = guest.vmcb;
	u64 value;

	section("sev-es write traps");
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		for (u32 on = 0; on < 2; on++) {
			start(rows[i].bytes, rows[i].len);
			value = *field(rows[i].offset) ^ rows[i].bit;
			guest.vmsa->gprs[3] = value;
			guest_intercept(rows[i].code, on);
			run();
			if (on) {
				exited(rows[i].code, rip + 3, rows[i].name);
				is(v->exit_info_1, value, "EXITINFO1 has the new value");
			} else {
				exited(EXIT_VMGEXIT, rip + 7, "without the trap");
			}
			is(*field(rows[i].offset), value, "the write has taken effect");
		}
	}
	start(cr8, sizeof(cr8));
	guest.vmsa->gprs[3] = 7;
	v->int_ctl = INT_CTL_V_INTR_MASKING;
	guest_intercept(EXIT_CR_TRAP + 8, true);
	run();
	exited(EXIT_CR_TRAP + 8, rip + 4, "CR8");
	is(v->exit_info_1, 7, "EXITINFO1 has the new value");
	is(v->int_ctl & 0xf, 7, "the write has taken effect");

	for (u32 on = 0; on < 2; on++) {
		for (u32 svme = 0; svme < 2; svme++) {
			start(wrmsr_code, sizeof(wrmsr_code));
			value = (guest.vmsa->efer & ~EFER_SVME) | EFER_SCE | (svme ? EFER_SVME : 0);
			guest.vmsa->gprs[1] = MSR_EFER;
			guest.vmsa->gprs[2] = value >> 32;
			guest.vmsa->rax = (u32)value;
			guest_intercept(EXIT_EFER_TRAP, on);
			run();
			if (on) {
				exited(EXIT_EFER_TRAP, rip + 2, "EFER");
				is(v->exit_info_1 | EFER_SVME, value | EFER_SVME,
				   "EXITINFO1 has the new value");
			} else {
				exited(EXIT_VMGEXIT, rip + 6, "EFER without the trap");
			}
			is(guest.vmsa->efer, value | EFER_SVME,
			   "the write has taken effect, but SVME stays set");
		}
	}
	/* The fault comes before the trap. */
	start(rows[2].bytes, rows[2].len);
	guest.vmsa->gprs[3] = guest.vmsa->cr4 | BIT(31);
	guest_intercept(EXIT_CR_TRAP + 4, true);
	run();
	is(es_vector(), VEC_GP, "no trap for a write that raises #GP");
	/* An intercept of the write itself comes first. */
	start(rows[2].bytes, rows[2].len);
	guest.vmsa->gprs[3] = guest.vmsa->cr4;
	guest_intercept(EXIT_CR_TRAP + 4, true);
	guest_intercept(EXIT_WRITE_CR4, true);
	run();
	vc(EXIT_WRITE_CR4, rip, "%s comes first", "the intercept of the write");
}

static void vmgexit(void)
{
	static const struct {
		const char *name;
		u8 bytes[6];
		u32 len;
		bool vmgexit;
	} rows[] = {
		{ "0f 01 d9", BYTES(0x0f, 0x01, 0xd9), false },
		{ "f3 0f 01 d9", BYTES(0xf3, 0x0f, 0x01, 0xd9), true },
		{ "f2 0f 01 d9", BYTES(0xf2, 0x0f, 0x01, 0xd9), true },
	};
	const u64 rip = (u64)guest.code;
	struct vmcb *v = guest.vmcb;

	section("sev-es VMGEXIT");
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		for (enum type type = PLAIN; type < NR_TYPES; type++) {
			make(type, rows[i].bytes, rows[i].len);
			guest_intercept(EXIT_VMMCALL, true);
			run();
			if (type != SEV_ES) {
				if (!ok(v->exit_code == EXIT_VMMCALL && v->rip == rip,
					"%s is VMMCALL in a %s guest", rows[i].name, type_names[type]))
					note("exit %llx", v->exit_code);
			} else if (rows[i].vmgexit) {
				exited(EXIT_VMGEXIT, rip + rows[i].len, rows[i].name);
			} else {
				vc(EXIT_VMMCALL, rip, "%s is VMMCALL", rows[i].name);
			}
		}
		if (rows[i].vmgexit)
			continue;
		make(SEV_ES, rows[i].bytes, rows[i].len);
		run();
		is(es_vector(), VEC_UD, "VMMCALL without its intercept is #UD");
	}
	is(v->ghcb, 0, "the GHCB's address is 0 if nobody has set it");
}

static void guest_msr(enum type type, bool write, u32 msr, u64 value)
{
	/* And RDX into R9: shl $32, %rdx; or %rdx, %rax is the reader's. */
	static const u8 code[2][2] = { { 0x0f, 0x32 }, { 0x0f, 0x30 } };

	make(type, code[write], 2);
	guest.vmsa->gprs[1] = guest.regs.rcx = msr;
	guest.vmsa->gprs[2] = guest.regs.rdx = value >> 32;
	guest.vmsa->rax = (u32)value;
	if (type != SEV_ES)
		guest.vmcb->rax = (u32)value;
}

static u64 guest_msr_value(enum type type)
{
	if (type == SEV_ES)
		return guest.vmsa->gprs[2] << 32 | (u32)guest.vmsa->rax;
	return guest.regs.rdx << 32 | (u32)guest.vmcb->rax;
}

static bool guest_gp(enum type type)
{
	return type == SEV_ES ? es_vector() == VEC_GP : guest.vmcb->exit_code == RAISES(VEC_GP);
}

static void run_any(enum type type)
{
	if (type == SEV_ES)
		run();
	else
		guest_run();
}

static void msrs_of_guests(void)
{
	static const u64 status[NR_TYPES] = { 0, 1, 3 };
	struct vmcb *v = guest.vmcb;
	u64 value;

	section("sev msrs");
	for (enum type type = PLAIN; type < NR_TYPES; type++) {
		for (u32 on = 0; on < 2; on++) {
			/* The intercept of a plain guest is as of any MSR. */
			if (on && type == PLAIN)
				continue;
			guest_msr(type, false, MSR_SEV_STATUS, ~0ULL);
			guest_intercept(EXIT_MSR, on);
			memset(guest.msrpm, on ? 0xff : 0, 2 * SZ_4K);
			run_any(type);
			is(v->exit_code, end_of(type), "SEV_STATUS of a %s guest can be read%s",
			   type_names[type], on ? ", and not intercepted" : "");
			is(guest_msr_value(type), status[type], "SEV_STATUS has the right bits");
		}
		for (u64 write = 0; write < 2; write++) {
			guest_msr(type, true, MSR_SEV_STATUS, write ? status[type] : 0);
			run_any(type);
			is(guest_gp(type), true, "SEV_STATUS of a %s guest: write is #GP",
			   type_names[type]);
		}
		for (u32 write = 0; write < 2; write++) {
			guest_msr(type, write, MSR_GHCB, 0x5000);
			v->ghcb = 0x123456789000;
			run_any(type);
			if (type != SEV_ES) {
				is(guest_gp(type), true, "GHCB MSR of a %s guest: %s is #GP",
				   type_names[type], write ? "write" : "read");
				is(v->ghcb, 0x123456789000, "the VMCB's field is untouched");
				continue;
			}
			is(v->exit_code, EXIT_VMGEXIT, "GHCB MSR can be %s", write ? "written" : "read");
			if (!write)
				is(guest_msr_value(type), 0x123456789000, "the VMCB has its value");
			is(v->ghcb, write ? 0x5000 : 0x123456789000, "#VMEXIT stores it in the VMCB");
		}
	}
	/* A value that is no address, as in the MSR protocol */
	guest_msr(SEV_ES, true, MSR_GHCB, 0xfedcba9876543002);
	run();
	is(v->ghcb, 0xfedcba9876543002, "GHCB MSR keeps all 64 bits");
	is(try_rdmsr(MSR_GHCB, &value), VEC_GP, "GHCB MSR of the host: read is #GP");
	is(try_wrmsr(MSR_GHCB, 0), VEC_GP, "GHCB MSR of the host: write is #GP");
	is(rdmsr(MSR_SEV_STATUS), 0, "SEV_STATUS of the host is 0");
}

static void interrupt_mask(void)
{
	static const u8 sti[] = { 0xfb, 0x90 }, cli[] = { 0xfa };
	static const struct { const char *name; const u8 *code; u32 len; bool before, after; } rows[] = {
		{ "clear", nop, 1, false, false },
		{ "set", nop, 1, true, true },
		{ "set by the guest", sti, 2, false, true },
		{ "cleared by the guest", cli, 1, true, false },
	};
	struct vmcb *v = guest.vmcb;

	section("sev-es interrupt state");
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		start(rows[i].code, rows[i].len);
		v->int_ctl = INT_CTL_V_INTR_MASKING;
		/* What it was before means nothing. */
		v->int_state = rows[i].after ? 0 : INT_STATE_GUEST_IF;
		guest.vmsa->rflags |= rows[i].before ? FL_IF : 0;
		run();
		is(v->exit_code, EXIT_VMGEXIT, "RFLAGS.IF %s", rows[i].name);
		is(v->int_state, rows[i].after ? INT_STATE_GUEST_IF : 0, "GUEST_INTERRUPT_MASK shows it");
	}
	make(SEV, nop, sizeof(nop));
	v->rflags |= FL_IF;
	v->int_ctl = INT_CTL_V_INTR_MASKING;
	guest_run();
	is(v->int_state & INT_STATE_GUEST_IF, 0, "GUEST_INTERRUPT_MASK stays 0 without SEV-ES");
}

struct gate {
	u16 low, selector, type, middle;
	u32 high, rsvd;
};

/* #VC is a contributory exception, as #GP is. */
static void double_fault(void)
{
	static const u8 cpuid_code[] = { 0x0f, 0xa2 };
	/* Gates of the vectors up to 31, as in the table that es_reset() takes */
	struct gate *gates = (struct gate *)guest.data;
	const u64 rip = (u64)guest.code;

	section("sev-es double fault");
	for (u32 missing = 0; missing < 2; missing++) {
		start(cpuid_code, sizeof(cpuid_code));
		memcpy(gates, (void *)guest.vmsa->idtr.base, 32 * sizeof(*gates));
		guest.vmsa->idtr = (struct vmcb_seg){ .limit = 32 * 16 - 1, .base = (u64)gates };
		if (missing)
			gates[VEC_VC].type &= ~0x8000;
		run();
		if (!missing) {
			vc(EXIT_CPUID, rip, "%s: its handler runs", "#VC with a gate");
			continue;
		}
		is(es_vector(), 8, "#VC whose gate is not present: #DF");
		is(es_frame()->error, 0, "error code 0");
		is(es_frame()->rip, rip, "RIP at the instruction");
	}
	start(cpuid_code, sizeof(cpuid_code));
	memcpy(gates, (void *)guest.vmsa->idtr.base, 32 * sizeof(*gates));
	guest.vmsa->idtr = (struct vmcb_seg){ .limit = 32 * 16 - 1, .base = (u64)gates };
	gates[VEC_VC].type &= ~0x8000;
	gates[8].type &= ~0x8000;
	run();
	is(guest.vmcb->exit_code, EXIT_SHUTDOWN, "#DF whose gate is not present: shutdown");
}

/* Tables of a guest that have the C-bit */
static void c_bit(void)
{
	/* mov (%r9), %rax; mov %rax, (%r10); mov (%r10), %rbx; mov (%r11), %r12 */
	static const u8 code[] = {
		0x49, 0x8b, 0x01, 0x49, 0x89, 0x02, 0x49, 0x8b, 0x1a, 0x4d, 0x8b, 0x23
	};
	u64 *table = new_page(), *pointers = new_page();
	struct vmcb *v = guest.vmcb;
	u64 data = (u64)guest.data;

	section("sev c-bit");
	/* The first GB: private, and, 1 GB higher, shared */
	pointers[0] = PTE_PS | PTE_ALL | C_BIT;
	pointers[1] = PTE_PS | PTE_ALL;
	table[0] = (u64)pointers | PTE_ALL | C_BIT;
	for (enum type type = SEV; type < NR_TYPES; type++) {
		u64 cr3 = (u64)table | C_BIT;

		make(type, code, sizeof(code));
		*(u64 *)data = 0x123;
		*(u64 *)(data + 8) = 0x456;
		guest.regs.r9 = guest.vmsa->gprs[9] = SZ_1G + data;
		guest.regs.r10 = guest.vmsa->gprs[10] = data + 16;
		guest.regs.r11 = guest.vmsa->gprs[11] = SZ_1G + data + 8;
		if (type == SEV_ES)
			guest.vmsa->cr3 = cr3;
		else
			v->cr3 = cr3;
		run_any(type);
		is(v->exit_code, end_of(type), "%s guest: runs with the C-bit in CR3 and all tables",
		   type_names[type]);
		is(type == SEV_ES ? guest.vmsa->cr3 : v->cr3, cr3, "CR3 keeps its C-bit");
		is(type == SEV_ES ? guest.vmsa->rax : v->rax, 0x123, "reads what is shared");
		is(type == SEV_ES ? guest.vmsa->gprs[3] : guest.regs.rbx, 0x123,
		   "private memory holds what is written");
		is(type == SEV_ES ? guest.vmsa->gprs[12] : guest.regs.r12, 0x456,
		   "reads what is shared next to it");
	}
	/* Nested page faults tell no C-bit. */
	pointers[2] = 2 * SZ_1G | PTE_PS | PTE_ALL | C_BIT;
	make(SEV, code, sizeof(code));
	v->cr3 = (u64)table | C_BIT;
	guest.regs.r9 = 2 * SZ_1G;
	guest_run();
	is(v->exit_code, EXIT_NPF, "SEV guest: nested page fault of a private page");
	is(v->exit_info_2, 2 * SZ_1G, "EXITINFO2 has no C-bit");
	table[1] = 600 * SZ_1G | PTE_ALL | C_BIT;
	make(SEV, code, sizeof(code));
	v->cr3 = (u64)table | C_BIT;
	guest.regs.r9 = 512 * SZ_1G;
	guest_run();
	ok(v->exit_code == EXIT_NPF && v->exit_info_1 & NPF_TABLE,
	   "SEV guest: nested page fault of a page table");
	is(v->exit_info_2, 600 * SZ_1G, "EXITINFO2 has no C-bit");
}

/* Random contents */

static u64 seed;
static u64 *private_nested[3], *private_tables[2];

static u32 rnd(u32 n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (seed >> 33) % n;
}

static u64 rnd64(void)
{
	return (u64)rnd(0x7fffffff) << 33 ^ (u64)rnd(0x7fffffff) << 11 ^ rnd(0x7fffffff);
}

/* Values that get further than random ones */
static u64 rnd_value(u64 old)
{
	switch (rnd(6)) {
	case 0:
		return rnd64();
	case 1:
		return old ^ BIT(rnd(64));
	case 2:
		return (u64)guest.code + rnd(SZ_4K);
	case 3:
		return BIT(rnd(64)) - rnd(2);
	case 4:
		return rnd(16);
	default:
		return old;
	}
}

static void map_nested(u64 pa, u64 flags)
{
	u64 *table = &private_nested[2][pa >> 21 & 511];

	if (!*table)
		*table = (u64)new_page() | PTE_ALL;
	((u64 *)ALIGN_DOWN(*table, SZ_4K))[pa >> 12 & 511] = pa | flags;
}

/*
 * The guest has its page tables, which count as written by each walk, stack, data, and code
 * that is a row of VMGEXITs. It can do no harm elsewhere.
 */
static void random_memory(void)
{
	for (u32 i = 0; i < ARRAY_SIZE(private_nested); i++)
		private_nested[i] = new_page();
	private_nested[0][0] = (u64)private_nested[1] | PTE_ALL;
	private_nested[1][0] = (u64)private_nested[2] | PTE_ALL;
	map_nested((u64)guest.code, PTE_P | PTE_U | PTE_A);
	map_nested((u64)guest.data, PTE_ALL);
	map_nested((u64)guest.stack, PTE_ALL);
	for (u32 i = 0; i < ARRAY_SIZE(private_tables); i++) {
		private_tables[i] = new_page();
		map_nested((u64)private_tables[i], PTE_ALL);
	}
}

/* Paging, CPL and memory encryption of the hypervisor */
static bool hypervisor_is_well(const void *absent)
{
	u64 value, status = 0;
	u32 load = try_load(absent, &value), rc = try_rdmsr(MSR_SEV_STATUS, &status);

	if (load == VEC_PF && rc == NO_TRAP && !status)
		return true;
	note("exit %llx: load %u, SEV_STATUS %llx, CR0 %llx", guest.vmcb->exit_code, load, status,
	     READ_CR(0));
	return false;
}

static void random_step(u64 counts[4])
{
	struct vmcb *v = guest.vmcb;
	struct vmsa *s = guest.vmsa;
	u64 *control = (u64 *)v, *save = (u64 *)s;
	bool es = rnd(4);

	make(es ? SEV_ES : SEV, nop, sizeof(nop));
	for (u32 i = 0; i < SZ_4K; i += 4)
		memcpy(guest.code + i, "\xf3\x0f\x01\xd9", 4);
	memset(private_tables[0], 0, SZ_4K);
	private_tables[0][0] = (u64)private_tables[1] | PTE_ALL;
	memcpy(private_tables[1], pdpt, SZ_4K);
	v->cr3 = s->cr3 = (u64)private_tables[0] | C_BIT;
	for (u32 n = rnd(3); n; n--) {
		u32 i = rnd(0x1a0 / 8);

		control[i] = rnd_value(control[i]);
	}
	/* Some registers, or nearly all */
	for (u32 n = rnd(4) ? rnd(4) : rnd(400); n; n--) {
		u32 i = rnd(0x670 / 8);

		if (es)
			save[i] = rnd_value(save[i]);
		else if (i < 0x278 / 8)
			control[0x400 / 8 + i] = rnd_value(control[0x400 / 8 + i]);
	}
	/* What keeps it in its memory, and lets it end */
	v->nested_cr3 = (u64)private_nested[0];
	v->nested_ctl |= NESTED_NP;
	v->nested_ctl &= NESTED_NP | NESTED_SEV | NESTED_SEV_ES;
	v->iopm_base = (u64)guest.iopm;
	v->msrpm_base = (u64)guest.msrpm;
	memset(guest.iopm, 0xff, 3 * SZ_4K);
	memset(guest.msrpm, 0xff, 2 * SZ_4K);
	v->int_ctl = (v->int_ctl | INT_CTL_V_INTR_MASKING) & ~BIT(31);
	v->tlb_control = 1;
	guest_intercept(EXIT_INTR, true);
	guest_intercept(EXIT_NMI, true);
	guest_intercept(EXIT_SHUTDOWN, true);
	guest_intercept(EXIT_HLT, true);
	guest_intercept(EXIT_IOIO, true);
	guest_intercept(EXIT_MSR, true);
	if (rnd(8))
		guest_intercept(EXIT_VMRUN, true);
	if (v->vmsa != (u64)s)
		v->vmsa = ((u64)s | (v->vmsa & (SZ_4K - 1))) ^ (rnd(2) ? 0 : BIT(46 + rnd(18)));
	v->exit_code = POISON;
	timer_start(20000000);
	run();
	timer_start(0);
	take_interrupts();
	if (v->exit_code == EXIT_INVALID)
		counts[0]++;
	else if (v->exit_code == EXIT_NPF)
		counts[1]++;
	else if (v->exit_code == EXIT_VMGEXIT)
		counts[2]++;
	else if (v->exit_code < 0x404)
		counts[3]++;
	else
		note("exit %llx", v->exit_code);
}

static void random_contents(void)
{
	u32 steps = flag_value("sev-steps", 300);
	struct vmcb *before = new_page();
	u64 counts[4] = {}, pat = rdmsr(MSR_PAT), cr0 = READ_CR(0);
	const void *absent;
	u32 i;

	section("sev random contents");
	seed = flag_value("seed", 1) * 77;
	random_memory();
	vmsave(before);
	absent = map_4k(0, 0, 0);
	for (i = 0; i < steps; i++) {
		random_step(counts);
		if (!hypervisor_is_well(absent))
			break;
	}
	__asm__ volatile("mov %0, %%cr0" :: "r"(cr0));
	vmload(before);
	is(i, steps, "the hypervisor is as before after each");
	is(counts[0] + counts[1] + counts[2] + counts[3], steps, "each VMRUN ends by #VMEXIT");
	print("# of %u: invalid %llu, nested page fault %llu, VMGEXIT %llu, others %llu\n", steps,
	      counts[0], counts[1], counts[2], counts[3]);
	/* Others are rare. */
	ok(steps < 100 || (counts[0] && counts[2]), "invalid ones and others");
	is(rdmsr(MSR_PAT), pat, "PAT is the hypervisor's");
	make(SEV_ES, nop, sizeof(nop));
	is(run(), EXIT_VMGEXIT, "a good guest still runs");
}

/* All vCPUs at once, each with a guest of its own that counts its runs. */

#define RUNS 200

static struct { struct vmcb *vmcb; struct vmsa *vmsa; u32 bad; } own[MAX_CPUS];

static void count_runs(void *arg)
{
	u32 i = this_cpu()->index;
	struct regs unused;

	svm_on();
	for (u64 n = 0; n < *(u32 *)arg; n++) {
		es_save_host();
		es_enter(own[i].vmcb, &unused);
		own[i].bad += own[i].vmcb->exit_code != EXIT_VMGEXIT || own[i].vmsa->gprs[3] != n + 1 ||
			      own[i].vmsa->gprs[15] != i || own[i].vmsa->xmm[15][1] != i + 1 ||
			      own[i].vmcb->ghcb != SZ_4K * i;
	}
	if (i)
		svm_off();
}

static void all_at_once(void)
{
	/* 1: inc %rbx; vmgexit; jmp 1b */
	static const u8 code[] = { 0x48, 0xff, 0xc3, 0xf3, 0x0f, 0x01, 0xd9, 0xeb, 0xf7 };
	u32 bad = 0, runs = RUNS;

	section("sev-es on all vCPUs");
	start(code, sizeof(code));
	for (u32 i = 0; i < nr_cpus; i++) {
		if (!own[i].vmcb) {
			own[i].vmcb = new_page();
			own[i].vmsa = new_page();
		}
		memcpy(own[i].vmcb, guest.vmcb, SZ_4K);
		memcpy(own[i].vmsa, guest.vmsa, SZ_4K);
		own[i].vmcb->vmsa = (u64)own[i].vmsa;
		own[i].vmcb->ghcb = SZ_4K * i;
		own[i].vmsa->gprs[3] = 0;
		own[i].vmsa->gprs[15] = i;
		own[i].vmsa->xmm[15][1] = i + 1;
		own[i].bad = 0;
	}
	for (u32 i = 1; i < nr_cpus; i++)
		start_on(i, count_runs, &runs);
	count_runs(&runs);
	for (u32 i = 0; i < nr_cpus; i++) {
		wait_for(i);
		bad += own[i].bad;
	}
	is(bad, 0, "each guest finds its own registers in each of %u runs", runs);
}

static void fpu_on(void)
{
	u32 r[4];

	cpuid(1, 0, r);
	has_avx = (r[2] & (BIT(26) | BIT(28))) == (BIT(26) | BIT(28));
	cpuid(7, 0, r);
	has_avx = has_avx && r[1] & BIT(5);
	sev_has_pku = has_avx && r[2] & BIT(3);
	host_cr4 = READ_CR(4);
	if (!has_avx)
		return;
	__asm__ volatile("mov %0, %%cr4" :: "r"(host_cr4 | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE |
						(sev_has_pku ? CR4_PKE : 0)));
	__asm__ volatile("xsetbv" :: "a"(7), "d"(0), "c"(0));
}

static void fpu_off(void)
{
	__asm__ volatile("mov %0, %%cr4" :: "r"(host_cr4));
}

void tests_sev(void)
{
	svm_on();
	fpu_on();
	sev_asids(&first_sev_asid, &last_asid);
	section("sev VMRUN");
	check_vmrun();
	registers();
	instructions();
	from_user();
	automatic_exits();
	reserved_bits();
	traps();
	vmgexit();
	msrs_of_guests();
	interrupt_mask();
	double_fault();
	c_bit();
	random_contents();
	all_at_once();
	fpu_off();
	svm_off();
}

/* Memory encryption is off and cannot be set: the guest is a plain one. */
void tests_sev_ignored(void)
{
	struct vmcb *v;

	svm_on();
	section("sev without memory encryption");
	v = guest.vmcb;
	for (u64 bits = 0; bits < 4; bits++) {
		guest_reset();
		guest_code(nop, sizeof(nop));
		v->nested_ctl |= bits << 1;
		guest_run();
		is(v->exit_code, EXIT_VMMCALL, "SEV bits %llu are ignored", bits);
	}
	svm_off();
}

/* What the RMP says of the pages of a VMRUN */

#define VMCB_PAGE (R1 + 17 * SZ_2M + 7 * SZ_4K)
#define VMSA_PAGE (R1 + 17 * SZ_2M + 8 * SZ_4K)
#define OTHER_PAGE (R1 + 17 * SZ_2M + 9 * SZ_4K)

/* The vector of VMRUN, VMLOAD or VMSAVE */
static u32 try_svm(u8 last, u64 rax)
{
	u8 code[] = { 0x0f, 0x01, last, 0x0f, 0x01, 0xdc };
	struct regs r;

	regs_fill(&r);
	r.rax = rax;
	/* With STGI; FS and GS are not used. */
	return insn_run(code, sizeof(code), &r, KERNEL);
}

static void hypervisor_pages(void)
{
	static const struct { const char *name; u8 last; } rows[] = {
		{ "VMRUN", 0xd8 }, { "VMLOAD", 0xda }, { "VMSAVE", 0xdb },
	};
	struct vmcb *v = (struct vmcb *)VMCB_PAGE;
	u64 hsave = rdmsr(MSR_VM_HSAVE_PA);

	section("sev pages of the hypervisor");
	make(PLAIN, nop, sizeof(nop));
	memcpy(v, guest.vmcb, sizeof(*v));
	vmsave(v);
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		is(try_svm(rows[i].last, VMCB_PAGE), NO_TRAP, "%s: the page is the hypervisor's",
		   rows[i].name);
		update(VMCB_PAGE, 0, 1, 0, 0, 1);
		is(try_svm(rows[i].last, VMCB_PAGE), VEC_GP, "%s: #GP if it is a guest's", rows[i].name);
		is(this_cpu()->trap.error, 0, "error code 0");
		update(VMCB_PAGE, 0, 0, 0, 0, 0);
	}
	is(v->exit_code, EXIT_VMMCALL, "the guest has run");
	is(try_wrmsr(MSR_VM_HSAVE_PA, OTHER_PAGE), NO_TRAP, "VM_HSAVE_PA: the page is the hypervisor's");
	try_wrmsr(MSR_VM_HSAVE_PA, hsave);
	update(OTHER_PAGE, 0, 1, 0, 0, 1);
	is(try_wrmsr(MSR_VM_HSAVE_PA, OTHER_PAGE), VEC_GP, "VM_HSAVE_PA: #GP if it is a guest's");
	is(rdmsr(MSR_VM_HSAVE_PA), hsave, "VM_HSAVE_PA stays");
	update(OTHER_PAGE, 0, 0, 0, 0, 0);
}

/* A page that is only read */
static void not_checked(const char *name, u64 *where, u32 size)
{
	const u64 old = *where;

	for (u32 i = 0; i < size; i++)
		memcpy((void *)(OTHER_PAGE + i * SZ_4K), (void *)(old + i * SZ_4K), SZ_4K);
	for (u32 i = 0; i < size; i++)
		update(OTHER_PAGE + i * SZ_4K, 0, 1, 0, 0, 1);
	*where = OTHER_PAGE;
	is(run(), EXIT_VMGEXIT, "%s may be anyone's", name);
	for (u32 i = 0; i < size; i++)
		update(OTHER_PAGE + i * SZ_4K, 0, 0, 0, 0, 0);
}

static void vmsa_pages(void)
{
	/* ASID 1 runs. There is no way to the VMSA bit but through the firmware or a guest. */
	static const struct {
		const char *name;
		bool snp, assigned, runs;
		u32 asid;
		u64 gpa;
	} rows[] = {
		{ "the hypervisor's", false, false, true, 0, 0 },
		{ "the guest's own", false, true, false, 1, SZ_1M },
		{ "another guest's", false, true, false, 2, SZ_1M },
		{ "in reclaim", false, true, false, 0, 0 },
		{ "the hypervisor's, SNP-active", true, false, false, 0, 0 },
		{ "the guest's, but no VMSA, SNP-active", true, true, false, 1, SZ_1M },
		{ "another guest's, SNP-active", true, true, false, 2, SZ_1M },
	};

	section("sev VMSA pages");
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		make(SEV_ES, nop, sizeof(nop));
		guest.vmsa->sev_features = rows[i].snp ? SEV_SNP_ACTIVE : 0;
		memcpy((void *)VMSA_PAGE, guest.vmsa, SZ_4K);
		guest.vmcb->vmsa = VMSA_PAGE;
		if (rows[i].assigned)
			update(VMSA_PAGE, rows[i].gpa, 1, 0, 0, rows[i].asid);
		is(run(), rows[i].runs ? EXIT_VMGEXIT : EXIT_INVALID, "%s", rows[i].name);
		if (rows[i].assigned)
			update(VMSA_PAGE, 0, 0, 0, 0, 0);
	}
	is(((struct vmsa *)VMSA_PAGE)->rip, (u64)guest.code, "nothing is stored in one that is refused");
	make(SEV_ES, nop, sizeof(nop));
	not_checked("the I/O permission map", &guest.vmcb->iopm_base, 3);
	make(SEV_ES, nop, sizeof(nop));
	not_checked("the MSR permission map", &guest.vmcb->msrpm_base, 2);
	make(SEV_ES, nop, sizeof(nop));
	not_checked("a nested table", &guest.vmcb->nested_cr3, 1);
}

/* Guests that are not SNP-active write what the hypervisor could write. */
static void guest_pages(void)
{
	/* mov (%r9), %rax; mov %rax, (%r10) */
	static const u8 code[] = { 0x49, 0x8b, 0x01, 0x49, 0x89, 0x02 };
	u64 *directory = new_page(), *table = new_page(), old;
	const u64 address = 3 * SZ_1G + (OTHER_PAGE & (SZ_1G - 1)) + 0x10;

	section("sev guests and assigned pages");
	directory[OTHER_PAGE >> 21 & 511] = (u64)table | PTE_ALL;
	table[OTHER_PAGE >> 12 & 511] = OTHER_PAGE | PTE_ALL;
	nested_pdpt[3] = (u64)directory | PTE_ALL;
	for (enum type type = PLAIN; type < NR_TYPES; type++) {
		struct vmcb *v = guest.vmcb;

		for (u32 assigned = 0; assigned < 2; assigned++) {
			make(type, code, sizeof(code));
			guest.regs.r9 = guest.vmsa->gprs[9] = address;
			guest.regs.r10 = guest.vmsa->gprs[10] = address + 8;
			*(u64 *)(OTHER_PAGE + 0x10) = old = 0x4321 + type;
			*(u64 *)(OTHER_PAGE + 0x18) = 0;
			if (assigned)
				update(OTHER_PAGE, 0, 1, 0, 0, 3);
			run_any(type);
			if (!assigned)
				is(v->exit_code, end_of(type),
				   "%s guest: reads and writes the hypervisor's page", type_names[type]);
			else if (!ok(v->exit_code == EXIT_NPF && v->exit_info_2 == address + 8 &&
				     v->exit_info_1 == (PF_P | PF_W | PF_U | PF_RMP | NPF_FINAL),
				     "%s guest: nested page fault of a write to an assigned page",
				     type_names[type]))
				note("exit %llx, EXITINFO %llx %llx", v->exit_code, v->exit_info_1,
				     v->exit_info_2);
			this_cpu()->counts.faults += v->exit_code == EXIT_NPF;
			is(*(u64 *)(OTHER_PAGE + 0x18), assigned ? 0 : old, "the page is so");
			if (assigned)
				update(OTHER_PAGE, 0, 0, 0, 0, 0);
		}
	}
	nested_pdpt[3] = 0;
}

/* Once SNP is enabled */
void tests_sev_snp(void)
{
	svm_on();
	sev_asids(&first_sev_asid, &last_asid);
	section("sev VMRUN, SNP is on");
	check_vmrun();
	hypervisor_pages();
	vmsa_pages();
	guest_pages();
	svm_off();
}
