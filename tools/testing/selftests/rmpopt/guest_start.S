/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where vCPUs of the test guest start, where exceptions arrive, and each access
 * that may raise #VC because the page is not validated.
 */
#include "guest_code.h"

#define NR_VECTORS	32
/* #DF, #TS to #PF, #AC, #CP, #VC and #SX have an error code. */
#define ERROR_CODES	(1 << 8 | 0x1f << 10 | 1 << 17 | 1 << 21 | 3 << 29)

	.section .text.start, "ax"
	.globl guest_start
/* EDI: number of the vCPU */
guest_start:
	movl	%edi, %eax
	incl	%eax
	imull	$GUEST_STACK_SIZE, %eax, %eax
	leaq	GUEST_STACKS(%rax), %rsp
	xorl	%ebp, %ebp
	/*
	 * Read the GDT, so that it is mapped by the time of the first exception. If a
	 * nested page fault stops the delivery of #VC, KVM does not inject it again: the
	 * access is repeated, and #VC counts twice.
	 */
	movl	$GUEST_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	call	guest_main
1:	jmp	1b

	.text
/* Vectors are 16 bytes apart. The error code is 0 if the CPU pushes none. */
	.balign	16
	.globl guest_vectors
guest_vectors:
	vector = 0
	.rept	NR_VECTORS
	.balign	16
	.if !((ERROR_CODES >> vector) & 1)
	pushq	$0
	.endif
	pushq	$vector
	jmp	exception
	vector = vector + 1
	.endr

exception:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	pushq	%rsi
	pushq	%rdi
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	cld
	movq	%rsp, %rdi
	call	guest_exception
	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rdi
	popq	%rsi
	popq	%rdx
	popq	%rcx
	popq	%rax
	addq	$16, %rsp
	iretq

/*
 * Functions of which guest_exception() knows that they may find a page that is not
 * validated. They return 0, or NOT_VALIDATED.
 */
	.globl guest_access, guest_access_end, guest_access_failed
guest_access:
	.globl guest_store
guest_store:
	movq	%rsi, (%rdi)
	xorl	%eax, %eax
	ret

	.globl guest_load
guest_load:
	movq	(%rdi), %rax
	movq	%rax, (%rsi)
	xorl	%eax, %eax
	ret

/* The result goes to (%rdx), with bit 32 set if the page was already so. */
	.globl guest_pvalidate
guest_pvalidate:
	movq	%rdx, %r8
	movq	%rdi, %rax
	xorl	%ecx, %ecx
	movl	%esi, %edx
	/* pvalidate */
	.byte	0xf2, 0x0f, 0x01, 0xff
	setc	%cl
	movl	%eax, %eax
	movzbl	%cl, %ecx
	shlq	$32, %rcx
	orq	%rcx, %rax
	movq	%rax, (%r8)
	xorl	%eax, %eax
	ret

/* The result goes to (%rdx). */
	.globl guest_rmpadjust
guest_rmpadjust:
	movq	%rdx, %r8
	movq	%rdi, %rax
	xorl	%ecx, %ecx
	movq	%rsi, %rdx
	/* rmpadjust */
	.byte	0xf3, 0x0f, 0x01, 0xfe
	movl	%eax, %eax
	movq	%rax, (%r8)
	xorl	%eax, %eax
	ret
guest_access_end:

guest_access_failed:
	movl	$1, %eax
	ret

	.section .note.GNU-stack, "", @progbits
