/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#define OA_HOST
#define _GNU_SOURCE

/* Memory of the target: the copied stack, pieces, a live process. */

#include "host.h"
#include "../python.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* The last piece that begins at or below `addr`, as an index; -1 if there is none. */
static s64 find_piece(const struct oa_host *host, u64 addr)
{
	u32 low = 0, high = host->piece_count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (host->pieces[middle].addr <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return (s64)low - 1;
}

static u32 copy_piece(const struct oa_host_piece *piece, u8 *dst, u32 size, u64 addr)
{
	u64 offset = addr - piece->addr;

	if (addr < piece->addr || offset >= piece->bytes)
		return 0;
	if (size > piece->bytes - offset)
		size = (u32)(piece->bytes - offset);
	if (!piece->memory) {
		ssize_t bytes = pread(piece->fd, dst, size, (off_t)(piece->offset + offset));

		return bytes > 0 ? (u32)bytes : 0;
	}
	memcpy(dst, piece->memory + offset, size);
	return size;
}

/* Bytes of the part of a copy at `from` that covers `addr`. */
static u32 copy_part(const void *part, u64 bytes, u64 from, u8 *dst, u32 size, u64 addr)
{
	struct oa_host_piece piece = {from, bytes, part};

	return copy_piece(&piece, dst, size, addr);
}

/* What the copies of Python frames have at `addr`: they lie anywhere, and may overlap. */
static u32 copy_python(const struct oa_host *host, u8 *dst, u32 size, u64 addr)
{
	const struct oa_python_proc *proc = &host->state.python.proc;
	u32 stride = py_copy_bytes(proc), got = 0;
	struct oa_python_copy copy;

	for (u64 at = 0; !got && at + stride <= host->python.bytes; at += stride) {
		memcpy(&copy, host->python.memory + at, stride);
		got = copy_part(copy.memory, py_frame_bytes(proc), copy.addr, dst, size, addr);
		if (got || !copy.code_addr)
			continue;
		got = copy_part(copy.code, sizeof(copy.code), copy.code_addr + proc->code_block,
				dst, size, addr);
		if (!got && proc->kind != OA_PY_OBJECT)
			got = copy_part(&copy.first_traceable, sizeof(copy.first_traceable),
					copy.code_addr + proc->code_first_traceable, dst, size,
					addr);
	}
	return got;
}

static bool may_read_process(struct oa_host *host, u64 addr)
{
	if (!host->pid || host->reach == OA_HOST_REACH_NONE)
		return false;
	return host->reach == OA_HOST_REACH_ALL ||
	       oa_host_find_mapping(host, host->state.space, addr);
}

/* As many bytes as one source has at `addr`. */
static u32 read_some(struct oa_host *host, u8 *dst, u32 size, u64 addr)
{
	s64 piece = find_piece(host, addr);
	u32 got = copy_piece(&host->stack, dst, size, addr);

	if (!got)
		got = copy_piece(&host->other, dst, size, addr);
	if (!got)
		got = copy_piece(&host->deep, dst, size, addr);
	if (!got)
		got = copy_piece(&host->top, dst, size, addr);
	if (!got)
		got = copy_python(host, dst, size, addr);
	if (!got && piece >= 0)
		got = copy_piece(&host->pieces[piece], dst, size, addr);
	if (!got && may_read_process(host, addr)) {
		struct iovec to = {dst, size};
		struct iovec from = {(void *)addr, size};
		ssize_t bytes = process_vm_readv(host->pid, &to, 1, &from, 1, 0);

		got = bytes > 0 ? (u32)bytes : 0;
	}
	return got;
}

/* Whether a test wants this read to fail. */
static bool is_refused(struct oa_host *host)
{
	host->spent.reads++;
	return host->limits.reads && host->spent.reads > host->limits.reads;
}

/* Where a copied stack would go on. */
static bool is_behind(const struct oa_host_piece *stack, u64 addr)
{
	return stack->bytes && addr >= stack->addr + stack->bytes &&
	       addr - stack->addr - stack->bytes < OA_FP_WINDOW_BYTES;
}

static void note(struct oa_host *host, u64 addr, u32 bytes)
{
	if (!host->reads)
		return;
	if (host->read_count < host->read_capacity)
		host->reads[host->read_count] = (struct oa_host_read){.addr = addr, .bytes = bytes};
	if (host->read_count < UINT32_MAX)
		host->read_count++;
}

long oa_host_read(void *dst, u32 size, u64 addr)
{
	struct oa_host *host = oa_host_current;
	bool refused = is_refused(host);
	u32 done = 0, got;

	/* User addresses have 56 bits at most (x86-64 with 5 levels of page tables). */
	while (!refused && done < size && addr < 1ULL << 56) {
		got = read_some(host, (u8 *)dst + done, size - done, addr + done);
		if (!got)
			break;
		done += got;
	}
	if (done == size) {
		note(host, addr, size);
		return 0;
	}
	if (is_behind(&host->stack, addr + done) || is_behind(&host->other, addr + done))
		host->cut = 1;
	memset(dst, 0, size);
	return -EFAULT;
}

static s32 add_piece(struct oa_host *host, struct oa_host_piece piece)
{
	u64 addr = piece.addr, bytes = piece.bytes;
	s64 before = find_piece(host, addr);
	struct oa_host_piece *pieces = host->pieces;
	u32 at = (u32)(before + 1);

	if (!bytes || addr + bytes < addr)
		return -EINVAL;
	if (before >= 0 && addr - pieces[before].addr < pieces[before].bytes)
		return -EEXIST;
	if (at < host->piece_count && pieces[at].addr - addr < bytes)
		return -EEXIST;
	if (host->piece_count == host->piece_capacity) {
		u32 capacity = host->piece_capacity ? host->piece_capacity * 2 : 16;

		pieces = realloc(pieces, capacity * sizeof(*pieces));
		if (!pieces)
			return -ENOMEM;
		host->pieces = pieces;
		host->piece_capacity = capacity;
	}
	memmove(pieces + at + 1, pieces + at, (host->piece_count - at) * sizeof(*pieces));
	pieces[at] = piece;
	host->piece_count++;
	return 0;
}

s32 oa_host_add_memory(struct oa_host *host, u64 addr, const void *memory, u64 bytes)
{
	return add_piece(host,
			 (struct oa_host_piece){.addr = addr, .bytes = bytes, .memory = memory});
}

s32 oa_host_add_file(struct oa_host *host, u64 addr, s32 fd, u64 offset, u64 bytes)
{
	if (fd < 0 || offset >> 62 || bytes >> 62)
		return -EINVAL;
	return add_piece(host, (struct oa_host_piece){
				       .addr = addr, .bytes = bytes, .offset = offset, .fd = fd});
}

void oa_host_drop_memory(struct oa_host *host)
{
	host->piece_count = 0;
}

void oa_host_use_process(struct oa_host *host, s32 pid, u32 reach)
{
	host->pid = pid > 0 ? pid : 0;
	host->reach = reach;
}

void oa_host_note_reads(struct oa_host *host, struct oa_host_read *reads, u32 capacity)
{
	host->reads = reads;
	host->read_capacity = capacity;
	host->read_count = 0;
}

u32 oa_host_noted(const struct oa_host *host)
{
	return host->read_count;
}
