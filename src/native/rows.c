/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES (1ull << OA_PAGE_BITS)
#define HASH_SLOTS 65536u /* twice OA_MAX_RULES: a power of two, never full */
#define RADIX_BITS 11
#define NO_TIME	   (~0ull)

struct fragment {
	u64 start;
	u32 size;
	u32 first; /* its rows in `raw` */
	u32 count;
	u32 rank;
};

/* Fragments that cover the current address, by rank; the newest is on top. */
struct stack {
	u32 *items;
	u32 count;
	u32 capacity;
};

struct oa_rows {
	struct oa_range ranges[OA_ROWS_MAX_RANGES];
	u32 range_count;
	u32 last_range;
	struct fragment *fragments;
	u32 fragment_count;
	u32 fragment_capacity;
	u32 *raw; /* offset from the fragment's start, then index << 16 */
	u32 raw_count;
	u32 raw_capacity;
	int open; /* the last fragment takes rows */
	u64 piece; /* offset at which it was split from one that was too long */
	int sorted; /* starts ascend so far */
	u16 *slots; /* rule index + 1, by hash */
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

/* Make room for one more element; growth is by half, so it is paid by the elements. */
static int grow(void **array, u32 *capacity, u32 count, size_t size)
{
	u64 wanted;
	void *bigger;

	if (count < *capacity)
		return 0;
	wanted = *capacity < 1024 ? 1024 : (u64)*capacity + *capacity / 2;
	if (wanted > 0xfffffff0u)
		return -ENOMEM;
	bigger = realloc(*array, wanted * size);
	if (!bigger)
		return -ENOMEM;
	*array = bigger;
	*capacity = (u32)wanted;
	return 0;
}

struct oa_rows *oa_rows_new(const struct oa_range *ranges, u32 count)
{
	struct oa_rows *rows;
	u32 i;

	if (count > OA_ROWS_MAX_RANGES)
		return NULL;
	for (i = 0; i < count; i++)
		if (ranges[i].start > ranges[i].end || ranges[i].end > 1ull << 48 ||
		    (i && ranges[i].start < ranges[i - 1].end))
			return NULL;
	rows = calloc(1, sizeof(*rows));
	if (!rows)
		return NULL;
	rows->slots = calloc(HASH_SLOTS, sizeof(*rows->slots));
	if (!rows->slots) {
		free(rows);
		return NULL;
	}
	memcpy(rows->ranges, ranges, count * sizeof(*ranges));
	rows->range_count = count;
	rows->sorted = 1;
	return rows;
}

void oa_rows_free(struct oa_rows *rows)
{
	if (!rows)
		return;
	free(rows->fragments);
	free(rows->raw);
	free(rows->slots);
	free(rows->rules);
	free(rows->pages);
	free(rows->rows);
	free(rows);
}

static u32 hash_rule(const struct oa_rule *rule)
{
	u64 words[4];

	_Static_assert(sizeof(words) == sizeof(*rule), "a rule is four words");
	memcpy(words, rule, sizeof(words));
	words[0] ^= (words[1] * 0x9e3779b97f4a7c15ull) ^ (words[2] * 0xc2b2ae3d27d4eb4full) ^
		    (words[3] * 0xff51afd7ed558ccdull);
	words[0] *= 0x9fb21c651e98df25ull;
	return (u32)(words[0] >> 48);
}

static inline int is_same(const struct oa_rule *a, const struct oa_rule *b)
{
	u64 x[4], y[4];

	memcpy(x, a, sizeof(x));
	memcpy(y, b, sizeof(y));
	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]));
}

u32 oa_rows_rule(struct oa_rows *rows, const struct oa_rule *rule)
{
	u32 slot = hash_rule(rule);

	for (; rows->slots[slot]; slot = (slot + 1) % HASH_SLOTS)
		if (is_same(&rows->rules[rows->slots[slot] - 1], rule))
			return rows->slots[slot] - 1u;
	if (rows->rule_count >= OA_MAX_RULES - 1)
		return OA_ROW_UNSUPPORTED;
	if (grow((void **)&rows->rules, &rows->rule_capacity, rows->rule_count, sizeof(*rule)))
		return OA_ROW_UNSUPPORTED;
	rows->rules[rows->rule_count++] = *rule;
	rows->slots[slot] = (u16)rows->rule_count;
	return rows->rule_count - 1;
}

static const struct oa_range *find_range(struct oa_rows *rows, u64 start)
{
	u32 i = rows->last_range;

	if (i < rows->range_count && start >= rows->ranges[i].start && start < rows->ranges[i].end)
		return &rows->ranges[i];
	for (i = 0; i < rows->range_count; i++)
		if (start >= rows->ranges[i].start && start < rows->ranges[i].end) {
			rows->last_range = i;
			return &rows->ranges[i];
		}
	return NULL;
}

int oa_rows_begin(struct oa_rows *rows, u64 start, u64 size, u32 rank)
{
	const struct oa_range *range = find_range(rows, start);
	struct fragment *fragment;

	rows->open = 0;
	if (!range || !size || rank >= OA_ROWS_RANKS)
		return 0;
	if (size > range->end - start)
		size = range->end - start;
	if (size > 0xffffffffu)
		size = 0xffffffffu;
	if (grow((void **)&rows->fragments, &rows->fragment_capacity, rows->fragment_count,
		 sizeof(*rows->fragments)))
		return -ENOMEM;
	if (rows->fragment_count && start < rows->fragments[rows->fragment_count - 1].start)
		rows->sorted = 0;
	fragment = &rows->fragments[rows->fragment_count++];
	fragment->start = start;
	fragment->size = (u32)size;
	fragment->first = rows->raw_count;
	fragment->count = 0;
	fragment->rank = rank;
	rows->piece = 0;
	rows->open = 1;
	return 1;
}

