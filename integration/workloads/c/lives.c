/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that live oddly: lives MODE SECONDS [N].
 *
 * spin     burn CPU time in spin_here()
 * leader   the first thread ends, another burns CPU time, after a pause
 * exec     a thread that is not the first one execs `lives spin`
 * maps     make N mappings, every other one executable, then burn CPU time
 * churn    burn CPU time, mapping and unmapping code all the while
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static double seconds;
static char **arguments;

static double cpu_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

__attribute__((noinline)) void spin_here(void)
{
	double end = cpu_now() + seconds;

	do {
		for (volatile int i = 0; i < 200000; i++)
			;
	} while (cpu_now() < end);
}

__attribute__((noinline)) static void *burn(void *unused)
{
	usleep(300000); /* the first thread has ended by then */
	spin_here();
	_exit(0);
	return unused;
}

static void *become_spin(void *unused)
{
	execl(arguments[0], arguments[0], "spin", arguments[2], NULL);
	_exit(1);
	return unused;
}

static void make_mappings(long count)
{
	char *start = mmap(NULL, count * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (long at = 0; at < count; at += 2)
		if (mprotect(start + at * 4096, 4096, PROT_READ | PROT_EXEC))
			break;
}

static void churn(void)
{
	double end = cpu_now() + seconds;

	while (cpu_now() < end) {
		void *code =
			mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		for (volatile int i = 0; i < 20000; i++)
			;
		munmap(code, 4096);
	}
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc < 3)
		return 2;
	arguments = argv;
	seconds = atof(argv[2]);
	if (!strcmp(argv[1], "spin")) {
		spin_here();
	} else if (!strcmp(argv[1], "leader")) {
		pthread_create(&thread, NULL, burn, NULL);
		pthread_exit(NULL);
	} else if (!strcmp(argv[1], "exec")) {
		pthread_create(&thread, NULL, become_spin, NULL);
		pause();
	} else if (!strcmp(argv[1], "maps")) {
		make_mappings(atol(argv[3]));
		spin_here();
	} else if (!strcmp(argv[1], "churn")) {
		churn();
	}
	return 0;
}
