/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_PAGES_H
#define OA_PAGES_H
#ifndef OA_CDEF
#include "types.h"
#endif

/* Unmap the pages of this process's program and libraries that can only be what their files
 * hold: code and constants. They stay in the page cache, and come back by a minor fault each
 * (sixteen at a time) when they are used. The number of bytes that were resident, or -errno.
 */
s64 oa_release_libraries(void);

#endif
