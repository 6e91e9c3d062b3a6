/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_NATIVE_H
#define OA_NATIVE_H

/* Machine code: one step from a frame to its caller, by a row or, guarded, by
 * the frame pointer.
 */

#include "go.h"
#include "leaf.h"
#include "lookup.h"

/* Go to the caller's frame. The stack grows down, so its end is above. */
static __always_inline void to_caller(struct oa_state *s, u64 pc, u64 sp, u64 fp)
{
	bool leaf = s->regs.valid_all;

	if (sp < s->regs.gp[REG_SP] || (sp == s->regs.gp[REG_SP] && !leaf)) {
		stop(s, OA_FAULT_STACK_DIRECTION);
		return;
	}
	s->regs.pc = pc;
	s->regs.gp[REG_SP] = sp;
	s->regs.gp[REG_FP] = fp;
	s->regs.return_address = 1;
	s->regs.valid_all = 0;
	s->kept = 0;
}

static __always_inline bool read_stack(struct oa_state *s, u64 addr, u64 *value)
{
	if (!read_user(value, sizeof(*value), addr))
		return true;
	stop(s, OA_FAULT_READ_STACK);
	return false;
}

static __always_inline u64 strip_pac(u64 addr)
{
#if defined(__TARGET_ARCH_arm64)
	return addr & ~config.pac_mask;
#else
	return addr;
#endif
}

/* A register as the rule wants it: after the newest frame only a few are known. */
static __always_inline bool get_reg(struct oa_state *s, u32 reg, u64 *value)
{
	if (!s->regs.valid_all && !s->kept && reg != REG_SP && reg != REG_FP) {
		if (reg != REG_BX || !s->bx_known) {
			stop(s, OA_FAULT_LEAF_REGISTER);
			return false;
		}
		if (s->bx_addr)
			return read_stack(s, s->bx_addr, value);
	}
	*value = s->regs.gp[reg & (OA_GP_REGS - 1)];
	return true;
}

static __always_inline bool find_cfa(struct oa_state *s, const struct oa_rule *rule, u64 *cfa)
{
	u64 value, index;

	if (!get_reg(s, rule->cfa_reg, &value))
		return false;
	value += (s64)rule->cfa_offset;
	switch (rule->cfa_kind) {
	case OA_CFA_REG:
		break;
	case OA_CFA_PLT:
		if ((s->regs.pc & 15) >= (u32)rule->cfa_add)
			value += 8;
		break;
	case OA_CFA_DEREF_INDEX:
		if (!get_reg(s, rule->cfa_reg2, &index))
			return false;
		value += index * 8;
		/* fall through */
	case OA_CFA_DEREF:
		if (!read_stack(s, value, &value))
			return false;
		value += (s64)rule->cfa_add;
		break;
#if defined(__TARGET_ARCH_arm64)
	case OA_CFA_GO_CALL:
		if (!find_go_caller(s, &value))
			return false;
		value += (s64)rule->cfa_add;
		/* fall through */
	case OA_CFA_OTHER_STACK:
		s->regs.gp[REG_SP] = 0; /* no place is below it */
		break;
	case OA_CFA_GO_INJECTED:
		if (!read_stack(s, value, &s->link))
			return false;
		value += (s64)rule->cfa_add;
		break;
	case OA_CFA_GO_ENTRY:
		if (!get_reg(s, rule->cfa_reg2, &s->link))
			return false;
		break;
#endif
	default:
		stop(s, OA_FAULT_BAD_RULE);
		return false;
	}
	*cfa = value;
	return true;
}

/* Find the caller's value of a register; `same` is its value here. */
static __always_inline bool find_reg(struct oa_state *s, u8 kind, u8 reg, s32 offset, u64 cfa,
				     u64 same, u64 *value)
{
	u64 from;

	switch (kind) {
	case OA_REG_SAME:
		*value = same;
		return true;
	case OA_REG_CFA:
		return read_stack(s, cfa + (s64)offset, value);
	case OA_REG_AT:
		return get_reg(s, reg, &from) && read_stack(s, from + (s64)offset, value);
	case OA_REG_AT_AT:
		return get_reg(s, reg, &from) && read_stack(s, from + (s64)offset, &from) &&
		       read_stack(s, from, value);
	case OA_REG_IN:
		return get_reg(s, reg, value);
	case OA_REG_UNDEFINED:
		*value = 1; /* a frame pointer of zero would mark the first frame */
		return true;
	case OA_REG_CFA_VALUE:
		*value = cfa + (s64)offset;
		return true;
	}
	stop(s, OA_FAULT_BAD_RULE);
	return false;
}

