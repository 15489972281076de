// SPDX-License-Identifier: GPL-2.0-only
/* Which tests a machine gets, in their order, and what the referee has to say in the end. */
#include "tests/tests.h"

static void judge(void)
{
	section("all");
	is(bad_regs, 0, "no instruction changed a register that it must keep");
	is(bad_flags, 0, "all flags were as they must be");
	is(bad_model, 0, "all results were as the model says");
}

static void no_violations(void)
{
	print("# expect violations-write %llu\n", write_violations);
	print("# expect violations-table %llu\n", table_violations);
	print("# expect violations-tlb 0\n");
	print("# expect audit-now 0\n");
}

static void finish(void)
{
	no_violations();
	print("# expect violations-rule %llu\n", rule_violations);
	sync_referee();
}

static void psp(void)
{
	tests_psp_up();
	tests_psp_states();
	tests_psp_guest();
	tests_psp_sev();
	tests_snp_guest();
	tests_psp_request();
	tests_psp_random();
	tests_psp_down();
	tests_psp_states();
	print("# expect psp uninit init 0\n");
}

void run_tests(void)
{
	snp_detect();
	print("# snp %u rmpread %u segmented %u rmpopt %u; RMP at %llx-%llx\n", has.snp, has.rmpread,
	      has.segments, has.rmpopt, rmp_base, rmp_memory_end);
	if (!has.snp) {
		if (!flag_on("no-snp"))
			bail_out("CPUID has no SEV-SNP");
		tests_cpuid();
		tests_svm();
		tests_sev_ignored();
		tests_absent();
		return;
	}
	tests_cpuid();
	tests_svm();
	tests_sev();
	if (!has.rmp) {
		if (!flag_on("no-host"))
			bail_out("firmware has left no RMP");
		tests_no_rmp();
		return;
	}
	if (!is_ram(R0, 3 * SZ_1G))
		bail_out("the tests need RAM from 4 GB to 7 GB");
	if (flag_on("psp")) {
		psp();
		judge();
		print_rmpopt_expectations();
		finish();
		return;
	}
	tests_msr_reset();
	tests_insn_off();
	tests_rmpopt_off();
	tests_msr_enable();
	tests_msr_enabled();
	tests_sev_snp();
	tests_insn();
	tests_update();
	tests_psmash();
	tests_read();
	tests_fault();
	tests_rmpopt();
	tests_msr_init();
	tests_random();
	tests_dma();

	judge();
	print_expectations();
	no_violations();
	/* A write counts once for each of the accesses that QEMU makes of it. */
	print("# expect%s dma-blocked %llu\n", dma_blocked ? "-min" : "", dma_blocked);
	/* So many RMPOPTs have no room there, and the model does not see what races do. */
	if (flag_on("journal"))
		print("# journal off\n");
	sync_referee();
	tests_race();
	finish();
}
