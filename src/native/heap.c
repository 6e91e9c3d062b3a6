/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "heap.h"

#include <malloc.h>
#include <sys/prctl.h>

enum {
	LARGE_BYTES = 256 << 10,
	KEPT_BYTES = 1 << 20,
};

/* Left alone, glibc takes what is freed for what will be asked for again: after the first large
 * piece was freed (kallsyms has 5 MB), pieces up to 32 MiB come from the heap, where one small one
 * behind them keeps them from going back. A heap for each thread keeps its own. Where the kernel
 * gives huge pages to whoever does not refuse them (Debian), one byte used of a buffer or a
 * thread's stack makes 2 MiB resident.
 */
void oa_bound_heap(void)
{
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
#ifdef __GLIBC__
	mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
	mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
	mallopt(M_ARENA_MAX, 1);
#endif
}
