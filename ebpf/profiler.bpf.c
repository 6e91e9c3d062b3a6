// Copyright The otelagent authors
// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/* The profiler's programs: entry points and, per kind of code, its unwinder. */

#include "sample.h"
#include "python.h"
#include "defer.h"
#include "dispatch.h"

char oa_license[] SEC("license") = "Dual BSD/GPL";

/* These are written as locals or words, which clang leaves out of BTF; a global
 * brings them in, so that tests/abi can compare their sizes.
 */
const struct oa_frame *const oa_btf_frame = 0;
const struct oa_report *const oa_btf_report = 0;
const struct oa_python_copy *const oa_btf_python_copy = 0;
const struct oa_deep *const oa_btf_deep = 0;

/* One tick of the sampling event of this CPU. */
SEC("perf_event")
int on_cpu_tick(struct bpf_perf_event_data *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	u32 pid = id >> 32;
	u64 task = bpf_get_current_task();
	struct oa_state *s;

	s = current_state();
	if (!s) {
		if (is_target(pid)) {
			count(OA_COUNTER_TICKS, 1);
			count(OA_COUNTER_COUNT + OA_FAULT_NO_SCRATCH, 1);
			count(OA_COUNTER_LOST_INTERNAL, 1);
		}
		return 0;
	}
	if (!is_wanted(s, task, pid))
		return 0;
	tally(s, OA_COUNTER_TICKS, 1);
	begin(s, pid, (u32)id);
	hash_generation(s);
	add_kernel_frames(s, ctx);
	if (!set_regs(s, ctx, task)) {
		count(OA_COUNTER_KERNEL_ONLY, 1);
		finish(s);
		return 0;
	}
	s->trace.sample.flags |= 1 << OA_SAMPLE_USER_BIT;
	if (find_space(s, pid)) {
		settle(s);
		if (s->missing)
			report(s, OA_REPORT_UNKNOWN_PC, s->regs.pc);
	} else {
		s->missing = 1;
		stop(s, OA_FAULT_NO_MAPPING);
		report(s, OA_REPORT_NEW, s->regs.pc);
	}
	dispatch(ctx, s);
	return 0;
}

OA_UNWINDER(native, native_step, OA_UNWINDER_NATIVE)
OA_UNWINDER(python, python_step, OA_UNWINDER_PYTHON)

static __always_inline int end_stack(struct bpf_perf_event_data *ctx, bool has_loop)
{
	struct oa_state *s = current_state();

	if (!s) {
		count(OA_COUNTER_LOST_INTERNAL, 1);
		return 0;
	}
	if (s->missing && s->trace.user_frames)
		report(s, OA_REPORT_UNKNOWN_PC, s->regs.pc);
	if (!defer(s, ctx, has_loop))
		finish(s);
	return 0;
}

/* The last program of a chain of tail calls, and of every stack that met code not loaded yet:
 * copying stacks takes most of what the verifier looks at, and is here only. In two forms, as the
 * unwinders.
 */
SEC("perf_event")
int unwind_stop(struct bpf_perf_event_data *ctx)
{
	return end_stack(ctx, false);
}

SEC("perf_event")
int unwind_stop_loop(struct bpf_perf_event_data *ctx)
{
	return end_stack(ctx, true);
}
