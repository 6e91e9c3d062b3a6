/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "declared.h"
#include "dwarf_abbrev.h"

#include <stdlib.h>

enum {
	MAX_CHAIN = 8, /* an instance of a specification of a declaration is three */
	/* DWARF 5, 7.5.3, 7.5.4 and 7.5.1 */
	TAG_SUBPROGRAM = 0x2e,
	AT_NAME = 0x03,
	AT_ABSTRACT_ORIGIN = 0x31,
	AT_DECL_LINE = 0x3b,
	AT_DECLARATION = 0x3c,
	AT_SPECIFICATION = 0x47,
	AT_LINKAGE_NAME = 0x6e,
	AT_STR_OFFSETS_BASE = 0x72,
	AT_MIPS_LINKAGE_NAME = 0x2007,
	UT_COMPILE = 1,
	UT_PARTIAL = 3,
};

/* A DW_TAG_subprogram, by its place in .debug_info. */
struct function {
	u64 at;
	u64 origin; /* what it is an instance or a specification of; 0: of nothing */
	u64 name; /* hashes; 0: it has none */
	u64 linkage;
	u32 line;
	u16 is_declaration;
	u16 is_instance; /* out of line, or inlined and cloned */
};

struct reader {
	const struct oa_dwarf *dwarf;
	struct oa_abbrevs abbrevs;
	struct function *functions; /* in the order of `at` */
	u32 count;
	u32 capacity;
	/* Of the unit. */
	u64 unit; /* where it begins */
	u64 str_offsets;
	struct oa_form_sizes sizes;
};

u64 oa_declared_hash(const u8 *name, u64 bytes)
{
	u64 hash = 0xcbf29ce484222325;

	for (u64 i = 0; i < bytes; i++)
		hash = (hash ^ name[i]) * 0x100000001b3;
	hash ^= hash >> 32;
	return hash ? hash : 1;
}

/* The hash of what stands at `offset` of a section of strings; 0 if nothing does. */
static u64 hash_string(struct reader *r, const u8 *section, u64 bytes, u64 offset)
{
	const u8 *end;
	u64 length;

	if (offset >= bytes)
		return 0;
	end = memchr(section + offset, 0, bytes - offset);
	if (!end)
		return 0;
	length = (u64)(end - section) - offset;
	oa_spend(&r->abbrevs, length / 16);
	return length ? oa_declared_hash(section + offset, length) : 0;
}

static u64 hash_indexed(struct reader *r, u64 index)
{
	const struct oa_dwarf *dwarf = r->dwarf;
	u64 offset = 0, width = r->sizes.offset;
	u64 at = r->str_offsets + index * width;

	if (index >= dwarf->str_offsets_bytes || at > dwarf->str_offsets_bytes ||
	    dwarf->str_offsets_bytes - at < width)
		return 0;
	memcpy(&offset, dwarf->str_offsets + at, width);
	return hash_string(r, dwarf->str, dwarf->str_bytes, offset);
}

static u64 hash_value(struct reader *r, const struct oa_value *value)
{
	const struct oa_dwarf *dwarf = r->dwarf;

	switch (value->kind) {
	case OA_VALUE_STRING:
		return value->bytes ? oa_declared_hash(value->at, value->bytes) : 0;
	case OA_VALUE_STR:
		return hash_string(r, dwarf->str, dwarf->str_bytes, value->number);
	case OA_VALUE_LINE_STR:
		return hash_string(r, dwarf->line_str, dwarf->line_str_bytes, value->number);
	case OA_VALUE_STR_INDEX:
		return hash_indexed(r, value->number);
	default:
		return 0;
	}
}

static u64 place_of(const struct reader *r, const struct oa_value *value)
{
	if (value->kind == OA_VALUE_UNIT_REF)
		return r->unit + value->number;
	return value->kind == OA_VALUE_INFO_REF ? value->number : 0;
}

static int keep(struct reader *r, const struct function *function)
{
	struct function *grown;
	u32 capacity;

	if (r->count == r->capacity) {
		capacity = r->capacity ? r->capacity * 2 : 1024;
		grown = r->count < OA_DECLARED_MAX
				? realloc(r->functions, capacity * sizeof(*grown))
				: NULL;
		if (!grown)
			return -1;
		r->functions = grown;
		r->capacity = capacity;
	}
	r->functions[r->count++] = *function;
	return 0;
}

static void take(struct reader *r, struct function *function, u32 attribute,
		 const struct oa_value *value)
{
	switch (attribute) {
	case AT_NAME:
		function->name = hash_value(r, value);
		break;
	case AT_LINKAGE_NAME:
	case AT_MIPS_LINKAGE_NAME:
		function->linkage = hash_value(r, value);
		break;
	case AT_DECL_LINE:
		if (value->kind == OA_VALUE_NUMBER && value->number < 1u << 31)
			function->line = (u32)value->number;
		break;
	case AT_DECLARATION:
		function->is_declaration = value->number != 0;
		break;
	case AT_ABSTRACT_ORIGIN:
		function->is_instance = 1;
		function->origin = place_of(r, value);
		break;
	case AT_SPECIFICATION:
		function->origin = place_of(r, value);
		break;
	default:
		break;
	}
}

static int read_function(struct reader *r, struct oa_cursor *c, const struct oa_abbrev *abbrev,
			 u64 at)
{
	struct function function = {.at = at};
	struct oa_value value;

	for (u32 i = 0; i < abbrev->count; i++) {
		const struct oa_attribute *attribute = &r->abbrevs.attributes[abbrev->first + i];

		oa_read_value(c, attribute, &r->sizes, &value);
		if (!c->bad)
			take(r, &function, attribute->name, &value);
	}
	/* An instance, of which the one that it is of tells all. */
	if (function.is_instance && !function.name && !function.linkage)
		return 0;
	return keep(r, &function);
}

