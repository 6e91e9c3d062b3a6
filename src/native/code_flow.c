/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Follows the paths through a function.
 *
 * What is believed without proof: a call returns with rsp and rbp as they were,
 * unless what comes behind it is reached with another state; where jumps through a
 * table go, the stack is as it was at the jump. What is proved: a function
 * returns with the caller's rbp and rsp; all paths to an instruction agree. If
 * they do not, nothing of that function is believed.
 */
#include "code_flow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	RBP = 5,
	RBX = 3,
	R12 = 12,
	MAX_PADDING = 16, /* instructions between two functions that may be skipped */
	MAX_EXITS = 1 << 20,
	MAX_ROUNDS = 8, /* calls that do not return are found one after the other */
};

static const struct oa_flow_state at_entry = {8, OA_FLOW_UNKNOWN, 0, 0, 0};

static int is_entry(const struct oa_flow_state *state)
{
	return state->sp == 8 && state->saved == 0;
}

static int grow(void **array, u32 *capacity, u64 wanted, size_t size)
{
	void *bigger;

	if (wanted <= *capacity)
		return 0;
	wanted += wanted / 2 + 256;
	if (wanted > 0x7fffffff)
		return -ENOMEM;
	bigger = realloc(*array, wanted * size);
	if (!bigger)
		return -ENOMEM;
	*array = bigger;
	*capacity = (u32)wanted;
	return 0;
}

int oa_flow_open(struct oa_flow *flow, const u8 *code, u64 addr, u32 size)
{
	u32 at = 0;

	flow->code = code;
	flow->addr = addr;
	flow->size = size;
	flow->count = 0;
	flow->is_narrow = flow->has_blocks = 0;
	if (grow((void **)&flow->at, &flow->at_capacity, size, sizeof(*flow->at)))
		return -ENOMEM;
	memset(flow->at, 0, size * sizeof(*flow->at));
	while (at < size) {
		struct oa_flow_step *step;

		if (grow((void **)&flow->steps, &flow->capacity, (u64)flow->count + 1,
			 sizeof(*flow->steps)))
			return -ENOMEM;
		step = &flow->steps[flow->count++];
		oa_x86_decode(code + at, size - at, &step->insn);
		step->offset = at;
		step->flags = 0;
		flow->at[at] = flow->count;
		at += step->insn.length;
	}
	return 0;
}

void oa_flow_free(struct oa_flow *flow)
{
	free(flow->steps);
	free(flow->at);
	free(flow->work);
	free(flow->exits);
}

static void later(struct oa_flow *flow, u32 index)
{
	if (grow((void **)&flow->work, &flow->work_capacity, (u64)flow->work_count + 1,
		 sizeof(*flow->work))) {
		flow->err = -ENOMEM;
		return;
	}
	flow->work[flow->work_count++] = index;
}

