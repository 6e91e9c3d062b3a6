/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_CFI_H
#define OA_CFI_H
#ifndef OA_CDEF
#include "rows.h"
#endif

/* Reads `.eh_frame` and `.debug_frame` in one pass. */

enum oa_cfi_machine {
	OA_MACHINE_X86_64 = 62, /* as in the ELF header */
	OA_MACHINE_AARCH64 = 183, /* as in the ELF header */
};

struct oa_cfi_section {
	const u8 *data; /* NULL: it is read from `fd`, at `offset` */
	u64 size;
	u64 offset;
	s32 fd;
	u32 pad;
	u64 addr; /* ELF address of its first byte, for pc-relative pointers */
	u64 text; /* base of DW_EH_PE_textrel */
	u64 got; /* base of DW_EH_PE_datarel */
	u32 machine; /* enum oa_cfi_machine */
	u32 debug_frame; /* it is a .debug_frame: other ids, absolute pointers */
	u32 to_zero; /* it ends at the first zero length: its size is not known */
	u32 rank; /* of its fragments */
};

enum oa_cfi_limit {
	OA_CFI_EH_RETURNS = 16, /* functions of an unwinder that are noted; libgcc has four */
};

struct oa_cfi_stats {
	u64 cies;
	u64 fdes; /* taken */
	u64 outside; /* FDEs whose code is not in an executable range: removed functions */
	u64 bad_fdes; /* FDEs that could not be read at all */
	u64 end; /* offset where the walk ended; less than the size if the section is damaged */
	u64 reasons[11]; /* rows by enum oa_rows_reason */
	u64 eh_returns; /* entries of `eh_return` */
	struct oa_range eh_return[16]; /* x86-64: functions that end by __builtin_eh_return */
};

/* Add the rows of a section. Returns 0, -EINVAL (machine), -EIO (the file could not be read,
 * or not all of it) or -ENOMEM. Any bytes are safe.
 */
int oa_cfi_parse(struct oa_rows *rows, const struct oa_cfi_section *section,
		 struct oa_cfi_stats *stats);

#endif
