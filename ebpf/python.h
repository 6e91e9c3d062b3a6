/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_PYTHON_H
#define OA_PYTHON_H

/* CPython 3.6 to 3.15: the Python frames that each run of the eval loop executes
 * take the place of the loop's own C frame.
 *
 * A frame (OA_FRAME_PYTHON), both words, read by interpreters/python/frames.py:
 *
 *	file_or_object	bits 0-47 the code object's address
 *			bits 48-63 low half of the instruction offset
 *	addr		bits 0-31 check of the code object
 *			bits 32-47 high half of the instruction offset
 *
 * The offset is in bytes from the first instruction (3.6-3.10: f_lasti as it is).
 * The check is py_check(): who reads the code object later can tell whether it is
 * still the same.
 *
 * Whose frames are these? From 3.11 on they end with an entry frame (3.12) or hang
 * on a _PyCFrame (3.11, 3.12), and that lies in the eval loop's C frame. So frames
 * are pushed first; if their end turns out to lie above the C frame, it is in its
 * prologue or epilogue, or belongs to another thread state of this thread
 * (subinterpreters): the frames are taken back and the next state is tried.
 *
 * A PyFrameObject (3.6 to 3.10) does not say where its C frame is. But all callers of the
 * eval loop need theirs after the call, and gcc mostly has it in one of the registers that
 * the loop saves first: if several states of a thread have frames, that one counts which is
 * among them, and the newest if none is. (2,600 C frames of 3.6 to 3.10, six builds: none
 * without; but 3.9 of pyenv has that of <module> on the stack.)
 */

#include "python_threads.h"

enum {
	PY_FRAME_BYTES = 80, /* _PyInterpreterFrame up to its locals, 3.11 to 3.15 */
	PY_OBJECT_BYTES = 128, /* enough of a PyFrameObject, 3.6 to 3.10 */
	PY_CODE_BYTES = 32,
	PY_TAG_MASK = 7, /* low bits of tagged references (3.14); objects are aligned to 16 */
	PY_SAVED = 6, /* callee-saved registers (x86-64) */
};

/* How many bytes of a frame are looked at. */
static __always_inline u32 py_frame_bytes(const struct oa_python_proc *proc)
{
	return proc->kind == OA_PY_OBJECT ? PY_OBJECT_BYTES : PY_FRAME_BYTES;
}

/* How far apart the copies of frames in a deferred stack are. */
static __always_inline u32 py_copy_bytes(const struct oa_python_proc *proc)
{
	return sizeof(struct oa_python_copy) - PY_OBJECT_BYTES + py_frame_bytes(proc);
}

static __always_inline u64 py_u64(const struct oa_python_state *p, u16 offset)
{
	return *(const u64 *)(p->frame + (offset & 0x78));
}

static __always_inline u32 py_u32(const struct oa_python_state *p, u16 field)
{
	return *(const u32 *)(p->code + ((field - p->proc.code_block) & 0x1c));
}

/* Tell a code object from another one that took its place in memory. */
static __always_inline u32 py_check(const struct oa_python_state *p)
{
	return py_u32(p, p->proc.code_firstlineno) + (py_u32(p, p->proc.code_flags) << 10) +
	       (py_u32(p, p->proc.code_kwonly) << 18) + (py_u32(p, p->proc.code_argcount) << 25);
}

/* Names are read from the process's memory, and soon, since it may end: a trace with a
 * code object that was not sent before wakes the reader. Of one that was sent, names and
 * lines are in user space already. Kept among the known traces; if its trace is lost, or
 * these frames are taken back, the reader comes by its timer.
 */
static __always_inline void py_note_code(struct oa_state *s, u64 code, u32 check)
{
#ifndef OA_HOST
	const struct oa_generation *g = &s->trace.generation;
	u64 hash = mix_word(mix_word(code, g->start_ns), (u64)g->exec_id << 32 | g->pid);

	s->wake |= is_first(s, mix_word(hash, check));
#else
	(void)s, (void)code, (void)check;
#endif
}

static __always_inline void py_push(struct oa_state *s, u64 code, u32 lasti)
{
	struct oa_python_state *p = &s->python;
	u32 check;

	if (!code || read_user(p->code, PY_CODE_BYTES, code + p->proc.code_block)) {
		p->fault = OA_FAULT_PY_READ;
		return;
	}
	s->trace.sample.flags |= 1 << OA_SAMPLE_INTERP_BIT;
	check = py_check(p);
	py_note_code(s, code, check);
	push(s, (code & 0xffffffffffffULL) | (u64)(lasti & 0xffff) << 48,
	     frame_word(check | (u64)(lasti >> 16) << 32, OA_FRAME_PYTHON, 0));
}

/* No state has frames for this run of the eval loop: it is in its prologue, or the
 * states are those of a thread that ended, whose memory still looks alike.
 */
