/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "drain.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* One batch, and the samples that wait, are bounded by these; memory that is not used is not
 * touched.
 */
enum {
	MAX_SAMPLES = 32768,
	MAX_GROUPS = 16384,
	MAX_RECORDS = 8192,
	MAX_DATA = 4 << 20,
	WINDOW_BYTES = 256 << 10,
	INDEX_SLOTS = 2 * MAX_GROUPS,
	NO_GROUP = 0,
	HEADER = BPF_RINGBUF_HDR_SZ,
};

_Static_assert(offsetof(struct oa_sample, kind) == offsetof(struct oa_report, kind) &&
		       offsetof(struct oa_sample, kind) == offsetof(struct oa_deep, kind),
	       "a reader finds the kind before it knows the record");

struct oa_ring {
	u64 *consumer;
	u64 *producer;
	u8 *data;
	u64 bytes;
	void *consumer_page;
	void *producer_page;
	u64 page_bytes;
	s32 fd; /* of the map; -1: `data` is there anyway */
	u8 *window; /* a part of the data, mapped */
	u64 window_first; /* where it begins in the data, which lies there twice */
	u64 window_bytes;
	/* The batch under construction. */
	struct oa_record_ref *records;
	u8 *copies;
	/* Samples that were not taken yet. */
	u32 group_count;
	u32 sample_count;
	struct oa_group *groups;
	u64 *sample_times;
	u32 *sample_groups;
	u64 *times;
	u32 *index; /* slot → group + 1 */
};

static int allocate_batch(struct oa_ring *ring)
{
	ring->groups = malloc(sizeof(*ring->groups) * MAX_GROUPS);
	ring->records = malloc(sizeof(*ring->records) * MAX_RECORDS);
	ring->copies = malloc(MAX_DATA);
	ring->sample_times = malloc(sizeof(*ring->sample_times) * MAX_SAMPLES);
	ring->sample_groups = malloc(sizeof(*ring->sample_groups) * MAX_SAMPLES);
	ring->times = malloc(sizeof(*ring->times) * MAX_SAMPLES);
	ring->index = calloc(INDEX_SLOTS, sizeof(*ring->index));
	return ring->groups && ring->records && ring->copies && ring->sample_times &&
	       ring->sample_groups && ring->times && ring->index;
}

static void *map_part(s32 fd, int protection, u64 offset, u64 bytes)
{
	void *start = mmap(NULL, bytes, protection, MAP_SHARED, fd, (off_t)offset);

	return start == MAP_FAILED ? NULL : start;
}

static int map_ring(struct oa_ring *ring, s32 fd, u32 bytes)
{
	u64 page = (u64)sysconf(_SC_PAGESIZE);

	ring->page_bytes = page;
	ring->fd = fd;
	ring->bytes = bytes;
	ring->consumer_page = map_part(fd, PROT_READ | PROT_WRITE, 0, page);
	if (!ring->consumer_page)
		return -errno;
	ring->producer_page = map_part(fd, PROT_READ, page, page);
	if (!ring->producer_page)
		return -errno;
	ring->consumer = ring->consumer_page;
	ring->producer = ring->producer_page;
	return 0;
}

static void close_window(struct oa_ring *ring)
{
	if (ring->window)
		munmap(ring->window, ring->window_bytes);
	ring->window = NULL;
	ring->window_bytes = 0;
}

/* Give what lies between two positions, NULL if it cannot be mapped now.
 *
 * The kernel has the data twice, one behind the other, so it is in one piece. Only a part is
 * mapped, as far as is read in some drains: the kernel puts each page in place when it is mapped,
 * and all of a ring, twice, would be a tenth of our resident memory.
 */
static const u8 *open_window(struct oa_ring *ring, u64 position, u64 end)
{
	u64 first = position & (ring->bytes - 1);
	u64 last = first + (end - position);
	u64 all = 2 * ring->bytes;

	if (ring->fd < 0)
		return ring->data + first;
	if (first < ring->window_first || last > ring->window_first + ring->window_bytes) {
		close_window(ring);
		ring->window_first = first & ~(ring->page_bytes - 1);
		if (last < ring->window_first + WINDOW_BYTES)
			last = ring->window_first + WINDOW_BYTES;
		last = last < all ? (last + ring->page_bytes - 1) & ~(ring->page_bytes - 1) : all;
		ring->window =
			map_part(ring->fd, PROT_READ, 2 * ring->page_bytes + ring->window_first,
				 last - ring->window_first);
		if (!ring->window)
			return NULL;
		ring->window_bytes = last - ring->window_first;
	}
	return ring->window + (first - ring->window_first);
}

struct oa_ring *oa_ring_open(s32 map_fd, u32 bytes, s32 *error)
{
	struct oa_ring *ring = calloc(1, sizeof(*ring));

