/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a function's call frame instructions and writes its rows.
 *
 * libLLVM has two and a half million instructions, nearly all of eight kinds with
 * operands of one byte. Those are done here, on a rule in registers; all others
 * go the long way (`oa_cfi_step`). It takes a third of the instructions that one
 * way for all took (docs/benchmarks.md, "rows").
 */
#include <errno.h>

#include "cfi.h"
#include "cfi_program.h"
#include "rows_table.h"

#define LONG_PROGRAM 65536 /* room for so many rows is not made in advance */
#define FP_KINDS     (0xffffull << 24) /* fp_kind and fp_reg in `kinds` */
#define RA_KINDS     (0xffffull << 40)
#define BX_KIND	     (0xffull << 56)
#define CFA_KINDS    0xffffffull
#define LOW	     0xffffffffull

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "struct oa_rule_words");
_Static_assert(sizeof(struct oa_rule_words) == sizeof(struct oa_rule), "the same bytes");

static inline u64 merge(u64 old, u64 new, u64 mask)
{
	return (old & ~mask) | (new &mask);
}

/* Take what `from` says of a tracked register. */
static inline struct oa_rule_words take(const struct oa_cfi_program *p, struct oa_rule_words now,
					struct oa_rule_words from, u32 reg)
{
	if (reg == p->fp_reg) {
		now.kinds = merge(now.kinds, from.kinds, FP_KINDS);
		now.saved = merge(now.saved, from.saved, LOW);
	} else if (reg == p->cie->ra_reg) {
		now.kinds = merge(now.kinds, from.kinds, RA_KINDS);
		now.saved = merge(now.saved, from.saved, ~LOW);
	} else {
		now.kinds = merge(now.kinds, from.kinds, BX_KIND);
		now.rest = merge(now.rest, from.rest, LOW);
	}
	return now;
}

/* The rule of a register saved at CFA + offset, for `take`. */
static inline struct oa_rule_words saved_at(s32 offset)
{
	struct oa_rule_words saved;

	saved.kinds = (u64)OA_REG_CFA << 24 | (u64)OA_REG_CFA << 40 | (u64)OA_REG_CFA << 56;
	saved.cfa = 0;
	saved.rest = (u32)offset;
	saved.saved = saved.rest | saved.rest << 32;
	return saved;
}

/* Look at a number of at most two bytes: how many it has, 0 if more or cut off. */
static inline u32 short_uleb(const u8 *at, const u8 *end, u32 *value)
{
	if (at < end && at[0] < 0x80) {
		*value = at[0];
		return 1;
	}
	if (end - at < 2 || at[1] >= 0x80)
		return 0;
	*value = (at[0] & 0x7fu) | (u32)at[1] << 7;
	return 2;
}

/* The index of a rule that was not met lately. */
static __attribute__((noinline)) u32 look_up(struct oa_cfi_program *p, struct oa_cfi_memo *memo,
					     u32 slot)
{
	u32 index = oa_cfi_index(p);

	if (!(index & OA_ROW_COMMAND) && !is_bad(p->rule.fp_kind)) { /* those are counted */
		memo->rules[slot] = p->words;
		memo->indices[slot] = (u16)index;
	}
	return index;
}

static inline u32 find_index(struct oa_cfi_program *p, struct oa_cfi_memo *memo,
			     struct oa_rule_words now)
{
	u64 hash = (now.kinds ^ now.cfa) * 0x9fb21c651e98df25ull +
		   (now.saved ^ now.rest) * 0x9e3779b97f4a7c15ull;
	u32 slot = (u32)(hash >> 56) % OA_MEMO_SLOTS;
	const struct oa_rule_words *rule = &memo->rules[slot];

	if (!((rule->kinds ^ now.kinds) | (rule->cfa ^ now.cfa) | (rule->saved ^ now.saved) |
	      (rule->rest ^ now.rest)))
		return memo->indices[slot];
	p->words = now;
	return look_up(p, memo, slot);
}

enum step { STEPPED, CHANGED, MOVED, LONG };

/* Run an instruction that is neither of the three most frequent. LONG: it is not for here,
 * or not so short; then nothing was done.
 */
