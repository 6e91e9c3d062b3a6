/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_SAMPLE_H
#define OA_SAMPLE_H

/* The two ends of a sample: filling the record at the tick, sending it. */

#include "native.h"
#include "process_events.h"

static __always_inline void read_generation(struct oa_state *s, u64 task, u32 pid)
{
	u64 leader = read_task_u64(task, config.task_group_leader);
	struct oa_generation *g = &s->trace.generation;

	g->pid = pid;
	g->start_ns = read_task_u64(leader, config.task_start_boottime);
	g->exec_id = read_task_u32(task, config.task_self_exec_id);
}

static __always_inline bool is_same_life(const struct oa_generation *a,
					 const struct oa_generation *b)
{
	return a->start_ns && a->start_ns == b->start_ns && a->exec_id == b->exec_id &&
	       a->pid == b->pid;
}

/* Whether the interrupted process is to be sampled; then its generation has been read. */
static __always_inline bool is_wanted(struct oa_state *s, u64 task, u32 pid)
{
	if (!pid && !config.idle)
		return false;
	refresh(s);
	if (s->last.generation.pid == pid) {
		read_generation(s, task, pid);
		if (is_same_life(&s->last.generation, &s->trace.generation))
			return true;
	}
	if (!is_target(pid))
		return false;
	read_generation(s, task, pid);
	return true;
}

/* Find the address space of the process; false if it is not known yet. */
static __always_inline bool find_space(struct oa_state *s, u32 pid)
{
	const struct oa_generation *now = &s->trace.generation;
	struct oa_process *process;

	if (is_same_life(&s->last.generation, now)) {
		s->space = s->last.space;
		return true;
	}
	process = bpf_map_lookup_elem(&processes, &pid);
	if (!process)
		return false;
	if (!process->generation.start_ns) {
		/* Read before its first sample, which tells which life it is. */
		process->generation = *now;
		report(s, OA_REPORT_NEW, 0);
	}
	if (!is_same_life(&process->generation, now))
		return false;
	if (process->flags && report(s, OA_REPORT_NEW, 0))
		process->flags = 0;
	s->space = process->space;
	/* A process may leave its cgroup, and nobody tells. */
	if (!config.cgroups && !process->flags)
		s->last = *process;
	return true;
}

#if defined(__TARGET_ARCH_x86)
/* Registers by DWARF number (System V ABI x86-64, figure 3.36). */
#define COPY_REGS(to, from)                                                                        \
	do {                                                                                       \
		(to)->gp[0] = (from)->ax;                                                          \
		(to)->gp[1] = (from)->dx;                                                          \
		(to)->gp[2] = (from)->cx;                                                          \
		(to)->gp[3] = (from)->bx;                                                          \
		(to)->gp[4] = (from)->si;                                                          \
		(to)->gp[5] = (from)->di;                                                          \
		(to)->gp[6] = (from)->bp;                                                          \
		(to)->gp[7] = (from)->sp;                                                          \
		(to)->gp[8] = (from)->r8;                                                          \
		(to)->gp[9] = (from)->r9;                                                          \
		(to)->gp[10] = (from)->r10;                                                        \
		(to)->gp[11] = (from)->r11;                                                        \
		(to)->gp[12] = (from)->r12;                                                        \
		(to)->gp[13] = (from)->r13;                                                        \
		(to)->gp[14] = (from)->r14;                                                        \
		(to)->gp[15] = (from)->r15;                                                        \
		(to)->pc = (from)->ip;                                                             \
	} while (0)

/* arch/x86/include/asm/segment.h: __USER32_CS */
#define USER32_CS	0x23
#define IS_USER(regs)	(((regs)->cs & 3) == 3)
#define IS_32_BIT(regs) ((regs)->cs == USER32_CS)
/* arch/x86/entry/syscalls/syscall_64.tbl: execve, execveat */
#define IS_SYSCALL(regs) ((s64)(regs)->orig_ax >= 0)
#define IS_EXEC(regs)	 ((regs)->orig_ax == 59 || (regs)->orig_ax == 322)
#else
#define COPY_REGS(to, from)                                                                        \
	do {                                                                                       \
		_Pragma("clang loop unroll(full)") for (int i = 0; i < 31; i++)(to)->gp[i] =       \
			(from)->regs[i];                                                           \
		(to)->gp[31] = (from)->sp;                                                         \
		(to)->pc = (from)->pc;                                                             \
	} while (0)

