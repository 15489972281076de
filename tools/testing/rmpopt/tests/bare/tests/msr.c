// SPDX-License-Identifier: GPL-2.0-only
/* The MSRs: values after reset, what can be written, when, and by whom. */
#include "tests.h"

#define RMP_ADDRESS 0xfffffffffe000ULL
#define RMP_CFG_VALID 0x3f01ULL
#define SYSCFG_VALID 0x7fc0000ULL
/* SYSCFG bits that can be set and cleared. */
#define SYSCFG_PLAIN (SYSCFG_VALID & ~(SYSCFG_MEM_ENC | SYSCFG_SNP_EN | SYSCFG_VMPL_EN))

/* A page that the other tests do not use; pages that are free between them. */
#define PLANTED (R1 + 17 * SZ_2M + 3 * SZ_4K)
#define FREE_2M (R0 + 64 * SZ_2M)

struct msr_arg {
	u32 msr, vector;
	u64 value;
};

static void remote_read(void *p)
{
	struct msr_arg *arg = p;

	arg->vector = try_rdmsr(arg->msr, &arg->value);
}

/* With the model, if it knows the MSR. */
static u32 write_msr(u32 msr, u64 value)
{
	return msr == MSR_RMPOPT_BASE ? set_rmpopt_base(value) : try_wrmsr(msr, value);
}

static void remote_write(void *p)
{
	struct msr_arg *arg = p;

	arg->vector = write_msr(arg->msr, arg->value);
}

static u64 read_on(u32 cpu, u32 msr)
{
	struct msr_arg arg = { .msr = msr };

	run_on(cpu, remote_read, &arg);
	if (arg.vector != NO_TRAP)
		note("rdmsr %x on vCPU %u: trap %u", msr, cpu, arg.vector);
	return arg.vector == NO_TRAP ? arg.value : ~0ULL;
}

static u32 write_on(u32 cpu, u32 msr, u64 value)
{
	struct msr_arg arg = { .msr = msr, .value = value };

	run_on(cpu, remote_write, &arg);
	return arg.vector;
}

static void remote_store(void *arg)
{
	struct msr_arg *a = arg;

	a->vector = try_store((void *)a->value, 1, STORE_8);
}

static u32 store_on(u32 cpu, void *p)
{
	struct msr_arg arg = { .value = (u64)p };

	run_on(cpu, remote_store, &arg);
	return arg.vector;
}

/* Bits of those whose write raises #GP, with the other bits as they are. Leaves the value. */
static u64 refused_of(u32 msr, u64 bits)
{
	u64 old = rdmsr(msr), refused = 0;

	for (u32 i = 0; i < 64; i++) {
		if (!(bits & BIT(i)))
			continue;
		if (write_msr(msr, old ^ BIT(i)) != NO_TRAP)
			refused |= BIT(i);
		else
			write_msr(msr, old);
	}
	return refused;
}

static u64 refused_bits(u32 msr)
{
	return refused_of(msr, ~0ULL);
}

static void gp(u32 msr, u64 value, const char *text)
{
	u32 vector = write_msr(msr, value);
	u64 error = this_cpu()->trap.error;

	if (!ok(vector == VEC_GP && !error, "%s", text))
		note("vector %u error %llx", vector, error);
}

static void check_reset(u32 msr, u64 want, const char *name)
{
	u32 differ = 0;

	for (u32 i = 0; i < nr_cpus; i++) {
		u64 v = read_on(i, msr);

		if (v != want) {
			note("%s on vCPU %u is %llx", name, i, v);
			differ++;
		}
	}
	is(differ, 0, "%s is 0x%llx after reset on all vCPUs", name, want);
}

