/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_MEMORY_H
#define OA_MEMORY_H
#ifndef OA_CDEF
#include "types.h"
#endif

/* Read exactly `size` bytes of another process. Returns 0 or -errno: -ESRCH if the
 * process is gone, -EFAULT if not all of it is mapped.
 */
int oa_memory_read(s32 pid, u64 addr, void *out, u64 size);

#endif
