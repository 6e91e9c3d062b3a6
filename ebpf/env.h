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

/* The unwinders are built for each type of program that they are called from: a table of tail
 * calls has programs of one type only.
 */
#ifdef OA_OFF_CPU
#define OA_PROGRAM SEC("raw_tracepoint")
#define OA_CONTEXT struct bpf_raw_tracepoint_args
#else
#define OA_PROGRAM SEC("perf_event")
#define OA_CONTEXT struct bpf_perf_event_data
#endif

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

/* Whether all code of the process is known, so that what lies elsewhere is none. */
static __always_inline bool knows_all_code(void)
{
	return false;
}

#define oa_bswap32(x) bpf_htonl(x)
#define oa_bswap64(x) bpf_cpu_to_be64(x)

#endif

/* Keep the compiler from knowing what a register holds. */
#define oa_opaque(x) asm volatile("" : "+r"(x))

/* A function that takes and gives numbers, which the verifier looks at by itself. On arm64 programs
 * with such functions may not make tail calls before 6.0 (d4609a5d8c70, "bpf, arm64: Keep tail call
 * count across bpf2bpf calls"), and on the host there is no verifier.
 */
#if defined(OA_HOST) || defined(__TARGET_ARCH_arm64)
#define OA_VERIFIED_ONCE static __always_inline
#else
#define OA_VERIFIED_ONCE __attribute__((noinline))
#endif

/* The same below bpf_loop, whose callback is a function anyway. */
#ifdef OA_HOST
#define OA_LOOP_STEP static __always_inline
#else
#define OA_LOOP_STEP __attribute__((noinline))
#endif

#if defined(__TARGET_ARCH_x86)
enum { REG_SP = OA_X86_RSP, REG_FP = OA_X86_RBP, REG_BX = OA_X86_RBX };
#elif defined(__TARGET_ARCH_arm64)
enum { REG_SP = OA_ARM_SP, REG_FP = OA_ARM_FP, REG_BX = OA_GP_REGS /* none */ };
#else
#error "x86-64 and arm64 only"
#endif

#endif
