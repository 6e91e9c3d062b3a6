/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_STOP_H
#define OA_STOP_H
#ifndef OA_CDEF
#include "types.h"
#endif

/* Stops every thread of a process for a moment, by PTRACE_SEIZE and PTRACE_INTERRUPT:
 * no signal is sent, no system call fails, and a process that was stopped stays so.
 *
 * A thread of our own is the tracer. When it ends the kernel lets go of all that it
 * still holds, so a target never stays behind, whatever becomes of us.
 */
enum oa_stop_state {
	OA_STOP_STOPPED = 1, /* its registers are there */
	OA_STOP_LATE, /* it did not stop in time */
	OA_STOP_GONE, /* it ended */
	OA_STOP_FAILED, /* `error` says why */
};

struct oa_stopped {
	s32 tid;
	u32 state; /* enum oa_stop_state */
	s32 error; /* errno */
	s32 signal; /* that it gets when it goes on, 0 for none */
	u32 regs_bytes; /* of NT_PRSTATUS: elf_gregset_t of its machine */
	u32 pad;
	u64 tls; /* arm64: tpidr_el0 (x86-64 has fs_base among its registers) */
	u8 regs[272];
};

struct oa_stop;

/* NULL: no memory. */
struct oa_stop *oa_stop_new(void);
/* Lets the threads go, if they are still held. */
void oa_stop_free(struct oa_stop *stop);
/* Stop all threads of `pid`, the ones that begin meanwhile included. Once for each `stop`.
 * When none has stopped for `quiet_ms`, the rest is late: in the kernel, where it is not
 * interrupted. Returns how many were met, or -errno if not one could be seized.
 */
s32 oa_stop_threads(struct oa_stop *stop, s32 pid, u32 quiet_ms);
const struct oa_stopped *oa_stop_thread(const struct oa_stop *stop, u32 index);
/* Let all of them go; returns for how many nanoseconds they were held. */
u64 oa_stop_release(struct oa_stop *stop);

#endif
