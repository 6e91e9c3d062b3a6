/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Ten small functions to step through, after it stopped itself. */

#include <alloca.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define STEP __attribute__((noinline, used))

static volatile long keep = 3;

STEP long step_leaf(long a)
{
	return a * keep + 1;
}

STEP long step_calls(long a)
{
	return step_leaf(a) + step_leaf(a + keep);
}

STEP long step_saves(long a, long b, long c, long d)
{
	long x = step_leaf(a), y = step_leaf(b), z = step_leaf(c), w = step_leaf(d);

	return x * y + z * w + a + b + c + d;
}

STEP long step_branches(long a)
{
	if (a < keep)
		return step_calls(a);
	for (long i = 0; i < 3; i++)
		a += step_leaf(i);
	return a;
}

STEP long step_large(long a)
{
	volatile long space[600];

	space[0] = a;
	space[599] = step_leaf(a);
	return space[0] + space[599];
}

STEP long step_alloca(long a)
{
	volatile char *space = alloca((size_t)(a * 8 + keep));

	space[0] = (char)a;
	return step_calls(a) + space[0];
}

STEP long step_aligned(long a)
{
	volatile long space[8] __attribute__((aligned(64)));

	space[3] = a;
	return step_calls(a) + space[3];
}

STEP long step_many(long a, long b, long c, long d, long e, long f, long g, long h)
{
	return step_leaf(a + b) + step_leaf(c + d) + step_leaf(e + f) + g * h;
}

STEP long step_down(long depth)
{
	return depth ? step_down(depth - 1) + 1 : step_leaf(depth);
}

STEP long step_pointer(long (*function)(long), long a)
{
	return function(a) + function(a + 1);
}

int main(void)
{
	raise(SIGSTOP);
	keep += step_calls(1);
	keep += step_saves(1, 2, 3, 4);
	keep = 3;
	keep += step_branches(1) + step_branches(9);
	keep += step_large(5);
	keep = 3;
	keep += step_alloca(2);
	keep += step_aligned(3);
	keep += step_many(1, 2, 3, 4, 5, 6, 7, 8);
	keep += step_down(3);
	keep += step_pointer(step_leaf, 4);
	_exit(0);
}
