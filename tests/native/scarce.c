/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Preloaded: lets one allocation of the extension fail, and leaves all others alone. */
#include <stddef.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

static const char *start, *end; /* of the extension's code */
static long left; /* allocations until the one that fails; 0: none does */
static long seen;

void scarce_watch(const char *from, const char *to)
{
	start = from;
	end = to;
}

void scarce_begin(long number)
{
	left = number;
	seen = 0;
}

long scarce_seen(void)
{
	left = 0;
	return seen;
}

static int fails(const void *caller)
{
	if ((const char *)caller < start || (const char *)caller >= end)
		return 0;
	seen++;
	return left && !--left;
}

void *malloc(size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(memory, size);
}
