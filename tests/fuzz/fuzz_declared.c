/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* DWARF of any bytes: four sizes, then the sections. What comes out is in order, has lines, and is
 * found again.
 */
#include "fuzz.h"
#include "declared.h"

static const u8 *cut(const u8 **at, size_t *left, u32 size, u64 *bytes)
{
	const u8 *section = *at;

	*bytes = size < *left ? size : *left;
	*at += *bytes;
	*left -= *bytes;
	return section;
}

void oa_fuzz_one(const u8 *data, size_t size)
{
	struct oa_declared *found = NULL;
	struct oa_dwarf dwarf = {0};
	u32 sizes[4];
	s64 count;

	if (size < sizeof(sizes))
		return;
	memcpy(sizes, data, sizeof(sizes));
	data += sizeof(sizes);
	size -= sizeof(sizes);
	dwarf.info = cut(&data, &size, sizes[0], &dwarf.info_bytes);
	dwarf.abbrev = cut(&data, &size, sizes[1], &dwarf.abbrev_bytes);
	dwarf.str = cut(&data, &size, sizes[2], &dwarf.str_bytes);
	dwarf.str_offsets = cut(&data, &size, sizes[3], &dwarf.str_offsets_bytes);
	dwarf.line_str = data;
	dwarf.line_str_bytes = size;
	count = oa_declared_read(&dwarf, &found);
	for (s64 i = 0; i < count; i++)
		if (!found[i].name || !found[i].line || (i && found[i].name <= found[i - 1].name))
			abort();
	oa_declared_free(found);
}
