/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Go's pclntab: for each function, by how much the stack pointer was moved since
 * its entry, at every instruction. That is exact in prologues and epilogues too,
 * where the frame pointer is not yet, or no longer, the function's own.
 *
 * Layouts: runtime/symtab.go (pcHeader, moduledata) and runtime/runtime2.go
 * (_func) of Go 1.16, 1.18, 1.20 and 1.26; docs/gopclntab.md.
 */
#define _GNU_SOURCE
#include "gopclntab.h"

#include <errno.h>

#include "cfi.h"
#include "cursor.h"

#define MAX_PAIRS     65536 /* stack depth changes of one function */
#define MAX_DELTA     (1 << 28)
#define CACHED_DELTAS 512
#define WANTED_NAMES  4

enum { MAGIC_1_16 = 0xfffffffa, MAGIC_1_18 = 0xfffffff0, MAGIC_1_20 = 0xfffffff1 };
enum { FLAG_TOP_FRAME = 1, FLAG_SP_WRITE = 2 }; /* internal/abi/symtab.go, since Go 1.17 */

enum kind { NORMAL, SWITCHING, STOP, SIGNAL };

struct go {
	struct oa_rows *rows;
	const struct oa_go_table *table;
	const u8 *names;
	const u8 *end;
	const u8 *pctab;
	const u8 *functions;
	u64 count;
	u64 text;
	/* Functions may share depths, so hostile ones could all name one long list. */
	u64 budget; /* changes of the depth that may still be read */
	u32 quantum;
	int relative; /* entries are u32 relative to the text (Go >= 1.18) */
	u32 id_at; /* offset of funcID in _func; the flags follow */
	u32 name_at;
	u32 pcsp_at;
	u32 sigreturn[WANTED_NAMES]; /* name offsets */
	u32 sigreturns;
	u32 cached[CACHED_DELTAS]; /* rule + 1, by delta / 8 */
};

static u64 get(const u8 *at, u32 size)
{
	u64 value = 0;

	memcpy(&value, at, size);
	return value;
}

static int read_header(struct go *go)
{
	const u8 *data = go->table->data;
	u64 size = go->table->size, names, pctab, functions;
	u32 magic, at;

	if (size < 80)
		return -EINVAL;
	magic = (u32)get(data, 4);
	if ((magic != MAGIC_1_16 && magic != MAGIC_1_18 && magic != MAGIC_1_20) || data[4] ||
	    data[5] || (data[6] != 1 && data[6] != 4) || data[7] != 8)
		return -EINVAL;
	go->relative = magic != MAGIC_1_16;
	go->quantum = data[6];
	go->count = get(data + 8, 8);
	at = go->relative ? 32 : 24;
	names = get(data + at, 8);
	pctab = get(data + at + 24, 8);
	functions = get(data + at + 32, 8);
	if (names >= size || pctab >= size || functions >= size ||
	    go->count >= (size - functions) / (go->relative ? 8 : 16))
		return -EINVAL;
	go->text = go->table->text ? go->table->text : go->relative ? get(data + 24, 8) : 0;
	go->names = data + names;
	go->pctab = data + pctab;
	go->functions = data + functions;
	go->end = data + size;
	/* entry, name, args, deferreturn, pcsp, pcfile, pcln, npcdata, cuOffset, [startLine,]
	 * funcID */
	go->name_at = go->relative ? 4 : 8;
	go->pcsp_at = go->name_at + 12;
	go->id_at = magic == MAGIC_1_18 ? 36 : 40;
	return 0;
}

/* Find the names that cannot be told by function id: the return from signal handlers. */
static void find_sigreturn(struct go *go)
{
	static const char wanted[] = "\0runtime.sigreturn";
	u64 length = (u64)(go->pctab > go->names ? go->pctab - go->names : go->end - go->names);
	const u8 *at = go->names, *found;

	while (go->sigreturns < WANTED_NAMES &&
	       (found = memmem(at, length, wanted, sizeof(wanted) - 1))) {
		go->sigreturn[go->sigreturns++] = (u32)(found + 1 - go->names);
		length -= (u64)(found + 1 - at);
		at = found + 1;
	}
}

static int is_name(const struct go *go, u32 offset, const char *name)
{
	u64 length = strlen(name) + 1;

	return offset < (u64)(go->end - go->names) &&
	       length <= (u64)(go->end - go->names) - offset &&
	       !memcmp(go->names + offset, name, length);
}

static enum kind classify(const struct go *go, const u8 *function)
{
	static const char *const stops[] = {"runtime.goexit", "runtime.mstart",	   "runtime.rt0_go",
					    "runtime.mcall",  "runtime.morestack", "runtime.gogo"};
	static const char *const switching[] = {"runtime.systemstack", "runtime.asmcgocall"};
	u32 name = (u32)get(function + go->name_at, 4), i;
	u8 id = function[go->id_at], flags = function[go->id_at + 1];

	for (i = 0; i < go->sigreturns; i++)
		if (name == go->sigreturn[i])
			return SIGNAL;
	if (!id && !flags)
		return NORMAL;
	for (i = 0; i < sizeof(stops) / sizeof(*stops); i++)
		if (is_name(go, name, stops[i]))
			return STOP;
	for (i = 0; i < sizeof(switching) / sizeof(*switching); i++)
		if (is_name(go, name, switching[i]))
			return SWITCHING;
	/* The kernel calls sigtramp; its caller is the signal frame. */
	if (flags & FLAG_TOP_FRAME && !is_name(go, name, "runtime.sigtramp"))
		return STOP;
	return flags & FLAG_SP_WRITE ? SWITCHING : NORMAL;
}

