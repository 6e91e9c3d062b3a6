/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_PERF_RECORDS_H
#define OA_PERF_RECORDS_H
#ifndef OA_CDEF
#include "sideband.h"

/* Take a record of the side-band apart, up to `end` bytes of it; 0 if it is not what its
 * type says. One that tells nothing leaves `event->kind` as it is. `*name` is where its
 * name begins, 0 if it has none.
 */
int oa_perf_decode(const u8 *data, u32 end, struct oa_event *event, u32 *name);

#endif
#endif
