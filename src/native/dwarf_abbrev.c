/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dwarf_abbrev.h"

#include <stdlib.h>

/* DWARF 5, 7.5.6, and what GNU added to DWARF 4. */
enum {
	FORM_ADDR = 0x01,
	FORM_BLOCK2 = 0x03,
	FORM_BLOCK4,
	FORM_DATA2,
	FORM_DATA4,
	FORM_DATA8,
	FORM_STRING,
	FORM_BLOCK,
	FORM_BLOCK1,
	FORM_DATA1,
	FORM_FLAG,
	FORM_SDATA,
	FORM_STRP,
	FORM_UDATA,
	FORM_REF_ADDR,
	FORM_REF1,
	FORM_REF2,
	FORM_REF4,
	FORM_REF8,
	FORM_REF_UDATA,
	FORM_INDIRECT,
	FORM_SEC_OFFSET,
	FORM_EXPRLOC,
	FORM_FLAG_PRESENT,
	FORM_STRX,
	FORM_ADDRX,
	FORM_REF_SUP4,
	FORM_STRP_SUP,
	FORM_DATA16,
	FORM_LINE_STRP,
	FORM_REF_SIG8,
	FORM_IMPLICIT_CONST,
	FORM_LOCLISTX,
	FORM_RNGLISTX,
	FORM_REF_SUP8,
	FORM_STRX1,
	FORM_STRX2,
	FORM_STRX3,
	FORM_STRX4,
	FORM_ADDRX1,
	FORM_ADDRX2,
	FORM_ADDRX3,
	FORM_ADDRX4,
	FORM_GNU_ADDR_INDEX = 0x1f01,
	FORM_GNU_STR_INDEX,
	FORM_GNU_REF_ALT = 0x1f20,
	FORM_GNU_STRP_ALT,
};

static int grow(void **array, u32 count, u32 size)
{
	void *grown;

	/* At powers of two. */
	if (count & (count - 1))
		return 0;
	if (count >= OA_MAX_ABBREVS)
		return -1;
	grown = realloc(*array, (size_t)size * (count ? count * 2 : 1));
	if (!grown)
		return -1;
	*array = grown;
	return 0;
}

static int add_attributes(struct oa_abbrevs *abbrevs, struct oa_abbrev *abbrev, struct oa_cursor *c)
{
	for (;;) {
		u64 name = oa_uleb(c), form = oa_uleb(c);
		s64 constant = form == FORM_IMPLICIT_CONST ? oa_sleb(c) : 0;

		if (c->bad || !oa_spend(abbrevs, 1))
			return -1;
		if (!name && !form)
			return 0;
		if (name > 0xffff || form > 0xffff ||
		    grow((void **)&abbrevs->attributes, abbrevs->attribute_count,
			 sizeof(*abbrevs->attributes)))
			return -1;
		abbrevs->attributes[abbrevs->attribute_count++] = (struct oa_attribute){
			.constant = constant, .name = (u16)name, .form = (u16)form};
		abbrev->count++;
	}
}

static int read_table(struct oa_abbrevs *abbrevs, struct oa_cursor *c)
{
	for (;;) {
		u64 code = oa_uleb(c);
		struct oa_abbrev abbrev = {.first = abbrevs->attribute_count};

		if (c->bad)
			return -1;
		if (!code)
			return 0;
		abbrev.tag = (u32)oa_uleb(c);
		oa_u8(c); /* whether it has children: all entries are looked at in a row */
		if (code != abbrevs->count + 1ull || add_attributes(abbrevs, &abbrev, c) ||
		    grow((void **)&abbrevs->abbrevs, abbrevs->count, sizeof(*abbrevs->abbrevs)))
			return -1;
		abbrevs->abbrevs[abbrevs->count++] = abbrev;
	}
}

int oa_read_abbrevs(struct oa_abbrevs *abbrevs, const u8 *section, u64 bytes, u64 offset)
{
	struct oa_cursor c = {section + (offset < bytes ? offset : bytes), section + bytes, 0};

	if (abbrevs->is_read && abbrevs->offset == offset)
		return 0;
	abbrevs->count = abbrevs->attribute_count = 0;
	abbrevs->offset = offset;
	abbrevs->is_read = !read_table(abbrevs, &c);
	return abbrevs->is_read ? 0 : -1;
}

void oa_drop_abbrevs(struct oa_abbrevs *abbrevs)
{
	free(abbrevs->abbrevs);
	free(abbrevs->attributes);
}

const struct oa_abbrev *oa_find_abbrev(const struct oa_abbrevs *abbrevs, u64 code)
{
	return code - 1 < abbrevs->count ? &abbrevs->abbrevs[code - 1] : NULL;
}

static void read_string(struct oa_cursor *c, struct oa_value *value)
{
	const u8 *end = c->at < c->end ? memchr(c->at, 0, oa_left(c)) : NULL;

	value->kind = OA_VALUE_STRING;
	value->at = c->at;
	if (!end) {
		oa_fail(c);
		return;
	}
	value->bytes = (u64)(end - c->at);
	c->at = end + 1;
}

static void set(struct oa_value *value, u32 kind, u64 number)
{
	value->kind = kind;
	value->number = number;
}

