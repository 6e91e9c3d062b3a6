/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_PREFIXES_H
#define OA_PREFIXES_H
#ifndef OA_CDEF
#include "oa_abi.h"
#include "types.h"
#endif

/* Cut [start, end) of an address space into aligned powers of two, the keys of the map `mappings`,
 * in order; 126 suffice for any. How many there are, at most `most`.
 */
u32 oa_range_keys(u32 space, u64 start, u64 end, struct oa_mapping_key *keys, u32 most);

#endif
