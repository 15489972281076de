/* SPDX-License-Identifier: GPL-2.0-only */
/* Entry from the boot loader and from SIPI, trap stubs, and mode changes. */
#include "layout.h"

#define MB_MAGIC	0x1badb002
#define MB_FLAGS	0x00000003

	.section .multiboot, "ax"
	.balign 8
	.long MB_MAGIC, MB_FLAGS, -(MB_MAGIC + MB_FLAGS)

	.text
	.code32
	.globl start
start:
	cli
	cld
	movl	%ebx, mb_info
	movl	%eax, mb_magic
	movl	$boot_block_top, %esp

	/* Identity map of the first 512 GB, open to user mode, by 1 GB pages. */
	movl	$pdpt + 7, pml4
	xorl	%ecx, %ecx
1:	movl	%ecx, %eax
	shll	$30, %eax
	orl	$0xe7, %eax
	movl	%eax, pdpt(, %ecx, 8)
	movl	%ecx, %eax
	shrl	$2, %eax
	movl	%eax, pdpt + 4(, %ecx, 8)
	incl	%ecx
	cmpl	$512, %ecx
	jb	1b

	call	enter_long
	lgdt	gdtr
	ljmp	$KERNEL_CS, $start64

/* Paging and long mode on. Clobbers all but the stack. */
enter_long:
	movl	%cr4, %eax
	orl	$0x20, %eax
	movl	%eax, %cr4
	movl	$pml4, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$0x100, %eax
	wrmsr
	movl	%cr0, %eax
	/* PG, WP, NE, MP, PE; caches on. */
	andl	$0x9fffffff, %eax
	orl	$0x80010023, %eax
	movl	%eax, %cr0
	ret

	.code64
start64:
	call	load_data_segments
	movq	$boot_block_top, %rsp
	call	boot_main
1:	cli
	hlt
	jmp	1b

load_data_segments:
	movl	$KERNEL_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	xorl	%eax, %eax
	movl	%eax, %fs
	movl	%eax, %gs
	ret

/* Real mode code of the other vCPUs, copied to TRAMPOLINE. */
	.code16
	.globl trampoline_start, trampoline_end
trampoline_start:
	cli
	cld
	xorw	%ax, %ax
	movw	%ax, %ds
	lgdtl	TRAMPOLINE + (tramp_gdtr - trampoline_start)
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$0x38, $ap32
tramp_gdtr:
	.word	gdt_end - gdt - 1
	.long	gdt
trampoline_end:

	.code32
ap32:
	movl	$KERNEL_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	/* Which of the known vCPUs, or a new one? */
	movl	$1, %eax
	cpuid
	shrl	$24, %ebx
	movzbl	apic_to_cpu(%ebx), %edi
	cmpl	$0xff, %edi
	jne	1f
	movl	$1, %edi
	lock xaddl %edi, cpus_started
	cmpl	$MAX_CPUS, %edi
	jae	2f
	movl	%edi, %eax
	movb	%al, apic_to_cpu(%ebx)
1:	movl	%edi, %esp
	incl	%esp
	shll	$CPU_SHIFT, %esp
	addl	$cpu_blocks, %esp
	call	enter_long
	ljmp	$KERNEL_CS, $ap64
2:	cli
	hlt
	jmp	2b

	.code64
ap64:
	movl	%edi, %ebx
	call	load_data_segments
	movl	%ebx, %edi
	movl	%ebx, %eax
	incl	%eax
	shll	$CPU_SHIFT, %eax
	leaq	cpu_blocks(%rax), %rsp
	call	ap_main
1:	cli
	hlt
	jmp	1b

/* Traps: one stub a vector, all to trap_handler(struct frame *). */
	.macro STUB vector, has_error=0
	.balign 16
	.if \has_error == 0
	pushq	$0
	.endif
	pushq	$\vector
	jmp	trap_common
	.endm

	.balign 16
	.globl trap_stubs
trap_stubs:
	.set	v, 0
	.rept	32
	.if v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21 || v == 29 || v == 30
	STUB	v, 1
	.else
	STUB	v, 0
	.endif
	.set	v, v + 1
	.endr
	.balign 16
	.globl stub_ipi
