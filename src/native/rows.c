/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "rows_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS 1024 /* most files have fewer than half as many rules */

int oa_grow(void **array, u32 *capacity, u64 wanted, size_t size)
{
	u64 bigger = *capacity < 1024 ? 1024 : (u64)*capacity + *capacity / 2;
	void *moved;

	if (bigger < wanted)
		bigger = wanted;
	if (bigger > 0xfffffff0u)
		return -ENOMEM;
	moved = realloc(*array, bigger * size);
	if (!moved)
		return -ENOMEM;
	*array = moved;
	*capacity = (u32)bigger;
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
	rows->slot_count = FIRST_SLOTS;
	rows->slots = calloc(FIRST_SLOTS, sizeof(*rows->slots));
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

/* Double the hash of rules: nearly every file has a few hundred, some have 30,000. */
static int widen(struct oa_rows *rows)
{
	u32 count = rows->slot_count * 2, i, slot;
	u16 *slots = calloc(count, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (i = 0; i < rows->rule_count; i++) {
		slot = hash_rule(&rows->rules[i]) & (count - 1);
		while (slots[slot])
			slot = (slot + 1) & (count - 1);
		slots[slot] = (u16)(i + 1);
	}
	free(rows->slots);
	rows->slots = slots;
	rows->slot_count = count;
	return 0;
}

u32 oa_rows_rule(struct oa_rows *rows, const struct oa_rule *rule)
{
	u32 slot = hash_rule(rule) & (rows->slot_count - 1);

	for (; rows->slots[slot]; slot = (slot + 1) & (rows->slot_count - 1))
		if (is_same(&rows->rules[rows->slots[slot] - 1], rule))
			return rows->slots[slot] - 1u;
	if (rows->rule_count >= OA_MAX_RULES - 1)
		return OA_ROW_UNSUPPORTED;
	if (oa_room((void **)&rows->rules, &rows->rule_capacity, rows->rule_count, 1,
		    sizeof(*rule)))
		return OA_ROW_UNSUPPORTED;
	rows->rules[rows->rule_count++] = *rule;
	rows->slots[slot] = (u16)rows->rule_count;
	if (rows->rule_count > rows->slot_count / 2 && widen(rows))
		return OA_ROW_UNSUPPORTED;
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
	struct oa_fragment *fragment;

	rows->open = 0;
	if (!range || !size || rank >= OA_ROWS_RANKS)
		return 0;
	if (size > range->end - start)
		size = range->end - start;
	if (size > 0xffffffffu)
		size = 0xffffffffu;
	if (oa_room((void **)&rows->fragments, &rows->fragment_capacity, rows->fragment_count, 1,
		    sizeof(*rows->fragments)))
		return -ENOMEM;
	if (rows->sorted && rows->fragment_count &&
	    start < rows->fragments[rows->fragment_count - 1].start) {
		rows->sorted = 0;
		rows->ordered = rows->fragment_count;
	}
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

int oa_rows_reserve(struct oa_rows *rows, u32 fragments, u32 count)
{
	if (oa_room((void **)&rows->fragments, &rows->fragment_capacity, rows->fragment_count,
		    fragments, sizeof(*rows->fragments)))
		return -ENOMEM;
	return oa_room((void **)&rows->raw, &rows->raw_capacity, rows->raw_count, count,
		       sizeof(*rows->raw));
}

int oa_rows_repeat(struct oa_rows *rows, u64 start, u64 size, u32 earlier)
{
	int wanted = oa_rows_begin_next(rows, start, size, rows->fragments[earlier].rank);
	struct oa_fragment *fragment;

	if (wanted <= 0)
		return wanted;
	fragment = &rows->fragments[rows->fragment_count - 1];
	fragment->first = rows->fragments[earlier].first;
	fragment->count = rows->fragments[earlier].count;
	rows->open = 0;
	return 0;
}

void oa_rows_take_back(struct oa_rows *rows, u32 first)
{
	rows->raw_count = rows->fragments[first].first;
	rows->fragment_count = first;
	rows->ordered = rows->ordered < first ? rows->ordered : first;
	rows->open = 0;
}

/* Let a new fragment begin at `offset` of the last one: rows keep 16 bits of offset. */
static int split(struct oa_rows *rows, u64 offset)
{
	struct oa_fragment last = rows->fragments[rows->fragment_count - 1];
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
	struct oa_fragment *fragment;
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
			if (fragment->count > 1 && last[-1] >> 16 == index) {
				fragment->count--;
				rows->raw_count--;
			}
			return 0;
		}
		if (offset - rows->piece > 0xffff) {
			if (split(rows, offset - rows->piece))
				return -ENOMEM;
			fragment = &rows->fragments[rows->fragment_count - 1];
		}
	}
	if (oa_room((void **)&rows->raw, &rows->raw_capacity, rows->raw_count, 1,
		    sizeof(*rows->raw)))
		return -ENOMEM;
	rows->raw[rows->raw_count++] = (u32)(offset - rows->piece) | index << 16;
	fragment->count++;
	return 0;
}

int oa_write_beyond(struct oa_rows *rows, struct oa_row_writer *writer, u64 offset, u32 index)
{
	u32 left = rows->raw_capacity - (u32)(writer->next - rows->raw);

	oa_close_row_writer(rows, writer);
	if (oa_rows_put(rows, offset, index))
		return -ENOMEM;
	return oa_open_row_writer(rows, writer, left ? left - 1 : 0);
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
	u64 next = OA_NO_TIME;
	u32 i;

	for (i = 0; i < rows->fragment_count; i++) {
		const struct oa_fragment *f = &rows->fragments[i];

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
