/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_X86_INSN_H
#define OA_X86_INSN_H
#ifndef OA_CDEF
#include "types.h"
#endif

/* One x86-64 instruction: how long it is, and what it does to rsp, rbp and the
 * flow of control. Of other registers it is told which are written, not of memory.
 */
enum oa_insn_kind {
	OA_INSN_BAD, /* no instruction, or cut off */
	OA_INSN_OTHER, /* neither rsp, rbp nor the flow changes */
	OA_INSN_PUSH, /* 8 bytes; `reg` is the register, or OA_INSN_NO_REG */
	OA_INSN_POP, /* 8 bytes, likewise */
	OA_INSN_ADD_SP, /* rsp += value */
	OA_INSN_SP_TO_BP, /* rbp = rsp + value */
	OA_INSN_BP_TO_SP, /* rsp = rbp + value */
	OA_INSN_LEAVE, /* rsp = rbp, then pop rbp */
	OA_INSN_LOAD_BP, /* rbp = *(reg + value), `reg` is rsp or rbp */
	OA_INSN_STORE_BP, /* *(reg + value) = rbp, likewise */
	OA_INSN_LOSE_SP, /* rsp gets a value that is not followed */
	OA_INSN_LOSE_BP, /* rbp gets a value that is not followed */
	OA_INSN_CALL, /* to the next instruction's address + value */
	OA_INSN_CALL_INDIRECT,
	OA_INSN_JUMP, /* to the next instruction's address + value */
	OA_INSN_JUMP_INDIRECT,
	OA_INSN_BRANCH, /* there, or on */
	OA_INSN_RETURN,
	OA_INSN_STOP, /* it does not go on: ud2, int3, hlt */
	OA_INSN_SP_TO_REG, /* `reg`, neither rsp nor rbp, = rsp */
	OA_INSN_REG_TO_SP, /* rsp = `reg` */
	OA_INSN_ADDRESS, /* lea of the next instruction's address + value */
};

enum oa_insn_limit {
	OA_INSN_MAX_BYTES = 15,
	OA_INSN_NO_REG = 255,
};

struct oa_insn {
	u8 length; /* bytes; 1 if it is bad */
	u8 kind; /* enum oa_insn_kind */
	u8 reg; /* number as the machine code has it: rsp 4, rbp 5 */
	u8 is_padding; /* what fills gaps: nop in its forms, int3 */
	s32 value;
	u32 writes; /* general registers that it may write: bits by number */
};

/* Decode the instruction at `code`, of which `left` bytes may be read. Any bytes are safe. */
void oa_x86_decode(const u8 *code, u64 left, struct oa_insn *insn);

#endif
