/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Code made at run time, with frame pointers: each function calls the next, the last one C.
 * `map` names it in a perf map, `dump` in a jitdump, `none` nowhere.
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FUNCTIONS = 4, SIZE = 32 };

static volatile int keep;

__attribute__((noinline)) void park(void)
{
	if (write(1, "ready\n", 6) != 6)
		_exit(1);
	for (;;)
		pause();
	keep++;
}

/* push rbp; mov rbp, rsp; mov rax, target; call rax; pop rbp; ret */
static void emit(uint8_t *at, const void *target)
{
	static const uint8_t head[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0xb8};
	static const uint8_t tail[] = {0xff, 0xd0, 0x5d, 0xc3};

	memcpy(at, head, sizeof(head));
	memcpy(at + sizeof(head), &target, 8);
	memcpy(at + sizeof(head) + 8, tail, sizeof(tail));
}

static void write_map(const uint8_t *code)
{
	char path[64];
	FILE *map;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", getpid());
	map = fopen(path, "w");
	if (!map)
		return;
	for (int n = 0; n < FUNCTIONS; n++)
		fprintf(map, "%lx %x jitted_%d\n", (unsigned long)(code + n * SIZE), SIZE, n);
	fclose(map);
}

/* tools/perf/Documentation/jitdump-specification.txt */
static void write_dump(const char *folder, const uint8_t *code)
{
	struct {
		uint32_t magic, version, size, machine, pad, pid;
		uint64_t time, flags;
	} head = {0x4a695444, 1, 40, 62, 0, (uint32_t)getpid(), 0, 0};
	struct {
		uint32_t id, size;
		uint64_t time;
		uint32_t pid, tid;
		uint64_t vma, addr, bytes, index;
		char name[10];
	} __attribute__((packed)) load = {0};
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/jit-%d.dump", folder, getpid());
	fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
	if (fd < 0 || write(fd, &head, sizeof(head)) < 0)
		return;
	for (int n = 0; n < FUNCTIONS; n++) {
		load.size = sizeof(load) + SIZE;
		load.pid = load.tid = (uint32_t)getpid();
		load.vma = load.addr = (uintptr_t)(code + n * SIZE);
		load.bytes = SIZE;
		load.index = (uint64_t)n;
		snprintf(load.name, sizeof(load.name), "dumped_%d", n);
		if (write(fd, &load, sizeof(load)) < 0 || write(fd, code + n * SIZE, SIZE) < 0)
			return;
	}
	mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
}

int main(int argc, char **argv)
{
	uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (int n = 0; n < FUNCTIONS; n++)
		emit(code + n * SIZE,
		     n + 1 < FUNCTIONS ? (void *)(code + (n + 1) * SIZE) : (void *)park);
	if (argc > 1 && !strcmp(argv[1], "map"))
		write_map(code);
	if (argc > 2 && !strcmp(argv[1], "dump"))
		write_dump(argv[2], code);
	((void (*)(void))code)();
	return keep;
}
