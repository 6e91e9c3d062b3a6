/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Intel SDM volume 2, chapter 2 (formats) and appendix A (opcode maps). */
#include "x86_decoder.h"

#include <string.h>

#define EIGHT(x)		  x, x, x, x, x, x, x, x
#define ARITHMETIC(segment, last) M | R, M | R, M | W, M | W, B, Z, segment, last

/* clang-format off */
static const u8 one_byte[256] = {
	/* 00 */ ARITHMETIC(X, X), ARITHMETIC(X, S),
	/* 10 */ ARITHMETIC(X, X), ARITHMETIC(X, X),
	/* 20 */ ARITHMETIC(P, X), ARITHMETIC(P, X),
	/* 30 */ ARITHMETIC(P, X), M, M, M, M, B, Z, P, X,
	/* 40 */ EIGHT(P), EIGHT(P),
	/* 50 */ EIGHT(S), EIGHT(S),
	/* 60 */ X, X, S, M | W, P, P, P, P,
	/* 68 */ S | Z, M | Z | W, S | B, M | B | W, 0, 0, 0, 0,
	/* 70 */ EIGHT(S | B), EIGHT(S | B),
	/* 80 */ S | M | B | R, S | M | Z | R, X, S | M | B | R, M, M, M | W | R, M | W | R,
	/* 88 */ M | R, S | M | R, M | W, S | M | W, M | R, S | M | W, M, S | M | R,
	/* 90 */ EIGHT(S), 0, 0, X, 0, S, S, 0, 0,
	/* a0 */ S, S, S, S, 0, 0, 0, 0, B, Z, 0, 0, 0, 0, 0, 0,
	/* b0 */ EIGHT(S | B), EIGHT(S),
	/* c0 */ M | B | R, M | B | R, S, S, S, S, M | B | R, S | M | Z | R,
	/* c8 */ S, S, S, S, S, B, X, S,
	/* d0 */ M | R, M | R, M | R, M | R, X, X, X, 0, EIGHT(M),
	/* e0 */ EIGHT(S | B), S, S, X, S | B, 0, 0, 0, 0,
	/* f0 */ P, 0, P, P, S, 0, S | M, S | M, 0, 0, 0, 0, 0, 0, S | M | R, S | M | R,
};

/* After 0f, and, but for what VEX gives another meaning, in VEX's and EVEX's first map. */
static const u8 two_bytes[256] = {
	/* 00 */ M | R, M, M | W, M | W, X, 0, 0, 0, 0, 0, X, S, X, M, 0, M | B,
	/* 10 */ EIGHT(M), EIGHT(M),
	/* 20 */ S | R, S | R, S, S, X, X, X, X, M, M, M, M, M | W, M | W, M, M,
	/* 30 */ 0, 0, 0, 0, 0, 0, X, 0, S, X, S, X, X, X, X, X,
	/* 40 */ EIGHT(M | W), EIGHT(M | W),
	/* 50 */ M | W, M, M, M, M, M, M, M, EIGHT(M),
	/* 60 */ EIGHT(M), EIGHT(M),
	/* 70 */ M | B, M | B, M | B, M | B, M, M, M, 0, S | M, M, X, X, M, M, S | M, M,
	/* 80 */ EIGHT(S), EIGHT(S),
	/* 90 */ EIGHT(M | R), EIGHT(M | R),
	/* a0 */ S, S, 0, M, M | B | R, M | R, M, M, S, S, 0, M | R, M | B | R, M | R, M, M | W,
	/* b0 */ M | R, M | R, M | W, M | R, M | W, M | W, M | W, M | W,
	/* b8 */ M | W, S | M, M | B | R, M | R, M | W, M | W, M | W, M | W,
	/* c0 */ M | W | R, M | W | R, M | B, M, M | B, M | B | W, M | B, M | R, EIGHT(S),
	/* d0 */ M, M, M, M, M, M, M, M | W, EIGHT(M),
	/* e0 */ EIGHT(M), EIGHT(M),
	/* f0 */ EIGHT(M), M, M, M, M, M, M, M, S | M,
};
/* clang-format on */

