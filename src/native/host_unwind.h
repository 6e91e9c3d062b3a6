/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_HOST_UNWIND_H
#define OA_HOST_UNWIND_H
#ifndef OA_CDEF
#include "oa_abi.h"
#endif

/* The BPF unwinders, compiled for the host (ebpf/host/): they finish deferred
 * stacks, and unwind cores and the fake memory of tests.
 *
 * A host is used by one thread at a time. Functions return 0 or a count, or
 * -errno. Memory that is handed over by pointer is borrowed: it must stay until
 * it is taken back or the host is freed.
 */
struct oa_host;

/* The maps of the unwinders, by the names that they have in BPF. */
enum oa_host_map_id {
	OA_HOST_MAPPINGS = 1,
	OA_HOST_PAGES,
	OA_HOST_ROWS,
	OA_HOST_RULES,
	OA_HOST_PROCESSES,
	OA_HOST_PYTHON_PROCS,
	OA_HOST_PYTHON_THREADS,
	OA_HOST_PYTHON_FILES,
	OA_HOST_MAPS, /* how many there are, and one */
};

/* What may be read of a live process besides the stack that was copied: it has gone on. */
enum oa_host_reach {
	OA_HOST_REACH_NONE,
	OA_HOST_REACH_TEXT, /* executable mappings: they hardly change */
	OA_HOST_REACH_ALL, /* everything: the process is stopped */
};

/* What a walk may use before something fails, for tests; 0: as much as it wants. */
struct oa_host_limits {
	u32 steps; /* as if the tail calls were used up */
	u32 reads; /* of memory; all later ones fail */
	u32 lookups; /* in maps; all later ones find nothing */
};

struct oa_host *oa_host_new(void);
void oa_host_free(struct oa_host *host);
/* Only what unwinders look at counts: max_user_frames, pac_mask, … */
void oa_host_configure(struct oa_host *host, const struct oa_config *config);

/* Of which kind of machine the stacks are (enum oa_cfi_machine); of this one if it is not told. */
void oa_host_use_machine(struct oa_host *host, u32 machine);

/* Use a kernel map by its file descriptor, which stays the caller's. */
s32 oa_host_use_fd(struct oa_host *host, u32 map, s32 fd, u32 key_bytes, u32 value_bytes);
/* Use an array's memory, 8-byte aligned: `rules`, or with `chunk` one array of `rows`. */
s32 oa_host_use_rules(struct oa_host *host, const void *memory, u64 bytes);
s32 oa_host_use_chunk(struct oa_host *host, u32 chunk, const void *memory, u64 bytes);

/* Write or delete an entry of a hash in memory; sizes are those of the first entry. */
s32 oa_host_update(struct oa_host *host, u32 map, const void *key, u32 key_bytes, const void *value,
		   u32 value_bytes);
s32 oa_host_delete(struct oa_host *host, u32 map, const void *key, u32 key_bytes);
/* Add an executable range to an address space in memory; -EEXIST where one is already. */
s32 oa_host_add_mapping(struct oa_host *host, u32 space, const struct oa_mapping *mapping);
/* Forget the ranges of an address space; returns how many there were. */
s32 oa_host_drop_space(struct oa_host *host, u32 space);

/* Add memory of the target; pieces do not overlap. It is looked at after the copied stack. */
s32 oa_host_add_memory(struct oa_host *host, u64 addr, const void *memory, u64 bytes);
/* The same for `bytes` of an open file from `offset` on; the descriptor stays the caller's. */
s32 oa_host_add_file(struct oa_host *host, u64 addr, s32 fd, u64 offset, u64 bytes);
void oa_host_drop_memory(struct oa_host *host);
/* After all else: read a live process. pid 0 for none. */
void oa_host_use_process(struct oa_host *host, s32 pid, u32 reach);
/* Note what is read from now on, into an array that stays the caller's; NULL: no more. What
 * cannot be read is not noted.
 */
struct oa_host_read {
	u64 addr;
	u32 bytes;
	u32 _pad;
};
void oa_host_note_reads(struct oa_host *host, struct oa_host_read *reads, u32 capacity);
/* How many reads there were; those beyond the capacity were not noted. */
u32 oa_host_noted(const struct oa_host *host);
/* 1: frames of interpreters are found too. 0 (the start): they stay frames of the interpreter. */
void oa_host_use_interpreters(struct oa_host *host, s32 on);
/* 1: all code is in `mappings`; what is called elsewhere was called by a null or wild pointer, and
 * its caller is looked for. 0 (the start): it may yet come.
 */
void oa_host_know_all_code(struct oa_host *host, s32 on);

/* Where the storage of the thread that is unwound next is: interpreters know it by that. 0 (the
 * start): by its thread id.
 */
void oa_host_set_thread_pointer(struct oa_host *host, u64 thread_pointer);

/* Unwind a record of kind OA_RECORD_DEFERRED, which the OA_RECORD_DEEP of the same sample may
 * follow. Writes the OA_RECORD_TRACE that BPF
 * would have sent and returns its bytes; 0 if its process is not in `processes`
 * with that generation; -EINVAL if it is no such record, -ENOSPC if `out` is short.
 */
s32 oa_host_unwind(struct oa_host *host, const void *deferred, u32 bytes, void *out, u32 capacity);

/* Copy the stacks of a thread whose registers `deferred` has into it, from the memory of `host`.
 * Returns the bytes.
 */
u32 oa_host_copy_stacks(struct oa_host *host, struct oa_deferred *deferred);
/* Copy the Python frames of its thread behind its stacks: those of the CPython that `space` has.
 * Returns the bytes.
 */
u32 oa_host_copy_python(struct oa_host *host, struct oa_deferred *deferred, u32 space);
/* Where the interpreters of a live process are listed, by OA_HOST_PYTHON_FILES and its program's
 * headers; 0 if they are not found.
 */
u64 oa_host_find_interpreter(struct oa_host *host, u64 segments);

void oa_host_limit(struct oa_host *host, const struct oa_host_limits *limits);
/* What the last walk used. */
struct oa_host_limits oa_host_spent(const struct oa_host *host);

/* Look into the host, for tests: bytes of `struct oa_trace` with all its words. */
u32 oa_host_trace_bytes(void);
/* Tell whether a call instruction ends right before `pc`, as the guess does. */
s32 oa_host_follows_call(struct oa_host *host, u32 space, u64 pc);
/* A counter of the unwinders (enum oa_counter, or OA_COUNTER_COUNT + fault). */
u64 oa_host_counter(const struct oa_host *host, u32 which);

#endif
