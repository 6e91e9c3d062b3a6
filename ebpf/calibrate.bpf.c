/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/* Runs once at start, on threads of our own: shows user space where the kernel
 * keeps a thread's registers and fields, and what the kernel knows. A thread is
 * looked at by a perf event while it spins or, where there is no BTF, as it enters
 * a system call.
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

/* The thread that the system call programs look at. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} calibration_target SEC(".maps");

/* What on_code_tick copies, and from where. */
const volatile u64 code_addr = 0;
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct oa_kernel_code);
} kernel_code SEC(".maps");

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

/* What is written next; NULL once there is enough. */
static __always_inline struct oa_calibration *next_slot(u32 **ticks)
{
	u32 zero = 0, slot;

	*ticks = bpf_map_lookup_elem(&calibration_ticks, &zero);
	if (!*ticks)
		return 0;
	slot = **ticks;
	if (slot >= OA_CALIBRATION_SLOTS)
		return 0;
	return bpf_map_lookup_elem(&calibrations, &slot);
}

static __always_inline int look(u64 regs)
{
	u64 id = bpf_get_current_pid_tgid();
	struct oa_calibration *seen;
	u32 *ticks;

	seen = next_slot(&ticks);
	if (!seen)
		return 0;
	seen->tid = (u32)id;
	seen->pid = id >> 32;
	seen->task = bpf_get_current_task();
	seen->regs = regs;
	/* Not a byte more: behind them the stack ends, and a guard page follows. */
	if (!read_kernel(seen->regs_copy, sizeof(((struct bpf_perf_event_data *)0)->regs), regs))
		seen->regs_bytes = sizeof(((struct bpf_perf_event_data *)0)->regs);
	copy_task(seen);
	*ticks += 1;
	return 0;
}

SEC("perf_event")
int on_calibration_tick(void *ctx)
{
	u64 regs;

	/* struct bpf_perf_event_data_kern begins with the pointer to the registers; the
	 * verifier only offers their values.
	 */
	if (read_kernel(&regs, sizeof(regs), (u64)ctx))
		return 0;
	return look(regs);
}

static __always_inline bool is_calibration_target(void)
{
	u32 zero = 0;
	u32 *tid = bpf_map_lookup_elem(&calibration_target, &zero);

	return tid && *tid == (u32)bpf_get_current_pid_tgid();
}

/* TP_PROTO(struct pt_regs *regs, long id), include/trace/events/syscalls.h */
SEC("?raw_tracepoint/sys_enter")
int on_sys_enter(struct bpf_raw_tracepoint_args *ctx)
{
	return is_calibration_target() ? look(ctx->args[0]) : 0;
}

#if defined(__TARGET_ARCH_x86)
/* arch/x86/entry/syscalls/syscall_64.tbl */
#define IS_READ_ENTRY(regs) ((regs)->orig_ax == 0 && ((regs)->cs & 3) == 3)
#define STACK_POINTER(regs) ((regs)->sp)
/* TOP_OF_KERNEL_STACK_PADDING: 16 with FRED (arch/x86/include/asm/thread_info.h). */
#define FIRST_REGS_FROM_END   sizeof(struct pt_regs)
#define REGS_FROM_END_CHOICES 2
#else
/* include/uapi/asm-generic/unistd.h */
#define IS_READ_ENTRY(regs)   ((regs)->syscallno == 63 && ((regs)->pstate & 0xf) == 0)
#define STACK_POINTER(regs)   ((regs)->sp)
#define FIRST_REGS_FROM_END   304
#define REGS_FROM_END_CHOICES 6
#endif

/* read() through events/syscalls. The context begins with a pointer to registers (struct
 * syscall_tp_t, kernel/trace/trace_syscalls.c): the user's or, on other kernels, those of
 * the kernel at the tracepoint, which is less than a page below the stack's end.
 */
SEC("?tracepoint")
int on_syscall_read(void *ctx)
{
	struct pt_regs regs;
	u64 at, end;

	if (!is_calibration_target() || read_kernel(&at, sizeof(at), (u64)ctx) ||
	    read_kernel(&regs, sizeof(regs), at))
		return 0;
	if (IS_READ_ENTRY(&regs))
		return look(at);
	end = (STACK_POINTER(&regs) | 0xfff) + 1;
#pragma clang loop unroll(full)
	for (int i = 0; i < REGS_FROM_END_CHOICES; i++) {
		at = end - FIRST_REGS_FROM_END - i * 16;
		if (!read_kernel(&regs, sizeof(regs), at) && IS_READ_ENTRY(&regs))
			return look(at);
	}
	return 0;
}

/* Copies a function of the kernel, to see which others it calls. */
SEC("?perf_event")
int on_code_tick(void *ctx)
{
	u32 zero = 0;
	struct oa_kernel_code *seen = bpf_map_lookup_elem(&kernel_code, &zero);

	if (!seen || seen->is_read)
		return 0;
		/* Piece by piece: the function may be followed by a page that cannot be read. */
#pragma clang loop unroll(full)
	for (u32 at = 0; at < sizeof(seen->code); at += OA_CODE_STEP) {
		if (read_kernel(seen->code + at, OA_CODE_STEP, code_addr + at))
			break;
		seen->bytes = at + OA_CODE_STEP;
	}
	seen->is_read = 1;
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

/* These are only loaded and attached, to see whether they can be. */
SEC("?raw_tracepoint")
int probe_raw_tracepoint(void *ctx)
{
	return 0;
}

SEC("?tp_btf/sched_process_free")
int probe_tp_btf(void *ctx)
{
	return 0;
}

/* net/bpf/test_run.c; nothing calls it but tests of the kernel. */
SEC("?fentry/bpf_fentry_test1")
int probe_fentry(void *ctx)
{
	return 0;
}
