/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "sideband.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lives.h"
#include "perf_records.h"

enum {
	MAX_EVENTS = 8192,
	MAX_NAMES = 2 << 20,
	MAX_RECORD = 65536, /* perf_event_header.size is 16 bits wide */
	SAMPLE_ID = 24, /* pid, tid; time; cpu, reserved: our sample_type */
	NO_CPU = -1,
	OTHERS_MS = 200, /* waits for company grow to this while all that comes is of others; */
	HASTE_MS = 5, /* those below this, */
	HASTE_FACTOR = 4, /* by so much */
	CROWD = 16, /* and it does not fill this part of a buffer: twice the time might fill it */
	MAX_PARTS = 1 << 30, /* more than a buffer has bytes */
	PATIENT_PART = 4, /* who is patient is woken when this part of one is full */
	MAX_PIDS = 4 << 20, /* PID_MAX_LIMIT, include/linux/threads.h */
};

struct buffer {
	struct perf_event_mmap_page *page;
	u8 *data;
	u64 data_bytes; /* a power of two */
	u64 mapped_bytes;
	u64 at; /* where we read: becomes data_tail */
	u64 head;
	u64 time_ns; /* of the record at `at` */
	int fd;
	int cpu;
};

struct oa_sideband {
	struct buffer *buffers;
	u32 count;
	int has_ksymbol;
	int is_patient;
	u8 *wanted; /* a bit per pid; NULL: all are */
	struct oa_lives *lives; /* NULL: all events are told at once */
	s32 patience_ms; /* how long events waited last, if all of them were of others */
	u32 malformed; /* not told yet */
	int epoll; /* of the buffers' events, and of `wake_fd` */
	int wake_fd;
	struct oa_event *events;
	char *names;
	u8 record[MAX_RECORD];
};

struct oa_sideband *oa_sideband_new(void)
{
	struct oa_sideband *sideband = calloc(1, sizeof(*sideband));

	if (!sideband)
		return NULL;
	sideband->events = malloc(sizeof(*sideband->events) * MAX_EVENTS);
	sideband->names = malloc(MAX_NAMES);
	sideband->epoll = epoll_create1(EPOLL_CLOEXEC);
	sideband->wake_fd = -1;
	if (sideband->events && sideband->names && sideband->epoll >= 0)
		return sideband;
	oa_sideband_close(sideband);
	return NULL;
}

static void close_buffer(struct buffer *buffer)
{
	if (buffer->mapped_bytes)
		munmap(buffer->page, buffer->mapped_bytes);
	if (buffer->fd >= 0)
		close(buffer->fd);
}

void oa_sideband_close(struct oa_sideband *sideband)
{
	if (!sideband)
		return;
	for (u32 i = 0; i < sideband->count; i++)
		close_buffer(&sideband->buffers[i]);
	if (sideband->epoll >= 0)
		close(sideband->epoll);
	oa_lives_close(sideband->lives);
	free(sideband->buffers);
	free(sideband->wanted);
	free(sideband->events);
	free(sideband->names);
	free(sideband);
}

void oa_sideband_be_patient(struct oa_sideband *sideband)
{
	sideband->is_patient = 1;
}

struct oa_lives *oa_sideband_lives(struct oa_sideband *sideband)
{
	sideband->lives = sideband->lives ? sideband->lives : oa_lives_new();
	return sideband->lives;
}

