/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Symbol tables and kallsyms of any bytes: ranges that come out are disjoint and in order. */
#include "fuzz.h"
#include "symtab.h"

enum { MAX_STRINGS = 1 << 20 };

static void look_up(const struct oa_symtab *table, s64 count)
{
	struct oa_symbol range, found;
	u64 end = 0;

	for (s64 i = 0; i < count; i++) {
		if (!oa_symtab_at(table, (u64)i, &range) || range.addr < end || !range.size)
			abort();
		end = range.addr + range.size;
		if (!oa_symtab_find(table, range.addr, &found) || found.addr != range.addr)
			abort();
		if (end < range.addr)
			abort();
	}
	if (oa_symtab_at(table, (u64)count, &range))
		abort();
}

void oa_fuzz_one(const u8 *data, size_t size)
{
	static const struct oa_span TEXT[] = {{0x1000, 0x9000}, {0xa000, ~0ull}};
	struct oa_symtab *table = oa_symtab_new(TEXT, 2);
	u8 *room = malloc(size + 1);
	u32 at = 0, names[8], indices[8], got;
	u64 hidden = 0, next = 0, addrs[8];
	s64 count;

	if (!table || !room)
		abort();
	if (size && data[0] & 1 &&
	    oa_symtab_add_kallsyms(table, data, size, 4096, room, &hidden) > (s64)size)
		abort();
	if (!oa_symtab_add(table, data, size, size ? data[0] >> 1 & 3 : 0, MAX_STRINGS)) {
		oa_symtab_add_ends(table, data, size & ~7ull, 0x1000);
		oa_symtab_add_end(table, size);
		while ((got = oa_symtab_doubtful(table, 0, &at, names, indices, 8)))
			oa_symtab_drop(table, indices[got - 1]);
		while ((got = oa_symtab_unsized(table, 64, &next, addrs, indices, 8)))
			oa_symtab_bound(table, indices[got - 1], data[got]);
		count = oa_symtab_finish(table);
		if (count >= 0)
			look_up(table, count);
	}
	free(room);
	oa_symtab_free(table);
}