static void plain_bits(u32 msr, u64 mask, const char *name)
{
	u64 old = rdmsr(msr);
	u32 bad = 0;

	for (u32 i = 0; i < 64; i++) {
		if (!(mask & BIT(i)))
			continue;
		write_msr(msr, old ^ BIT(i));
		bad += rdmsr(msr) != (old ^ BIT(i));
		write_msr(msr, old);
		bad += rdmsr(msr) != old;
	}
	is(bad, 0, "%s: bits %llx read back as written", name, mask);
}

void tests_msr_reset(void)
{
	u64 v;

	section("msr");
	check_reset(MSR_SYSCFG, SYSCFG_MEM_ENC, "SYSCFG");
	check_reset(MSR_HWCR, BIT(0) | BIT(24), "HWCR");
	check_reset(MSR_SEV_STATUS, 0, "SEV_STATUS");
	check_reset(MSR_RMP_BASE, rmp_base, "RMP_BASE");
	check_reset(MSR_RMP_END, rmp_end, "RMP_END");
	is(rmp_base & ~RMP_ADDRESS, 0, "RMP_BASE of the firmware is 8 KB aligned");
	if (has.segmented) {
		check_reset(MSR_RMP_CFG, rmp_cfg, "RMP_CFG");
		is(rmp_cfg & ~RMP_CFG_VALID, 0, "RMP_CFG of the firmware has no reserved bit");
		if (has.segments)
			is(rmp_end, 0, "RMP_END is 0 with a segmented RMP");
	} else {
		is(try_rdmsr(MSR_RMP_CFG, &v), VEC_GP, "RMP_CFG: read is #GP without segmented-rmp");
		gp(MSR_RMP_CFG, 0, "RMP_CFG: write is #GP without segmented-rmp");
	}
	if (!has.segments)
		ok(rmp_end > rmp_base && (rmp_end & 0xfff) == 0xfff, "RMP_END is the last byte");
	ok(!is_ram(rmp_base, SZ_4K) && !is_ram(rmp_memory_end - SZ_4K, SZ_4K),
	   "the RMP is not usable RAM by the memory map");
	ok(rmp_covers(0, SZ_1G) && rmp_covers(R0, 3 * SZ_1G) && rmp_covers(ram_end() - SZ_4K, SZ_4K),
	   "the RMP covers all RAM");
	ok(!rmp_covers(4096 * SZ_1G, SZ_4K), "and not everything");

	gp(MSR_SEV_STATUS, 0, "SEV_STATUS: write of 0 is #GP");
	gp(MSR_SEV_STATUS, 1, "SEV_STATUS: write of 1 is #GP");

	try_wrmsr(MSR_HWCR, 0);
	is(rdmsr(MSR_HWCR), BIT(0), "HWCR: SMMLOCK stays, others can be cleared");
	is(try_wrmsr(MSR_HWCR, BIT(0) | BIT(24) | BIT(4)), NO_TRAP, "HWCR: no #GP");
	is(rdmsr(MSR_HWCR), BIT(0) | BIT(24) | BIT(4), "HWCR keeps what is written");
	try_wrmsr(MSR_HWCR, BIT(24));
	is(rdmsr(MSR_HWCR), BIT(0) | BIT(24), "HWCR: and SMMLOCK");

	is(refused_bits(MSR_RMP_BASE), ~RMP_ADDRESS, "RMP_BASE: reserved bits are #GP");
	plain_bits(MSR_RMP_BASE, RMP_ADDRESS, "RMP_BASE");
	is(refused_bits(MSR_RMP_END), 0xfffULL << 52, "RMP_END: reserved bits are #GP");
	plain_bits(MSR_RMP_END, RMP_ADDRESS | 0x1fff, "RMP_END");
	if (has.segmented) {
		is(refused_bits(MSR_RMP_CFG), ~RMP_CFG_VALID, "RMP_CFG: reserved bits are #GP");
		plain_bits(MSR_RMP_CFG, RMP_CFG_VALID, "RMP_CFG");
	}
	/* VMPL_EN cannot be cleared again: on this vCPU alone, and not here. */
	for (u32 i = 0, bad = 0; i <= 64; i++) {
		if (i == 64)
			is(bad, 0, "SYSCFG: reserved bits are #GP");
		else if (!(SYSCFG_VALID & BIT(i)))
			bad += try_wrmsr(MSR_SYSCFG, rdmsr(MSR_SYSCFG) | BIT(i)) != VEC_GP;
	}
	plain_bits(MSR_SYSCFG, SYSCFG_PLAIN, "SYSCFG");
	is(try_wrmsr(MSR_SYSCFG, 0), NO_TRAP, "SYSCFG: MEM_ENC 0 is no #GP");
	is(rdmsr(MSR_SYSCFG), SYSCFG_MEM_ENC, "SYSCFG: MEM_ENC stays");

	if (!has.rmpopt) {
		is(try_rdmsr(MSR_RMPOPT_BASE, &v), VEC_GP, "RMPOPT_BASE: read is #GP without RMPOPT");
		gp(MSR_RMPOPT_BASE, 0, "RMPOPT_BASE: write is #GP without RMPOPT");
		return;
	}
	check_reset(MSR_RMPOPT_BASE, 0, "RMPOPT_BASE");
	is(refused_bits(MSR_RMPOPT_BASE), ~RMPOPT_BASE_VALID | 1,
	   "RMPOPT_BASE: reserved bits and, without SNP, the enable bit are #GP");
	plain_bits(MSR_RMPOPT_BASE, RMPOPT_BASE_VALID & ~1ULL, "RMPOPT_BASE");
	set_rmpopt_base(0);
}

