/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Code without call frame information: rows from what code_flow.c finds out about each
 * function; where they begin says code_starts.c.
 */
#include "code.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cfi.h"
#include "code_flow.h"
#include "code_starts.h"
#include "leaf.h"

enum {
	ROUNDS = 2, /* in which functions learn of one another */
};

/* Everything that is needed to go over the code once. */
struct pass {
	const struct oa_code *code;
	struct oa_starts *starts;
	struct oa_starts silent; /* addresses of functions that do not return */
	struct oa_flow flow;
	struct oa_rows *rows; /* NULL: nothing is written yet */
	u64 first; /* offset of the gap */
	int only_calls; /* look for starts only */
	u32 index; /* what was written last */
	int keeps_bx; /* the function writes no rbx */
	struct oa_code_stats *stats;
};

static u32 rule_of(struct oa_rows *rows, const struct oa_flow_state *state, int keeps_bx)
{
	/* DWARF's numbers of the registers, by the machine's. */
	static const u8 numbers[16] = {0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15};
	struct oa_rule rule = {
		.cfa_kind = OA_CFA_REG,
		.ra_kind = OA_REG_CFA,
		.ra_offset = -8,
		.bx_kind = keeps_bx ? OA_REG_SAME : OA_REG_UNDEFINED,
	};

	/* Where rbp points to where the caller's is kept, it is a frame pointer. */
	if (state->bp != OA_FLOW_UNKNOWN &&
	    (state->bp == state->saved || state->sp == OA_FLOW_UNKNOWN)) {
		rule.cfa_reg = OA_X86_RBP;
		rule.cfa_offset = state->bp;
	} else if (state->sp != OA_FLOW_UNKNOWN) {
		rule.cfa_reg = OA_X86_RSP;
		rule.cfa_offset = state->sp;
	} else if (state->copy_reg) {
		rule.cfa_reg = numbers[(state->copy_reg - 1) & 15];
		rule.cfa_offset = state->copy;
	} else {
		return OA_ROW_NONE;
	}
	if (state->saved == OA_FLOW_UNKNOWN) {
		rule.fp_kind = OA_REG_UNDEFINED;
	} else if (state->saved && (state->wrote_bp || state->saved <= state->sp)) {
		rule.fp_kind = OA_REG_CFA;
		rule.fp_offset = -state->saved;
	}
	return oa_rows_rule(rows, &rule);
}

/* Tell that BPF, which looks at the code at the pc, finds the state by itself. */
static int is_frame_code(const struct oa_code *code, u64 offset, const struct oa_flow_state *state)
{
	if (!offset || offset + 4 > code->size)
		return 0;
	switch (oa_leaf_slot(code->data + offset - 1)) {
	case 0:
		return state->bp == 16 && state->saved == 16;
	case 1:
		return state->sp == 8 && !state->saved;
	default:
		return state->sp == 16 && state->saved == 16;
	}
}

/* Tell that a frame pointer is set up where a return address may lie: the function's paths may
 * contradict one another, but whoever made it keeps one at each call.
 */
static int is_framed_call(const struct oa_code *code, u64 offset, const struct oa_insn *insn)
{
	u64 addr = code->addr + offset;

	if (insn->kind != OA_INSN_CALL && insn->kind != OA_INSN_CALL_INDIRECT)
		return 0;
	return addr >= code->framed_calls.start && addr < code->framed_calls.end;
}

/* What holds at a step. */
static u32 index_of(struct pass *pass, const struct oa_flow_step *step, u64 offset)
{
	const struct oa_flow *flow = &pass->flow;
	int is_known = step->flags & OA_FLOW_REACHED && !flow->is_wrong;

	if (is_known && pass->code->frames && is_frame_code(pass->code, offset, &step->state))
		return OA_ROW_FRAME_CODE;
	if (is_known)
		return rule_of(pass->rows, &step->state, pass->keeps_bx);
	if (is_framed_call(pass->code, offset, &step->insn))
		return OA_ROW_FRAME_CODE;
	if (pass->code->frames && !flow->is_wrong)
		return pass->index; /* padding, or a block that nothing leads to */
	/* Handlers of exceptions, mostly: BPF looks at the code at the pc. */
	return flow->has_frame ? OA_ROW_FRAME_CODE : OA_ROW_NONE;
}

