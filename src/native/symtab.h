/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_SYMTAB_H
#define OA_SYMTAB_H
/* Symbol tables: which function owns an address.
 *
 * Raw Elf64_Sym bytes of one or more tables are fed in pieces, then flattened
 * into disjoint ranges, 16 bytes each. Names stay in the file: a range knows
 * the offset in its string table. After oa_symtab_finish the table is
 * read-only and may be read from any thread.
 */
#ifndef OA_CDEF
#include "types.h"
#endif

enum oa_symtab_limit {
	OA_SYMTAB_MAX_SYMBOLS = 16000000, /* functions kept of one file */
	OA_SYMTAB_TABLES = 4, /* string tables that names may lie in */
	OA_SYMTAB_NAME_BITS = 30, /* a name: table number above, offset below */
};

struct oa_span {
	u64 start;
	u64 end;
};

/* One range: [addr, addr + size) belongs to the symbol whose name is at `name`. */
struct oa_symbol {
	u64 addr;
	u32 size;
	u32 name;
};

struct oa_symtab;

/* `text` lists the executable sections, sorted and disjoint; it is copied. */
struct oa_symtab *oa_symtab_new(const struct oa_span *text, u32 count);
void oa_symtab_free(struct oa_symtab *table);

/* Add whole Elf64_Sym entries. Returns 0, or -1 when memory or the cap is exhausted. */
s32 oa_symtab_add(struct oa_symtab *table, const u8 *bytes, u64 size, u32 strings,
		  u64 strings_size);

/* Add symbols of /proc/kallsyms: lines of hex address, type letter, name and
 * perhaps a module. Functions are named, data only ends them; no symbol is longer
 * than `limit` bytes. `names` (at least `size` bytes) receives "name[\tmodule]\0" of
 * the functions. Returns the bytes written, or -1. `hidden` counts zero addresses.
 */
s64 oa_symtab_add_kallsyms(struct oa_symtab *table, const u8 *bytes, u64 size, u32 limit, u8 *names,
			   u64 *hidden);

/* Mark the end of whatever has no size and begins before `addr`. */
s32 oa_symtab_add_end(struct oa_symtab *table, u64 addr);

/* The same for each entry of a `.eh_frame_hdr` table: pairs of s32, the first of
 * them relative to `base`. What has no size ends where other code is described.
 */
s32 oa_symtab_add_ends(struct oa_symtab *table, const u8 *pairs, u64 size, u64 base);

/* Local untyped symbols may be assembler labels ($x, .L1): their names decide.
 * Gives up to `room` name offsets of table `strings` from index *at on, which
 * is moved; then the caller drops the labels by oa_symtab_drop.
 */
u32 oa_symtab_doubtful(const struct oa_symtab *table, u32 strings, u32 *at, u32 *names,
		       u32 *indices, u32 room);
void oa_symtab_drop(struct oa_symtab *table, u32 index);

/* Functions without a size, whose section goes on for more than `least` bytes: gives up to `room`
 * addresses and indices from index *at on, which is moved; then the caller may bound them.
 */
u32 oa_symtab_unsized(const struct oa_symtab *table, u32 least, u64 *at, u64 *addrs, u32 *indices,
		      u32 room);
/* Let one of them have at most `size` bytes. */
void oa_symtab_bound(struct oa_symtab *table, u32 index, u64 size);

/* Sort and flatten. Returns the number of ranges, or -1 when memory is exhausted. */
s64 oa_symtab_finish(struct oa_symtab *table);

/* Find the range that holds `addr`; 1 if there is one. */
s32 oa_symtab_find(const struct oa_symtab *table, u64 addr, struct oa_symbol *found);

/* Copy range `index` of those made by oa_symtab_finish; 0 if there is none. */
s32 oa_symtab_at(const struct oa_symtab *table, u64 index, struct oa_symbol *found);

#endif