static u32 off_vectors[2];

static void run_off(void *arg)
{
	struct outcome out;

	off_vectors[0] = snp_run(OP_RMPUPDATE, FREE_2M, (u64)arg, KERNEL, &out);
	off_vectors[1] = snp_run(OP_PSMASH, FREE_2M, 0, KERNEL, &out);
}

/* On the last vCPU: alone, or the one that has SNP_EN off for longest. */
void tests_insn_off(void)
{
	static struct rmp_state s;
	u32 cpu = nr_cpus - 1;

	section(this_cpu()->index != cpu && snp_enabled() ? "snp_en on elsewhere" : "snp_en off");
	run_on(cpu, run_off, &s);
	is(off_vectors[0], VEC_UD, "RMPUPDATE is #UD");
	is(off_vectors[1], VEC_UD, "PSMASH is #UD");
	if (!snp_enabled()) {
		struct outcome out;

		is(snp_run(OP_RMPUPDATE, FREE_2M, (u64)&s, USER, &out), VEC_UD, "RMPUPDATE is #UD at CPL 3, not #GP");
		is(snp_run(OP_PSMASH, FREE_2M, 0, USER, &out), VEC_UD, "PSMASH is #UD at CPL 3, not #GP");
	}
	if (has.rmpread && !snp_enabled()) {
		struct rmp_state *r = new_page();
		struct outcome out;

		memset(r, 0xff, sizeof(*r));
		memset(&s, 0, sizeof(s));
		is(snp_run(OP_RMPREAD, FREE_2M, (u64)r, KERNEL, &out), NO_TRAP, "RMPREAD is no #UD");
		is(out.rax, RMP_OK, "RMPREAD succeeds");
		ok(!memcmp(r, &s, sizeof(s)), "RMPREAD writes an empty entry");
	}
}

