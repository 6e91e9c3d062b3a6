/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_UNWINDERS_H
#define OA_UNWINDERS_H

/* The programs that a stack is walked by: its begin, per kind of code an unwinder, its end. */

#include "sample.h"
#include "python.h"
#include "defer.h"
#include "dispatch.h"

/* Walk a stack from where `begin` was called, and send what it yields. */
static __always_inline void unwind(OA_CONTEXT *ctx, struct oa_state *s, u64 task, u32 pid)
{
	add_kernel_frames(s, ctx);
	if (!set_regs(s, ctx, task)) {
		count(OA_COUNTER_KERNEL_ONLY, 1);
		finish(s);
		return;
	}
	s->trace.sample.flags |= 1 << OA_SAMPLE_USER_BIT;
	if (find_space(s, pid)) {
		settle(s);
		if (s->missing)
			report(s, OA_REPORT_UNKNOWN_PC, s->regs.pc);
	} else {
		s->missing = 1;
		stop(s, OA_FAULT_NO_MAPPING);
		report(s, OA_REPORT_NEW, s->regs.pc);
	}
	dispatch(ctx, s);
}

OA_UNWINDER(native, native_step, OA_UNWINDER_NATIVE)
OA_UNWINDER(python, python_step, OA_UNWINDER_PYTHON)

static __always_inline int end_stack(OA_CONTEXT *ctx, bool has_loop)
{
	struct oa_state *s = current_state();

	if (!s) {
		count(OA_COUNTER_LOST_INTERNAL, 1);
		return 0;
	}
	if (s->missing && s->trace.user_frames)
		report(s, OA_REPORT_UNKNOWN_PC, s->regs.pc);
	if (!defer(s, ctx, has_loop))
		finish(s);
	return 0;
}

/* The last program of a chain of tail calls, and of every stack that met code not loaded yet:
 * copying stacks takes most of what the verifier looks at, and is here only. In two forms, as the
 * unwinders.
 */
OA_PROGRAM
int unwind_stop(OA_CONTEXT *ctx)
{
	return end_stack(ctx, false);
}

OA_PROGRAM
int unwind_stop_loop(OA_CONTEXT *ctx)
{
	return end_stack(ctx, true);
}

#endif
