/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_MAPS_H
#define OA_MAPS_H

/* The maps. Sizes are those of a small target; user space sets them before load. */

#include "env.h"
#include "state.h"

#ifndef OA_HOST

const volatile struct oa_config config = {};

/* One record per CPU, alive across tail calls. An ARRAY by CPU number and not a
 * per-CPU one: those hold no value above 32 KiB.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct oa_state);
} states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct oa_deferred);
} deferred_stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

struct oa_known_set {
	u64 hash[OA_KNOWN_WAYS];
};

/* Hashes of traces that user space has. No LRU and no hash map: their locks may
 * deadlock in NMI context.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct oa_known_set);
} known_traces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, u32);
} targets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, OA_MAX_CGROUPS);
	__type(key, u32);
	__type(value, u32);
} target_cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, struct oa_process);
} processes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, OA_LIMIT_SLOTS);
	__type(key, u32);
	__type(value, struct oa_limit_slot);
} limits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct oa_mapping_key);
	__type(value, struct oa_mapping);
} mappings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct oa_page_key);
	__type(value, struct oa_page);
} pages SEC(".maps");

/* Two rows to an element: values of an ARRAY are rounded up to 8 bytes. */
struct oa_rows_chunk {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, OA_CHUNK_ROWS / 2);
	__type(key, u32);
	__type(value, u64);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, OA_MAX_CHUNKS);
	__type(key, u32);
	__array(values, struct oa_rows_chunk);
} rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, OA_MAX_RULES);
	__type(key, u32);
	__type(value, struct oa_rule);
} rules SEC(".maps");

/* CPython: what python.h must know of an address space, and each thread's states. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, u32);
	__type(value, struct oa_python_proc);
} python_procs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct oa_python_thread_key);
	__type(value, struct oa_python_thread);
} python_threads SEC(".maps");

/* CPython's files that are known, wherever they may be mapped. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct oa_python_file_key);
	__type(value, struct oa_python_proc);
} python_files SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, OA_UNWINDER_COUNT);
	__type(key, u32);
	__type(value, u32);
} unwinders SEC(".maps");

#ifdef OA_OFF_CPU
/* Threads that wait, by their ids: the sample that is sent when they run again. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, struct oa_sample);
} waits SEC(".maps");
#endif

/* The record of this CPU, or NULL for a CPU beyond those that were possible at load. */
static __always_inline struct oa_state *current_state(void)
{
	u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&states, &cpu);
}

/* Where this CPU lays out a deferred stack, or NULL likewise. */
static __always_inline struct oa_deferred *current_deferred(void)
{
	u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&deferred_stacks, &cpu);
}

/* Add to a counter of this CPU (or to a fault: OA_COUNTER_COUNT + fault). */
static __always_inline void count(u32 which, u64 amount)
{
	struct oa_state *s = current_state();
	u32 first = 0;

	if (!s)
		s = bpf_map_lookup_elem(&states, &first);
	if (s && which < OA_COUNTER_COUNT + OA_FAULT_COUNT)
		__sync_fetch_and_add(&s->cpu.counters[which], amount);
}

/* What only the programs of a tick count, and those do not interrupt one another. */
static __always_inline void tally(struct oa_state *s, enum oa_counter which, u64 amount)
{
	s->cpu.counters[which] += amount;
}

#endif
#endif
