// SPDX-License-Identifier: GPL-2.0-only
/* RMPOPT: rules, tables, verdicts, and the writes that need no check. */
#include "tests.h"

#define WINDOW_SIZE (2048 * SZ_1G)
#define FIRST (R0 + 130 * SZ_2M)

struct arg {
	u64 pa, fn;
	u32 vector;
	void *p;
};

static void remote_base(void *p)
{
	struct arg *a = p;

	a->vector = set_rmpopt_base(a->pa);
}

static void remote_write(void *p)
{
	struct arg *a = p;

	a->vector = try_store(a->p, a->fn, STORE_8);
}

static void remote_assign(void *p)
{
	struct arg *a = p;

	a->vector = assign_4k(a->pa);
}

static u32 base_on(u32 cpu, u64 base)
{
	struct arg a = { .pa = base };

	run_on(cpu, remote_base, &a);
	return a.vector;
}

static u32 write_on(u32 cpu, void *p, u64 v)
{
	struct arg a = { .p = p, .fn = v };

	run_on(cpu, remote_write, &a);
	return a.vector;
}

static u32 assign_on(u32 cpu, u64 pa)
{
	struct arg a = { .pa = pa };

	run_on(cpu, remote_assign, &a);
	return a.vector;
}

/* How many vCPUs get CF = 1. */
static u32 on_all(u64 pa, u64 fn)
{
	u32 n = 0;

	for (u32 i = 0; i < nr_cpus; i++)
		n += rmpopt_on(i, pa, fn);
	return n;
}

/* Before SNP_EN. */
void tests_rmpopt_off(void)
{
	bool cf;

	section("rmpopt without SNP");
	if (!has.rmpopt)
		return;
	is(rmpopt_trap(R0, 0, &cf), flag_off("rmpopt-ud-snp-off") ? NO_TRAP : VEC_UD, "function 0");
	is(cf, 0, "CF is not set");
	is(rmpopt_trap(R0, 1, &cf), flag_off("rmpopt-ud-snp-off") ? NO_TRAP : VEC_UD, "function 1");
	if (!flag_off("rmpopt-ud-snp-off"))
		is(rmpopt_trap(R0 + 1, 2, &cf), VEC_UD, "#UD comes before #GP");
}

static void rules(void)
{
	u32 unaligned = flag_off("rmpopt-gp-unaligned") ? NO_TRAP : VEC_GP;
	u32 function = flag_off("rmpopt-gp-function") ? NO_TRAP : VEC_GP;
	u32 base = flag_off("rmpopt-ud-base-off") ? NO_TRAP : VEC_UD;
	bool cf;

	section("rmpopt rules");
	is(rmpopt_trap(R0, 0, &cf), base, "function 0 with RMPOPT_BASE off");
	is(cf, 0, "CF is not set");
	is(rmpopt_trap(R0, 1, &cf), base, "function 1 with RMPOPT_BASE off");
	if (base == VEC_UD)
		is(rmpopt_trap(R0 + 1, 2, &cf), VEC_UD, "#UD comes before #GP");
	if (!has.segments)
		return;
	is(set_rmpopt_base(1), NO_TRAP, "enable at 0");
	is(rmpopt_trap(R0 + SZ_4K, 0, &cf), unaligned, "address not a multiple of 1G");
	if (unaligned == VEC_GP)
		is(this_cpu()->trap.error, 0, "the error code of #GP is 0");
	is(cf, unaligned == NO_TRAP, "CF");
	is(rmpopt_trap(R0 + 1, 1, &cf), unaligned, "address not a multiple of 2, function 1");
	is(cf, unaligned == NO_TRAP, "CF");
	is(rmpopt_trap(R0, 2, &cf), function, "function 2");
	is(cf, 0, "CF is not set");
	is(rmpopt_trap(R0, BIT(32), &cf), function, "function 2^32");
	is(rmpopt_trap(R0, BIT(63), &cf), function, "function 2^63");
	if (rmpopt_base_moves()) {
		set_rmpopt_base(0);
		is(rmpopt_trap(R0, 0, &cf), base, "off again");
	}
}

