/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_GOPCLNTAB_PARSER_H
#define OA_GOPCLNTAB_PARSER_H
#ifndef OA_CDEF
#include "cfi.h"
#include "gopclntab.h"
#include "rows_table.h"
#include "view.h"

#include <string.h>

/* What gopclntab.c reads of the table and gopclntab_rows.c makes rows of. */

#define OA_GO_DELTAS 512

/* In real tables places ascend, and are read by large pieces; those behind are read apart. */
struct oa_go_reader {
	struct oa_view ahead;
	struct oa_view behind;
};

/* The fragment that has the rows of some depths. */
struct oa_go_shared {
	u32 pcsp; /* 0: none */
	u32 fragment;
};

struct oa_go {
	struct oa_rows *rows;
	const struct oa_go_table *table;
	struct oa_view entries;
	struct oa_view names;
	struct oa_go_reader functions;
	struct oa_go_reader depths;
	/* Offsets in the table. */
	u64 names_at;
	u64 pctab_at;
	u64 functions_at;
	u64 count;
	u64 text;
	/* Functions may share depths, so hostile ones could all name one long list. */
	u64 budget; /* bytes of depths that may still be read */
	u32 quantum;
	int relative; /* entries are u32 relative to the text (Go >= 1.18) */
	u32 id_at; /* offset of funcID in _func; the flags follow */
	u32 name_at;
	u32 pcsp_at;
	u16 cached[OA_GO_DELTAS]; /* rule + 1, by delta / 8 */
	struct oa_go_shared *shared;
	u32 shared_shift; /* what is left of a hash tells the slot */
	u32 highest; /* place of depths so far */
};

static inline const u8 *oa_go_look(struct oa_go_reader *reader, u64 at, u64 wanted, u64 *left)
{
	return oa_look(at < reader->ahead.from ? &reader->behind : &reader->ahead, at, wanted,
		       left);
}

static inline u32 oa_go_u32(const u8 *at)
{
	u32 value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static inline u64 oa_go_u64(const u8 *at)
{
	u64 value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/* Make room for the rows of `count` functions. Returns 0 or -ENOMEM. */
int oa_go_reserve(struct oa_go *go);
/* How a function is walked. */
enum oa_go_how {
	OA_GO_PLAIN,
	OA_GO_SWITCHING, /* it changes to another stack */
	OA_GO_FROM_C, /* arm64: C calls it, and it keeps x29 and x30 as C does */
	OA_GO_INJECTED, /* arm64: a signal handler makes it look called from anywhere */
	OA_GO_ENTRY, /* arm64: called at a function's entry, whose link register is in x3 */
};

/* Add the rows of a function with depths at `pcsp`. Returns 0, -EIO or -ENOMEM. */
int oa_go_add(struct oa_go *go, u64 entry, u64 size, u32 pcsp, enum oa_go_how how);
#endif
#endif
