// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0

/* Threads that wait in known ways: `waits SECONDS [NAPPERS]`. Each says at its end how long it
 * lived and how long it ran: "NAME TID WALL_NS CPU_NS". With NAPPERS there are so many threads that
 * nap for a millisecond, and no others; with 0, one that naps until SIGUSR1 and then waits for
 * another signal.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64 };

static volatile double end;
static int pipes[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told = PTHREAD_COND_INITIALIZER;
static int is_told;

static int64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int has_time(void)
{
	return clock_ns(CLOCK_MONOTONIC) < end;
}

__attribute__((noinline)) static void nap(int64_t ns)
{
	struct timespec time = {0, ns};

	nanosleep(&time, NULL);
	__asm__ volatile("");
}

__attribute__((noinline)) static void wait_for_condition(void)
{
	pthread_mutex_lock(&lock);
	while (!is_told)
		pthread_cond_wait(&told, &lock);
	is_told = 0;
	pthread_mutex_unlock(&lock);
}

__attribute__((noinline)) static int read_pipe(void)
{
	char byte;
	int bytes = read(pipes[0], &byte, 1);

	__asm__ volatile("");
	return bytes;
}

__attribute__((noinline)) static void spin(void)
{
	for (volatile int i = 0; i < 100000; i++)
		;
}

static void tell(const char *name, int64_t begin)
{
	printf("%s %ld %lld %lld\n", name, syscall(SYS_gettid),
	       (long long)(clock_ns(CLOCK_MONOTONIC) - begin),
	       (long long)clock_ns(CLOCK_THREAD_CPUTIME_ID));
}

static void *run(void *argument)
{
	const char *name = argument;
	int64_t begin = clock_ns(CLOCK_MONOTONIC);

	while (has_time()) {
		if (name[0] == 'n')
			nap(10000000);
		else if (name[0] == 'm')
			nap(1000000);
		else if (name[0] == 'c')
			wait_for_condition();
		else if (name[0] == 'r')
			read_pipe();
		else
			spin();
	}
	tell(name, begin);
	return NULL;
}

static void tell_all(void)
{
	if (write(pipes[1], "x", 1) < 0)
		exit(1);
	pthread_mutex_lock(&lock);
	is_told = 1;
	pthread_cond_signal(&told);
	pthread_mutex_unlock(&lock);
}

static void on_signal(int number)
{
	end = 0;
}

int main(int count, char **arguments)
{
	static char *const kinds[] = {"nap", "condition", "read", "spin", "spin", "spin"};
	pthread_t threads[MOST];
	int nappers = count > 2 ? atoi(arguments[2]) : -1;
	int threads_made = nappers >= 0 ? nappers : 6;
	int64_t begin = clock_ns(CLOCK_MONOTONIC);

	end = clock_ns(CLOCK_MONOTONIC) + atof(arguments[1]) * 1e9;
	if (!nappers) {
		signal(SIGUSR1, on_signal);
		while (has_time())
			nap(10000000);
		pause();
	}
	if (threads_made > MOST || pipe(pipes))
		return 1;
	for (int i = 0; i < threads_made; i++)
		pthread_create(&threads[i], NULL, run, nappers > 0 ? "ms" : kinds[i]);
	while (has_time()) {
		nap(20000000);
		tell_all();
	}
	tell_all();
	for (int i = 0; i < threads_made; i++)
		pthread_join(threads[i], NULL);
	tell("main", begin);
	return 0;
}
