/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The ring's reader over records of any kind, length and content. */
#include "drain.h"
#include "fuzz.h"

enum { RING_BYTES = 1 << 15 };

/* Lay records out as the kernel does; the memory appears twice. */
static u64 fill(struct choices *c, u8 *ring)
{
	static const u32 SIZES[] = {sizeof(struct oa_sample), sizeof(struct oa_trace),
				    offsetof(struct oa_deferred, stack), sizeof(struct oa_report)};
	u64 at = 0;

	while (c->at < c->end) {
		u32 kind = 1 + choose_below(c, 4), size = SIZES[kind - 1];
		u32 extra = usually(c, 4) ? 0 : (u32)choose(c, 2) % 4096;
		u32 header = usually(c, 32) ? size + extra : (u32)choose(c, 4);
		u64 end = at + 8 + ((size + extra + 7) & ~7u);

		if (end > RING_BYTES)
			break;
		memcpy(ring + at, &header, 4);
		for (u64 i = at + 8; i < end; i++)
			ring[i] = (u8)choose(c, 1) >> (usually(c, 4) ? 8 : 0);
		if (usually(c, 16)) {
			u16 short_kind = (u16)kind;

			memcpy(ring + at + 8 + offsetof(struct oa_sample, kind), &short_kind, 2);
		}
		at = end;
	}
	memcpy(ring + RING_BYTES, ring, RING_BYTES);
	return at;
}

void oa_fuzz_one(const u8 *data, size_t size)
{
	struct choices c = choices_of(data, size);
	/* One ring for all inputs: its batch is large, and reused in the agent too. */
	static struct oa_ring *ring;
	static u64 consumer, producer;
	static u8 *memory;
	struct oa_batch batch;
	struct oa_groups taken;
	u64 sum = 0;

	if (!ring) {
		memory = calloc(2, RING_BYTES);
		ring = memory ? oa_ring_from_memory(&consumer, &producer, memory, RING_BYTES)
			      : NULL;
		if (!ring)
			abort();
	}
	consumer = 0;
	producer = fill(&c, memory);
	for (int i = 0; i < 3; i++) {
		oa_drain(ring, &batch);
		for (u32 r = 0; r < batch.record_count; r++)
			for (u32 b = 0; b < batch.records[r].bytes; b++)
				sum += batch.data[batch.records[r].offset + b];
		if (i == 1)
			continue;
		oa_take_groups(ring, &taken);
		for (u32 g = 0; g < taken.group_count; g++)
			for (u32 t = 0; t < taken.groups[g].count; t++)
				sum += taken.times[taken.groups[g].first + t];
	}
	if (consumer > producer)
		abort();
	(void)sum;
}
