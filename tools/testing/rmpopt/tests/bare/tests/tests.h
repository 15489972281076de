/* SPDX-License-Identifier: GPL-2.0-only */
/* The groups of tests, in the order in which they run. */
#ifndef BARE_TESTS_H
#define BARE_TESTS_H

#include "snp.h"

/*
 * Memory of the tests, whole regions of RAM above 4 GB. R0 and R1 are as they were
 * after each test; in R2 are immutable pages, which stay.
 */
#define R0 (4 * SZ_1G)
#define R1 (5 * SZ_1G)
#define R2 (6 * SZ_1G)

void run_tests(void);
void tests_cpuid(void);
void tests_msr_reset(void);
void tests_msr_enable(void);
void tests_msr_enabled(void);
void tests_msr_init(void);
void tests_insn_off(void);
void tests_insn(void);
void tests_read(void);
void tests_update(void);
void tests_psmash(void);
void tests_fault(void);
void tests_rmpopt_off(void);
void tests_rmpopt(void);
void tests_random(void);
void tests_dma(void);
void tests_race(void);
void tests_absent(void);
void tests_no_rmp(void);
/* All of the PSP, instead of the others. */
void tests_psp(void);

/* RMPOPT on a vCPU. Returns CF. */
bool rmpopt_on(u32 cpu, u64 pa, u64 fn);
/* RMPUPDATE with all fields. */
u32 update(u64 pa, u64 gpa, u32 assigned, u32 pagesize, u32 immutable, u32 asid);

#endif