static inline __attribute__((always_inline)) enum step step_short(struct oa_cfi_program *p,
								  struct oa_rule_words *now,
								  const u8 **place, const u8 *end,
								  u32 op, u64 *distance)
{
	const u8 *at = *place;
	u32 reg, value = 0, length, more = 0;

	switch (op) {
	case DW_CFA_nop:
		return STEPPED;
	case DW_CFA_remember_state:
		if (p->depth == OA_REMEMBER_DEPTH)
			return LONG;
		p->remembered_words[p->depth++] = *now;
		return STEPPED;
	case DW_CFA_restore_state:
		if (!p->depth)
			return LONG;
		*now = p->remembered_words[--p->depth];
		return CHANGED;
	case DW_CFA_advance_loc1:
		if (at >= end)
			return LONG;
		*distance = at[0] * p->cie->code_align;
		*place = at + 1;
		return MOVED;
	case DW_CFA_advance_loc2:
		if (end - at < 2)
			return LONG;
		*distance = (at[0] | (u32)at[1] << 8) * p->cie->code_align;
		*place = at + 2;
		return MOVED;
	case DW_CFA_def_cfa:
	case DW_CFA_def_cfa_register:
		length = short_uleb(at, end, &reg);
		if (!length || reg >= OA_GP_REGS)
			return LONG;
		if (op == DW_CFA_def_cfa) {
			more = short_uleb(at + length, end, &value);
			if (!more)
				return LONG;
			now->cfa = value;
			now->rest &= LOW;
		} else if ((u8)now->kinds != OA_CFA_REG) {
			return LONG;
		}
		now->kinds = merge(now->kinds, OA_CFA_REG | (u64)reg << 8, CFA_KINDS);
		*place = at + length + more;
		return CHANGED;
	default:
		if (op >> 6 != DW_CFA_restore)
			return LONG;
		if (!(p->cie->tracked >> (op & 63) & 1))
			return STEPPED;
		*now = take(p, *now, p->cie->initial_words, op & 63);
		return CHANGED;
	}
}

/* Run any instruction. MOVED: by `p->distance`, which may be 0. */
static __attribute__((noinline)) enum step step_long(struct oa_cfi_program *p, u32 op)
{
	if (oa_cfi_step(p, (u8)op))
		return MOVED;
	return p->changed ? CHANGED : STEPPED;
}

static inline enum step step(struct oa_cfi_program *p, struct oa_rule_words *now, const u8 **at,
			     const u8 *end, u32 op, u64 *distance)
{
	u32 value, length;

	if (op >> 6 == DW_CFA_advance_loc) {
		*distance = (op & 63) * p->cie->code_align;
		return MOVED;
	}
	if (op == DW_CFA_def_cfa_offset) {
		length = short_uleb(*at, end, &value);
		if (!length || (u8)now->kinds != OA_CFA_REG)
			return LONG;
		*at += length;
		now->cfa = value;
		return CHANGED;
	}
	if (op >> 6 == DW_CFA_offset) {
		length = short_uleb(*at, end, &value);
		if (!length)
			return LONG;
		*at += length;
		if (!(p->cie->tracked >> (op & 63) & 1)) { /* most registers are not */
			if ((op & 63) < 2)
				p->saved |= 1u << (op & 63);
			return STEPPED;
		}
		*now = take(p, *now, saved_at((s32)value * (s32)p->cie->data_align), op & 63);
		return CHANGED;
	}
	return step_short(p, now, at, end, op, distance);
}

/* Where nothing but bytes 0 follows, as far as an instruction's operands are not among them. */
static const u8 *end_of(const struct oa_cursor *c)
{
	const u8 *end = c->end;

	while (end > c->at && !end[-1])
		end--;
	return end;
}

static int run(struct oa_cfi_program *p, struct oa_cfi_memo *memo, struct oa_row_writer *out)
{
	/* Padding is cut off. If that was an operand it is missing here, but not for step_long. */
	const u8 *at = p->c.at, *const end = end_of(&p->c);
	const int small = p->cie->small;
	struct oa_row_writer writer = *out;
	struct oa_rule_words now = p->words;
	u64 place = 0, distance = 0;
	int changed = 1;
	enum step done;
	u32 op;

	while (at < end) {
		op = *at++;
		done = small ? step(p, &now, &at, end, op, &distance) : LONG;
		if (done == LONG) {
			p->words = now;
			p->at = place;
			p->c.at = at;
			done = step_long(p, op);
			now = p->words;
			at = p->c.at;
			distance = p->distance;
			p->changed = 0;
			if (p->broken)
				break;
		}
		changed |= done == CHANGED;
		if (done != MOVED)
			continue;
		if (distance > p->size - place) /* beyond the function */
			break;
		if (distance && changed) {
			changed = 0;
			if (oa_write_row(p->rows, &writer, place, find_index(p, memo, now))) {
				*out = writer;
				return -ENOMEM;
			}
		}
		place += distance;
	}
	*out = writer;
	p->words = now;
	if (p->c.bad)
		p->broken = bad(OA_REASON_OPCODE);
	if (!changed && !p->broken)
		return 0;
	return oa_write_row(p->rows, out, place,
			    p->broken ? oa_cfi_index(p) : find_index(p, memo, now));
}

int oa_cfi_run(struct oa_cfi_program *p, struct oa_cfi_memo *memo)
{
	u64 length = oa_left(&p->c);
	struct oa_row_writer writer;
	int err;

	p->at = 0;
	p->depth = 0;
	p->saved = 0;
	p->changed = 0;
	p->broken = 0;
	p->words = p->cie->initial_words;
	/* At most one row for each instruction that moves on, and one at the end. */
	if (oa_open_row_writer(p->rows, &writer, length < LONG_PROGRAM ? (u32)length + 1 : 0))
		return -ENOMEM;
	err = run(p, memo, &writer);
	oa_close_row_writer(p->rows, &writer);
	return err;
}
