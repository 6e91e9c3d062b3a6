/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_PYTHON_THREADS_H
#define OA_PYTHON_THREADS_H

/* Which CPython thread states the sampled thread has, and where their frames begin: as user
 * space wrote it down, or from the process's own lists.
 */

#include "native.h"
#ifndef OA_HOST
#include "process_events.h"
#include "sample.h"
#endif

static __always_inline bool py_read(u64 addr, u64 *value)
{
	return !read_user(value, sizeof(*value), addr);
}

/* What tells this thread from others: see enum oa_python_match. */
static __always_inline u64 py_thread_id(struct oa_state *s)
{
	u64 tls = 0;

#ifndef OA_HOST
	if (s->python.proc.match == OA_PY_MATCH_TLS) {
		read_kernel(&tls, sizeof(tls), bpf_get_current_task() + config.task_tls);
		return tls;
	}
#else
	if (s->python.proc.match == OA_PY_MATCH_TLS)
		tls = oa_host_thread_pointer();
	if (tls)
		return tls;
#endif
	return s->trace.sample.tid;
}

/* If a thread state is one of this thread, keep where its frames begin. */
static __always_inline bool py_take(struct oa_python_state *p, u64 state, u64 i)
{
	u64 id, cursor;

	if (!py_read(state + p->proc.thread_id, &id) || id != p->id)
		return false;
	if (!py_read(state + p->proc.thread_frame, &cursor))
		return false;
	oa_opaque(i);
	p->cursor[i & (OA_PY_STATES - 1)] = cursor;
	return true;
}

/* Nothing more can be known of this thread's Python frames. */
static __always_inline void py_give_up(struct oa_python_state *p, enum oa_fault fault)
{
	p->phase = PY_NATIVE;
	p->fault = fault;
}

/* Look for the thread states in the process's own lists. */
static __always_inline void py_begin_search(struct oa_python_state *p)
{
	p->phase = PY_SEARCH;
	p->found = 0;
	if (!py_read(p->proc.interpreters, &p->end) || !p->end ||
	    !py_read(p->end + p->proc.interp_threads, &p->at))
		py_give_up(p, OA_FAULT_PY_NO_THREAD);
}

/* Forget the sample before; what is not set here is set before it is read. */
static __always_inline void py_forget(struct oa_python_state *p)
{
#pragma clang loop unroll(full)
	for (u32 i = 0; i < OA_PY_STATES; i++)
		p->cursor[i] = 0;
	p->high = 0;
	p->saved_frames = 0;
	p->searched = 0;
	p->found = 0;
	p->candidate = 0;
	p->fault = OA_FAULT_NONE;
}

/* Was a state made for this thread since its states were written down? It has the GIL then,
 * or one of those that it shares the thread with. (From 3.12 on there is no such variable.)
 */
static __always_inline bool py_is_outdated(struct oa_python_state *p)
{
	bool known = false;
	u64 state, id;

	if (!p->proc.current || !py_read(p->proc.interpreters + (s64)p->proc.current, &state) ||
	    !state)
		return false;
#pragma clang loop unroll(full)
	for (u32 i = 0; i < OA_PY_STATES; i++)
		known |= p->thread.states[i] == state;
	return !known && py_read(state + p->proc.thread_id, &id) && id == p->id;
}

/* The interpreter is known: find where the frames of this thread begin. */
static __always_inline void py_find_states(struct oa_state *s)
{
	struct oa_python_state *p = &s->python;
	struct oa_python_thread_key key = {.pid = s->trace.sample.pid};
	const struct oa_python_thread *thread;

	s->lookups++;
	p->id = key.thread = py_thread_id(s);
	p->phase = PY_READY;
	thread = bpf_map_lookup_elem(&python_threads, &key);
	if (thread) {
		p->thread = *thread;
#pragma clang loop unroll(full)
		for (u32 i = 0; i < OA_PY_STATES; i++) {
			if (p->thread.states[i] && !py_take(p, p->thread.states[i], i)) {
				thread = 0; /* stale */
				p->cursor[i] = 0;
			}
		}
	}
	if (!thread || py_is_outdated(p))
		py_begin_search(p);
}

static __always_inline void py_start(struct oa_state *s)
{
	struct oa_python_state *p = &s->python;
	u32 space = s->space;
	const struct oa_python_proc *proc = bpf_map_lookup_elem(&python_procs, &space);

	py_forget(p);
	s->lookups++;
	if (!proc || !proc->minor) {
		/* There was no room for it, or it is refused: the eval loop's own frames have to
		 * do. */
		py_give_up(p, proc ? OA_FAULT_NONE : OA_FAULT_PY_NOT_ATTACHED);
		return;
	}
	p->proc = *proc;
	py_find_states(s);
}

/* Look at one thread state of the process; the newest come first. False when all were seen. */
static __always_inline bool py_search_next(struct oa_python_state *p)
{
	if (p->at && p->searched++ < OA_PY_WALK) {
		if (p->found < OA_PY_STATES && py_take(p, p->at, p->found))
			p->found++;
		if (!py_read(p->at + p->proc.thread_next, &p->at))
			p->at = 0;
		return true;
	}
	if (p->end && p->searched++ < OA_PY_WALK) {
		if (!py_read(p->end + p->proc.interp_next, &p->end) || !p->end ||
		    !py_read(p->end + p->proc.interp_threads, &p->at))
			p->at = p->end = 0;
		return true;
	}
	return false;
}

/* The search is over: user space is to write its result into the map. */
static __always_inline void py_search_end(struct oa_state *s)
{
	struct oa_python_state *p = &s->python;

	if (p->found)
		p->phase = PY_READY;
	else
		py_give_up(p, OA_FAULT_PY_NO_THREAD);
#ifndef OA_HOST
	report(s, OA_REPORT_PY_THREAD, p->id);
#endif
}

static __always_inline void py_search(struct oa_state *s)
{
	if (!py_search_next(&s->python))
		py_search_end(s);
}

#endif
