/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_DEMANGLE_H
#define OA_DEMANGLE_H
/* Readable names of C++ (Itanium ABI) and Rust (legacy and v0) symbols.
 *
 * Written for hostile input: depth, nodes, steps and output are bounded, nothing
 * is allocated but one arena, and a name that is not understood in full is
 * refused, not guessed.
 */
#ifndef OA_CDEF
#include "types.h"
#endif

enum oa_demangle_limit {
	OA_DEMANGLE_MAX_INPUT = 16384, /* bytes of a mangled name */
	OA_DEMANGLE_MAX_DEPTH = 200, /* nesting of types, names and expressions */
	OA_DEMANGLE_MAX_STEPS = 60000, /* parts printed, shared ones as often as they are */
};

/* Write the readable name of `name` into `out`. Returns its length; `room` if it
 * was cut there; -1 if the name is not mangled or not understood.
 */
s64 oa_demangle(const char *name, u64 size, char *out, u64 room);

#ifndef OA_CDEF
/* Where a name is written: what does not fit is dropped, and `full` is set. */
struct oa_writer {
	char *out;
	u64 used, room;
	u32 steps;
	u8 full;
};

void oa_write(struct oa_writer *to, const char *text, u64 size);
void oa_write_text(struct oa_writer *to, const char *text);
void oa_write_number(struct oa_writer *to, u64 number);

/* Count one step of work; 0 when the budget is spent. */
static inline int oa_write_step(struct oa_writer *to)
{
	if (++to->steps > OA_DEMANGLE_MAX_STEPS)
		to->full = 1;
	return !to->full;
}

/* Each returns 1 if it understood the whole name. */
int oa_demangle_rust_legacy(struct oa_writer *to, const char *name, u64 size);
int oa_demangle_rust_v0(struct oa_writer *to, const char *name, u64 size);
int oa_demangle_itanium(struct oa_writer *to, const char *name, u64 size);
#endif

#endif
