/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* What an instruction does to rsp, rbp and the flow (Intel SDM volume 2). */
#include "x86_decoder.h"

enum { RSP = 4, RBP = 5 };

static void set(struct oa_insn *insn, u32 kind, u8 reg, s64 value)
{
	insn->kind = (u8)kind;
	insn->reg = reg;
	insn->value = (s32)value;
}

enum { RAX = 1 << 0, RCX = 1 << 1, RDX = 1 << 2, RSI = 1 << 6, RDI = 1 << 7 };

/* A register that is written. */
static void lose(struct oa_insn *insn, u8 reg)
{
	insn->writes |= 1u << (reg & 15);
	if (reg == RSP)
		insn->kind = OA_INSN_LOSE_SP;
	else if (reg == RBP && insn->kind != OA_INSN_LOSE_SP)
		insn->kind = OA_INSN_LOSE_BP;
}

/* Byte operations reach spl and bpl only with REX. */
static int is_byte(const struct oa_decoder *d)
{
	if (d->map == 1)
		return (d->op & 0xf0) == 0x90 || d->op == 0xb0 || d->op == 0xc0;
	if (d->map || d->op >= 0xd8)
		return !d->map && (d->op == 0xf6 || d->op == 0xfe);
	if (d->op < 0x40 || (d->op >= 0x80 && d->op < 0x8c) || d->op >= 0xc0)
		return !(d->op & 1) && d->op != 0x82;
	return 0;
}

static void general_writes(const struct oa_decoder *d, struct oa_insn *insn)
{
	if (is_byte(d) && !d->rex && !d->vector) { /* al to bl, then ah to bh */
		insn->writes |= 1u << (d->reg & 3) | 1u << (d->rm & 3);
		return;
	}
	if (d->flags & W)
		lose(insn, d->reg);
	if (d->flags & R && d->mod == 3)
		lose(insn, d->rm);
	if (d->vector && d->map == 2 && (d->op == 0xf3 || d->op == 0xf6))
		lose(insn, d->vvvv);
}

/* mov, lea and arithmetic on rsp and rbp, in the forms that compilers make. */
static void stack_arithmetic(const struct oa_decoder *d, struct oa_insn *insn)
{
	u8 to, from;

	general_writes(d, insn);
	if (!(d->rex & 8)) /* 32 bits: that loses it */
		return;
	switch (d->op) {
	case 0x81:
	case 0x83:
		if (d->mod == 3 && d->rm == RSP && (d->sub == 0 || d->sub == 5))
			set(insn, OA_INSN_ADD_SP, RSP, d->sub ? -d->imm : d->imm);
		return;
	case 0x8d:
		if (d->is_relative && insn->kind == OA_INSN_OTHER)
			set(insn, OA_INSN_ADDRESS, d->reg, d->disp);
		if (d->base != RSP && d->base != RBP)
			return;
		if (d->reg == RSP)
			set(insn, d->base == RSP ? OA_INSN_ADD_SP : OA_INSN_BP_TO_SP, RSP, d->disp);
		else if (d->reg == RBP && d->base == RSP)
			set(insn, OA_INSN_SP_TO_BP, RBP, d->disp);
		return;
	}
	to = d->op == 0x89 ? d->rm : d->reg; /* 89 or 8b */
	from = d->op == 0x89 ? d->reg : d->rm;
	if (d->mod == 3) {
		if (to == RBP && from == RSP)
			set(insn, OA_INSN_SP_TO_BP, RBP, 0);
		else if (to == RSP && from == RBP)
			set(insn, OA_INSN_BP_TO_SP, RSP, 0);
		else if (to == from)
			insn->kind = OA_INSN_OTHER;
		else if (to == RSP || from == RSP)
			set(insn, to == RSP ? OA_INSN_REG_TO_SP : OA_INSN_SP_TO_REG,
			    to == RSP ? from : to, 0);
	} else if (d->reg == RBP && (d->base == RSP || d->base == RBP)) {
		set(insn, d->op == 0x89 ? OA_INSN_STORE_BP : OA_INSN_LOAD_BP, d->base, d->disp);
	}
}

static void group(const struct oa_decoder *d, struct oa_insn *insn)
{
	static const u8 kinds[8] = {
		OA_INSN_OTHER,	       OA_INSN_OTHER,	      OA_INSN_CALL_INDIRECT,
		OA_INSN_CALL_INDIRECT, OA_INSN_JUMP_INDIRECT, OA_INSN_JUMP_INDIRECT,
		OA_INSN_PUSH,	       OA_INSN_BAD,
	};

	if (d->op == 0xff && d->sub >= 2)
		set(insn, d->sub == 6 && d->size16 ? OA_INSN_LOSE_SP : kinds[d->sub],
		    OA_INSN_NO_REG, 0);
	else if (d->sub < 2)
		general_writes(d, insn);
}

/* push, pop and what is like them. Returns 0 for other opcodes. */
static int stack_effect(const struct oa_decoder *d, struct oa_insn *insn)
{
	u32 push = d->size16 ? OA_INSN_LOSE_SP : OA_INSN_PUSH;
	u32 pop = d->size16 ? OA_INSN_LOSE_SP : OA_INSN_POP;
	u8 low = (u8)((d->op & 7) | (d->rex & 1) << 3);

	switch (d->op) {
	case 0x50 ... 0x57:
		set(insn, push, low, 0);
		return 1;
	case 0x58 ... 0x5f:
		set(insn, low == RSP ? OA_INSN_LOSE_SP : pop, low, 0);
		return 1;
	case 0x68:
	case 0x6a:
	case 0x9c:
		set(insn, push, OA_INSN_NO_REG, 0);
		return 1;
	case 0x8f:
		set(insn, d->mod == 3 && d->rm == RSP ? OA_INSN_LOSE_SP : pop,
		    d->mod == 3 ? d->rm : OA_INSN_NO_REG, 0);
		return 1;
	case 0x9d:
		set(insn, pop, OA_INSN_NO_REG, 0);
		return 1;
	case 0xc8: /* enter */
		insn->kind = OA_INSN_LOSE_SP;
		return 1;
	case 0xc9:
		insn->kind = OA_INSN_LEAVE;
		return 1;
	}
	return 0;
}

