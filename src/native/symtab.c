/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "symtab_entries.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

struct oa_symtab *oa_symtab_new(const struct oa_span *text, u32 count)
{
	struct oa_symtab *table = calloc(1, sizeof(*table));

	if (!table)
		return NULL;
	table->text = calloc(count + 1u, sizeof(*text));
	if (!table->text) {
		free(table);
		return NULL;
	}
	memcpy(table->text, text, count * sizeof(*text));
	table->text_count = count;
	return table;
}

void oa_symtab_free(struct oa_symtab *table)
{
	if (!table)
		return;
	free(table->text);
	free(table->entries);
	free(table->ranges);
	free(table);
}

u64 oa_symtab_text_end(const struct oa_symtab *table, u64 addr)
{
	u32 low = 0, high = table->text_count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (table->text[middle].end <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == table->text_count || addr < table->text[low].start)
		return 0;
	return table->text[low].end;
}

static u32 rank_of(const Elf64_Sym *symbol)
{
	u32 type = ELF64_ST_TYPE(symbol->st_info), bind = ELF64_ST_BIND(symbol->st_info);
	u32 rank = bind == STB_LOCAL ? RANK_LOCAL : bind == STB_WEAK ? RANK_WEAK : RANK_GLOBAL;

	if (type == STT_OBJECT || type == STT_TLS || type == STT_COMMON)
		return RANK_UNNAMED;
	if (type == STT_NOTYPE)
		rank = bind == STB_LOCAL ? RANK_LABEL : rank;
	else
		rank += RANK_STEP;
	return symbol->st_size ? rank + RANK_SIZED : rank;
}

s32 oa_symtab_push(struct oa_symtab *table, struct oa_symtab_entry entry)
{
	if (table->count == table->room) {
		u64 room = table->room ? table->room * 2 : 1024;
		struct oa_symtab_entry *grown;

		if (table->count >= OA_SYMTAB_MAX_SYMBOLS)
			return -1;
		grown = realloc(table->entries, room * sizeof(*grown));
		if (!grown)
			return -1;
		table->entries = grown;
		table->room = room;
	}
	table->entries[table->count++] = entry;
	return 0;
}

s32 oa_symtab_add(struct oa_symtab *table, const u8 *bytes, u64 size, u32 strings, u64 strings_size)
{
	Elf64_Sym symbol;

	if (strings >= OA_SYMTAB_TABLES)
		return -1;
	for (u64 at = 0; at + sizeof(symbol) <= size; at += sizeof(symbol)) {
		u32 type, rank;
		u64 end;

		memcpy(&symbol, bytes + at, sizeof(symbol));
		type = ELF64_ST_TYPE(symbol.st_info);
		if (symbol.st_shndx == SHN_UNDEF || type == STT_SECTION || type == STT_FILE)
			continue;
		if (!symbol.st_name || symbol.st_name >= strings_size ||
		    symbol.st_name >> OA_SYMTAB_NAME_BITS)
			continue;
		end = oa_symtab_text_end(table, symbol.st_value);
		if (!end)
			continue;
		rank = rank_of(&symbol);
		end -= symbol.st_value;
		if (end > UINT32_MAX)
			end = UINT32_MAX;
		if (oa_symtab_push(
			    table,
			    (struct oa_symtab_entry){
				    .addr = symbol.st_value,
				    .size = symbol.st_size > end ? (u32)end : (u32)symbol.st_size,
				    .name = symbol.st_name | strings << OA_SYMTAB_NAME_BITS,
				    .rank = rank,
				    .end_clamp = (u32)end,
			    }))
			return -1;
	}
	return 0;
}

s32 oa_symtab_add_end(struct oa_symtab *table, u64 addr)
{
	return oa_symtab_push(table, (struct oa_symtab_entry){.addr = addr, .rank = RANK_UNNAMED});
}

s32 oa_symtab_add_ends(struct oa_symtab *table, const u8 *pairs, u64 size, u64 base)
{
	for (u64 at = 0; at + 8 <= size; at += 8) {
		s32 offset;

		memcpy(&offset, pairs + at, sizeof(offset));
		if (oa_symtab_add_end(table, base + (u64)(s64)offset))
			return -1;
	}
	return 0;
}

