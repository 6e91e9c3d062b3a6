// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0

/* recurse SECONDS DEPTH...: so much CPU time, for each depth in turn, below a known chain: main,
 * descend × DEPTH, middle, leaf.
 */

#include <stdlib.h>
#include <time.h>

volatile unsigned long sum;

__attribute__((noinline)) void leaf(int times)
{
	for (int i = 0; i < times; i++)
		sum += i;
}

__attribute__((noinline)) void middle(int times)
{
	leaf(times);
	sum++;
}

__attribute__((noinline)) int descend(int depth, int times)
{
	if (!depth) {
		middle(times);
		return 1;
	}
	depth = descend(depth - 1, times);
	sum += depth;
	return depth + 1;
}

int main(int count, char **words)
{
	double seconds = count > 1 ? atof(words[1]) : 1;
	int at = 2;

	do {
		int depth = count > at ? atoi(words[at]) : 10;
		clock_t begin = clock();

		while (clock() - begin < seconds * CLOCKS_PER_SEC)
			descend(depth - 1, 20000);
	} while (++at < count);
	return 0;
}
