/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Turns fragments into the arrays that the BPF maps hold: sort, overlaps, pages. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rows_table.h"

#define PAGE_BYTES (1ull << OA_PAGE_BITS)
#define RADIX_BITS 11
#define BLOCK_ROWS 8
#define MAX_LATE   8

/* Fragments that cover the current address, by rank; the newest is on top. */
struct stack {
	u32 *items;
	u32 count;
	u32 capacity;
};

/* Put the few fragments that came late between the others: what is special is added last. */
static void insert_late(struct oa_rows *rows)
{
	struct oa_fragment *all = rows->fragments, late;
	u32 i, low, high, middle;

	for (i = rows->ordered; i < rows->fragment_count; i++) {
		late = all[i];
		for (low = 0, high = i; low < high;) { /* the first one that begins later */
			middle = low + (high - low) / 2;
			if (all[middle].start <= late.start)
				low = middle + 1;
			else
				high = middle;
		}
		memmove(all + low + 1, all + low, (i - low) * sizeof(late));
		all[low] = late;
	}
	rows->sorted = 1;
}

/* Order fragments by start with a stable radix sort: linkers leave them nearly,
 * but not quite sorted, and there may be a million.
 */
static int sort_fragments(struct oa_rows *rows)
{
	u64 low = OA_NO_TIME, high = 0, n = rows->fragment_count, i;
	struct oa_fragment *from = rows->fragments, *to, *swap;
	u32 counts[1 << RADIX_BITS];
	u32 shift, sum, count;

	if (rows->sorted)
		return 0;
	if (n - rows->ordered <= MAX_LATE) {
		insert_late(rows);
		return 0;
	}
	for (i = 0; i < n; i++) {
		low = from[i].start < low ? from[i].start : low;
		high = from[i].start > high ? from[i].start : high;
	}
	to = malloc(n * sizeof(*to));
	if (!to)
		return -ENOMEM;
	for (shift = 0; shift < 48 && (high - low) >> shift; shift += RADIX_BITS) {
		memset(counts, 0, sizeof(counts));
		for (i = 0; i < n; i++)
			counts[((from[i].start - low) >> shift) % (1 << RADIX_BITS)]++;
		for (sum = 0, i = 0; i < 1 << RADIX_BITS; i++) {
			count = counts[i];
			counts[i] = sum;
			sum += count;
		}
		for (i = 0; i < n; i++)
			to[counts[((from[i].start - low) >> shift) % (1 << RADIX_BITS)]++] =
				from[i];
		swap = from;
		from = to;
		to = swap;
	}
	free(to);
	rows->fragments = from;
	rows->fragment_capacity = (u32)n;
	rows->sorted = 1;
	return 0;
}

static void close_page(struct oa_rows *rows)
{
	struct oa_page_entry *last;

	if (!rows->page_count)
		return;
	last = &rows->pages[rows->page_count - 1];
	last->count = rows->row_count - last->first;
}

static int open_page(struct oa_rows *rows, u32 page)
{
	if (oa_room((void **)&rows->pages, &rows->page_capacity, rows->page_count, 1,
		    sizeof(*rows->pages)))
		return -ENOMEM;
	close_page(rows);
	rows->pages[rows->page_count].page = page;
	rows->pages[rows->page_count].first = rows->row_count;
	rows->pages[rows->page_count++].count = 0;
	rows->page = page;
	return 0;
}

static inline int append(struct oa_rows *rows, u32 low, u32 index)
{
	if (oa_room((void **)&rows->rows, &rows->row_capacity, rows->row_count, 1,
		    sizeof(*rows->rows)))
		return -ENOMEM;
	rows->rows[rows->row_count++] = low | index << 16;
	return 0;
}

/* Write one row; addresses ascend. Pages that it skips begin with what held
 * before; pages without any information are left out.
 */