static int is_label(const struct oa_symtab_entry *entry)
{
	return entry->rank == RANK_LABEL || entry->rank == RANK_LABEL + RANK_SIZED;
}

u32 oa_symtab_doubtful(const struct oa_symtab *table, u32 strings, u32 *at, u32 *names,
		       u32 *indices, u32 room)
{
	u32 count = 0, index = *at;

	for (; index < table->count && count < room; index++) {
		const struct oa_symtab_entry *entry = &table->entries[index];

		if (!is_label(entry) || entry->name >> OA_SYMTAB_NAME_BITS != strings)
			continue;
		names[count] = entry->name & ((1u << OA_SYMTAB_NAME_BITS) - 1);
		indices[count++] = index;
	}
	*at = index;
	return count;
}

void oa_symtab_drop(struct oa_symtab *table, u32 index)
{
	if (index < table->count)
		table->entries[index].rank = UINT32_MAX;
}

u32 oa_symtab_unsized(const struct oa_symtab *table, u32 least, u64 *at, u64 *addrs, u32 *indices,
		      u32 room)
{
	u32 count = 0;
	u64 index = *at;

	for (; index < table->count && count < room; index++) {
		const struct oa_symtab_entry *entry = &table->entries[index];

		if (entry->size || entry->rank == RANK_UNNAMED || entry->rank == UINT32_MAX ||
		    entry->end_clamp <= least)
			continue;
		addrs[count] = entry->addr;
		indices[count++] = (u32)index;
	}
	*at = index;
	return count;
}

void oa_symtab_bound(struct oa_symtab *table, u32 index, u64 size)
{
	if (index < table->count && size < table->entries[index].end_clamp)
		table->entries[index].end_clamp = (u32)size;
}

static void remove_dropped(struct oa_symtab *table)
{
	u64 kept = 0;

	for (u64 i = 0; i < table->count; i++)
		if (table->entries[i].rank != UINT32_MAX)
			table->entries[kept++] = table->entries[i];
	table->count = kept;
}

/* One stable counting pass over 11 bits of the key. */
static void radix_pass(const struct oa_symtab_entry *from, struct oa_symtab_entry *to, u64 count,
		       u32 shift, int by_rank)
{
	u64 starts[2048] = {0}, sum = 0;

	for (u64 i = 0; i < count; i++)
		starts[by_rank ? from[i].rank & 2047 : from[i].addr >> shift & 2047]++;
	for (u32 digit = 0; digit < 2048; digit++) {
		u64 here = starts[digit];

		starts[digit] = sum;
		sum += here;
	}
	for (u64 i = 0; i < count; i++)
		to[starts[by_rank ? from[i].rank & 2047 : from[i].addr >> shift & 2047]++] =
			from[i];
}

/* Sort by address, then rank; equal ones: the first that was added wins, so it comes last. */
static s32 sort_entries(struct oa_symtab *table)
{
	struct oa_symtab_entry *other = malloc((table->count + 1) * sizeof(*other)), *swap;
	u64 all_or = 0, all_and = UINT64_MAX;

	if (!other)
		return -1;
	for (u64 i = 0; i < table->count; i++) {
		other[table->count - 1 - i] = table->entries[i];
		all_or |= table->entries[i].addr;
		all_and &= table->entries[i].addr;
	}
	radix_pass(other, table->entries, table->count, 0, 1);
	for (u32 shift = 0; shift < 64; shift += 11) {
		if (!((all_or ^ all_and) >> shift & 2047))
			continue; /* all symbols have the same digit here */
		radix_pass(table->entries, other, table->count, shift, 0);
		swap = table->entries;
		table->entries = other;
		other = swap;
		table->room = table->count + 1;
	}
	free(other);
	return 0;
}

