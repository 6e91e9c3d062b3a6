/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_CODE_H
#define OA_CODE_H
#ifndef OA_CDEF
#include "rows.h"
#endif

/* Rows for code that nothing describes, by what its instructions do (x86-64 only). */

enum oa_code_limit {
	OA_CODE_MIN_GAP = 63, /* bytes; up to this it may be alignment */
	OA_CODE_MAX_WINDOW = 1 << 20, /* bytes that are looked at together */
};

struct oa_code {
	const u8 *data;
	u64 size;
	u64 addr; /* ELF address of data[0] */
	const struct oa_range *gaps; /* what is looked at, sorted; ELF addresses */
	u64 gap_count;
	const u8 *symbols; /* Elf64_Sym entries: where functions begin */
	u64 symbol_count;
	u32 machine; /* enum oa_cfi_machine */
	u32 rank; /* of its fragments */
	/* It is much, and most of it keeps frame pointers: OA_ROW_FRAME_CODE where that says
	 * the same, and what functions tell of one another is left out.
	 */
	u32 frames;
	u32 pad;
	/* In it every call is made from a frame with a frame pointer: OA_ROW_FRAME_CODE at the
	 * calls of functions that are not understood. Empty: there is none.
	 */
	struct oa_range framed_calls;
};

struct oa_code_stats {
	u64 functions; /* looked at */
	u64 wrong; /* of them, those whose paths contradict one another: no rows */
	u64 bytes; /* of instructions */
	u64 known; /* of them, those with a row */
	u64 padding;
	u64 framed; /* of the known ones, those of OA_ROW_FRAME_CODE */
};

/* Find the ranges in [start, end) that have no row and are more than padding. Returns how many
 * there are, of which `capacity` are written. */
u64 oa_code_gaps(const struct oa_rows_table *table, u64 start, u64 end, struct oa_range *gaps,
		 u64 capacity);

/* Copy the symbols of functions that begin in a gap, without parts of functions (`f.cold`), from
 * `count` Elf64_Sym entries. `wanted` has room for all. Returns how many there are.
 */
u64 oa_code_symbols(const u8 *symbols, u64 count, const char *strings, u64 strings_size,
		    const struct oa_range *gaps, u64 gap_count, u8 *wanted);

/* Add the rows of the gaps in `code`; `stats` are summed up. Returns 0 or -ENOMEM. Any bytes are
 * safe.
 */
int oa_code_rows(struct oa_rows *rows, const struct oa_code *code, struct oa_code_stats *stats);

#endif
