/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_LOOKUP_H
#define OA_LOOKUP_H

/* What lies at an address: its mapping, and the row that holds there. */

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

/* Where a look-up's answer is kept for the samples to come (struct oa_near). */
static __always_inline struct oa_near_mapping *near_mapping(struct oa_state *s, u64 addr)
{
	u64 at = (addr >> OA_PAGE_BITS) & (NEAR_MAPPINGS - 1);

	oa_opaque(at);
	return at < NEAR_MAPPINGS ? &s->near_mappings[at] : (struct oa_near_mapping *)0;
}

static __always_inline struct oa_near_row *near_row(struct oa_state *s, u64 addr)
{
	u64 at = (addr * 0x9e3779b97f4a7c15ULL) >> 32 & (NEAR_ROWS - 1);

	oa_opaque(at);
	return at < NEAR_ROWS ? &s->near_rows[at] : (struct oa_near_row *)0;
}

/* Forget what was looked up if user space has changed something since then. */
static __always_inline void refresh(struct oa_state *s)
{
	u64 epoch = *(volatile u64 *)&s->cpu.epoch;

	if (s->seen_epoch == epoch)
		return;
	s->seen_epoch = epoch;
	s->last.generation.start_ns = 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < NEAR_MAPPINGS; i++)
		s->near_mappings[i].space = 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < NEAR_RULES; i++)
		s->near_rules[i].number = 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < NEAR_ROWS; i++)
		s->near_rows[i].space = 0;
}

/* Make s->mapping the one that the pc lies in; false if it lies in none. */
static __always_inline bool resolve(struct oa_state *s)
{
	u64 addr = lookup_pc(s);
	const struct oa_mapping *found;
	struct oa_near_mapping *slot;

	if (addr >= s->mapping.start && addr < s->mapping.end)
		return true;
	slot = near_mapping(s, addr);
	if (!slot)
		return false;
	if (slot->space == s->space && addr >= slot->mapping.start && addr < slot->mapping.end) {
		s->mapping = slot->mapping;
		return true;
	}
	found = find_mapping(s, addr);
	if (!found)
		return false;
	s->mapping = *found;
	slot->mapping = *found;
	slot->space = s->space;
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

/* Make s->page the one that an ELF address lies in; false if its file has none there. */
static __always_inline bool find_page(struct oa_state *s, u64 elf_addr)
{
	struct oa_page_key key = {
		.file_id = s->mapping.file_id,
		.page = elf_addr >> OA_PAGE_BITS,
	};
	const struct oa_page *page;

	if (key.file_id == s->page_key.file_id && key.page == s->page_key.page)
		return true;
	page = bpf_map_lookup_elem(&pages, &key);
	s->lookups++;
	if (!page)
		return false;
	s->page_key = key;
	s->page = *page;
	return true;
}

/* Search the rows of s->page: a rule's index or a command (enum oa_row). */
static __always_inline u32 search_rows(struct oa_state *s, u32 low)
{
	void *chunk = bpf_map_lookup_elem(&rows, &s->page.chunk);
	u32 first = s->page.first, size = s->page.count, half, row;
	u64 below;

	s->lookups++;
	if (!chunk || !size)
		return OA_ROW_NONE;
#pragma clang loop unroll(disable)
	for (int i = 0; i < OA_SEARCH_STEPS; i++) {
		if (size <= 1)
			break;
		half = size >> 1;
		row = read_row(chunk, first + half);
		/* verifier: not a branch, which would be looked at in both ways in each turn. */
		below = ((u64)(row & 0xffff) - low - 1) >> 63; /* 1: the row is not behind it */
		oa_opaque(below);
		first += half * below;
		size = half + (size & below);
	}
	return read_row(chunk, first) >> 16;
}

/* Make s->rule the one with this index; false if there is none.
 *
 * verifier: it is copied, also from where it is kept, so that what follows is looked at
 * once: unwind_python took 887,000 instructions with a pointer to either (6.18).
 */
static __always_inline bool find_rule(struct oa_state *s, u32 index)
{
	u32 at = index & (NEAR_RULES - 1);
	const struct oa_rule *rule;
	struct oa_near_rule *slot;

	oa_opaque(at);
	if (at >= NEAR_RULES)
		return false;
	slot = &s->near_rules[at];
	if (slot->number != index + 1) {
		rule = bpf_map_lookup_elem(&rules, &index);
		s->lookups++;
		if (!rule)
			return false;
		slot->rule = *rule;
		slot->number = index + 1;
	}
	s->rule = slot->rule;
	return true;
}

/* Find what holds at an address in s->mapping. */
static __always_inline u32 find_row(struct oa_state *s, u64 addr)
{
	u64 elf_addr = addr - s->mapping.bias;
	struct oa_near_row *slot = near_row(s, addr);

	if (!slot)
		return OA_ROW_NONE;
	if (slot->addr == addr && slot->space == s->space)
		return slot->row;
	if (!find_page(s, elf_addr))
		return OA_ROW_NONE;
	slot->row = search_rows(s, elf_addr & 0xffff);
	slot->addr = addr;
	slot->space = s->space;
	return slot->row;
}

#endif
