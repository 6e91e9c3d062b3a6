/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "types.h"

#include "prefixes.h"

#include <endian.h>

u32 oa_range_keys(u32 space, u64 start, u64 end, struct oa_mapping_key *keys, u32 most)
{
	u32 count = 0;

	while (start < end && count < most) {
		u32 align = start ? (u32)__builtin_ctzll(start) : 63;
		u32 bits = 63 - (u32)__builtin_clzll(end - start);

		if (align < bits)
			bits = align;
		keys[count++] = (struct oa_mapping_key){
			.prefix_bits = 32 + 64 - bits,
			.space_be = htobe32(space),
			.addr_be = htobe64(start),
		};
		start += 1ULL << bits;
	}
	return count;
}