static const struct oa_flow_exit *find_seed(const struct oa_flow *flow, u64 addr)
{
	u32 low = 0, high = flow->seed_count, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (flow->seeds[middle].target < addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low < flow->seed_count && flow->seeds[low].target == addr ? &flow->seeds[low] : NULL;
}

static int is_silent(const struct oa_flow *flow, u64 addr)
{
	u64 low = 0, high = flow->silent_count, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (flow->silent[middle] < addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low < flow->silent_count && flow->silent[low] == addr;
}

static int opens_frame(const struct oa_insn *insn)
{
	return (insn->kind == OA_INSN_PUSH && insn->reg != OA_INSN_NO_REG &&
		(insn->reg == RBP || insn->reg == RBX || insn->reg >= R12)) ||
	       (insn->kind == OA_INSN_ADD_SP && insn->value < 0);
}

/* Tell that a call does not return: what comes behind it is another function, or is
 * reached from elsewhere with another state.
 */
static int is_last(const struct oa_flow *flow, u32 call, u32 index,
		   const struct oa_flow_state *state)
{
	const struct oa_flow_step *step = &flow->steps[call], *next = &flow->steps[index];
	u64 behind = flow->addr + step->offset + step->insn.length;
	const struct oa_flow_exit *seed;

	if (step->insn.kind == OA_INSN_CALL && is_silent(flow, behind + (u64)(s64)step->insn.value))
		return 1;
	if (!((flow->addr + next->offset) % 16) && opens_frame(&next->insn))
		return 1;
	seed = find_seed(flow, flow->addr + next->offset);
	return seed && !oa_flow_is_same(&seed->state, state);
}

/* The call that would have to return for a step to be reached; padding may lie between. */
static u32 call_before(const struct oa_flow *flow, u32 index)
{
	u32 i;

	for (i = 0; i < MAX_PADDING && index > flow->base; i++)
		if (!flow->steps[--index].insn.is_padding)
			break;
	return index;
}

/* Note that a step is reached. `call` is the step of the call that would have to return, plus 1. */
static void reach(struct oa_flow *flow, u32 index, const struct oa_flow_state *state, u32 call)
{
	struct oa_flow_step *step = &flow->steps[index];
	struct oa_flow_state joined = step->state;

	if (call && is_last(flow, call - 1, index, state)) {
		flow->steps[call - 1].flags |= OA_FLOW_NO_RETURN;
		return;
	}
	if (!(step->flags & OA_FLOW_REACHED)) {
		step->state = *state;
		step->flags |= OA_FLOW_REACHED | (call ? OA_FLOW_WEAK : 0);
		if (index > flow->last)
			flow->last = index;
		later(flow, index);
	} else if (oa_flow_is_same(&step->state, state)) {
		if (!call)
			step->flags &= ~(u32)OA_FLOW_WEAK;
		if (oa_flow_join_copy(&step->state, state))
			later(flow, index);
	} else if (oa_flow_join(&joined, state)) {
		if (oa_flow_is_same(&step->state, &joined) &&
		    step->state.copy_reg == joined.copy_reg &&
		    step->state.wrote_bp == joined.wrote_bp)
			return;
		step->state = joined;
		later(flow, index);
	} else if (call) {
		flow->steps[call - 1].flags |= OA_FLOW_NO_RETURN;
	} else if (step->flags & OA_FLOW_WEAK) {
		index = call_before(flow, index);
		flow->steps[index].flags |= OA_FLOW_NO_RETURN;
		flow->again = 1;
	} else if (!(step->flags & OA_FLOW_ENTRY)) {
		flow->is_wrong = 1;
	}
}

/* Tell that a jump leads into the middle of the function before: this one is a part of it. */
static int is_part(const struct oa_flow *flow, u32 target, const struct oa_flow_state *state)
{
	const struct oa_flow_step *step;

	if (!flow->at[target])
		return 1;
	step = &flow->steps[flow->at[target] - 1];
	return step->flags & OA_FLOW_REACHED && !oa_flow_is_same(&step->state, state);
}

/* Tell that a path of a function before leads to an offset, too. */
static int leads_on(const struct oa_flow *flow, u32 target)
{
	return flow->at[target] && flow->steps[flow->at[target] - 1].flags & OA_FLOW_REACHED;
}

static void jump(struct oa_flow *flow, const struct oa_flow_step *step,
		 const struct oa_flow_state *state)
{
	s64 target = (s64)step->offset + step->insn.length + step->insn.value;
	struct oa_flow_exit *exit;

	if (target >= flow->steps[flow->base].offset && target < flow->size) {
		if (flow->at[target])
			reach(flow, flow->at[target] - 1, state, 0);
		else
			flow->is_wrong = 1; /* into an instruction */
		return;
	}
	flow->returns = 1;
	if (target >= 0 && target < flow->size && is_part(flow, (u32)target, state))
		flow->is_wrong = 1;
	else if (target >= 0 && target < flow->size)
		flow->joins |= is_entry(state) && leads_on(flow, (u32)target);
	/* A tail call, or nothing is known, or it is nonsense. */
	if (is_entry(state) || !oa_flow_finds_cfa(state) || state->saved == OA_FLOW_UNKNOWN ||
	    flow->exit_count >= MAX_EXITS)
		return;
	if (grow((void **)&flow->exits, &flow->exit_capacity, (u64)flow->exit_count + 1,
		 sizeof(*flow->exits))) {
		flow->err = -ENOMEM;
		return;
	}
	exit = &flow->exits[flow->exit_count++];
	exit->target = flow->addr + (u64)target;
	exit->state = *state;
}

static void keep(struct oa_flow_state *kept, int *count, const struct oa_flow_state *state)
{
	if (!*count) {
		*kept = *state;
		*count = 1;
	} else if (!oa_flow_join(kept, state)) {
		*count = 2;
	}
}

static void table_jump(struct oa_flow *flow, u32 index, const struct oa_flow_state *state)
{
	if (is_entry(state) && !oa_flow_is_by_table(flow, index)) {
		flow->returns = flow->has_return = 1;
		return;
	}
	if (!oa_flow_is_by_table(flow, index) && oa_flow_is_to_label(flow, index))
		keep(&flow->label, &flow->has_label, state);
	else
		keep(&flow->table, &flow->has_table, state);
}

/* Go on from a step as far as the code runs straight. */
static void run(struct oa_flow *flow, u32 index)
{
	for (;;) {
		const struct oa_flow_step *step = &flow->steps[index];
		struct oa_flow_state state = step->state;
		u32 call = 0, before = flow->work_count;

		oa_flow_apply(flow, index, &state);
		switch (step->insn.kind) {
		case OA_INSN_BAD:
			flow->is_wrong = 1;
			return;
		case OA_INSN_RETURN:
			/* GMP leaves early with rbp saved, but not yet used. V8 takes a number
			 * of arguments off that is not known here.
			 */
			flow->is_wrong |= (state.saved && state.wrote_bp) ||
					  (state.sp != 8 && state.sp != OA_FLOW_UNKNOWN) ||
					  (state.sp != 8 && flow->is_narrow);
			flow->returns = flow->has_return = 1;
			return;
		case OA_INSN_STOP:
			return;
		case OA_INSN_JUMP_INDIRECT:
			table_jump(flow, index, &state);
			return;
		case OA_INSN_JUMP:
			jump(flow, step, &state);
			return;
		case OA_INSN_BRANCH:
			jump(flow, step, &state);
			break;
		case OA_INSN_CALL:
		case OA_INSN_CALL_INDIRECT:
			if (step->flags & OA_FLOW_NO_RETURN)
				return;
			call = index + 1;
			break;
		default: /* what fills the space behind a call that does not return */
			if (step->insn.is_padding && step->flags & OA_FLOW_WEAK)
				call = call_before(flow, index) + 1;
		}
		if (index + 1 >= flow->count) {
			flow->is_wrong |= !call && !is_entry(&state);
			flow->returns |= !call;
			return;
		}
		before = flow->work_count;
		reach(flow, index + 1, &state, call);
		if (flow->work_count == before || flow->err)
			return;
		index = flow->work[--flow->work_count];
	}
}

static void drain(struct oa_flow *flow)
{
	while (flow->work_count && !flow->err)
		run(flow, flow->work[--flow->work_count]);
}

/* Begin with what is known: the function's start, or a jump from another function. */
static void begin(struct oa_flow *flow)
{
	const struct oa_flow_state *state = &at_entry;
	const struct oa_flow_step *first = &flow->steps[flow->base];
	u64 addr = flow->addr + first->offset;
	const struct oa_flow_exit *seed = find_seed(flow, addr);

	if (seed && flow->known < OA_FLOW_NAMED)
		state = &seed->state;
	else if (flow->known == OA_FLOW_GUESS && addr % 16 && !opens_frame(&first->insn) &&
		 !flow->has_blocks)
		return;
	flow->steps[flow->base].flags |= OA_FLOW_ENTRY;
	reach(flow, flow->base, state, 0);
	drain(flow);
}

static int ends(const struct oa_flow_step *step)
{
	return step->insn.kind == OA_INSN_JUMP || step->insn.kind == OA_INSN_RETURN ||
	       step->insn.kind == OA_INSN_STOP || step->insn.kind == OA_INSN_JUMP_INDIRECT ||
	       step->flags & OA_FLOW_NO_RETURN;
}

static int is_aligned(const struct oa_flow *flow, u32 index)
{
	return !((flow->addr + flow->steps[index].offset) % 16);
}

/* Hand-made functions that leave the stack alone have several starts, one jumping into the other:
 * tell that what begins at `index`, to which nothing leads, is one of them.
 */
static int is_other_start(const struct oa_flow *flow, u32 index)
{
	u32 i;

	if (!is_aligned(flow, index) || !ends(&flow->steps[call_before(flow, index)]))
		return 0;
	for (i = flow->base; i <= flow->last; i++)
		if (flow->steps[i].flags & OA_FLOW_REACHED && !is_entry(&flow->steps[i].state))
			return 0;
	return !flow->is_wrong;
}

/* Give a state to what no path led to; returns the step where the next function begins. */
static u32 fill(struct oa_flow *flow)
{
	u32 i;

	for (i = flow->base + 1; i < flow->count && !flow->err; i++) {
		const struct oa_flow_step *step = &flow->steps[i];
		const struct oa_flow_exit *seed;

		if (step->flags & OA_FLOW_REACHED || step->insn.is_padding)
			continue;
		seed = find_seed(flow, flow->addr + step->offset);
		if (seed)
			reach(flow, i, &seed->state, 0);
		else if (flow->is_narrow && i > flow->last && is_aligned(flow, i))
			return i;
		else if (flow->has_label == 1 && oa_flow_takes_label(flow, i, i, OA_INSN_NO_REG))
			reach(flow, i, &flow->label, 0);
		else if (flow->has_table == 1 && ends(&flow->steps[i - 1]))
			reach(flow, i, &flow->table, 0);
		else if (flow->has_table == 1 && flow->steps[i - 1].insn.is_padding)
			reach(flow, i, &flow->table, 0);
		else if (i > flow->last)
			return i;
		else if (is_other_start(flow, i))
			reach(flow, i, &at_entry, 0);
		drain(flow);
	}
	return i;
}

/* Parts of other functions hardly ever return. */
static void check_end(struct oa_flow *flow)
{
	const struct oa_flow_step *first = &flow->steps[flow->base];

	if (flow->known == OA_FLOW_GUESS && first->flags & OA_FLOW_REACHED &&
	    !find_seed(flow, flow->addr + first->offset))
		flow->is_wrong |= !flow->has_return && !flow->joins;
}

static u32 follow(struct oa_flow *flow, u32 base)
{
	u32 exits = flow->exit_count, end, round, i;

	for (round = 0; round < MAX_ROUNDS; round++) {
		flow->base = flow->last = base;
		flow->exit_count = exits;
		flow->has_table = flow->has_label = flow->is_wrong = flow->again = flow->has_frame =
			0;
		flow->returns = flow->has_return = flow->joins = 0;
		flow->work_count = 0;
		begin(flow);
		end = fill(flow);
		check_end(flow);
		if (flow->err)
			return 0;
		if (!flow->again)
			break;
		for (i = base; i <= flow->last; i++)
			flow->steps[i].flags &= OA_FLOW_NO_RETURN;
	}
	flow->is_wrong |= flow->again;
	return end;
}

/* Where nothing tells functions apart (dav1d's assembler), those behind one that jumps through a
 * table may be taken for its blocks. If that leads to a contradiction, functions of this window
 * end where the next may begin; not before, since tables lead to aligned blocks, too.
 */
u32 oa_flow_follow(struct oa_flow *flow, u32 base, u32 known)
{
	u32 exits = flow->exit_count, end, i;

	flow->known = known;
	end = follow(flow, base);
	if (end && !flow->is_narrow && flow->is_wrong && flow->has_table) {
		for (i = base; i < end; i++)
			flow->steps[i].flags = 0;
		flow->exit_count = exits;
		flow->is_narrow = 1;
		end = follow(flow, base);
	}
	if (flow->is_narrow && flow->has_table)
		flow->has_blocks =
			!flow->is_wrong && flow->has_table == 1 && is_entry(&flow->table);
	return end;
}
