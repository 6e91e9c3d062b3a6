/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_COPY_H
#define OA_COPY_H

/* What of a thread's stacks goes into a deferred sample: the current one from its
 * red zone on and, where frame pointers lead to another, a piece of that. Go runs C
 * on a stack of its own; the goroutine's is behind the frame pointer.
 */

#include "trace.h"

enum {
	/* Frame pointers followed on the current stack; a callback from C into Go has 8. */
	COPY_FRAMES = 16,
	/* A signal handler's own stack leads to the record behind the interrupted frame. */
	COPY_BELOW = 1024,
	/* What of the current stack is copied if there is another, too. */
	COPY_HALF = OA_MAX_STACK_BYTES / 2,
	/* What may be missing at a stretch: a large array that the thread has not written to. */
	COPY_HOLE = 12 * OA_STACK_PAGE_BYTES,
};

/* A call instruction may end right before `pc`. Nothing is known yet of what is mapped. */
static __always_inline bool looks_called(u64 pc)
{
#if defined(__TARGET_ARCH_x86)
	u8 c[7] = {};

	if (read_user(c, sizeof(c), pc - sizeof(c)))
		return false;
	return c[2] == 0xe8 || c[5] == 0xff || c[4] == 0xff || c[3] == 0xff || c[1] == 0xff ||
	       c[0] == 0xff;
#else
	u32 insn = 0;

	if (read_user(&insn, sizeof(insn), pc - sizeof(insn)))
		return false;
	return (insn & 0xfc000000) == 0x94000000 || (insn & 0xfffffc1f) == 0xd63f0000;
#endif
}

/* The first frame record behind the current stack that is on none near to it; 0: there is none. */
static __always_inline u64 find_other_stack(u64 sp, u64 fp)
{
	u64 pair[2] = {};

#pragma clang loop unroll(disable)
	for (u32 i = 0; i < COPY_FRAMES; i++) {
		if (!fp || fp & 7 || read_user(pair, sizeof(pair), fp))
			return 0;
		if (fp - sp >= OA_FP_WINDOW_BYTES)
			return sp - fp >= OA_FP_WINDOW_BYTES && looks_called(pair[1]) ? fp : 0;
		fp = pair[0];
	}
	return 0;
}

/* Copy what is at `addr` behind the first `begin` bytes, at most up to `end`; returns where the
 * copy ends. Piece by piece, the first one up to a boundary: a stack ends at a page's end. Pages
 * that are not there leave zeros (bpf_probe_read_user clears what it cannot read): a return
 * address among them ends the walk with a fault.
 */
static __always_inline u64 copy_stack(struct oa_deferred *d, u64 begin, u64 end, u64 addr)
{
	/* verifier: what differs from piece to piece lives in the record until it is filled in:
	 * in registers their ranges keep the verifier from seeing that all ways through a piece
	 * end alike, and what follows is looked at once for each turn (6.18: 93,000 instructions
	 * against 8,000). 64 bits wide, since as u32 clang 14 without alu32 checks a zero-extended
	 * copy and the bound is not known of the one that is used (6.18: "invalid access to map
	 * value"). Guard: integration/test_loader.py.
	 */
	volatile u32 *place = &d->stack_bytes, *last = &d->other_bytes;
	u64 bytes, chunk;

	addr -= begin;
	*place = *last = begin;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i <= OA_MAX_STACK_BYTES / OA_STACK_PAGE_BYTES; i++) {
		bytes = *place;
		chunk = OA_STACK_PAGE_BYTES - ((addr + bytes) & (OA_STACK_PAGE_BYTES - 1));
		if (bytes + chunk > end)
			break;
		oa_opaque(bytes);
		if (bytes > OA_MAX_STACK_BYTES - OA_STACK_PAGE_BYTES)
			break;
		oa_opaque(chunk);
		if (chunk > OA_STACK_PAGE_BYTES)
			break;
		*place = bytes + chunk;
		if (!read_user(d->stack + bytes, chunk, addr + bytes))
			*last = bytes + chunk;
		else if (bytes - *last >= COPY_HOLE)
			break;
	}
	return *last;
}

/* Copy the stacks of a thread with these registers; returns the bytes in all. */
static __always_inline u64 copy_stacks(struct oa_deferred *d)
{
	u64 sp = d->regs.gp[REG_SP];
	u64 other = find_other_stack(sp, d->regs.gp[REG_FP]);
	u64 first = 0, all, probe;

	if (other && !read_user(&probe, sizeof(probe), other - COPY_BELOW))
		other -= COPY_BELOW;
	d->stack_addr = sp;
	d->other_addr = other;
	/* Epilogues may still point rules at slots that were popped. Below a page's start
	 * there may be nothing, if the stack never went there.
	 */
	if (!read_user(d->stack, OA_RED_ZONE_BYTES, sp - OA_RED_ZONE_BYTES)) {
		d->stack_addr = sp - OA_RED_ZONE_BYTES;
		first = OA_RED_ZONE_BYTES;
	}
	first = copy_stack(d, first, other ? COPY_HALF : OA_MAX_STACK_BYTES, sp);
	all = first;
	if (other)
		all = copy_stack(d, first, OA_MAX_STACK_BYTES, other);
	d->stack_bytes = first;
	d->other_bytes = all - first;
	return all;
}

#endif
