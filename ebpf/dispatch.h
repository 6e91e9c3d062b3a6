/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_DISPATCH_H
#define OA_DISPATCH_H

/* Which unwinder goes on, and the only tail calls. */

#include "sample.h"

enum {
	/* Tail calls to unwinders; one more goes to unwind_stop. The kernel allows 33
	 * (MAX_TAIL_CALL_CNT, arch/x86/net/bpf_jit_comp.c; seen 5.10 to 7.3).
	 */
	MAX_TAIL_CALLS = 30,
/* Steps of a bounded unwinder in one program: what 5.10's verifier takes. Where a step is
 * a function of its own they cost it nothing, and reach as far as a trace may be long.
 */
#if defined(__TARGET_ARCH_x86)
	BOUNDED_STEPS = 64,
#else
	BOUNDED_STEPS = 16,
#endif
};

/* Go on with the unwinder that owns the pc, or end the trace. Returns only if it cannot. */
static __always_inline void dispatch(void *ctx, struct oa_state *s)
{
	if (!s->done && s->tail_calls++ >= MAX_TAIL_CALLS)
		stop(s, OA_FAULT_MAX_STEPS);
	/* Constant indices: the kernel makes direct jumps of such tail calls (428d5df1fa4f,
	 * "bpf, x86: Emit patchable direct jump as tail call", 5.5).
	 */
	if (s->done)
		bpf_tail_call_static(ctx, &unwinders, OA_UNWINDER_STOP);
	else if (s->mapping.unwinder == OA_UNWINDER_NATIVE)
		bpf_tail_call_static(ctx, &unwinders, OA_UNWINDER_NATIVE);
	else
		bpf_tail_call_static(ctx, &unwinders, OA_UNWINDER_PYTHON);
	count(OA_COUNTER_COUNT + OA_FAULT_MAX_STEPS, 1);
	count(OA_COUNTER_LOST_INTERNAL, 1);
}

/* An unwinder in two forms; autoload picks one. `name` takes some steps and calls
 * itself again, `name_loop` takes all of them in one program. A callback reference
 * is rejected before 5.17 (e6f2dd0f8067, "bpf: Add bpf_loop helper") even in dead
 * code, so they are two programs.
 *
 * verifier: a step is a function that it looks at by itself, once; with the steps in the
 * loop unwind_python took 219,809 instructions, and 5.3 s in a guest with 5.10. With them in
 * bpf_loop's callback unwind_python_loop took 36,024 on 7.3, and on 6.19 a million were not
 * enough, for which the kernel takes 900 MB. Guard: `make verifier-report`.
 *
 * Python's unwinder also walks the native frames between: stacks may switch more
 * often than there are tail calls.
 */
#define OA_UNWINDER(name, step, owner)                                                             \
	static __always_inline u32 name##_take_step(void)                                          \
	{                                                                                          \
		struct oa_state *s = current_state();                                              \
                                                                                                   \
		if (!s || owner##_LEFT(s))                                                         \
			return 1;                                                                  \
		s->steps++;                                                                        \
		step(s);                                                                           \
		return 0;                                                                          \
	}                                                                                          \
                                                                                                   \
	OA_VERIFIED_ONCE u32 name##_bounded_step(void)                                             \
	{                                                                                          \
		return name##_take_step();                                                         \
	}                                                                                          \
                                                                                                   \
	OA_PROGRAM int unwind_##name(OA_CONTEXT *ctx)                                              \
	{                                                                                          \
		struct oa_state *s;                                                                \
                                                                                                   \
		_Pragma("clang loop unroll(disable)") for (int i = 0; i < BOUNDED_STEPS;           \
							   i++) if (name##_bounded_step()) break;  \
		s = current_state();                                                               \
		if (!s) {                                                                          \
			count(OA_COUNTER_LOST_INTERNAL, 1);                                        \
			return 0;                                                                  \
		}                                                                                  \
		dispatch(ctx, s);                                                                  \
		return 0;                                                                          \
	}                                                                                          \
                                                                                                   \
	OA_LOOP_STEP u32 name##_one_step(void)                                                     \
	{                                                                                          \
		return name##_take_step();                                                         \
	}                                                                                          \
                                                                                                   \
	static long name##_loop_step(u32 i, void *unused)                                          \
	{                                                                                          \
		return name##_one_step() & 1; /* all that the verifier lets it return */           \
	}                                                                                          \
                                                                                                   \
	OA_PROGRAM int unwind_##name##_loop(OA_CONTEXT *ctx)                                       \
	{                                                                                          \
		struct oa_state *s;                                                                \
		long steps = bpf_loop(LOOP_STEPS, name##_loop_step, (void *)0, 0);                 \
                                                                                                   \
		s = current_state();                                                               \
		if (!s) {                                                                          \
			count(OA_COUNTER_LOST_INTERNAL, 1);                                        \
			return 0;                                                                  \
		}                                                                                  \
		if (steps >= LOOP_STEPS)                                                           \
			stop(s, OA_FAULT_MAX_STEPS);                                               \
		/* What may be deferred is for unwind_stop: it alone has the code for it. */       \
		if (s->done && !s->missing)                                                        \
			finish(s);                                                                 \
		else                                                                               \
			dispatch(ctx, s);                                                          \
		return 0;                                                                          \
	}

/* When an unwinder is not the one to go on. */
#define OA_UNWINDER_NATIVE_LEFT(s) ((s)->done || (s)->mapping.unwinder != OA_UNWINDER_NATIVE)
#define OA_UNWINDER_PYTHON_LEFT(s) ((s)->done)

#endif