static s32 emit(struct oa_symtab *table, u64 start, u64 end, u32 name)
{
	struct oa_symbol *last =
		table->ranges_count ? &table->ranges[table->ranges_count - 1] : NULL;

	if (start >= end)
		return 0;
	if (last && last->name == name && last->addr + last->size == start &&
	    end - last->addr <= UINT32_MAX) {
		last->size = (u32)(end - last->addr);
		return 0;
	}
	if (table->ranges_count == table->ranges_room) {
		u64 room = table->ranges_room + table->ranges_room / 4 + table->count + 16;
		struct oa_symbol *grown = realloc(table->ranges, room * sizeof(*grown));

		if (!grown)
			return -1;
		table->ranges = grown;
		table->ranges_room = room;
	}
	table->ranges[table->ranges_count++] =
		(struct oa_symbol){.addr = start, .size = (u32)(end - start), .name = name};
	return 0;
}

struct open_symbol {
	u64 end;
	u32 name;
};

/* Emit what open symbols own in [*position, until); the newest one owns first. */
static s32 advance(struct oa_symtab *table, struct open_symbol *stack, u64 *depth, u64 *position,
		   u64 until)
{
	while (*depth && *position < until) {
		struct open_symbol *top = &stack[*depth - 1];

		if (top->end <= *position) {
			(*depth)--;
			continue;
		}
		u64 end = top->end < until ? top->end : until;

		if (emit(table, *position, end, top->name))
			return -1;
		*position = end;
	}
	*position = until;
	while (*depth && stack[*depth - 1].end <= until)
		(*depth)--;
	return 0;
}

/* Turn sorted, overlapping symbols into disjoint ranges: the innermost owns. */
static s32 flatten(struct oa_symtab *table)
{
	struct open_symbol *stack = malloc((table->count + 1) * sizeof(*stack));
	u64 depth = 0, position = 0;
	s32 status = stack ? 0 : -1;

	for (u64 i = 0, next; i < table->count && !status; i = next) {
		struct oa_symtab_entry *first = &table->entries[i];
		u64 addr = first->addr;

		for (next = i + 1; next < table->count && table->entries[next].addr == addr;)
			next++;
		status = advance(table, stack, &depth, &position, addr);
		struct oa_symtab_entry *best = &table->entries[next - 1];

		if (best->size) {
			for (struct oa_symtab_entry *e = first; e <= best; e++)
				if (e->size)
					stack[depth++] =
						(struct open_symbol){addr + e->size, e->name};
		} else if (!depth && best->rank != RANK_UNNAMED) {
			u64 end = addr + best->end_clamp;

			if (next < table->count && table->entries[next].addr < end)
				end = table->entries[next].addr;
			stack[depth++] = (struct open_symbol){end, best->name};
		}
	}
	if (!status)
		status = advance(table, stack, &depth, &position, UINT64_MAX);
	free(stack);
	return status;
}

s64 oa_symtab_finish(struct oa_symtab *table)
{
	struct oa_symbol *trimmed;

	remove_dropped(table);
	for (u64 i = 0; i < table->count; i++)
		if (table->entries[i].rank == RANK_UNNAMED)
			table->entries[i].size = 0;
	if (sort_entries(table) || flatten(table))
		return -1;
	free(table->entries);
	table->entries = NULL;
	table->count = table->room = 0;
	trimmed = realloc(table->ranges, (table->ranges_count + 1) * sizeof(*trimmed));
	if (trimmed)
		table->ranges = trimmed;
	return (s64)table->ranges_count;
}

s32 oa_symtab_find(const struct oa_symtab *table, u64 addr, struct oa_symbol *found)
{
	u64 low = 0, high = table->ranges_count;

	while (low < high) {
		u64 middle = low + (high - low) / 2;

		if (table->ranges[middle].addr <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low || addr - table->ranges[low - 1].addr >= table->ranges[low - 1].size)
		return 0;
	*found = table->ranges[low - 1];
	return 1;
}

s32 oa_symtab_at(const struct oa_symtab *table, u64 index, struct oa_symbol *found)
{
	if (index >= table->ranges_count)
		return 0;
	*found = table->ranges[index];
	return 1;
}
