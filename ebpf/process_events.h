/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_PROCESS_EVENTS_H
#define OA_PROCESS_EVENTS_H

/* What user space is told of processes, and who is a target. */

#include "trace.h"

static __always_inline struct oa_limit_slot *limit_slot(u32 pid)
{
	u32 key = pid & (OA_LIMIT_SLOTS - 1);
	struct oa_limit_slot *slot = bpf_map_lookup_elem(&limits, &key);

	if (slot && slot->pid != pid) {
		slot->pid = pid;
		slot->report_ns = 0;
		slot->deferred = 0;
	}
	return slot;
}

/* Report the process of the sample, at most once in config.report_interval_ms; false if it was not.
 */
static __always_inline bool report(struct oa_state *s, enum oa_report_reason reason, u64 addr)
{
	u64 now = s->trace.sample.time_ns;
	struct oa_limit_slot *slot = limit_slot(s->trace.sample.pid);
	struct oa_report message = {
		.time_ns = now,
		.addr = addr,
		.generation = s->trace.generation,
		.tid = s->trace.sample.tid,
		.kind = OA_RECORD_REPORT,
		.reason = reason,
	};

	if (slot && slot->report_ns &&
	    now - slot->report_ns < config.report_interval_ms * 1000000ULL) {
		count(OA_COUNTER_REPORTS_LIMITED, 1);
		return false;
	}
	if (bpf_ringbuf_output(&events, &message, sizeof(message), BPF_RB_FORCE_WAKEUP)) {
		count(OA_COUNTER_LOST_REPORT, 1);
		return false;
	}
	if (slot)
		slot->report_ns = now;
	count(OA_COUNTER_REPORTS, 1);
	return true;
}

/* One more deferred stack of this process, if it may have it: so many in each second, and ones
 * not used are kept for a burst. Reading the files of a program takes longer on a busy machine.
 */
static __always_inline bool may_defer(u32 pid, u64 now_ns)
{
	struct oa_limit_slot *slot = limit_slot(pid);
	u64 second = now_ns / 1000000000;
	u64 regained;

	if (!slot)
		return false;
	regained = (second - slot->second) * config.deferred_per_second;
	slot->deferred = slot->deferred > regained ? slot->deferred - regained : 0;
	slot->second = second;
	if (slot->deferred >= config.deferred_burst)
		return false;
	slot->deferred++;
	return true;
}

static __always_inline bool is_target(u32 pid)
{
	u32 *target;

	if (!pid)
		return config.idle;
	if (pid == config.self_pid)
		return false;
	target = bpf_map_lookup_elem(&targets, &pid);
	if (target)
		return *target == OA_TARGET_ALONE || *target == OA_TARGET_FOLLOW;
	if (config.target_mode == OA_TARGET_ALL)
		return true;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < OA_MAX_CGROUPS; i++) {
		if (i >= config.cgroups)
			break;
		if (bpf_current_task_under_cgroup(&target_cgroups, i) == 1)
			return true;
	}
	return false;
}

static __always_inline u32 read_task_u32(u64 task, u32 offset)
{
	u32 value = 0;

	read_kernel(&value, sizeof(value), task + offset);
	return value;
}

static __always_inline u64 read_task_u64(u64 task, u32 offset)
{
	u64 value = 0;

	read_kernel(&value, sizeof(value), task + offset);
	return value;
}

#endif
