/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_PERF_H
#define OA_PERF_H
#ifndef OA_CDEF
#include "types.h"
#endif

/* Perf events that sample. File descriptors, 0, or -errno. */
enum oa_perf_source {
	OA_PERF_CPU_CLOCK, /* a timer on each CPU; works everywhere */
	OA_PERF_CYCLES, /* cycles counted by the CPU's PMU */
};

/* `pid` -1: every process on the CPU; 0: the calling thread; else that thread and, once it
 * inherits, its children. One of `frequency_hz` and `period` (ns for the clock, events otherwise)
 * is 0. The event is disabled until a program is attached or it is enabled.
 */
s32 oa_perf_open_sampling(s32 source, s32 cpu, s32 pid, u64 frequency_hz, u64 period);
/* An event by its number in tracefs (events/…/id); its programs run on every CPU. */
s32 oa_perf_open_tracepoint(u64 id);
/* A tracefs that is mounted nowhere: its root directory, or -errno (Linux 5.2, CAP_SYS_ADMIN). */
s32 oa_tracefs_mount(void);
/* Let a running cpu-clock event tick each so many ns (PERF_EVENT_IOC_PERIOD). */
s32 oa_perf_set_period(s32 fd, u64 period_ns);
s32 oa_perf_enable(s32 fd, s32 on);
/* What a sampling event counted (ns of the clock, or cycles), and for how many ns it was enabled.
 */
s32 oa_perf_read(s32 fd, u64 values[2]);
/* Keep the calling thread busy in user mode, for calibration. */
void oa_spin(u32 milliseconds);
/* The calling thread's TLS base: FS base (x86-64), TPIDR_EL0 (arm64). */
u64 oa_thread_pointer(void);

#endif