/* Hand-made code calls helpers that leave registers alone, and has its CFA in one that
 * a compiler would not trust across a call (OpenSSL's aesni_gcm_encrypt: rax). If the
 * newest frame saved nothing, it is such a helper: no compiler keeps its CFA there.
 */
static __always_inline bool keeps_registers(const struct oa_state *s, const struct oa_rule *rule)
{
#if defined(__TARGET_ARCH_x86)
	return s->regs.valid_all && rule->cfa_kind == OA_CFA_REG && rule->cfa_reg == REG_SP &&
	       rule->fp_kind == OA_REG_SAME && rule->bx_kind == OA_REG_SAME;
#else
	return false; /* the call itself changed the link register */
#endif
}

static __always_inline void step_by_rule(struct oa_state *s, u32 index)
{
	const struct oa_rule *rule = &s->rule;
	u64 cfa, fp, pc, link = 0;
	bool kept;

	if (!find_rule(s, index)) {
		stop(s, OA_FAULT_BAD_RULE);
		return;
	}
	if (rule->ra_kind == OA_REG_UNDEFINED) {
		stop(s, OA_FAULT_NONE);
		return;
	}
	if (!find_cfa(s, rule, &cfa))
		return;
#if defined(__TARGET_ARCH_arm64)
	/* The link register survives only in the newest frame. */
	if (rule->ra_kind == OA_REG_SAME && !get_reg(s, OA_ARM_LR, &link))
		return;
#endif
	if (!find_reg(s, rule->fp_kind, rule->fp_reg, rule->fp_offset, cfa, s->regs.gp[REG_FP],
		      &fp))
		return;
	if (!find_reg(s, rule->ra_kind, rule->ra_reg, rule->ra_offset, cfa, link, &pc))
		return;
	/* Where rbx was saved is noted, and read only if a rule asks for it. */
	if (rule->bx_kind == OA_REG_CFA)
		s->bx_addr = cfa + (s64)rule->bx_offset;
	else if (rule->bx_kind != OA_REG_SAME)
		s->bx_known = 0;
	kept = keeps_registers(s, rule);
	to_caller(s, strip_pac(pc), cfa, fp);
	s->kept = kept;
#if defined(__TARGET_ARCH_arm64)
	take_link(s, rule->cfa_kind);
#endif
}

/* Restore the interrupted frame from the signal frame that the kernel made. */
static __always_inline void step_signal(struct oa_state *s)
{
	u64 sp = s->regs.gp[REG_SP];
#if defined(__TARGET_ARCH_x86)
	/* arch/x86/include/asm/sigframe.h: the stack pointer is at `uc`; its
	 * uc_mcontext (uapi/asm/sigcontext.h) begins after flags, link and stack.
	 */
	u64 g[17];

	if (read_user(g, sizeof(g), sp + 40)) {
		stop(s, OA_FAULT_READ_STACK);
		return;
	}
	for (int i = 0; i < 8; i++)
		s->regs.gp[8 + i] = g[i];
	s->regs.gp[5] = g[8];
	s->regs.gp[4] = g[9];
	s->regs.gp[6] = g[10];
	s->regs.gp[3] = g[11];
	s->regs.gp[1] = g[12];
	s->regs.gp[0] = g[13];
	s->regs.gp[2] = g[14];
	s->regs.gp[7] = g[15];
	s->regs.pc = g[16];
#else
	/* arch/arm64/kernel/signal.c: siginfo (128), then ucontext whose
	 * uc_mcontext is at 176, its registers behind the fault address.
	 */
	if (read_user(s->regs.gp, 32 * 8, sp + 312) ||
	    read_user(&s->regs.pc, 8, sp + 312 + 32 * 8)) {
		stop(s, OA_FAULT_READ_STACK);
		return;
	}
#endif
	s->regs.return_address = 0;
	s->regs.valid_all = 1;
	s->bx_known = 1;
	s->bx_addr = 0;
}

/* Step by the frame pointer where it is known to be one: in Go functions that
 * switch stacks. The caller's stack may lie below, so the direction is not checked.
 */
static __always_inline void step_frame_pointer(struct oa_state *s)
{
	u64 pair[2];
	u64 fp = s->regs.gp[REG_FP];

	if (read_user(pair, sizeof(pair), fp)) {
		stop(s, OA_FAULT_READ_STACK);
		return;
	}
	s->bx_known = 0;
	s->regs.gp[REG_SP] = 0;
	to_caller(s, strip_pac(pair[1]), fp + 16, pair[0]);
}