stub_ipi:
	pushq	$0
	pushq	$IPI_VECTOR
	jmp	trap_common
	.globl stub_user
stub_user:
	pushq	$0
	pushq	$USER_VECTOR
	jmp	trap_common

trap_common:
	cld
	pushq	%r15
	pushq	%r14
	pushq	%r13
	pushq	%r12
	pushq	%r11
	pushq	%r10
	pushq	%r9
	pushq	%r8
	pushq	%rdi
	pushq	%rsi
	pushq	%rbp
	pushq	%rbx
	pushq	%rdx
	pushq	%rcx
	pushq	%rax
	movq	%rsp, %rdi
	movq	%rsp, %rbp
	andq	$-16, %rsp
	call	trap_handler
	movq	%rbp, %rsp
	popq	%rax
	popq	%rcx
	popq	%rdx
	popq	%rbx
	popq	%rbp
	popq	%rsi
	popq	%rdi
	popq	%r8
	popq	%r9
	popq	%r10
	popq	%r11
	popq	%r12
	popq	%r13
	popq	%r14
	popq	%r15
	addq	$16, %rsp
	iretq

/* What a C function leaves as it finds it */
	.macro save_callee
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	.endm
	.macro return_callee
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret
	.endm

/*
 * void snippet_call(struct regs *regs, void *code): loads all registers but RSP,
 * calls the code, stores all registers. A fault in the code continues at its RET.
 */
	.globl snippet_call
snippet_call:
	save_callee
	pushq	%rdi
	pushq	R_RFLAGS(%rdi)
	popfq
	pushq	$1f
	pushq	%rsi
	movq	R_RAX(%rdi), %rax
	movq	R_RCX(%rdi), %rcx
	movq	R_RDX(%rdi), %rdx
	movq	R_RBX(%rdi), %rbx
	movq	R_RBP(%rdi), %rbp
	movq	R_RSI(%rdi), %rsi
	movq	R_R8(%rdi), %r8
	movq	R_R9(%rdi), %r9
	movq	R_R10(%rdi), %r10
	movq	R_R11(%rdi), %r11
	movq	R_R12(%rdi), %r12
	movq	R_R13(%rdi), %r13
	movq	R_R14(%rdi), %r14
	movq	R_R15(%rdi), %r15
	movq	R_RDI(%rdi), %rdi
	ret
1:	pushfq
	pushq	%rdi
	movq	16(%rsp), %rdi
	movq	%rax, R_RAX(%rdi)
	movq	%rcx, R_RCX(%rdi)
	movq	%rdx, R_RDX(%rdi)
	movq	%rbx, R_RBX(%rdi)
	movq	%rbp, R_RBP(%rdi)
	movq	%rsi, R_RSI(%rdi)
	movq	%r8, R_R8(%rdi)
	movq	%r9, R_R9(%rdi)
	movq	%r10, R_R10(%rdi)
	movq	%r11, R_R11(%rdi)
	movq	%r12, R_R12(%rdi)
	movq	%r13, R_R13(%rdi)
	movq	%r14, R_R14(%rdi)
	movq	%r15, R_R15(%rdi)
	popq	R_RDI(%rdi)
	popq	R_RFLAGS(%rdi)
	addq	$8, %rsp
	return_callee

/* All but RAX and RSP to the struct regs at RAX */
	.macro store_regs
	movq	%rcx, R_RCX(%rax)
	movq	%rdx, R_RDX(%rax)
	movq	%rbx, R_RBX(%rax)
	movq	%rbp, R_RBP(%rax)
	movq	%rsi, R_RSI(%rax)
	movq	%rdi, R_RDI(%rax)
	movq	%r8, R_R8(%rax)
	movq	%r9, R_R9(%rax)
	movq	%r10, R_R10(%rax)
	movq	%r11, R_R11(%rax)
	movq	%r12, R_R12(%rax)
	movq	%r13, R_R13(%rax)
	movq	%r14, R_R14(%rax)
	movq	%r15, R_R15(%rax)
	.endm

/*
 * void svm_enter(struct vmcb *vmcb, struct regs *regs): loads all registers but
 * RAX and RSP, runs the guest until #VMEXIT, stores all registers but these. FS, GS,
 * TR and LDTR stay those of the host. Interrupts are closed, before and after.
 */
	.globl svm_enter
