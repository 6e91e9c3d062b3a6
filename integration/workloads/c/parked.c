/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that spin at fixed depths: `parked` prints a line when all of them do. */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define KEEP __attribute__((noinline))

volatile uint64_t sink;
volatile int spinning;

static inline __attribute__((always_inline)) uint64_t mixed_in(uint64_t x)
{
	x ^= x << 13;
	return x ^ x >> 7;
}

KEEP static int spin(void)
{
	uint64_t x = 1;

	__sync_fetch_and_add(&spinning, 1);
	for (;;) {
		x = mixed_in(x);
		sink = x;
	}
	return (int)x;
}

/* The volatile variable keeps it from being made a loop. */
KEEP static int descend(int depth)
{
	volatile int here = depth;

	if (depth <= 0)
		return spin() + 1;
	return descend(depth - 1) + here;
}

static int by_size(const void *a, const void *b)
{
	sink = (uint64_t)(uintptr_t)a ^ (uint64_t)(uintptr_t)b;
	return descend(3) + 1;
}

/* A callback from the C library. */
KEEP static void through_qsort(void)
{
	int numbers[] = {3, 1, 2};

	qsort(numbers, 3, sizeof(numbers[0]), by_size);
	sink++;
}

static void on_signal(int number)
{
	sink = (uint64_t)(number + descend(2));
}

/* In a handler that the C library called. */
KEEP static void through_signal(void)
{
	signal(SIGUSR1, on_signal);
	raise(SIGUSR1);
	sink++;
}

/* On a stack pointer that is moved. */
KEEP static void through_array(int size)
{
	volatile char area[size];

	area[0] = (char)size;
	sink = (uint64_t)descend(4) + (uint64_t)area[size / 2];
}

static void *run(void *argument)
{
	switch ((int)(intptr_t)argument) {
	case 0:
		return (void *)(intptr_t)(descend(100) + 1);
	case 1:
		through_qsort();
		break;
	case 2:
		through_signal();
		break;
	case 3:
		through_array((int)(sink & 1) + 777);
		break;
	}
	sink++;
	return NULL;
}

int main(void)
{
	pthread_t thread;

	for (intptr_t i = 0; i < 4; i++)
		pthread_create(&thread, NULL, run, (void *)i);
	while (spinning < 4)
		usleep(1000);
	puts("ready");
	fflush(stdout);
	return descend(7) & 1;
}
