/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_LEAF_H
#define OA_LEAF_H

/* Where the caller's address is kept in code that keeps frame pointers. BPF asks it
 * of the newest frame; the C core, which rows such a frame would need where it errs.
 */

/* How many slots above the stack pointer the return address is, plus 1, if the code at
 * the pc says so; 0: the frame pointer is set up. `code` is the byte before the pc and
 * four from it on; x86-64.
 */
static inline __attribute__((always_inline)) unsigned int oa_leaf_slot(const unsigned char *code)
{
	if (code[1] == 0x55 || code[1] == 0xc3 || code[1] == 0xc2 ||
	    (code[1] == 0xf3 && code[2] == 0xc3))
		return 1; /* push %rbp, ret, rep ret */
	if (code[1] == 0xf3 && code[2] == 0x0f && code[3] == 0x1e && code[4] == 0xfa)
		return 1; /* endbr64 */
	if (code[0] == 0x5d && (code[1] == 0xe9 || code[1] == 0xeb || code[1] == 0xff))
		return 1; /* a jump behind pop %rbp: a tail call */
	if (code[0] == 0x55 && code[1] == 0x48 &&
	    ((code[2] == 0x89 && code[3] == 0xe5) || (code[2] == 0x8b && code[3] == 0xec)))
		return 2; /* mov %rsp,%rbp in both encodings */
	return 0;
}

#endif
