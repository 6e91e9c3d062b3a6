/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* DWARF expressions in call frame information, reduced to what BPF can do.
 *
 * Compilers and assembler sources write the same few meanings in many ways
 * (`breg7 8`, `breg7 0; plus_uconst 8`, `breg7 0; lit8; plus`), so expressions are run
 * on symbolic values instead of being compared with byte patterns.
 */
#include "cfi_expression.h"

#define DEPTH	   8
#define MAX_STEPS  64
#define MAX_OFFSET (1ll << 40)

enum { /* DWARF 5 section 7.7.1 */
       DW_OP_deref = 0x06,
       DW_OP_const1u = 0x08,
       DW_OP_const1s = 0x09,
       DW_OP_const2u = 0x0a,
       DW_OP_const2s = 0x0b,
       DW_OP_const4u = 0x0c,
       DW_OP_const4s = 0x0d,
       DW_OP_constu = 0x10,
       DW_OP_consts = 0x11,
       DW_OP_dup = 0x12,
       DW_OP_and = 0x1a,
       DW_OP_minus = 0x1c,
       DW_OP_mul = 0x1e,
       DW_OP_plus = 0x22,
       DW_OP_plus_uconst = 0x23,
       DW_OP_shl = 0x24,
       DW_OP_ge = 0x2a,
       DW_OP_lit0 = 0x30,
       DW_OP_lit31 = 0x4f,
       DW_OP_breg0 = 0x70,
       DW_OP_breg31 = 0x8f,
       DW_OP_bregx = 0x92,
       DW_OP_nop = 0x96,
};

struct machine {
	struct oa_form_value stack[DEPTH];
	u32 depth;
	u32 pc_reg;
};

static int push(struct machine *m, u32 form, u32 reg, s64 offset)
{
	struct oa_form_value *top;

	if (m->depth == DEPTH || offset > MAX_OFFSET || offset < -MAX_OFFSET)
		return 0;
	top = &m->stack[m->depth++];
	top->form = form;
	top->reg = reg;
	top->index = 0;
	top->offset = offset;
	top->add = 0;
	return 1;
}

/* value += constant */
static int add_constant(struct oa_form_value *value, s64 constant)
{
	s64 *sum = value->form == OA_FORM_DEREF || value->form == OA_FORM_DEREF_INDEX ||
				   value->form == OA_FORM_DEREF_CFA
			   ? &value->add
			   : &value->offset;

	if (value->form >= OA_FORM_PC_LOW && value->form != OA_FORM_PLT)
		return 0;
	if (constant > MAX_OFFSET || constant < -MAX_OFFSET)
		return 0;
	*sum += constant;
	return *sum <= MAX_OFFSET && *sum >= -MAX_OFFSET;
}

static int add(struct oa_form_value *left, const struct oa_form_value *right)
{
	struct oa_form_value sum;

	if (right->form == OA_FORM_CONST)
		return add_constant(left, right->offset);
	sum = *right;
	if (left->form == OA_FORM_CONST) {
		if (!add_constant(&sum, left->offset))
			return 0;
		*left = sum;
		return 1;
	}
	if (left->form == OA_FORM_REG && right->form == OA_FORM_SCALED) {
		left->form = OA_FORM_SUM;
		left->index = right->index;
		return add_constant(left, right->offset);
	}
	if (left->form == OA_FORM_SCALED && right->form == OA_FORM_REG) {
		left->form = OA_FORM_SUM;
		left->reg = right->reg;
		return add_constant(left, right->offset);
	}
	if (left->form == OA_FORM_REG && right->form == OA_FORM_PC_SLOT) {
		left->form = OA_FORM_PLT;
		left->add = right->add;
		return 1;
	}
	return 0;
}

/* value *= factor, where that is eight times a register or slot */
static int scale(struct oa_form_value *value, s64 factor)
{
	if (value->form == OA_FORM_CONST && factor > -4096 && factor < 4096) {
		value->offset *= factor;
		return value->offset <= MAX_OFFSET && value->offset >= -MAX_OFFSET;
	}
	if (factor != 8)
		return 0;
	if (value->form == OA_FORM_PC_BEYOND) {
		value->form = OA_FORM_PC_SLOT;
		return 1;
	}
	if (value->form != OA_FORM_REG)
		return 0;
	value->form = OA_FORM_SCALED;
	value->index = value->reg;
	value->reg = 0;
	value->offset *= 8;
	return 1;
}

