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
	/* Below the stack pointer, another stack is at least so far away. */
	COPY_NEAR = 1024,
	/* Pairs looked at above the frame that Go's asmcgocall called. */
	COPY_PAIRS = 32,
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

#if defined(__TARGET_ARCH_arm64)
/* Go's asmcgocall on arm64 gives the frame pointer up. It calls C by `blr x1`, and right above C's
 * frame are the goroutine and how far below the end of its stack it was (native.h:find_go_caller).
 * Nothing tells how large C's frame is, so pairs above its record are tried: the goroutine begins
 * with the bounds of its stack (runtime.g), and there a caller's address must lie.
 */
static __always_inline u64 find_goroutine(struct oa_deferred *d, u64 fp, u64 called)
{
	u64 kept[2] = {}, bounds[2] = {}, pc;
	u32 insn = 0;

	if (read_user(&insn, sizeof(insn), called - sizeof(insn)) || insn != 0xd63f0020)
		return 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < COPY_PAIRS; i++) {
		fp += sizeof(kept);
		if (read_user(kept, sizeof(kept), fp))
			return 0;
		if (!kept[0] || kept[0] & 7 || !kept[1] || kept[1] & 7)
			continue;
		if (read_user(bounds, sizeof(bounds), kept[0]) || bounds[1] <= bounds[0] ||
		    kept[1] >= bounds[1] - bounds[0])
			continue;
		if (read_user(&pc, sizeof(pc), bounds[1] - kept[1]) || !looks_called(pc))
			continue;
		d->go_high = bounds[1];
		return bounds[1] - kept[1];
	}
	return 0;
}
#endif

/* Stacks grow down, so above is the current one, unless that is far. A goroutine's stack may lie
 * near to the runtime's; but on arm64 Go's newest frame record is right below the stack pointer.
 */
static __always_inline bool is_elsewhere(u64 sp, u64 fp)
{
	/* verifier: one comparison; two make unwind_stop a tenth longer. */
	return fp - sp + COPY_NEAR >= OA_FP_WINDOW_BYTES + COPY_NEAR;
}

/* The first frame record that lies on another stack than the current one; 0: there is none. */
static __always_inline u64 find_other_stack(struct oa_deferred *d, u64 sp, u64 fp)
{
	u64 pair[2] = {};
	u64 other = 0;

#pragma clang loop unroll(disable)
	for (u32 i = 0; i < COPY_FRAMES; i++) {
		if (!fp || fp & 7 || read_user(pair, sizeof(pair), fp))
			break;
		if (!other && is_elsewhere(sp, fp)) {
			if (!looks_called(pair[1]))
				break;
			other = fp;
		}
#if defined(__TARGET_ARCH_arm64)
		/* Also on the other stack: a callback's goroutine may have called C before. */
		u64 place = find_goroutine(d, fp, pair[1]);

		if (place)
			return other || place - sp < OA_MAX_STACK_BYTES ? other : place;
#else
		if (other)
			break;
#endif
		fp = pair[0];
	}
	return other;
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
	u64 first = 0, all, probe, other;

	d->go_high = 0;
	other = find_other_stack(d, sp, d->regs.gp[REG_FP]);
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