static u8 next(struct oa_decoder *d)
{
	if (d->at < d->end)
		return *d->at++;
	d->bad = 1;
	return 0;
}

static s64 next_signed(struct oa_decoder *d, u32 size)
{
	u64 value = 0;
	u32 i;

	if ((u64)(d->end - d->at) < size) {
		d->bad = 1;
		return 0;
	}
	for (i = 0; i < size; i++)
		value |= (u64)d->at[i] << (8 * i);
	d->at += size;
	return size >= 8 ? (s64)value : (s64)(value << (64 - 8 * size)) >> (64 - 8 * size);
}

/* Legacy prefixes, then REX, which counts only right before the opcode. Returns the opcode. */
static u8 read_prefixes(struct oa_decoder *d)
{
	for (;;) {
		u8 byte = next(d);

		if (d->bad || !(one_byte[byte] & P))
			return byte;
		d->rex = 0;
		if ((byte & 0xf0) == 0x40)
			d->rex = byte;
		else if (byte == 0x66)
			d->size16 = 1;
		else if (byte == 0x67)
			d->address32 = 1;
		else if (byte == 0xf2 || byte == 0xf3)
			d->repeat = byte;
	}
}

/* VEX (c4, c5), EVEX (62), XOP (8f): the fields that matter, and the opcode in its map. */
static void read_vector(struct oa_decoder *d, u8 first)
{
	u8 p0 = next(d), p1;

	d->vector = 1;
	d->map = 1;
	d->rex = (u8)(0x40 | (~p0 >> 5 & 4));
	if (first == 0xc5) {
		p1 = p0;
	} else {
		p1 = next(d);
		d->rex |= (u8)((~p0 >> 5 & 3) | (p1 >> 4 & 8));
		d->map = p0 & (first == 0x62 ? 7 : 31);
	}
	if (first == 0x62)
		next(d);
	d->vvvv = ~p1 >> 3 & 15;
	d->size16 = (p1 & 3) == 1;
	d->repeat = (p1 & 3) == 2 ? 0xf3 : (p1 & 3) == 3 ? 0xf2 : 0;
	d->op = next(d);
	if (first == 0x8f) { /* its maps are 8 (an immediate byte), 9 and 10 (four bytes) */
		d->flags = d->map == 8 ? M | B : d->map == 9 ? M : d->map == 10 ? M | Z : X;
		d->map = 2;
		d->op = 0;
		d->size16 = 0;
		return;
	}
	d->flags = M;
	switch (d->map) {
	case 1:
		d->flags = two_bytes[d->op] & (u8) ~(S | R);
		if ((d->op & 0xf0) == 0x40 || (d->op & 0xf8) == 0x90 || (d->op & 0xf8) == 0x98)
			d->flags = M; /* on mask registers; kmov to a general one is 93 */
		if (d->op == 0x93 || d->op == 0x78 || d->op == 0x79)
			d->flags = M | W;
		if (d->op == 0x7e && d->repeat != 0xf3)
			d->flags = M | R;
		if (d->op == 0x77)
			d->flags = 0; /* vzeroupper */
		break;
	case 2: /* bzhi, pdep, mulx, bextr, shlx: BMI */
		if (first == 0xc4 && d->op >= 0xf2 && d->op <= 0xf7)
			d->flags = M | W;
		break;
	case 3:
		d->flags = M | B | ((d->op & 0xfc) == 0x14 ? R : 0) | (d->op == 0xf0 ? W : 0);
		break;
	case 5:
	case 6:
		d->flags = M | (d->op == 0x2c || d->op == 0x2d || (d->op & 0xfe) == 0x78 ? W : 0);
		break;
	default:
		d->flags = X;
	}
}

