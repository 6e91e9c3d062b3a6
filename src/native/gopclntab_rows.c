/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of Go functions: by how much the stack pointer was moved, at every instruction. */
#include <errno.h>
#include <stdlib.h>

#include "gopclntab_depths.h"

#define MAX_DELTA     (1 << 28)
#define LONG_FUNCTION 65536 /* room for so many rows is not made in advance */
#define SHARED_SLOTS  65536 /* at most */
#define MOST_ENTRIES  (1u << 20) /* room for more functions is not made in advance */
#define DEPTHS_BYTES  1024 /* depths of nearly every function, */
#define MOST_BYTES    (1 << 20) /* and of all that are read to their end */

/* x86-64: the rule without a word of the frame pointer. */
static struct oa_rule plain_rule(u64 delta)
{
	return (struct oa_rule){
		.cfa_reg = OA_X86_RSP,
		.bx_kind = OA_REG_UNDEFINED, /* Go's functions keep no register */
		.cfa_offset = (s32)delta + 8,
		.ra_kind = OA_REG_CFA,
		.ra_offset = -8,
	};
}

/* The rule where the stack pointer is `delta` below its value at the entry. */
static u32 make_rule(struct oa_go *go, u64 delta)
{
	struct oa_rule rule = {0};
	u32 index;

	if (go->table->machine == OA_MACHINE_X86_64) {
		rule = plain_rule(delta);
		if (delta) { /* every frame begins by saving the frame pointer */
			rule.fp_kind = OA_REG_CFA;
			rule.fp_offset = -16;
		}
	} else { /* the link register lies at the stack pointer, the frame pointer below it */
		rule.cfa_reg = OA_ARM_SP;
		rule.cfa_offset = (s32)delta;
		rule.ra_kind = delta ? OA_REG_CFA : OA_REG_IN;
		rule.ra_reg = delta ? 0 : OA_ARM_LR;
		rule.ra_offset = delta ? -(s32)delta : 0;
		rule.fp_kind = delta ? OA_REG_CFA : OA_REG_SAME;
		rule.fp_offset = delta ? -(s32)delta - 8 : 0;
	}
	index = oa_rows_rule(go->rows, &rule);
	if (delta / 8 < OA_GO_DELTAS && !(delta & 7))
		go->cached[delta / 8] = (u16)(index + 1);
	return index;
}

static inline u32 rule_of(struct oa_go *go, s64 depth)
{
	u64 slot = (u64)depth >> 3 | (u64)depth << 61; /* of another multiple: too high */

	if (slot < OA_GO_DELTAS && go->cached[slot])
		return go->cached[slot] - 1u;
	if (depth < 0 || depth > MAX_DELTA)
		return OA_ROW_UNSUPPORTED;
	return make_rule(go, (u64)depth);
}

/* arm64: assembly may move the stack pointer on (callCgoMmap makes room so); the link register and
 * the frame pointer stay where they were saved, at the bottom of the frame of the first depth.
 */
static u32 moved_rule(struct oa_go *go, s64 depth, s64 saved)
{
	struct oa_rule rule = {.cfa_reg = OA_ARM_SP, .ra_kind = OA_REG_CFA, .fp_kind = OA_REG_CFA};

	if (depth == saved || depth <= 0 || depth > MAX_DELTA)
		return rule_of(go, depth);
	if (saved > MAX_DELTA)
		return OA_ROW_UNSUPPORTED;
	rule.cfa_offset = (s32)depth;
	rule.ra_offset = -(s32)saved;
	rule.fp_offset = -(s32)saved - 8;
	return oa_rows_rule(go->rows, &rule);
}

static int put_arm64_depths(struct oa_go *go, struct depths *d)
{
	s64 saved = 0;
	int err = 0;

	while (!err && next_depth(go, d)) {
		if (d->next == d->from) /* a damaged table */
			continue;
		if (saved <= 0 || d->depth <= 0)
			saved = d->depth;
		err = oa_rows_put(go->rows, d->from, moved_rule(go, d->depth, saved));
	}
	return err;
}

/* What holds where the frame pointer is the function's own. arm64's points below the frame,
 * and so does not tell how large that is.
 */
static u32 frame_rule(struct oa_go *go, s64 depth)
{
	struct oa_rule rule = {
		.cfa_kind = OA_CFA_OTHER_STACK,
		.cfa_reg = OA_ARM_FP,
		.fp_kind = OA_REG_CFA,
		.ra_kind = OA_REG_CFA,
	};

	if (go->table->machine == OA_MACHINE_X86_64)
		return OA_ROW_FRAME_POINTER;
	rule.cfa_offset = (s32)depth + 8;
	rule.ra_offset = -(s32)depth;
	rule.fp_offset = -(s32)depth - 8;
	return oa_rows_rule(go->rows, &rule);
}