static int dereference(struct oa_form_value *value)
{
	switch (value->form) {
	case OA_FORM_REG:
		value->form = OA_FORM_DEREF;
		return 1;
	case OA_FORM_SUM:
		value->form = OA_FORM_DEREF_INDEX;
		return 1;
	case OA_FORM_CFA:
		value->form = OA_FORM_DEREF_CFA;
		return 1;
	default:
		return 0;
	}
}

static int binary(struct machine *m, u8 op)
{
	struct oa_form_value *left, right;

	if (m->depth < 2)
		return 0;
	right = m->stack[--m->depth];
	left = &m->stack[m->depth - 1];
	if (op == DW_OP_plus)
		return add(left, &right);
	if (op == DW_OP_mul && left->form == OA_FORM_CONST) {
		s64 factor = left->offset;

		*left = right;
		return scale(left, factor);
	}
	if (right.form != OA_FORM_CONST)
		return 0;
	switch (op) {
	case DW_OP_minus:
		return add_constant(left, -right.offset);
	case DW_OP_mul:
		return scale(left, right.offset);
	case DW_OP_shl:
		return right.offset >= 0 && right.offset < 8 && scale(left, 1ll << right.offset);
	case DW_OP_and:
		if (left->form != OA_FORM_REG || left->reg != m->pc_reg || left->offset ||
		    right.offset != 15)
			return 0;
		left->form = OA_FORM_PC_LOW;
		return 1;
	case DW_OP_ge:
		if (left->form != OA_FORM_PC_LOW || right.offset < 0 || right.offset > 15)
			return 0;
		left->form = OA_FORM_PC_BEYOND;
		left->add = right.offset;
		return 1;
	default:
		return 0;
	}
}

static int step(struct machine *m, struct oa_cursor *c)
{
	u8 op = oa_u8(c);
	u64 reg;

	if (op >= DW_OP_lit0 && op <= DW_OP_lit31)
		return push(m, OA_FORM_CONST, 0, op - DW_OP_lit0);
	if (op >= DW_OP_breg0 && op <= DW_OP_breg31)
		return push(m, OA_FORM_REG, op - DW_OP_breg0, oa_sleb(c));
	switch (op) {
	case DW_OP_nop:
		return 1;
	case DW_OP_bregx:
		reg = oa_uleb(c);
		return reg < OA_GP_REGS && push(m, OA_FORM_REG, (u32)reg, oa_sleb(c));
	case DW_OP_const1u:
		return push(m, OA_FORM_CONST, 0, oa_u8(c));
	case DW_OP_const1s:
		return push(m, OA_FORM_CONST, 0, (s8)oa_u8(c));
	case DW_OP_const2u:
		return push(m, OA_FORM_CONST, 0, (u16)oa_fixed(c, 2));
	case DW_OP_const2s:
		return push(m, OA_FORM_CONST, 0, (s16)oa_fixed(c, 2));
	case DW_OP_const4u:
		return push(m, OA_FORM_CONST, 0, (u32)oa_fixed(c, 4));
	case DW_OP_const4s:
		return push(m, OA_FORM_CONST, 0, (s32)oa_fixed(c, 4));
	case DW_OP_constu:
		return push(m, OA_FORM_CONST, 0, (s64)oa_uleb(c));
	case DW_OP_consts:
		return push(m, OA_FORM_CONST, 0, oa_sleb(c));
	case DW_OP_plus_uconst:
		return m->depth && add_constant(&m->stack[m->depth - 1], (s64)oa_uleb(c));
	case DW_OP_dup:
		if (!m->depth || m->depth == DEPTH)
			return 0;
		m->stack[m->depth] = m->stack[m->depth - 1];
		m->depth++;
		return 1;
	case DW_OP_deref:
		return m->depth && dereference(&m->stack[m->depth - 1]);
	default:
		return binary(m, op);
	}
}

int oa_expression(struct oa_cursor block, int with_cfa, u32 pc_reg, struct oa_form_value *top)
{
	struct machine m = {.depth = 0, .pc_reg = pc_reg};
	u32 steps = 0;

	if (with_cfa)
		push(&m, OA_FORM_CFA, 0, 0);
	while (block.at < block.end)
		if (++steps > MAX_STEPS || !step(&m, &block))
			return 0;
	if (block.bad || !m.depth)
		return 0;
	*top = m.stack[m.depth - 1];
	return top->reg < OA_GP_REGS && top->index < OA_GP_REGS;
}