	*error = -ENOMEM;
	if (!ring)
		return NULL;
	ring->fd = -1;
	if (allocate_batch(ring))
		*error = map_ring(ring, map_fd, bytes);
	if (!*error)
		return ring;
	oa_ring_close(ring);
	return NULL;
}

struct oa_ring *oa_ring_from_memory(u64 *consumer, u64 *producer, u8 *data, u32 bytes)
{
	struct oa_ring *ring = calloc(1, sizeof(*ring));

	if (!ring)
		return NULL;
	if (!allocate_batch(ring)) {
		oa_ring_close(ring);
		return NULL;
	}
	ring->consumer = consumer;
	ring->producer = producer;
	ring->data = data;
	ring->bytes = bytes;
	ring->fd = -1;
	return ring;
}

void oa_ring_close(struct oa_ring *ring)
{
	if (!ring)
		return;
	close_window(ring);
	if (ring->consumer_page)
		munmap(ring->consumer_page, ring->page_bytes);
	if (ring->producer_page)
		munmap(ring->producer_page, ring->page_bytes);
	free(ring->groups);
	free(ring->records);
	free(ring->copies);
	free(ring->sample_times);
	free(ring->sample_groups);
	free(ring->times);
	free(ring->index);
	free(ring);
}

u64 oa_ring_pending(const struct oa_ring *ring)
{
	return __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE) - *ring->consumer;
}

static u64 mix(u64 h, u64 value)
{
	h = (h ^ value) * 0x9e3779b97f4a7c15ull;
	return h ^ (h >> 29);
}

static u32 slot_of(const struct oa_sample *sample)
{
	u64 words[2];
	u64 h;

	memcpy(words, sample->comm, sizeof(words));
	h = mix(sample->hash, ((u64)sample->pid << 32) | sample->tid);
	h = mix(mix(h, words[0]), words[1]);
	return (u32)(h >> 32) & (INDEX_SLOTS - 1);
}

static int is_in(const struct oa_group *group, const struct oa_sample *sample)
{
	return group->hash == sample->hash && group->tid == sample->tid &&
	       group->pid == sample->pid && !memcmp(group->comm, sample->comm, sizeof(group->comm));
}

/* The index is at most half full, so there is always a free slot. */
static u32 find_group(struct oa_ring *ring, const struct oa_sample *sample)
{
	u32 slot = slot_of(sample);
	struct oa_group *group;

	while (ring->index[slot] != NO_GROUP) {
		if (is_in(&ring->groups[ring->index[slot] - 1], sample))
			return ring->index[slot] - 1;
		slot = (slot + 1) & (INDEX_SLOTS - 1);
	}
	group = &ring->groups[ring->group_count];
	memset(group, 0, sizeof(*group));
	group->hash = sample->hash;
	group->pid = sample->pid;
	group->tid = sample->tid;
	memcpy(group->comm, sample->comm, sizeof(group->comm));
	ring->index[slot] = ++ring->group_count;
	return ring->group_count - 1;
}

static void count_sample(struct oa_ring *ring, const struct oa_sample *sample)
{
	u32 number = find_group(ring, sample);
	struct oa_group *group = &ring->groups[number];

	group->count++;
	group->weight += sample->weight;
	group->flags |= sample->flags;
	ring->sample_times[ring->sample_count] = sample->time_ns;
	ring->sample_groups[ring->sample_count] = number;
	ring->sample_count++;
}

static void keep_record(struct oa_ring *ring, struct oa_batch *batch, const u8 *data, u32 bytes,
			u32 kind)
{
	struct oa_record_ref *ref = &ring->records[batch->record_count++];

	ref->offset = batch->data_bytes;
	ref->bytes = bytes;
	ref->kind = kind;
	memcpy(ring->copies + batch->data_bytes, data, bytes);
	/* The next one begins on a multiple of 8, as C structs want it. */
	batch->data_bytes += (bytes + 7) & ~7u;
}

static int is_trace(const u8 *data, u32 bytes)
{
	const struct oa_trace *trace = (const void *)data;

	return bytes >= sizeof(*trace) && trace->kernel_frames <= OA_MAX_KERNEL_FRAMES &&
	       trace->user_frames <= OA_MAX_USER_FRAMES &&
	       bytes >= sizeof(*trace) + trace->kernel_frames * sizeof(u64) +
				trace->user_frames * sizeof(struct oa_frame);
}

static int is_deferred(const u8 *data, u32 bytes)
{
	const struct oa_deferred *deferred = (const void *)data;
	u32 header = offsetof(struct oa_deferred, stack);
	u64 stacks;

	if (bytes < header || deferred->trace.kernel_frames > OA_MAX_KERNEL_FRAMES)
		return 0;
	stacks = (u64)deferred->stack_bytes + deferred->other_bytes;
	return stacks <= OA_MAX_STACK_BYTES && stacks + deferred->python_bytes <= bytes - header;
}

