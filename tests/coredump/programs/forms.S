/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Code without call frame information, for forms.c to copy to BASE. It keeps frame pointers,
 * but for what `odd` functions say.
 *
 * `form_N` calls `form_N+1` by one form of x86-64's call instruction each, the last one C.
 * `odd_N` have their caller's address from elsewhere, behind bytes that are nearly a call.
 */
#define BASE 0x20000000
#define AT(label) (BASE + label - code)

	.section .rodata
	.globl code, code_end, last, parks, targets, odds, odds_end
	.balign 4096
code:

/* The very first code: no seven bytes lie before the address where this call returns to. */
first:	call	form_15
	leave
	ret

.macro enter name
	.balign 16
\name:	push	%rbp
	mov	%rsp, %rbp
.endm

.macro exit
	leave
	ret
.endm

enter form_0
	call	form_1
	exit
enter form_1
	mov	targets+2*8(%rip), %rax
	call	*%rax
	exit
enter form_2
	mov	targets+3*8(%rip), %r11
	call	*%r11
	exit
enter form_3
	lea	targets+4*8(%rip), %rcx
	call	*(%rcx)
	exit
enter form_4
	lea	targets+5*8(%rip), %r11
	call	*(%r11)
	exit
enter form_5
	lea	targets(%rip), %rdx
	call	*6*8(%rdx)
	exit
enter form_6
	lea	targets(%rip), %rax
	mov	$7, %ecx
	call	*(%rax, %rcx, 8)
	exit
enter form_7
	push	%rax
	push	targets+8*8(%rip)
	call	*(%rsp)
	exit
enter form_8
	push	targets+9*8(%rip)
	push	%rax
	call	*8(%rsp)
	exit
enter form_9
	lea	targets-0x1000(%rip), %rsi
	call	*0x1000+10*8(%rsi)
	exit
enter form_10
	call	*targets+11*8(%rip)
	exit
enter form_11
	lea	targets-0x1000(%rip), %rax
	mov	$12, %ecx
	call	*0x1000(%rax, %rcx, 8)
	exit
enter form_12
	mov	$13, %edi
	call	*AT(targets)(, %rdi, 8)
	exit
enter form_13
	call	*AT(targets)+14*8
	exit
enter form_14
	lea	targets(%rip), %rdi
	call	*15*8(%rdi)
	exit
enter form_15
	mov	parks(%rip), %rax
	call	*%rax
	exit

	.balign 16
targets:
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	.quad	AT(form_\n)
	.endr
parks:	.quad	0
last:	.quad	AT(form_15)

/* Push an address that no call pushed, and jump; `bytes` lie before the address. */
.macro odd n, bytes:vararg
enter odd_\n
	lea	1f(%rip), %rax
	push	%rax
	jmp	form_15
	.balign 16, 0xcc
	.byte	\bytes
1:	exit
.endm

odd 0, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc
odd 1, 0xcc, 0xcc, 0xe8, 0x00, 0x00, 0x00, 0x40 /* a call of nothing that there is */
odd 2, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xff, 0xc8 /* dec */
odd 3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xff, 0x14
odd 4, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xd0
odd 5, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0x10
odd 6, 0xcc, 0xcc, 0xcc, 0xcc, 0xff, 0x54, 0xcc
odd 7, 0xcc, 0xcc, 0xcc, 0xcc, 0xff, 0x14, 0x25
odd 8, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0x50, 0x08
odd 9, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0x14, 0xc8
odd 10, 0xcc, 0xcc, 0xcc, 0xff, 0x64, 0x24, 0x08 /* jmp */
odd 11, 0xcc, 0xcc, 0xcc, 0xcc, 0x54, 0x24, 0x08
odd 12, 0xcc, 0xff, 0x94, 0xcc, 0xcc, 0xcc, 0xcc
odd 13, 0xcc, 0xcc, 0x15, 0xcc, 0xcc, 0xcc, 0xcc
odd 14, 0xcc, 0xcc, 0x90, 0xcc, 0xcc, 0xcc, 0xcc
odd 15, 0xff, 0x14, 0xc8, 0xcc, 0xcc, 0xcc, 0xcc
odd 16, 0xcc, 0x94, 0xc8, 0xcc, 0xcc, 0xcc, 0xcc
odd 17, 0xcc, 0x14, 0xc5, 0xcc, 0xcc, 0xcc, 0xcc
odd 18, 0xff, 0xa4, 0xc5, 0xcc, 0xcc, 0xcc, 0xcc
/* The frame pointer below the stack, as far above it as it may be, farther, and zero. */
enter odd_19
	mov	parks(%rip), %rax
	lea	-4096(%rsp), %rbp
	call	*%rax
enter odd_20
	mov	parks(%rip), %rax
	sub	$0x80000, %rsp
	call	*%rax
enter odd_21
	mov	parks(%rip), %rax
	sub	$0x80010, %rsp
	call	*%rax
enter odd_22
	mov	parks(%rip), %rax
	xor	%ebp, %ebp
	call	*%rax
/* What was saved of it: zero; zero, and no caller; and below a caller in the same memory:
 * itself, too much, as much as may be. */
enter odd_23
	movq	$0, (%rbp)
	call	form_15
enter odd_24
	movq	$0, (%rbp)
	movq	$0, 8(%rbp)
	call	form_15
enter odd_25
	call	1f
	exit
1:	push	%rbp
	mov	%rsp, %rbp
	mov	%rsp, (%rbp)
	call	form_15
enter odd_26
	call	1f
	exit
1:	push	%rbp
	mov	%rsp, %rbp
	addq	$0x100000, (%rbp)
	call	form_15
enter odd_27
	call	1f
	exit
1:	push	%rbp
	mov	%rsp, %rbp
	lea	0x80000(%rbp), %rcx
	mov	%rcx, (%rbp)
	call	form_15
/* A saved one, and no caller. */
enter odd_28
	lea	64(%rbp), %rcx
	mov	%rcx, (%rbp)
	movq	$0, 8(%rbp)
	call	form_15
/* A call by the first bytes of the memory, and by the last (LAST is one of form_15). */
#define LAST (BASE + 0x10000 - 5)
enter odd_29
	jmp	first
enter odd_30
	mov	$LAST, %eax
	jmp	*%rax
enter odd_31
	mov	$LAST, %eax
	xor	%ebp, %ebp
	jmp	*%rax
odd 32, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xff, 0x15
code_end:

odds:
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32
	.quad	AT(odd_\n)
	.endr
odds_end:
	.section .note.GNU-stack,"",@progbits
