/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Where functions begin in code that nothing describes: symbols, calls, addresses that are taken.
 */
#include "code_starts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "code_flow.h"

enum {
	SYMBOL_BYTES = 24, /* Elf64_Sym */
	STT_FUNC = 2,
	STT_GNU_IFUNC = 10,
	ALIGNMENT = 16, /* of functions whose address is taken */
	MAX_STARTS = 1 << 22,
};

static const char PART[] = ".cold";

int oa_starts_add(struct oa_starts *starts, u64 offset, u32 known)
{
	u64 capacity = starts->capacity * 2 + 1024;
	u64 *bigger;

	if (starts->count >= MAX_STARTS)
		return 0;
	if (starts->count == starts->capacity) {
		bigger = realloc(starts->items, capacity * sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		starts->items = bigger;
		starts->capacity = capacity;
	}
	starts->items[starts->count++] = offset << OA_START_KNOWN_BITS | known;
	return 0;
}

int oa_starts_compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

void oa_starts_sort(struct oa_starts *starts)
{
	u64 i, n = 0;

	if (!starts->count)
		return;
	qsort(starts->items, starts->count, sizeof(*starts->items), oa_starts_compare);
	for (i = 1; i < starts->count; i++)
		if (starts->items[i] >> OA_START_KNOWN_BITS ==
		    starts->items[n] >> OA_START_KNOWN_BITS)
			starts->items[n] = starts->items[i]; /* the larger one: more is known */
		else
			starts->items[++n] = starts->items[i];
	starts->count = starts->sorted = n + 1;
}

u64 oa_starts_find(const struct oa_starts *starts, u64 offset)
{
	u64 low = 0, high = starts->sorted, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (starts->items[middle] >> OA_START_KNOWN_BITS < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Tell whether a symbol is a function that is defined here, and where it begins. */
static int is_function(const u8 *symbol, u64 *value)
{
	u16 section;

	memcpy(&section, symbol + 6, sizeof(section));
	memcpy(value, symbol + 8, sizeof(*value));
	return section && ((symbol[4] & 15) == STT_FUNC || (symbol[4] & 15) == STT_GNU_IFUNC);
}

static int is_in(const struct oa_range *gaps, u64 count, u64 addr)
{
	u64 low = 0, high = count, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (gaps[middle].end <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && gaps[low].start <= addr;
}

/* No function begins where one of its parts was put elsewhere. */
static int is_part(const u8 *symbol, const char *strings, u64 size)
{
	u64 length;
	u32 name;

	memcpy(&name, symbol, sizeof(name));
	if (name >= size)
		return 0;
	length = strnlen(strings + name, size - name);
	return length >= strlen(PART) &&
	       !memcmp(strings + name + length - strlen(PART), PART, strlen(PART));
}

u64 oa_code_symbols(const u8 *symbols, u64 count, const char *strings, u64 strings_size,
		    const struct oa_range *gaps, u64 gap_count, u8 *wanted)
{
	u64 i, value, n = 0;
	const u8 *symbol;

	for (i = 0; i < count; i++) {
		symbol = symbols + i * SYMBOL_BYTES;
		if (is_function(symbol, &value) && is_in(gaps, gap_count, value) &&
		    !is_part(symbol, strings, strings_size))
			memcpy(wanted + n++ * SYMBOL_BYTES, symbol, SYMBOL_BYTES);
	}
	return n;
}

int oa_starts_add_symbols(struct oa_starts *starts, const struct oa_code *code)
{
	u64 i, value;

	for (i = 0; i < code->symbol_count; i++) {
		if (!is_function(code->symbols + i * SYMBOL_BYTES, &value))
			continue;
		if (value < code->addr || value - code->addr >= code->size)
			continue;
		if (oa_starts_add(starts, value - code->addr, OA_FLOW_NAMED))
			return -ENOMEM;
	}
	return 0;
}

/* Tell that an address that is taken may be a function's: it is aligned, behind padding or a
 * return.
 */
static int may_begin(const struct oa_code *code, u64 offset)
{
	u8 before = offset ? code->data[offset - 1] : 0xcc;

	return !((code->addr + offset) % ALIGNMENT) &&
	       (before == 0xcc || before == 0x90 || before == 0xc3 || !before);
}

int oa_starts_add_called(struct oa_starts *starts, const struct oa_code *code, u64 at, u64 end)
{
	u64 known = starts->sorted, i = oa_starts_find(starts, at), target;
	struct oa_insn insn;

	while (at < end) {
		while (i < known && starts->items[i] >> OA_START_KNOWN_BITS <= at)
			i++;
		oa_x86_decode(code->data + at, end - at, &insn);
		if (i < known && at + insn.length > starts->items[i] >> OA_START_KNOWN_BITS) {
			at = starts->items[i] >> OA_START_KNOWN_BITS;
			continue;
		}
		at += insn.length;
		target = at + (u64)(s64)insn.value;
		if (target >= code->size)
			continue;
		if (insn.kind == OA_INSN_CALL && insn.value &&
		    oa_starts_add(starts, target, OA_FLOW_CALLED))
			return -ENOMEM;
		if (insn.kind == OA_INSN_ADDRESS && insn.value && may_begin(code, target) &&
		    oa_starts_add(starts, target, OA_FLOW_TAKEN))
			return -ENOMEM;
	}
	return 0;
}
