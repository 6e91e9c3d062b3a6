// Copyright The otelagent authors
// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/* Off-CPU: a thread's stack is walked when it leaves a CPU, since its memory cannot be read when it
 * comes back, and becomes a sample when it is on a CPU again; in between the sample waits in
 * `waits`.
 *
 * An object of its own, loaded only when it is asked for. It shares the profiler's maps but
 * for the record of each CPU and where a deferred stack is laid out: a tick that is an NMI may
 * interrupt these programs.
 */
#define OA_OFF_CPU

#include "unwinders.h"

char oa_license[] SEC("license") = "Dual BSD/GPL";

/* include/linux/sched.h; the same from 4.14 to 7.3 */
enum {
	STATE_INTERRUPTIBLE = 0x1,
	STATE_UNINTERRUPTIBLE = 0x2,
	STATE_STOPPED = 0x4 | 0x8, /* __TASK_STOPPED, __TASK_TRACED */
	STATE_DEAD = 0x80,
	STATE_NOLOAD = 0x400, /* with UNINTERRUPTIBLE: TASK_IDLE */
	STATE_UNKNOWN = 0x80000000,
};

/* The wait of a thread that is on a CPU again is over. */
static __always_inline void resume(u64 next)
{
	u32 tid = read_task_u32(next, config.task_pid);
	struct oa_sample *wait, sample;
	u64 now;

	if (!tid)
		return;
	wait = bpf_map_lookup_elem(&waits, &tid);
	if (!wait)
		return;
	sample = *wait;
	bpf_map_delete_elem(&waits, &tid);
	now = bpf_ktime_get_ns();
	sample.weight = now - sample.time_ns;
	if (sample.weight < config.wait_min_ns) {
		count(OA_COUNTER_WAITS_SHORT, 1);
		return;
	}
	if (sample.kind == OA_RECORD_DEFERRED) {
		sample.kind = OA_RECORD_WAITED;
		sample.hash = sample.time_ns;
	}
	sample.time_ns = now;
	sample.cpu = bpf_get_smp_processor_id();
	if (bpf_ringbuf_output(&events, &sample, sizeof(sample), wakeup_flags(false)))
		count(OA_COUNTER_LOST_SAMPLE, 1);
	else
		count(OA_COUNTER_SAMPLES, 1);
}

static __always_inline enum oa_wait wait_of(bool preempted, u32 state)
{
	if (preempted || !state)
		return OA_WAIT_PREEMPTED;
	if (state == STATE_UNKNOWN)
		return OA_WAIT_UNKNOWN;
	if (state & STATE_STOPPED)
		return OA_WAIT_STOPPED;
	if (state & STATE_UNINTERRUPTIBLE && !(state & STATE_NOLOAD))
		return OA_WAIT_BLOCKED;
	return OA_WAIT_SLEEPING;
}

/* The current thread leaves the CPU. */
static __always_inline void leave(OA_CONTEXT *ctx, bool preempted, u32 state)
{
	u64 id = bpf_get_current_pid_tgid();
	u32 pid = id >> 32;
	u64 task = bpf_get_current_task();
	struct oa_state *s;

	if (!(u32)id || state & STATE_DEAD)
		return;
	/* Where states are not told a dead thread is known by its memory: it has none. */
	if (state == STATE_UNKNOWN && !read_task_u64(task, config.task_mm))
		return;
	s = current_state();
	if (!s) {
		if (is_target(pid))
			count(OA_COUNTER_LOST_INTERNAL, 1);
		return;
	}
	if (!is_wanted(s, task, pid))
		return;
	if (bpf_get_prandom_u32() >= config.switch_chance)
		return;
	tally(s, OA_COUNTER_SWITCHES, 1);
	begin(s, pid, (u32)id);
	s->trace.sample.flags = 1 << OA_SAMPLE_OFF_CPU_BIT | wait_of(preempted, state)
								     << OA_SAMPLE_WAIT_BIT;
	hash_generation(s);
	unwind(ctx, s, task, pid);
}

/* TP_PROTO(bool preempt, prev, next, unsigned int prev_state), include/trace/events/sched.h;
 * the last since Linux 9c2136be0878 ("sched/tracing: Append prev_state to tp args instead",
 * v5.19 and stable 5.18). Kernels without it refuse to attach this.
 */
SEC("raw_tracepoint/sched_switch")
int on_switch(struct bpf_raw_tracepoint_args *ctx)
{
	resume(ctx->args[2]);
	leave(ctx, ctx->args[0] & 1, ctx->args[3]);
	return 0;
}

/* The same for older kernels. What the state is now it was when the thread left, but for those
 * that were woken in between.
 */
SEC("raw_tracepoint/sched_switch")
int on_switch_before(struct bpf_raw_tracepoint_args *ctx)
{
	u32 state = STATE_UNKNOWN;

	if (config.task_state)
		state = read_task_u32(ctx->args[1], config.task_state);
	resume(ctx->args[2]);
	leave(ctx, ctx->args[0] & 1, state);
	return 0;
}
