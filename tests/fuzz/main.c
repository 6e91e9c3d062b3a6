/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Feeds a driver mutated inputs: DRIVER SECONDS SEED SAVE [FILE…]
 *
 * Mutates the files, or makes inputs up where there are none; a driver may be given
 * SECONDS 0 to run each file once, as it is. An input that ends the run, or takes
 * longer than a second, is written to SAVE. Prints how many inputs were run.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

#include "fuzz.h"

enum { MAX_INPUT = 1 << 16, MAX_MADE_UP = 4096, MAX_FILES = 4096, ROUND = 64 };

struct input {
	u8 *data;
	size_t size;
};

static struct input files[MAX_FILES];
static u32 file_count;
static u64 state;
static const char *save_path;
static const u8 *running;
static size_t running_bytes;
static volatile u64 inputs;

void __sanitizer_set_death_callback(void (*callback)(void));

static void save(void)
{
	int fd = open(save_path, O_CREAT | O_TRUNC | O_WRONLY, 0600);

	if (fd >= 0 && write(fd, running, running_bytes) >= 0)
		close(fd);
}

/* What the undefined behaviour sanitizer finds, and what a driver does: ASan's callback is not
 * told. */
static void on_abort(int number)
{
	(void)number;
	save();
	_exit(1);
}

/* Every second: the same input still running after a whole one is a hang. */
static void on_second(int number)
{
	static const char said[] = "an input takes longer than a second\n";
	static u64 before;

	(void)number;
	if (inputs == before) {
		save();
		if (write(2, said, sizeof(said) - 1) < 0)
			_exit(4);
		_exit(3);
	}
	before = inputs;
}

static u64 next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static const u64 EDGES[] = {0,	    1,	    0x7f,	0x80,	    0xff,
			    0x7fff, 0x8000, 0xffff,	0x7fffffff, 0x80000000,
			    ~0u,    ~0ULL,  1ULL << 63, 64,	    1ULL << 48};

/* One small change; the size stays within MAX_INPUT. */
static size_t change(u8 *data, size_t size)
{
	size_t at = size ? next() % size : 0, left = size - at;
	size_t bytes = 1ULL << next() % 4, other;

	if (bytes > left)
		bytes = left;
	switch (next() % 8) {
	case 0:
		if (size)
			data[at] ^= 1 << next() % 8;
		return size;
	case 1:
		if (size)
			data[at] = (u8)next();
		return size;
	case 2:
		memcpy(data + at, &EDGES[next() % (sizeof(EDGES) / sizeof(*EDGES))], bytes);
		return size;
	case 3:
		if (size)
			data[at] += (u8)(next() % 9) - 4;
		return size;
	case 4: /* cut */
		return next() % 4 ? size : at;
	case 5: /* a piece of another file over this one */
		if (file_count) {
			struct input *from = &files[next() % file_count];

			other = from->size ? next() % from->size : 0;
			bytes = next() % 64;
			if (bytes > left)
				bytes = left;
			if (bytes > from->size - other)
				bytes = from->size - other;
			memcpy(data + at, from->data + other, bytes);
		}
		return size;
	case 6: /* drop some */
		bytes = next() % 16 < left ? next() % 16 : 0;
		if (bytes > left)
			bytes = left;
		memmove(data + at, data + at + bytes, left - bytes);
		return size - bytes;
	default: /* double some */
		bytes = next() % 16;
		if (bytes > left)
			bytes = left;
		if (size + bytes > MAX_INPUT)
			return size;
		memmove(data + at + bytes, data + at, left);
		return size + bytes;
	}
}

static size_t make_up(u8 *data)
{
	size_t size = next() % MAX_MADE_UP;

	for (size_t i = 0; i < size; i += 8) {
		/* Zeros and small numbers are what lengths and kinds are made of. */
		u64 word = next() >> (next() % 8 * 8);

		memcpy(data + i, &word, size - i < 8 ? size - i : 8);
	}
	return size;
}

static void run(const u8 *data, size_t size)
{
	/* Of exactly its size, so that reading behind its end is seen. */
	u8 *copy = malloc(size ? size : 1);

	if (!copy)
		_exit(4);
	memcpy(copy, data, size);
	running = copy;
	running_bytes = size;
	oa_fuzz_one(copy, size);
	free(copy);
	inputs++;
}

static void run_mutated(void)
{
	static u8 data[MAX_INPUT + 8];
	u32 changes = 1 + next() % 16;
	size_t size;

	if (file_count) {
		const struct input *from = &files[next() % file_count];

		size = from->size;
		memcpy(data, from->data, size);
	} else {
		size = make_up(data);
	}
	while (file_count && changes--)
		size = change(data, size);
	run(data, size);
}

static void read_file(const char *path)
{
	struct input *to = &files[file_count];
	FILE *file = fopen(path, "rb");

	to->data = malloc(MAX_INPUT);
	if (!file || !to->data) {
		perror(path);
		_exit(4);
	}
	to->size = fread(to->data, 1, MAX_INPUT, file);
	fclose(file);
	file_count++;
}

int main(int argc, char **argv)
{
	struct itimerval each_second = {{1, 0}, {1, 0}};
	double seconds;
	time_t end;

	if (argc < 4)
		return 2;
	seconds = atof(argv[1]);
	state = strtoull(argv[2], NULL, 0) * 0x9e3779b97f4a7c15ULL | 1;
	save_path = argv[3];
	for (int i = 4; i < argc && file_count < MAX_FILES; i++)
		read_file(argv[i]);
	__sanitizer_set_death_callback(save);
	signal(SIGABRT, on_abort);
	signal(SIGVTALRM, on_second);
	setitimer(ITIMER_VIRTUAL, &each_second, NULL);
	for (u32 i = 0; i < file_count; i++)
		run(files[i].data, files[i].size);
	end = time(NULL) + (time_t)seconds;
	while (seconds > 0 && time(NULL) < end)
		for (int i = 0; i < ROUND; i++)
			run_mutated();
	printf("%llu\n", (unsigned long long)inputs);
	return 0;
}
