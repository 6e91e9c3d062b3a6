/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_GOSYM_H
#define OA_GOSYM_H
/* Go's pc-value tables: which value (line, file, inlined call) holds at a pc.
 * The format: varint pairs, a zig-zag value step and a pc step in units of `quantum`;
 * the value begins at -1, and a zero value step after the first pair ends the table.
 */
#ifndef OA_CDEF
#include "types.h"
#endif

enum oa_pcvalue_status {
	OA_PCVALUE_FOUND,
	OA_PCVALUE_PAST_END, /* the table ends before the target */
	OA_PCVALUE_MORE, /* the bytes end before the table does */
};

/* Look up the value at `target` bytes past the function's entry. */
s32 oa_pcvalue(const u8 *bytes, u64 size, u32 quantum, u64 target, s32 *value);

#endif
