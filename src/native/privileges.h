/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_PRIVILEGES_H
#define OA_PRIVILEGES_H
#ifndef OA_CDEF
#include "types.h"
#endif

/* Let the calling thread, and those that it starts from now on, keep these capabilities at
 * most (a bit for each), and never get one again; 0 or -errno.
 */
s32 oa_keep_capabilities(u64 keep);
/* Let this process be killed when the thread that forked it ends, or now if it has ended. */
void oa_die_with(s32 parent);

#endif
