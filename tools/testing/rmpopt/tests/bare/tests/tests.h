/* SPDX-License-Identifier: GPL-2.0-only */
/* The groups of tests, which main.c calls. */
#ifndef BARE_TESTS_H
#define BARE_TESTS_H

#include "snp.h"

void tests_cpuid(void);
void tests_svm(void);
/* SEV and SEV-ES guests: without SNP_EN, without memory encryption, with SNP_EN */
void tests_sev(void);
void tests_sev_ignored(void);
void tests_sev_snp(void);
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
/* The PSP: its states and SNP up; pages in all states, guests, while it is up; SNP down. */
void tests_psp_up(void);
void tests_psp_states(void);
void tests_psp_guest(void);
void tests_psp_sev(void);
void tests_snp_guest(void);
void tests_psp_request(void);
void tests_psp_random(void);
void tests_psp_down(void);

#endif
