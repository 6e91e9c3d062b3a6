/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_TRACE_H
#define OA_TRACE_H

/* The trace under construction, and the only code that writes it. */

#include "maps.h"

static __always_inline void hash_word(struct oa_state *s, u64 word)
{
	u64 h = (s->hash ^ word) * 0x9e3779b97f4a7c15ULL;

	s->hash = h ^ (h >> 29);
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
