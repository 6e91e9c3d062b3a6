// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0
/* remap SECONDS SYMBOL_OFFSET FILE FILE: maps the code of two files at one and
 * the same address by turns, 0.4 s each, and runs the function there.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { CODE_OFFSET = 0x1000, CODE_BYTES = 0x1000, TURN_MS = 400 };

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
	long end = now_ms() + 1000 * atol(argv[1]);
	long offset = strtol(argv[2], NULL, 16) - CODE_OFFSET;
	/* Away from everything else. */
	char *room = (char *)0x200030000;
	int files[2] = {open(argv[3], O_RDONLY), open(argv[4], O_RDONLY)};
	long sum = argc;

	for (int turn = 0; now_ms() < end; turn ^= 1) {
		long until = now_ms() + TURN_MS;

		if (mmap(room, CODE_BYTES, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED,
			 files[turn], CODE_OFFSET) != room)
			return 1;
		while (now_ms() < until)
			sum += ((long (*)(long))(room + offset))(2000000);
	}
	return sum == 42;
}
