/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Copies its own registers and stack at a known depth: chain SCENARIO OUT. The
 * file: 32 registers by DWARF number, the pc, then the stack as BPF copies it. Its
 * own mappings go to standard output.
 */
#include <alloca.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINK __attribute__((noinline, noclone))

static uint64_t regs[33];
static const char *out;
static volatile int sink;

LINK void copy_maps(int to)
{
	char text[4096];
	int from = open("/proc/self/maps", O_RDONLY);
	ssize_t got;

	while ((got = read(from, text, sizeof(text))) > 0)
		if (write(to, text, got) != got)
			_exit(9);
	close(from);
}

LINK void write_snapshot(uint64_t sp)
{
	int fd = open(out, O_CREAT | O_TRUNC | O_WRONLY, 0600);

	if (write(fd, regs, sizeof(regs)) != sizeof(regs))
		_exit(9);
	for (int bytes = 0; bytes <= 65536 - 4096;) {
		int piece = 4096 - (int)((sp + bytes) & 4095);

		if (write(fd, (void *)(sp + bytes), piece) != piece)
			break;
		bytes += piece;
	}
	close(fd);
	copy_maps(1);
}

LINK void snapshot(void)
{
#if defined(__x86_64__)
	asm volatile("mov %%rax,0(%0); mov %%rdx,8(%0); mov %%rcx,16(%0); mov %%rbx,24(%0);"
		     "mov %%rsi,32(%0); mov %%rdi,40(%0); mov %%rbp,48(%0); mov %%rsp,56(%0);"
		     "mov %%r8,64(%0); mov %%r9,72(%0); mov %%r10,80(%0); mov %%r11,88(%0);"
		     "mov %%r12,96(%0); mov %%r13,104(%0); mov %%r14,112(%0); mov %%r15,120(%0);"
		     "lea 1f(%%rip),%%rax; 1: mov %%rax,256(%0)"
		     :
		     : "r"(regs)
		     : "rax", "memory");
	write_snapshot(regs[7]);
#else
	asm volatile("stp x19,x20,[%0,#152]; stp x21,x22,[%0,#168]; stp x23,x24,[%0,#184];"
		     "stp x25,x26,[%0,#200]; stp x27,x28,[%0,#216]; stp x29,x30,[%0,#232];"
		     "mov x1,sp; str x1,[%0,#248]; adr x1,1f; 1: str x1,[%0,#256]"
		     :
		     : "r"(regs)
		     : "x1", "memory");
	write_snapshot(regs[31]);
#endif
	sink++;
}

LINK void gamma_step(int depth)
{
	if (depth > 0)
		gamma_step(depth - 1);
	else
		snapshot();
	sink++;
}

/* Frames large enough that the copy ends before the frames that are kept. */
LINK void wide_step(int depth)
{
	volatile char room[104];

	room[depth % 40] = 1;
	if (depth > 0)
		wide_step(depth - 1);
	else
		snapshot();
	sink += room[depth % 40];
}

LINK void in_alloca(int size)
{
	char *room = alloca(size);

	memset(room, size, size);
	gamma_step(0);
	sink += room[size / 2];
}

LINK int compare(const void *left, const void *right)
{
	if (!sink)
		gamma_step(1);
	sink++;
	return *(const int *)left - *(const int *)right;
}

LINK void in_qsort(void)
{
	int numbers[] = {3, 1, 2};

	qsort(numbers, 3, sizeof(*numbers), compare);
	sink++;
}

LINK void on_signal(int number)
{
	gamma_step(number > 0);
	_exit(0); /* the instruction would fault again */
}

/* No frame pointer, and the interrupted instruction is in the middle. */
LINK int faulting(volatile int *nowhere, int count)
{
	int spare[8] = {count, 2, 3};

	sink += *nowhere;
	return spare[sink & 7] + sink;
}

LINK void in_signal(void)
{
	struct sigaction action = {.sa_handler = on_signal};
	volatile int *nowhere = (volatile int *)8;

	sigaction(SIGSEGV, &action, NULL);
	sink += faulting(nowhere, 5);
}

LINK void *in_thread(void *unused)
{
	gamma_step(2);
	sink++;
	return unused;
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";
	pthread_t thread;

	out = argv[argc - 1];
	if (!strcmp(what, "plain"))
		gamma_step(0);
	else if (!strcmp(what, "deep"))
		gamma_step(40);
	else if (!strcmp(what, "cut"))
		wide_step(3000);
	else if (!strcmp(what, "alloca"))
		in_alloca(argc * 1000);
	else if (!strcmp(what, "qsort"))
		in_qsort();
	else if (!strcmp(what, "signal"))
		in_signal();
	else if (!strcmp(what, "thread"))
		return pthread_create(&thread, NULL, in_thread, NULL) || pthread_join(thread, NULL);
	else
		return 2;
	return 0;
}
