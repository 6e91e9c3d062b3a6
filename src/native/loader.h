/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_LOADER_H
#define OA_LOADER_H
#ifndef OA_CDEF
#include "types.h"
#endif

/* BPF objects, programs, maps and links over libbpf >= 1.1. Functions return
 * 0 (or a count, or a file descriptor) or -errno; nothing is printed. An
 * object is used by one thread at a time, file descriptors of maps by any.
 */
struct oa_object;
struct oa_link;

/* What a map is; `flags` as in the kernel's BPF_F_*. */
struct oa_map_info {
	s32 fd;
	u32 type;
	u32 key_size;
	u32 value_size;
	u32 max_entries;
	u32 flags;
};

/* An object always comes back (NULL: no memory), so that its log can be read. */
struct oa_object *oa_object_open(const char *path, s32 *error);
void oa_object_close(struct oa_object *object);
/* What libbpf and the verifier said since the object was opened. */
const char *oa_object_log(const struct oa_object *object);
/* From the load on the log tells what the verifier says (BPF_LOG_*, linux/bpf_verifier.h). */
void oa_object_want_log(struct oa_object *object, u32 level);
s32 oa_object_set_variable(struct oa_object *object, const char *name, const void *value, u32 size);
s32 oa_object_set_max_entries(struct oa_object *object, const char *map, u32 max_entries);
/* Use another object's map in place of an own one of that name; before the load. */
s32 oa_object_use_map(struct oa_object *object, const char *map, s32 fd);
s32 oa_object_set_autoload(struct oa_object *object, const char *program, s32 on);
s32 oa_object_load(struct oa_object *object);
s32 oa_object_map_info(struct oa_object *object, const char *map, struct oa_map_info *info);
s32 oa_object_program_fd(struct oa_object *object, const char *program);
/* Names by index, NULL behind the last. */
const char *oa_object_program_name(struct oa_object *object, u32 index);
const char *oa_object_map_name(struct oa_object *object, u32 index);
/* Bytes of a struct in the object's BTF, or -ENOENT. */
s32 oa_object_struct_size(struct oa_object *object, const char *name);
/* Loads the object's BTF section only: 1 if it has CO-RE relocations, 0 if not, or -errno. */
s32 oa_object_core_relocations(const char *path);

/* A link that is made of a perf event owns its file descriptor afterwards. */
struct oa_link *oa_attach_perf_event(struct oa_object *object, const char *program, s32 event_fd,
				     s32 *error);
struct oa_link *oa_attach_raw_tracepoint(struct oa_object *object, const char *program,
					 const char *tracepoint, s32 *error);
/* Where the program's section says: fentry/NAME, tp_btf/NAME. */
struct oa_link *oa_attach(struct oa_object *object, const char *program, s32 *error);
struct oa_link *oa_attach_tracepoint(struct oa_object *object, const char *program,
				     const char *category, const char *tracepoint, s32 *error);
/* `pid` < 0: every process. `offset` is a file offset. */
struct oa_link *oa_attach_uprobe(struct oa_object *object, const char *program, s32 pid,
				 const char *path, u64 offset, s32 is_return, s32 *error);
s32 oa_link_close(struct oa_link *link);

#endif
