/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "maps.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

s32 oa_map_lookup(s32 fd, const void *key, void *value)
{
	return bpf_map_lookup_elem(fd, key, value);
}

s32 oa_map_update(s32 fd, const void *key, const void *value, u64 flags)
{
	return bpf_map_update_elem(fd, key, value, flags);
}

s32 oa_map_delete(s32 fd, const void *key)
{
	return bpf_map_delete_elem(fd, key);
}

/* 524 is the kernel's ENOTSUPP, which <errno.h> does not know; EINVAL comes from
 * kernels before 5.6 (Linux aa2e93b8e58e, "bpf: Add generic support for update and
 * delete batch ops") and from map types without the operation.
 */
static int lacks_batch(int error)
{
	return error == -524 || error == -EINVAL || error == -EOPNOTSUPP || error == -ENOSYS;
}

s32 oa_map_update_many(s32 fd, const void *keys, u32 key_size, const void *values, u32 value_size,
		       u32 count, u64 flags, u32 *done)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts, .elem_flags = flags);
	int error;

	*done = 0;
	if (count > 1) {
		u32 batch = count;

		error = bpf_map_update_batch(fd, keys, values, &batch, &opts);
		if (!lacks_batch(error)) {
			*done = error ? batch : count;
			return error;
		}
	}
	for (u32 i = 0; i < count; i++, ++*done) {
		error = bpf_map_update_elem(fd, (const char *)keys + (u64)i * key_size,
					    (const char *)values + (u64)i * value_size, flags);
		if (error)
			return error;
	}
	return 0;
}

s32 oa_map_delete_many(s32 fd, const void *keys, u32 key_size, u32 count)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);
	u32 at = 0;
	s32 deleted = 0;

	while (at < count) {
		const char *first = (const char *)keys + (u64)at * key_size;
		u32 batch = count - at;
		int error = bpf_map_delete_batch(fd, first, &batch, &opts);

		if (lacks_batch(error)) {
			batch = 0;
			error = bpf_map_delete_elem(fd, first);
			deleted += !error;
			at++;
		} else if (error) {
			/* `batch` keys went; the next one is at fault: skip it. */
			deleted += (s32)batch;
			at += batch + 1;
		} else {
			return deleted + (s32)batch;
		}
		if (error && error != -ENOENT)
			return error;
	}
	return deleted;
}

static s32 items_by_batch(s32 fd, void *keys, u32 key_size, void *values, u32 value_size,
			  u32 capacity)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);
	char cursor[64] = {0};
	char next[64] = {0};
	u32 got = 0;
	int error = 0;

	/* The cursor is a u32 for hash maps and a key for the others. */
	if (key_size > sizeof(cursor))
		return -EOPNOTSUPP;
	while (!error && got < capacity) {
		u32 count = capacity - got;

		error = bpf_map_lookup_batch(fd, got ? cursor : NULL, next,
					     (char *)keys + (u64)got * key_size,
					     (char *)values + (u64)got * value_size, &count, &opts);
		if (error && error != -ENOENT)
			return error;
		got += count;
		if (!error && !count)
			break;
		memcpy(cursor, next, sizeof(cursor));
	}
	return (s32)got;
}

s32 oa_map_items(s32 fd, void *keys, u32 key_size, void *values, u32 value_size, u32 capacity)
{
	char *key = keys;
	char *value = values;
	const void *previous = NULL;
	s32 got = items_by_batch(fd, keys, key_size, values, value_size, capacity);

	if (got >= 0)
		return got;
	for (got = 0; (u32)got < capacity;) {
		int error = bpf_map_get_next_key(fd, previous, key);

		if (error)
			return error == -ENOENT ? got : error;
		previous = key;
		/* Deleted since it was listed: its place is taken by the next one. */
		if (bpf_map_lookup_elem(fd, key, value))
			continue;
		key += key_size;
		value += value_size;
		got++;
		/* The key behind the last one is where the next is written. */
	}
	return got;
}

s32 oa_map_has_batch(s32 fd, u32 key_size, u32 value_size)
{
	void *keys = calloc(4, key_size);
	void *values = calloc(4, value_size);
	s32 got = -ENOMEM;

	if (keys && values)
		got = items_by_batch(fd, keys, key_size, values, value_size, 4);
	free(keys);
	free(values);
	return !lacks_batch(got);
}

s32 oa_map_create(u32 type, const char *name, u32 key_size, u32 value_size, u32 max_entries,
		  u32 flags)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = flags);

	return bpf_map_create(type, name, key_size, value_size, max_entries, &opts);
}

s32 oa_possible_cpus(void)
{
	return libbpf_num_possible_cpus();
}

void *oa_map_mmap(s32 fd, u64 bytes, s32 writable, s32 *error)
{
	void *start = mmap(NULL, bytes, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);

	*error = start == MAP_FAILED ? -errno : 0;
	return start == MAP_FAILED ? NULL : start;
}

s32 oa_munmap(void *start, u64 bytes)
{
	return munmap(start, bytes) ? -errno : 0;
}

void oa_close(s32 fd)
{
	close(fd);
}
