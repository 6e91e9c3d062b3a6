/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_CFI_PROGRAM_H
#define OA_CFI_PROGRAM_H
#ifndef OA_CDEF
#include "cursor.h"
#include "rows.h"

/* DWARF 5 section 7.24; GNU and AADWARF64 for the last four. */
enum {
	DW_CFA_advance_loc = 1, /* in the top two bits */
	DW_CFA_offset = 2,
	DW_CFA_restore = 3,
	DW_CFA_nop = 0x00,
	DW_CFA_set_loc = 0x01,
	DW_CFA_advance_loc1 = 0x02,
	DW_CFA_advance_loc2 = 0x03,
	DW_CFA_advance_loc4 = 0x04,
	DW_CFA_offset_extended = 0x05,
	DW_CFA_restore_extended = 0x06,
	DW_CFA_undefined = 0x07,
	DW_CFA_same_value = 0x08,
	DW_CFA_register = 0x09,
	DW_CFA_remember_state = 0x0a,
	DW_CFA_restore_state = 0x0b,
	DW_CFA_def_cfa = 0x0c,
	DW_CFA_def_cfa_register = 0x0d,
	DW_CFA_def_cfa_offset = 0x0e,
	DW_CFA_def_cfa_expression = 0x0f,
	DW_CFA_expression = 0x10,
	DW_CFA_offset_extended_sf = 0x11,
	DW_CFA_def_cfa_sf = 0x12,
	DW_CFA_def_cfa_offset_sf = 0x13,
	DW_CFA_val_offset = 0x14,
	DW_CFA_val_offset_sf = 0x15,
	DW_CFA_val_expression = 0x16,
	DW_CFA_AARCH64_negate_ra_state_with_pc = 0x2c,
	DW_CFA_AARCH64_negate_ra_state = 0x2d, /* GNU_window_save elsewhere */
	DW_CFA_GNU_args_size = 0x2e,
	DW_CFA_GNU_negative_offset_extended = 0x2f,
};

/* In the kinds of a rule while it is made; BAD - n is the reason n. */
enum { BAD = 255 };

static inline int is_bad(u8 kind)
{
	return kind > BAD - OA_REASON_COUNT;
}

static inline u8 bad(u32 reason)
{
	return (u8)(BAD - reason);
}

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
