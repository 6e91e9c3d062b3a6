// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0
/* What a profiler must bear; each mode goes on for ever.
 *
 * scale execs RATE: so many times a second, on all CPUs together, vfork, exec of this program, and
 *	its end.
 * scale mappings COUNT PER_SECOND: so many mappings, every 64th of them code, besides which as many
 *	ranges of code as PER_SECOND says are mapped anew, called and unmapped.
 * scale crowd PROCESSES THREADS: so many processes with so many threads each, which work a little
 *	now and then; one of them more.
 *
 * A line `ready` says that all is there. To be linked statically: an exec then is the least it can
 *be.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, STACK = 32 * 1024, CODE_EACH = 64, SECOND_NS = 1000000000 };

static volatile unsigned long sink;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * (long)SECOND_NS + now.tv_nsec;
}

static void rest_until(long then_ns)
{
	struct timespec then = {then_ns / SECOND_NS, then_ns % SECOND_NS};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &then, NULL) == EINTR)
		;
}

static __attribute__((noinline)) void spin(long rounds)
{
	for (long i = 0; i < rounds; i++)
		sink = sink * 31 + i;
}

static void execs(char *self, long rate)
{
	char *argv[] = {self, "end", NULL}, *none[] = {NULL};
	long began = now_ns(), workers = sysconf(_SC_NPROCESSORS_ONLN);

	puts("ready");
	rate /= workers;
	for (long i = 1; i < workers; i++)
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, 9);
			break;
		}
	for (long done = 0;; done++) {
		pid_t child;

		/* By vfork and exec. */
		if (posix_spawn(&child, self, NULL, NULL, argv, none))
			die("posix_spawn");
		waitpid(child, NULL, 0);
		/* In step with the clock: what came late is made up for. */
		if (now_ns() < began + done * SECOND_NS / rate)
			rest_until(began + done * SECOND_NS / rate);
		if (done % (rate * 10) == rate * 10 - 1)
			printf("%.0f a second, of one of %ld\n",
			       (done + 1) * 1e9 / (now_ns() - began), workers);
	}
}

static void mappings(long count, long per_second)
{
	char *all = mmap(NULL, count * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			 -1, 0);
	long began;

	if (all == MAP_FAILED)
		die("mmap");
	/* Neighbours differ in what may be done with them, so that none are joined. */
	for (long i = 1; i < count; i += 2) {
		int rights = i % CODE_EACH == 1 ? PROT_READ | PROT_EXEC : PROT_READ | PROT_WRITE;

		if (mprotect(all + i * PAGE, PAGE, rights))
			die("mprotect");
	}
	puts("ready");
	began = now_ns();
	for (long done = 0;; done++) {
		unsigned char *code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (code == MAP_FAILED)
			die("mmap");
		memcpy(code, "\xc3", 1); /* x86-64: ret */
		if (mprotect(code, PAGE, PROT_READ | PROT_EXEC))
			die("mprotect");
#ifdef __x86_64__
		((void (*)(void))code)();
#endif
		spin(200000);
		munmap(code, PAGE);
		rest_until(began + done * SECOND_NS / per_second);
	}
}

static void *work(void *unused)
{
	unsigned seed = (unsigned)now_ns() + (unsigned)getpid();

	for (;;) {
		usleep(5000000 + rand_r(&seed) % 10000000);
		spin(2000);
	}
	return unused;
}

static void crowd(long processes, long threads)
{
	for (long i = 0; i < processes; i++) {
		pthread_attr_t small;
		pthread_t thread;
		pid_t child = fork();

		if (child < 0)
			die("fork");
		if (child)
			continue;
		prctl(PR_SET_PDEATHSIG, 9);
		pthread_attr_init(&small);
		pthread_attr_setstacksize(&small, STACK);
		for (long k = 1; k < threads; k++)
			if (pthread_create(&thread, &small, work, NULL))
				die("pthread_create");
		work(NULL);
	}
	puts("ready");
	for (;;)
		spin(1000000);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	long first = argc > 2 ? atol(argv[2]) : 0, second = argc > 3 ? atol(argv[3]) : 0;

	if (!strcmp(mode, "end"))
		return 0;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(mode, "execs") && first > 0)
		execs(argv[0], first);
	if (!strcmp(mode, "mappings") && first > 0 && second > 0)
		mappings(first, second);
	if (!strcmp(mode, "crowd") && first > 0 && second > 0)
		crowd(first, second);
	fputs("scale execs RATE | mappings COUNT PER_SECOND | crowd PROCESSES THREADS\n", stderr);
	return 2;
}
