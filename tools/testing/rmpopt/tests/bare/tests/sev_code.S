/* SPDX-License-Identifier: GPL-2.0-only */
/* A guest in 64-bit mode that looks at all its registers, and then changes them. */
#include "layout.h"
#include "sev_code.h"

	.macro see n
	movq	%rax, sev_seen + 8 * (\n)
	.endm

	.macro each_gpr op
	\op	%rax, 0
	\op	%rcx, 1
	\op	%rdx, 2
	\op	%rbx, 3
	\op	%rsp, 4
	\op	%rbp, 5
	\op	%rsi, 6
	\op	%rdi, 7
	\op	%r8, 8
	\op	%r9, 9
	\op	%r10, 10
	\op	%r11, 11
	\op	%r12, 12
	\op	%r13, 13
	\op	%r14, 14
	\op	%r15, 15
	.endm
	.macro see_gpr reg, n
	movq	\reg, sev_seen + 8 * (SEEN_GPR + \n)
	.endm
	.macro new_gpr reg, n
	movq	sev_new_gprs + 8 * \n, \reg
	.endm

	.text
	.globl sev_registers, sev_registers_end
sev_registers:
	each_gpr see_gpr
	pushfq
	popq	sev_seen + 8 * SEEN_RFLAGS
	movq	%cr0, %rax
	see	SEEN_CR0
	movq	%cr2, %rax
	see	SEEN_CR2
	movq	%cr3, %rax
	see	SEEN_CR3
	movq	%cr4, %rax
	see	SEEN_CR4
	movq	%dr6, %rax
	see	SEEN_DR6
	movq	%dr7, %rax
	see	SEEN_DR7
	xorl	%eax, %eax
	movw	%es, %ax
	see	SEEN_SEG
	movw	%cs, %ax
	see	SEEN_SEG + 1
	movw	%ss, %ax
	see	SEEN_SEG + 2
	movw	%ds, %ax
	see	SEEN_SEG + 3
	movw	%fs, %ax
	see	SEEN_SEG + 4
	movw	%gs, %ax
	see	SEEN_SEG + 5
	sldt	%ax
	see	SEEN_LDTR
	str	%ax
	see	SEEN_TR
	sgdt	sev_seen + 8 * SEEN_GDTR
	sidt	sev_seen + 8 * SEEN_IDTR
	xorl	%ecx, %ecx
	xgetbv
	see	SEEN_XCR0
	cmpl	$0, sev_has_pku
	je	1f
	xorl	%ecx, %ecx
	rdpkru
	see	SEEN_PKRU
1:	xorl	%ebx, %ebx
2:	movl	sev_msrs(, %rbx, 4), %ecx
	rdmsr
	shlq	$32, %rdx
	orq	%rdx, %rax
	movq	%rax, sev_seen + 8 * SEEN_MSR(, %rbx, 8)
	incl	%ebx
	cmpl	$NR_SEV_MSRS, %ebx
	jb	2b
	fxsave64 sev_fxsave
	.set	n, 0
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovdqu	%ymm\n, sev_ymm + 32 * \n
	.endr

	/* The stack of x87 is at its start, and full but for one. */
	fninit
	fldz
	fld1
	fldpi
	fldl2t
	fldl2e
	fldlg2
	fldln2
	fld1
	ffree	%st(2)
	fldcw	sev_new_fcw
	ldmxcsr	sev_new_mxcsr
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovdqu	sev_new_ymm + 32 * \n, %ymm\n
	.endr
	xorl	%ecx, %ecx
	xorl	%edx, %edx
	movl	sev_new_xcr0, %eax
	xsetbv
	cmpl	$0, sev_has_pku
	je	3f
	movl	sev_new_pkru, %eax
	wrpkru
3:	lgdt	sev_new_gdtr
	lidt	sev_new_idtr
	movl	$KERNEL_DS, %eax
	movl	%eax, %es
	movl	%eax, %ss
	movl	%eax, %ds
	movl	%eax, %fs
	movl	%eax, %gs
	xorl	%eax, %eax
	lldt	%ax
	xorl	%ebx, %ebx
4:	movl	sev_msrs(, %rbx, 4), %ecx
	movl	sev_new_msrs(, %rbx, 8), %eax
	movl	sev_new_msrs + 4(, %rbx, 8), %edx
	wrmsr
	incl	%ebx
	cmpl	$NR_SEV_MSRS, %ebx
	jb	4b
	movq	sev_new_cr2, %rax
	movq	%rax, %cr2
	movq	sev_new_cr0, %rax
	movq	%rax, %cr0
	movq	sev_new_cr3, %rax
	movq	%rax, %cr3
	movq	sev_new_cr4, %rax
	movq	%rax, %cr4
	movq	sev_new_dr6, %rax
	movq	%rax, %dr6
	movq	sev_new_dr7, %rax
	movq	%rax, %dr7
	pushq	sev_new_rflags
	popfq
	each_gpr new_gpr
	/* vmgexit */
	.byte	0xf3, 0x0f, 0x01, 0xd9
sev_registers_end:

/* void see_fpu(void): what the hypervisor has in sev_fxsave and sev_ymm. */
	.globl see_fpu
see_fpu:
	fxsave64 sev_fxsave
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovdqu	%ymm\n, sev_ymm + 32 * \n
	.endr
	ret

/* void set_fpu(void): x87 and vector registers that differ from all others. */
	.globl set_fpu
set_fpu:
	fninit
	fldl2e
	fldpi
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vpcmpeqd %ymm\n, %ymm\n, %ymm\n
	.endr
	ret

	.section .note.GNU-stack, "", @progbits
