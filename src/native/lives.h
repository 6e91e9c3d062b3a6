/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_LIVES_H
#define OA_LIVES_H
#ifndef OA_CDEF
#include "sideband.h"
#include "types.h"
#endif

/* Events of processes that nobody needs yet, by pid: most of a whole system's end before they
 * are sampled. Of one thread.
 */
struct oa_lives;

struct oa_lives *oa_lives_new(void);
void oa_lives_close(struct oa_lives *lives);
/* Keep an event for later: 1. 0: it is to be told now, since it is of a process that was let in,
 * of no process, the first fork of one that was let in, or tells of a file that may be a CPython
 * and was not told of lately.
 */
s32 oa_lives_keep(struct oa_lives *lives, const struct oa_event *event, const char *name);
/* Let a process in: its events are told from now on, and those that were kept are given, ordered
 * by time, valid until the next call. 0, or -EINVAL.
 */
s32 oa_lives_recall(struct oa_lives *lives, u32 pid, struct oa_events *out);
/* Keep the events of a process again. */
void oa_lives_let_go(struct oa_lives *lives, u32 pid);
/* Forget what ended before this time. */
void oa_lives_purge(struct oa_lives *lives, u64 before_ns);
/* Forget all that was kept: something else was lost, so none of it is sure. */
void oa_lives_clear(struct oa_lives *lives);
/* What is kept takes so many bytes. */
u64 oa_lives_bytes(const struct oa_lives *lives);

#endif
