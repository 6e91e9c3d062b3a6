/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Call frame instructions (DWARF 5 section 6.4.2) run on one rule at a time.
 *
 * Only the CFA, the frame pointer and the return address are followed: BPF needs
 * no other register to walk on.
 */
#include "cfi_program.h"

#include "cfi.h"
#include "cfi_expression.h"

static int fits(s64 value)
{
	return value == (s32)value;
}

/* Where the fields of a tracked register are: 1 frame pointer, 2 return address, 4 rbx, 0 none. */
static int which(const struct oa_cfi_program *p, u64 reg)
{
	return reg == p->fp_reg ? 1 : reg == p->cie->ra_reg ? 2 : reg == p->bx_reg ? 4 : 0;
}

static void set_register(struct oa_cfi_program *p, u64 reg, u32 kind, u64 from, s64 offset)
{
	struct oa_rule *rule = &p->rule;
	int slot = which(p, reg);

	if (!slot)
		return;
	p->changed = 1;
	if (!fits(offset) || from >= OA_GP_REGS) {
		kind = bad(OA_REASON_OFFSET);
		from = 0;
		offset = 0;
	}
	if (slot == 1) {
		rule->fp_kind = (u8)kind;
		rule->fp_reg = (u8)from;
		rule->fp_offset = (s32)offset;
		return;
	}
	if (slot == 4) { /* nothing else is ever seen of it, and it is rarely asked for */
		int plain = kind == OA_REG_SAME || kind == OA_REG_CFA;

		rule->bx_kind = plain ? (u8)kind : OA_REG_UNDEFINED;
		rule->bx_offset = plain ? (s32)offset : 0;
		return;
	}
	if (kind == OA_REG_SAME) { /* the link register still has it; x86-64 has none */
		kind = p->cie->machine == OA_MACHINE_AARCH64 ? OA_REG_IN
							     : bad(OA_REASON_RA_MISSING);
		from = kind == OA_REG_IN ? reg : 0;
	}
	rule->ra_kind = (u8)kind;
	rule->ra_reg = (u8)from;
	rule->ra_offset = (s32)offset;
}

static void restore_register(struct oa_cfi_program *p, u64 reg)
{
	const struct oa_rule *initial = &p->cie->initial;
	int slot = which(p, reg);

	if (slot == 1) {
		p->rule.fp_kind = initial->fp_kind;
		p->rule.fp_reg = initial->fp_reg;
		p->rule.fp_offset = initial->fp_offset;
	} else if (slot == 2) {
		p->rule.ra_kind = initial->ra_kind;
		p->rule.ra_reg = initial->ra_reg;
		p->rule.ra_offset = initial->ra_offset;
	} else if (slot == 4) {
		p->rule.bx_kind = initial->bx_kind;
		p->rule.bx_offset = initial->bx_offset;
	}
	p->changed |= slot;
}

static void set_cfa(struct oa_cfi_program *p, u32 kind, u64 reg, u64 reg2, s64 offset, s64 plus)
{
	p->changed = 1;
	if (!fits(offset) || !fits(plus) || reg >= OA_GP_REGS || reg2 >= OA_GP_REGS) {
		kind = bad(OA_REASON_OFFSET);
		reg = reg2 = 0;
		offset = plus = 0;
	}
	p->rule.pad = 0;
	p->rule.cfa_kind = (u8)kind;
	p->rule.cfa_reg = (u8)reg;
	p->rule.cfa_reg2 = (u8)reg2;
	p->rule.cfa_offset = (s32)offset;
	p->rule.cfa_add = (s32)plus;
}

static void set_cfa_expression(struct oa_cfi_program *p)
{
	struct oa_form_value value = {0};
	struct oa_cursor block = oa_cut(&p->c, oa_uleb(&p->c));
	u32 kind = bad(OA_REASON_CFA_EXPRESSION), before;

	if (!oa_expression(block, 0, p->pc_reg, &value))
		value = (struct oa_form_value){.form = OA_FORM_CONST};
	switch (value.form) {
	case OA_FORM_REG:
		kind = OA_CFA_REG;
		break;
	case OA_FORM_DEREF:
		kind = OA_CFA_DEREF;
		break;
	case OA_FORM_DEREF_INDEX:
		kind = OA_CFA_DEREF_INDEX;
		break;
	case OA_FORM_PLT:
		kind = OA_CFA_PLT;
		break;
	default:
		value = (struct oa_form_value){0};
	}
	before = p->rule.cfa_kind == OA_CFA_REG ? (u32)p->rule.cfa_offset : p->rule.pad;
	set_cfa(p, kind, value.reg, value.index, value.offset, value.add);
	if (kind != OA_CFA_REG)
		p->rule.pad = before; /* for adjust_cfa */
}

