/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* What is done with finished rows: look-up, copy into the shared store, check. */
#include "rows.h"

#include <errno.h>

#define PAGE_BYTES (1ull << OA_PAGE_BITS)

u32 oa_find_row(const struct oa_page_entry *pages, u64 page_count, const u32 *rows, u64 row_count,
		u64 addr)
{
	u64 low = 0, high = page_count, middle, page = addr >> OA_PAGE_BITS;
	const struct oa_page_entry *entry;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (pages[middle].page <= page)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low || pages[low - 1].page != page)
		return OA_ROW_NONE;
	entry = &pages[low - 1];
	if (!entry->count || (u64)entry->first + entry->count > row_count)
		return OA_ROW_NONE;
	low = entry->first;
	high = low + entry->count;
	while (low + 1 < high) {
		middle = low + (high - low) / 2;
		if ((rows[middle] & 0xffff) <= (addr & (PAGE_BYTES - 1)))
			low = middle;
		else
			high = middle;
	}
	return rows[low] >> 16;
}

int oa_rows_remap(const u32 *rows, u64 count, const u32 *global, u64 rules, u32 *out)
{
	u64 i;

	for (i = 0; i < count; i++) {
		u32 index = rows[i] >> 16;

		if (!(index & OA_ROW_COMMAND)) {
			if (index >= rules || global[index] > 0xffff)
				return -EINVAL;
			index = global[index];
		}
		out[i] = (rows[i] & 0xffff) | index << 16;
	}
	return 0;
}

int oa_rows_check(const struct oa_page_entry *pages, u64 page_count, const u32 *rows, u64 row_count,
		  u64 rule_count)
{
	u64 i, j, end = 0;

	for (i = 0; i < page_count; i++) {
		if (pages[i].first != end || !pages[i].count ||
		    pages[i].count > row_count - pages[i].first ||
		    (i && pages[i].page <= pages[i - 1].page) || rows[pages[i].first] & 0xffff)
			return 0;
		end = (u64)pages[i].first + pages[i].count;
		for (j = pages[i].first + 1; j < end; j++)
			if ((rows[j] & 0xffff) <= (rows[j - 1] & 0xffff))
				return 0;
	}
	if (end != row_count)
		return 0;
	for (i = 0; i < row_count; i++)
		if (!(rows[i] >> 31) && rows[i] >> 16 >= rule_count)
			return 0;
	return 1;
}
