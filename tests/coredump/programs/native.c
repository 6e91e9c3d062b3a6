/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Stacks of one thread or a few, one kind for each argument; a line on stdout when it stands. */

#define _GNU_SOURCE
#include <alloca.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

static volatile int keep;

static void say(void)
{
	if (write(1, "ready\n", 6) != 6)
		_exit(1);
}

NOINLINE void park(void)
{
	say();
	for (;;)
		pause();
	keep++;
}

/* Without this clang keeps of an array no more than what is used. */
#define WHOLE(array) __asm__ volatile("" ::"r"(array) : "memory")

#ifdef OA_RETURNS /* for instants at ends of functions */
static void go_back(void)
{
	keep++;
}

static void (*volatile leaf)(void) = go_back;
#else
static void (*leaf)(void) = park;
#endif

NOINLINE int descend(int depth)
{
	if (depth > 0)
		return descend(depth - 1) + keep;
	leaf();
	return keep;
}

NOINLINE int in_huge(int depth)
{
	volatile char space[200000];

	WHOLE(space);
	space[0] = space[199999] = (char)depth;
	return descend(depth) + space[0];
}

NOINLINE int in_alloca(int depth)
{
	volatile char *space = alloca((size_t)(depth * 37 + keep));

	space[0] = 1;
	return in_huge(depth) + space[0];
}

NOINLINE int in_vla(int depth)
{
	volatile char space[depth * 53 + keep];

	space[0] = 1;
	return in_alloca(depth) + space[0];
}

NOINLINE int in_realigned(int depth)
{
	volatile char space[64] __attribute__((aligned(64)));

	WHOLE(space);
	space[0] = (char)((uintptr_t)space & 63);
	return in_vla(depth) + space[0];
}

static int compare(const void *a, const void *b)
{
	int first = *(const int *)a;

	(void)b;
	return in_realigned(first > 0 ? 4 : 3) + keep;
}

NOINLINE int in_qsort(void)
{
	int numbers[] = {3, 2, 1};

	qsort(numbers, 3, sizeof(int), compare);
	return numbers[0] + keep;
}

static void mixed(void)
{
	keep += in_qsort();
}

/* Signals: the handler of one raises another; the second may run on a stack of its own. */

static void on_second(int number)
{
	(void)number;
	keep += descend(2);
}

static void on_first(int number)
{
	(void)number;
	raise(SIGUSR2);
	keep++;
}

static void on_fault(int number)
{
	(void)number;
	keep += descend(1);
}

NOINLINE int in_fault(volatile int *nowhere)
{
	return *nowhere + keep;
}

static void handle(int number, void (*handler)(int), int flags)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags};

	sigaction(number, &action, NULL);
}

static void nested(void)
{
	handle(SIGUSR1, on_first, 0);
	handle(SIGUSR2, on_second, 0);
	raise(SIGUSR1);
	keep++;
}

static void alternate(void)
{
	stack_t stack = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};

	sigaltstack(&stack, NULL);
	handle(SIGUSR1, on_first, 0);
	handle(SIGUSR2, on_second, SA_ONSTACK);
	raise(SIGUSR1);
	keep++;
}

static void fault(void)
{
	handle(SIGSEGV, on_fault, 0);
	keep += in_fault((volatile int *)(uintptr_t)(8 + keep));
}

/* Other stacks and other processes. */

static int on_new_stack(void *argument)
{
	(void)argument;
	keep += descend(3);
	return 0;
}

static void new_stack(void)
{
	char *stack = malloc(1 << 17);

	clone(on_new_stack, stack + (1 << 17),
	      CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM,
	      NULL);
	for (;;)
		pause();
}

#ifdef __GLIBC__ /* musl has none */
static ucontext_t back, there;

static void coroutine(void)
{
	keep += descend(3);
}

static void context(void)
{
	static char stack[1 << 16] __attribute__((aligned(16)));

	getcontext(&there);
	there.uc_stack.ss_sp = stack;
	there.uc_stack.ss_size = sizeof(stack);
	there.uc_link = &back;
	makecontext(&there, coroutine, 0);
	swapcontext(&back, &there);
	keep++;
}
#else
#define context new_stack
#endif

static void vforked(void)
{
	pid_t child = vfork();

	if (!child) {
		descend(2);
		_exit(0);
	}
	keep += child;
}

/* A call that is the last instruction of its function. */
NOINLINE __attribute__((noreturn)) void never(int depth)
{
	descend(depth);
	_exit(0);
}

NOINLINE __attribute__((noreturn)) static void noreturn(void)
{
	never(3 + keep);
}

static jmp_buf again;

NOINLINE void jump(int depth)
{
	if (depth > 0)
		jump(depth - 1);
	longjmp(again, 1);
}

static void jumped(void)
{
	if (!setjmp(again))
		jump(5);
	keep += descend(2);
}

/* In the assembly of the C library, in the vDSO, in the kernel. */

static char left[1 << 20], right[1 << 20];

static void copies(void)
{
	say();
	for (;;) {
		memcpy(left, right, sizeof(left) - 1 - (size_t)keep);
		__asm__ volatile("" ::: "memory");
	}
}

static void lengths(void)
{
	memset(left, 'a', sizeof(left) - 1);
	say();
	for (;;)
		keep += (int)strlen(left);
}

static void clocks(void)
{
	struct timespec now;

	say();
	for (;;) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		keep += (int)now.tv_nsec;
	}
}

static void *in_thread(void *argument)
{
	int depth = (int)(intptr_t)argument;

	keep += depth == 9 ? in_qsort() : descend(depth);
	return NULL;
}

static void threads(void)
{
	pthread_t thread;
	static const int depths[] = {0, 5, 9, 40};

	for (int at = 0; at < 4; at++)
		pthread_create(&thread, NULL, in_thread, (void *)(intptr_t)depths[at]);
	pthread_join(thread, NULL);
}

static void blocked(void)
{
	int ends[2];
	char byte;

	if (pipe(ends))
		return;
	say();
	keep += (int)read(ends[0], &byte, 1);
}

static void deep(void)
{
	keep += descend(1500);
}

/* Calls of what is no function: a crash. */

NOINLINE int call_at(uintptr_t addr)
{
	((void (*)(void))(addr + (uintptr_t)keep))();
	return keep;
}

static void null(void)
{
	keep += call_at(0);
}

static void astray(void)
{
	keep += call_at(0x1000);
}

static void crash(void)
{
	handle(SIGSEGV, on_fault, 0);
	keep += call_at(0);
}

static const struct {
	const char *name;
	void (*run)(void);
} kinds[] = {
	{"mixed", mixed},     {"nested", nested},   {"alternate", alternate}, {"fault", fault},
	{"clone", new_stack}, {"context", context}, {"vfork", vforked},	      {"setjmp", jumped},
	{"memcpy", copies},   {"strlen", lengths},  {"vdso", clocks},	      {"threads", threads},
	{"blocked", blocked}, {"deep", deep},	    {"noreturn", noreturn},   {"null", null},
	{"astray", astray},   {"crash", crash},
};

int main(int argc, char **argv)
{
	for (size_t at = 0; argc > 1 && at < sizeof(kinds) / sizeof(*kinds); at++)
		if (!strcmp(kinds[at].name, argv[1]))
			kinds[at].run();
	return keep;
}
