/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "symtab.h"

#include <stdlib.h>

void oa_symtab_fuzz(const u8 *bytes, u64 size)
{
	struct oa_span text[2] = {{0x1000, 0x9000}, {0xa000, UINT64_MAX}};
	struct oa_symtab *table = oa_symtab_new(text, 2);
	u32 at = 0, names[8], indices[8];
	struct oa_symbol found;

	if (!table)
		return;
	u8 *names_room = malloc(size + 1);
	u64 hidden = 0;

	if (names_room)
		oa_symtab_add_kallsyms(table, bytes, size, 4096, names_room, &hidden);
	free(names_room);
	if (!oa_symtab_add(table, bytes, size, 0, 1 << 20)) {
		if (oa_symtab_doubtful(table, 0, &at, names, indices, 8))
			oa_symtab_drop(table, indices[0]);
		u64 addrs[8], next = 0;

		if (oa_symtab_unsized(table, 0, &next, addrs, indices, 8))
			oa_symtab_bound(table, indices[0], bytes[0]);
		if (oa_symtab_finish(table) >= 0)
			for (u64 i = 0; i + 8 <= size && i < 64; i += 8)
				oa_symtab_find(table, (u64)bytes[i] << 8, &found);
	}
	oa_symtab_free(table);
}
