/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_WALK_H
#define OA_WALK_H

/* The unwinders themselves, unchanged, and what begins and ends a sample here: for the kind of
 * machine that __TARGET_ARCH_* names.
 */

#include "host.h"
#include "../native.h"
#include "../python_copy.h"

#include <errno.h>
#include <string.h>

enum { HEAD_BYTES = offsetof(struct oa_deferred, stack) };

/* Begin with the interpreter that BPF found, if it is the one that the address space has. */
static bool begin_python(struct oa_state *s, const struct oa_deferred *d)
{
	struct oa_python_state *p = &s->python;
	const struct oa_python_proc *proc;
	u32 space = s->space;

	if (!d->python.minor)
		return false;
	proc = bpf_map_lookup_elem(&python_procs, &space);
	if (proc && memcmp(proc, &d->python, sizeof(*proc)) != 0)
		return false;
	py_forget(p);
	p->proc = d->python;
	memcpy(p->cursor, d->cursors, sizeof(p->cursor));
	p->searched = OA_PY_WALK; /* there are no lists of threads to look into */
	p->phase = PY_READY;
	return true;
}

/* Set the state to where BPF was before the first step. */
static void begin_deferred(struct oa_host *host, const struct oa_deferred *d)
{
	struct oa_state *s = &host->state;

	s->trace = d->trace;
	s->trace.sample.flags &= OA_SAMPLE_GIVEN;
	s->cpu.epoch++; /* the maps may have changed since the last stack */
	refresh(s);
	begin_walk(s);
	hash_generation(s);
	s->trace.kernel_frames = d->trace.kernel_frames;
	memcpy(s->words, d->kernel, sizeof(d->kernel));
	hash_kernel_frames(s);
	s->regs = d->regs;
	host->stack.addr = d->stack_addr;
	host->stack.bytes = d->stack_bytes;
	host->other.addr = d->other_addr;
	host->other.bytes = d->other_bytes;
	s->go_high = d->go_high;
	host->cut = 0;
	host->has_python = begin_python(s, d);
	host->python.bytes = host->has_python ? d->python_bytes : 0;
}

/* As dispatch.h: Python's unwinder also walks the native frames between. Without it (the
 * memory of an interpreter that BPF did not know of is another by now) what is missing is said.
 */
static void walk(struct oa_host *host, struct oa_state *s)
{
	bool has_python = host->interpreters || host->has_python;
	bool python = false, missed = false;
	u32 steps = host->limits.steps ? host->limits.steps : LOOP_STEPS;

	settle(s);
	while (!s->done && s->steps < steps) {
		if (s->mapping.unwinder == OA_UNWINDER_STOP && !python)
			break;
		if (s->mapping.unwinder == OA_UNWINDER_PYTHON) {
			python |= has_python;
			missed |= !has_python;
		}
		s->steps++;
		if (python)
			python_step(s);
		else
			native_step(s);
	}
	if (s->steps >= steps)
		stop(s, OA_FAULT_MAX_STEPS);
	if (missed && !s->trace.fault)
		s->trace.fault = OA_FAULT_PY_NOT_ATTACHED;
}

/* The copy is full, and what stopped the walk lies behind it. */
static void blame_copy(struct oa_host *host, struct oa_state *s)
{
	u32 fault = s->trace.fault;
	u64 copies = host->python.bytes / py_copy_bytes(&s->python.proc);
	u64 bytes = host->stack.bytes + host->other.bytes + host->python.bytes;
	/* As much as copy.h makes it if there is another stack. */
	u32 most = host->other.bytes ? OA_MAX_STACK_BYTES / 2 : OA_MAX_STACK_BYTES;

	if (fault == OA_FAULT_PY_READ && (copies + OA_PY_STATES >= OA_MAX_PYTHON_COPIES ||
					  bytes > OA_COPY_BYTES - sizeof(struct oa_python_copy)))
		s->trace.fault = OA_FAULT_DEFERRED_CUT;
	if (!host->cut || host->stack.bytes + host->other.bytes <= most - OA_STACK_PAGE_BYTES)
		return;
	if (fault == OA_FAULT_READ_STACK || fault == OA_FAULT_NO_ROW ||
	    fault == OA_FAULT_UNSUPPORTED)
		s->trace.fault = OA_FAULT_DEFERRED_CUT;
}

static bool is_deferred(const struct oa_deferred *head, u32 bytes)
{
	u64 stacks = (u64)head->stack_bytes + head->other_bytes;

	return head->trace.sample.kind == OA_RECORD_DEFERRED &&
	       head->trace.kernel_frames <= OA_MAX_KERNEL_FRAMES && stacks <= OA_MAX_STACK_BYTES &&
	       stacks + head->python_bytes <= bytes - HEAD_BYTES;
}

/* A struct oa_deep may follow the deferred stack. */
static void begin_deep(struct oa_host *host, const u8 *record, u64 bytes)
{
	struct oa_deep head;

	if (bytes < sizeof(head))
		return;
	memcpy(&head, record, offsetof(struct oa_deep, memory));
	if (head.kind != OA_RECORD_DEEP)
		return;
	host->deep = (struct oa_host_piece){
		.addr = head.addr,
		.bytes = OA_DEEP_BYTES,
		.memory = record + offsetof(struct oa_deep, memory),
	};
	host->top = (struct oa_host_piece){
		.addr = head.top_addr,
		.bytes = OA_DEEP_TOP_BYTES,
		.memory = record + offsetof(struct oa_deep, top),
	};
}

static bool find_space(struct oa_state *s, const struct oa_generation *g)
{
	const struct oa_process *process = bpf_map_lookup_elem(&processes, &g->pid);

	if (!process || process->generation.start_ns != g->start_ns ||
	    process->generation.exec_id != g->exec_id)
		return false;
	s->space = process->space;
	return true;
}

static s32 unwind_record(struct oa_host *host, const u8 *record, u32 bytes, void *out, u32 capacity)
{
	struct oa_state *s = &host->state;
	struct oa_deferred head;
	u64 own;
	u32 size;

	/* A record in a batch need not be aligned; its stack is read where it is. */
	memcpy(&head, record, HEAD_BYTES);
	if (!is_deferred(&head, bytes))
		return -EINVAL;
	if (!find_space(s, &head.trace.generation))
		return 0;
	host->stack.memory = record + HEAD_BYTES;
	host->other.memory = record + HEAD_BYTES + head.stack_bytes;
	host->python.memory = record + HEAD_BYTES + head.stack_bytes + head.other_bytes;
	own = HEAD_BYTES + (u64)head.stack_bytes + head.other_bytes + head.python_bytes;
	begin_deep(host, record + own, bytes - own);
	begin_deferred(host, &head);
	walk(host, s);
	host->spent.steps = s->steps;
	blame_copy(host, s);
	seal(s);
	s->trace.sample.kind = OA_RECORD_TRACE;
	size = sizeof(s->trace) + s->trace.kernel_frames * 8 + s->trace.user_frames * 16;
	if (size > capacity)
		return -ENOSPC;
	memcpy(out, &s->trace, sizeof(s->trace));
	memcpy((u8 *)out + sizeof(s->trace), s->words, size - sizeof(s->trace));
	return (s32)size;
}

#endif
