/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_STATE_H
#define OA_STATE_H

/* The record that lives across the unwinders of one sample. */

#include "env.h"
#include "python_state.h"

enum {
	NEAR_MAPPINGS = 32, /* by 64 KiB of address; powers of two */
	NEAR_ROWS = 512, /* by address */
	NEAR_RULES = 64, /* by index */
};

#ifdef OA_HOST
#define OA_WHOLE_PAGES
#else
#define OA_WHOLE_PAGES __attribute__((aligned(4096)))
#endif

/* Answers of look-ups are kept per CPU from sample to sample: a trie's or a hash map's
 * answer costs some ten cold lines in as many pages, one from here a single line. Spaces'
 * numbers start at 1 and are never used again; so 0 marks a free slot, and only
 * what is taken away from a space that lives on has to be forgotten (`epoch`).
 */
struct oa_near_mapping {
	struct oa_mapping mapping;
	u32 space;
	u32 pad;
};

struct oa_near_row {
	u64 addr;
	u32 space;
	u32 row; /* a rule's index or enum oa_row */
};

struct oa_near_rule {
	struct oa_rule rule;
	u32 number; /* its index + 1; 0: free */
	u32 pad;
};

/* What every sample touches lies together, in as few pages as can be: when a sample comes,
 * caches are cold, and to find a page again costs more (0.5 µs on a virtual machine) than its
 * lines. The first page holds the walk and the first 100 frames, the one after the words
 * what few frames need, and two the answers for rows.
 */
struct oa_state {
	struct oa_cpu cpu;
	u64 seen_epoch; /* what it was when the slots below were last forgotten */
	struct oa_process last; /* of the sample before; start_ns is 0 if it does not count */
	struct oa_mapping mapping; /* where regs.pc lies; end is 0 if there is none */
	struct oa_page_key page_key; /* what `page` was looked up with */
	struct oa_page page;
	struct oa_rule rule; /* that the step goes by */
	u64 hash;
	u64 bx_addr; /* where the caller's rbx was saved; 0: still in its register */
	u64 go_high; /* host: as in the deferred record */
	u64 link; /* arm64: the caller's link register, where the rule tells it */
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
	u64 near_known[OA_NEAR_KNOWN]; /* by hash: are, or were, among the known; or 0 */
	struct oa_regs regs; /* of the frame that is looked at */
	struct oa_python_state python;

	/* What is sent: the header and, right behind it, its words. */
	struct oa_trace trace;
	u64 words[OA_TRACE_WORDS];
	struct oa_near_mapping near_mappings[NEAR_MAPPINGS] OA_WHOLE_PAGES;
	struct oa_near_rule near_rules[NEAR_RULES];
	struct oa_near_row near_rows[NEAR_ROWS] OA_WHOLE_PAGES;
} OA_WHOLE_PAGES;

#endif
