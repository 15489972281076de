/* SPDX-License-Identifier: GPL-2.0-only */
/* What a guest that looks at its registers leaves in sev_seen[]: indexes. */
#ifndef BARE_SEV_CODE_H
#define BARE_SEV_CODE_H

/* General registers by their number */
#define SEEN_GPR	0
#define SEEN_RFLAGS	16
#define SEEN_CR0	17
#define SEEN_CR2	18
#define SEEN_CR3	19
#define SEEN_CR4	20
#define SEEN_DR6	21
#define SEEN_DR7	22
/* ES CS SS DS FS GS, then LDTR and TR */
#define SEEN_SEG	23
#define SEEN_LDTR	29
#define SEEN_TR		30
/* Limit and base in 10 bytes */
#define SEEN_GDTR	32
#define SEEN_IDTR	34
#define SEEN_XCR0	36
#define SEEN_PKRU	37
#define SEEN_MSR	40
#define NR_SEEN		64

#define NR_SEV_MSRS	12

#endif
