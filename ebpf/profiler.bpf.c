// Copyright The otelagent authors
// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/* The profiler's programs: what samples, and what keeps the target set. */

#include "targets.h"
#include "unwinders.h"

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
	unwind(ctx, s, task, pid);
	return 0;
}
