/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Names of C++ and Rust: whatever the name, the answer lies within its room. */
#include "demangle.h"
#include "fuzz.h"

static void demangle_into(const u8 *data, size_t size, u64 room)
{
	/* Of exactly its size, so that writing behind its end is seen. */
	char *out = malloc(room ? room : 1);

	if (!out)
		abort();
	if (oa_demangle((const char *)data, size, out, room) > (s64)room)
		abort();
	free(out);
}

void oa_fuzz_one(const u8 *data, size_t size)
{
	demangle_into(data, size, 4096);
	demangle_into(data, size, size ? data[size - 1] : 0);
}
