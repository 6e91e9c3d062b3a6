/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_CFI_EXPRESSION_H
#define OA_CFI_EXPRESSION_H
#ifndef OA_CDEF
#include "cursor.h"
#include "oa_abi.h"

/* What a DWARF expression amounts to. */
enum oa_form {
	OA_FORM_CONST, /* offset */
	OA_FORM_CFA, /* CFA + offset */
	OA_FORM_REG, /* reg + offset */
	OA_FORM_SCALED, /* index * 8 + offset */
	OA_FORM_SUM, /* reg + index * 8 + offset */
	OA_FORM_DEREF, /* *(reg + offset) + add */
	OA_FORM_DEREF_INDEX, /* *(reg + index * 8 + offset) + add */
	OA_FORM_DEREF_CFA, /* *(CFA + offset) + add */
	OA_FORM_PC_LOW, /* pc & 15 */
	OA_FORM_PC_BEYOND, /* (pc & 15) >= add */
	OA_FORM_PC_SLOT, /* (pc & 15) >= add ? 8 : 0 */
	OA_FORM_PLT, /* reg + offset + ((pc & 15) >= add ? 8 : 0) */
};

struct oa_form_value {
	u32 form; /* enum oa_form */
	u32 reg;
	u32 index;
	s64 offset;
	s64 add;
};

/* Run an expression on symbolic values. `with_cfa`: the CFA is on the stack at
 * first, as for DW_CFA_expression. Returns 1 and the top of the stack, or 0 if
 * the result is none of the forms above.
 */
int oa_expression(struct oa_cursor block, int with_cfa, u32 pc_reg, struct oa_form_value *top);
#endif
#endif
