/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Runs the code of forms.S in memory without a file: `calls`, the chain of all forms of
 * calls (`returns`: to its end); `odd`, a thread for each caller that cannot be believed.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BASE 0x20000000
#define SIZE 0x10000

extern uint8_t code[], code_end[], parks[], targets[];
extern uint64_t last[];
extern uint64_t odds[], odds_end[];

static volatile int keep, returns;

__attribute__((noinline)) void park(void)
{
	if (returns)
		return;
	if (write(1, "ready\n", 6) != 6)
		_exit(1);
	for (;;)
		pause();
	keep++;
}

static void *run(void *function)
{
	((void (*)(void))function)();
	keep++;
	return NULL;
}

static void name(FILE *map, const char *kind, int n, uint64_t start, uint64_t end)
{
	fprintf(map, "%lx %lx %s_%d\n", (unsigned long)start, (unsigned long)(end - start), kind,
		n);
}

static void write_map(void)
{
	char path[64];
	uint64_t forms[17];
	int count = (int)(odds_end - odds);
	FILE *map;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", getpid());
	map = fopen(path, "w");
	if (!map)
		return;
	memcpy(forms, targets, 16 * 8);
	forms[16] = BASE + (uint64_t)(targets - code);
	for (int n = 0; n < 16; n++)
		name(map, "form", n, forms[n], forms[n + 1]);
	for (int n = 0; n < count; n++)
		name(map, "odd", n, odds[n],
		     n + 1 < count ? odds[n + 1] : BASE + (uint64_t)(code_end - code));
	fclose(map);
}

int main(int argc, char **argv)
{
	uint8_t *copy = mmap((void *)BASE, SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	pthread_t thread = 0;
	int32_t distance;

	memcpy(copy, code, (size_t)(code_end - code));
	*(void **)(copy + (parks - code)) = (void *)park;
	copy[SIZE - 5] = 0xe8; /* a call of form_15 by the last bytes */
	distance = (int32_t)(last[0] - (BASE + SIZE));
	memcpy(copy + SIZE - 4, &distance, 4);
	write_map();
	returns = argc > 1 && !strcmp(argv[1], "returns");
	if (argc > 1 && strcmp(argv[1], "odd"))
		run(*(void **)targets);
	for (uint64_t *odd = odds; !returns && odd < odds_end; odd++)
		pthread_create(&thread, NULL, run, (void *)*odd);
	if (thread)
		pthread_join(thread, NULL);
	return keep;
}
