/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Shapes of stacks that are hard to unwind: `stacks SHAPE SECONDS [ARGUMENT]`.
 *
 * Compiled with -O2 -fomit-frame-pointer, in several ways of linking. A shape
 * ends when its seconds of CPU time are used up, so a busy machine gives as
 * many samples as an idle one.
 */
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef __clang__
#define KEEP __attribute__((noinline))
#else
#define KEEP __attribute__((noinline, noclone))
#endif

volatile uint64_t sink;
static double seconds;
static const char *argument = "";

/* Not `clock`: the C library's goes through the vDSO and a system call. */
KEEP static int is_over(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9 >= seconds;
}

KEEP void burn(int rounds)
{
	uint64_t x = (uint64_t)rounds + 88172645463325252ULL;

	for (int i = 0; i < rounds; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	}
	sink = x;
}

/* The volatile variable keeps it from being made a loop. */
KEEP int recurse(int depth)
{
	volatile int here = depth;

	if (depth <= 0) {
		burn(2000);
		return 1;
	}
	return recurse(depth - 1) + here;
}

/* A small part of the work is at every depth on the way down and up. */
KEEP static int wander(int depth, unsigned int seed)
{
	volatile int here = depth;

	if (depth <= 0)
		return 0;
	burn((int)(seed % 17));
	return wander(depth - 1, seed * 1103515245U + 12345U) + here;
}

static void shape_recursion(void)
{
	int depth = *argument ? atoi(argument) : 600;

	while (!is_over()) {
		sink += (uint64_t)recurse(depth);
		sink += (uint64_t)wander(depth, (unsigned int)depth);
	}
}

KEEP int compare(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

/* Calls through the PLT, callbacks from the C library, string functions with hand-made code. */
static void shape_plt(void)
{
	static int numbers[4096];
	static char text[8192];

	while (!is_over()) {
		for (int i = 0; i < 4096; i++)
			numbers[i] = rand();
		qsort(numbers, 4096, sizeof(numbers[0]), compare);
		for (int i = 0; i < 200; i++) {
			memset(text, 'a' + i % 16, sizeof(text) - 1);
			sink += strlen(text) + (uint64_t)(strchr(text, 'z') != NULL);
			memmove(text + 1, text, 4000 + (size_t)i);
			sink += (uint64_t)memcmp(text, text + 1, 4000);
			snprintf(text, sizeof(text), "%d %s %f", i, "words",
				 sin(i) * pow(1.5, i % 9));
		}
		for (int i = 0; i < 2000; i++)
			free(malloc((size_t)(numbers[i] % 5000)));
		sink += (uint64_t)getpid();
	}
}

static volatile int nesting;

KEEP static void on_signal(int number)
{
	(void)number;
	if (nesting < 4) {
		nesting++;
		raise(nesting % 2 ? SIGUSR2 : SIGUSR1);
		nesting--;
	}
	burn(20000);
}

KEEP static void on_info(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)info;
	sink += ((ucontext_t *)context)->uc_stack.ss_size;
	burn(40000);
}

static void use_stack(int flags)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_NODEFER | flags};
	struct sigaction info = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO | flags};

	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGUSR2, &action, NULL);
	sigaction(SIGVTALRM, &info, NULL);
}

/* Handlers in handlers, and one that interrupts any instruction (a timer each millisecond). */
static void shape_signals(void)
{
	struct itimerval each = {{0, 1000}, {0, 1000}};

	use_stack(0);
	setitimer(ITIMER_VIRTUAL, &each, NULL);
	while (!is_over()) {
		raise(SIGUSR1);
		sink += (uint64_t)recurse(20);
		sink += (uint64_t)wander(50, 7);
	}
}

static void shape_altstack(void)
{
	static char memory[1 << 17];
	stack_t alternate = {.ss_sp = memory, .ss_size = sizeof(memory)};
	struct itimerval each = {{0, 1000}, {0, 1000}};

	sigaltstack(&alternate, NULL);
	use_stack(SA_ONSTACK);
	setitimer(ITIMER_VIRTUAL, &each, NULL);
	while (!is_over()) {
		raise(SIGUSR1);
		sink += (uint64_t)wander(50, 7);
	}
}

KEEP uint64_t with_alloca(int size)
{
	char *area = alloca((size_t)size);

	memset(area, size & 255, (size_t)size);
	burn(300);
	return (uint64_t)area[size / 2];
}