static void tables(void)
{
	u32 sibling = a_sibling(), stranger = a_stranger(), bad = 0;

	section("rmpopt tables");
	for (u32 i = 0; i < nr_cpus; i++) {
		if (cpu_ptr(i)->core == i)
			bad += base_on(i, 1) != NO_TRAP;
	}
	is(bad, 0, "enable all cores at 0");
	is(on_all(R0, 1), 0, "nothing is optimized at first");
	is(rmpopt(R0, 1), 0, "function 1 has set nothing");
	is(rmpopt(R0, 0), 1, "function 0 of a clean region");
	is(rmpopt(R0, 1), 1, "function 1 after it");
	is(rmpopt(R0, 0), 1, "function 0 once more, from the table");
	is(rmpopt(R1, 1), 0, "another region is not");
	if (sibling)
		is(rmpopt_on(sibling, R0, 1), 1, "the sibling has it");
	if (stranger) {
		is(rmpopt_on(stranger, R0, 1), 0, "another core has not");
		is(rmpopt_on(stranger, R0, 1), 0, "function 1 sets nothing there");
		is(rmpopt_on(stranger, R0, 0), 1, "it gets it by function 0, from the verdict");
		is(rmpopt_on(stranger, R0, 1), 1, "and has it");
	}
	is(on_all(R0, 0), nr_cpus, "all get it");
	is(on_all(R1, 0), nr_cpus, "and another region");
	is(on_all(R0, 1) + on_all(R1, 1), 2 * nr_cpus, "all have both");

	section("rmpopt clearing");
	is(assign_on(nr_cpus - 1, FIRST + 7 * SZ_4K), RMP_OK, "assign a page on the last vCPU");
	is(on_all(R0, 1), 0, "no core has the region");
	is(on_all(R1, 1), nr_cpus, "all have the other one");
	is(rmpopt(R0, 0), 0, "function 0 fails");
	is(on_all(R0, 0), 0, "on all");
	is(on_all(R0, 1), 0, "and sets nothing");
	is(free_4k(FIRST + 7 * SZ_4K), RMP_OK, "free it");
	is(on_all(R0, 1), 0, "which brings nothing back");
	is(rmpopt(R0, 0), 1, "function 0 does");
	is(on_all(R0, 0), nr_cpus, "on all");
	/* The first and the last entry of the scan, and in the middle of a 2M. */
	assign_4k(R0 + SZ_1G - SZ_4K);
	is(rmpopt(R0, 0), 0, "last page of the region");
	assign_4k(R0);
	is(rmpopt(R0, 0), 0, "first page of the region");
	free_4k(R0 + SZ_1G - SZ_4K);
	is(rmpopt(R0, 0), 0, "first page alone");
	free_4k(R0);
	is(rmpopt(R0, 0), 1, "all free");
	is(free_4k(R0), RMP_OK, "free a free page");
	is(rmpopt(R0, 1), 1, "which clears nothing");
	is(update(R0, 0, 1, 2, 0, 0), RMP_FAIL_INPUT, "a refused RMPUPDATE");
	is(rmpopt(R0, 1), 1, "clears nothing");
	is(psmash(FIRST), RMP_FAIL_INPUT, "a refused PSMASH");
	is(rmpopt(R0, 1), 1, "clears nothing");

	is(assign_2m(FIRST), RMP_OK, "assign 2M");
	is(on_all(R0, 1), 0, "clears all");
	is(rmpopt(R0, 0), 0, "function 0 fails");
	is(psmash(FIRST), RMP_OK, "PSMASH of it");
	is(rmpopt(R0, 0), 0, "function 0 fails");
	is(on_all(R1, 1), nr_cpus, "the other region is as it was");
	free_all_4k(FIRST);
	is(rmpopt(R0, 0), 1, "all free");
	is(assign_2m(FIRST), RMP_OK, "assign 2M");
	is(free_2m(FIRST), RMP_OK, "free 2M");
	is(rmpopt(R0, 1), 0, "not optimized");
	is(on_all(R0, 0), nr_cpus, "function 0");
}