svm_enter:
	save_callee
	pushq	%rsi
	pushq	%rdi
	movq	%rsi, %rax
	movq	R_RCX(%rax), %rcx
	movq	R_RDX(%rax), %rdx
	movq	R_RBX(%rax), %rbx
	movq	R_RBP(%rax), %rbp
	movq	R_RSI(%rax), %rsi
	movq	R_RDI(%rax), %rdi
	movq	R_R8(%rax), %r8
	movq	R_R9(%rax), %r9
	movq	R_R10(%rax), %r10
	movq	R_R11(%rax), %r11
	movq	R_R12(%rax), %r12
	movq	R_R13(%rax), %r13
	movq	R_R14(%rax), %r14
	movq	R_R15(%rax), %r15
	movq	(%rsp), %rax
	vmrun	%rax
	stgi
	movq	8(%rsp), %rax
	store_regs
	addq	$16, %rsp
	return_callee

/*
 * void es_enter(struct vmcb *vmcb, struct regs *host): runs an SEV-ES guest until #VMEXIT, which
 * gives registers of the hypervisor any value. Physical interrupts are open meanwhile.
 */
	.globl es_enter
es_enter:
	save_callee
	pushq	%rsi
	movq	%rdi, %rax
	clgi
	sti
	vmrun	%rax
	cli
	stgi
	pushq	%rax
	movq	8(%rsp), %rax
	store_regs
	popq	R_RAX(%rax)
	addq	$8, %rsp
	cld
	return_callee

/* Where the vectors of an SEV-ES guest lead: RIP tells which it was. */
	.balign 4096
	.globl es_stubs
es_stubs:
	.rept	256
	.balign 16
	/* vmgexit */
	.byte	0xf3, 0x0f, 0x01, 0xd9
	.endr
	.balign 16

/*
 * void user_call(u64 a, u64 b, void *fn, u64 user_rsp, u64 *saved_rsp): runs
 * fn(a, b) at CPL 3. It comes back through USER_VECTOR and user_back.
 */
	.globl user_call
user_call:
	save_callee
	movq	%rsp, (%r8)
	movq	$user_exit, -8(%rcx)
	subq	$8, %rcx
	pushq	$USER_DS
	pushq	%rcx
	pushq	$2
	pushq	$USER_CS
	pushq	%rdx
	iretq
user_exit:
	int	$USER_VECTOR
	.globl user_back
user_back:
	return_callee

/*
 * void compat_call(u32 rax, u32 rcx, void *code): the code runs in 32-bit
 * compatibility mode at CPL 0, and ends with a far jump to compat_back.
 */
	.globl compat_call
compat_call:
	save_callee
	movl	%edi, %eax
	movl	%esi, %ecx
	pushq	$COMPAT_CS
	pushq	%rdx
	lretq
	.globl compat_back
compat_back:
	return_callee

	.data
	.balign 16
	.globl gdt
gdt:
	.quad	0
	/* 64-bit code, data, 32-bit code, user data, user 64-bit code. */
	.quad	0x00af9b000000ffff
	.quad	0x00cf93000000ffff
	.quad	0x00cf9b000000ffff
	.quad	0x00cff3000000ffff
	.quad	0x00affb000000ffff
	.quad	0
	/* 0x38: 32-bit code on the way up. */
	.quad	0x00cf9b000000ffff
	.fill	MAX_CPUS * 2, 8, 0
gdt_end:
	.globl gdtr
gdtr:
	.word	gdt_end - gdt - 1
	.quad	gdt

	.globl mb_info, mb_magic, cpus_started, apic_to_cpu
mb_info:
	.long	0
mb_magic:
	.long	0
cpus_started:
	.long	1
apic_to_cpu:
	.fill	256, 1, 0xff

	.bss
	.balign 4096
	.globl pml4, cpu_blocks
pml4:
	.skip	4096
	.globl pdpt
pdpt:
	.skip	4096
	.balign CPU_SIZE
cpu_blocks:
	.skip	CPU_SIZE
boot_block_top:
	.skip	CPU_SIZE * (MAX_CPUS - 1)

	.section .note.GNU-stack, "", @progbits
