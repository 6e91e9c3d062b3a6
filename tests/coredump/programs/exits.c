/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Stands in a handler that exit() runs, which is called far below main. */

#include <stdlib.h>
#include <unistd.h>

static volatile int keep;

__attribute__((noinline)) static void at_exit(void)
{
	if (write(1, "ready\n", 6) != 6)
		_exit(1);
	for (;;)
		pause();
	keep++;
}

__attribute__((noinline)) static int descend(int depth)
{
	if (!depth)
		exit(keep);
	return descend(depth - 1) + keep;
}

int main(void)
{
	atexit(at_exit);
	return descend(4);
}