static __always_inline void py_open_none(struct oa_state *s)
{
	struct oa_python_state *p = &s->python;
	bool has_frames = s->trace.sample.flags & (1 << OA_SAMPLE_INTERP_BIT);

	p->candidate = OA_PY_STATES;
	if (!p->searched && !p->high && !has_frames)
		py_begin_search(p);
	else
		p->phase = p->high ? PY_READY : PY_LEAVE;
}

/* Begin with the frames of the next state that has any. */
static __always_inline void py_open(struct oa_state *s)
{
	struct oa_python_state *p = &s->python;
	u64 cursor = 0;

#pragma clang loop unroll(full)
	for (u32 i = 0; i < OA_PY_STATES; i++) {
		if (i >= p->candidate && !cursor && p->cursor[i]) {
			cursor = p->cursor[i];
			p->candidate = i;
		}
	}
	if (!cursor) {
		py_open_none(s);
		return;
	}
	p->saved_frames = s->trace.user_frames;
	p->saved_hash = s->hash;
	p->at = p->end = cursor;
	p->phase = PY_WALK;
	if (p->proc.kind == OA_PY_CFRAME && (!py_read(cursor + p->proc.cframe_frame, &p->at) ||
					     !py_read(cursor + p->proc.cframe_previous, &p->next)))
		py_give_up(p, OA_FAULT_PY_READ);
}

/* The state that is walked has no more frames: the next one may. */
static __always_inline void py_close(struct oa_state *s)
{
	struct oa_python_state *p = &s->python;
	u64 c = p->candidate;

	if (s->trace.user_frames != p->saved_frames)
		p->fault = OA_FAULT_PY_CHAIN;
	oa_opaque(c);
	p->cursor[c & (OA_PY_STATES - 1)] = 0;
	py_open(s);
}

/* The newest eval loop may not have entered its frame yet (<= 3.10): then the frame
 * is in the register of the argument, and the thread's current one is its caller.
 */
static __always_inline bool py_in_prologue(struct oa_state *s)
{
#if defined(__TARGET_ARCH_x86)
	u32 reg = s->python.proc.minor >= 9 ? 4 : 5; /* rsi, rdi */
#else
	u32 reg = s->python.proc.minor >= 9 ? 1 : 0;
#endif
	u64 frame = s->regs.gp[reg], back;

	if (!s->regs.valid_all || s->regs.return_address || frame == s->python.at)
		return false;
	return py_read(frame + s->python.proc.frame_previous, &back) && back == s->python.at;
}

/* One run of the eval loop is one PyFrameObject. */
static __always_inline void py_walk_object(struct oa_state *s)
{
	struct oa_python_state *p = &s->python;

	p->end = p->low;
	p->next = p->at;
	p->phase = PY_LEAVE;
	if (py_in_prologue(s))
		return;
	if (read_user(p->frame, PY_OBJECT_BYTES, p->at)) {
		py_give_up(p, OA_FAULT_PY_READ);
		return;
	}
	p->next = py_u64(p, p->proc.frame_previous);
	py_push(s, py_u64(p, p->proc.frame_code),
		*(const u32 *)(p->frame + (p->proc.frame_instr & 0x7c)));
}

/* 1 if a value is not zero. verifier: not a branch, which would be looked at in both ways. */
static __always_inline u64 py_is_set(u64 value)
{
	u64 negative = -value;

	oa_opaque(negative); /* else clang sees a comparison in it */
	return (value | negative) >> 63;
}

/* Is the PyFrameObject that was pushed for the C frame below p->high another one's? Its caller
 * kept a frame in a register: that of state `c`, or of another thread state. Some builds keep
 * theirs on the stack: then nobody's is there, and state `c` is believed, but not while the loop
 * may have left its frame already.
 */
static __always_inline bool py_is_anothers(struct oa_python_state *p, u64 c)
{
	u64 saved[PY_SAVED], kept = 0, running = 0;

	if (read_user(saved, sizeof(saved), p->high - sizeof(saved) - sizeof(u64)))
		return false;
#pragma clang loop unroll(full)
	for (u32 i = 0; i < OA_PY_STATES; i++) {
		u64 found = 0, has = py_is_set(p->cursor[i]);

#pragma clang loop unroll(full)
		for (u32 k = 0; k < PY_SAVED; k++)
			found |= 1 - py_is_set(saved[k] ^ p->cursor[i]);
		kept |= (found & has) << i;
		running += has;
	}
	oa_opaque(kept);
	if (kept >> (c & (OA_PY_STATES - 1)) & 1)
		return false;
	return kept || (p->newest && running > 1);
}

/* The frames are pushed and the C frame is left: were they its own? */
static __always_inline void py_settle(struct oa_state *s)
{
	struct oa_python_state *p = &s->python;
	u64 c = p->candidate;

	p->phase = PY_READY;
	if (c >= OA_PY_STATES)
		return;
	if (p->proc.kind == OA_PY_OBJECT && py_is_anothers(p, c))
		p->end = p->high;
	if (p->end >= p->high) {
		s->trace.user_frames = p->saved_frames;
		s->hash = p->saved_hash;
		p->candidate = c + 1;
		py_open(s);
		return;
	}
	/* verifier: a mask on 64 bits; the shifts that extend 32 bits lose the bound. */
	oa_opaque(c);
	p->cursor[c & (OA_PY_STATES - 1)] = p->next;
	if (p->end < p->low)
		py_open(s); /* of a C frame that was not seen as the eval loop's */
}

