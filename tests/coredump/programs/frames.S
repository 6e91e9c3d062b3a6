/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Functions whose frames are found in unusual ways, for frames.c; all of it is true but `lies_`. */
	.text

	.macro function name
	.globl \name
	.balign 16
	.type \name, @function
\name:
	.cfi_startproc
	.endm

	.macro end name
	.cfi_endproc
	.size \name, . - \name
	.endm

/* Tell that this thread is there, and stay. */
	.macro spin
	lock incl spinning(%rip)
9:	pause
	jmp	9b
	.endm

/* The frame in one register: a signal comes while it is there. */
	.irp reg, rax, rbx, rcx, rdx, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	function in_\reg
	lea	8(%rsp), %\reg
	.cfi_def_cfa \reg, 0
	sub	$0x58, %rsp
	spin
	end in_\reg
	.endr

	function in_rbp
	push	%rbp
	.cfi_adjust_cfa_offset 8
	.cfi_offset rbp, -16
	mov	%rsp, %rbp
	.cfi_def_cfa_register rbp
	sub	$0x50, %rsp
	spin
	end in_rbp

/* The caller's address in a register, as in vfork() of glibc. */
	.irp reg, rcx, r9
	function back_in_\reg
	pop	%\reg
	.cfi_adjust_cfa_offset -8
	.cfi_register rip, \reg
	spin
	end back_in_\reg
	.endr

/* The caller's frame pointer in another register, and beside another one. */
	function moved_rbp
	mov	%rbp, %rdx
	.cfi_register rbp, rdx
	xor	%ebp, %ebp
	spin
	end moved_rbp

	function aside_rbp
	lea	aside(%rip), %rdx
	mov	%rbp, 16(%rdx)
	.cfi_escape 0x10, 6, 2, 0x71, 16 /* DW_CFA_expression rbp: DW_OP_breg1 (rdx) + 16 */
	xor	%ebp, %ebp
	spin
	end aside_rbp

/* The frame in memory, as in OpenSSL: a saved stack pointer, before or behind what was pushed. */
	function saved
	mov	%rsp, %rax
	sub	$0x98, %rsp
	and	$-64, %rsp
	mov	%rax, 24(%rsp)
	.cfi_escape 0x0f, 5, 0x77, 24, 0x06, 0x23, 8 /* breg7 (rsp) + 24, deref, plus_uconst 8 */
	call	park
	end saved

/* A handler that clears what the code that it interrupts has in its registers. */
	function clears
	.cfi_undefined rbp
	.cfi_undefined rbx
	sub	$8, %rsp
	.cfi_adjust_cfa_offset 8
	xor	%ebp, %ebp
	xor	%ebx, %ebx
	.irp reg, rax, rcx, rdx, r8, r9, r10, r11, r12, r13, r14, r15
	mov	$0, %\reg
	.endr
	call	park
	end clears

/* The frame in a register that its callee saves, leaves alone, loses, or that nobody follows. */
	function saves_rbx
	push	%rbx
	.cfi_adjust_cfa_offset 8
	.cfi_offset rbx, -16
	xor	%ebx, %ebx
	call	park
	end saves_rbx

	function loses_rbx
	.cfi_undefined rbx
	sub	$8, %rsp
	.cfi_adjust_cfa_offset 8
	xor	%ebx, %ebx
	call	park
	end loses_rbx

	.macro over name, reg, callee
	function \name
	lea	8(%rsp), %\reg
	.cfi_def_cfa \reg, 0
	sub	$0x58, %rsp
	call	\callee
	end \name
	.endm
	over over_saved, rbx, saves_rbx
	over over_kept, rbx, park
	over over_lost, rbx, loses_rbx
	over over_r12, r12, park

/* A frame that is where it cannot be. */
	function lies_below
	sub	$0x18, %rsp
	lea	-64(%rsp), %rbp
	.cfi_def_cfa rbp, 16
	call	park
	end lies_below

	function lies_here
	sub	$0x18, %rsp
	mov	%rsp, %rbp
	.cfi_def_cfa rbp, 0
	call	park
	end lies_here

	.section .note.GNU-stack,"",@progbits
