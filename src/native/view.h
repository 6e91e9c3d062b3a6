/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_VIEW_H
#define OA_VIEW_H
#ifndef OA_CDEF
#include "types.h"

/* Bytes of a section that are looked at piece by piece, in memory or in a file.
 *
 * A piece of a file is read into a buffer that is used again: reading libLLVM's
 * .eh_frame at once takes five times as long, nearly all of it for memory that
 * was never touched before. Files are not mapped: they may shrink meanwhile.
 */
struct oa_view {
	const u8 *begin; /* of what is held */
	u64 from; /* where that is in the section */
	u64 held;
	u64 size; /* of the section */
	u64 offset; /* of the section in the file */
	s32 fd; /* -1: all is in memory */
	u8 *buffer;
	u64 capacity;
	u64 piece; /* bytes that are read at once, if no more are wanted */
};

/* `data` of `size` bytes, or if it is NULL as many in a file from `offset` on. */
void oa_open_view(struct oa_view *view, const u8 *data, u64 size, s32 fd, u64 offset, u64 piece);
void oa_close_view(struct oa_view *view);
const u8 *oa_look_further(struct oa_view *view, u64 at, u64 wanted, u64 *left);

/* Look at what is at `at`: `*left` bytes, at least those wanted or all up to the end. They
 * are there until the next look. NULL: beyond the end, not readable, or no memory.
 */
static inline const u8 *oa_look(struct oa_view *view, u64 at, u64 wanted, u64 *left)
{
	u64 before = at - view->from;

	if (at >= view->from && before <= view->held) {
		*left = view->held - before;
		if (*left >= wanted || view->from + view->held == view->size)
			return view->begin + before;
	}
	return oa_look_further(view, at, wanted, left);
}
#endif
#endif
