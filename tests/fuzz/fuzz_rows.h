/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_FUZZ_ROWS_H
#define OA_FUZZ_ROWS_H

/* Rows for a driver to fill, and what must hold of them in the end. */
#include "rows.h"

static inline struct oa_rows *fuzz_rows(void)
{
	static const struct oa_range ranges[] = {{0x1000, 0x90000}, {0x200000, 0x8000000}};
	struct oa_rows *rows = oa_rows_new(ranges, 2);

	if (!rows)
		abort();
	return rows;
}

static inline void fuzz_check_rows(struct oa_rows *rows)
{
	struct oa_rows_table t;
	u32 *global, *out;

	if (oa_rows_finish(rows, &t))
		abort();
	if (!oa_rows_check(t.pages, t.page_count, t.rows, t.row_count, t.rule_count))
		abort();
	for (u64 addr = 0; addr < 0x10000000; addr += 0x3fff1) {
		u32 index = oa_find_row(t.pages, t.page_count, t.rows, t.row_count, addr);

		if (!(index & OA_ROW_COMMAND) && index >= t.rule_count)
			abort();
		if (addr < 0x1000 && index != OA_ROW_NONE)
			abort();
	}
	global = calloc(t.rule_count + 1, sizeof(*global));
	out = calloc(t.row_count + 1, sizeof(*out));
	if (!global || !out || oa_rows_remap(t.rows, t.row_count, global, t.rule_count, out))
		abort();
	free(global);
	free(out);
}

#endif
