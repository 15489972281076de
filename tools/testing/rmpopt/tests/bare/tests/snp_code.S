/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The code of an SNP guest, which runs at another address. It does one thing at a time, as
 * the mailbox at R15 says, and then ends by VMGEXIT. Exceptions go to the mailbox as well.
 * R13 is the top of its stack. Nobody but the guest sees or changes its registers.
 */
#include "layout.h"
#include "snp_code.h"

	.text
	.balign 4096
	.globl snp_code, snp_stubs, snp_code_end
	.globl snp_load, snp_store, snp_fetch, snp_pvalidate, snp_rmpadjust, snp_rmpquery, snp_copy
	.globl snp_load_store, snp_load_fetch, snp_fetch_store, snp_legacy, snp_withdrawn, snp_rdmsr
	.globl snp_user, snp_user_load, snp_user_fetch, snp_user_pvalidate
	.globl snp_user_rmpadjust, snp_spin_load, snp_spin_store, snp_withdraw, snp_nothing
snp_code:
	/* vmgexit */
	.byte	0xf3, 0x0f, 0x01, 0xd9
	movq	%r13, %rsp
	pushq	BOX_RFLAGS(%r15)
	movq	BOX_RAX(%r15), %rax
	movq	BOX_RCX(%r15), %rcx
	movq	BOX_RDX(%r15), %rdx
	movq	BOX_RBX(%r15), %rbx
	movq	BOX_RSI(%r15), %rsi
	movq	BOX_RDI(%r15), %rdi
	popfq
	jmpq	*BOX_TARGET(%r15)
snp_done:
	movq	%rax, BOX_OUT_RAX(%r15)
	movq	%rcx, BOX_OUT_RCX(%r15)
	movq	%rdx, BOX_OUT_RDX(%r15)
	pushfq
	popq	BOX_OUT_RFLAGS(%r15)
	jmp	snp_code

snp_nothing:
	jmp	snp_done
snp_load:
	movq	(%rbx), %rax
	jmp	snp_done
snp_store:
	movq	%rax, (%rbx)
	jmp	snp_done
snp_fetch:
	callq	*%rbx
	jmp	snp_done
snp_pvalidate:
	.byte	0xf2, 0x0f, 0x01, 0xff
	jmp	snp_done
snp_rmpadjust:
	.byte	0xf3, 0x0f, 0x01, 0xfe
	jmp	snp_done
snp_rmpquery:
	.byte	0xf3, 0x0f, 0x01, 0xfd
	jmp	snp_done
snp_copy:
	rep movsb
	jmp	snp_done
snp_rdmsr:
	rdmsr
	jmp	snp_done
/* Two accesses, of which the first fills the TLB */
snp_load_store:
	movq	(%rbx), %rax
	movq	%rax, (%rbx)
	jmp	snp_done
snp_load_fetch:
	movq	(%rbx), %rax
	callq	*%rbx
	jmp	snp_done
snp_fetch_store:
	callq	*%rbx
	movq	%rax, (%rbx)
	jmp	snp_done
/* Reads, takes the page's validation away, and reads again. */
snp_withdraw:
	movq	(%rbx), %rsi
	movq	%rbx, %rax
	xorl	%ecx, %ecx
	xorl	%edx, %edx
	.byte	0xf2, 0x0f, 0x01, 0xff
snp_withdrawn:
	movq	(%rbx), %rdx
	jmp	snp_done
snp_spin_load:
	movq	(%rbx), %rax
	incq	BOX_COUNT(%r15)
	cmpq	$0, BOX_STOP(%r15)
	je	snp_spin_load
	jmp	snp_done
snp_spin_store:
	movq	%rax, (%rbx)
	incq	BOX_COUNT(%r15)
	cmpq	$0, BOX_STOP(%r15)
	je	snp_spin_store
	jmp	snp_done

/* At CPL 3, where RDX is; it comes back by #UD. */
snp_user:
	leaq	-0x400(%r13), %rsi
	pushq	$USER_DS
	pushq	%rsi
	pushq	$2
	pushq	$USER_CS
	pushq	%rdx
	movq	BOX_RSI(%r15), %rdx
	iretq
snp_user_load:
	movq	(%rbx), %rax
	ud2
snp_user_fetch:
	callq	*%rbx
	ud2
snp_user_pvalidate:
	.byte	0xf2, 0x0f, 0x01, 0xff
	ud2
snp_user_rmpadjust:
	.byte	0xf3, 0x0f, 0x01, 0xfe
	ud2

/* Of a vCPU without 64-bit mode, paged or not: it does nothing else. */
	.code32
snp_legacy:
	.byte	0xf3, 0x0f, 0x01, 0xd9
	movl	(%ebx), %eax
	jmp	snp_legacy
	.code64

	.balign 16
snp_stubs:
	.set	v, 0
	.rept	32
	.balign	16
	.if !(v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21 || v == 29 || v == 30)
	pushq	$0
	.endif
	pushq	$v
	jmp	snp_trap
	.set	v, v + 1
	.endr
snp_trap:
	popq	BOX_VECTOR(%r15)
	popq	BOX_ERROR(%r15)
	popq	BOX_RIP(%r15)
	popq	BOX_CS(%r15)
	popq	BOX_AT_RFLAGS(%r15)
	popq	BOX_AT_RSP(%r15)
	movq	%r13, %rsp
	movq	%rax, %rsi
	movq	%cr2, %rax
	movq	%rax, BOX_CR2(%r15)
	movq	%rsi, %rax
	jmp	snp_done
snp_code_end:

	.section .note.GNU-stack, "", @progbits
