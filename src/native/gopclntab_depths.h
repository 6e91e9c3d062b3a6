/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_GOPCLNTAB_DEPTHS_H
#define OA_GOPCLNTAB_DEPTHS_H
#ifndef OA_CDEF
#include "cursor.h"
#include "gopclntab_parser.h"

/* The depths of a function: pairs of (signed change of the depth, unsigned length of code),
 * the depth beginning at -1, ended by a change of 0.
 */
struct depths {
	const u8 *at; /* the next pair */
	const u8 *end; /* of what was read */
	u64 size; /* of the function */
	u64 from; /* offset from which on `depth` holds */
	u64 next; /* and where it ends */
	s64 depth;
	int cut; /* a pair was not read to its end */
};

/* Read numbers of any length: where they end; NULL: they are cut off. */
static __attribute__((noinline)) const u8 *read_numbers(const u8 *at, const u8 *end, u64 numbers[2])
{
	struct oa_cursor c = {at, end, 0};

	numbers[0] = oa_uleb(&c);
	if (c.bad)
		return NULL;
	numbers[1] = oa_uleb(&c);
	if (c.bad && numbers[0])
		return NULL;
	if (c.bad) /* there is no length behind the end */
		numbers[1] = ~0ull;
	return c.at;
}

static inline int read_long_pair(struct depths *d, u32 *change, u64 *length)
{
	u64 numbers[2];
	const u8 *at = read_numbers(d->at, d->end, numbers);

	if (!at)
		return 0;
	*change = (u32)numbers[0];
	*length = numbers[1];
	d->at = at;
	return 1;
}

/* Cut a number of one or two bytes off the front of `word`: how many it had, 0 if more. */
static inline u32 cut_number(u32 *word, u32 *number)
{
	u32 bytes = *word & 0x80 ? 2 : 1;

	if (bytes == 2 && *word & 0x8000)
		return 0;
	*number = bytes == 1 ? *word & 0x7f : (*word & 0x7f) | (*word >> 1 & 0x3f80);
	*word >>= 8 * bytes;
	return bytes;
}

/* Read a pair, mostly of two to four bytes: 0 if it is cut off. */
static inline int read_pair(struct depths *d, u32 *change, u64 *length)
{
	u32 word, first, second, number;

	if (d->end - d->at < 4)
		return read_long_pair(d, change, length);
	word = oa_go_u32(d->at);
	first = cut_number(&word, change);
	second = first ? cut_number(&word, &number) : 0;
	if (!second)
		return read_long_pair(d, change, length);
	*length = number;
	d->at += first + second;
	return 1;
}

/* Read the next depth: 0 at the end. */
static inline __attribute__((always_inline)) int next_depth(const struct oa_go *go,
							    struct depths *d)
{
	u64 length;
	u32 change;

	if (d->next >= d->size)
		return 0;
	if (!read_pair(d, &change, &length)) {
		d->cut = 1;
		return 0;
	}
	if ((!change && d->next) || length > d->size)
		return 0;
	d->depth += (s32)(change >> 1 ^ -(change & 1));
	d->from = d->next;
	d->next += length * go->quantum;
	return 1;
}
#endif
#endif