KEEP uint64_t with_array(int size)
{
	volatile int area[size];

	for (int i = 0; i < size; i++)
		area[i] = i;
	burn(300);
	return (uint64_t)area[size - 1] + with_alloca(size);
}

KEEP uint64_t realigned(int value)
{
	volatile int wide[16] __attribute__((aligned(64)));

	for (int i = 0; i < 16; i++)
		wide[i] = value + i;
	burn(300);
	return (uint64_t)wide[value & 15] + with_array(value % 100 + 2);
}

/* 16-byte pieces and an array: GCC keeps the incoming stack pointer in another register. */
KEEP uint64_t realigned_with_array(int value)
{
	volatile int wide[16] __attribute__((aligned(128)));
	char *area = alloca((size_t)(value % 1000 + 1));

	wide[value & 15] = value;
	area[0] = (char)value;
	burn(300);
	return realigned(value) + (uint64_t)wide[value & 15] + (uint64_t)area[0];
}

static void shape_frames(void)
{
	while (!is_over())
		for (int i = 1; i < 200; i++)
			sink += realigned_with_array(i);
}

static jmp_buf back;

KEEP static void leave(int depth)
{
	burn(200);
	if (depth > 0)
		leave(depth - 1);
	else if (sink != 1)
		longjmp(back, 1);
	sink++;
}

static void shape_jumps(void)
{
	while (!is_over())
		if (!setjmp(back))
			leave(40);
}

KEEP static void *run_thread(void *depth)
{
	while (!is_over())
		sink += (uint64_t)recurse((int)(intptr_t)depth);
	return NULL;
}

static void shape_threads(void)
{
	pthread_t threads[4];

	seconds /= 4;
	for (intptr_t i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, run_thread, (void *)(i * 10));
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

/* Threads that live for a moment: their start and end are seen, too. */
static void shape_short_threads(void)
{
	while (!is_over()) {
		pthread_t thread;
		double all = seconds;

		seconds = 0.002;
		pthread_create(&thread, NULL, run_thread, (void *)5);
		pthread_join(thread, NULL);
		seconds = all;
		burn(2000000);
	}
}

/* A child on its parent's stack and memory, which burns before it ends. */
KEEP static void spawn(void)
{
	pid_t child = vfork();

	if (child == 0) {
		burn(1000000);
		_exit(0);
	}
	waitpid(child, NULL, 0);
}

static void shape_vfork(void)
{
	while (!is_over()) {
		spawn();
		burn(2000000);
	}
}

static void shape_fork(void)
{
	while (!is_over()) {
		pid_t child = fork();

		if (child == 0) {
			sink += (uint64_t)recurse(30);
			burn(1000000);
			_exit(0);
		}
		waitpid(child, NULL, 0);
		burn(1000000);
	}
}

/* Code that comes and goes while the program runs. */
static void shape_dlopen(void)
{
	while (!is_over()) {
		void *library = dlopen(argument, RTLD_NOW);
		void (*work)(int);

		if (!library) {
			fprintf(stderr, "%s\n", dlerror());
			exit(1);
		}
		work = (void (*)(int))dlsym(library, "plugin_work");
		for (int i = 0; i < 100; i++)
			work(20000);
		dlclose(library);
	}
}

/* What comes after keeps the calls from being jumps. */
KEEP static void big_part(void)
{
	burn(30000);
	sink++;
}

KEEP static void small_part(void)
{
	burn(10000);
	sink++;
}

/* 75 : 25 */
static void shape_split(void)
{
	while (!is_over())
		for (int i = 0; i < 20; i++) {
			big_part();
			small_part();
		}
}

static const struct {
	const char *name;
	void (*run)(void);
} shapes[] = {
	{"recursion", shape_recursion}, {"plt", shape_plt},
	{"signals", shape_signals},	{"altstack", shape_altstack},
	{"frames", shape_frames},	{"jumps", shape_jumps},
	{"threads", shape_threads},	{"short_threads", shape_short_threads},
	{"vfork", shape_vfork},		{"fork", shape_fork},
	{"dlopen", shape_dlopen},	{"split", shape_split},
};

int main(int count, char **arguments)
{
	if (count < 3)
		return 2;
	seconds = atof(arguments[2]);
	if (count > 3)
		argument = arguments[3];
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		if (!strcmp(shapes[i].name, arguments[1])) {
			shapes[i].run();
			return 0;
		}
	return 2;
}