/* C calls crosscall2, which keeps x29 and x30 as C does: in the two slots below the CFA. */
static int put_from_c(struct oa_go *go, struct depths *d)
{
	struct oa_rule rule = {.cfa_reg = OA_ARM_SP, .fp_kind = OA_REG_CFA, .fp_offset = -16};
	int err = 0;

	rule.ra_kind = OA_REG_CFA;
	rule.ra_offset = -8;
	while (!err && next_depth(go, d)) {
		rule.cfa_offset = (s32)d->depth;
		err = oa_rows_put(go->rows, d->from,
				  d->depth > 0 && d->depth <= MAX_DELTA
					  ? oa_rows_rule(go->rows, &rule)
					  : rule_of(go, d->depth));
	}
	return err;
}

/* The rule of a function that moved the stack pointer by `depth`: sigctxt.pushCall and preparePanic
 * (runtime/signal_arm64.go) keep the link register of what they interrupt in 16 bytes above it.
 */
static struct oa_rule injected_rule(s64 depth)
{
	struct oa_rule rule = {
		.cfa_kind = OA_CFA_GO_INJECTED,
		.cfa_reg = OA_ARM_SP,
		.cfa_offset = (s32)depth,
		.cfa_add = 16,
		.ra_kind = OA_REG_IN,
		.ra_reg = OA_ARM_LR,
	};

	if (depth) {
		rule.ra_kind = rule.fp_kind = OA_REG_CFA;
		rule.ra_offset = -(s32)depth - 16;
		rule.fp_offset = -(s32)depth - 24;
		rule.ra_reg = 0;
	}
	return rule;
}

static int put_injected(struct oa_go *go, struct depths *d)
{
	struct oa_rule rule;
	u32 index;
	int err = 0;

	while (!err && next_depth(go, d)) {
		index = OA_ROW_UNSUPPORTED;
		if (d->depth >= 0 && d->depth <= MAX_DELTA) {
			rule = injected_rule(d->depth);
			index = oa_rows_rule(go->rows, &rule);
		}
		err = oa_rows_put(go->rows, d->from, index);
	}
	return err;
}

/* morestack_noctxt is called before its caller saved its link register, which is in x3 then. */
static int put_entry(struct oa_go *go)
{
	struct oa_rule rule = {
		.cfa_kind = OA_CFA_GO_ENTRY,
		.cfa_reg = OA_ARM_SP,
		.cfa_reg2 = 3,
		.ra_kind = OA_REG_IN,
		.ra_reg = OA_ARM_LR,
	};

	return oa_rows_put(go->rows, 0, oa_rows_rule(go->rows, &rule));
}

/* Put the first rows with a depth, up to where the frame pointer is the function's own. */
static int put_prologue(struct oa_go *go, u64 at, s64 depth)
{
	u32 move; /* bytes of mov %rbp, depth-8(%rsp), and of the lea that follows */
	struct oa_rule unsaved;

	if (go->table->machine != OA_MACHINE_X86_64) {
		if (oa_rows_put(go->rows, at, rule_of(go, depth)))
			return -ENOMEM;
		/* stur x29, [sp, #-8]; sub x29, sp, #8 */
		return oa_rows_put(go->rows, at + 8, frame_rule(go, depth));
	}
	if (depth == 8) { /* push %rbp; mov %rsp, %rbp */
		if (oa_rows_put(go->rows, at, rule_of(go, depth)))
			return -ENOMEM;
		return oa_rows_put(go->rows, at + 3, OA_ROW_FRAME_POINTER);
	}
	/* Up to Go 1.20: the whole frame is made, then the frame pointer saved, then moved. */
	unsaved = plain_rule((u64)depth);
	move = depth - 8 < 128 ? 5 : 8;
	if (oa_rows_put(go->rows, at, oa_rows_rule(go->rows, &unsaved)) ||
	    oa_rows_put(go->rows, at + move, rule_of(go, depth)))
		return -ENOMEM;
	return oa_rows_put(go->rows, at + 2 * move, OA_ROW_FRAME_POINTER);
}

/* Tell whether a function moves the stack pointer, as far as the table knows. */
static int has_frame(const struct oa_go *go, struct depths *d)
{
	struct depths ahead = *d;

	while (next_depth(go, &ahead))
		if (ahead.depth > 0)
			return 1;
	d->cut = ahead.cut;
	return 0;
}

/* The same where the stack is switched: by the frame pointer once that is the function's own.
 * Functions without a frame leave it alone (systemstack and asmcgocall up to Go 1.20): it is that
 * of their caller, which is left out: a wrapper of the same name, made by the compiler.
 */
static int put_frame_pointer(struct oa_go *go, struct depths *d)
{
	int framed = 0, err = 0;

	if (!has_frame(go, d))
		return oa_rows_put(go->rows, 0, OA_ROW_FRAME_POINTER);
	while (!err && next_depth(go, d)) {
		if (d->depth <= 0 || d->depth > MAX_DELTA)
			err = oa_rows_put(go->rows, d->from, rule_of(go, d->depth));
		else if (framed)
			err = oa_rows_put(go->rows, d->from, frame_rule(go, d->depth));
		else
			err = put_prologue(go, d->from, d->depth);
		framed |= d->depth > 0;
	}
	return err;
}

static void spend(struct oa_go *go, u64 bytes)
{
	go->budget -= go->budget < bytes ? go->budget : bytes;
}

