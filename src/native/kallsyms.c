/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's own symbols, as /proc/kallsyms lists them, into a symbol table. */
#include "symtab_entries.h"

#include <string.h>

static u64 parse_hex(const u8 **at, const u8 *end)
{
	u64 value = 0;

	for (; *at < end; (*at)++) {
		u32 digit = **at;

		if (digit - '0' < 10)
			digit -= '0';
		else if (digit - 'a' < 6)
			digit -= 'a' - 10;
		else
			break;
		value = value << 4 | digit;
	}
	return value;
}

/* Type letters of functions, by rank; lower case is local, but for weak ones. */
static u32 kallsyms_rank(u8 letter)
{
	switch (letter) {
	case 'T':
		return RANK_GLOBAL;
	case 'W':
	case 'w':
		return RANK_WEAK;
	case 't':
		return RANK_LOCAL;
	default:
		return RANK_UNNAMED;
	}
}

/* Marks of the linker script share their address with a function. */
static int is_kernel_mark(const u8 *name, u64 size)
{
	static const char *const marks[] = {"_text", "_stext", "_etext", "_sinittext",
					    "_einittext"};

	for (u32 i = 0; i < sizeof(marks) / sizeof(*marks); i++)
		if (size == strlen(marks[i]) && !memcmp(name, marks[i], size))
			return 1;
	return 0;
}

s64 oa_symtab_add_kallsyms(struct oa_symtab *table, const u8 *bytes, u64 size, u32 limit, u8 *names,
			   u64 *hidden)
{
	const u8 *at = bytes, *end = bytes + size;
	u64 written = 0;

	for (const u8 *line_end; at < end; at = line_end + 1) {
		struct oa_symtab_entry entry = {.end_clamp = limit};
		u8 letter;

		line_end = memchr(at, '\n', (size_t)(end - at));
		if (!line_end)
			break;
		entry.addr = parse_hex(&at, line_end);
		if (line_end - at < 4 || at[0] != ' ' || at[2] != ' ')
			continue;
		letter = at[1];
		at += 3;
		*hidden += !entry.addr;
		if (!oa_symtab_text_end(table, entry.addr))
			continue;
		entry.rank = kallsyms_rank(letter);
		if (is_kernel_mark(at, (u64)(line_end - at)))
			entry.rank = RANK_UNNAMED;
		if (entry.rank != RANK_UNNAMED) {
			if (written >> OA_SYMTAB_NAME_BITS)
				return -1;
			entry.name = (u32)written;
			memcpy(names + written, at, (size_t)(line_end - at));
			written += (u64)(line_end - at);
			names[written++] = 0;
		}
		if (oa_symtab_push(table, entry))
			return -1;
	}
	return (s64)written;
}