/* From SNP_EN nowhere, over this vCPU alone, to all of them. */
void tests_msr_enable(void)
{
	const u64 syscfg = SYSCFG_MEM_ENC | SYSCFG_SNP_EN;
	u32 other = nr_cpus - 1;
	struct outcome out;
	struct rmp_state s = {};
	void *p;

	section("snp_en");
	/* The RMP is plain memory as yet. An operating system clears what a reset leaves. */
	for (u64 pa = R0; pa < R0 + 3 * SZ_1G; pa += SZ_2M)
		memset((void *)rmp_raw(pa), 0, 512 * 16);
	/* VALIDATED and VMSA for two free pages. */
	rmp_raw(PLANTED)[0] = 3ULL << 61;
	rmp_raw(PLANTED + SZ_4K)[0] = 3ULL << 61;
	p = map_4k(0, PLANTED, PTE_ALL);

	try_wrmsr(MSR_RMP_BASE, rmp_base + 0x2000);
	gp(MSR_SYSCFG, syscfg, "#GP with another RMP_BASE than the firmware's");
	try_wrmsr(MSR_RMP_BASE, rmp_base);
	try_wrmsr(MSR_RMP_END, rmp_end ^ 0x200000);
	gp(MSR_SYSCFG, syscfg, "#GP with another RMP_END");
	try_wrmsr(MSR_RMP_END, rmp_end);
	if (has.segmented) {
		try_wrmsr(MSR_RMP_CFG, rmp_cfg ^ 0x100);
		gp(MSR_SYSCFG, syscfg, "#GP with another RMP_CFG");
		try_wrmsr(MSR_RMP_CFG, rmp_cfg);
	}
	is(rdmsr(MSR_SYSCFG), SYSCFG_MEM_ENC, "SYSCFG unchanged by that");

	/* MEM_ENC is sticky, so the written value need not have it. */
	is(try_wrmsr(MSR_SYSCFG, SYSCFG_SNP_EN), NO_TRAP, "set");
	is(rdmsr(MSR_SYSCFG), syscfg, "SYSCFG reads MEM_ENC and SNP_EN");
	try_wrmsr(MSR_SYSCFG, 0);
	is(rdmsr(MSR_SYSCFG), syscfg, "cannot be cleared");
	is(try_wrmsr(MSR_SYSCFG, syscfg | SYSCFG_VMPL_EN), NO_TRAP, "VMPL_EN set");
	try_wrmsr(MSR_SYSCFG, syscfg);
	is(rdmsr(MSR_SYSCFG), syscfg | SYSCFG_VMPL_EN, "VMPL_EN cannot be cleared");
	plain_bits(MSR_SYSCFG, SYSCFG_PLAIN, "SYSCFG");

	if (other) {
		is(read_on(other, MSR_SYSCFG), SYSCFG_MEM_ENC, "another vCPU has its own SYSCFG");
		is(write_on(other, MSR_RMP_BASE, rmp_base), NO_TRAP, "its RMP_BASE is not locked");
		snp_run(OP_RMPUPDATE, R0, (u64)&s, KERNEL, &out);
		is(out.vector, NO_TRAP, "RMPUPDATE works here");
		this_cpu()->counts.rmpupdate++;
		tests_insn_off();
		section("snp_en on elsewhere");
	}
	is(update(PLANTED, 0, 1, 0, 0, 1), RMP_OK, "assign a page");
	is(*rmp_raw(PLANTED), BIT(51) | 1, "which clears VALIDATED and VMSA");
	is(*rmp_raw(PLANTED + SZ_4K), 3ULL << 61, "of this one alone");
	is(update(PLANTED + SZ_4K, 0, 0, 0, 0, 0), RMP_OK, "free a page that is free");
	is(*rmp_raw(PLANTED + SZ_4K), 0, "which clears them as well");
	is(store_on(0, p), VEC_PF, "this vCPU cannot write it");
	if (other)
		is(store_on(other, p), NO_TRAP, "one without SNP_EN can");
	for (u32 i = 1; i < nr_cpus; i++)
		run_on(i, snp_enable, NULL);
	if (other)
		is(store_on(other, p), VEC_PF, "and no longer once it has SNP_EN");
	is(update(PLANTED, 0, 0, 0, 0, 0), RMP_OK, "free it");
}