/* Jumps, calls, returns. Returns 0 for other opcodes. */
static int flow_effect(const struct oa_decoder *d, struct oa_insn *insn)
{
	switch (d->op) {
	case 0x70 ... 0x7f:
	case 0xe0 ... 0xe3:
		set(insn, OA_INSN_BRANCH, 0, d->imm);
		return 1;
	case 0xc2:
	case 0xc3:
	case 0xca:
	case 0xcb:
	case 0xcf:
		insn->kind = OA_INSN_RETURN;
		return 1;
	case 0xcc:
	case 0xf4:
		insn->kind = OA_INSN_STOP;
		insn->is_padding = d->op == 0xcc;
		return 1;
	case 0xe8:
		set(insn, OA_INSN_CALL, 0, d->imm);
		return 1;
	case 0xe9:
	case 0xeb:
		set(insn, OA_INSN_JUMP, 0, d->imm);
		return 1;
	}
	return 0;
}

/* Registers that an opcode of one byte writes without naming them. */
static u32 hidden_writes(const struct oa_decoder *d)
{
	switch (d->op) {
	case 0x98:
	case 0x99:
	case 0xe4 ... 0xe7:
	case 0xec ... 0xef:
	case 0xf6:
	case 0xf7:
		return RAX | RDX;
	case 0x91 ... 0x97:
		return RAX;
	case 0x6c ... 0x6f:
	case 0xa4 ... 0xa7:
	case 0xaa ... 0xaf:
		return RAX | RCX | RSI | RDI;
	case 0xe0 ... 0xe2:
		return RCX;
	}
	return 0;
}

/* Opcodes of one byte that the tables leave open. */
static void one_byte_effect(const struct oa_decoder *d, struct oa_insn *insn)
{
	u8 low = (u8)((d->op & 7) | (d->rex & 1) << 3);

	if (stack_effect(d, insn) || flow_effect(d, insn))
		return;
	switch (d->op) {
	case 0x80:
	case 0x81:
	case 0x83:
		if (d->sub == 7) /* cmp */
			return;
		/* fall through */
	case 0x89:
	case 0x8b:
	case 0x8d:
		stack_arithmetic(d, insn);
		return;
	case 0x90 ... 0x97: /* xchg with rax */
		if (low)
			lose(insn, low);
		insn->is_padding = !low;
		return;
	case 0xb0 ... 0xbf:
		if (d->op >= 0xb8 || d->rex)
			lose(insn, low);
		else
			insn->writes |= 1u << (low & 3);
		return;
	case 0xc7:
		if (d->sub == 7 && d->mod == 3 && d->rm == 0) /* xbegin */
			set(insn, OA_INSN_BRANCH, 0, d->imm);
		else
			general_writes(d, insn);
		return;
	case 0xf6:
	case 0xf7:
		if ((d->sub == 2 || d->sub == 3) && d->mod == 3 && (d->rex || d->op == 0xf7))
			lose(insn, d->rm);
		return;
	case 0xfe:
	case 0xff:
		group(d, insn);
		return;
	}
}

static void two_byte_effect(const struct oa_decoder *d, struct oa_insn *insn)
{
	switch (d->op) {
	case 0x0b: /* ud2 */
	case 0xb9: /* ud1 */
	case 0xff: /* ud0 */
		insn->kind = OA_INSN_STOP;
		return;
	case 0x20:
	case 0x21:
		lose(insn, d->rm);
		return;
	case 0x7e: /* movd to a general register; with f3 from a vector to a vector */
		if (d->repeat != 0xf3 && d->mod == 3)
			lose(insn, d->rm);
		return;
	case 0x80 ... 0x8f:
		set(insn, OA_INSN_BRANCH, 0, d->imm);
		return;
	case 0xa0:
	case 0xa8:
		set(insn, OA_INSN_PUSH, OA_INSN_NO_REG, 0);
		return;
	case 0xa1:
	case 0xa9:
		set(insn, OA_INSN_POP, OA_INSN_NO_REG, 0);
		return;
	case 0xc8 ... 0xcf: /* bswap */
		lose(insn, (u8)((d->op & 7) | (d->rex & 1) << 3));
		return;
	}
}

void oa_x86_effect(const struct oa_decoder *d, struct oa_insn *insn)
{
	insn->kind = OA_INSN_OTHER;
	if (!d->map && !d->vector)
		insn->writes = hidden_writes(d);
	else if (d->map == 1 && !d->vector && d->op <= 0x37) /* syscall, rdtsc and the like */
		insn->writes = d->op == 0x01 || d->op == 0x05 || d->op >= 0x30 ? 0xffff : 0;
	else if (d->map == 1 && !d->vector &&
		 (d->op == 0xa2 || (d->op & 0xfe) == 0xb0 || d->op == 0xc7))
		insn->writes = 0xffff; /* cpuid, cmpxchg */
	if (!(d->flags & S) || d->vector)
		general_writes(d, insn);
	else if (!d->map)
		one_byte_effect(d, insn);
	else if (d->map == 1)
		two_byte_effect(d, insn);
	if (d->map == 1 && d->op == 0x1f && !d->vector)
		insn->is_padding = 1;
}