/* WRMSR of a base that is enabled at 0, on this vCPU or its sibling. */
static void locked(void)
{
	static const struct { u64 value; const char *what; } writes[] = {
		{ 0, "disabling" }, { SZ_1G, "disabling and moving" }, { SZ_1G | 1, "moving" },
		{ RMPOPT_BASE_VALID, "moving to the last address" },
	};
	u32 vector = rmpopt_base_vector(), sibling = a_sibling(), stranger = a_stranger();

	section("rmpopt_base locked");
	is(rmpopt(R0, 0), 1, "a region is optimized");
	for (u32 i = 0; i < ARRAY_SIZE(writes); i++) {
		is(set_rmpopt_base(writes[i].value), vector, "%s is refused", writes[i].what);
		if (vector == VEC_GP)
			is(this_cpu()->trap.error, 0, "the error code of #GP is 0");
		is(rdmsr(MSR_RMPOPT_BASE), 1, "%s has no effect on the base", writes[i].what);
		is(rmpopt(R0, 1), 1, "%s has no effect on the table", writes[i].what);
	}
	is(set_rmpopt_base(BIT(12)), VEC_GP, "reserved bits are #GP");
	is(rdmsr(MSR_RMPOPT_BASE), 1, "and have no effect");
	if (sibling) {
		is(base_on(sibling, 0), vector, "the sibling cannot disable it");
		is(base_on(sibling, SZ_1G | 1), vector, "nor move it");
		is(rmpopt_on(sibling, R0, 1), 1, "and sees the table as it was");
		is(base_on(sibling, 1), NO_TRAP, "it can write the same value");
		is(rmpopt(R0, 1), 0, "which clears the table");
		is(rmpopt(R0, 0), 1, "function 0");
	}
	if (stranger) {
		is(base_on(stranger, 0), vector, "nor can another core disable its own");
		is(rmpopt_on(stranger, R1, 1), 1, "whose table is as it was");
	}
}

/* A base that is enabled at 0 is cleared and set again, with changes in between. */
static void disabled(void)
{
	bool keep = flag_is("rmpopt-disabled-table", "keep"), audit = flag_on("audit");
	u64 page = FIRST + 3 * SZ_4K, other = FIRST + 5 * SZ_4K, before;
	u32 cpu = nr_cpus - 1, sibling = a_sibling(), stranger = a_stranger();
	u8 *p = map_4k(0, page, PTE_ALL);

	section("rmpopt disabled table");
	is(on_all(R0, 0), nr_cpus, "a region is optimized");
	is(set_rmpopt_base(0), NO_TRAP, "disable");
	is(set_rmpopt_base(0), NO_TRAP, "once more");
	is(set_rmpopt_base(1), NO_TRAP, "enable");
	is(rmpopt(R0, 1), keep, "the region is %soptimized", keep ? "" : "not ");
	if (sibling)
		is(rmpopt_on(sibling, R0, 1), keep, "the same for the sibling");
	if (stranger)
		is(rmpopt_on(stranger, R0, 1), 1, "another core has it");

	is(rmpopt(R0, 0), 1, "function 0");
	set_rmpopt_base(0);
	is(assign_on(cpu, page), RMP_OK, "assign a page while disabled");
	if (stranger)
		is(rmpopt_on(stranger, R0, 1), 0, "another core has lost the region");
	is(try_store(p, 1, STORE_8), VEC_PF, "a disabled table lets nothing through");
	print_expectations();
	print("# expect audit-now 0\n");
	sync_referee();
	before = table_violations;
	set_rmpopt_base(1);
	is(table_violations - before, keep && audit, "the referee finds %s", keep && audit ? "it" : "nothing");
	is(rmpopt(R0, 1), keep, "the region is %soptimized", keep ? "still " : "not ");
	is(rmpopt(R0, 0), keep, "by function 0");
	if (sibling)
		is(rmpopt_on(sibling, R0, 1), keep, "the same for the sibling");
	print_expectations();
	print("# expect audit-now %u\n", keep);
	sync_referee();
	table_violations += keep;
	is(try_store(p, 2, STORE_8), keep ? NO_TRAP : VEC_PF, "a write to the page");
	write_violations += keep;
	if (stranger)
		is(write_on(stranger, p, 3), VEC_PF, "on another core it faults");
	is(assign_on(cpu, other), RMP_OK, "assign another page");
	is(rmpopt(R0, 1), 0, "an enabled table hears of it");
	is(try_store(p, 4, STORE_8), VEC_PF, "the write faults");
	free_4k(other);
	free_4k(page);

	/* The bits of a table count from the base that is enabled, and count nothing before. */
	is(rmpopt(R0, 0), 1, "function 0");
	set_rmpopt_base(0);
	set_rmpopt_base(SZ_1G);
	set_rmpopt_base(SZ_1G | 1);
	is(rmpopt(R0, 1), 0, "the first of two that were optimized");
	is(rmpopt(R1, 1), keep, "the second, with the bit of the first");
	is(rmpopt(R2, 1), keep, "the one behind, with the bit of the second");
	set_rmpopt_base(R1 | 1);
	is(rmpopt(R1, 1), 0, "moving while enabled clears the table");
	set_rmpopt_base(1);
	is(on_all(R0, 0), nr_cpus, "all as before");
	is(on_all(R1, 0), nr_cpus, "in the other region");
}