/* Read what the unit's own entry says of the others. */
static void read_unit_entry(struct reader *r, struct oa_cursor *c, const struct oa_abbrev *abbrev)
{
	struct oa_value value;

	for (u32 i = 0; i < abbrev->count; i++) {
		const struct oa_attribute *attribute = &r->abbrevs.attributes[abbrev->first + i];

		oa_read_value(c, attribute, &r->sizes, &value);
		if (attribute->name == AT_STR_OFFSETS_BASE && value.kind == OA_VALUE_NUMBER)
			r->str_offsets = value.number;
	}
}

static int read_entries(struct reader *r, struct oa_cursor *c)
{
	const struct oa_abbrev *abbrev;
	int is_first = 1;

	while (c->at < c->end && !c->bad) {
		u64 at = (u64)(c->at - r->dwarf->info);
		u64 code = oa_uleb(c);

		if (!oa_spend(&r->abbrevs, 1))
			return -1;
		if (!code)
			continue;
		abbrev = oa_find_abbrev(&r->abbrevs, code);
		if (!abbrev)
			return 0;
		if (is_first)
			read_unit_entry(r, c, abbrev);
		else if (abbrev->tag != TAG_SUBPROGRAM)
			oa_skip_entry(c, &r->abbrevs, abbrev, &r->sizes);
		else if (read_function(r, c, abbrev, at))
			return -1;
		is_first = 0;
	}
	return 0;
}

static int read_unit(struct reader *r, struct oa_cursor *c)
{
	u32 version, type = UT_COMPILE;
	u64 abbrevs;

	r->str_offsets = r->sizes.offset * 2; /* behind the header of .debug_str_offsets */
	version = (u32)oa_fixed(c, 2);
	if (version < 2 || version > 5)
		return 0;
	if (version == 5) {
		type = oa_u8(c);
		r->sizes.address = oa_u8(c);
		abbrevs = oa_fixed(c, r->sizes.offset);
	} else {
		abbrevs = oa_fixed(c, r->sizes.offset);
		r->sizes.address = oa_u8(c);
	}
	r->sizes.ref_addr = version == 2 ? r->sizes.address : r->sizes.offset;
	if (c->bad || r->sizes.address > 8 || (type != UT_COMPILE && type != UT_PARTIAL))
		return 0;
	if (oa_read_abbrevs(&r->abbrevs, r->dwarf->abbrev, r->dwarf->abbrev_bytes, abbrevs))
		return r->abbrevs.budget ? 0 : -1;
	return read_entries(r, c);
}

static int read_units(struct reader *r)
{
	const struct oa_dwarf *dwarf = r->dwarf;
	struct oa_cursor c = {dwarf->info, dwarf->info + dwarf->info_bytes, 0};

	while (c.at < c.end) {
		struct oa_cursor unit;
		u64 length;

		r->unit = (u64)(c.at - dwarf->info);
		length = oa_fixed(&c, 4);
		r->sizes.offset = length == 0xffffffff ? 8 : 4;
		if (length == 0xffffffff)
			length = oa_fixed(&c, 8);
		unit = oa_cut(&c, length);
		if (c.bad)
			return 0;
		if (read_unit(r, &unit))
			return -1;
	}
	return 0;
}

static const struct function *find(const struct reader *r, u64 at)
{
	u32 low = 0, high = r->count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (r->functions[middle].at == at)
			return &r->functions[middle];
		if (r->functions[middle].at < at)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* The name and line of a function, its own or those of what it comes from. */
static struct oa_declared resolve(const struct reader *r, const struct function *function)
{
	u64 name = 0, linkage = 0;
	u32 line = 0;

	for (u32 i = 0; function && i < MAX_CHAIN; i++) {
		name = name ? name : function->name;
		linkage = linkage ? linkage : function->linkage;
		line = line ? line : function->line;
		function = function->origin ? find(r, function->origin) : NULL;
	}
	return (struct oa_declared){.name = linkage ? linkage : name, .line = line};
}

static int compare(const void *left, const void *right)
{
	const struct oa_declared *a = left, *b = right;

	if (a->name != b->name)
		return a->name < b->name ? -1 : 1;
	return a->line < b->line ? -1 : a->line > b->line;
}

/* Keep one of each name, and none of a name with several lines, or without one somewhere. */
static s64 unite(struct oa_declared *found, u64 count)
{
	u64 kept = 0, next;

	qsort(found, count, sizeof(*found), compare);
	for (u64 i = 0; i < count; i = next) {
		for (next = i + 1; next < count && found[next].name == found[i].name; next++)
			;
		if (found[i].name && found[i].line && found[i].line == found[next - 1].line)
			found[kept++] = found[i];
	}
	return (s64)kept;
}

static s64 finish(const struct reader *r, struct oa_declared **out)
{
	struct oa_declared *found = malloc((r->count + 1) * sizeof(*found));
	u64 count = 0;

	if (!found)
		return -1;
	for (u32 i = 0; i < r->count; i++)
		if (!r->functions[i].is_declaration)
			found[count++] = resolve(r, &r->functions[i]);
	*out = found;
	return unite(found, count);
}

s64 oa_declared_read(const struct oa_dwarf *dwarf, struct oa_declared **out)
{
	struct reader r = {.dwarf = dwarf, .abbrevs = {.budget = OA_DWARF_BUDGET}};
	s64 count = -1;

	*out = NULL;
	if (!read_units(&r))
		count = finish(&r, out);
	oa_drop_abbrevs(&r.abbrevs);
	free(r.functions);
	return count;
}

void oa_declared_free(struct oa_declared *found)
{
	free(found);
}
