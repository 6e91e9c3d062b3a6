/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_DRAIN_H
#define OA_DRAIN_H
#ifndef OA_CDEF
#include "types.h"
#include "oa_abi.h"
#endif

/* The consumer of the BPF ring buffer: drains what is there, groups samples by
 * (trace, process, thread, name), and keeps all other records as they are.
 *
 * Samples are counted here over many drains, until they are taken: who drains need
 * not look at them. Records are to be read before samples are taken: a sample never
 * precedes its trace in the ring, so every group is of a trace that was drained.
 */
struct oa_ring;

/* Samples of one thread with one trace; a trace record counts as one, too. */
struct oa_group {
	u64 hash;
	u64 weight;
	u32 pid;
	u32 tid;
	u8 comm[16];
	u32 count;
	u32 first; /* index of its first time in `times`; `count` of them */
	u32 flags; /* all its samples' oa_sample_flag, joined */
	u32 pad;
};

/* What is no sample, or more than one, in `data`, in the order of the ring. */
struct oa_record_ref {
	u32 offset;
	u32 bytes;
	u32 kind; /* enum oa_record_kind */
};

/* Valid until the next oa_drain of the same ring. */
struct oa_batch {
	u32 record_count;
	u32 data_bytes;
	u32 malformed; /* records that are not what their kind says */
	u32 discarded; /* records that BPF took back */
	u32 more; /* the ring is not empty: records or samples are to be taken first */
	u32 pad;
	u64 consumed_bytes;
	struct oa_record_ref *records;
	u8 *data;
};

/* Valid until the next oa_drain of the same ring. */
struct oa_groups {
	u32 group_count;
	u32 sample_count; /* entries of `times` */
	struct oa_group *groups;
	u64 *times; /* CLOCK_MONOTONIC ns, grouped */
};

struct oa_ring *oa_ring_open(s32 map_fd, u32 bytes, s32 *error);
/* A ring in ordinary memory, for tests: `data` is `bytes` twice, one behind the other. */
struct oa_ring *oa_ring_from_memory(u64 *consumer, u64 *producer, u8 *data, u32 bytes);
void oa_ring_close(struct oa_ring *ring);
/* Bytes that wait to be read. */
u64 oa_ring_pending(const struct oa_ring *ring);
/* Drain until the ring is empty, a record is still being written, or there is no more room. */
void oa_drain(struct oa_ring *ring, struct oa_batch *batch);
/* Give the samples that were drained since the last call. */
void oa_take_groups(struct oa_ring *ring, struct oa_groups *out);

#endif