/* arch/arm64/include/uapi/asm/ptrace.h: PSR_MODE_MASK, PSR_MODE32_BIT */
#define IS_USER(regs)	 (((regs)->pstate & 0xf) == 0)
#define IS_32_BIT(regs)	 ((regs)->pstate & 0x10)
/* include/uapi/asm-generic/unistd.h: execve, execveat */
#define IS_SYSCALL(regs) ((regs)->syscallno >= 0)
#define IS_EXEC(regs)	 ((regs)->syscallno == 221 || (regs)->syscallno == 281)
#endif

/* Read the registers that a thread had when it entered the kernel. */
static __always_inline bool read_entry_regs(struct oa_state *s, u64 task, struct oa_regs *to)
{
	struct pt_regs regs;
	u64 stack = read_task_u64(task, config.task_stack);

	if (!stack || !read_task_u64(task, config.task_mm))
		return false; /* a kernel thread, or one whose memory is gone already */
	if (read_kernel(&regs, sizeof(regs), stack + config.user_regs_distance))
		return false;
	if (!IS_USER(&regs))
		return false;
	if (IS_32_BIT(&regs))
		stop(s, OA_FAULT_NOT_64_BIT);
	COPY_REGS(to, &regs);
	if (IS_SYSCALL(&regs)) {
		to->return_address = 1;
		s->in_exec = IS_EXEC(&regs);
	}
	return true;
}

#ifdef OA_OFF_CPU
#define WAS_IN_KERNEL(ctx) true
#else
#define WAS_IN_KERNEL(ctx) (!IS_USER(&(ctx)->regs))
#endif

/* The user registers of the interrupted thread; false if it has none. */
static __always_inline bool set_regs(struct oa_state *s, OA_CONTEXT *ctx, u64 task)
{
	struct oa_regs *to = &s->regs;

	to->return_address = 0;
	to->valid_all = 1;
	if (WAS_IN_KERNEL(ctx))
		return read_entry_regs(s, task, to);
#ifndef OA_OFF_CPU
	if (IS_32_BIT(&ctx->regs))
		stop(s, OA_FAULT_NOT_64_BIT);
	COPY_REGS(to, &ctx->regs);
#endif
	return true;
}

static __always_inline void begin(struct oa_state *s, u32 pid, u32 tid)
{
	struct oa_trace *t = &s->trace;

	t->sample.time_ns = bpf_ktime_get_ns();
	t->sample.weight = config.period_weight;
	t->sample.pid = pid;
	t->sample.tid = tid;
	t->sample.cpu = bpf_get_smp_processor_id();
	t->sample.flags = 0;
	bpf_get_current_comm(t->sample.comm, sizeof(t->sample.comm));
	s->space = 0;
	begin_walk(s);
}

static __always_inline void add_kernel_frames(struct oa_state *s, OA_CONTEXT *ctx)
{
	long bytes;

	/* In user mode there are none, and the helper would clear all of the buffer to say so. */
	if (!WAS_IN_KERNEL(ctx))
		return;
	bytes = bpf_get_stack(ctx, s->words, OA_MAX_KERNEL_FRAMES * 8, 0);
	s->trace.kernel_frames = bytes > 0 ? (u32)bytes / 8 : 0;
	if (bytes == OA_MAX_KERNEL_FRAMES * 8)
		count(OA_COUNTER_KERNEL_CUT, 1);
	hash_kernel_frames(s);
}

static __always_inline bool is_known(struct oa_known_set *set, u64 hash)
{
	bool known = false;

	for (int i = 0; i < OA_KNOWN_WAYS; i++)
		known |= set->hash[i] == hash;
	return known;
}

/* Store a hash whose trace is in the ring: in a free place, else in one that the hash picks. */
static __always_inline void remember(struct oa_known_set *set, u64 hash)
{
	u32 way = (hash >> 32) & (OA_KNOWN_WAYS - 1);

	for (int i = 0; i < OA_KNOWN_WAYS; i++)
		if (!set->hash[i])
			way = i;
	oa_opaque(way);
	if (way < OA_KNOWN_WAYS)
		set->hash[way] = hash;
}

/* Hashes that this CPU found among the known ones. User space has what they stand for, even if
 * the set that they were in has since forgotten them.
 */
static __always_inline bool is_near_known(const struct oa_state *s, u64 hash)
{
	return s->near_known[hash & (OA_NEAR_KNOWN - 1)] == hash;
}

static __always_inline void note_known(struct oa_state *s, u64 hash)
{
	s->near_known[hash & (OA_NEAR_KNOWN - 1)] = hash;
}

