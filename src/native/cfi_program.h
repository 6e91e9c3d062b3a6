/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_CFI_PROGRAM_H
#define OA_CFI_PROGRAM_H
#ifndef OA_CDEF
#include "cursor.h"
#include "rows.h"

/* A common information entry and the rule that its instructions end with. */
struct oa_cfi_cie {
	u64 offset; /* in the section */
	u64 code_align;
	s64 data_align;
	u32 encoding; /* of an FDE's addresses */
	u32 ra_reg;
	u32 machine;
	u8 known;
	u8 usable;
	u8 sized; /* the augmentation begins with its size ('z') */
	u8 signal;
	u32 reason; /* of `initial` */
	struct oa_rule initial;
};

/* Run a CIE's own instructions. Returns whether FDEs can use it. */
int oa_cfi_start(struct oa_cfi_cie *cie, struct oa_cursor program, u32 machine);

/* Run an FDE's instructions and put its rows. Returns 0 or -ENOMEM. */
int oa_cfi_run(struct oa_rows *rows, const struct oa_cfi_cie *cie, struct oa_cursor program,
	       u64 start, u64 size, u64 *reasons);
#endif
#endif