#if defined(__TARGET_ARCH_x86)
/* Where the caller's address is kept in the newest frame, if the code at the pc
 * says so: before `push %rbp` and at `ret` at the stack pointer, between the push
 * and `mov %rsp,%rbp` one slot above. 0: the frame pointer is set up.
 */
static __always_inline u32 leaf_slot(struct oa_state *s)
{
	u8 code[5] = {};

	/* The byte before the pc, and four from it on. */
	if (read_user(code, sizeof(code), s->regs.pc - 1))
		return 0;
	return oa_leaf_slot(code);
}

/* Tell whether a call instruction ends right before `pc`: e8 rel32 to known code, or
 * ff /2 with any addressing form (2 to 7 bytes, with or without prefixes; Intel SDM
 * volume 2, tables 2-2 and 2-3).
 *
 * That the target is looked at brings the random positions that pass from 0.4 % to
 * 0.05 % (libc, libpython).
 */
static __always_inline bool follows_call(struct oa_state *s, u64 pc)
{
	s32 distance;
	u8 c[8] = {};

	/* Seven bytes may begin before the first code there is. */
	if (read_user(c + 1, 7, pc - 7) && read_user(c + 3, 5, pc - 5))
		return false;
	if (c[3] == 0xe8) {
		__builtin_memcpy(&distance, c + 4, sizeof(distance));
		if (find_mapping(s, pc + (s64)distance))
			return true;
	}
	if (c[6] == 0xff && ((c[7] & 0xf8) == 0xd0 || ((c[7] & 0xf8) == 0x10 && (c[7] & 6) != 4)))
		return true;
	if (c[5] == 0xff &&
	    (((c[6] & 0xf8) == 0x50 && c[6] != 0x54) || (c[6] == 0x14 && (c[7] & 7) != 5)))
		return true;
	if (c[4] == 0xff && c[5] == 0x54)
		return true;
	if (c[2] == 0xff && (((c[3] & 0xf8) == 0x90 && c[3] != 0x94) || c[3] == 0x15))
		return true;
	return c[1] == 0xff && (c[2] == 0x94 || (c[2] == 0x14 && (c[3] & 7) == 5));
}
#else
static __always_inline u32 leaf_slot(struct oa_state *s)
{
	return 0;
}

/* bl, or blr (also the authenticating forms), is the instruction before `pc`. */
static __always_inline bool follows_call(struct oa_state *s, u64 pc)
{
	u32 insn = 0;

	if (read_user(&insn, sizeof(insn), pc - 4))
		return false;
	return (insn & 0xfc000000) == 0x94000000 || (insn & 0xfefff800) == 0xd63f0800 ||
	       (insn & 0xfffffc1f) == 0xd63f0000;
}
#endif

/* Follow the frame pointer if it looks like one: no rule covers the pc, or `known`
 * says that this code keeps one, and that it is not flagged as a guess.
 *
 * Guards: it rises within OA_FP_WINDOW_BYTES of the stack, and the return address
 * follows a call in a known executable mapping. Where code is known to keep a frame
 * pointer, that mapping may be one that is not loaded yet.
 */
static __always_inline void step_guess(struct oa_state *s, enum oa_fault why, bool known)
{
	u64 sp = s->regs.gp[REG_SP], fp = s->regs.gp[REG_FP];
	u64 pair[2] = {};
	u64 at = fp;
	u32 slot = s->regs.valid_all ? leaf_slot(s) : 0;
	const struct oa_mapping *found;

	if (slot)
		at = sp + slot * 8 - 16; /* so that pair[1] is the return address */
	else if (!fp && s->regs.return_address) {
		s->guessed += !known;
		stop(s, OA_FAULT_NONE); /* the ABI marks the first frame by a zero */
		return;
	} else if (fp < sp || fp - sp > OA_FP_WINDOW_BYTES) {
		stop(s, why);
		return;
	}
	/* Nothing below the stack pointer is read: a deferred stack begins there. */
	if (read_user(&pair[1], 8, at + 8) || (slot != 1 && read_user(pair, 8, at))) {
		stop(s, why);
		return;
	}
	pair[1] = strip_pac(pair[1]);
	if (slot == 1)
		pair[0] = fp;
	if (!slot && !pair[0]) {
		if (!pair[1] || !find_mapping(s, pair[1] - 1)) {
			s->guessed += !known;
			stop(s, OA_FAULT_NONE);
			return;
		}
	}
	found = find_mapping(s, pair[1] - 1);
	if (!follows_call(s, pair[1])) {
		stop(s, why);
		return;
	}
	if (!found) {
		s->missing = known;
		stop(s, known ? OA_FAULT_NO_MAPPING : why);
		return;
	}
	/* What another file calls may keep anything in that register: main() is called so. */
	if (!slot && pair[0] && found->file_id == s->mapping.file_id &&
	    (pair[0] <= fp || pair[0] - fp > OA_FP_WINDOW_BYTES)) {
		stop(s, why);
		return;
	}
	s->bx_known = 0;
	to_caller(s, pair[1], at + 16, pair[0]);
	s->guess_next = !known;
	s->guessed += !known;
}