/* Mirrors _PyFrame_IsIncomplete (Include/internal/pycore_frame.h): frames that have
 * not reached their first traceable instruction are hidden.
 */
static __always_inline bool py_is_incomplete(struct oa_python_state *p, u64 code, u32 lasti)
{
	u32 first = 0;

	if (p->frame[p->proc.frame_owner & 0x7f] == p->proc.owner_generator)
		return false;
	if (lasti < 1024 && read_user(&first, sizeof(first), code + p->proc.code_first_traceable))
		return true;
	/* 3.11 and 3.12 begin one instruction before the first: a negative offset */
	return (s32)lasti < (s32)(first * 2);
}

/* Look at one frame of a chain that ends with an entry frame. */
static __always_inline void py_walk_chain(struct oa_state *s)
{
	struct oa_python_state *p = &s->python;
	u64 code;
	u32 lasti;
	u8 mark;

	if (!p->at) {
		py_close(s);
		return;
	}
	if (read_user(p->frame, PY_FRAME_BYTES, p->at)) {
		py_give_up(p, OA_FAULT_PY_READ);
		return;
	}
	mark = p->frame[p->proc.frame_entry & 0x7f];
	if (p->proc.entry_shown || mark < p->proc.entry_value) {
		code = py_u64(p, p->proc.frame_code) & ~(u64)PY_TAG_MASK;
		lasti = py_u64(p, p->proc.frame_instr) - code - p->proc.code_instructions;
		if (!py_is_incomplete(p, code, lasti))
			py_push(s, code, lasti);
	}
	if (mark != p->proc.entry_value) {
		p->at = py_u64(p, p->proc.frame_previous);
		return;
	}
	if (p->proc.kind == OA_PY_ENTRY) {
		p->end = p->at;
		p->next = py_u64(p, p->proc.frame_previous);
	}
	p->phase = PY_LEAVE;
}

/* With `-X perf` each function has a trampoline in anonymous memory, without rows,
 * that calls the eval loop (Python/asm_trampoline.S of 3.12 and 3.14). It is left
 * out: the Python frame says the same. arm64's has a frame pointer.
 */
static __always_inline bool py_leave_trampoline(struct oa_state *s)
{
#if defined(__TARGET_ARCH_x86)
	const u64 sub_call_add = 0x8348d1ff08ec8348; /* sub $8,%rsp; call *%rcx; add… */
	const u64 push_call_pop = 0xc35dd1ffe5894855; /* push; mov; call *%rcx; pop; ret */
	u64 sp = s->regs.gp[REG_SP];
	u64 code, pair[2];

	if (!(s->mapping.flags & (1 << OA_MAPPING_ANON_BIT)) || !s->regs.return_address ||
	    !py_read(s->regs.pc - 6, &code) || (code != sub_call_add && code != push_call_pop))
		return false;
	if (read_user(pair, sizeof(pair), sp)) {
		stop(s, OA_FAULT_READ_STACK);
		return true;
	}
	to_caller(s, pair[1], sp + 16, code == push_call_pop ? pair[0] : s->regs.gp[REG_FP]);
	settle(s);
	return true;
#else
	return false;
#endif
}

/* One step: a Python frame, a C frame, or both. Stays in charge to the stack's end,
 * because stacks may switch more often than there are tail calls.
 */
static __always_inline void python_step(struct oa_state *s)
{
	struct oa_python_state *p = &s->python;
	u32 index;

	if (p->phase == PY_START)
		py_start(s);
	if (p->phase == PY_SEARCH) {
		py_search(s);
		return;
	}
	if (p->phase == PY_READY && s->mapping.unwinder == OA_UNWINDER_PYTHON) {
		p->low = s->regs.gp[REG_SP];
		p->newest = !s->regs.return_address;
		p->high = 0;
		p->candidate = 0;
		py_open(s);
	}
	if (p->phase == PY_WALK) {
		if (p->proc.kind == OA_PY_OBJECT)
			py_walk_object(s);
		else
			py_walk_chain(s);
		if (p->phase == PY_LEAVE && p->high)
			py_settle(s);
		if (p->phase == PY_WALK || p->phase == PY_READY || s->done)
			return;
	}
	if (p->phase == PY_SEARCH)
		return;
	if (p->phase != PY_LEAVE && py_leave_trampoline(s))
		return;
	index = find_row(s, lookup_pc(s));
	if (p->phase != PY_LEAVE)
		push_native(s, index);
	if (!s->done) {
		unwind_frame(s, index);
		settle(s);
	}
	if (s->done) {
		if (!s->trace.fault)
			s->trace.fault = p->fault;
	} else if (p->phase == PY_LEAVE) {
		p->high = s->regs.gp[REG_SP];
		py_settle(s);
	}
}

#endif
