/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* A frame larger than what is copied of a stack: huge main|thread.
 *
 * Processes of some milliseconds, so that most samples come before their code is known.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <time.h>

enum { HUGE_BYTES = 600000 };

__attribute__((noinline)) static void spin_here(void)
{
	struct timespec t;

	do {
		for (volatile int i = 0; i < 20000; i++)
			;
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	} while (!t.tv_sec && t.tv_nsec < 12000000);
}

/* All of it is written to, so that no gap tells where the copy may end. */
__attribute__((noinline)) static void *hold(void *unused)
{
	volatile char room[HUGE_BYTES];

	memset((char *)room, 1, sizeof(room));
	spin_here();
	return room[1] ? unused : NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc < 2 || strcmp(argv[1], "thread")) {
		hold(NULL);
		return 0;
	}
	pthread_create(&thread, NULL, hold, NULL);
	pthread_join(thread, NULL);
	return 0;
}
