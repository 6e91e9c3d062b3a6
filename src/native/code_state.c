/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* What instructions do to the state that holds before them, and joining two states. */
#include "code_flow.h"

enum {
	RSP = 4,
	RBP = 5,
	ANCHOR_STEPS = 16,
	MAX_FRAME = 1 << 24, /* bytes; beyond, it is nonsense */
};

int oa_flow_is_same(const struct oa_flow_state *a, const struct oa_flow_state *b)
{
	return a->sp == b->sp && a->bp == b->bp && a->saved == b->saved;
}

static int has_frame(const struct oa_flow_state *state)
{
	return state->sp != OA_FLOW_UNKNOWN || state->bp != OA_FLOW_UNKNOWN;
}

int oa_flow_finds_cfa(const struct oa_flow_state *state)
{
	return has_frame(state) || state->copy_reg;
}

static void drop_copy(struct oa_flow_state *state)
{
	state->copy_reg = 0;
	state->copy = 0;
}

int oa_flow_join_copy(struct oa_flow_state *state, const struct oa_flow_state *other)
{
	int wrote = other->wrote_bp && !state->wrote_bp;

	state->wrote_bp |= other->wrote_bp;
	if (!state->copy_reg || (state->copy_reg == other->copy_reg && state->copy == other->copy))
		return wrote;
	drop_copy(state);
	return 1;
}

int oa_flow_join(struct oa_flow_state *state, const struct oa_flow_state *other)
{
	if (state->saved != other->saved)
		return 0;
	oa_flow_join_copy(state, other);
	if (!oa_flow_finds_cfa(other)) /* nothing is known of that path, so nothing contradicts */
		return 1;
	if (!oa_flow_finds_cfa(state)) {
		u32 wrote = state->wrote_bp;

		*state = *other;
		state->wrote_bp = wrote;
		return 1;
	}
	if (state->sp != other->sp) /* stack of varying size */
		state->sp = OA_FLOW_UNKNOWN;
	if (state->bp != other->bp) /* not used as frame pointer */
		state->bp = OA_FLOW_UNKNOWN;
	return oa_flow_finds_cfa(state);
}

/* V8's handlers give their frame back piece by piece (`mov (%rbp),%rbp; add $N,%rsp;
 * jmp *%rcx`), behind calls that took arguments off the stack. So the stack
 * pointer is told by how it must be in the end.
 */
static void anchor(const struct oa_flow *flow, u32 index, struct oa_flow_state *state)
{
	s64 sum = 0;
	u32 i;

	for (i = index; i < flow->count && i < index + ANCHOR_STEPS; i++) {
		const struct oa_insn *insn = &flow->steps[i].insn;

		if (insn->kind == OA_INSN_ADD_SP)
			sum += insn->value;
		else if (insn->kind == OA_INSN_JUMP_INDIRECT || insn->kind == OA_INSN_RETURN ||
			 insn->kind == OA_INSN_JUMP)
			break;
		else if (insn->kind != OA_INSN_OTHER && insn->kind != OA_INSN_ADDRESS)
			return;
	}
	if (i < flow->count && i < index + ANCHOR_STEPS && sum >= 0 && sum < MAX_FRAME)
		state->sp = (s32)(8 + sum);
}

/* V8's builtins take the return address off, push arguments, and push it again right before
 * the frame pointer. Tell that `push %rbp; mov %rsp,%rbp` at `index` makes such a frame.
 */
static int is_frame_again(const struct oa_flow *flow, u32 index)
{
	u32 i, steps = ANCHOR_STEPS;
	u8 pushed = OA_INSN_NO_REG;

	if (index < flow->base + 2 || flow->steps[index - 1].insn.kind != OA_INSN_PUSH ||
	    flow->steps[index - 1].insn.reg != RBP)
		return 0;
	for (i = index - 1; i-- > flow->base && steps--;) {
		const struct oa_flow_step *step = &flow->steps[i];

		if (step->insn.kind == OA_INSN_POP && step->flags & OA_FLOW_REACHED &&
		    step->state.sp == 8)
			return step->insn.reg != OA_INSN_NO_REG && step->insn.reg == pushed;
		if (step->insn.kind == OA_INSN_PUSH && pushed == OA_INSN_NO_REG)
			pushed = step->insn.reg;
		else if (step->insn.kind != OA_INSN_PUSH && step->insn.kind != OA_INSN_OTHER)
			return 0;
	}
	return 0;
}

