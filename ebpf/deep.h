/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_DEEP_H
#define OA_DEEP_H

/* What of a stack is deeper than a deferred sample's copy. It is read into the ring itself, so that
 * no memory is held for it: what follows on the copy, and the end where the thread's first frames
 * are. Between them there may be a frame as large as it wants (rustc has one of 540 KB).
 */

#include "find.h"

enum {
	DEEP_COST = 8, /* deferred stacks that one counts for */
	/* No more of the ring, in quarters, is used for it: what is not deep comes first. */
	DEEP_QUARTERS = 2,
	/* Where a thread began is no farther away: else it runs on a stack of another kind. */
	DEEP_WINDOW = 64 << 20,
};

/* What lies right behind the first frame of the thread: glibc and musl keep the thread's own
 * storage at the top of the stack that they make; the first thread's is the kernel's, which has the
 * arguments there, and above their pointers some random bytes. 0: not found.
 */
static __always_inline u64 find_top(u64 end)
{
	u64 top = read_task_u64(bpf_get_current_task(), config.task_tls);

	if (top - end < DEEP_WINDOW)
		return top;
	top = find_aux(FIND_AT_RANDOM);
	return top - end < DEEP_WINDOW ? top : 0;
}

static __always_inline bool may_go_deep(u32 pid)
{
	struct oa_limit_slot *slot = limit_slot(pid);

	if (!slot || slot->deferred + DEEP_COST > config.deferred_burst)
		return false;
	if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > DEEP_QUARTERS * config.wake_bytes)
		return false;
	slot->deferred += DEEP_COST;
	return true;
}

/* Send what lies deeper than the copy, if that does not reach to where the thread began. */
static __always_inline void send_deep(const struct oa_deferred *d)
{
	u64 end = d->stack_addr + d->stack_bytes;
	u64 top, more = end + OA_DEEP_BYTES;
	struct oa_deep *deep;

	if (d->other_addr)
		return;
	top = find_top(end);
	if (!top && d->stack_bytes <= OA_MAX_STACK_BYTES - OA_STACK_PAGE_BYTES)
		return;
	if (!may_go_deep(d->trace.sample.pid))
		return;
	deep = bpf_ringbuf_reserve(&events, sizeof(*deep), 0);
	if (!deep)
		return;
	top = (top | (OA_STACK_PAGE_BYTES - 1)) + 1 - OA_DEEP_TOP_BYTES;
	deep->addr = end;
	deep->time_ns = d->trace.sample.time_ns;
	deep->top_addr = (s64)(top - more) > 0 ? top : more;
	deep->pid = d->trace.sample.pid;
	deep->tid = d->trace.sample.tid;
	deep->kind = OA_RECORD_DEEP;
	deep->cpu = d->trace.sample.cpu;
	/* Page by page: one that the stack never went to leaves zeros, and others follow. */
#pragma clang loop unroll(disable)
	for (u32 at = 0; at < OA_DEEP_BYTES; at += OA_STACK_PAGE_BYTES)
		read_user(deep->memory + at, OA_STACK_PAGE_BYTES, end + at);
#pragma clang loop unroll(disable)
	for (u32 at = 0; at < OA_DEEP_TOP_BYTES; at += OA_STACK_PAGE_BYTES)
		read_user(deep->top + at, OA_STACK_PAGE_BYTES, deep->top_addr + at);
	bpf_ringbuf_submit(deep, BPF_RB_NO_WAKEUP);
	count(OA_COUNTER_DEEP, 1);
}

#endif
