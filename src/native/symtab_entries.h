/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* What a symbol table is made of while symbols are added: for its own parts. */
#ifndef OA_SYMTAB_ENTRIES_H
#define OA_SYMTAB_ENTRIES_H

#ifndef OA_CDEF
#include "symtab.h"

/* Best last: among symbols that start at one address the last one wins. */
enum oa_symbol_rank {
	RANK_UNNAMED, /* an object in a code section: it only ends what has no size */
	RANK_LABEL, /* untyped and local: perhaps only a label */
	RANK_LOCAL,
	RANK_WEAK,
	RANK_GLOBAL,
	RANK_STEP, /* typed symbols rank above untyped ones of any binding */
	RANK_SIZED = 2 * RANK_STEP,
};

struct oa_symtab_entry {
	u64 addr;
	u32 size;
	u32 name;
	u32 rank;
	u32 end_clamp; /* bytes from addr to the end of its section */
};

struct oa_symtab {
	struct oa_span *text;
	u32 text_count;
	struct oa_symtab_entry *entries;
	u64 count, room;
	struct oa_symbol *ranges;
	u64 ranges_count, ranges_room;
};

/* End of the executable section that holds `addr`, or 0. */
u64 oa_symtab_text_end(const struct oa_symtab *table, u64 addr);

/* Add a symbol; -1 if there are too many, or no memory. */
s32 oa_symtab_push(struct oa_symtab *table, struct oa_symtab_entry entry);
#endif

#endif
