/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A thread whose vfork()ed child sleeps: nothing interrupts it (state D); and one that waits. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <signal.h>
#include <unistd.h>

static void *wait_for_child(void *unused)
{
	if (!vfork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		write(1, "ready\n", 6);
		syscall(SYS_pause);
		_exit(0);
	}
	return unused;
}

int main(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, wait_for_child, NULL);
	for (;;)
		pause();
}
