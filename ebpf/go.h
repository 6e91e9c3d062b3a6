/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_GO_H
#define OA_GO_H

/* What Go does on arm64 that no other code does. */

#include "lookup.h"

#if defined(__TARGET_ARCH_arm64)
/* Go's asmcgocall goes to the thread's own stack and keeps there which goroutine it came from, or
 * none, and how far below the goroutine's first byte of stack (runtime.g.stack.hi) it was
 * (runtime/asm_arm64.s; since it took arguments on the stack).
 */
static __always_inline bool find_go_caller(struct oa_state *s, u64 *value)
{
	u64 kept[2], high = 0;

	if (read_user(kept, sizeof(kept), *value)) {
		stop(s, OA_FAULT_READ_STACK);
		return false;
	}
	if (kept[0] && read_user(&high, sizeof(high), kept[0] + 8)) {
		high = s->go_high; /* a goroutine is on no stack */
		if (!high) {
			stop(s, OA_FAULT_READ_STACK);
			return false;
		}
	}
	*value = kept[0] ? high - kept[1] : kept[1];
	return true;
}

/* The caller may have saved nothing yet: its link register is known, and so it is like the newest
 * frame. Go's functions have rules of the stack pointer and this register only.
 */
static __always_inline void take_link(struct oa_state *s, u8 cfa_kind)
{
	if (cfa_kind != OA_CFA_GO_INJECTED && cfa_kind != OA_CFA_GO_ENTRY)
		return;
	s->regs.gp[OA_ARM_LR] = s->link;
	s->regs.valid_all = 1;
	/* A signal handler's call stands before any instruction. */
	s->regs.return_address = cfa_kind == OA_CFA_GO_ENTRY;
}
#endif

#endif
