/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#define OA_HOST

/* The unwinders for the other kind of machine: they unwind its cores and snapshots. All that they
 * read and write has the same layout on both.
 */

#if defined(__TARGET_ARCH_x86)
#undef __TARGET_ARCH_x86
#define __TARGET_ARCH_arm64
#else
#undef __TARGET_ARCH_arm64
#define __TARGET_ARCH_x86
#endif

#include "walk.h"

s32 oa_host_unwind_other(struct oa_host *host, const u8 *record, u32 bytes, void *out, u32 capacity)
{
	return unwind_record(host, record, bytes, out, capacity);
}