static inline int emit(struct oa_rows *rows, u64 addr, u32 index)
{
	u32 page = (u32)(addr >> OA_PAGE_BITS), low = (u32)(addr & (PAGE_BYTES - 1));

	if (index == rows->index)
		return 0;
	if (page == rows->page && rows->page_count) {
		rows->index = index;
		return append(rows, low, index);
	}
	while (rows->index != OA_ROW_NONE && rows->page < page - (low ? 0 : 1))
		if (open_page(rows, rows->page + 1) || append(rows, 0, rows->index))
			return -ENOMEM;
	if (!rows->page_count || rows->page != page) {
		if (low || index != OA_ROW_NONE) {
			if (open_page(rows, page))
				return -ENOMEM;
			if (low && append(rows, 0, OA_ROW_NONE))
				return -ENOMEM;
		} else { /* nothing holds from the start of this page on */
			rows->index = index;
			return 0;
		}
	}
	rows->index = index;
	return append(rows, low, index);
}

/* Write the rows of a fragment that lie in [from, to). */
static int emit_fragment(struct oa_rows *rows, const struct oa_fragment *fragment, u64 from, u64 to)
{
	const u32 *raw = rows->raw + fragment->first;
	u32 low = 0, high = fragment->count, middle;
	u64 at;

	if (!high)
		return emit(rows, from, OA_ROW_NONE);
	if (from != fragment->start) { /* the last row at or before `from` */
		while (low < high) {
			middle = low + (high - low) / 2;
			if (fragment->start + (raw[middle] & 0xffff) <= from)
				low = middle + 1;
			else
				high = middle;
		}
		low = low ? low - 1 : 0;
	}
	for (; low < fragment->count; low++) {
		at = fragment->start + (raw[low] & 0xffff);
		if (at >= to)
			break;
		if (emit(rows, at < from ? from : at, raw[low] >> 16))
			return -ENOMEM;
	}
	return 0;
}

/* Move rows within a page, two at once. */
static inline void move_block(u32 *to, const u32 *from, u32 low)
{
	u64 pairs[BLOCK_ROWS / 2];
	u32 i;

	memcpy(pairs, from, sizeof(pairs));
	for (i = 0; i < BLOCK_ROWS / 2; i++)
		pairs[i] += low | (u64)low << 32; /* those that are too many may overflow */
	memcpy(to, pairs, sizeof(pairs));
}

/* Write all rows of a fragment. Most lie in one page, the one of the last row, and
 * then they need but be moved: no two neighbours in a fragment are alike.
 */
static inline int emit_whole(struct oa_rows *rows, const struct oa_fragment *fragment)
{
	const u32 *raw = rows->raw + fragment->first;
	u64 start = fragment->start;
	u32 count = fragment->count, low = (u32)(start & (PAGE_BYTES - 1)), last, *out, i;

	if (!count || !rows->page_count || start >> OA_PAGE_BITS != rows->page ||
	    low + (raw[count - 1] & 0xffff) >= PAGE_BYTES)
		return emit_fragment(rows, fragment, start, start + fragment->size);
	if (oa_room((void **)&rows->rows, &rows->row_capacity, rows->row_count, count + BLOCK_ROWS,
		    sizeof(*rows->rows)))
		return -ENOMEM;
	out = rows->rows + rows->row_count;
	last = raw[count - 1] >> 16;
	if (raw[0] >> 16 == rows->index) {
		raw++;
		count--;
	}
	/* Some too many, which are written over: few functions have more than one block. */
	for (i = 0; i < count; i += BLOCK_ROWS)
		move_block(out + i, raw + i, low);
	rows->row_count += count;
	rows->index = last;
	return 0;
}

/* The fragment that holds at `time`: the newest of the strongest rank. Forget those that ended. */
static const struct oa_fragment *top(struct oa_rows *rows, struct stack *stacks, u64 time)
{
	const struct oa_fragment *fragment;
	u32 rank;

	for (rank = 0; rank < OA_ROWS_RANKS; rank++)
		for (; stacks[rank].count; stacks[rank].count--) {
			fragment = &rows->fragments[stacks[rank].items[stacks[rank].count - 1]];
			if (fragment->start + fragment->size > time)
				return fragment;
		}
	return NULL;
}

