// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0

/* For kernels without seccomp: LD_PRELOAD this, and syscall() fails with EPERM for the calls
 * of OTELAGENT_DENY, "NUMBER" or "NUMBER:FIRST-ARGUMENT", separated by spaces.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

static int is_denied(long number, long first)
{
	const char *rest = getenv("OTELAGENT_DENY");
	char *end;

	while (rest && *rest) {
		long denied = strtol(rest, &end, 10);
		long argument = *end == ':' ? strtol(end + 1, &end, 10) : first;

		if (denied == number && argument == first)
			return 1;
		if (end == rest)
			return 0;
		rest = end;
	}
	return 0;
}

long syscall(long number, ...)
{
	static long (*next)(long, long, long, long, long, long, long);
	long words[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		words[i] = va_arg(list, long);
	va_end(list);
	if (is_denied(number, words[0])) {
		errno = EPERM;
		return -1;
	}
	if (!next)
		next = dlsym(RTLD_NEXT, "syscall");
	return next(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}
