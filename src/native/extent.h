/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_EXTENT_H
#define OA_EXTENT_H
#ifndef OA_CDEF
#include "types.h"
#endif

/* How many of the `size` bytes at `code` surely belong to the function that begins there: up to
 * its first return or jump behind which no branch before leads. `machine` is that of the ELF
 * header; 0 for one that is not known. Any bytes are safe.
 */
u64 oa_code_extent(const u8 *code, u64 size, u32 machine);

#endif