/* Regions and bases for which the answer is no. */
static void window(void)
{
	u32 outside = flag_is("rmpopt-outside", "gp") ? VEC_GP : NO_TRAP;
	u64 before = this_cpu()->counts.outside;
	u64 own = ALIGN_DOWN(rmp_base, SZ_1G), far = ALIGN_DOWN(ram_end() - 1, SZ_1G);
	bool cf;

	section("rmpopt window");
	is(rmpopt(own, 0), 0, "region with the RMP");
	is(rmpopt(own, 0), 0, "once more");
	is(rmpopt(own, 1), 0, "function 1 of it");
	is(rmpopt(R2, 0), 0, "region with immutable pages");
	is(rmpopt(4096 * SZ_1G, 0), 0, "region that the RMP does not cover");
	is(rmpopt(WINDOW_SIZE - SZ_1G, 0), 0, "last region of the window, not covered");
	is(rmpopt(WINDOW_SIZE, 0), 0, "region behind the window");
	is(rmpopt(BIT(52), 0), 0, "region beyond 52 bits");
	is(rmpopt(BIT(63), 0), 0, "region with bit 63");
	is(rmpopt(BIT(63), 1), 0, "function 1 of it");
	is(rmpopt_trap(WINDOW_SIZE, 0, &cf), outside, "the region behind traps or not");
	is(rmpopt_trap(WINDOW_SIZE, 1, &cf), outside, "function 1 of it");
	is(rmpopt_trap(WINDOW_SIZE - SZ_1G, 1, &cf), NO_TRAP, "the last region does not");
	is(this_cpu()->counts.outside - before, 7, "all those outside of the window, and no other, are violations");

	is(rmpopt(R0, 1), 1, "a region is optimized");
	is(set_rmpopt_base(1), NO_TRAP, "writing RMPOPT_BASE, the same value");
	is(rmpopt(R0, 1), 0, "clears the table");
	is(rmpopt(R0, 0), 1, "and not the verdict");
	if (!rmpopt_base_moves())
		return;
	is(set_rmpopt_base(R1 | 1), NO_TRAP, "move the base one region above");
	is(rmpopt(R0, 1) + rmpopt(R1, 1), 0, "clears the table");
	is(rmpopt(R0, 0), 0, "below the window");
	is(rmpopt(R1, 0), 1, "first region of the window");
	is(rmpopt(R0, 1), 0, "function 1 below");
	is(assign_4k(R1), RMP_OK, "assign in the first region");
	is(rmpopt(R1, 1), 0, "which is cleared, with that base");
	free_4k(R1);
	is(rmpopt(R1, 0), 1, "and can be optimized again");
	if (a_sibling()) {
		is(base_on(a_sibling(), R0 | 1), NO_TRAP, "the sibling moves the base");
		is(rmpopt(R1, 1), 0, "clears the table here");
	}
	if (far >= WINDOW_SIZE + SZ_1G && ALIGN_DOWN(rmp_base, SZ_1G) != far) {
		set_rmpopt_base((far - WINDOW_SIZE + SZ_1G) | 1);
		is(rmpopt(far, 0), 1, "last region of the window");
		is(rmpopt(far, 1), 1, "function 1 of it");
		is(assign_4k(far), RMP_OK, "assign in it");
		is(rmpopt(far, 1), 0, "is cleared");
		is(free_4k(far), RMP_OK, "free it");
		set_rmpopt_base((far - WINDOW_SIZE) | 1);
		is(rmpopt(far, 0), 0, "first region behind the window");
		is(rmpopt(far, 1), 0, "function 1 of it");
	}
	set_rmpopt_base(1);
	is(on_all(R0, 0), nr_cpus, "all as before");
	is(on_all(R1, 0), nr_cpus, "in the other region");
}

