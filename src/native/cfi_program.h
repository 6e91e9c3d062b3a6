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

/* A rule as four words, which can be held in registers: `struct oa_rule` on a
 * little-endian machine, the only kind there is for BPF targets here.
 */
struct oa_rule_words {
	u64 kinds; /* cfa_kind, cfa_reg, cfa_reg2, fp_kind, fp_reg, ra_kind, ra_reg, bx_kind */
	u64 cfa; /* cfa_offset, cfa_add */
	u64 saved; /* fp_offset, ra_offset */
	u64 rest; /* bx_offset, pad */
};

/* Indices of rules met lately, by hash. At first all bits of the rules are set: no rule is so. */
enum { OA_MEMO_SLOTS = 256 };
struct oa_cfi_memo {
	struct oa_rule_words rules[OA_MEMO_SLOTS];
	u16 indices[OA_MEMO_SLOTS];
};

/* A common information entry and the rule that its instructions end with. */
struct oa_cfi_cie {
	u64 offset; /* in the section */
	u64 code_align;
	s64 data_align;
	u64 tracked; /* a bit for each register whose rule is kept */
	u32 encoding; /* of an FDE's addresses */
	u32 ra_reg;
	u32 machine;
	u8 known;
	u8 usable;
	u8 sized; /* the augmentation begins with its size ('z') */
	u8 signal;
	u8 small; /* the factors are so small that nothing overflows in short instructions */
	union {
		struct oa_rule initial;
		struct oa_rule_words initial_words;
	};
};

enum { OA_REMEMBER_DEPTH = 32 };
struct oa_cfi_program {
	struct oa_rows *rows; /* NULL: a CIE's */
	const struct oa_cfi_cie *cie;
	struct oa_cursor c;
	u64 start;
	u64 size;
	u64 at; /* from `start` */
	u64 distance; /* by which the last instruction moves on */
	u64 *reasons;
	u32 fp_reg;
	u32 bx_reg;
	u32 sp_reg;
	u32 pc_reg;
	u32 depth;
	u32 saved; /* bits of registers 0 and 1, where a function saves them */
	int changed; /* since the last row */
	u8 broken; /* the rest of the function cannot be known: a kind, or 0 */
	union {
		struct oa_rule rule;
		struct oa_rule_words words;
	};
	union {
		struct oa_rule remembered[OA_REMEMBER_DEPTH];
		struct oa_rule_words remembered_words[OA_REMEMBER_DEPTH];
	};
};

/* Run a CIE's own instructions. Returns whether FDEs can use it. */
int oa_cfi_start(struct oa_cfi_cie *cie, struct oa_cursor program, u32 machine);

/* Prepare a program for a machine. */
void oa_cfi_set_machine(struct oa_cfi_program *p, u32 machine);

/* Run one instruction (`op` was read already). Returns 1 if it moves on, by `distance`; else 0. */
int oa_cfi_step(struct oa_cfi_program *p, u8 op);

/* The row's index for the rule as it stands: a rule of the table, or a command. */
u32 oa_cfi_index(struct oa_cfi_program *p);

/* Run an FDE's instructions and put its rows. To be set before: rows, cie, c, start, size,
 * reasons, and the machine. Returns 0 or -ENOMEM.
 */
int oa_cfi_run(struct oa_cfi_program *p, struct oa_cfi_memo *memo);
#endif
#endif