/* `is_value`: the expression is the register's value, else the address of it. */
static void set_register_expression(struct oa_cfi_program *p, int is_value)
{
	u64 reg = oa_uleb(&p->c);
	struct oa_cursor block = oa_cut(&p->c, oa_uleb(&p->c));
	u32 kind = bad(which(p, reg) == 1 ? OA_REASON_FP_EXPRESSION : OA_REASON_RA_EXPRESSION);
	struct oa_form_value value = {0};

	if (!which(p, reg))
		return;
	if (!oa_expression(block, 1, p->pc_reg, &value))
		value = (struct oa_form_value){.form = OA_FORM_CONST};
	if (value.form == OA_FORM_CFA)
		kind = is_value ? OA_REG_CFA_VALUE : OA_REG_CFA;
	else if (value.form == OA_FORM_REG && !is_value)
		kind = OA_REG_AT;
	else if (value.form == OA_FORM_REG && !value.offset)
		kind = OA_REG_IN;
	else if (value.form == OA_FORM_DEREF && is_value && !value.add)
		kind = OA_REG_AT;
	else if (value.form == OA_FORM_DEREF_CFA && is_value && !value.add)
		kind = OA_REG_CFA;
	else
		value = (struct oa_form_value){0};
	set_register(p, reg, kind, value.reg, value.offset);
}

u32 oa_cfi_index(struct oa_cfi_program *p)
{
	const struct oa_rule *rule = &p->rule;
	struct oa_rule without;
	u32 index;

	if (p->broken) {
		p->reasons[BAD - p->broken]++;
		return OA_ROW_UNSUPPORTED;
	}
	if (rule->ra_kind == OA_REG_UNDEFINED)
		return OA_ROW_STOP;
	if (is_bad(rule->cfa_kind)) {
		p->reasons[BAD - rule->cfa_kind]++;
		return OA_ROW_UNSUPPORTED;
	}
	if (is_bad(rule->ra_kind)) {
		p->reasons[BAD - rule->ra_kind]++;
		return OA_ROW_UNSUPPORTED;
	}
	/* The slot lies below the stack pointer: it was popped, as at the end of
	 * musl's clone, where no caller is left. */
	if (p->cie->machine == OA_MACHINE_X86_64 && rule->ra_kind == OA_REG_CFA &&
	    rule->cfa_kind == OA_CFA_REG && rule->cfa_reg == p->sp_reg &&
	    (s64)rule->cfa_offset + rule->ra_offset < 0)
		return OA_ROW_STOP;
	if (is_bad(rule->fp_kind)) {
		p->reasons[BAD - rule->fp_kind]++;
		without = *rule;
		without.fp_kind = OA_REG_UNDEFINED;
		without.fp_reg = 0;
		without.fp_offset = 0;
		rule = &without;
	}
	if (rule->pad) {
		without = *rule;
		without.pad = 0;
		rule = &without;
	}
	index = oa_rows_rule(p->rows, rule);
	p->reasons[OA_REASON_RULES_FULL] += index == OA_ROW_UNSUPPORTED;
	return index;
}

/* Move to an absolute address. */
static void set_location(struct oa_cfi_program *p)
{
	u64 place = oa_fixed(&p->c, 8);

	/* Only absolute pointers: no assembler writes this instruction nowadays. */
	if (place < p->start + p->at || place - p->start > p->size || p->cie->encoding & 0x7f)
		p->broken = bad(OA_REASON_OPCODE);
	else
		p->distance = place - p->start - p->at;
}

static void advance(struct oa_cfi_program *p, u64 delta)
{
	if (__builtin_mul_overflow(delta, p->cie->code_align, &p->distance))
		p->distance = ~0ull;
}