void tests_msr_enabled(void)
{
	/* Where it is locked it is not enabled here: it could not be disabled again. */
	u64 enable = rmpopt_base_moves(), base = R0 | enable;
	u32 sibling = a_sibling(), stranger = a_stranger();

	section("msr locked");
	gp(MSR_RMP_BASE, rmp_base, "RMP_BASE: write of the same value is #GP");
	gp(MSR_RMP_BASE, 0, "RMP_BASE: write of 0 is #GP");
	gp(MSR_RMP_END, rmp_end, "RMP_END: write of the same value is #GP");
	gp(MSR_RMP_CFG, rmp_cfg, "RMP_CFG: write of the same value is #GP");
	is(rdmsr(MSR_RMP_BASE), rmp_base, "RMP_BASE unchanged");
	is(rdmsr(MSR_RMP_END), rmp_end, "RMP_END unchanged");

	section("rmpopt_base");
	if (!has.rmpopt) {
		gp(MSR_RMPOPT_BASE, 0, "write is #GP without RMPOPT");
		gp(MSR_RMPOPT_BASE, 1, "enabling is #GP without RMPOPT");
		return;
	}
	if (!has.segments) {
		gp(MSR_RMPOPT_BASE, 1, "enabling is #GP without a segmented RMP");
		return;
	}
	is(refused_of(MSR_RMPOPT_BASE, enable ? ~0ULL : ~1ULL), ~RMPOPT_BASE_VALID, "reserved bits are #GP");
	plain_bits(MSR_RMPOPT_BASE, enable ? RMPOPT_BASE_VALID : RMPOPT_BASE_VALID & ~1ULL, "RMPOPT_BASE");
	if (enable) {
		/* Nothing has cleared it since the reset, if tables are kept. */
		set_rmpopt_base(1);
		is(rmpopt(R0, 1) + rmpopt(R1, 1), 0, "the table is empty after reset");
		set_rmpopt_base(0);
	}
	is(set_rmpopt_base(base), NO_TRAP, "set");
	is(rdmsr(MSR_RMPOPT_BASE), base, "reads as written");
	gp(MSR_RMPOPT_BASE, base | BIT(12), "#GP changes nothing, 1");
	is(rdmsr(MSR_RMPOPT_BASE), base, "#GP changes nothing, 2");
	if (sibling) {
		is(read_on(sibling, MSR_RMPOPT_BASE), base, "the sibling reads it");
		is(write_on(sibling, MSR_RMPOPT_BASE, R1 | enable), NO_TRAP, "the sibling writes it");
		is(rdmsr(MSR_RMPOPT_BASE), R1 | enable, "what the sibling wrote is read here");
	}
	if (stranger) {
		is(read_on(stranger, MSR_RMPOPT_BASE), 0, "another core has its own");
		is(write_on(stranger, MSR_RMPOPT_BASE, SZ_1G | enable), NO_TRAP, "another core writes its own");
		is(rdmsr(MSR_RMPOPT_BASE), sibling ? R1 | enable : base, "which changes nothing here");
		write_on(stranger, MSR_RMPOPT_BASE, 0);
	}
	is(set_rmpopt_base(0), NO_TRAP, "cleared again");
	is(rdmsr(MSR_RMPOPT_BASE), 0, "reads 0");
}

