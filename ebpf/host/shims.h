/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_SHIMS_H
#define OA_SHIMS_H

/* What BPF helpers are on the host: the unwinders' environment in user space. */

#include <stdbool.h>
#include <stddef.h>
#include "types.h"
#include "oa_abi.h"
#include "host_unwind.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/* Only clang has them, and only BPF needs them. */
#pragma GCC diagnostic ignored "-Wunknown-pragmas"
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* What `&mappings` and the like point to: a number that the current host
 * resolves. A chunk of rows is found in `rows` and is a map itself.
 */
struct oa_host_name {
	u32 id; /* enum oa_host_map_id; 0: a chunk */
	u32 chunk;
};

#define OA_HOST_NAME(name, number)                                                                 \
	static const struct oa_host_name name __attribute__((unused)) = {.id = (number)}
OA_HOST_NAME(mappings, OA_HOST_MAPPINGS);
OA_HOST_NAME(pages, OA_HOST_PAGES);
OA_HOST_NAME(rows, OA_HOST_ROWS);
OA_HOST_NAME(rules, OA_HOST_RULES);
OA_HOST_NAME(processes, OA_HOST_PROCESSES);
OA_HOST_NAME(python_procs, OA_HOST_PYTHON_PROCS);
OA_HOST_NAME(python_threads, OA_HOST_PYTHON_THREADS);
OA_HOST_NAME(python_files, OA_HOST_PYTHON_FILES);

/* These work on the host whose oa_host_unwind is running in this thread. */
void *oa_host_lookup(const struct oa_host_name *map, const void *key);
const struct oa_config *oa_host_config(void);
/* 0 or -EFAULT, and then `dst` is zeroed, as bpf_probe_read_user does. */
long oa_host_read(void *dst, u32 size, u64 addr);
void oa_host_count(u32 which, u64 amount);
/* Where the thread's own storage is (x86-64: fs_base, arm64: tpidr_el0); 0: not known. */
u64 oa_host_thread_pointer(void);
bool oa_host_knows_all_code(void);

#define bpf_map_lookup_elem(map, key) oa_host_lookup((map), (key))
#define config			      (*oa_host_config())

static __always_inline long read_user(void *dst, u32 size, u64 addr)
{
	return oa_host_read(dst, size, addr);
}

static __always_inline bool knows_all_code(void)
{
	return oa_host_knows_all_code();
}

static __always_inline void count(u32 which, u64 amount)
{
	oa_host_count(which, amount);
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "little-endian only"
#endif
#define oa_bswap32(x) __builtin_bswap32(x)
#define oa_bswap64(x) __builtin_bswap64(x)

#endif
