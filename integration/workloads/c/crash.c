/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Calls what is no code (ADDRESS), over and over for MILLISECONDS, and gets away by its handler. */

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

static sigjmp_buf before;
static volatile int keep;

static void on_crash(int number)
{
	(void)number;
	siglongjmp(before, 1);
}

__attribute__((noinline)) static int call_at(unsigned long addr)
{
	((void (*)(void))(addr + keep))();
	return keep;
}

__attribute__((noinline)) static int try_at(unsigned long addr)
{
	if (sigsetjmp(before, 1))
		return 1;
	return call_at(addr) + keep;
}

int main(int argc, char **argv)
{
	struct timespec now;
	long end;

	if (argc < 3)
		return 2;
	signal(SIGSEGV, on_crash);
	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec * 1000 + now.tv_nsec / 1000000 + atol(argv[2]);
	do {
		keep += try_at(strtoul(argv[1], NULL, 0)) - 1;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec * 1000 + now.tv_nsec / 1000000 < end);
	return 0;
}
