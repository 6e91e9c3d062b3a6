/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_CODE_FLOW_H
#define OA_CODE_FLOW_H
#ifndef OA_CDEF
/* What holds before each instruction of some x86-64 functions, found by following
 * every path through them (code_flow.c), and where they begin (code.c).
 */
#include "x86_insn.h"

enum { OA_FLOW_UNKNOWN = -0x7fffffff - 1 };

/* Distances in bytes; the CFA is the stack pointer before the call. */
struct oa_flow_state {
	s32 sp; /* CFA - rsp, or UNKNOWN */
	s32 bp; /* CFA - rbp, or UNKNOWN: it is no frame pointer here */
	s32 saved; /* CFA - the slot with the caller's rbp; 0: it is in rbp; UNKNOWN: it is lost */
	u32 copy_reg; /* number of another register that rsp was copied to, plus 1; 0: none */
	s32 copy; /* CFA - that */
	u32 wrote_bp; /* rbp was written since the caller's is in a slot */
};

enum oa_flow_flag {
	OA_FLOW_REACHED = 1, /* `state` holds */
	OA_FLOW_WEAK = 2, /* reached only if the call before it returns */
	OA_FLOW_NO_RETURN = 4, /* this call does not return */
	OA_FLOW_ENTRY = 8, /* its state was given, and does not change */
};

/* What is known of a function's start. */
enum oa_flow_start {
	OA_FLOW_GUESS, /* nothing leads here */
	OA_FLOW_TAKEN, /* its address is taken; it may be a part of a function */
	OA_FLOW_NAMED, /* a symbol says so */
	OA_FLOW_CALLED,
};

/* An instruction, and what holds before it. */
struct oa_flow_step {
	struct oa_insn insn;
	u32 offset; /* from the start of the window */
	u32 flags; /* enum oa_flow_flag */
	struct oa_flow_state state;
};

/* A jump out of the window that is no tail call: part of the function lies elsewhere. */
struct oa_flow_exit {
	u64 target; /* address */
	struct oa_flow_state state;
};

/* Some code, and the functions in it. Steps before `base` are done with. */
struct oa_flow {
	const u8 *code;
	u64 addr; /* of code[0] */
	u32 size;
	struct oa_flow_step *steps;
	u32 count;
	u32 capacity;
	u32 *at; /* of each byte: the step that begins there, plus 1 */
	u32 at_capacity;
	u32 *work; /* steps to go on from */
	u32 work_count;
	u32 work_capacity;
	struct oa_flow_exit *exits;
	u32 exit_count;
	u32 exit_capacity;
	const struct oa_flow_exit *seeds; /* exits of other functions, sorted: they may lead here */
	u32 seed_count;
	const u64 *silent; /* addresses of functions that do not return, sorted */
	u64 silent_count;
	/* Functions end where others may begin, though they jump through tables: */
	int is_narrow;
	int has_blocks; /* what no path led to may be theirs, with the stack as at their start */
	/* Of the function that is followed: */
	u32 base;
	u32 last; /* the last step reached */
	u32 known; /* enum oa_flow_start */
	int returns; /* it does, or goes on elsewhere */
	int has_return; /* it does */
	int joins; /* it goes on in a function before, with the stack as at its start */
	struct oa_flow_state table; /* what holds at jumps through tables */
	int has_table; /* 1: one state; 2: they differ */
	struct oa_flow_state label; /* what holds at jumps to a label that a register has */
	int has_label; /* likewise */
	int is_wrong; /* the paths contradict one another */
	int again; /* a call turned out not to return */
	int has_frame; /* rbp is set up as frame pointer somewhere */
	int err;
};

/* Make room and decode `size` bytes. Returns 0 or -ENOMEM. */
int oa_flow_open(struct oa_flow *flow, const u8 *code, u64 addr, u32 size);
void oa_flow_free(struct oa_flow *flow);

int oa_flow_is_same(const struct oa_flow_state *a, const struct oa_flow_state *b);
/* Forget the copy of rsp if the other state has another, and that rbp is as it was if it is not
 * there: 1 if that changed anything. */
int oa_flow_join_copy(struct oa_flow_state *state, const struct oa_flow_state *other);
/* Tell that rsp, rbp or a copy of rsp leads to the CFA. */
int oa_flow_finds_cfa(const struct oa_flow_state *state);
/* What holds if either of two states may: 0 if that is not enough to find the CFA. */
int oa_flow_join(struct oa_flow_state *state, const struct oa_flow_state *other);
/* What an instruction does to the state. */
void oa_flow_apply(struct oa_flow *flow, u32 index, struct oa_flow_state *state);
int oa_flow_is_by_table(const struct oa_flow *flow, u32 index);
int oa_flow_takes_label(const struct oa_flow *flow, u32 near, u32 label, u8 reg);
int oa_flow_is_to_label(const struct oa_flow *flow, u32 index);
/* Find the extent of the function that begins at step `base` and what holds in it. Returns the
 * step behind its end, or 0 without memory. */
u32 oa_flow_follow(struct oa_flow *flow, u32 base, u32 known);

#endif
#endif
