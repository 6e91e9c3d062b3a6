/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void oa_open_view(struct oa_view *view, const u8 *data, u64 size, s32 fd, u64 offset, u64 piece)
{
	memset(view, 0, sizeof(*view));
	view->begin = data;
	view->held = data ? size : 0;
	view->size = size;
	view->offset = offset;
	view->fd = data ? -1 : fd;
	view->piece = piece;
}

void oa_close_view(struct oa_view *view)
{
	free(view->buffer);
	view->buffer = NULL;
}

/* Read a piece in full: 1, or 0 if the file ends before or cannot be read. */
static int read_piece(const struct oa_view *view, u64 at, u64 size)
{
	u64 done = 0;
	ssize_t got;

	while (done < size) {
		got = pread(view->fd, view->buffer + done, size - done,
			    (off_t)(view->offset + at + done));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return 0;
		done += (u64)got;
	}
	return 1;
}

const u8 *oa_look_further(struct oa_view *view, u64 at, u64 wanted, u64 *left)
{
	u64 size;
	u8 *bigger;

	if (view->fd < 0 || at > view->size)
		return NULL;
	size = wanted > view->piece ? wanted : view->piece;
	if (size > view->size - at)
		size = view->size - at;
	if (size > view->capacity || !view->buffer) {
		bigger = realloc(view->buffer, size ? size : 1);
		if (!bigger)
			return NULL;
		view->buffer = bigger;
		view->capacity = size;
	}
	view->held = 0;
	if (!read_piece(view, at, size))
		return NULL;
	view->begin = view->buffer;
	view->from = at;
	view->held = size;
	*left = size;
	return view->begin;
}
