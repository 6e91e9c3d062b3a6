/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_CODE_STARTS_H
#define OA_CODE_STARTS_H

#ifndef OA_CDEF
#include "code.h"

enum {
	OA_START_KNOWN_BITS = 2, /* the lowest ones of a start: enum oa_flow_start */
};

/* Where functions begin: offset << OA_START_KNOWN_BITS | enum oa_flow_start, sorted in the end. */
struct oa_starts {
	u64 *items;
	u64 count;
	u64 sorted; /* of them, from the first on */
	u64 capacity;
};

/* Add a start, unless there are too many. Returns 0 or -ENOMEM. */
int oa_starts_add(struct oa_starts *starts, u64 offset, u32 known);

/* Add those of the symbols. Returns 0 or -ENOMEM. */
int oa_starts_add_symbols(struct oa_starts *starts, const struct oa_code *code);

/* Read a gap as it comes and note what is called; decoding falls into step again
 * soon after data, and at every start that is known.
 * Returns 0 or -ENOMEM.
 */
int oa_starts_add_called(struct oa_starts *starts, const struct oa_code *code, u64 at, u64 end);

/* Sort and let only one remain of each offset. */
void oa_starts_sort(struct oa_starts *starts);

/* The first start at or behind an offset. */
u64 oa_starts_find(const struct oa_starts *starts, u64 offset);

/* Compare two items, for qsort. */
int oa_starts_compare(const void *a, const void *b);
#endif

#endif
