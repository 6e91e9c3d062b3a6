/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_TARGETS_H
#define OA_TARGETS_H

/* The target set, kept exact by the kernel's own events. */

#include "process_events.h"

/* Tell whether an entry is of the image that the current process has. */
static __always_inline bool is_current(const struct oa_process *process)
{
	u64 task = bpf_get_current_task();
	u64 leader = read_task_u64(task, config.task_group_leader);

	if (!process->generation.start_ns)
		return true; /* read before the first sample */
	return process->generation.start_ns == read_task_u64(leader, config.task_start_boottime) &&
	       process->generation.exec_id == read_task_u32(task, config.task_self_exec_id);
}

/* The child's only thread has the CPython thread state of the one that forked: memory is
 * equal, and so is the TLS base. On arm64 the thread id tells states, and CPython renews it.
 */
static __always_inline void inherit_python(u64 child, u32 parent, u32 pid)
{
	struct oa_python_thread_key key = {
		.thread = read_task_u64(child, config.task_tls),
		.pid = parent,
	};
	struct oa_python_thread *found = bpf_map_lookup_elem(&python_threads, &key);
	struct oa_python_thread thread;

	if (!found)
		return;
	thread = *found;
	key.pid = pid;
	if (bpf_map_update_elem(&python_threads, &key, &thread, BPF_ANY))
		count(OA_COUNTER_FORKS_FULL, 1);
}

/* What is known of the parent's code holds for the child until one of them maps other code. */
static __always_inline void inherit(u64 child, u32 parent, u32 pid)
{
	const struct oa_process *known = bpf_map_lookup_elem(&processes, &parent);
	struct oa_process process = {.flags = 1 << OA_PROCESS_FORKED_BIT};

	if (!known || !is_current(known))
		return;
	process.generation.start_ns = read_task_u64(child, config.task_start_boottime);
	process.generation.exec_id = read_task_u32(child, config.task_self_exec_id);
	process.generation.pid = pid;
	process.space = known->space;
	if (bpf_map_update_elem(&processes, &pid, &process, BPF_ANY))
		count(OA_COUNTER_FORKS_FULL, 1);
	else
		inherit_python(child, parent, pid);
}

/* Runs in the parent before the child does: a target's child is one from its first instruction,
 * and its code is known.
 */
SEC("raw_tracepoint/sched_process_fork")
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	u32 parent = bpf_get_current_pid_tgid() >> 32;
	u64 child = ctx->args[1];
	u32 *target = bpf_map_lookup_elem(&targets, &parent);
	u32 pid = read_task_u32(child, config.task_pid);
	u32 mode;

	if (pid != read_task_u32(child, config.task_tgid))
		return 0; /* a thread */
	if (!target || *target != OA_TARGET_ALONE)
		inherit(child, parent, pid);
	if (!target || (*target != OA_TARGET_FOLLOW && *target != OA_TARGET_NEVER))
		return 0;
	mode = *target;
	if (bpf_map_update_elem(&targets, &pid, &mode, BPF_ANY))
		count(OA_COUNTER_TARGETS_FULL, 1);
	return 0;
}

/* Tell user space of a new image at once: its first sample finds its code known. */
static __always_inline void report_exec(u32 pid)
{
	u64 task = bpf_get_current_task();
	struct oa_report message = {
		.time_ns = bpf_ktime_get_ns(),
		.tid = (u32)bpf_get_current_pid_tgid(),
		.kind = OA_RECORD_REPORT,
		.reason = OA_REPORT_NEW,
	};

	message.generation.pid = pid;
	message.generation.start_ns = read_task_u64(read_task_u64(task, config.task_group_leader),
						    config.task_start_boottime);
	message.generation.exec_id = read_task_u32(task, config.task_self_exec_id);
	if (bpf_ringbuf_output(&events, &message, sizeof(message), BPF_RB_FORCE_WAKEUP))
		count(OA_COUNTER_LOST_REPORT, 1);
	else
		count(OA_COUNTER_REPORTS, 1);
}

/* A command that was held is a target from its first instruction on, and not before. */
SEC("raw_tracepoint/sched_process_exec")
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	u32 *target = bpf_map_lookup_elem(&targets, &pid);

	if (!target)
		return 0;
	if (*target == OA_TARGET_AT_EXEC)
		*target = OA_TARGET_FOLLOW;
	if (*target == OA_TARGET_FOLLOW)
		report_exec(pid);
	return 0;
}

/* The last of a thread group: its number may be given to another from now on. */
SEC("raw_tracepoint/sched_process_free")
int on_free(struct bpf_raw_tracepoint_args *ctx)
{
	u64 task = ctx->args[0];
	u32 pid = read_task_u32(task, config.task_pid);
	struct oa_python_thread_key key = {.pid = pid};
	const struct oa_process *process;

	if (pid != read_task_u32(task, config.task_tgid))
		return 0;
	bpf_map_delete_elem(&targets, &pid);
	process = bpf_map_lookup_elem(&processes, &pid);
	if (!process ||
	    process->generation.start_ns != read_task_u64(task, config.task_start_boottime))
		return 0;
	key.thread = read_task_u64(task, config.task_tls);
	bpf_map_delete_elem(&python_threads, &key);
	bpf_map_delete_elem(&processes, &pid);
	return 0;
}

#endif