static void move_sp(struct oa_flow_state *state, s64 bytes)
{
	s64 sp = (s64)state->sp - bytes;

	if (state->sp == OA_FLOW_UNKNOWN)
		return;
	state->sp = (s32)sp;
	if (sp < 8 || sp > MAX_FRAME) /* also where the return address is taken off (vfork) */
		state->sp = OA_FLOW_UNKNOWN;
}

/* The slot at *(reg + value), as a distance from the CFA; 0 if it is not known. */
static s32 slot_at(const struct oa_flow_state *state, u8 reg, s32 value)
{
	s32 from = reg == RSP ? state->sp : state->bp;
	s64 slot = (s64)from - value;

	return from == OA_FLOW_UNKNOWN || slot <= 8 || slot > MAX_FRAME ? 0 : (s32)slot;
}

static void save_bp(struct oa_flow_state *state, s32 slot)
{
	state->saved = slot;
	state->wrote_bp = 0;
}

static void pop_bp(struct oa_flow_state *state)
{
	state->wrote_bp = 1;
	if (!state->saved || state->saved == OA_FLOW_UNKNOWN)
		state->saved = OA_FLOW_UNKNOWN;
	else if (state->sp == state->saved || !has_frame(state))
		state->saved = 0;
	state->bp = OA_FLOW_UNKNOWN;
}

static void lose_bp(struct oa_flow_state *state)
{
	state->bp = OA_FLOW_UNKNOWN;
	state->wrote_bp = 1;
	if (!state->saved)
		state->saved = OA_FLOW_UNKNOWN;
}

void oa_flow_apply(struct oa_flow *flow, u32 index, struct oa_flow_state *state)
{
	const struct oa_insn *insn = &flow->steps[index].insn;
	s32 slot;

	if (state->copy_reg && (insn->writes >> (state->copy_reg - 1) & 1 ||
				(insn->kind == OA_INSN_POP && insn->reg + 1u == state->copy_reg)))
		drop_copy(state);
	switch (insn->kind) {
	case OA_INSN_PUSH:
		move_sp(state, -8);
		if (insn->reg == RBP && !state->saved && state->sp != OA_FLOW_UNKNOWN)
			save_bp(state, state->sp);
		return;
	case OA_INSN_POP:
		if (insn->reg == RBP)
			pop_bp(state);
		move_sp(state, 8);
		return;
	case OA_INSN_ADD_SP:
		move_sp(state, insn->value);
		return;
	case OA_INSN_SP_TO_BP:
		if (state->sp == OA_FLOW_UNKNOWN && !state->saved && !insn->value &&
		    is_frame_again(flow, index))
			state->sp = state->saved = 16;
		lose_bp(state);
		if (state->sp != OA_FLOW_UNKNOWN && (s64)state->sp - insn->value > 0) {
			state->bp = state->sp - insn->value;
			flow->has_frame |= state->bp == 16 && state->saved == 16;
		}
		return;
	case OA_INSN_BP_TO_SP:
	case OA_INSN_LEAVE:
		state->sp = OA_FLOW_UNKNOWN;
		if (state->bp != OA_FLOW_UNKNOWN && (s64)state->bp - insn->value > 0)
			state->sp = state->bp - insn->value;
		if (insn->kind == OA_INSN_LEAVE) {
			pop_bp(state);
			move_sp(state, 8);
		}
		return;
	case OA_INSN_LOAD_BP:
		slot = slot_at(state, insn->reg, insn->value);
		if (slot && slot == state->saved) {
			state->saved = 0;
			state->bp = OA_FLOW_UNKNOWN;
			state->wrote_bp = 1;
			if (insn->reg == RBP)
				anchor(flow, index + 1, state);
		} else {
			lose_bp(state);
		}
		return;
	case OA_INSN_STORE_BP:
		slot = slot_at(state, insn->reg, insn->value);
		if (slot && !state->saved)
			save_bp(state, slot);
		return;
	case OA_INSN_SP_TO_REG: /* hand-made code does so before it aligns the stack */
		if (state->sp != OA_FLOW_UNKNOWN) {
			state->copy_reg = insn->reg + 1u;
			state->copy = state->sp;
		}
		return;
	case OA_INSN_REG_TO_SP:
		state->sp = state->copy_reg == insn->reg + 1u ? state->copy : OA_FLOW_UNKNOWN;
		return;
	case OA_INSN_LOSE_SP:
		state->sp = OA_FLOW_UNKNOWN;
		return;
	case OA_INSN_LOSE_BP:
		lose_bp(state);
		return;
	}
}
