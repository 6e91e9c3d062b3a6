/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_PYTHON_COPY_H
#define OA_PYTHON_COPY_H

/* What of a thread's Python frames goes into a deferred sample: all that the unwinder
 * looks at. In a moment the thread goes on, and they are others.
 */

#include "find.h"
#include "python.h"

/* Go to the newest frame of the next thread state; false if there is none. */
static __always_inline bool py_next_cursor(struct oa_python_state *p)
{
	u64 state = p->candidate;

	oa_opaque(state);
	if (state >= OA_PY_STATES)
		return false;
	p->candidate = state + 1;
	p->at = p->cursor[state];
	p->next = p->proc.kind == OA_PY_CFRAME; /* a _PyCFrame comes first */
	return true;
}

/* Copy what the unwinder will look at of the frame at p->at, and go to its caller. */
static __always_inline void py_copy_frame(struct oa_python_state *p, struct oa_python_copy *copy)
{
	u32 bytes = py_frame_bytes(&p->proc);
	u64 code, next = p->next ? p->proc.cframe_frame : p->proc.frame_previous;

	copy->addr = p->at;
	p->next = 0;
	oa_opaque(bytes);
	if (bytes <= sizeof(p->frame))
		read_user(p->frame, bytes, copy->addr); /* zeros where there is none */
	__builtin_memcpy(copy->memory, p->frame, sizeof(copy->memory));
	p->at = py_u64(p, next);
	code = py_u64(p, p->proc.frame_code) & ~(u64)PY_TAG_MASK;
	copy->code_addr = 0;
	if (!read_user(copy->code, PY_CODE_BYTES, code + p->proc.code_block))
		copy->code_addr = code;
	read_user(&copy->first_traceable, sizeof(copy->first_traceable),
		  code + p->proc.code_first_traceable);
}

/* Copy one more frame of this thread behind `p->end` bytes; false if there is none, or no room.
 *
 * verifier: what a turn leaves to the next lies in scratch; with bounds of its own in each turn
 * none is like another, and a million instructions are not enough.
 */
static __always_inline bool copy_next(struct oa_python_state *p, struct oa_deferred *d)
{
	u64 at = p->end;

	if (!p->at)
		return py_next_cursor(p);
	oa_opaque(at);
	if (at > OA_COPY_BYTES - sizeof(struct oa_python_copy))
		return false;
	py_copy_frame(p, (struct oa_python_copy *)(d->stack + at));
	p->end += py_copy_bytes(&p->proc);
	return true;
}

#ifndef OA_HOST
static __always_inline u32 copy_python_turn(void)
{
	struct oa_state *s = current_state();
	struct oa_deferred *d = current_deferred();

	return !s || !d || !copy_next(&s->python, d);
}

static long copy_python_step(u32 i, void *unused)
{
	return copy_python_turn();
}

OA_VERIFIED_ONCE u32 copy_python_bounded(void)
{
	return copy_python_turn();
}
#endif

/* Copy the frames of this thread behind `begin` bytes; returns where the copies end. */
static __always_inline u64 copy_python(struct oa_state *s, struct oa_deferred *d, u64 begin,
				       bool has_loop)
{
	struct oa_python_state *p = &s->python;

	d->python_bytes = 0;
	if (!d->python.minor)
		return begin;
	p->at = 0;
	p->end = begin;
	/* verifier: if clang knows that p->at is 0 it enters the loop in its middle, which 5.10
	 * takes for a back-edge. Guard: `make verifier-report`, integration/test_guest_record.py.
	 */
	asm volatile("" : : : "memory");
#ifndef OA_HOST
	if (has_loop) {
		bpf_loop(OA_MAX_PYTHON_COPIES, copy_python_step, (void *)0, 0);
		d->python_bytes = p->end - begin;
		return p->end;
	}
#endif
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < OA_MAX_PYTHON_COPIES; i++) {
#if defined(OA_HOST) || !defined(__TARGET_ARCH_x86)
		if (!copy_next(p, d))
			break;
#else
		if (copy_python_bounded())
			break;
#endif
	}
	d->python_bytes = p->end - begin;
	return p->end;
}

/* The interpreter of the process: as user space told, else as it can be found. */
static __always_inline bool find_proc(struct oa_state *s)
{
	struct oa_python_state *p = &s->python;
	u32 space = s->space;
	const struct oa_python_proc *proc = bpf_map_lookup_elem(&python_procs, &space);

	if (proc) {
		p->proc = *proc;
		return p->proc.minor;
	}
#ifndef OA_HOST
	return find_interpreter(p, find_segments());
#else
	return false;
#endif
}

/* Find out whether the thread has Python frames, and where they begin. */
static __always_inline void find_python(struct oa_state *s, struct oa_deferred *d)
{
	struct oa_python_state *p = &s->python;

	d->python.minor = 0;
	py_forget(p);
	if (!find_proc(s))
		return;
	py_find_states(s);
#pragma clang loop unroll(disable)
	for (u32 i = 0; i <= 2 * OA_PY_WALK; i++) {
		if (p->phase != PY_SEARCH || !py_search_next(p))
			break;
	}
	if (p->phase == PY_SEARCH)
		py_search_end(s);
	if (p->phase != PY_READY)
		return;
	d->python = p->proc;
	__builtin_memcpy(d->cursors, p->cursor, sizeof(d->cursors));
}

#endif
