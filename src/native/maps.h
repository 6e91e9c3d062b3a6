/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_MAPS_H
#define OA_MAPS_H
#ifndef OA_CDEF
#include "types.h"
#endif

/* Maps by file descriptor; 0 or a count, or -errno. Keys and values of the
 * `_many` functions lie one behind the other, values of per-CPU maps are
 * rounded up to 8 bytes for each possible CPU.
 */
s32 oa_map_lookup(s32 fd, const void *key, void *value);
s32 oa_map_update(s32 fd, const void *key, const void *value, u64 flags);
s32 oa_map_delete(s32 fd, const void *key);
/* Batch calls where the kernel has them for this kind of map, else one call a key.
 * `done` is how many keys were written when it failed.
 */
s32 oa_map_update_many(s32 fd, const void *keys, u32 key_size, const void *values, u32 value_size,
		       u32 count, u64 flags, u32 *done);
/* Keys that are not there are skipped; returns how many were deleted. */
s32 oa_map_delete_many(s32 fd, const void *keys, u32 key_size, u32 count);
/* Up to `capacity` entries; an entry that comes or goes meanwhile may be missed or seen twice. */
s32 oa_map_items(s32 fd, void *keys, u32 key_size, void *values, u32 value_size, u32 capacity);
/* 1: batch look-up works on this map. 0: it does not. */
s32 oa_map_has_batch(s32 fd, u32 key_size, u32 value_size);
/* A map that no object declares; a file descriptor. `type` is the kernel's BPF_MAP_TYPE_*. */
s32 oa_map_create(u32 type, const char *name, u32 key_size, u32 value_size, u32 max_entries,
		  u32 flags);
s32 oa_possible_cpus(void);
void *oa_map_mmap(s32 fd, u64 bytes, s32 writable, s32 *error);
s32 oa_munmap(void *start, u64 bytes);
void oa_close(s32 fd);

#endif
