/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_LOOKUP_H
#define OA_LOOKUP_H

/* From an address to its mapping, and to the row that holds there. */

#include "trace.h"

/* The address that rows and mappings are asked for: a return address may be the
 * first one of the next function, so the call before it counts.
 */
static __always_inline u64 lookup_pc(const struct oa_state *s)
{
	return s->regs.pc - (s->regs.return_address ? 1 : 0);
}

static __always_inline const struct oa_mapping *find_mapping(struct oa_state *s, u64 addr)
{
	struct oa_mapping_key key = {
		.prefix_bits = 96,
		.space_be = oa_bswap32(s->space),
		.addr_be = oa_bswap64(addr),
	};

	s->lookups++;
	return bpf_map_lookup_elem(&mappings, &key);
}

/* Make s->mapping the one that the pc lies in; false if it lies in none. */
static __always_inline bool resolve(struct oa_state *s)
{
	u64 addr = lookup_pc(s);
	const struct oa_mapping *found;

	if (addr >= s->mapping.start && addr < s->mapping.end)
		return true;
	found = find_mapping(s, addr);
	if (!found)
		return false;
	s->mapping = *found;
	return true;
}

static __always_inline u32 read_row(void *chunk, u32 at)
{
	u32 element = at >> 1;
	u64 *pair = bpf_map_lookup_elem(chunk, &element);

	if (!pair)
		return (u32)OA_ROW_NONE << 16;
	return (u32)(*pair >> (32 * (at & 1)));
}

/* Find what holds at an ELF address: a rule's index or a command (enum oa_row). */
static __always_inline u32 find_row(struct oa_state *s, u64 elf_addr)
{
	struct oa_page_key key = {
		.file_id = s->mapping.file_id,
		.page = elf_addr >> OA_PAGE_BITS,
	};
	u32 low = elf_addr & 0xffff;
	u32 first, size, half, row;
	void *chunk;

	if (key.file_id != s->page_key.file_id || key.page != s->page_key.page) {
		struct oa_page *page = bpf_map_lookup_elem(&pages, &key);

		s->lookups++;
		if (!page)
			return OA_ROW_NONE;
		s->page_key = key;
		s->page = *page;
	}
	first = s->page.first;
	size = s->page.count;
	chunk = bpf_map_lookup_elem(&rows, &s->page.chunk);
	s->lookups++;
	if (!chunk || !size)
		return OA_ROW_NONE;
#pragma clang loop unroll(disable)
	for (int i = 0; i < OA_SEARCH_STEPS; i++) {
		if (size <= 1)
			break;
		half = size >> 1;
		row = read_row(chunk, first + half);
		if ((row & 0xffff) <= low) {
			first += half;
			size -= half;
		} else {
			size = half;
		}
	}
	return read_row(chunk, first) >> 16;
}

#endif