static u32 kind_of(const u8 *data, u32 bytes)
{
	u16 kind;

	if (bytes < offsetof(struct oa_sample, kind) + sizeof(kind))
		return 0;
	memcpy(&kind, data + offsetof(struct oa_sample, kind), sizeof(kind));
	if (kind == OA_RECORD_SAMPLE || kind == OA_RECORD_WAITED)
		return bytes >= sizeof(struct oa_sample) ? kind : 0;
	if (kind == OA_RECORD_TRACE || kind == OA_RECORD_STACK)
		return is_trace(data, bytes) ? kind : 0;
	if (kind == OA_RECORD_DEFERRED)
		return is_deferred(data, bytes) ? kind : 0;
	if (kind == OA_RECORD_DEEP)
		return bytes >= sizeof(struct oa_deep) ? kind : 0;
	if (kind == OA_RECORD_REPORT)
		return bytes >= sizeof(struct oa_report) ? kind : 0;
	return 0;
}

static void take_record(struct oa_ring *ring, struct oa_batch *batch, const u8 *data, u32 bytes)
{
	u32 kind = kind_of(data, bytes);

	if (!kind) {
		batch->malformed++;
		return;
	}
	if (kind == OA_RECORD_SAMPLE || kind == OA_RECORD_TRACE)
		count_sample(ring, (const struct oa_sample *)data);
	if (kind != OA_RECORD_SAMPLE)
		keep_record(ring, batch, data, bytes, kind);
}

static int has_room(const struct oa_ring *ring, const struct oa_batch *batch, u32 bytes)
{
	return ring->sample_count < MAX_SAMPLES && ring->group_count < MAX_GROUPS &&
	       batch->record_count < MAX_RECORDS && bytes <= MAX_DATA - 8 &&
	       batch->data_bytes <= MAX_DATA - 8 - bytes;
}

/* Put each group's times in one piece, in the order of the ring. */
static void sort_times(struct oa_ring *ring)
{
	u32 first = 0;

	for (u32 i = 0; i < ring->group_count; i++) {
		ring->groups[i].first = first;
		first += ring->groups[i].count;
	}
	for (u32 i = 0; i < ring->sample_count; i++)
		ring->times[ring->groups[ring->sample_groups[i]].first++] = ring->sample_times[i];
	for (u32 i = 0; i < ring->group_count; i++)
		ring->groups[i].first -= ring->groups[i].count;
}

void oa_take_groups(struct oa_ring *ring, struct oa_groups *out)
{
	sort_times(ring);
	out->groups = ring->groups;
	out->times = ring->times;
	out->group_count = ring->group_count;
	out->sample_count = ring->sample_count;
	if (ring->group_count)
		memset(ring->index, 0, INDEX_SLOTS * sizeof(*ring->index));
	ring->group_count = 0;
	ring->sample_count = 0;
}

/* Take the records of a window; gives the position behind the last one. */
static u64 drain_window(struct oa_ring *ring, struct oa_batch *batch, u64 position, u64 end,
			const u8 *header)
{
	while (position < end) {
		u32 word = __atomic_load_n((const u32 *)header, __ATOMIC_ACQUIRE);
		u32 bytes = word & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
		u64 step = ((u64)bytes + HEADER + 7) & ~7ull;

		if (word & BPF_RINGBUF_BUSY_BIT)
			break;
		if (step > end - position) {
			/* Cannot be with a sane kernel: start again behind all of it. */
			batch->malformed++;
			return end;
		}
		if (word & BPF_RINGBUF_DISCARD_BIT) {
			batch->discarded++;
		} else if (!has_room(ring, batch, bytes)) {
			batch->more = 1;
			break;
		} else {
			take_record(ring, batch, header + HEADER, bytes);
		}
		position += step;
		header += step;
		__atomic_store_n(ring->consumer, position, __ATOMIC_RELEASE);
	}
	return position;
}

void oa_drain(struct oa_ring *ring, struct oa_batch *batch)
{
	u64 position = __atomic_load_n(ring->consumer, __ATOMIC_ACQUIRE);
	u64 began = position;
	const u8 *header;
	u64 end;

	memset(batch, 0, sizeof(*batch));
	batch->records = ring->records;
	batch->data = ring->copies;
	/* No more than one round: `end` is read once, so a busy producer cannot keep us here. */
	end = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
	if (end - position > ring->bytes) {
		batch->malformed++; /* cannot be, likewise */
		position = end;
	} else if (position < end && (header = open_window(ring, position, end))) {
		position = drain_window(ring, batch, position, end, header);
		if (ring->window_bytes > WINDOW_BYTES)
			close_window(ring);
	}
	__atomic_store_n(ring->consumer, position, __ATOMIC_RELEASE);
	batch->consumed_bytes = position - began;
}
