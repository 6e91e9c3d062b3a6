/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "loader.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A verifier log may have 16 MiB; what decides is at its end. */
enum { LOG_KEEP_BYTES = 64 * 1024, LOG_MAX_BYTES = 256 * 1024 };

struct oa_object {
	struct bpf_object *bpf;
	char *log;
	size_t log_bytes;
	int wants_log;
};

/* libbpf has one print function for the whole process and tells it nothing of the object. */
static __thread struct oa_object *talking;

static void append_log(struct oa_object *object, const char *text, size_t bytes)
{
	char *grown;

	if (bytes > LOG_KEEP_BYTES) {
		text += bytes - LOG_KEEP_BYTES;
		bytes = LOG_KEEP_BYTES;
	}
	if (object->log_bytes + bytes > LOG_MAX_BYTES)
		return;
	grown = realloc(object->log, object->log_bytes + bytes + 1);
	if (!grown)
		return;
	memcpy(grown + object->log_bytes, text, bytes);
	object->log = grown;
	object->log_bytes += bytes;
	object->log[object->log_bytes] = 0;
}

static int capture(enum libbpf_print_level level, const char *format, va_list args)
{
	char *text = NULL;
	int bytes;

	if (!talking)
		return 0;
	if (level == LIBBPF_DEBUG &&
	    !(talking->wants_log && strstr(format, "-- BEGIN PROG LOAD LOG --")))
		return 0;
	bytes = vasprintf(&text, format, args);
	if (bytes < 0)
		return 0;
	append_log(talking, text, (size_t)bytes);
	free(text);
	return bytes;
}

static void listen_to(struct oa_object *object)
{
	talking = object;
}

/* From the first moment on: without this libbpf writes to stderr. */
__attribute__((constructor)) static void silence_libbpf(void)
{
	libbpf_set_print(capture);
}

struct oa_object *oa_object_open(const char *path, s32 *error)
{
	struct oa_object *object = calloc(1, sizeof(*object));

	*error = 0;
	if (!object) {
		*error = -ENOMEM;
		return NULL;
	}
	listen_to(object);
	object->bpf = bpf_object__open_file(path, NULL);
	if (!object->bpf)
		*error = -errno;
	talking = NULL;
	return object;
}

void oa_object_close(struct oa_object *object)
{
	if (!object)
		return;
	bpf_object__close(object->bpf);
	free(object->log);
	free(object);
}

const char *oa_object_log(const struct oa_object *object)
{
	return object && object->log ? object->log : "";
}

void oa_object_want_log(struct oa_object *object, u32 level)
{
	struct bpf_program *program;

	object->wants_log = 1;
	bpf_object__for_each_program(program, object->bpf)
		bpf_program__set_log_level(program, level);
}

/* Find a global variable: which section's map it is in, where, and how large. */
static struct bpf_map *find_variable(struct oa_object *object, const char *name,
				     struct btf_var_secinfo *place)
{
	const struct btf *btf = bpf_object__btf(object->bpf);
	u32 count = btf ? btf__type_cnt(btf) : 0;

	for (u32 id = 1; id < count; id++) {
		const struct btf_type *section = btf__type_by_id(btf, id);
		const struct btf_var_secinfo *info = btf_var_secinfos(section);
		const char *section_name;

		if (!btf_is_datasec(section))
			continue;
		section_name = btf__name_by_offset(btf, section->name_off);
		for (u32 i = 0; i < btf_vlen(section); i++) {
			const struct btf_type *variable = btf__type_by_id(btf, info[i].type);

			if (strcmp(btf__name_by_offset(btf, variable->name_off), name))
				continue;
			*place = info[i];
			return bpf_object__find_map_by_name(object->bpf, section_name);
		}
	}
	return NULL;
}

s32 oa_object_set_variable(struct oa_object *object, const char *name, const void *value, u32 size)
{
	struct btf_var_secinfo place;
	struct bpf_map *map = find_variable(object, name, &place);
	size_t bytes;
	char *initial;

	if (!map)
		return -ENOENT;
	initial = (char *)bpf_map__initial_value(map, &bytes);
	if (!initial)
		return -ENOENT;
	if (place.size != size || place.offset > bytes || bytes - place.offset < size)
		return -EMSGSIZE;
	memcpy(initial + place.offset, value, size);
	return 0;
}

static struct bpf_map *find_map(struct oa_object *object, const char *name)
{
	return bpf_object__find_map_by_name(object->bpf, name);
}

static struct bpf_program *find_program(struct oa_object *object, const char *name)
{
	return bpf_object__find_program_by_name(object->bpf, name);
}

s32 oa_object_set_max_entries(struct oa_object *object, const char *map, u32 max_entries)
{
	struct bpf_map *found = find_map(object, map);

	return found ? bpf_map__set_max_entries(found, max_entries) : -ENOENT;
}

