/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "lives.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	BUCKETS = 4096, /* a power of two */
	MAX_KEPT =
		256, /* events of a process; with more it is read from /proc if it ever matters */
	MAX_NAMES_OF_ONE = 32 << 10,
	MAX_BYTES = 8 << 20, /* of all */
	MAX_PIDS = 4 << 20, /* PID_MAX_LIMIT, include/linux/threads.h */
	TOLD = 64, /* files that were told of: a power of two */
};

struct life {
	struct life *next;
	struct oa_event *events;
	char *names;
	u64 end_ns; /* its first thread ended; 0: not yet */
	u32 pid;
	u32 count;
	u32 room;
	u32 names_bytes;
	u32 names_room;
};

struct oa_lives {
	struct life *buckets[BUCKETS];
	struct life *recalled;
	u8 *let_in; /* a bit per pid */
	u8 *forked; /* likewise: its first fork was told of */
	u64 told[TOLD][2]; /* inode, and device */
	u64 bytes;
};

struct oa_lives *oa_lives_new(void)
{
	struct oa_lives *lives = calloc(1, sizeof(*lives));

	if (!lives)
		return NULL;
	lives->let_in = calloc(MAX_PIDS / 8, 1);
	lives->forked = calloc(MAX_PIDS / 8, 1);
	if (lives->let_in && lives->forked)
		return lives;
	oa_lives_close(lives);
	return NULL;
}

static u64 bytes_of(const struct life *life)
{
	return sizeof(*life) + life->room * sizeof(*life->events) + life->names_room;
}

static void free_life(struct oa_lives *lives, struct life *life)
{
	if (!life)
		return;
	lives->bytes -= bytes_of(life);
	free(life->events);
	free(life->names);
	free(life);
}

void oa_lives_clear(struct oa_lives *lives)
{
	for (u32 i = 0; i < BUCKETS; i++) {
		struct life *next;

		for (struct life *life = lives->buckets[i]; life; life = next) {
			next = life->next;
			free_life(lives, life);
		}
		lives->buckets[i] = NULL;
	}
}

void oa_lives_close(struct oa_lives *lives)
{
	if (!lives)
		return;
	oa_lives_clear(lives);
	free_life(lives, lives->recalled);
	free(lives->let_in);
	free(lives->forked);
	free(lives);
}

/* Where the pointer to a process's life is, or the end of its list. */
static struct life **place_of(struct oa_lives *lives, u32 pid)
{
	struct life **at = &lives->buckets[pid & (BUCKETS - 1)];

	while (*at && (*at)->pid != pid)
		at = &(*at)->next;
	return at;
}

static struct life *take(struct oa_lives *lives, u32 pid)
{
	struct life **at = place_of(lives, pid);
	struct life *life = *at;

	if (life)
		*at = life->next;
	return life;
}

/* Room for one more event with this name; an exec needs nothing of before if there is too much. */
static int make_room(struct oa_lives *lives, struct life *life, u32 name_bytes)
{
	u32 room = life->room ? life->room * 2 : 8, names_room = life->names_room + 1024;
	void *grown;

	if (life->count == life->room) {
		grown = realloc(life->events, room * sizeof(*life->events));
		if (!grown)
			return 0;
		lives->bytes += (room - life->room) * sizeof(*life->events);
		life->events = grown;
		life->room = room;
	}
	if (life->names_bytes + name_bytes > life->names_room) {
		names_room += name_bytes;
		grown = realloc(life->names, names_room);
		if (!grown)
			return 0;
		lives->bytes += names_room - life->names_room;
		life->names = grown;
		life->names_room = names_room;
	}
	return 1;
}

static struct life *begin(struct oa_lives *lives, struct life **at, u32 pid)
{
	struct life *life = calloc(1, sizeof(*life));

	if (life) {
		life->pid = pid;
		lives->bytes += sizeof(*life);
		*at = life;
	}
	return life;
}

