// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0

/* A program that every verifier refuses. */

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char test_license[] SEC("license") = "Dual BSD/GPL";

SEC("perf_event")
int on_bad_tick(void *ctx)
{
	unsigned long task = bpf_get_current_task();

	return *(volatile int *)task; /* not a pointer for the verifier */
}
