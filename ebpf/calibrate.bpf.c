/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/* Runs once at start, on a spinning thread of our own: shows user space where
 * the kernel keeps a thread's registers and fields, and what the kernel knows.
 */
#include "env.h"

char oa_license[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, OA_CALIBRATION_SLOTS);
	__type(key, u32);
	__type(value, struct oa_calibration);
} calibrations SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} calibration_ticks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} calibration_programs SEC(".maps");

static __always_inline void copy_task(struct oa_calibration *seen)
{
	/* Piece by piece: the copy may reach into a page that is not there. */
#pragma clang loop unroll(full)
	for (u32 at = 0; at < sizeof(seen->task_copy); at += OA_CALIBRATION_STEP) {
		if (read_kernel(seen->task_copy + at, OA_CALIBRATION_STEP, seen->task + at))
			return;
		seen->task_bytes = at + OA_CALIBRATION_STEP;
	}
}

SEC("perf_event")
int on_calibration_tick(void *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	struct oa_calibration *seen;
	u32 zero = 0, slot;
	u32 *ticks = bpf_map_lookup_elem(&calibration_ticks, &zero);

	if (!ticks)
		return 0;
	slot = *ticks;
	if (slot >= OA_CALIBRATION_SLOTS)
		return 0;
	seen = bpf_map_lookup_elem(&calibrations, &slot);
	if (!seen)
		return 0;
	seen->tid = (u32)id;
	seen->pid = id >> 32;
	seen->task = bpf_get_current_task();
	/* struct bpf_perf_event_data_kern begins with the pointer to the registers; the
	 * verifier only offers their values.
	 */
	if (read_kernel(&seen->regs, sizeof(seen->regs), (u64)ctx))
		return 0;
	/* Not a byte more: behind them the stack ends, and a guard page follows. */
	if (!read_kernel(seen->regs_copy, sizeof(((struct bpf_perf_event_data *)0)->regs),
			 seen->regs))
		seen->regs_bytes = sizeof(((struct bpf_perf_event_data *)0)->regs);
	copy_task(seen);
	*ticks = slot + 1;
	return 0;
}

static long loop_once(u32 index, void *context)
{
	*(u32 *)context += index;
	return 0;
}

/* Loads where the kernel has bpf_loop and lets a program that uses it make tail calls. */
SEC("?perf_event")
int probe_loop(void *ctx)
{
	u32 sum = 0;

	bpf_loop(4, loop_once, &sum, 0);
	bpf_tail_call(ctx, &calibration_programs, 0);
	return 0;
}
