/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#define OA_HOST

/* Hosts, and the unwinders for this kind of machine. */

#include "walk.h"
#include "../copy.h"
#include "cfi.h"

#include <stdlib.h>

__thread struct oa_host *oa_host_current;

struct oa_host *oa_host_new(void)
{
	struct oa_host *host = calloc(1, sizeof(*host));

	if (host)
		host->settings.max_user_frames = OA_DEFAULT_USER_FRAMES;
	return host;
}

void oa_host_free(struct oa_host *host)
{
	if (!host)
		return;
	oa_host_free_maps(host);
	free(host->pieces);
	free(host);
}

void oa_host_configure(struct oa_host *host, const struct oa_config *settings)
{
	host->settings = *settings;
}

void oa_host_use_machine(struct oa_host *host, u32 machine)
{
#if defined(__TARGET_ARCH_x86)
	host->is_other = machine == OA_MACHINE_AARCH64;
#else
	host->is_other = machine == OA_MACHINE_X86_64;
#endif
}

void oa_host_use_interpreters(struct oa_host *host, s32 on)
{
	host->interpreters = !!on;
}

void oa_host_know_all_code(struct oa_host *host, s32 on)
{
	host->all_code = !!on;
}

bool oa_host_knows_all_code(void)
{
	return oa_host_current->all_code;
}

void oa_host_limit(struct oa_host *host, const struct oa_host_limits *limits)
{
	host->limits = *limits;
}

struct oa_host_limits oa_host_spent(const struct oa_host *host)
{
	return host->spent;
}

void oa_host_set_thread_pointer(struct oa_host *host, u64 thread_pointer)
{
	host->thread_pointer = thread_pointer;
}

u64 oa_host_thread_pointer(void)
{
	return oa_host_current->thread_pointer;
}

const struct oa_config *oa_host_config(void)
{
	return &oa_host_current->settings;
}

void oa_host_count(u32 which, u64 amount)
{
	if (which < OA_COUNTER_COUNT + OA_FAULT_COUNT)
		oa_host_current->counters[which] += amount;
}

u64 oa_host_counter(const struct oa_host *host, u32 which)
{
	return which < OA_COUNTER_COUNT + OA_FAULT_COUNT ? host->counters[which] : 0;
}

u32 oa_host_trace_bytes(void)
{
	return sizeof(struct oa_trace) + OA_TRACE_WORDS * sizeof(u64);
}

s32 oa_host_follows_call(struct oa_host *host, u32 space, u64 pc)
{
	bool yes;

	oa_host_current = host;
	host->state.space = space;
	yes = follows_call(&host->state, pc);
	oa_host_current = NULL;
	return yes;
}

u32 oa_host_copy_stacks(struct oa_host *host, struct oa_deferred *deferred)
{
	u64 bytes;

	oa_host_current = host;
	bytes = copy_stacks(deferred);
	oa_host_current = NULL;
	return (u32)bytes;
}

u32 oa_host_copy_python(struct oa_host *host, struct oa_deferred *deferred, u32 space)
{
	struct oa_state *s = &host->state;
	u32 stacks = deferred->stack_bytes + deferred->other_bytes;

	oa_host_current = host;
	s->space = space;
	s->trace = deferred->trace;
	find_python(s, deferred);
	copy_python(s, deferred, stacks, false);
	oa_host_current = NULL;
	return deferred->python_bytes;
}

u64 oa_host_find_interpreter(struct oa_host *host, u64 segments)
{
	struct oa_python_state *p = &host->state.python;
	bool found;

	oa_host_current = host;
	found = find_interpreter(p, segments);
	oa_host_current = NULL;
	return found ? p->proc.interpreters : 0;
}

s32 oa_host_unwind(struct oa_host *host, const void *deferred, u32 bytes, void *out, u32 capacity)
{
	s32 size;

	if (bytes < HEAD_BYTES)
		return -EINVAL;
	oa_host_current = host;
	memset(&host->spent, 0, sizeof(host->spent));
	size = (host->is_other ? oa_host_unwind_other : unwind_record)(host, deferred, bytes, out,
								       capacity);
	oa_host_current = NULL;
	host->stack = (struct oa_host_piece){0};
	host->other = (struct oa_host_piece){0};
	host->deep = (struct oa_host_piece){0};
	host->top = (struct oa_host_piece){0};
	host->python = (struct oa_host_piece){0};
	return size;
}