static int writes_bx(const struct oa_insn *insn)
{
	enum { RBX = 3 };

	return insn->writes >> RBX & 1 || (insn->kind == OA_INSN_POP && insn->reg == RBX);
}

/* Write the rows of the function in steps [base, end). */
static int emit(struct pass *pass, u32 end)
{
	const struct oa_flow *flow = &pass->flow;
	struct oa_code_stats *stats = pass->stats;
	u64 offset = flow->addr - pass->code->addr;
	u32 i;

	stats->functions++;
	stats->wrong += flow->is_wrong != 0;
	pass->keeps_bx = 1;
	for (i = flow->base; i < end; i++)
		if (writes_bx(&flow->steps[i].insn))
			pass->keeps_bx = 0;
	for (i = flow->base; i < end; i++) {
		const struct oa_flow_step *step = &flow->steps[i];

		pass->index = index_of(pass, step, offset + step->offset);
		if (!(step->flags & OA_FLOW_REACHED) && step->insn.is_padding) {
			stats->padding += step->insn.length;
		} else {
			stats->bytes += step->insn.length;
			stats->known += pass->index == OA_ROW_NONE ? 0 : step->insn.length;
			stats->framed += pass->index == OA_ROW_FRAME_CODE ? step->insn.length : 0;
		}
		if (oa_rows_put(pass->rows, offset + step->offset - pass->first, pass->index))
			return -ENOMEM;
	}
	return 0;
}

/* Follow the functions of a window. */
static int take_window(struct pass *pass, u64 start, u64 end, u32 known)
{
	const struct oa_code *code = pass->code;
	struct oa_flow *flow = &pass->flow;
	u32 base = 0, next;

	if (oa_flow_open(flow, code->data + start, code->addr + start, (u32)(end - start)))
		return -ENOMEM;
	while (base < flow->count) {
		next = oa_flow_follow(flow, base, known);
		if (!next)
			return -ENOMEM;
		if (pass->rows && emit(pass, next))
			return -ENOMEM;
		if (!pass->rows && known == OA_FLOW_CALLED && !flow->returns && !flow->is_wrong &&
		    oa_starts_add(&pass->silent, flow->addr + flow->steps[base].offset, 0))
			return -ENOMEM;
		base = next;
		known = OA_FLOW_GUESS;
	}
	return 0;
}

/* Go over [start, end), an offset range, from one start that is known to the next. */
static int take_gap(struct pass *pass, u64 start, u64 end)
{
	const struct oa_starts *starts = pass->starts;
	u64 stop, i = oa_starts_find(starts, start);
	u32 known = OA_FLOW_GUESS;

	while (start < end) {
		while (i < starts->count && starts->items[i] >> OA_START_KNOWN_BITS <= start)
			known = starts->items[i++] & ((1 << OA_START_KNOWN_BITS) - 1);
		stop = i < starts->count ? starts->items[i] >> OA_START_KNOWN_BITS : end;
		stop = stop < end ? stop : end;
		if (stop - start > OA_CODE_MAX_WINDOW)
			stop = start + OA_CODE_MAX_WINDOW;
		if (take_window(pass, start, stop, known))
			return -ENOMEM;
		known = OA_FLOW_GUESS;
		start = stop;
	}
	return 0;
}

static int take_gaps(struct pass *pass)
{
	const struct oa_code *code = pass->code;
	u64 i, start, end;

	for (i = 0; i < code->gap_count; i++) {
		start = code->gaps[i].start;
		end = code->gaps[i].end;
		start = start > code->addr ? start - code->addr : 0;
		end = end > code->addr ? end - code->addr : 0;
		end = end < code->size ? end : code->size;
		if (start >= end)
			continue;
		if (pass->rows &&
		    oa_rows_begin(pass->rows, code->addr + start, end - start, code->rank) < 0)
			return -ENOMEM;
		pass->first = start;
		if (pass->only_calls ? oa_starts_add_called(pass->starts, code, start, end)
				     : take_gap(pass, start, end))
			return -ENOMEM;
	}
	return 0;
}