static void remember(struct oa_cfi_program *p)
{
	if (p->depth == OA_REMEMBER_DEPTH)
		p->broken = bad(OA_REASON_REMEMBER);
	else
		p->remembered[p->depth++] = p->rule;
}

static void restore(struct oa_cfi_program *p)
{
	p->changed = 1;
	if (!p->depth)
		p->broken = bad(OA_REASON_REMEMBER);
	else
		p->rule = p->remembered[--p->depth];
}

/* Redefine the register or the offset of the CFA. After an expression, a new
 * register ends it, with the offset from before it (libgcc: cfa_how); libgcrypt does so.
 */
static void adjust_cfa(struct oa_cfi_program *p, int new_register, u64 reg, s64 offset)
{
	struct oa_rule *rule = &p->rule;

	if (rule->cfa_kind == bad(OA_REASON_CFA_MISSING))
		return;
	if (new_register)
		set_cfa(p, OA_CFA_REG, reg, 0,
			rule->cfa_kind == OA_CFA_REG ? rule->cfa_offset : (s32)rule->pad, 0);
	else if (rule->cfa_kind == OA_CFA_REG)
		set_cfa(p, OA_CFA_REG, rule->cfa_reg, 0, offset, 0);
	else if (fits(offset))
		rule->pad = (u32)offset;
}

/* offset * data_align, or something that does not fit when it overflows */
static s64 factored(const struct oa_cfi_program *p, s64 offset)
{
	s64 bytes;

	return __builtin_mul_overflow(offset, p->cie->data_align, &bytes) ? 1ll << 60 : bytes;
}

static s64 plain(u64 offset)
{
	return offset > 1ull << 60 ? 1ll << 60 : (s64)offset;
}

static void step_register(struct oa_cfi_program *p, u8 op)
{
	struct oa_cursor *c = &p->c;
	u64 reg = oa_uleb(c);

	switch (op) {
	case DW_CFA_offset_extended:
		set_register(p, reg, OA_REG_CFA, 0, factored(p, plain(oa_uleb(c))));
		break;
	case DW_CFA_offset_extended_sf:
		set_register(p, reg, OA_REG_CFA, 0, factored(p, oa_sleb(c)));
		break;
	case DW_CFA_GNU_negative_offset_extended:
		set_register(p, reg, OA_REG_CFA, 0, -factored(p, plain(oa_uleb(c))));
		break;
	case DW_CFA_val_offset:
		set_register(p, reg, OA_REG_CFA_VALUE, 0, factored(p, plain(oa_uleb(c))));
		break;
	case DW_CFA_val_offset_sf:
		set_register(p, reg, OA_REG_CFA_VALUE, 0, factored(p, oa_sleb(c)));
		break;
	case DW_CFA_restore_extended:
		restore_register(p, reg);
		break;
	case DW_CFA_undefined:
		set_register(p, reg, OA_REG_UNDEFINED, 0, 0);
		break;
	case DW_CFA_same_value:
		set_register(p, reg, OA_REG_SAME, 0, 0);
		break;
	case DW_CFA_register:
		set_register(p, reg, OA_REG_IN, oa_uleb(c), 0);
		break;
	case DW_CFA_def_cfa:
		set_cfa(p, OA_CFA_REG, reg, 0, plain(oa_uleb(c)), 0);
		break;
	case DW_CFA_def_cfa_sf:
		set_cfa(p, OA_CFA_REG, reg, 0, factored(p, oa_sleb(c)), 0);
		break;
	default: /* DW_CFA_def_cfa_register */
		adjust_cfa(p, 1, reg, 0);
	}
}

