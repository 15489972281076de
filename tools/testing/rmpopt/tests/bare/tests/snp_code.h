/* SPDX-License-Identifier: GPL-2.0-only */
/* The mailbox of an SNP guest, a shared page: what to do, and what came of it. */
#ifndef BARE_SNP_CODE_H
#define BARE_SNP_CODE_H

/* From the hypervisor */
#define BOX_TARGET	0x00
#define BOX_RAX		0x08
#define BOX_RCX		0x10
#define BOX_RDX		0x18
#define BOX_RBX		0x20
#define BOX_RSI		0x28
#define BOX_RDI		0x30
#define BOX_RFLAGS	0x38
/* From the guest */
#define BOX_OUT_RAX	0x40
#define BOX_OUT_RCX	0x48
#define BOX_OUT_RDX	0x50
#define BOX_OUT_RFLAGS	0x58
#define BOX_VECTOR	0x60
#define BOX_ERROR	0x68
#define BOX_RIP		0x70
#define BOX_CS		0x78
#define BOX_AT_RFLAGS	0x80
#define BOX_AT_RSP	0x88
#define BOX_CR2		0x90
/* While it is running */
#define BOX_COUNT	0x98
#define BOX_STOP	0xa0

#endif
