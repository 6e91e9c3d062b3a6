/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_X86_DECODER_H
#define OA_X86_DECODER_H
#ifndef OA_CDEF
/* What the two halves of the decoder share: its form (x86_insn.c), its effect (x86_effect.c). */
#include "x86_insn.h"

/* What an opcode has: bits of the tables below. */
enum {
	M = 1, /* a ModRM byte */
	B = 2, /* an immediate of one byte */
	Z = 4, /* an immediate of four bytes, two with the prefix 66 */
	W = 8, /* it writes the general register in ModRM's reg field */
	R = 16, /* it writes ModRM's r/m field, if that is a register */
	S = 32, /* handled in code: its length or effect depends on more */
	X = 64, /* there is no such instruction in 64-bit mode */
	P = 128, /* a prefix */
};

/* An instruction while it is taken apart. */
struct oa_decoder {
	const u8 *at;
	const u8 *end;
	int bad;
	u8 map; /* 0: one byte; 1: 0f; 2: 0f 38; 3: 0f 3a; 5, 6: EVEX only */
	u8 op;
	u8 flags;
	u8 rex; /* as of REX: W 8, R 4, X 2, B 1; 0x40: there is one */
	u8 vector; /* VEX, EVEX or XOP */
	u8 vvvv;
	u8 size16; /* prefix 66 */
	u8 repeat; /* prefix f2 or f3 */
	u8 address32; /* prefix 67 */
	u8 mod, reg, rm; /* with REX */
	u8 sub; /* reg without REX: the opcode's extension */
	u8 base; /* register of a plain address, or NO_REG if there is an index or none */
	u8 is_relative; /* the address is the next instruction's + disp */
	s32 disp;
	s64 imm;
};

/* Fill in kind, reg and value of an instruction that is taken apart. */
void oa_x86_effect(const struct oa_decoder *d, struct oa_insn *insn);

#endif
#endif
