/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#define OA_HOST

/* Maps of the host: kernel maps by file descriptor, arrays in memory that is
 * shared with the kernel, hashes and ranges of our own.
 */

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

/* Here it is libbpf's again. */
#undef bpf_map_lookup_elem

enum { MIN_SLOTS = 64, MAX_ENTRY_BYTES = 1 << 16, MAX_ENTRIES = 1 << 24 };

static u32 padded(u32 bytes)
{
	return (bytes + 7) & ~7u;
}

static u32 hash_key(const u8 *key, u32 bytes)
{
	u64 h = 0xcbf29ce484222325ULL; /* FNV-1a */

	for (u32 i = 0; i < bytes; i++)
		h = (h ^ key[i]) * 0x100000001b3ULL;
	return (u32)(h ^ h >> 32);
}

/* The slot of a key, or of where it would go (`*found` tells); the table is never full. */
static u32 find_slot(const struct oa_host_map *map, const void *key, bool *found)
{
	const struct oa_host_hash *hash = &map->hash;
	u32 mask = hash->slots - 1;
	u32 at = hash_key(key, map->key_bytes) & mask;

	*found = false;
	for (; hash->used[at]; at = (at + 1) & mask) {
		if (hash->used[at] == 1 &&
		    !memcmp(hash->keys + (size_t)at * map->key_bytes, key, map->key_bytes)) {
			*found = true;
			break;
		}
	}
	return at;
}

static u64 *slot_value(const struct oa_host_map *map, u32 slot)
{
	return map->hash.values + (size_t)slot * (padded(map->value_bytes) / 8);
}

static void free_hash(struct oa_host_hash *hash)
{
	free(hash->used);
	free(hash->keys);
	free(hash->values);
	memset(hash, 0, sizeof(*hash));
}

static void put(struct oa_host_map *map, const void *key, const void *value)
{
	bool found;
	u32 slot = find_slot(map, key, &found);

	if (!found) {
		map->hash.used[slot] = 1;
		map->hash.filled++;
		memcpy(map->hash.keys + (size_t)slot * map->key_bytes, key, map->key_bytes);
	}
	memcpy(slot_value(map, slot), value, map->value_bytes);
}

/* Make room for one more entry, and drop deleted ones. */
static s32 grow(struct oa_host_map *map)
{
	struct oa_host_hash old = map->hash, fresh = {0};
	u32 slots = old.slots ? old.slots : MIN_SLOTS, live = 0;

	if (old.filled < old.slots / 2)
		return 0;
	for (u32 i = 0; i < old.slots; i++)
		live += old.used[i] == 1;
	if (live >= slots / 4)
		slots *= 2;
	fresh.slots = slots;
	if (slots > MAX_ENTRIES)
		return -E2BIG;
	fresh.used = calloc(slots, 1);
	fresh.keys = calloc(slots, map->key_bytes);
	fresh.values = calloc(slots, padded(map->value_bytes));
	if (!fresh.used || !fresh.keys || !fresh.values) {
		free_hash(&fresh);
		return -ENOMEM;
	}
	map->hash = fresh;
	for (u32 i = 0; i < old.slots; i++)
		if (old.used[i] == 1)
			put(map, old.keys + (size_t)i * map->key_bytes,
			    old.values + (size_t)i * (padded(map->value_bytes) / 8));
	free_hash(&old);
	return 0;
}

static struct oa_host_map *writable_map(struct oa_host *host, u32 map, u32 kind)
{
	struct oa_host_map *m = &host->maps[map < OA_HOST_MAPS ? map : 0];

	if (!map || map >= OA_HOST_MAPS || (m->kind != OA_HOST_EMPTY && m->kind != kind))
		return NULL;
	return m;
}