/* Each vCPU writes first without, then with the page assigned. */
static void writes(void)
{
	u64 page = FIRST + 9 * SZ_4K;
	u8 *p = map_4k(0, page, PTE_ALL), *large = map_2m(0, FIRST, PTE_ALL);
	u32 bad = 0;

	section("rmpopt writes");
	is(on_all(R0, 1), nr_cpus, "the region is optimized");
	for (u32 i = 0; i < nr_cpus; i++) {
		bad += write_on(i, p, i + 1) != NO_TRAP || *(u64 *)p != i + 1;
		bad += write_on(i, large, i + 7) != NO_TRAP || *(u64 *)large != i + 7;
	}
	is(bad, 0, "writes work");
	is(assign_4k(page), RMP_OK, "assign");
	bad = 0;
	for (u32 i = 0; i < nr_cpus; i++)
		bad += write_on(i, p, 99) != VEC_PF || write_on(i, large, 99) != VEC_PF;
	is(bad, 0, "the same writes fault");
	is(on_all(R0, 0), 0, "function 0 fails");
	bad = 0;
	for (u32 i = 0; i < nr_cpus; i++)
		bad += write_on(i, p, 99) != VEC_PF;
	is(bad, 0, "and lets none through");
	is(*(u64 *)p, nr_cpus, "the page is as it was");
	is(free_4k(page), RMP_OK, "free");
	for (u32 i = 0; i < nr_cpus; i++)
		bad += write_on(i, p, i + 2) != NO_TRAP;
	is(bad, 0, "writes work");
	is(on_all(R0, 0), nr_cpus, "function 0");
	for (u32 i = 0; i < nr_cpus; i++) {
		/* A fresh TLB entry, which needs no check. */
		map_4k(0, page + SZ_4K, PTE_ALL);
		map_4k(0, page, PTE_ALL);
		bad += write_on(i, p, i + 3) != NO_TRAP;
	}
	is(bad, 0, "writes work without a check");
	print("# expect-min vcpu 0 skipped 2\n");
}

void tests_rmpopt(void)
{
	struct outcome out;

	section("rmpopt");
	if (!has.rmpopt) {
		is(snp_run(OP_RMPOPT, R0, 0, KERNEL, &out), VEC_UD, "function 0 is #UD without the CPUID bit");
		is(snp_run(OP_RMPOPT, R0 + 1, 2, KERNEL, &out), VEC_UD, "#UD comes before #GP");
		for (u32 i = 0; i < nr_cpus; i++)
			print("# expect vcpu %u skipped 0\n", i);
		return;
	}
	rules();
	if (has.segments) {
		tables();
		window();
		if (rmpopt_base_moves())
			disabled();
		else
			locked();
		writes();
	}
}
