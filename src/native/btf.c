/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "btf.h"

#include <bpf/btf.h>
#include <errno.h>
#include <string.h>

/* A file that was made by hand may nest or refer to itself without end. */
enum { MAX_DEPTH = 16, MAX_MEMBERS = 100000 };

struct oa_btf *oa_btf_open(const char *path, s32 *error)
{
	struct btf *btf = btf__parse(path, NULL);

	*error = btf ? 0 : -errno;
	return (struct oa_btf *)btf;
}

void oa_btf_close(struct oa_btf *btf)
{
	btf__free((struct btf *)btf);
}

static const struct btf_type *strip(const struct btf *btf, u32 id)
{
	const struct btf_type *type = btf__type_by_id(btf, id);

	for (int depth = 0; type && (btf_is_mod(type) || btf_is_typedef(type)); depth++) {
		if (depth == MAX_DEPTH)
			return NULL;
		type = btf__type_by_id(btf, type->type);
	}
	return type;
}

struct place {
	const struct btf_type *type;
	u32 bits;
	int is_bit_field;
	u32 looked_at;
};

/* Find the member called `name` (`bytes` long) in `place`, and go there. */
static int enter(const struct btf *btf, struct place *place, const char *name, size_t bytes,
		 int depth)
{
	const struct btf_type *type = place->type;

	if (!type || !btf_is_composite(type) || depth == MAX_DEPTH)
		return -ENOENT;
	for (u32 i = 0; i < btf_vlen(type); i++) {
		const struct btf_member *member = btf_members(type) + i;
		const char *found = btf__name_by_offset(btf, member->name_off);
		struct place inner = {
			.type = strip(btf, member->type),
			.bits = place->bits + btf_member_bit_offset(type, i),
			.is_bit_field = btf_member_bitfield_size(type, i) != 0,
			.looked_at = place->looked_at + 1,
		};

		if (++place->looked_at > MAX_MEMBERS)
			return -E2BIG;
		if (found && found[0]) {
			if (strncmp(found, name, bytes) || found[bytes])
				continue;
		} else if (enter(btf, &inner, name, bytes, depth + 1)) {
			place->looked_at = inner.looked_at;
			continue;
		}
		*place = inner;
		return 0;
	}
	return -ENOENT;
}

s32 oa_btf_offset(const struct oa_btf *handle, const char *type, const char *path)
{
	const struct btf *btf = (const struct btf *)handle;
	s32 id = btf__find_by_name_kind(btf, type, BTF_KIND_STRUCT);
	struct place place = {0};

	if (id < 0)
		return id;
	place.type = btf__type_by_id(btf, (u32)id);
	while (*path) {
		size_t bytes = strcspn(path, ".");
		int error = enter(btf, &place, path, bytes, 0);

		if (error)
			return error;
		path += bytes + (path[bytes] == '.');
	}
	return place.is_bit_field || place.bits % 8 ? -EINVAL : (s32)(place.bits / 8);
}