/* INIT leaves them alone. The vCPU must be idle, and holds nothing but its count. */
void tests_msr_init(void)
{
	u32 cpu = nr_cpus - 1;
	const u64 syscfg = SYSCFG_MEM_ENC | SYSCFG_SNP_EN | SYSCFG_VMPL_EN | BIT(19);
	u64 starts, base = 0;
	bool optimized = false;

	section("init");
	if (!cpu)
		return;
	write_on(cpu, MSR_SYSCFG, syscfg);
	write_on(cpu, MSR_HWCR, BIT(0) | BIT(24) | BIT(5));
	if (has.rmpopt && has.segments) {
		base = read_on(cpu, MSR_RMPOPT_BASE);
		optimized = model_optimized(cpu, R0);
	}
	starts = cpu_ptr(cpu)->starts;
	smp_restart(cpu);
	is(cpu_ptr(cpu)->starts, starts + 1, "vCPU %u came up once more", cpu);
	is(read_on(cpu, MSR_SYSCFG), syscfg, "SYSCFG survives");
	is(read_on(cpu, MSR_RMP_BASE), rmp_base, "RMP_BASE survives");
	is(read_on(cpu, MSR_RMP_END), rmp_end, "RMP_END survives");
	is(read_on(cpu, MSR_HWCR) & BIT(0), BIT(0), "HWCR.SMMLOCK survives");
	if (has.segmented)
		is(read_on(cpu, MSR_RMP_CFG), rmp_cfg, "RMP_CFG survives");
	is(write_on(cpu, MSR_RMP_BASE, rmp_base), VEC_GP, "the lock survives");
	if (has.rmpopt && has.segments) {
		ok(base & 1, "RMPOPT_BASE was enabled");
		is(read_on(cpu, MSR_RMPOPT_BASE), base, "RMPOPT_BASE survives");
		ok(optimized, "a region was optimized");
		is(rmpopt_on(cpu, R0, 1), 1, "and still is");
	}
}

/* A CPU without SEV-SNP: as a stock one, and none of the instructions. */
void tests_absent(void)
{
	static const u32 msrs[] = {
		MSR_SYSCFG, MSR_HWCR, MSR_SEV_STATUS, MSR_RMP_BASE, MSR_RMP_END, MSR_RMP_CFG,
	};
	struct outcome out;

	section("absent");
	for (u32 i = 0; i < ARRAY_SIZE(msrs); i++) {
		u64 v = 1;

		is(try_rdmsr(msrs[i], &v), NO_TRAP, "MSR %x: read is no #GP", msrs[i]);
		is(v, 0, "MSR %x reads 0", msrs[i]);
		is(try_wrmsr(msrs[i], BIT(24)), NO_TRAP, "MSR %x: write is no #GP", msrs[i]);
		try_rdmsr(msrs[i], &v);
		is(v, 0, "MSR %x ignores a write", msrs[i]);
	}
	for (u32 op = 0; op < NR_OPS; op++) {
		is(snp_run(op, SZ_1G, (u64)new_page(), KERNEL, &out), VEC_UD, "%s is #UD", op_names[op]);
		is(snp_run(op, SZ_1G, (u64)new_page(), USER, &out), VEC_UD, "%s is #UD at CPL 3",
		   op_names[op]);
	}
}

/* A CPU with SEV-SNP on a machine without an RMP. */
void tests_no_rmp(void)
{
	struct outcome out;

	section("no rmp");
	check_reset(MSR_SYSCFG, SYSCFG_MEM_ENC, "SYSCFG");
	check_reset(MSR_RMP_BASE, 0, "RMP_BASE");
	check_reset(MSR_RMP_END, 0, "RMP_END");
	gp(MSR_SYSCFG, SYSCFG_MEM_ENC | SYSCFG_SNP_EN, "SNP_EN is #GP");
	is(rdmsr(MSR_SYSCFG), SYSCFG_MEM_ENC, "and stays 0");
	is(snp_run(OP_RMPUPDATE, R0, (u64)new_page(), KERNEL, &out), VEC_UD, "RMPUPDATE is #UD");
	is(snp_run(OP_PSMASH, R0, 0, KERNEL, &out), VEC_UD, "PSMASH is #UD");
	is(snp_run(OP_RMPOPT, R0, 0, KERNEL, &out), VEC_UD, "RMPOPT is #UD");
	is(snp_run(OP_RMPREAD, R0, (u64)new_page(), KERNEL, &out), NO_TRAP, "RMPREAD is no #UD");
	is(out.rax, RMP_FAIL_INPUT, "RMPREAD finds nothing");
}
