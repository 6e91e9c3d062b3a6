/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE

#include "stop.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

enum {
	PID_LIMIT = 1 << 22, /* include/linux/threads.h: PID_MAX_LIMIT */
	MAX_ROUNDS = 100, /* of looking for threads that began meanwhile */
	PAUSE_NS = 50000,
	LOOK_NS = 10000000, /* after so long it is looked what they do that have not stopped */
	MAX_QUIETS = 10, /* as long is waited in all, in units of `quiet_ms` */
};

struct oa_stop {
	s32 pid;
	u32 quiet_ms;
	struct oa_stopped *threads;
	u32 count;
	u32 capacity;
	u8 *seen; /* a bit for each possible thread id */
	u32 waiting; /* interrupted, and not heard of since */
	s32 error;
	s32 is_running; /* the tracer */
	u64 began_ns;
	u64 ended_ns;
	pthread_t tracer;
	sem_t stopped;
	sem_t release;
};

static u64 now_ns(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return (u64)at.tv_sec * 1000000000 + (u64)at.tv_nsec;
}

/* Room for one more thread; NULL if there is no memory. */
static struct oa_stopped *add_thread(struct oa_stop *stop, s32 tid)
{
	struct oa_stopped *threads = stop->threads;

	if (stop->count == stop->capacity) {
		u32 capacity = stop->capacity ? stop->capacity * 2 : 64;

		threads = realloc(threads, capacity * sizeof(*threads));
		if (!threads)
			return NULL;
		stop->threads = threads;
		stop->capacity = capacity;
	}
	threads += stop->count++;
	memset(threads, 0, sizeof(*threads));
	threads->tid = tid;
	return threads;
}

static void seize(struct oa_stop *stop, s32 tid)
{
	struct oa_stopped *thread = add_thread(stop, tid);

	if (!thread) {
		stop->error = ENOMEM;
		return;
	}
	if (!stop->began_ns)
		stop->began_ns = now_ns();
	if (!ptrace(PTRACE_SEIZE, tid, 0, 0) && !ptrace(PTRACE_INTERRUPT, tid, 0, 0)) {
		thread->state = OA_STOP_LATE;
		stop->waiting++;
		return;
	}
	thread->error = errno;
	thread->state = errno == ESRCH ? OA_STOP_GONE : OA_STOP_FAILED;
}

/* Seize the threads that were not met yet; returns how many there were. */
static u32 seize_new(struct oa_stop *stop)
{
	char path[64];
	u32 before = stop->count;
	struct dirent *entry;
	DIR *folder;

	snprintf(path, sizeof(path), "/proc/%d/task", stop->pid);
	folder = opendir(path);
	if (!folder) {
		stop->error = errno == ENOENT ? ESRCH : errno;
		return 0;
	}
	while ((entry = readdir(folder)) && stop->error != ENOMEM) {
		long tid = strtol(entry->d_name, NULL, 10);

		if (tid <= 0 || tid >= PID_LIMIT || stop->seen[tid / 8] & 1 << tid % 8)
			continue;
		stop->seen[tid / 8] |= (u8)(1 << tid % 8);
		seize(stop, (s32)tid);
	}
	closedir(folder);
	return stop->count - before;
}

static void read_registers(struct oa_stopped *thread)
{
	struct iovec to = {thread->regs, sizeof(thread->regs)};

	if (ptrace(PTRACE_GETREGSET, thread->tid, NT_PRSTATUS, &to)) {
		thread->error = errno;
		return;
	}
	thread->regs_bytes = (u32)to.iov_len;
#if defined(__aarch64__)
	to = (struct iovec){&thread->tls, sizeof(thread->tls)};
	ptrace(PTRACE_GETREGSET, thread->tid, NT_ARM_TLS, &to);
#endif
}

/* See whether a thread has stopped; true if it is not waited for any more. */
static s32 settle(struct oa_stopped *thread)
{
	s32 status;
	pid_t got = waitpid(thread->tid, &status, __WALL | WNOHANG);

	if (!got || (got < 0 && errno == EINTR))
		return 0;
	if (got < 0 || !WIFSTOPPED(status)) {
		thread->state = OA_STOP_GONE;
		return 1;
	}
	/* Without an event a signal was about to be delivered: it must not be lost. */
	if (status >> 16 == 0)
		thread->signal = WSTOPSIG(status);
	thread->state = OA_STOP_STOPPED;
	read_registers(thread);
	return 1;
}

/* Whether a thread waits in the kernel where nothing interrupts it (state D). */
static s32 is_uninterruptible(s32 pid, s32 tid)
{
	char path[64], line[512], *state;
	FILE *stat;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	stat = fopen(path, "re");
	if (!stat)
		return 0;
	state = fgets(line, sizeof(line), stat);
	fclose(stat);
	/* The name before the state may hold anything. */
	state = state ? strrchr(line, ')') : NULL;
	return state && state[1] == ' ' && state[2] == 'D';
}

