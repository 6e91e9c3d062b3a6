/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_DEFER_H
#define OA_DEFER_H

/* A stack that is unwound in user space. */

#include "copy.h"
#include "deep.h"
#include "python_copy.h"
#include "sample.h"

/* Send what is needed to unwind in user space. */
static __always_inline void send_deferred(struct oa_state *s, OA_CONTEXT *ctx, bool has_loop)
{
	struct oa_deferred *d = current_deferred();
	u64 bytes, size;

	if (!d) {
		count(OA_COUNTER_LOST_INTERNAL, 1);
		return;
	}
	s->trace.user_frames = 0;
	s->trace.fault = OA_FAULT_NONE;
	s->trace.sample.kind = OA_RECORD_DEFERRED;
	d->trace = s->trace;
	/* The walk has changed them. */
	set_regs(s, ctx, bpf_get_current_task());
	d->regs = s->regs;
	__builtin_memcpy(d->kernel, s->words, sizeof(d->kernel));
	find_python(s, d);
	bytes = copy_stacks(d);
#ifndef OA_OFF_CPU /* the scheduler holds a lock meanwhile, and that is too long for it */
	send_deep(d);
#endif
	size = copy_python(s, d, bytes, has_loop);
	size += sizeof(*d) - sizeof(d->stack);
	oa_opaque(size);
	if (size > sizeof(*d)) {
		count(OA_COUNTER_LOST_INTERNAL, 1);
		return;
	}
	if (bpf_ringbuf_output(&events, d, size, BPF_RB_FORCE_WAKEUP)) {
		count(OA_COUNTER_LOST_DEFERRED, 1);
		return;
	}
	count(OA_COUNTER_DEFERRED, 1);
	taken(s);
}

/* Threads may leave CPUs much more often than CPUs tick: half of the ring stays for the rest. */
static __always_inline bool has_room(struct oa_state *s)
{
#ifdef OA_OFF_CPU
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < 2 * config.wake_bytes;
#else
	return true;
#endif
}

/* A stack that met code not loaded yet is unwound in user space, within limits. */
static __always_inline bool defer(struct oa_state *s, OA_CONTEXT *ctx, bool has_loop)
{
	if (!s->missing || s->in_exec || s->trace.fault != OA_FAULT_NO_MAPPING)
		return false;
	if (!has_room(s) || !may_defer(s->trace.sample.pid, s->trace.sample.time_ns)) {
		s->trace.fault = OA_FAULT_DEFERRED_LIMIT;
		return false;
	}
	send_deferred(s, ctx, has_loop);
	return true;
}

#endif
