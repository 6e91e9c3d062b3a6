/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_SIDEBAND_H
#define OA_SIDEBAND_H
#ifndef OA_CDEF
#include "types.h"
#endif

/* What the kernel tells about processes: one perf event per CPU that counts
 * nothing and carries MMAP2, COMM, FORK, EXIT and KSYMBOL records.
 */
struct oa_sideband;

enum oa_event_kind {
	OA_EVENT_MMAP = 1, /* an executable mapping: addr, length, page_offset, inode, prot, name */
	OA_EVENT_COMM, /* a thread's name changed */
	OA_EVENT_EXEC, /* a COMM that comes from execve: a new image */
	OA_EVENT_FORK, /* a process (tid == pid) or thread began; ppid is its parent */
	OA_EVENT_EXIT, /* a thread ended */
	OA_EVENT_KSYMBOL, /* kernel code came (or went: flags bit 0): addr, length, name */
	OA_EVENT_LOST, /* `length` records were lost just before */
};

struct oa_event {
	u64 time_ns; /* CLOCK_MONOTONIC */
	u64 addr;
	u64 length;
	u64 page_offset; /* bytes into the file */
	u64 inode;
	u64 inode_generation;
	u32 kind;
	u32 pid;
	u32 tid;
	u32 ppid;
	u32 major;
	u32 minor;
	u32 prot;
	u32 flags; /* MAP_* of a mapping; PERF_RECORD_KSYMBOL_FLAGS_* */
	u32 name; /* offset in `names` */
	u32 name_bytes;
	u32 cpu;
	u32 pad;
};

/* Valid until the next drain; ordered by time. */
struct oa_events {
	u32 count;
	u32 names_bytes;
	u32 malformed;
	u32 more; /* full: there are more events already */
	struct oa_event *events;
	char *names;
};

struct oa_lives;

struct oa_sideband *oa_sideband_new(void);
void oa_sideband_close(struct oa_sideband *sideband);
/* For a whole system, before any CPU is added: events need not be seen soon, so the kernel wakes
 * nobody before a quarter of a buffer is full. Names and threads are not told of.
 */
void oa_sideband_be_patient(struct oa_sideband *sideband);
/* From now on drains tell of no process that was not let in (lives.h); NULL: no memory. */
struct oa_lives *oa_sideband_lives(struct oa_sideband *sideband);
/* `pid` -1: every process; else that thread and children that it will have.
 * `pages` is a power of two. A file descriptor to poll, or -errno.
 */
s32 oa_sideband_add_cpu(struct oa_sideband *sideband, u32 cpu, s32 pid, u32 pages);
/* Events that were not drained are lost. */
void oa_sideband_remove_cpu(struct oa_sideband *sideband, u32 cpu);
/* 1: the kernel tells of new kernel symbols (Linux 5.1). */
s32 oa_sideband_has_ksymbol(const struct oa_sideband *sideband);
/* From the first call on, events of other processes than those wanted are dropped, and
 * those of threads; a child of a wanted process is wanted. KSYMBOL and LOST always come. -ENOMEM,
 * -EINVAL.
 */
s32 oa_sideband_want(struct oa_sideband *sideband, u32 pid, s32 on);
/* A buffer as the kernel lays it out (struct perf_event_mmap_page, then data), for tests. */
s32 oa_sideband_add_memory(struct oa_sideband *sideband, void *page);
void oa_sideband_drain(struct oa_sideband *sideband, struct oa_events *out);
/* Drop events up to the first that is wanted; 1 if there is one. */
s32 oa_sideband_skip(struct oa_sideband *sideband);
/* Let a readable descriptor end oa_sideband_wait; -errno. */
s32 oa_sideband_watch(struct oa_sideband *sideband, s32 fd);
/* Sleep until something that is wanted has happened (1), or the time is over (0).
 *
 * Most events are of processes that nobody asked for. They are dropped here, and all
 * are let come in company: going at once to each costs more than the events. The wait for
 * company begins at `company_ms` and grows to four times as much.
 * Who is patient looks in the end whether there is anything.
 */
s32 oa_sideband_wait(struct oa_sideband *sideband, s32 timeout_ms, s32 company_ms);

#endif