s32 oa_object_use_map(struct oa_object *object, const char *map, s32 fd)
{
	struct bpf_map *found = find_map(object, map);

	return found ? bpf_map__reuse_fd(found, fd) : -ENOENT;
}

s32 oa_object_set_autoload(struct oa_object *object, const char *program, s32 on)
{
	struct bpf_program *found = find_program(object, program);

	return found ? bpf_program__set_autoload(found, on) : -ENOENT;
}

s32 oa_object_load(struct oa_object *object)
{
	int error;

	listen_to(object);
	error = bpf_object__load(object->bpf);
	talking = NULL;
	return error;
}

s32 oa_object_map_info(struct oa_object *object, const char *map, struct oa_map_info *info)
{
	struct bpf_map *found = find_map(object, map);

	if (!found)
		return -ENOENT;
	info->fd = bpf_map__fd(found);
	info->type = bpf_map__type(found);
	info->key_size = bpf_map__key_size(found);
	info->value_size = bpf_map__value_size(found);
	info->max_entries = bpf_map__max_entries(found);
	info->flags = bpf_map__map_flags(found);
	return 0;
}

s32 oa_object_program_fd(struct oa_object *object, const char *program)
{
	struct bpf_program *found = find_program(object, program);

	return found ? bpf_program__fd(found) : -ENOENT;
}

const char *oa_object_program_name(struct oa_object *object, u32 index)
{
	struct bpf_program *program;

	bpf_object__for_each_program(program, object->bpf)
	{
		if (!index--)
			return bpf_program__name(program);
	}
	return NULL;
}

const char *oa_object_map_name(struct oa_object *object, u32 index)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, object->bpf)
	{
		if (!index--)
			return bpf_map__name(map);
	}
	return NULL;
}

s32 oa_object_struct_size(struct oa_object *object, const char *name)
{
	const struct btf *btf = bpf_object__btf(object->bpf);
	s32 id = btf ? btf__find_by_name_kind(btf, name, BTF_KIND_STRUCT) : -ENOENT;

	return id < 0 ? id : (s32)btf__resolve_size(btf, id);
}

s32 oa_object_core_relocations(const char *path)
{
	struct btf_ext *ext = NULL;
	struct btf *btf = btf__parse(path, &ext);
	const u8 *raw;
	u32 bytes = 0;
	u32 words[8] = {0};

	if (!btf)
		return -errno;
	raw = ext ? btf_ext__get_raw_data(ext, &bytes) : NULL;
	/* struct btf_ext_header: magic, version, flags, hdr_len, 4 u32 of func and line
	 * info, then core_relo_off and core_relo_len at 24 (libbpf keeps it private).
	 */
	if (raw && bytes >= sizeof(words))
		memcpy(words, raw, sizeof(words));
	btf_ext__free(ext);
	btf__free(btf);
	return words[1] >= sizeof(words) && words[7] > 0;
}

static struct oa_link *finish_link(struct bpf_link *link, s32 *error)
{
	*error = link ? 0 : -errno;
	talking = NULL;
	return (struct oa_link *)link;
}

static struct bpf_program *begin_link(struct oa_object *object, const char *program, s32 *error)
{
	struct bpf_program *found = find_program(object, program);

	if (!found)
		*error = -ENOENT;
	else
		listen_to(object);
	return found;
}

struct oa_link *oa_attach_perf_event(struct oa_object *object, const char *program, s32 event_fd,
				     s32 *error)
{
	struct bpf_program *found = begin_link(object, program, error);

	if (!found)
		return NULL;
	return finish_link(bpf_program__attach_perf_event(found, event_fd), error);
}

struct oa_link *oa_attach_raw_tracepoint(struct oa_object *object, const char *program,
					 const char *tracepoint, s32 *error)
{
	struct bpf_program *found = begin_link(object, program, error);

	if (!found)
		return NULL;
	return finish_link(bpf_program__attach_raw_tracepoint(found, tracepoint), error);
}

struct oa_link *oa_attach(struct oa_object *object, const char *program, s32 *error)
{
	struct bpf_program *found = begin_link(object, program, error);

	return found ? finish_link(bpf_program__attach(found), error) : NULL;
}

struct oa_link *oa_attach_tracepoint(struct oa_object *object, const char *program,
				     const char *category, const char *tracepoint, s32 *error)
{
	struct bpf_program *found = begin_link(object, program, error);

	if (!found)
		return NULL;
	return finish_link(bpf_program__attach_tracepoint(found, category, tracepoint), error);
}

struct oa_link *oa_attach_uprobe(struct oa_object *object, const char *program, s32 pid,
				 const char *path, u64 offset, s32 is_return, s32 *error)
{
	struct bpf_program *found = begin_link(object, program, error);

	if (!found)
		return NULL;
	return finish_link(bpf_program__attach_uprobe(found, is_return, pid, path, offset), error);
}

s32 oa_link_close(struct oa_link *link)
{
	return bpf_link__destroy((struct bpf_link *)link);
}