static int compare_exits(const void *a, const void *b)
{
	const struct oa_flow_exit *x = a, *y = b;

	return x->target < y->target ? -1 : x->target > y->target;
}

/* Use what a pass has found out about the functions as a whole for the next one. */
static void learn(struct pass *pass, struct oa_flow_exit **seeds, u64 **silent)
{
	struct oa_flow *flow = &pass->flow;
	u64 i;

	free(*seeds);
	free(*silent);
	*seeds = flow->exits;
	*silent = pass->silent.items;
	for (i = 0; i < pass->silent.count; i++)
		pass->silent.items[i] >>= OA_START_KNOWN_BITS;
	if (flow->exit_count)
		qsort(*seeds, flow->exit_count, sizeof(**seeds), compare_exits);
	if (pass->silent.count)
		qsort(*silent, pass->silent.count, sizeof(**silent), oa_starts_compare);
	flow->seeds = *seeds;
	flow->seed_count = flow->exit_count;
	flow->silent = *silent;
	flow->silent_count = pass->silent.count;
	flow->exits = NULL;
	flow->exit_count = flow->exit_capacity = 0;
	memset(&pass->silent, 0, sizeof(pass->silent));
}

static int find_starts(struct pass *pass)
{
	struct oa_starts *starts = pass->starts;
	int err = oa_starts_add_symbols(starts, pass->code);

	oa_starts_sort(starts);
	pass->only_calls = 1;
	if (!err && !pass->code->frames)
		err = take_gaps(pass);
	pass->only_calls = 0;
	oa_starts_sort(starts);
	return err;
}

int oa_code_rows(struct oa_rows *rows, const struct oa_code *code, struct oa_code_stats *stats)
{
	struct oa_starts starts = {0};
	struct pass pass = {
		.code = code,
		.starts = &starts,
		.stats = stats,
		.index = code->frames ? OA_ROW_FRAME_CODE : OA_ROW_NONE,
	};
	struct oa_flow_exit *seeds = NULL;
	u64 *silent = NULL;
	int err, round;

	if (code->machine != OA_MACHINE_X86_64 || !code->size)
		return 0;
	err = find_starts(&pass);
	for (round = 0; round < ROUNDS && !err && !code->frames; round++) {
		err = take_gaps(&pass);
		learn(&pass, &seeds, &silent);
	}
	pass.rows = rows;
	if (!err)
		err = take_gaps(&pass);
	free(seeds);
	free(silent);
	free(starts.items);
	oa_flow_free(&pass.flow);
	return err;
}

u64 oa_code_gaps(const struct oa_rows_table *table, u64 start, u64 end, struct oa_range *gaps,
		 u64 capacity)
{
	u64 at = start, addr, next, count = 0;
	u32 i, j;

	for (i = 0; i < table->page_count; i++) {
		const struct oa_page_entry *page = &table->pages[i];
		const u32 *rows = table->rows + page->first;
		u64 base = (u64)page->page << OA_PAGE_BITS;

		for (j = 0; j < page->count; j++) {
			addr = base + (rows[j] & 0xffff);
			next = base + (j + 1 < page->count ? rows[j + 1] & 0xffff : 0x10000);
			if (rows[j] >> 16 == OA_ROW_NONE || next <= at)
				continue;
			if (addr >= end)
				break;
			if (addr > at + OA_CODE_MIN_GAP) {
				if (count < capacity)
					gaps[count] = (struct oa_range){at, addr};
				count++;
			}
			at = next;
		}
	}
	if (at < end) {
		if (count < capacity)
			gaps[count] = (struct oa_range){at, end};
		count++;
	}
	return count;
}
