/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "gosym.h"

static s32 read_varint(const u8 **at, const u8 *end, u32 *value)
{
	*value = 0;
	for (u32 shift = 0; *at < end && shift < 35; shift += 7) {
		u8 byte = *(*at)++;

		*value |= (u32)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return 1;
	}
	return 0;
}

s32 oa_pcvalue(const u8 *bytes, u64 size, u32 quantum, u64 target, s32 *value)
{
	const u8 *at = bytes, *end = bytes + size;
	u32 current = UINT32_MAX, step, pc_step;
	u64 pc = 0;

	for (int first = 1;; first = 0) {
		if (!read_varint(&at, end, &step))
			return OA_PCVALUE_MORE;
		if (!step && !first)
			return OA_PCVALUE_PAST_END;
		current += -(step & 1) ^ (step >> 1);
		if (!read_varint(&at, end, &pc_step))
			return OA_PCVALUE_MORE;
		pc += (u64)pc_step * quantum;
		if (target < pc) {
			*value = (s32)current;
			return OA_PCVALUE_FOUND;
		}
	}
}
