/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "perf.h"

#include <errno.h>
#include <linux/mount.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

s32 oa_perf_open_sampling(s32 source, s32 cpu, s32 pid, u64 frequency_hz, u64 period)
{
	struct perf_event_attr attr = {.size = sizeof(attr), .disabled = 1};
	long fd;

	attr.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED;
	attr.type = source == OA_PERF_CYCLES ? PERF_TYPE_HARDWARE : PERF_TYPE_SOFTWARE;
	attr.config = source == OA_PERF_CYCLES ? (u64)PERF_COUNT_HW_CPU_CYCLES
					       : (u64)PERF_COUNT_SW_CPU_CLOCK;
	attr.freq = frequency_hz > 0;
	attr.sample_period = frequency_hz ? frequency_hz : period;
	attr.inherit = pid > 0;
	fd = syscall(SYS_perf_event_open, &attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	return fd < 0 ? -errno : (s32)fd;
}

s32 oa_perf_open_tracepoint(u64 id)
{
	struct perf_event_attr attr = {.size = sizeof(attr), .disabled = 1};
	long fd;

	attr.type = PERF_TYPE_TRACEPOINT;
	attr.config = id;
	attr.sample_period = 1;
	fd = syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	return fd < 0 ? -errno : (s32)fd;
}

s32 oa_tracefs_mount(void)
{
	long context = syscall(SYS_fsopen, "tracefs", FSOPEN_CLOEXEC), mount = -1;
	int error = 0;

	if (context < 0)
		return -errno;
	if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		error = errno;
	else if ((mount = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0)) < 0)
		error = errno;
	close((int)context);
	return error ? -error : (s32)mount;
}

s32 oa_perf_read(s32 fd, u64 values[2])
{
	ssize_t size = read(fd, values, 2 * sizeof(*values));

	if (size < 0)
		return -errno;
	return size == 2 * sizeof(*values) ? 0 : -EIO;
}

s32 oa_perf_enable(s32 fd, s32 on)
{
	return ioctl(fd, on ? PERF_EVENT_IOC_ENABLE : PERF_EVENT_IOC_DISABLE, 0) ? -errno : 0;
}

s32 oa_perf_set_period(s32 fd, u64 period_ns)
{
	return ioctl(fd, PERF_EVENT_IOC_PERIOD, &period_ns) ? -errno : 0;
}

static u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (u64)now.tv_sec * 1000000000ull + (u64)now.tv_nsec;
}

void oa_spin(u32 milliseconds)
{
	u64 end = now_ns() + milliseconds * 1000000ull;
	volatile u32 turns;

	/* Where the clock is read by a system call, most of the time is still spent here. */
	while (now_ns() < end)
		for (turns = 0; turns < 20000; turns++)
			;
}

u64 oa_thread_pointer(void)
{
	u64 pointer;

#if defined(__x86_64__)
	/* The first word of the thread control block points to itself (x86-64 psABI, TLS). */
	__asm__("mov %%fs:0, %0" : "=r"(pointer));
#elif defined(__aarch64__)
	__asm__("mrs %0, tpidr_el0" : "=r"(pointer));
#else
#error "x86-64 and arm64 only"
#endif
	return pointer;
}