/* x86-64: put one row per change of the stack depth. 1: so many bytes were not enough.
 *
 * Nearly all functions come here, so that what is read and written stays in registers.
 */
static int add_plain(struct oa_go *go, u64 size, u32 pcsp, u64 bytes)
{
	u64 at = go->pctab_at + pcsp, left = 0;
	const u8 *begin = oa_go_look(&go->depths, at, bytes, &left);
	struct depths d = {.at = begin, .end = begin + left, .size = size, .depth = -1};
	struct oa_row_writer writer;
	int err = 0;

	if (!begin)
		return -EIO;
	if (!go->budget)
		return 0;
	if (oa_open_row_writer(go->rows, &writer, size < LONG_FUNCTION ? (u32)size : 0))
		return -ENOMEM;
	while (!err && next_depth(go, &d))
		if (d.next != d.from) /* else a damaged table */
			err = oa_write_row(go->rows, &writer, d.from, rule_of(go, d.depth));
	oa_close_row_writer(go->rows, &writer);
	if (!err && d.cut && left < go->table->size - at && bytes < MOST_BYTES)
		return 1;
	spend(go, (u64)(d.at - begin));
	return err;
}

/* Read depths of the open fragment. 1: so many bytes were not enough. */
static int add_depths(struct oa_go *go, u64 size, u32 pcsp, enum oa_go_how how, u64 bytes)
{
	u64 at = go->pctab_at + pcsp, left = 0;
	const u8 *begin = oa_go_look(&go->depths, at, bytes, &left);
	struct depths d = {.at = begin, .size = size, .depth = -1};
	int err;

	if (!begin)
		return -EIO;
	d.end = begin + left;
	if (!go->budget)
		return 0;
	err = how == OA_GO_PLAIN      ? put_arm64_depths(go, &d)
	      : how == OA_GO_FROM_C   ? put_from_c(go, &d)
	      : how == OA_GO_INJECTED ? put_injected(go, &d)
	      : how == OA_GO_ENTRY    ? put_entry(go)
				      : put_frame_pointer(go, &d);
	if (!err && d.cut && left < go->table->size - at && bytes < MOST_BYTES)
		return 1;
	spend(go, (u64)(d.at - begin));
	return err;
}

/* Add a fragment and read its depths. */
static int add_new(struct oa_go *go, u64 entry, u64 size, u32 pcsp, enum oa_go_how how)
{
	int is_plain = how == OA_GO_PLAIN && go->table->machine == OA_MACHINE_X86_64, status;
	u32 fragment = go->rows->fragment_count;
	u64 bytes;

	for (bytes = DEPTHS_BYTES;; bytes *= 4) {
		status = oa_rows_begin_next(go->rows, entry, size, go->table->rank);
		if (status <= 0)
			return status;
		status = is_plain ? add_plain(go, size, pcsp, bytes)
				  : add_depths(go, size, pcsp, how, bytes);
		if (status <= 0)
			return status;
		oa_rows_take_back(go->rows, fragment);
	}
}

/* Add a fragment. A fifth of all functions repeat the depths of one before: linkers write
 * depths in the order of the functions that have them first, so that only those that lie
 * further ahead than all before need not be looked for.
 */
int oa_go_add(struct oa_go *go, u64 entry, u64 size, u32 pcsp, enum oa_go_how how)
{
	struct oa_go_shared *shared = &go->shared[pcsp * 0x9e3779b1u >> go->shared_shift];
	u32 fragment = go->rows->fragment_count;
	int err;

	if (how != OA_GO_PLAIN)
		return add_new(go, entry, size, pcsp, how);
	if (pcsp > go->highest) {
		go->highest = pcsp;
	} else if (shared->pcsp == pcsp && go->rows->fragments[shared->fragment].size == size) {
		if (!go->budget)
			return 0;
		spend(go, go->rows->fragments[shared->fragment].count);
		return oa_rows_repeat(go->rows, entry, size, shared->fragment);
	}
	err = add_new(go, entry, size, pcsp, OA_GO_PLAIN);
	/* none, clipped or split: not the rows of these depths and this size */
	if (go->rows->fragment_count == fragment + 1 && go->rows->fragments[fragment].size == size)
		*shared = (struct oa_go_shared){pcsp, fragment};
	return err;
}

/* Make room for what the table will probably give, so that it need not be moved. */
int oa_go_reserve(struct oa_go *go)
{
	u64 depths = go->functions_at > go->pctab_at ? go->functions_at - go->pctab_at : 0;
	u32 functions = go->count < MOST_ENTRIES ? (u32)go->count : MOST_ENTRIES;
	u32 slots = 1024;

	for (go->shared_shift = 22; slots < 2 * functions && slots < SHARED_SLOTS; slots *= 2)
		go->shared_shift--;
	go->shared = calloc(slots, sizeof(*go->shared));
	if (!go->shared)
		return -ENOMEM;
	return oa_rows_reserve(go->rows, functions,
			       depths / 16 < MOST_ENTRIES ? (u32)(depths / 16) : MOST_ENTRIES);
}
