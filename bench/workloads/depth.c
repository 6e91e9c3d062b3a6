// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0
/* depth DEPTH [WORK [MIB]]: spin below DEPTH frames, for ever, or for WORK millions of
 * rounds and then print the CPU and wall time that they took, in seconds. With MIB,
 * each round changes a word somewhere in so much memory: nothing stays in a cache.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static volatile unsigned long sink;
static unsigned long *memory, words;

static double seconds(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec + now.tv_nsec * 1e-9;
}

static __attribute__((noinline)) void spin(unsigned long rounds)
{
	for (unsigned long i = 0; i < rounds; i++)
		sink = sink * 31 + i;
}

static __attribute__((noinline)) void scatter(unsigned long rounds)
{
	unsigned long x = 88172645463325252UL; /* xorshift64: Marsaglia, 2003 */

	for (unsigned long i = 0; i < rounds; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memory[x % words]++;
	}
}

static __attribute__((noinline)) void descend(int depth, unsigned long rounds)
{
	if (depth > 1)
		descend(depth - 1, rounds);
	else if (words)
		scatter(rounds);
	else
		spin(rounds);
	/* Not a tail call: each level keeps its frame. */
	__asm__ volatile("" ::: "memory");
}

int main(int argc, char **argv)
{
	int depth = argc > 1 ? atoi(argv[1]) : 20;
	unsigned long millions = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
	unsigned long mib = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
	double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), wall = seconds(CLOCK_MONOTONIC);

	words = mib << 17;
	memory = calloc(words + 1, sizeof(*memory));
	if (!memory)
		return 1;
	/* main and spin are two of the frames; what called main comes on top. */
	descend(depth > 2 ? depth - 2 : 1, millions ? millions * 1000000UL : ~0UL);
	cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	wall = seconds(CLOCK_MONOTONIC) - wall;
	printf("%.9f %.9f\n", cpu, wall);
	return 0;
}