static void step(struct oa_cfi_program *p, u8 op)
{
	struct oa_cursor *c = &p->c;

	switch (op) {
	case DW_CFA_nop:
	case DW_CFA_AARCH64_negate_ra_state: /* BPF masks every return address */
	case DW_CFA_AARCH64_negate_ra_state_with_pc:
		break;
	case DW_CFA_remember_state:
		remember(p);
		break;
	case DW_CFA_restore_state:
		restore(p);
		break;
	case DW_CFA_def_cfa_offset:
		adjust_cfa(p, 0, 0, plain(oa_uleb(c)));
		break;
	case DW_CFA_def_cfa_offset_sf:
		adjust_cfa(p, 0, 0, factored(p, oa_sleb(c)));
		break;
	case DW_CFA_def_cfa_expression:
		set_cfa_expression(p);
		break;
	case DW_CFA_expression:
		set_register_expression(p, 0);
		break;
	case DW_CFA_val_expression:
		set_register_expression(p, 1);
		break;
	case DW_CFA_GNU_args_size:
		oa_uleb(c);
		break;
	case DW_CFA_offset_extended:
	case DW_CFA_offset_extended_sf:
	case DW_CFA_GNU_negative_offset_extended:
	case DW_CFA_val_offset:
	case DW_CFA_val_offset_sf:
	case DW_CFA_restore_extended:
	case DW_CFA_undefined:
	case DW_CFA_same_value:
	case DW_CFA_register:
	case DW_CFA_def_cfa:
	case DW_CFA_def_cfa_sf:
	case DW_CFA_def_cfa_register:
		step_register(p, op);
		break;
	default:
		p->broken = bad(OA_REASON_OPCODE);
	}
}

/* One that moves on: 1, or 0 if it does something else. */
static int step_location(struct oa_cfi_program *p, u8 op)
{
	switch (op) {
	case DW_CFA_set_loc:
		set_location(p);
		return 1;
	case DW_CFA_advance_loc1:
		advance(p, oa_u8(&p->c));
		return 1;
	case DW_CFA_advance_loc2:
		advance(p, oa_fixed(&p->c, 2));
		return 1;
	case DW_CFA_advance_loc4:
		advance(p, oa_fixed(&p->c, 4));
		return 1;
	default:
		return 0;
	}
}

int oa_cfi_step(struct oa_cfi_program *p, u8 op)
{
	struct oa_cursor *c = &p->c;
	u64 offset;

	p->distance = 0;
	switch (op >> 6) {
	case DW_CFA_advance_loc:
		advance(p, op & 63);
		return 1;
	case DW_CFA_offset:
		offset = oa_uleb(c);
		set_register(p, op & 63, OA_REG_CFA, 0, factored(p, plain(offset)));
		return 0;
	case DW_CFA_restore:
		restore_register(p, op & 63);
		return 0;
	default:
		if (step_location(p, op))
			return 1;
		step(p, op);
		return 0;
	}
}

void oa_cfi_set_machine(struct oa_cfi_program *p, u32 machine)
{
	int arm = machine == OA_MACHINE_AARCH64;

	p->fp_reg = arm ? OA_ARM_FP : OA_X86_RBP;
	p->bx_reg = arm ? ~0u : OA_X86_RBX;
	p->sp_reg = arm ? OA_ARM_SP : OA_X86_RSP;
	p->pc_reg = arm ? ~0u : 16; /* x86-64: the return address column */
}

/* Nothing that is 128 times as large comes near the limit of an offset. */
static int is_small(const struct oa_cfi_cie *cie)
{
	return cie->code_align < 1 << 16 && cie->data_align < 1 << 16 &&
	       cie->data_align > -(1 << 16);
}

int oa_cfi_start(struct oa_cfi_cie *cie, struct oa_cursor program, u32 machine)
{
	struct oa_cfi_program p = {.cie = cie, .c = program, .size = ~0ull};
	u8 op;

	cie->machine = machine;
	oa_cfi_set_machine(&p, machine);
	if (!cie->code_align || cie->ra_reg >= OA_GP_REGS || cie->ra_reg == p.fp_reg)
		return 0;
	p.rule.cfa_kind = bad(OA_REASON_CFA_MISSING);
	set_register(&p, cie->ra_reg, OA_REG_SAME, 0, 0);
	while (p.c.at < p.c.end && !p.broken) {
		op = *p.c.at++;
		if (oa_cfi_step(&p, op) && p.distance > p.size - p.at)
			break;
		p.at += p.distance;
	}
	cie->initial = p.rule;
	cie->tracked = 1ull << p.fp_reg | 1ull << cie->ra_reg;
	if (p.bx_reg < 64)
		cie->tracked |= 1ull << p.bx_reg;
	cie->small = is_small(cie);
	return !p.broken && !p.c.bad;
}
