/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_DWARF_ABBREV_H
#define OA_DWARF_ABBREV_H
#ifndef OA_CDEF
#include "cursor.h"

/* What entries of .debug_info are made of: abbreviations, and values in all forms (DWARF 5, 7.5).
 */

/* Entries, attributes of abbreviations, and sixteen bytes of names: seconds. */
#define OA_DWARF_BUDGET 1000000000ull

enum {
	OA_MAX_ABBREVS = 1 << 18, /* of one unit, and their attributes */
};

struct oa_attribute {
	s64 constant; /* of DW_FORM_implicit_const */
	u16 name;
	u16 form;
};

struct oa_abbrev {
	u32 first; /* of its attributes */
	u32 count;
	u32 tag;
};

struct oa_abbrevs {
	struct oa_abbrev *abbrevs; /* by code - 1: compilers count from 1 on */
	struct oa_attribute *attributes;
	u64 offset; /* of the table that was read */
	u64 budget; /* what may still be done */
	u32 count;
	u32 attribute_count;
	u32 is_read;
};

/* How wide offsets, addresses and DW_FORM_ref_addr are in a unit. */
struct oa_form_sizes {
	u32 offset;
	u32 address;
	u32 ref_addr;
};

enum oa_value_kind {
	OA_VALUE_OTHER, /* nothing that is asked for */
	OA_VALUE_NUMBER,
	OA_VALUE_STRING, /* at `at` itself */
	OA_VALUE_STR, /* offset in .debug_str */
	OA_VALUE_LINE_STR,
	OA_VALUE_STR_INDEX, /* index into .debug_str_offsets */
	OA_VALUE_UNIT_REF, /* offset in the unit */
	OA_VALUE_INFO_REF, /* offset in .debug_info */
};

struct oa_value {
	u64 number;
	const u8 *at;
	u64 bytes;
	u32 kind; /* enum oa_value_kind */
};

/* Take from the budget; 0 if it is spent. */
static inline int oa_spend(struct oa_abbrevs *abbrevs, u64 amount)
{
	abbrevs->budget = abbrevs->budget > amount ? abbrevs->budget - amount : 0;
	return abbrevs->budget != 0;
}

/* Read the table at `offset`, unless it is the last one. Returns 0, or -1 if it makes no sense. */
int oa_read_abbrevs(struct oa_abbrevs *abbrevs, const u8 *section, u64 bytes, u64 offset);
void oa_drop_abbrevs(struct oa_abbrevs *abbrevs);
const struct oa_abbrev *oa_find_abbrev(const struct oa_abbrevs *abbrevs, u64 code);
/* Read one value; what is not known to have an end ends the unit: c->bad. */
void oa_read_value(struct oa_cursor *c, const struct oa_attribute *attribute,
		   const struct oa_form_sizes *sizes, struct oa_value *value);
void oa_skip_entry(struct oa_cursor *c, struct oa_abbrevs *abbrevs, const struct oa_abbrev *abbrev,
		   const struct oa_form_sizes *sizes);
#endif
#endif
