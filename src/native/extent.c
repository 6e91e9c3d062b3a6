/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "extent.h"

#include "cfi.h"
#include "x86_insn.h"

#include <string.h>

/* What an instruction means for where its function ends. */
struct flow {
	u32 length; /* 0: there is no instruction */
	u32 ends; /* it does not go on behind it */
	s64 branch; /* how far behind it a branch leads; 0: it is none */
};

static struct flow x86_flow(const u8 *code, u64 left)
{
	struct flow flow = {0};
	struct oa_insn insn;

	oa_x86_decode(code, left, &insn);
	if (insn.kind == OA_INSN_BAD)
		return flow;
	flow.length = insn.length;
	if (insn.kind == OA_INSN_BRANCH)
		flow.branch = insn.value;
	/* A jump may be the call of another function: what it leads to is left out. */
	flow.ends = insn.kind == OA_INSN_RETURN || insn.kind == OA_INSN_STOP ||
		    insn.kind == OA_INSN_JUMP || insn.kind == OA_INSN_JUMP_INDIRECT;
	return flow;
}

/* Arm ARM (DDI 0487), C4.1.65: branches, exceptions and system instructions. */
static struct flow arm64_flow(const u8 *code, u64 left)
{
	struct flow flow = {0};
	u32 word;

	if (left < sizeof(word))
		return flow;
	memcpy(&word, code, sizeof(word));
	if (!(word >> 16)) /* udf */
		return flow;
	flow.length = sizeof(word);
	if ((word & 0xff000010) == 0x54000000 || (word & 0x7e000000) == 0x34000000)
		flow.branch = ((s64)(s32)(word << 8) >> 13) * 4 - 4; /* b.cond, cbz */
	else if ((word & 0x7e000000) == 0x36000000)
		flow.branch = ((s64)(s32)(word << 13) >> 18) * 4 - 4; /* tbz */
	flow.ends = (word & 0xfc000000) == 0x14000000 || /* b */
		    (word & 0xfe9f0000) == 0xd61f0000 || /* br, ret, eret, and authenticated */
		    (word & 0xffe0001f) == 0xd4200000; /* brk */
	if ((word & 0xfffffc1f) == 0xd63f0000 || (word & 0xfffff800) == 0xd63f0800)
		flow.ends = 0; /* blr */
	return flow;
}

u64 oa_code_extent(const u8 *code, u64 size, u32 machine)
{
	u64 at = 0, furthest = 0;

	if (machine != OA_MACHINE_X86_64 && machine != OA_MACHINE_AARCH64)
		return 0;
	while (at < size) {
		struct flow flow = machine == OA_MACHINE_X86_64 ? x86_flow(code + at, size - at)
								: arm64_flow(code + at, size - at);

		if (!flow.length)
			return at;
		at += flow.length;
		if (flow.branch > 0 && at + (u64)flow.branch > furthest)
			furthest = at + (u64)flow.branch;
		if (flow.ends && at > furthest)
			return at;
	}
	return size;
}
