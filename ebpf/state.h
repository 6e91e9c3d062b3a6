/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_STATE_H
#define OA_STATE_H

/* The record that lives across the unwinders of one sample. */

#include "env.h"
#include "python_state.h"

/* What every sample touches comes first and lies together: when a sample comes, caches
 * are cold, and each page and line of memory has to be fetched anew.
 */
struct oa_state {
	struct oa_mapping mapping; /* where regs.pc lies; end is 0 if there is none */
	struct oa_page_key page_key; /* what `page` was looked up with */
	struct oa_page page;
	u64 hash;
	u64 bx_addr; /* where the caller's rbx was saved; 0: still in its register */
	u32 space; /* address space in `mappings` */
	u32 tail_calls;
	u32 steps;
	u32 lookups;
	u32 guessed;
	u8 done; /* nothing more to unwind: trace.fault says why */
	u8 in_exec; /* in execve: user registers are of an image that may be gone */
	u8 missing; /* code that is not loaded: worth deferring */
	u8 guess_next; /* regs were found by the frame pointer */
	u8 bx_known; /* bx_addr can be trusted */
	u8 kept; /* the newest frame changed no register: its caller's are all valid, too */
	u8 wake; /* its trace is to be read at once */
	u8 pad;
	struct oa_regs regs; /* of the frame that is looked at */
	struct oa_python_state python;

	/* What is sent: the header and, right behind it, its words. */
	struct oa_trace trace;
	u64 words[OA_TRACE_WORDS];
};

#endif
