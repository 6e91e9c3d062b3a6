/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A thread in each function of frames.S: `spins`, interrupted by a handler; `calls`, and `lies`. */

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define SPINS(apply)                                                                               \
	apply(in_rax) apply(in_rbx) apply(in_rcx) apply(in_rdx) apply(in_rsi) apply(in_rdi)        \
		apply(in_rbp) apply(in_r8) apply(in_r9) apply(in_r10) apply(in_r11) apply(in_r12)  \
			apply(in_r13) apply(in_r14) apply(in_r15) apply(back_in_rcx)               \
				apply(back_in_r9) apply(moved_rbp) apply(aside_rbp)
#define CALLS(apply)                                                                               \
	apply(saved) apply(over_saved) apply(over_kept) apply(over_lost) apply(over_r12)
#define LIES(apply)   apply(lies_below) apply(lies_here)
#define DECLARE(name) extern void name(void);
#define LIST(name)    name,

SPINS(DECLARE)
CALLS(DECLARE)
LIES(DECLARE)
extern void clears(int);

volatile int spinning;
uint64_t aside[4];
static volatile int keep;

__attribute__((noinline)) void park(void)
{
	if (write(1, "ready\n", 6) != 6)
		_exit(1);
	for (;;)
		pause();
	keep++;
}

/* It has a frame pointer, so that its caller is found only if that comes out right. */
__attribute__((noinline, optimize("no-omit-frame-pointer"))) static void *run(void *function)
{
	volatile char space[keep + 32];

	space[0] = 1;
	((void (*)(void))function)();
	keep += space[0];
	return NULL;
}

static void start(void (*function)(void), int is_interrupted)
{
	pthread_t thread;
	int before = spinning;

	pthread_create(&thread, NULL, run, (void *)function);
	while (is_interrupted && spinning == before)
		sched_yield();
	if (is_interrupted)
		pthread_kill(thread, SIGUSR1);
}

int main(int argc, char **argv)
{
	static void (*const spins[])(void) = {SPINS(LIST)}, (*const calls[])(void) = {CALLS(LIST)},
			    (*const lies[])(void) = {LIES(LIST)};
	struct sigaction action = {.sa_handler = clears};
	const char *kind = argc > 1 ? argv[1] : "";

	sigaction(SIGUSR1, &action, NULL);
	for (size_t n = 0; !strcmp(kind, "spins") && n < sizeof(spins) / sizeof(*spins); n++)
		start(spins[n], 1);
	for (size_t n = 0; !strcmp(kind, "calls") && n < sizeof(calls) / sizeof(*calls); n++)
		start(calls[n], 0);
	for (size_t n = 0; !strcmp(kind, "lies") && n < sizeof(lies) / sizeof(*lies); n++)
		start(lies[n], 0);
	for (;;)
		pause();
	return keep;
}
