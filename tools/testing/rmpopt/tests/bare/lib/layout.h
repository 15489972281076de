/* SPDX-License-Identifier: GPL-2.0-only */
/* What the assembler and the compiler must agree on. */
#ifndef BARE_LAYOUT_H
#define BARE_LAYOUT_H

#define KERNEL_CS	0x08
#define KERNEL_DS	0x10
#define COMPAT_CS	0x18
#define USER_DS		(0x20 | 3)
#define USER_CS		(0x28 | 3)
#define TSS_SEL		0x40

#define MAX_CPUS	64

/*
 * A vCPU's block: its struct cpu, a page for code made at run time, the user
 * stack, the stack for traps from user mode, the kernel stack. The block's
 * address comes from the stack pointer, whichever stack is in use.
 */
#define CPU_SHIFT	15
#define CPU_SIZE	(1 << CPU_SHIFT)
#define CPU_CODE	0x1000
#define CPU_USER_STACK	0x3000
#define CPU_TRAP_STACK	0x4000

#define TRAMPOLINE	0x8000

#define IPI_VECTOR	0xf0
#define USER_VECTOR	0x80

/* Offsets into struct regs. */
#define R_RAX		0
#define R_RCX		8
#define R_RDX		16
#define R_RBX		24
#define R_RBP		32
#define R_RSI		40
#define R_RDI		48
#define R_R8		56
#define R_R9		64
#define R_R10		72
#define R_R11		80
#define R_R12		88
#define R_R13		96
#define R_R14		104
#define R_R15		112
#define R_RFLAGS	120

#endif