static int push(struct oa_rows *rows, struct stack *stacks, u32 i)
{
	struct stack *stack = &stacks[rows->fragments[i].rank];

	if (oa_room((void **)&stack->items, &stack->capacity, stack->count, 1, sizeof(u32)))
		return -ENOMEM;
	stack->items[stack->count++] = i;
	return 0;
}

/* Write fragments from `first` on that nothing overlaps, as nearly all are. Returns the first
 * one that is not so; `covered` is where the last one ended. -ENOMEM is left in `err`.
 */
static u32 emit_alone(struct oa_rows *rows, u32 first, u64 *covered, int *err)
{
	const struct oa_fragment *f = rows->fragments + first;
	const struct oa_fragment *end = rows->fragments + rows->fragment_count;

	for (; f < end && !*err; f++) {
		if (f->start < *covered || (f + 1 < end && f[1].start < f->start + f->size))
			break;
		if (f->start - *covered > OA_ROWS_GAP_BYTES)
			*err = emit(rows, *covered, OA_ROW_NONE);
		if (!*err)
			*err = emit_whole(rows, f);
		*covered = f->start + f->size;
	}
	return (u32)(f - rows->fragments);
}

/* Write what holds from `*time` to the end of a fragment or the start of the next. */
static int emit_covered(struct oa_rows *rows, const struct oa_fragment *fragment, u64 next,
			u64 *time, u64 *covered)
{
	u64 end = fragment->start + fragment->size;

	end = end < next ? end : next;
	if (*time - *covered > OA_ROWS_GAP_BYTES && emit(rows, *covered, OA_ROW_NONE))
		return -ENOMEM;
	if (end > *time && emit_fragment(rows, fragment, *time, end))
		return -ENOMEM;
	*time = *covered = end;
	return 0;
}

/* Walk the address space once, from one fragment's start or end to the next. */
static int sweep(struct oa_rows *rows, struct stack *stacks)
{
	u64 time = 0, covered = 0, next;
	const struct oa_fragment *fragment;
	int err = 0;
	u32 i = 0;

	for (;;) {
		fragment = top(rows, stacks, time);
		if (!fragment) {
			i = emit_alone(rows, i, &covered, &err);
			if (err || i == rows->fragment_count)
				return err ? err : emit(rows, covered, OA_ROW_NONE);
			time = rows->fragments[i].start;
		} else {
			next = i < rows->fragment_count ? rows->fragments[i].start : OA_NO_TIME;
			if (emit_covered(rows, fragment, next, &time, &covered))
				return -ENOMEM;
			if (fragment->start + fragment->size == time)
				continue; /* perhaps none is left, and the next is alone */
		}
		for (; i < rows->fragment_count && rows->fragments[i].start <= time; i++)
			if (push(rows, stacks, i))
				return -ENOMEM;
	}
}

/* Rows are read by blocks. Nearly as many are written, or a few more where fragments share them. */
static int make_room(struct oa_rows *rows)
{
	if (oa_room((void **)&rows->raw, &rows->raw_capacity, rows->raw_count, BLOCK_ROWS + 1,
		    sizeof(*rows->raw)))
		return -ENOMEM;
	return oa_room((void **)&rows->rows, &rows->row_capacity, 0,
		       rows->raw_count + rows->raw_count / 4, sizeof(*rows->rows));
}

int oa_rows_finish(struct oa_rows *rows, struct oa_rows_table *table)
{
	struct stack stacks[OA_ROWS_RANKS] = {0};
	int err = sort_fragments(rows);
	u32 rank;

	rows->open = 0;
	rows->page_count = rows->row_count = rows->page = 0;
	rows->index = OA_ROW_NONE;
	if (!err)
		err = make_room(rows);
	if (!err)
		err = sweep(rows, stacks);
	close_page(rows);
	for (rank = 0; rank < OA_ROWS_RANKS; rank++)
		free(stacks[rank].items);
	table->pages = rows->pages;
	table->rows = rows->rows;
	table->rules = rows->rules;
	table->page_count = rows->page_count;
	table->row_count = rows->row_count;
	table->rule_count = rows->rule_count;
	return err;
}