/* Let a new fragment begin at `offset` of the last one: rows keep 16 bits of offset. */
static int split(struct oa_rows *rows, u64 offset)
{
	struct fragment last = rows->fragments[rows->fragment_count - 1];
	u64 piece = rows->piece + offset;
	int wanted = oa_rows_begin(rows, last.start + offset, last.size - offset, last.rank);

	if (wanted < 0)
		return wanted;
	rows->fragments[rows->fragment_count - 2].size = (u32)offset;
	rows->piece = piece;
	return 0;
}

int oa_rows_put(struct oa_rows *rows, u64 offset, u32 index)
{
	struct fragment *fragment;
	u32 *last, low;

	if (!rows->open)
		return 0;
	fragment = &rows->fragments[rows->fragment_count - 1];
	if (!fragment->count)
		offset = rows->piece;
	if (offset < rows->piece || offset - rows->piece >= fragment->size)
		return 0;
	if (fragment->count) {
		last = &rows->raw[rows->raw_count - 1];
		low = *last & 0xffff;
		if (*last >> 16 == index || offset - rows->piece < low)
			return 0;
		if (offset - rows->piece == low) {
			*last = low | index << 16;
			return 0;
		}
		if (offset - rows->piece > 0xffff) {
			if (split(rows, offset - rows->piece))
				return -ENOMEM;
			fragment = &rows->fragments[rows->fragment_count - 1];
		}
	}
	if (grow((void **)&rows->raw, &rows->raw_capacity, rows->raw_count, sizeof(*rows->raw)))
		return -ENOMEM;
	rows->raw[rows->raw_count++] = (u32)(offset - rows->piece) | index << 16;
	fragment->count++;
	return 0;
}

int oa_rows_add(struct oa_rows *rows, u64 start, u64 size, u32 rank, u32 index)
{
	int wanted = oa_rows_begin(rows, start, size, rank);

	return wanted > 0 ? oa_rows_put(rows, 0, index) : wanted;
}

u64 oa_rows_fragments(const struct oa_rows *rows)
{
	return rows->fragment_count;
}

int oa_rows_around(const struct oa_rows *rows, u64 addr, struct oa_range *range)
{
	u64 next = NO_TIME;
	u32 i;

	for (i = 0; i < rows->fragment_count; i++) {
		const struct fragment *f = &rows->fragments[i];

		if (f->start <= addr && addr - f->start < f->size) {
			range->start = f->start;
			range->end = f->start + f->size;
			return 1;
		}
		if (f->start > addr && f->start < next)
			next = f->start;
	}
	range->start = addr;
	range->end = next;
	return 0;
}

/* Order fragments by start with a stable radix sort: linkers leave them nearly,
 * but not quite sorted, and there may be a million.
 */
static int sort_fragments(struct oa_rows *rows)
{
	u64 low = NO_TIME, high = 0, n = rows->fragment_count, i;
	struct fragment *from = rows->fragments, *to, *swap;
	u32 counts[1 << RADIX_BITS];
	u32 shift, sum, count;

	if (rows->sorted)
		return 0;
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
	if (grow((void **)&rows->pages, &rows->page_capacity, rows->page_count,
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
	if (grow((void **)&rows->rows, &rows->row_capacity, rows->row_count, sizeof(*rows->rows)))
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
static int emit_fragment(struct oa_rows *rows, const struct fragment *fragment, u64 from, u64 to)
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

/* The fragment that holds at `time`: the newest of the strongest rank. Forget those that ended. */
static const struct fragment *top(struct oa_rows *rows, struct stack *stacks, u64 time)
{
	const struct fragment *fragment;
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

	if (grow((void **)&stack->items, &stack->capacity, stack->count, sizeof(u32)))
		return -ENOMEM;
	stack->items[stack->count++] = i;
	return 0;
}

/* Walk the address space once, from one fragment's start or end to the next. */
static int sweep(struct oa_rows *rows, struct stack *stacks)
{
	u64 time = 0, covered = 0, next, end;
	const struct fragment *fragment;
	u32 i = 0;

	for (;;) {
		next = i < rows->fragment_count ? rows->fragments[i].start : NO_TIME;
		fragment = top(rows, stacks, time);
		if (fragment) {
			end = fragment->start + fragment->size;
			end = end < next ? end : next;
			if (time - covered > OA_ROWS_GAP_BYTES && emit(rows, covered, OA_ROW_NONE))
				return -ENOMEM;
			if (end > time && emit_fragment(rows, fragment, time, end))
				return -ENOMEM;
			time = covered = end;
		} else if (next == NO_TIME) {
			return emit(rows, covered, OA_ROW_NONE);
		} else {
			time = next;
		}
		for (; i < rows->fragment_count && rows->fragments[i].start <= time; i++)
			if (push(rows, stacks, i))
				return -ENOMEM;
	}
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
