/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_TRACE_H
#define OA_TRACE_H

/* The trace under construction, and the only code that writes it. */

#include "maps.h"

enum {
	/* Flags of a sample that are known before its walk. */
	OA_SAMPLE_GIVEN =
		1 << OA_SAMPLE_USER_BIT | 1 << OA_SAMPLE_OFF_CPU_BIT | 7 << OA_SAMPLE_WAIT_BIT,
	/* Steps of a walk that is not bounded by tail calls: every frame, and frames
	 * that push nothing.
	 */
	LOOP_STEPS = 2 * OA_MAX_USER_FRAMES + 128,
};

static __always_inline u64 mix_word(u64 hash, u64 word)
{
	u64 h = (hash ^ word) * 0x9e3779b97f4a7c15ULL;

	return h ^ (h >> 29);
}

static __always_inline void hash_word(struct oa_state *s, u64 word)
{
	s->hash = mix_word(s->hash, word);
}

/* Forget the walk before this one. What follows is hashed in this order:
 * generation, kernel frames, user frames, and at the end what seal() knows.
 */
static __always_inline void begin_walk(struct oa_state *s)
{
	struct oa_trace *t = &s->trace;

	t->fault_pc = 0;
	t->kernel_frames = 0;
	t->user_frames = 0;
	t->fault = OA_FAULT_NONE;
	s->mapping.start = 0;
	s->mapping.end = 0;
	s->page_key.file_id = 0;
	s->page_key.page = ~0ULL;
	s->hash = 0x6f74656c6167656eULL;
	s->tail_calls = 0;
	s->steps = 0;
	s->lookups = 0;
	s->guessed = 0;
	s->done = 0;
	s->in_exec = 0;
	s->missing = 0;
	s->guess_next = 0;
	s->bx_known = 1;
	s->bx_addr = 0;
	s->kept = 0;
	s->wake = 0;
	s->python.phase = PY_START;
}

static __always_inline void hash_generation(struct oa_state *s)
{
	const struct oa_generation *g = &s->trace.generation;

	hash_word(s, g->start_ns);
	hash_word(s, (u64)g->exec_id << 32 | g->pid);
}

static __always_inline void hash_kernel_frames(struct oa_state *s)
{
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < OA_MAX_KERNEL_FRAMES; i++) {
		if (i >= s->trace.kernel_frames)
			break;
		hash_word(s, s->words[i]);
	}
}

/* Write down how the walk went; afterwards the hash stands. */
static __always_inline void seal(struct oa_state *s)
{
	struct oa_sample *sample = &s->trace.sample;

	s->trace.steps = s->steps;
	s->trace.space = s->space;
	if (s->guessed)
		sample->flags |= 1 << OA_SAMPLE_GUESSED_BIT;
	if (s->trace.fault)
		sample->flags |= 1 << OA_SAMPLE_FAULT_BIT;
	hash_word(s, s->trace.fault << 16 | sample->flags);
	sample->hash = s->hash ? s->hash : 1;
}

/* End the walk. The first fault stays. */
static __always_inline void stop(struct oa_state *s, enum oa_fault fault)
{
	if (s->done)
		return;
	s->done = 1;
	s->trace.fault = fault;
	s->trace.fault_pc = s->regs.pc;
}

/* Append a frame; ends the trace when there are as many as asked for. */
static __always_inline void push(struct oa_state *s, u64 file_or_object, u64 addr)
{
	u32 frames = s->trace.user_frames;
	u32 at = s->trace.kernel_frames + 2 * frames;

	if (frames >= config.max_user_frames || at > OA_TRACE_WORDS - 2) {
		stop(s, OA_FAULT_MAX_FRAMES);
		return;
	}
	hash_word(s, file_or_object);
	hash_word(s, addr);
	/* verifier: the bound is checked on the value that is used, right before it is. */
	oa_opaque(at);
	if (at > OA_TRACE_WORDS - 2)
		return;
	s->words[at] = file_or_object;
	s->words[at + 1] = addr;
	s->trace.user_frames = frames + 1;
}

static __always_inline u64 frame_word(u64 addr, enum oa_frame_kind kind, u64 flags)
{
	return (addr & 0xffffffffffffULL) | (u64)kind << 48 | flags << 56;
}

#endif
