/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_DECLARED_H
#define OA_DECLARED_H
/* Where functions are declared, by DWARF 2 to 5: symbol name → DW_AT_decl_line.
 *
 * Of each function that has code or is inlined, its own line, else that of what it is
 * a specification or an instance of. A name that stands for functions with different
 * lines (static ones of several files) is left out.
 */
#ifndef OA_CDEF
#include "types.h"
#endif

enum oa_declared_limit {
	OA_DECLARED_MAX = 1000000, /* functions looked at in one file */
};

/* Sections of one file; those that it does not have are of no bytes. */
struct oa_dwarf {
	const u8 *info;
	const u8 *abbrev;
	const u8 *str;
	const u8 *line_str;
	const u8 *str_offsets;
	u64 info_bytes;
	u64 abbrev_bytes;
	u64 str_bytes;
	u64 line_str_bytes;
	u64 str_offsets_bytes;
};

struct oa_declared {
	u64 name; /* oa_declared_hash of it */
	u32 line;
	u32 pad;
};

/* Hash of a name; never 0. */
u64 oa_declared_hash(const u8 *name, u64 bytes);

/* Read all of it. Returns the number of functions in *out, which are sorted by hash and are to be
 * freed by oa_declared_free; -1 if there are too many, or memory or patience is exhausted. What
 * cannot be read ends its unit.
 */
s64 oa_declared_read(const struct oa_dwarf *dwarf, struct oa_declared **out);
void oa_declared_free(struct oa_declared *found);

#endif