/* The rule where the stack pointer is `delta` below its value at the entry. */
static u32 rule_of(struct go *go, u64 delta)
{
	struct oa_rule rule = {0};
	u32 *cached = delta / 8 < CACHED_DELTAS && !(delta & 7) ? &go->cached[delta / 8] : NULL;
	u32 index;

	if (cached && *cached)
		return *cached - 1;
	if (go->table->machine == OA_MACHINE_X86_64) {
		rule.cfa_reg = OA_X86_RSP;
		rule.bx_kind = OA_REG_UNDEFINED; /* Go's functions keep no register */
		rule.cfa_offset = (s32)delta + 8;
		rule.ra_kind = OA_REG_CFA;
		rule.ra_offset = -8;
		if (delta) { /* every frame begins by saving the frame pointer */
			rule.fp_kind = OA_REG_CFA;
			rule.fp_offset = -16;
		}
	} else { /* the link register lies at the stack pointer, the frame pointer below it */
		rule.cfa_reg = OA_ARM_SP;
		rule.cfa_offset = (s32)delta;
		rule.ra_kind = delta ? OA_REG_CFA : OA_REG_IN;
		rule.ra_reg = delta ? 0 : OA_ARM_LR;
		rule.ra_offset = delta ? -(s32)delta : 0;
		rule.fp_kind = delta ? OA_REG_CFA : OA_REG_SAME;
		rule.fp_offset = delta ? -(s32)delta - 8 : 0;
	}
	index = oa_rows_rule(go->rows, &rule);
	if (cached)
		*cached = index + 1;
	return index;
}

/* Put one row per change of the stack depth. `pcsp`: pairs of (signed change of the
 * depth, unsigned length of code), the depth beginning at -1.
 */
static int put_depths(struct go *go, u64 size, u32 pcsp, enum kind kind)
{
	struct oa_cursor c = {go->pctab + pcsp, go->end, 0};
	u64 at = 0, change, length;
	s64 depth = -1;
	u32 index, framed = 0;
	int first = 1;
	u32 set_bytes = go->table->machine == OA_MACHINE_X86_64 ? 3 : 8; /* mov %rsp, %rbp */

	for (; go->budget && at < size; go->budget--, first = 0) {
		change = oa_uleb(&c);
		if (!change && !first)
			break;
		length = oa_uleb(&c);
		if (c.bad || length > size)
			break;
		depth += (s32)((u32)change >> 1 ^ -((u32)change & 1));
		if (depth < 0 || depth > MAX_DELTA)
			index = OA_ROW_UNSUPPORTED;
		else if (kind == SWITCHING && depth && framed)
			index = OA_ROW_FRAME_POINTER;
		else
			index = rule_of(go, (u64)depth);
		if (oa_rows_put(go->rows, at, index))
			return -ENOMEM;
		/* The frame pointer becomes the function's own right after it was saved. */
		if (kind == SWITCHING && depth > 0 && !framed) {
			framed = 1;
			if (oa_rows_put(go->rows, at + set_bytes, OA_ROW_FRAME_POINTER))
				return -ENOMEM;
		}
		at += length * go->quantum;
	}
	return 0;
}

static int add_function(struct go *go, u64 entry, u64 size, const u8 *function,
			struct oa_go_stats *stats)
{
	u32 pcsp = (u32)get(function + go->pcsp_at, 4);
	enum kind kind = classify(go, function);
	int wanted;

	if (kind == STOP) {
		stats->stops++;
		return oa_rows_add(go->rows, entry, size, 0, OA_ROW_STOP);
	}
	if (kind == SIGNAL) /* handlers return to its first byte: their return address minus one */
		return oa_rows_add(go->rows, entry - 1, size + 1, 0, OA_ROW_SIGNAL);
	if (!pcsp || pcsp >= (u64)(go->end - go->pctab))
		return 0;
	stats->unwound++;
	stats->switching += kind == SWITCHING;
	wanted = oa_rows_begin(go->rows, entry, size, go->table->rank);
	return wanted > 0 ? put_depths(go, size, pcsp, kind) : wanted;
}

int oa_go_parse(struct oa_rows *rows, const struct oa_go_table *table, struct oa_go_stats *stats)
{
	struct go go = {.rows = rows, .table = table};
	u32 width, bytes;
	u64 i, entry, next, offset;
	int err;

	memset(stats, 0, sizeof(*stats));
	if (table->machine != OA_MACHINE_X86_64 && table->machine != OA_MACHINE_AARCH64)
		return -EINVAL;
	err = read_header(&go);
	if (err)
		return err;
	find_sigreturn(&go);
	go.budget = table->size;
	stats->magic = (u32)get(table->data, 4);
	stats->functions = go.count;
	stats->text = go.text;
	width = go.relative ? 4 : 8;
	bytes = go.id_at + 4;
	for (i = 0; i < go.count && !err; i++) {
		const u8 *pair = go.functions + i * 2 * width;

		entry = get(pair, width);
		next = get(pair + 2 * width, width);
		offset = get(pair + width, width);
		if (next <= entry || offset >= (u64)(go.end - go.functions) ||
		    (u64)(go.end - go.functions) - offset < bytes) {
			stats->bad += next < entry || offset >= (u64)(go.end - go.functions);
			continue;
		}
		err = add_function(&go, go.relative ? go.text + entry : entry, next - entry,
				   go.functions + offset, stats);
	}
	return err;
}
