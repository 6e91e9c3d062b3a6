/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_CURSOR_H
#define OA_CURSOR_H
#ifndef OA_CDEF
#include "types.h"

#include <string.h>

/* Reads little-endian values from bytes that are not trusted. A read beyond the
 * end gives 0, sets `bad` and moves to the end, so loops over it stop.
 */
struct oa_cursor {
	const u8 *at;
	const u8 *end;
	int bad;
};

static inline u64 oa_left(const struct oa_cursor *c)
{
	return (u64)(c->end - c->at);
}

static inline u64 oa_fail(struct oa_cursor *c)
{
	c->at = c->end;
	c->bad = 1;
	return 0;
}

static inline u64 oa_fixed(struct oa_cursor *c, u32 size)
{
	u64 value = 0;

	if (oa_left(c) < size)
		return oa_fail(c);
	memcpy(&value, c->at, size);
	c->at += size;
	return value;
}

static inline u8 oa_u8(struct oa_cursor *c)
{
	return c->at < c->end ? *c->at++ : (u8)oa_fail(c);
}

static inline u64 oa_uleb(struct oa_cursor *c)
{
	u64 value = 0;
	u32 shift = 0;
	u8 byte;

	if (c->at < c->end && *c->at < 0x80) /* nearly all of them */
		return *c->at++;
	do {
		if (c->at == c->end)
			return oa_fail(c);
		byte = *c->at++;
		if (shift < 64)
			value |= (u64)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	return value;
}

static inline s64 oa_sleb(struct oa_cursor *c)
{
	u64 value = 0;
	u32 shift = 0;
	u8 byte;

	do {
		if (c->at == c->end)
			return (s64)oa_fail(c);
		byte = *c->at++;
		if (shift < 64)
			value |= (u64)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	if (shift < 64 && byte & 0x40)
		value |= ~0ull << shift;
	return (s64)value;
}

static inline void oa_skip(struct oa_cursor *c, u64 size)
{
	if (oa_left(c) < size)
		oa_fail(c);
	else
		c->at += size;
}

/* Cut `size` bytes off the front as a cursor of their own. */
static inline struct oa_cursor oa_cut(struct oa_cursor *c, u64 size)
{
	struct oa_cursor piece = {c->at, c->at, 0};

	if (oa_left(c) < size) {
		oa_fail(c);
		piece.bad = 1;
		return piece;
	}
	c->at += size;
	piece.end = c->at;
	return piece;
}
#endif
#endif