static long open_event(u32 cpu, s32 pid, u32 wake_bytes, int ksymbol)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_DUMMY,
		.sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU,
		.sample_id_all = 1,
		.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED,
		.mmap = 1,
		.mmap2 = 1,
		.comm = 1,
		.comm_exec = 1,
		.task = 1,
		.ksymbol = ksymbol,
		.inherit = pid > 0,
		.use_clockid = 1,
		.clockid = CLOCK_MONOTONIC,
		.watermark = 1,
		.wakeup_watermark = wake_bytes,
		.disabled = 1,
	};

	return syscall(SYS_perf_event_open, &attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

static struct buffer *add_buffer(struct oa_sideband *sideband)
{
	struct buffer *grown =
		realloc(sideband->buffers, (sideband->count + 1) * sizeof(*sideband->buffers));

	if (!grown)
		return NULL;
	sideband->buffers = grown;
	memset(&grown[sideband->count], 0, sizeof(*grown));
	grown[sideband->count].fd = -1;
	grown[sideband->count].cpu = NO_CPU;
	return &grown[sideband->count];
}

s32 oa_sideband_watch(struct oa_sideband *sideband, s32 fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	sideband->wake_fd = fd;
	return epoll_ctl(sideband->epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

s32 oa_sideband_add_cpu(struct oa_sideband *sideband, u32 cpu, s32 pid, u32 pages)
{
	u64 page = (u64)sysconf(_SC_PAGESIZE);
	struct buffer *buffer = add_buffer(sideband);
	struct epoll_event event = {.events = EPOLLIN};
	u32 wake_bytes = sideband->is_patient ? (u32)(pages * page / PATIENT_PART) : 1;
	int ksymbol = 1;
	void *start;
	long fd;
	int error;

	if (!buffer)
		return -ENOMEM;
	fd = open_event(cpu, pid, wake_bytes, ksymbol);
	/* Linux 76193a94522f ("perf, bpf: Introduce PERF_RECORD_KSYMBOL", v5.1). */
	if (fd < 0 && errno == EINVAL) {
		ksymbol = 0;
		fd = open_event(cpu, pid, wake_bytes, ksymbol);
	}
	if (fd < 0)
		return -errno;
	start = mmap(NULL, (pages + 1) * page, PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);
	event.data.fd = (int)fd;
	if (start == MAP_FAILED || epoll_ctl(sideband->epoll, EPOLL_CTL_ADD, (int)fd, &event) ||
	    ioctl((int)fd, PERF_EVENT_IOC_ENABLE, 0)) {
		error = errno;
		if (start != MAP_FAILED)
			munmap(start, (pages + 1) * page);
		close((int)fd);
		return -error;
	}
	buffer->page = start;
	buffer->data = (u8 *)start + page;
	buffer->data_bytes = pages * page;
	buffer->mapped_bytes = (pages + 1) * page;
	buffer->fd = (int)fd;
	buffer->cpu = (int)cpu;
	sideband->has_ksymbol = ksymbol;
	sideband->count++;
	return (s32)fd;
}

void oa_sideband_remove_cpu(struct oa_sideband *sideband, u32 cpu)
{
	for (u32 i = 0; i < sideband->count; i++) {
		if (sideband->buffers[i].cpu != (int)cpu)
			continue;
		close_buffer(&sideband->buffers[i]);
		sideband->buffers[i] = sideband->buffers[--sideband->count];
		return;
	}
}

s32 oa_sideband_has_ksymbol(const struct oa_sideband *sideband)
{
	return sideband->has_ksymbol;
}

s32 oa_sideband_want(struct oa_sideband *sideband, u32 pid, s32 on)
{
	if (pid >= MAX_PIDS)
		return -EINVAL;
	if (!sideband->wanted)
		sideband->wanted = calloc(MAX_PIDS / 8, 1);
	if (!sideband->wanted)
		return -ENOMEM;
	/* Targets are added by one thread while another one drains. */
	if (on)
		__atomic_fetch_or(&sideband->wanted[pid / 8], (u8)(1 << pid % 8), __ATOMIC_RELAXED);
	else
		__atomic_fetch_and(&sideband->wanted[pid / 8], (u8) ~(1 << pid % 8),
				   __ATOMIC_RELAXED);
	return 0;
}

static int is_life(const struct oa_event *event)
{
	return event->kind == OA_EVENT_FORK || event->kind == OA_EVENT_EXIT;
}

static int is_wanted(struct oa_sideband *sideband, const struct oa_event *event)
{
	u32 pid = event->kind == OA_EVENT_FORK ? event->ppid : event->pid;

	if (event->kind == OA_EVENT_KSYMBOL || event->kind == OA_EVENT_LOST)
		return 1;
	if (!sideband->wanted && !sideband->is_patient)
		return 1;
	if (sideband->wanted && (pid >= MAX_PIDS || !(sideband->wanted[pid / 8] >> pid % 8 & 1)))
		return 0;
	if (event->kind == OA_EVENT_COMM || (event->pid != event->tid && is_life(event)))
		return 0;
	if (sideband->wanted && event->kind == OA_EVENT_FORK)
		oa_sideband_want(sideband, event->pid, 1);
	return 1;
}

s32 oa_sideband_add_memory(struct oa_sideband *sideband, void *page)
{
	struct buffer *buffer = add_buffer(sideband);

	if (!buffer)
		return -ENOMEM;
	buffer->page = page;
	buffer->data = (u8 *)page + buffer->page->data_offset;
	buffer->data_bytes = buffer->page->data_size;
	sideband->count++;
	return 0;
}

static void copy_out(const struct buffer *buffer, u64 position, void *to, u64 bytes)
{
	u64 start = position & (buffer->data_bytes - 1);
	u64 first = bytes < buffer->data_bytes - start ? bytes : buffer->data_bytes - start;

	memcpy(to, buffer->data + start, first);
	memcpy((u8 *)to + first, buffer->data, bytes - first);
}

/* Bytes of the record at `at`, or 0 if there is none (or what is there cannot be one). */
static u32 peek_size(const struct buffer *buffer)
{
	struct perf_event_header header;

	if (buffer->head - buffer->at < sizeof(header))
		return 0;
	copy_out(buffer, buffer->at, &header, sizeof(header));
	if (header.size < sizeof(header) || header.size > buffer->head - buffer->at)
		return 0;
	return header.size;
}

/* Read the time of the record at `at`, or notice that the buffer is empty. */
static void peek_time(struct buffer *buffer, struct oa_events *out)
{
	u32 size = peek_size(buffer);

	if (!size) {
		out->malformed += buffer->at != buffer->head;
		buffer->at = buffer->head;
		return;
	}
	buffer->time_ns = 0;
	if (size >= sizeof(struct perf_event_header) + SAMPLE_ID)
		copy_out(buffer, buffer->at + size - SAMPLE_ID + 8, &buffer->time_ns,
			 sizeof(buffer->time_ns));
}

static struct buffer *oldest(struct oa_sideband *sideband)
{
	struct buffer *found = NULL;

	for (u32 i = 0; i < sideband->count; i++) {
		struct buffer *buffer = &sideband->buffers[i];

		if (buffer->at != buffer->head && (!found || buffer->time_ns < found->time_ns))
			found = buffer;
	}
	return found;
}

/* Copy the name that begins at `from`; it ends with a zero or with the record. */
static int take_name(struct oa_sideband *sideband, struct oa_events *out, struct oa_event *event,
		     u32 from, u32 end)
{
	u32 bytes;

	if (from > end)
		return 0;
	bytes = (u32)strnlen((const char *)sideband->record + from, end - from);
	event->name = out->names_bytes;
	event->name_bytes = bytes;
	memcpy(sideband->names + out->names_bytes, sideband->record + from, bytes);
	out->names_bytes += bytes;
	return 1;
}

static void take_record(struct oa_sideband *sideband, struct buffer *buffer, struct oa_events *out)
{
	struct oa_event *event = &sideband->events[out->count];
	u32 names_bytes = out->names_bytes, size = peek_size(buffer), name;
	u32 id[6] = {0};

	copy_out(buffer, buffer->at, sideband->record, size);
	buffer->at += size;
	memset(event, 0, sizeof(*event));
	event->time_ns = buffer->time_ns;
	if (size < sizeof(struct perf_event_header) + SAMPLE_ID) {
		out->malformed++;
		return;
	}
	memcpy(id, sideband->record + size - SAMPLE_ID, sizeof(id));
	event->cpu = id[4];
	size -= SAMPLE_ID;
	if (!oa_perf_decode(sideband->record, size, event, &name) ||
	    (name && !take_name(sideband, out, event, name, size)))
		out->malformed++;
	else if (!is_wanted(sideband, event) ||
		 (sideband->lives &&
		  oa_lives_keep(sideband->lives, event, sideband->names + event->name)))
		out->names_bytes = names_bytes;
	else if (event->kind)
		out->count++;
}

/* Records of one CPU are nearly in order, so this is nearly linear. */
static void sort_events(struct oa_event *events, u32 count)
{
	for (u32 i = 1; i < count; i++) {
		struct oa_event event = events[i];
		u32 at = i;

		for (; at && events[at - 1].time_ns > event.time_ns; at--)
			events[at] = events[at - 1];
		events[at] = event;
	}
}

static void begin_drain(struct oa_sideband *sideband, struct oa_events *out)
{
	memset(out, 0, sizeof(*out));
	out->events = sideband->events;
	out->names = sideband->names;
	for (u32 i = 0; i < sideband->count; i++) {
		struct buffer *buffer = &sideband->buffers[i];

		buffer->at = buffer->page->data_tail;
		buffer->head = __atomic_load_n(&buffer->page->data_head, __ATOMIC_ACQUIRE);
		if (buffer->head - buffer->at > buffer->data_bytes) {
			/* The kernel never overwrites what was not read; start again. */
			out->malformed++;
			buffer->at = buffer->head;
		}
		peek_time(buffer, out);
	}
}

static void end_drain(struct oa_sideband *sideband)
{
	for (u32 i = 0; i < sideband->count; i++)
		__atomic_store_n(&sideband->buffers[i].page->data_tail, sideband->buffers[i].at,
				 __ATOMIC_RELEASE);
}

void oa_sideband_drain(struct oa_sideband *sideband, struct oa_events *out)
{
	struct buffer *buffer;

	begin_drain(sideband, out);
	while ((buffer = oldest(sideband))) {
		if (out->count == MAX_EVENTS || out->names_bytes > MAX_NAMES - MAX_RECORD) {
			out->more = 1;
			break;
		}
		take_record(sideband, buffer, out);
		peek_time(buffer, out);
	}
	end_drain(sideband);
	out->malformed += sideband->malformed;
	sideband->malformed = 0;
	sort_events(sideband->events, out->count);
}

s32 oa_sideband_skip(struct oa_sideband *sideband)
{
	struct buffer *buffer;
	struct oa_events out;

	begin_drain(sideband, &out);
	while ((buffer = oldest(sideband))) {
		u64 at = buffer->at;

		take_record(sideband, buffer, &out);
		if (out.count) {
			buffer->at = at; /* for the drain to take */
			break;
		}
		peek_time(buffer, &out);
	}
	end_drain(sideband);
	sideband->malformed += out.malformed;
	return out.count > 0;
}

static s64 now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Whether a buffer holds more than a part of what it can: 1 of `parts`. */
static int holds_more(const struct oa_sideband *sideband, u64 parts)
{
	for (u32 i = 0; i < sideband->count; i++) {
		const struct buffer *buffer = &sideband->buffers[i];
		u64 head = __atomic_load_n(&buffer->page->data_head, __ATOMIC_ACQUIRE);

		if (head - buffer->page->data_tail > buffer->data_bytes / parts)
			return 1;
	}
	return 0;
}

static s32 wait_patiently(struct oa_sideband *sideband, s32 timeout_ms)
{
	struct epoll_event event;

	return epoll_wait(sideband->epoll, &event, 1, timeout_ms) ||
	       holds_more(sideband, MAX_PARTS);
}

s32 oa_sideband_wait(struct oa_sideband *sideband, s32 timeout_ms, s32 company_ms)
{
	struct pollfd wake = {.fd = sideband->wake_fd, .events = POLLIN};
	s64 end = now_ms() + timeout_ms, left;
	s32 most_ms = company_ms < HASTE_MS ? company_ms * HASTE_FACTOR : OTHERS_MS;
	s32 wait_ms = sideband->patience_ms > company_ms ? sideband->patience_ms : company_ms;
	struct epoll_event event;

	if (sideband->is_patient)
		return wait_patiently(sideband, timeout_ms);
	sideband->patience_ms = 0;
	while ((left = end - now_ms()) >= 0) {
		if (epoll_wait(sideband->epoll, &event, 1, (int)left) <= 0)
			break;
		if (event.data.fd == sideband->wake_fd || poll(&wake, 1, wait_ms))
			return 1;
		if (holds_more(sideband, CROWD))
			wait_ms = company_ms;
		else
			wait_ms = wait_ms * 2 < most_ms ? wait_ms * 2 : most_ms;
		if (oa_sideband_skip(sideband))
			return 1;
	}
	sideband->patience_ms = wait_ms;
	return 0;
}
