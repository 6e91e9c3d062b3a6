/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "perf_records.h"

#include <linux/perf_event.h>

/* Layouts: include/uapi/linux/perf_event.h, enum perf_event_type. */
struct mmap2_record {
	struct perf_event_header header;
	u32 pid, tid;
	u64 addr, len, pgoff;
	u32 maj, min;
	u64 ino, ino_generation;
	u32 prot, flags;
};

struct comm_record {
	struct perf_event_header header;
	u32 pid, tid;
};

struct task_record {
	struct perf_event_header header;
	u32 pid, ppid, tid, ptid;
	u64 time;
};

struct ksymbol_record {
	struct perf_event_header header;
	u64 addr;
	u32 len;
	u16 type, flags;
};

struct lost_record {
	struct perf_event_header header;
	u64 id, lost;
};

static int take_mmap(const u8 *data, u32 end, struct oa_event *event, u32 *name)
{
	const struct mmap2_record *record = (const void *)data;

	if (end < sizeof(*record))
		return 0;
	event->kind = OA_EVENT_MMAP;
	event->pid = record->pid;
	event->tid = record->tid;
	event->addr = record->addr;
	event->length = record->len;
	event->page_offset = record->pgoff;
	event->major = record->maj;
	event->minor = record->min;
	event->inode = record->ino;
	event->inode_generation = record->ino_generation;
	event->prot = record->prot;
	event->flags = record->flags;
	*name = sizeof(*record);
	return 1;
}

static int take_comm(const u8 *data, u32 end, struct oa_event *event, u32 *name)
{
	const struct comm_record *record = (const void *)data;

	if (end < sizeof(*record))
		return 0;
	event->kind =
		record->header.misc & PERF_RECORD_MISC_COMM_EXEC ? OA_EVENT_EXEC : OA_EVENT_COMM;
	event->pid = record->pid;
	event->tid = record->tid;
	*name = sizeof(*record);
	return 1;
}

static int take_task(const u8 *data, u32 end, struct oa_event *event)
{
	const struct task_record *record = (const void *)data;

	if (end < sizeof(*record))
		return 0;
	event->kind = record->header.type == PERF_RECORD_FORK ? OA_EVENT_FORK : OA_EVENT_EXIT;
	event->pid = record->pid;
	event->tid = record->tid;
	event->ppid = record->ppid;
	return 1;
}

static int take_ksymbol(const u8 *data, u32 end, struct oa_event *event, u32 *name)
{
	const struct ksymbol_record *record = (const void *)data;

	if (end < sizeof(*record))
		return 0;
	event->kind = OA_EVENT_KSYMBOL;
	event->addr = record->addr;
	event->length = record->len;
	event->flags = record->flags;
	*name = sizeof(*record);
	return 1;
}

static int take_lost(const u8 *data, u32 end, struct oa_event *event)
{
	const struct lost_record *record = (const void *)data;

	if (end < sizeof(*record))
		return 0;
	event->kind = OA_EVENT_LOST;
	event->length = record->lost;
	return 1;
}

int oa_perf_decode(const u8 *data, u32 end, struct oa_event *event, u32 *name)
{
	*name = 0;
	switch (((const struct perf_event_header *)data)->type) {
	case PERF_RECORD_MMAP2:
		return take_mmap(data, end, event, name);
	case PERF_RECORD_COMM:
		return take_comm(data, end, event, name);
	case PERF_RECORD_FORK:
	case PERF_RECORD_EXIT:
		return take_task(data, end, event);
	case PERF_RECORD_KSYMBOL:
		return take_ksymbol(data, end, event, name);
	case PERF_RECORD_LOST:
		return take_lost(data, end, event);
	case PERF_RECORD_THROTTLE:
	case PERF_RECORD_UNTHROTTLE:
		return 1;
	default:
		return 0;
	}
}
