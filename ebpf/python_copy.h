/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_PYTHON_COPY_H
#define OA_PYTHON_COPY_H

/* What of a thread's Python frames goes into a deferred sample: all that the unwinder
 * looks at. In a moment the thread goes on, and they are others.
 */

#include "find.h"
#include "python.h"

/* Go to the newest frame of the next thread state that has any; false if there is none. */
static __always_inline bool py_next_cursor(struct oa_python_state *p)
{
	u64 cursor = 0;

#pragma clang loop unroll(full)
	for (u32 i = 0; i < OA_PY_STATES; i++) {
		if (i >= p->candidate && !cursor && p->cursor[i]) {
			cursor = p->cursor[i];
			p->candidate = i + 1;
		}
	}
	p->at = cursor;
	p->next = p->proc.kind == OA_PY_CFRAME; /* a _PyCFrame comes first */
	return cursor;
}

/* Copy what the unwinder will look at of the frame at p->at, and go to its caller. */
static __always_inline void py_copy_frame(struct oa_python_state *p, struct oa_python_copy *copy)
{
	u32 bytes = py_frame_bytes(&p->proc);
	u64 code;

	copy->addr = p->at;
	copy->code_addr = 0;
	copy->first_traceable = 0;
	p->at = 0;
	oa_opaque(bytes);
	if (bytes > sizeof(p->frame) || read_user(p->frame, bytes, copy->addr))
		return;
	__builtin_memcpy(copy->memory, p->frame, PY_FRAME_BYTES);
	if (p->next) {
		p->next = 0;
		p->at = py_u64(p, p->proc.cframe_frame);
		return;
	}
	if (p->proc.kind == OA_PY_OBJECT)
		__builtin_memcpy(copy->memory + PY_FRAME_BYTES, p->frame + PY_FRAME_BYTES,
				 PY_OBJECT_BYTES - PY_FRAME_BYTES);
	p->at = py_u64(p, p->proc.frame_previous);
	code = py_u64(p, p->proc.frame_code) & ~(u64)PY_TAG_MASK;
	if (!read_user(copy->code, PY_CODE_BYTES, code + p->proc.code_block))
		copy->code_addr = code;
	if (p->proc.kind != OA_PY_OBJECT)
		read_user(&copy->first_traceable, sizeof(copy->first_traceable),
			  code + p->proc.code_first_traceable);
}

/* Copy the frames of this thread behind `begin` bytes; returns where the copies end.
 *
 * verifier: what a turn leaves to the next lies in scratch (`p->end`: where it goes); with
 * bounds of its own in each turn none is like another, and a million are not enough.
 */
static __always_inline u64 copy_python(struct oa_state *s, struct oa_deferred *d, u64 begin)
{
	struct oa_python_state *p = &s->python;
	u64 at;

	d->python_bytes = 0;
	if (!d->python.minor)
		return begin;
	p->at = 0;
	p->end = begin;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < OA_MAX_PYTHON_COPIES; i++) {
		if (!p->at && !py_next_cursor(p))
			break;
		at = p->end;
		oa_opaque(at);
		if (at > OA_COPY_BYTES - sizeof(struct oa_python_copy))
			break;
		py_copy_frame(p, (struct oa_python_copy *)(d->stack + at));
		p->end += py_copy_bytes(&p->proc);
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