static s32 is_hopeless(const struct oa_stop *stop)
{
	for (u32 i = 0; i < stop->count; i++)
		if (stop->threads[i].state == OA_STOP_LATE &&
		    !is_uninterruptible(stop->pid, stop->threads[i].tid))
			return 0;
	return 1;
}

/* Wait until all have stopped, or none has for too long, or it takes too long in all. */
static void wait_for(struct oa_stop *stop, u64 until_ns)
{
	const struct timespec pause = {0, PAUSE_NS};
	u64 last_ns = now_ns(), at_ns;

	while (stop->waiting) {
		u32 before = stop->waiting;

		for (u32 i = 0; i < stop->count; i++)
			if (stop->threads[i].state == OA_STOP_LATE && settle(&stop->threads[i]))
				stop->waiting--;
		at_ns = now_ns();
		if (before != stop->waiting) {
			last_ns = at_ns;
			continue;
		}
		if (at_ns - last_ns > LOOK_NS && is_hopeless(stop))
			return;
		if (at_ns > until_ns || at_ns - last_ns > (u64)stop->quiet_ms * 1000000)
			return;
		nanosleep(&pause, NULL);
	}
}

static void stop_all(struct oa_stop *stop)
{
	u64 until_ns = now_ns() + (u64)stop->quiet_ms * MAX_QUIETS * 1000000;

	for (u32 round = 0; round < MAX_ROUNDS; round++) {
		if (!seize_new(stop) || now_ns() > until_ns)
			break;
	}
	wait_for(stop, until_ns);
	/* Those that were about to begin threads have stopped by now. */
	if (seize_new(stop))
		wait_for(stop, until_ns);
}

static void let_go(struct oa_stop *stop)
{
	for (u32 i = 0; i < stop->count; i++) {
		struct oa_stopped *thread = &stop->threads[i];

		if (thread->state == OA_STOP_STOPPED ||
		    (thread->state == OA_STOP_LATE && settle(thread)))
			ptrace(PTRACE_DETACH, thread->tid, 0, (long)thread->signal);
	}
	stop->ended_ns = now_ns();
}

static void *trace(void *argument)
{
	struct oa_stop *stop = argument;

	stop_all(stop);
	sem_post(&stop->stopped);
	while (sem_wait(&stop->release) && errno == EINTR)
		;
	let_go(stop);
	return NULL;
}

struct oa_stop *oa_stop_new(void)
{
	struct oa_stop *stop = calloc(1, sizeof(*stop));

	if (!stop)
		return NULL;
	stop->seen = calloc(1, PID_LIMIT / 8);
	if (!stop->seen) {
		free(stop);
		return NULL;
	}
	sem_init(&stop->stopped, 0, 0);
	sem_init(&stop->release, 0, 0);
	return stop;
}

static s32 start_tracer(struct oa_stop *stop)
{
	sigset_t all, before;
	s32 error;

	/* Signals are for the thread that asked. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&stop->tracer, NULL, trace, stop);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	stop->is_running = !error;
	return error;
}

/* What kept every single thread from being seized, or 0. */
static s32 common_error(const struct oa_stop *stop)
{
	s32 error = stop->error ? stop->error : ESRCH;

	for (u32 i = 0; i < stop->count; i++) {
		if (stop->threads[i].state != OA_STOP_FAILED &&
		    stop->threads[i].state != OA_STOP_GONE)
			return 0;
		error = stop->threads[i].error ? stop->threads[i].error : ESRCH;
	}
	return error;
}

s32 oa_stop_threads(struct oa_stop *stop, s32 pid, u32 quiet_ms)
{
	s32 error;

	if (stop->pid || pid <= 0)
		return -EINVAL;
	stop->pid = pid;
	stop->quiet_ms = quiet_ms;
	error = start_tracer(stop);
	if (error)
		return -error;
	while (sem_wait(&stop->stopped) && errno == EINTR)
		;
	error = common_error(stop);
	return error ? -error : (s32)stop->count;
}

const struct oa_stopped *oa_stop_thread(const struct oa_stop *stop, u32 index)
{
	return index < stop->count ? &stop->threads[index] : NULL;
}

u64 oa_stop_release(struct oa_stop *stop)
{
	if (stop->is_running) {
		sem_post(&stop->release);
		pthread_join(stop->tracer, NULL);
		stop->is_running = 0;
	}
	return stop->ended_ns > stop->began_ns ? stop->ended_ns - stop->began_ns : 0;
}

void oa_stop_free(struct oa_stop *stop)
{
	if (!stop)
		return;
	oa_stop_release(stop);
	sem_destroy(&stop->stopped);
	sem_destroy(&stop->release);
	free(stop->threads);
	free(stop->seen);
	free(stop);
}