s32 oa_host_update(struct oa_host *host, u32 map, const void *key, u32 key_bytes, const void *value,
		   u32 value_bytes)
{
	struct oa_host_map *m = writable_map(host, map, OA_HOST_HASH);
	s32 error;

	if (!m || !key_bytes || key_bytes > MAX_ENTRY_BYTES || !value_bytes ||
	    value_bytes > MAX_ENTRY_BYTES)
		return -EINVAL;
	if (m->kind == OA_HOST_EMPTY) {
		m->key_bytes = key_bytes;
		m->value_bytes = value_bytes;
	} else if (m->key_bytes != key_bytes || m->value_bytes != value_bytes) {
		return -EINVAL;
	}
	error = grow(m);
	if (error)
		return error;
	m->kind = OA_HOST_HASH;
	put(m, key, value);
	return 0;
}

s32 oa_host_delete(struct oa_host *host, u32 map, const void *key, u32 key_bytes)
{
	struct oa_host_map *m = writable_map(host, map, OA_HOST_HASH);
	bool found;
	u32 slot;

	if (!m || m->kind == OA_HOST_EMPTY || m->key_bytes != key_bytes)
		return -EINVAL;
	slot = find_slot(m, key, &found);
	if (!found)
		return -ENOENT;
	m->hash.used[slot] = 2;
	return 0;
}

