/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_PROCESS_EVENTS_H
#define OA_PROCESS_EVENTS_H

/* What user space is told of processes, and the target set. */

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

/* Report the process of the sample, at most once in config.report_interval_ms. */
static __always_inline void report(struct oa_state *s, enum oa_report_reason reason, u64 addr)
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
		return;
	}
	if (bpf_ringbuf_output(&events, &message, sizeof(message), BPF_RB_FORCE_WAKEUP)) {
		count(OA_COUNTER_LOST_REPORT, 1);
		return;
	}
	if (slot)
		slot->report_ns = now;
	count(OA_COUNTER_REPORTS, 1);
}

/* One more deferred stack of this process in this second, if it may have it. */
static __always_inline bool may_defer(u32 pid, u64 now_ns)
{
	struct oa_limit_slot *slot = limit_slot(pid);
	u64 second = now_ns / 1000000000;

	if (!slot)
		return false;
	if (slot->second != second) {
		slot->second = second;
		slot->deferred = 0;
	}
	if (slot->deferred >= config.deferred_per_second)
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

/* Runs in the parent before the child does: a target's child is one from its first instruction. */
SEC("raw_tracepoint/sched_process_fork")
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	u32 parent = bpf_get_current_pid_tgid() >> 32;
	u64 child = ctx->args[1];
	u32 *target = bpf_map_lookup_elem(&targets, &parent);
	u32 pid, mode;

	if (!target || (*target != OA_TARGET_FOLLOW && *target != OA_TARGET_NEVER))
		return 0;
	pid = read_task_u32(child, config.task_pid);
	if (pid != read_task_u32(child, config.task_tgid))
		return 0; /* a thread */
	mode = *target;
	if (bpf_map_update_elem(&targets, &pid, &mode, BPF_ANY))
		count(OA_COUNTER_TARGETS_FULL, 1);
	return 0;
}

/* A command that was held is a target from its first instruction on, and not before. */
SEC("raw_tracepoint/sched_process_exec")
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	u32 *target = bpf_map_lookup_elem(&targets, &pid);

	if (target && *target == OA_TARGET_AT_EXEC)
		*target = OA_TARGET_FOLLOW;
	return 0;
}

/* The last of a thread group: its number may be given to another from now on. */
SEC("raw_tracepoint/sched_process_free")
int on_free(struct bpf_raw_tracepoint_args *ctx)
{
	u64 task = ctx->args[0];
	u32 pid = read_task_u32(task, config.task_pid);

	if (pid == read_task_u32(task, config.task_tgid))
		bpf_map_delete_elem(&targets, &pid);
	return 0;
}

#endif
