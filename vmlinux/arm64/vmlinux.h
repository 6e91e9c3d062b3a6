/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_VMLINUX_H
#define OA_VMLINUX_H

/* arch/arm64/include/uapi/asm/ptrace.h: struct user_pt_regs, with which the
 * kernel's own struct pt_regs begins; orig_x0 and syscallno follow in that one.
 */
struct pt_regs {
	unsigned long long regs[31], sp, pc, pstate;
	unsigned long long orig_x0;
	int syscallno;
	unsigned int pad;
};

struct oa_user_pt_regs {
	unsigned long long regs[31], sp, pc, pstate;
};

/* include/uapi/linux/bpf_perf_event.h */
struct bpf_perf_event_data {
	struct oa_user_pt_regs regs;
	unsigned long long sample_period;
	unsigned long long addr;
};

#endif