static void keep(struct oa_lives *lives, const struct oa_event *event, const char *name)
{
	struct life **at = place_of(lives, event->pid), *life = *at;
	int begins = event->kind == OA_EVENT_FORK || event->kind == OA_EVENT_EXEC;

	if (event->kind == OA_EVENT_EXIT && life)
		life->end_ns = event->time_ns;
	if (!life && !begins)
		return; /* what came before is not known, so it must be read from /proc */
	if (!life)
		life = begin(lives, at, event->pid);
	if (!life)
		return;
	if (event->kind == OA_EVENT_EXEC && life->count > MAX_KEPT / 2)
		life->count = life->names_bytes = 0;
	if (life->count == MAX_KEPT || life->names_bytes + event->name_bytes > MAX_NAMES_OF_ONE ||
	    lives->bytes > MAX_BYTES || !make_room(lives, life, event->name_bytes)) {
		free_life(lives, take(lives, event->pid));
		return;
	}
	if (event->kind != OA_EVENT_EXIT && event->time_ns > life->end_ns)
		life->end_ns = 0; /* another process with this number */
	if (event->name_bytes)
		memcpy(life->names + life->names_bytes, name, event->name_bytes);
	life->events[life->count] = *event;
	life->events[life->count++].name = life->names_bytes;
	life->names_bytes += event->name_bytes;
}

static int is_in(const u8 *bits, u32 pid)
{
	return pid < MAX_PIDS && bits[pid / 8] >> pid % 8 & 1;
}

static int contains(const char *name, u32 bytes, const char *word)
{
	return memmem(name, bytes, word, strlen(word)) != NULL;
}

/* Whether a mapping may be of a CPython, or of the dynamic linker that finds one. */
static int tells_of_python(struct oa_lives *lives, const struct oa_event *event, const char *name)
{
	u64 *told = lives->told[event->inode & (TOLD - 1)];
	u64 device = (u64)event->major << 32 | event->minor;

	if (event->kind != OA_EVENT_MMAP || !event->inode ||
	    (told[0] == event->inode && told[1] == device))
		return 0;
	if (!contains(name, event->name_bytes, "python") &&
	    !contains(name, event->name_bytes, "/ld"))
		return 0;
	told[0] = event->inode;
	told[1] = device;
	return 1;
}

s32 oa_lives_keep(struct oa_lives *lives, const struct oa_event *event, const char *name)
{
	if (event->kind == OA_EVENT_LOST)
		oa_lives_clear(lives);
	if (event->kind == OA_EVENT_LOST || event->kind == OA_EVENT_KSYMBOL ||
	    event->pid >= MAX_PIDS || is_in(lives->let_in, event->pid))
		return 0;
	if (event->kind != OA_EVENT_FORK && event->kind != OA_EVENT_EXEC &&
	    event->kind != OA_EVENT_MMAP && event->kind != OA_EVENT_EXIT)
		return 1;
	keep(lives, event, name);
	if (event->kind == OA_EVENT_FORK && is_in(lives->let_in, event->ppid) &&
	    !is_in(lives->forked, event->ppid)) {
		lives->forked[event->ppid / 8] |= (u8)(1 << event->ppid % 8);
		return 0;
	}
	return !tells_of_python(lives, event, name);
}

s32 oa_lives_recall(struct oa_lives *lives, u32 pid, struct oa_events *out)
{
	struct life *life;

	memset(out, 0, sizeof(*out));
	if (pid >= MAX_PIDS)
		return -EINVAL;
	lives->let_in[pid / 8] |= (u8)(1 << pid % 8);
	free_life(lives, lives->recalled);
	lives->recalled = life = take(lives, pid);
	if (!life)
		return 0;
	/* Nearly in order: what CPUs wrote is merged by time when it is drained. */
	for (u32 i = 1; i < life->count; i++) {
		struct oa_event event = life->events[i];
		u32 at = i;

		for (; at && life->events[at - 1].time_ns > event.time_ns; at--)
			life->events[at] = life->events[at - 1];
		life->events[at] = event;
	}
	out->count = life->count;
	out->events = life->events;
	out->names = life->names;
	out->names_bytes = life->names_bytes;
	return 0;
}

void oa_lives_let_go(struct oa_lives *lives, u32 pid)
{
	if (pid >= MAX_PIDS)
		return;
	lives->let_in[pid / 8] &= (u8) ~(1 << pid % 8);
	lives->forked[pid / 8] &= (u8) ~(1 << pid % 8);
}

void oa_lives_purge(struct oa_lives *lives, u64 before_ns)
{
	for (u32 i = 0; i < BUCKETS; i++) {
		struct life **at = &lives->buckets[i], *life;

		while ((life = *at)) {
			if (life->end_ns && life->end_ns < before_ns) {
				*at = life->next;
				free_life(lives, life);
			} else {
				at = &life->next;
			}
		}
	}
}

u64 oa_lives_bytes(const struct oa_lives *lives)
{
	return lives->bytes;
}
