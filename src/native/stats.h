/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_STATS_H
#define OA_STATS_H
#ifndef OA_CDEF
#include "types.h"
#endif

/* Let the kernel measure all BPF programs for as long as the returned descriptor is open
 * (CAP_SYS_ADMIN; some 20 ns a run); or -errno.
 */
s32 oa_stats_enable(void);
/* For how many ns a program ran, with those that it called by tail calls, and how often. */
s32 oa_program_times(s32 program_fd, u64 values[2]);

#endif