/* Forms that say something here; 0 if it is none of them. */
static int read_known(struct oa_cursor *c, u32 form, const struct oa_form_sizes *sizes,
		      struct oa_value *value)
{
	switch (form) {
	case FORM_DATA1:
	case FORM_FLAG:
		set(value, OA_VALUE_NUMBER, oa_u8(c));
		break;
	case FORM_DATA2:
		set(value, OA_VALUE_NUMBER, oa_fixed(c, 2));
		break;
	case FORM_DATA4:
		set(value, OA_VALUE_NUMBER, oa_fixed(c, 4));
		break;
	case FORM_DATA8:
		set(value, OA_VALUE_NUMBER, oa_fixed(c, 8));
		break;
	case FORM_UDATA:
		set(value, OA_VALUE_NUMBER, oa_uleb(c));
		break;
	case FORM_SDATA:
		set(value, OA_VALUE_NUMBER, (u64)oa_sleb(c));
		break;
	case FORM_FLAG_PRESENT:
		set(value, OA_VALUE_NUMBER, 1);
		break;
	case FORM_SEC_OFFSET:
		set(value, OA_VALUE_NUMBER, oa_fixed(c, sizes->offset));
		break;
	case FORM_STRING:
		read_string(c, value);
		break;
	case FORM_STRP:
		set(value, OA_VALUE_STR, oa_fixed(c, sizes->offset));
		break;
	case FORM_LINE_STRP:
		set(value, OA_VALUE_LINE_STR, oa_fixed(c, sizes->offset));
		break;
	case FORM_STRX:
	case FORM_GNU_STR_INDEX:
		set(value, OA_VALUE_STR_INDEX, oa_uleb(c));
		break;
	case FORM_STRX1:
	case FORM_STRX2:
	case FORM_STRX3:
	case FORM_STRX4:
		set(value, OA_VALUE_STR_INDEX, oa_fixed(c, form - FORM_STRX1 + 1));
		break;
	default:
		return 0;
	}
	return 1;
}

static int read_reference(struct oa_cursor *c, u32 form, const struct oa_form_sizes *sizes,
			  struct oa_value *value)
{
	switch (form) {
	case FORM_REF1:
	case FORM_REF2:
	case FORM_REF4:
	case FORM_REF8:
		set(value, OA_VALUE_UNIT_REF, oa_fixed(c, 1u << (form - FORM_REF1)));
		break;
	case FORM_REF_UDATA:
		set(value, OA_VALUE_UNIT_REF, oa_uleb(c));
		break;
	case FORM_REF_ADDR:
		set(value, OA_VALUE_INFO_REF, oa_fixed(c, sizes->ref_addr));
		break;
	default:
		return 0;
	}
	return 1;
}

/* Forms that are only gone over. */
static void skip_other(struct oa_cursor *c, u32 form, const struct oa_form_sizes *sizes)
{
	switch (form) {
	case FORM_ADDR:
		oa_skip(c, sizes->address);
		break;
	case FORM_ADDRX1:
	case FORM_ADDRX2:
	case FORM_ADDRX3:
	case FORM_ADDRX4:
		oa_skip(c, form - FORM_ADDRX1 + 1);
		break;
	case FORM_BLOCK1:
		oa_skip(c, oa_u8(c));
		break;
	case FORM_BLOCK2:
		oa_skip(c, oa_fixed(c, 2));
		break;
	case FORM_BLOCK4:
		oa_skip(c, oa_fixed(c, 4));
		break;
	case FORM_BLOCK:
	case FORM_EXPRLOC:
		oa_skip(c, oa_uleb(c));
		break;
	case FORM_ADDRX:
	case FORM_LOCLISTX:
	case FORM_RNGLISTX:
	case FORM_GNU_ADDR_INDEX:
		oa_uleb(c);
		break;
	case FORM_STRP_SUP:
	case FORM_GNU_REF_ALT:
	case FORM_GNU_STRP_ALT:
		oa_skip(c, sizes->offset);
		break;
	case FORM_REF_SUP4:
		oa_skip(c, 4);
		break;
	case FORM_REF_SIG8:
	case FORM_REF_SUP8:
		oa_skip(c, 8);
		break;
	case FORM_DATA16:
		oa_skip(c, 16);
		break;
	default:
		oa_fail(c);
	}
}

void oa_read_value(struct oa_cursor *c, const struct oa_attribute *attribute,
		   const struct oa_form_sizes *sizes, struct oa_value *value)
{
	u64 form = attribute->form;

	*value = (struct oa_value){.kind = OA_VALUE_OTHER};
	if (form == FORM_INDIRECT)
		form = oa_uleb(c);
	if (form == FORM_IMPLICIT_CONST && attribute->form == form)
		set(value, OA_VALUE_NUMBER, (u64)attribute->constant);
	else if (form > 0xffff)
		oa_fail(c);
	else if (!read_known(c, (u32)form, sizes, value) &&
		 !read_reference(c, (u32)form, sizes, value))
		skip_other(c, (u32)form, sizes);
}

void oa_skip_entry(struct oa_cursor *c, struct oa_abbrevs *abbrevs, const struct oa_abbrev *abbrev,
		   const struct oa_form_sizes *sizes)
{
	struct oa_value value;

	for (u32 i = 0; i < abbrev->count && !c->bad; i++)
		oa_read_value(c, &abbrevs->attributes[abbrev->first + i], sizes, &value);
	oa_spend(abbrevs, abbrev->count / 4);
}
