/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_TYPES_H
#define OA_TYPES_H
/* The widths that oa_abi.h uses, for C outside of BPF. */
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

#endif