/* Go from s->regs to the caller's frame by what holds here, without pushing anything. */
static __always_inline void unwind_frame(struct oa_state *s, u32 index)
{
	s->guess_next = 0;
	if (index < OA_ROW_COMMAND)
		step_by_rule(s, index);
	else if (index == OA_ROW_STOP || index == OA_ROW_BEGIN)
		stop(s, OA_FAULT_NONE);
	else if (index == OA_ROW_SIGNAL)
		step_signal(s);
	else if (index == OA_ROW_FRAME_POINTER)
		step_frame_pointer(s);
	else
		step_guess(s, index == OA_ROW_UNSUPPORTED ? OA_FAULT_UNSUPPORTED : OA_FAULT_NO_ROW,
			   index == OA_ROW_FRAME_CODE ||
				   s->mapping.flags & (1 << OA_MAPPING_FRAMES_BIT));
}

/* Code called what is no code, by a pointer that is null or wild: push that, and go to the caller.
 * Nothing has run since the call, so its return address is where the call put it, and all
 * registers are the caller's. Code that cannot be read (of a process that is gone) is believed.
 */
static __always_inline bool leave_nowhere(struct oa_state *s)
{
	u64 sp = s->regs.gp[REG_SP], caller;
	bool keeps = false;
	u8 code;

	/* Only a thread that was interrupted there was there. */
	if (!s->regs.valid_all || s->regs.return_address)
		return false;
#if defined(__TARGET_ARCH_x86)
	if (read_user(&caller, sizeof(caller), sp))
		return false;
	sp += sizeof(caller);
	keeps = true;
#else
	caller = strip_pac(s->regs.gp[OA_ARM_LR]);
#endif
	if (caller < 0x1000 || !find_mapping(s, caller - 1))
		return false;
	if (!follows_call(s, caller) && !read_user(&code, sizeof(code), caller - 1))
		return false;
	push(s, 0, frame_word(s->regs.pc, OA_FRAME_NOWHERE, 0));
	to_caller(s, caller, sp, s->regs.gp[REG_FP]);
	s->kept = keeps;
	s->guess_next = 1;
	s->guessed++;
	return true;
}

/* After a step: check the new pc and find its mapping. */
static __always_inline void settle(struct oa_state *s)
{
	u64 pc = s->regs.pc;

	if (s->done)
		return;
	if (pc >> 63) {
		stop(s, OA_FAULT_KERNEL_PC);
		return;
	}
	if (pc >= 0x1000 && resolve(s))
		return;
	/* In BPF code of which nothing is known may have been mapped just now. */
	if ((pc < 0x1000 || knows_all_code()) && leave_nowhere(s) && resolve(s))
		return;
	s->missing = pc >= 0x1000;
	stop(s, pc < 0x1000 ? OA_FAULT_ZERO_PC : OA_FAULT_NO_MAPPING);
}

static __always_inline void push_native(struct oa_state *s, u32 index)
{
	bool anon = s->mapping.flags & (1 << OA_MAPPING_ANON_BIT);
	bool begin = index == OA_ROW_SIGNAL || index == OA_ROW_BEGIN;
	u64 addr = anon ? s->regs.pc : s->regs.pc - s->mapping.bias;
	u64 flags =
		(s->regs.return_address ? 1 << (begin ? OA_FRAME_BEGIN_BIT : OA_FRAME_RETURN_BIT)
					: 0) |
		(s->guess_next ? 1 << OA_FRAME_GUESSED_BIT : 0);

	push(s, s->mapping.file_id,
	     frame_word(addr, anon ? OA_FRAME_ANON : OA_FRAME_NATIVE, flags));
}

/* One native frame: push it and go to its caller. */
static __always_inline void native_step(struct oa_state *s)
{
	u32 index = find_row(s, lookup_pc(s));

	push_native(s, index);
	if (s->done)
		return;
	unwind_frame(s, index);
	settle(s);
}

#endif