/* How many ranges begin at or below (space, addr). */
static u32 count_below(const struct oa_host_map *map, u32 space, u64 addr)
{
	u32 low = 0, high = map->entries;

	while (low < high) {
		u32 middle = low + (high - low) / 2;
		const struct oa_host_range *range = &map->ranges[middle];

		if (range->space < space || (range->space == space && range->mapping.start <= addr))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct oa_mapping *find_range(const struct oa_host_map *map, u32 space, u64 addr)
{
	u32 below = count_below(map, space, addr);
	struct oa_host_range *range = below ? &map->ranges[below - 1] : NULL;

	if (!range || range->space != space || addr >= range->mapping.end)
		return NULL;
	return &range->mapping;
}

s32 oa_host_add_mapping(struct oa_host *host, u32 space, const struct oa_mapping *mapping)
{
	struct oa_host_map *m = writable_map(host, OA_HOST_MAPPINGS, OA_HOST_RANGES);
	u32 at;

	if (!m || mapping->start >= mapping->end)
		return -EINVAL;
	at = count_below(m, space, mapping->end - 1);
	if (at && m->ranges[at - 1].space == space &&
	    m->ranges[at - 1].mapping.end > mapping->start)
		return -EEXIST;
	if (m->entries == m->capacity) {
		u32 capacity = m->capacity ? m->capacity * 2 : 64;
		struct oa_host_range *ranges;

		if (capacity > MAX_ENTRIES)
			return -E2BIG;
		ranges = realloc(m->ranges, capacity * sizeof(*ranges));
		if (!ranges)
			return -ENOMEM;
		m->ranges = ranges;
		m->capacity = capacity;
	}
	memmove(m->ranges + at + 1, m->ranges + at, (m->entries - at) * sizeof(*m->ranges));
	m->ranges[at] = (struct oa_host_range){*mapping, space};
	m->entries++;
	m->kind = OA_HOST_RANGES;
	return 0;
}

s32 oa_host_drop_space(struct oa_host *host, u32 space)
{
	struct oa_host_map *m = &host->maps[OA_HOST_MAPPINGS];
	u32 kept = 0, before = m->entries;

	if (m->kind != OA_HOST_RANGES)
		return 0;
	for (u32 i = 0; i < before; i++)
		if (m->ranges[i].space != space)
			m->ranges[kept++] = m->ranges[i];
	m->entries = kept;
	return (s32)(before - kept);
}

s32 oa_host_use_fd(struct oa_host *host, u32 map, s32 fd, u32 key_bytes, u32 value_bytes)
{
	struct oa_host_map *m = writable_map(host, map, OA_HOST_FD);
	u64 *scratch;

	if (!m || fd < 0 || !value_bytes || value_bytes > MAX_ENTRY_BYTES)
		return -EINVAL;
	scratch = calloc(OA_HOST_SCRATCH, padded(value_bytes));
	if (!scratch)
		return -ENOMEM;
	free(m->scratch);
	m->scratch = scratch;
	m->kind = OA_HOST_FD;
	m->fd = fd;
	m->key_bytes = key_bytes;
	m->value_bytes = value_bytes;
	return 0;
}

static s32 use_array(struct oa_host_map *m, const void *memory, u64 bytes, u32 value_bytes)
{
	if ((u64)memory & 7)
		return -EINVAL;
	m->kind = OA_HOST_ARRAY;
	m->memory = memory;
	m->value_bytes = value_bytes;
	m->entries = bytes / value_bytes > MAX_ENTRIES ? MAX_ENTRIES : (u32)(bytes / value_bytes);
	return 0;
}

s32 oa_host_use_rules(struct oa_host *host, const void *memory, u64 bytes)
{
	return use_array(&host->maps[OA_HOST_RULES], memory, bytes, sizeof(struct oa_rule));
}

s32 oa_host_use_chunk(struct oa_host *host, u32 chunk, const void *memory, u64 bytes)
{
	if (chunk >= OA_MAX_CHUNKS)
		return -EINVAL;
	host->maps[OA_HOST_ROWS].kind = OA_HOST_ARRAY;
	return use_array(&host->chunks[chunk], memory, bytes, sizeof(u64));
}

/* A value that was read from the kernel stays until OA_HOST_SCRATCH others were read. */
static void *lookup_fd(struct oa_host_map *m, const void *key)
{
	u64 *value = m->scratch + (size_t)m->turn * (padded(m->value_bytes) / 8);

	m->turn = (m->turn + 1) % OA_HOST_SCRATCH;
	return bpf_map_lookup_elem(m->fd, key, value) ? NULL : value;
}

static void *lookup_hash(const struct oa_host_map *m, const void *key)
{
	bool found;
	u32 slot = find_slot(m, key, &found);

	return found ? slot_value(m, slot) : NULL;
}

static void *lookup_map(struct oa_host_map *m, const void *key)
{
	const struct oa_mapping_key *lpm = key;
	u32 index;

	switch (m->kind) {
	case OA_HOST_FD:
		return lookup_fd(m, key);
	case OA_HOST_HASH:
		return lookup_hash(m, key);
	case OA_HOST_RANGES:
		if (lpm->prefix_bits >
		    96) /* the kernel finds nothing by a key longer than its own */
			return NULL;
		return find_range(m, oa_bswap32(lpm->space_be), oa_bswap64(lpm->addr_be));
	case OA_HOST_ARRAY:
		memcpy(&index, key, sizeof(index));
		if (index < m->entries)
			return (void *)(m->memory + (size_t)index * m->value_bytes);
		return NULL;
	}
	return NULL;
}

void *oa_host_lookup(const struct oa_host_name *map, const void *key)
{
	struct oa_host *host = oa_host_current;
	u32 index;

	host->spent.lookups++;
	if (host->limits.lookups && host->spent.lookups > host->limits.lookups)
		return NULL;
	if (!map->id)
		return lookup_map(&host->chunks[map->chunk], key);
	if (map->id != OA_HOST_ROWS)
		return lookup_map(&host->maps[map->id], key);
	memcpy(&index, key, sizeof(index));
	if (index >= OA_MAX_CHUNKS || host->chunks[index].kind == OA_HOST_EMPTY)
		return NULL;
	host->chunk_names[index] = (struct oa_host_name){.chunk = index};
	return &host->chunk_names[index];
}

const struct oa_mapping *oa_host_find_mapping(struct oa_host *host, u32 space, u64 addr)
{
	struct oa_mapping_key key = {96, oa_bswap32(space), oa_bswap64(addr)};

	return lookup_map(&host->maps[OA_HOST_MAPPINGS], &key);
}

void oa_host_free_maps(struct oa_host *host)
{
	for (u32 i = 0; i < OA_HOST_MAPS; i++) {
		free_hash(&host->maps[i].hash);
		free(host->maps[i].scratch);
		free(host->maps[i].ranges);
	}
}
