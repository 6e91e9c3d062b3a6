/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_ROWS_TABLE_H
#define OA_ROWS_TABLE_H
#ifndef OA_CDEF
#include "rows.h"

#include <errno.h>
#include <stddef.h>

/* What rows.c collects, rows_finish.c turns into arrays and cfi_run.c writes into. */

#define OA_NO_TIME (~0ull)

struct oa_fragment {
	u64 start;
	u32 size;
	u32 first; /* its rows in `raw` */
	u32 count;
	u32 rank;
};

struct oa_rows {
	struct oa_range ranges[OA_ROWS_MAX_RANGES];
	u32 range_count;
	u32 last_range;
	struct oa_fragment *fragments;
	u32 fragment_count;
	u32 fragment_capacity;
	u32 *raw; /* offset from the fragment's start, then index << 16 */
	u32 raw_count;
	u32 raw_capacity;
	int open; /* the last fragment takes rows */
	u64 piece; /* offset at which it was split from one that was too long */
	int sorted; /* starts ascend so far */
	u32 ordered; /* if not: of so many first ones they do */
	u16 *slots; /* rule index + 1, by hash */
	u32 slot_count; /* a power of two; at most half are in use */
	struct oa_rule *rules;
	u32 rule_count;
	u32 rule_capacity;
	/* what oa_rows_finish makes */
	struct oa_page_entry *pages;
	u32 page_count;
	u32 page_capacity;
	u32 *rows;
	u32 row_count;
	u32 row_capacity;
	u32 page; /* of the last row */
	u32 index; /* of the last row */
};

/* Make room for `more` elements; growth is by half, so it is paid by the elements.
 * Returns 0 or -ENOMEM.
 */
int oa_grow(void **array, u32 *capacity, u64 wanted, size_t size);

static inline int oa_room(void **array, u32 *capacity, u32 count, u32 more, size_t size)
{
	if (more <= *capacity - count)
		return 0;
	return oa_grow(array, capacity, (u64)count + more, size);
}

/* Make room in advance for fragments and rows. */
int oa_rows_reserve(struct oa_rows *rows, u32 fragments, u32 count);
/* `oa_rows_begin` without a call where fragments come in order, within one range. */
static inline int oa_rows_begin_next(struct oa_rows *rows, u64 start, u64 size, u32 rank)
{
	const struct oa_range *range = &rows->ranges[rows->last_range];
	struct oa_fragment *next = rows->fragments + rows->fragment_count;

	if (!rows->fragment_count || rows->fragment_count >= rows->fragment_capacity ||
	    !rows->sorted || start < next[-1].start || start < range->start ||
	    start >= range->end || !size || size > range->end - start || size > 0xffffffffu ||
	    rank >= OA_ROWS_RANKS)
		return oa_rows_begin(rows, start, size, rank);
	*next = (struct oa_fragment){start, (u32)size, rows->raw_count, 0, rank};
	rows->fragment_count++;
	rows->piece = 0;
	rows->open = 1;
	return 1;
}

/* Add a fragment with the same rows as an earlier one of this size and rank. */
int oa_rows_repeat(struct oa_rows *rows, u64 start, u64 size, u32 earlier);
/* Forget the fragments from `first` on, and their rows. */
void oa_rows_take_back(struct oa_rows *rows, u32 first);

/* Writes rows of the open fragment without a call for each: their number is bounded
 * beforehand. Offsets of `oa_write_row` ascend strictly.
 */
struct oa_row_writer {
	u32 *next;
	u32 last; /* index of the last row */
	u32 limit; /* offsets from here on go the long way: clipped, or split */
};

/* Open it, right after `oa_rows_begin` or with rows put already, for up to `count` rows. */
static inline int oa_open_row_writer(struct oa_rows *rows, struct oa_row_writer *writer, u32 count)
{
	const struct oa_fragment *fragment = &rows->fragments[rows->fragment_count - 1];

	if (oa_room((void **)&rows->raw, &rows->raw_capacity, rows->raw_count, count,
		    sizeof(*rows->raw)))
		return -ENOMEM;
	writer->next = rows->raw + rows->raw_count;
	writer->last = fragment->count ? writer->next[-1] >> 16 : ~0u;
	writer->limit = fragment->size < 0x10000 ? fragment->size : 0x10000;
	if (rows->piece || !count) /* offsets are not those of the fragment; or no room was made */
		writer->limit = 0;
	return 0;
}

static inline void oa_close_row_writer(struct oa_rows *rows, const struct oa_row_writer *writer)
{
	u32 count = (u32)(writer->next - (rows->raw + rows->raw_count));

	rows->raw_count += count;
	rows->fragments[rows->fragment_count - 1].count += count;
}

int oa_write_beyond(struct oa_rows *rows, struct oa_row_writer *writer, u64 offset, u32 index);

static inline int oa_write_row(struct oa_rows *rows, struct oa_row_writer *writer, u64 offset,
			       u32 index)
{
	if (offset >= writer->limit) { /* by a copy, so that the writer can be kept in registers */
		struct oa_row_writer far = *writer;
		int err = oa_write_beyond(rows, &far, offset, index);

		*writer = far;
		return err;
	}
	if (index != writer->last) {
		writer->last = index;
		*writer->next++ = (u32)offset | index << 16;
	}
	return 0;
}
#endif
#endif
