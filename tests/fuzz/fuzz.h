/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_FUZZ_H
#define OA_FUZZ_H

/* What main.c and the drivers share. A driver is one file, `fuzz_<name>.c`, that
 * is linked with main.c and the whole C core, all under ASan and UBSan.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "types.h"
#include "oa_abi.h"

/* The driver: use the input in every way; whatever is wrong with it, return. */
void oa_fuzz_one(const u8 *data, size_t size);

/* Reads an input as a string of decisions; behind its end they are pseudo-random,
 * the same ones for the same input.
 */
struct choices {
	const u8 *at;
	const u8 *end;
	u64 state;
};

static inline struct choices choices_of(const u8 *data, size_t size)
{
	struct choices c = {data, data + size, 0xcbf29ce484222325};

	for (size_t i = 0; i < size; i++)
		c.state = (c.state ^ data[i]) * 0x100000001b3;
	return c;
}

static inline u64 choose(struct choices *c, u32 bytes)
{
	u64 value = 0;

	if (bytes <= (size_t)(c->end - c->at)) {
		memcpy(&value, c->at, bytes);
		c->at += bytes;
		return value;
	}
	c->at = c->end;
	c->state = c->state * 6364136223846793005 + 1442695040888963407;
	return c->state >> 8 >> (56 - 8 * (bytes < 7 ? bytes : 7));
}

/* A number below `bound`. */
static inline u32 choose_below(struct choices *c, u32 bound)
{
	return (u32)(choose(c, bound > 256 ? 4 : 1) % bound);
}

/* True but for one time in `times`; zeros, of which inputs are full, are usual. */
static inline int usually(struct choices *c, u32 times)
{
	return choose_below(c, times) != times - 1;
}

#endif
