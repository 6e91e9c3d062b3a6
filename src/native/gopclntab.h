/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_GOPCLNTAB_H
#define OA_GOPCLNTAB_H
#ifndef OA_CDEF
#include "rows.h"
#endif

/* Reads the function table of a Go program, for unwinding (docs/gopclntab.md). */

struct oa_go_table {
	const u8
		*data; /* the pclntab, from its magic on; NULL: it is read from `fd`, at `offset` */
	u64 size;
	u64 offset;
	s32 fd;
	u32 pad;
	u64 text; /* ELF address that entries are relative to; 0: the header says (Go 1.18 to 1.25)
		   */
	u32 machine; /* EM_X86_64 or EM_AARCH64 */
	u32 rank; /* of its fragments; special functions get rank 0 */
};

struct oa_go_stats {
	u64 functions; /* in the table */
	u64 unwound; /* with stack depths */
	u64 stops; /* first functions of a goroutine or thread */
	u64 switching; /* functions that switch stacks: followed by the frame pointer */
	u64 bad; /* entries that cannot be read */
	u64 text; /* start of the code that was used */
	u64 calls_c; /* where runtime.asmcgocall begins; 0: it was not found */
	u64 calls_c_size;
	u32 magic;
	u32 pad;
};

/* Add the rows of all functions. Returns 0, -EINVAL if it is no table that is known, -EIO (the
 * file could not be read, or not all of it) or -ENOMEM.
 */
int oa_go_parse(struct oa_rows *rows, const struct oa_go_table *table, struct oa_go_stats *stats);

#endif
