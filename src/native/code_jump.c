/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Where jumps lead that take their target from a register or from memory (code_flow.c). */
#include "code_flow.h"

enum {
	LABEL_STEPS = 1024, /* from where a label's address is taken to the label, or back */
	TABLE_STEPS = 6, /* from the load of a table's entry to the jump */
};

/* The register that `jmp *%reg` goes to, or OA_INSN_NO_REG. */
static u8 jumps_to(const struct oa_flow *flow, u32 index)
{
	const struct oa_flow_step *step = &flow->steps[index];
	const u8 *code = flow->code + step->offset + step->insn.length;

	if (step->insn.length < 2 || code[-2] != 0xff || (code[-1] & 0xf8) != 0xe0)
		return OA_INSN_NO_REG;
	return (code[-1] & 7) | (step->insn.length >= 3 && (code[-3] & 0xf1) == 0x41 ? 8 : 0);
}

/* Tell whether a step is `add %other,%reg`, of 64 bits. */
static int adds_to(const struct oa_flow *flow, const struct oa_flow_step *step, u8 reg)
{
	const u8 *code = flow->code + step->offset;

	if (step->insn.length != 3 || (code[0] & 0xf8) != 0x48 || code[2] < 0xc0)
		return 0;
	if (code[1] == 0x01)
		return ((code[2] & 7) | (code[0] & 1) << 3) == reg;
	return code[1] == 0x03 && ((code[2] >> 3 & 7) | (code[0] & 4) << 1) == reg;
}

/* Tell a jump through a table of distances (movslq or movzwl, add, jmp *%reg) or of addresses
 * (jmp *table(,%reg,8)) from a tail call.
 */
int oa_flow_is_by_table(const struct oa_flow *flow, u32 index)
{
	const u8 *code = flow->code + flow->steps[index].offset;
	u32 length = flow->steps[index].insn.length, i;
	u8 reg = jumps_to(flow, index);

	if (length >= 7 && code[length - 7] == 0xff && code[length - 6] == 0x24 &&
	    (code[length - 5] & 7) == 5)
		return 1;
	for (i = index; i-- > flow->base && i + TABLE_STEPS >= index;) {
		code = flow->code + flow->steps[i].offset;
		if (flow->steps[i].insn.length >= 3 && (code[0] & 0xf8) == 0x48 && code[1] == 0x63)
			return 1;
		if (reg != OA_INSN_NO_REG && adds_to(flow, &flow->steps[i], reg))
			return 1;
	}
	return 0;
}

/* Tell that reached code near a step takes the address of `label`, a step too, in register `reg`
 * (in any one: OA_INSN_NO_REG).
 */
int oa_flow_takes_label(const struct oa_flow *flow, u32 near, u32 label, u8 reg)
{
	u32 i = near > flow->base + LABEL_STEPS ? near - LABEL_STEPS : flow->base;

	for (; i <= flow->last && i < near + LABEL_STEPS; i++) {
		const struct oa_flow_step *step = &flow->steps[i];
		s64 target = step->offset + step->insn.length + (s64)step->insn.value;

		if (step->insn.kind != OA_INSN_ADDRESS || !(step->flags & OA_FLOW_REACHED))
			continue;
		if (reg != OA_INSN_NO_REG && step->insn.reg != reg)
			continue;
		if (label ? target == flow->steps[label].offset
			  : target > flow->steps[flow->base].offset && target < flow->size &&
				    flow->at[target])
			return 1;
	}
	return 0;
}

/* jmp *%reg, and the register has the address of a label of the function: GMP does so. */
int oa_flow_is_to_label(const struct oa_flow *flow, u32 index)
{
	u8 reg = jumps_to(flow, index);

	return reg != OA_INSN_NO_REG && oa_flow_takes_label(flow, index, 0, reg);
}
