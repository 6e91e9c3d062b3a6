/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_ENV_H
#define OA_ENV_H

/* The one switch: the kernel build, or the host build (OA_HOST) in which the
 * same unwinders run in user space over memory that is read by shims.
 */
#ifdef OA_HOST
#include "host/shims.h"
#else

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "vmlinux.h"

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;
typedef _Bool bool;
enum { false, true };

#include "oa_abi.h"

/* Read the interrupted thread's memory; 0 or an error. */
static __always_inline long read_user(void *dst, u32 size, u64 addr)
{
	return bpf_probe_read_user(dst, size, (const void *)addr);
}

/* Read kernel memory; 0 or an error. */
static __always_inline long read_kernel(void *dst, u32 size, u64 addr)
{
	return bpf_probe_read_kernel(dst, size, (const void *)addr);
}

#define oa_bswap32(x) bpf_htonl(x)
#define oa_bswap64(x) bpf_cpu_to_be64(x)

#endif

/* Keep the compiler from knowing what a register holds. */
#define oa_opaque(x) asm volatile("" : "+r"(x))

#if defined(__TARGET_ARCH_x86)
enum { REG_SP = OA_X86_RSP, REG_FP = OA_X86_RBP, REG_BX = OA_X86_RBX };
#elif defined(__TARGET_ARCH_arm64)
enum { REG_SP = OA_ARM_SP, REG_FP = OA_ARM_FP, REG_BX = OA_GP_REGS /* none */ };
#else
#error "x86-64 and arm64 only"
#endif

#endif