/* Find the map and the opcode's flags. */
static void read_opcode(struct oa_decoder *d)
{
	u8 byte = read_prefixes(d);

	if (byte == 0xc4 || byte == 0xc5 || byte == 0x62 ||
	    (byte == 0x8f && d->at < d->end && (*d->at & 31) >= 8)) {
		read_vector(d, byte);
		return;
	}
	d->op = byte;
	d->flags = one_byte[byte];
	if (byte != 0x0f)
		return;
	d->map = 1;
	d->op = next(d);
	d->flags = two_bytes[d->op];
	if (d->op == 0x38) {
		d->map = 2;
		d->op = next(d);
		d->flags = M | ((d->op & 0xfe) == 0xf0 || d->op == 0xf6 ? W : 0);
	} else if (d->op == 0x3a) {
		d->map = 3;
		d->op = next(d);
		d->flags = M | B | ((d->op & 0xfc) == 0x14 ? R : 0);
	}
}

static void read_modrm(struct oa_decoder *d)
{
	u8 byte = next(d), low = byte & 7, sib, base;

	d->mod = byte >> 6;
	d->sub = byte >> 3 & 7;
	d->reg = (u8)(d->sub | (d->rex & 4) << 1);
	d->rm = (u8)(low | (d->rex & 1) << 3);
	d->base = OA_INSN_NO_REG;
	if (d->mod == 3)
		return;
	base = low;
	if (low == 4) {
		sib = next(d);
		base = sib & 7;
		if ((sib >> 3 & 7) == 4 && !(d->rex & 2))
			d->base = (u8)(base | (d->rex & 1) << 3);
	} else {
		d->base = d->rm;
	}
	if (d->mod == 0 && base == 5) {
		d->base = OA_INSN_NO_REG;
		d->is_relative = low == 5;
	}
	if (d->address32)
		d->base = OA_INSN_NO_REG;
	if (d->mod == 1)
		d->disp = (s32)next_signed(d, 1);
	else if (d->mod == 2 || base == 5)
		d->disp = (s32)next_signed(d, 4);
}

static void read_immediate(struct oa_decoder *d)
{
	if (!d->map) {
		if ((d->op & 0xfe) == 0xf6 && d->sub < 2)
			d->flags |= d->op & 1 ? Z : B;
		if (d->op >= 0xb8 && d->op <= 0xbf)
			d->imm = next_signed(d, d->rex & 8 ? 8 : d->size16 ? 2 : 4);
		else if (d->op >= 0xa0 && d->op <= 0xa3)
			d->imm = next_signed(d, d->address32 ? 4 : 8);
		else if (d->op == 0xe8 || d->op == 0xe9)
			d->imm = next_signed(d, 4);
		else if (d->op == 0xc2 || d->op == 0xca || d->op == 0xc8)
			d->imm = next_signed(d, 2);
		if (d->op == 0xc8)
			next(d);
	} else if (d->map == 1 && !d->vector) {
		if ((d->op & 0xf0) == 0x80)
			d->imm = next_signed(d, 4);
		if (d->op == 0x78 && (d->size16 || d->repeat == 0xf2))
			next_signed(d, 2); /* SSE4a's extrq and insertq */
	}
	if (d->flags & B)
		d->imm = next_signed(d, 1);
	else if (d->flags & Z)
		d->imm = next_signed(d, d->size16 && !(d->rex & 8) ? 2 : 4);
}

void oa_x86_decode(const u8 *code, u64 left, struct oa_insn *insn)
{
	struct oa_decoder d = {.at = code};

	memset(insn, 0, sizeof(*insn));
	insn->length = 1;
	d.end = code + (left < OA_INSN_MAX_BYTES ? left : OA_INSN_MAX_BYTES);
	read_opcode(&d);
	if (d.flags & X || d.bad)
		return;
	if (d.flags & M)
		read_modrm(&d);
	else if (d.map == 1 && !d.vector && (d.op & 0xfc) == 0x20) { /* control registers */
		d.rm = (u8)((next(&d) & 7) | (d.rex & 1) << 3);
	}
	read_immediate(&d);
	if (d.bad)
		return;
	insn->length = (u8)(d.at - code);
	oa_x86_effect(&d, insn);
}