/* Tell whether a hash is not known yet; from now on it is. */
static __always_inline bool is_first(struct oa_state *s, u64 hash)
{
	u32 index = hash & (config.known_sets - 1);
	struct oa_known_set *set;

	if (is_near_known(s, hash))
		return false;
	set = bpf_map_lookup_elem(&known_traces, &index);
	if (!set)
		return false;
	note_known(s, hash);
	if (is_known(set, hash))
		return false;
	remember(set, hash);
	return true;
}

#ifdef OA_OFF_CPU
#define OA_TRACE_KIND OA_RECORD_STACK
#else
#define OA_TRACE_KIND OA_RECORD_TRACE
#endif

static __always_inline u64 wakeup_flags(bool now)
{
	if (now || bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > config.wake_bytes)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* What a sample yields is in the ring. A thread that leaves the CPU is not a sample yet: that is
 * sent when it is on one again.
 */
static __always_inline void taken(struct oa_state *s)
{
#ifdef OA_OFF_CPU
	struct oa_sample *sample = &s->trace.sample;
	u32 tid = sample->tid;

	if (bpf_map_update_elem(&waits, &tid, sample, BPF_NOEXIST)) {
		/* Now and then a thread comes back, and the tracepoint is not called (up to 1 of
		 * 1,000 in a busy virtual machine with 6.18; ftrace misses the same): its last wait
		 * is lost.
		 */
		if (bpf_map_update_elem(&waits, &tid, sample, BPF_EXIST))
			count(OA_COUNTER_LOST_WAIT, 1);
		else
			count(OA_COUNTER_LOST_END, 1);
	}
	tally(s, OA_COUNTER_SWITCHES_NS, bpf_ktime_get_ns() - sample->time_ns);
#else
	tally(s, OA_COUNTER_SAMPLES, 1);
#endif
}

static __always_inline void send_trace(struct oa_state *s, struct oa_known_set *set)
{
	u32 size = sizeof(s->trace) + s->trace.kernel_frames * 8 + s->trace.user_frames * 16;

	s->trace.sample.kind = OA_TRACE_KIND;
	/* verifier: clamp, barrier, check, right before the use. */
	oa_opaque(size);
	if (size > sizeof(s->trace) + sizeof(s->words)) {
		count(OA_COUNTER_LOST_INTERNAL, 1);
		return;
	}
	if (bpf_ringbuf_output(&events, &s->trace, size, wakeup_flags(s->wake))) {
		count(OA_COUNTER_LOST_TRACE, 1);
		return;
	}
	/* Only now: no sample may precede its trace in the ring. */
	if (set)
		remember(set, s->trace.sample.hash);
	note_known(s, s->trace.sample.hash);
	tally(s, OA_COUNTER_TRACES, 1);
	s->trace.sample.kind = OA_RECORD_SAMPLE;
	taken(s);
}

static __always_inline void send_sample(struct oa_state *s)
{
	s->trace.sample.kind = OA_RECORD_SAMPLE;
#ifndef OA_OFF_CPU
	if (bpf_ringbuf_output(&events, &s->trace.sample, sizeof(s->trace.sample),
			       wakeup_flags(false))) {
		count(OA_COUNTER_LOST_SAMPLE, 1);
		return;
	}
#endif
	taken(s);
}

static __always_inline void count_work(struct oa_state *s)
{
	tally(s, OA_COUNTER_FRAMES, s->trace.user_frames);
	tally(s, OA_COUNTER_STEPS, s->steps);
	tally(s, OA_COUNTER_LOOKUPS, s->lookups);
	if (s->guessed)
		count(OA_COUNTER_GUESSED, s->guessed);
}

/* The end of every sample that is not deferred. */
static __always_inline void finish(struct oa_state *s)
{
	struct oa_sample *sample = &s->trace.sample;
	struct oa_known_set *set;
	u32 index;

	if (s->trace.fault && s->in_exec) {
		/* In the middle of execve the old image's stack is gone. */
		s->trace.user_frames = 0;
		s->trace.fault = OA_FAULT_NONE;
		sample->flags &= ~(1 << OA_SAMPLE_USER_BIT);
	}
	if (s->trace.fault)
		count(OA_COUNTER_COUNT + (s->trace.fault & 31), 1);
	seal(s);
	count_work(s);
	if (is_near_known(s, sample->hash)) {
		send_sample(s);
		return;
	}
	index = sample->hash & (config.known_sets - 1);
	set = bpf_map_lookup_elem(&known_traces, &index);
	if (set && is_known(set, sample->hash)) {
		note_known(s, sample->hash);
		send_sample(s);
	} else {
		send_trace(s, set);
	}
}

#endif
