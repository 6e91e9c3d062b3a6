/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_HOST_H
#define OA_HOST_H

/* The inside of a host, for the files of this directory. */

#include "../state.h"

enum oa_host_map_kind {
	OA_HOST_EMPTY, /* nothing is found */
	OA_HOST_HASH,
	OA_HOST_RANGES,
	OA_HOST_FD,
	OA_HOST_ARRAY,
};

/* Slots of the hash: a state byte each, then keys, then values (8-byte aligned). */
struct oa_host_hash {
	u8 *used; /* 0: free, 1: taken, 2: deleted */
	u8 *keys;
	u64 *values;
	u32 slots; /* a power of two, or 0 */
	u32 filled; /* taken and deleted ones */
};

struct oa_host_range {
	struct oa_mapping mapping;
	u32 space;
};

struct oa_host_map {
	u32 kind; /* enum oa_host_map_kind */
	u32 key_bytes;
	u32 value_bytes;
	u32 entries; /* of an array or a list of ranges */
	s32 fd;
	u32 turn; /* which of the scratch values is next */
	u64 *scratch; /* values that were read from the kernel: OA_HOST_SCRATCH of them */
	const u8 *memory; /* of an array */
	struct oa_host_hash hash;
	struct oa_host_range *ranges; /* sorted by space and start */
	u32 capacity; /* of `ranges` */
};

enum { OA_HOST_SCRATCH = 4 };

struct oa_host_piece {
	u64 addr;
	u64 bytes;
	const u8 *memory; /* NULL: read from `fd` */
	u64 offset; /* in the file */
	s32 fd;
};

struct oa_host {
	struct oa_config settings;
	struct oa_host_map maps[OA_HOST_MAPS];
	struct oa_host_map chunks[OA_MAX_CHUNKS];
	struct oa_host_name chunk_names[OA_MAX_CHUNKS];
	struct oa_host_piece stack;
	struct oa_host_piece other; /* of another stack */
	struct oa_host_piece deep; /* what follows on the stack */
	struct oa_host_piece top; /* up to where the thread began */
	struct oa_host_piece python; /* copies of Python frames; has no address */
	struct oa_host_piece *pieces; /* sorted by address */
	u32 piece_count;
	u32 piece_capacity;
	struct oa_host_read *reads; /* where reads are noted; NULL: nowhere */
	u32 read_capacity;
	u32 read_count; /* may exceed the capacity: those were not noted */
	s32 pid;
	u32 reach; /* enum oa_host_reach */
	u32 is_other; /* the stacks are of the other kind of machine */
	u32 interpreters;
	u32 all_code; /* is mapped: what lies elsewhere is none */
	u32 has_python; /* the deferred stack has its Python frames */
	u64 thread_pointer; /* of the thread that is unwound; 0: not known */
	u32 cut; /* a read ended behind the copied stack */
	struct oa_host_limits limits; /* of the tests */
	struct oa_host_limits spent; /* of one walk */
	u64 counters[OA_COUNTER_COUNT + OA_FAULT_COUNT];
	struct oa_state state;
};

/* The host that is unwinding in this thread. */
extern __thread struct oa_host *oa_host_current;

/* oa_host_unwind for the other kind of machine, for use by it alone. */
s32 oa_host_unwind_other(struct oa_host *host, const u8 *record, u32 bytes, void *out,
			 u32 capacity);
void oa_host_free_maps(struct oa_host *host);
const struct oa_mapping *oa_host_find_mapping(struct oa_host *host, u32 space, u64 addr);

#endif
