/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Go's pclntab: for each function, by how much the stack pointer was moved since
 * its entry, at every instruction. That is exact in prologues and epilogues too,
 * where the frame pointer is not yet, or no longer, the function's own.
 *
 * Layouts: runtime/symtab.go (pcHeader, moduledata) and runtime/runtime2.go
 * (_func) of Go 1.16, 1.18, 1.20 and 1.26; docs/gopclntab.md.
 */
#include "gopclntab.h"

#include <errno.h>

#include "cfi.h"
#include "cursor.h"
#include "rows_table.h"

#define MAX_PAIRS     65536 /* stack depth changes of one function */
#define MAX_DELTA     (1 << 28)
#define CACHED_DELTAS 512
#define LONG_FUNCTION 65536 /* room for so many rows is not made in advance */

enum { MAGIC_1_16 = 0xfffffffa, MAGIC_1_18 = 0xfffffff0, MAGIC_1_20 = 0xfffffff1 };
/* internal/abi/symtab.go; since Go 1.17, the last one since 1.18 */
enum { FLAG_TOP_FRAME = 1, FLAG_SP_WRITE = 2, FLAG_ASM = 4 };

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

/* How functions are walked that are special by their names. All are written in assembly. */
static const struct {
	const char *name; /* without "runtime." */
	u32 length; /* with the zero at its end, or less: names that begin so */
	enum kind kind;
} special[] = {
	{"goexit", 7, STOP},
	{"mstart", 7, STOP},
	{"rt0_go", 7, STOP},
	{"mcall", 6, STOP},
	{"morestack", 10, STOP},
	{"gogo", 5, STOP},
	{"systemstack", 12, SWITCHING},
	{"asmcgocall", 11, SWITCHING},
	{"sigreturn", 9, SIGNAL},
	{"sigtramp", 9, NORMAL}, /* the kernel calls it: its caller is the signal frame */
};

static enum kind classify(const struct go *go, const u8 *function)
{
	static const char prefix[] = "runtime.";
	u32 flags = function[go->id_at + 1], at, i;
	const u8 *name;
	u64 left;

	if (go->relative && !(flags & (FLAG_ASM | FLAG_TOP_FRAME | FLAG_SP_WRITE)))
		return NORMAL;
	at = (u32)get(function + go->name_at, 4);
	name = go->names + at;
	left = (u64)(go->end - go->names) > at ? (u64)(go->end - name) : 0;
	if (left > sizeof(prefix) && !memcmp(name, prefix, sizeof(prefix) - 1)) {
		name += sizeof(prefix) - 1;
		left -= sizeof(prefix) - 1;
		for (i = 0; i < sizeof(special) / sizeof(*special); i++)
			if (special[i].length <= left &&
			    !memcmp(name, special[i].name, special[i].length))
				break;
		if (i < sizeof(special) / sizeof(*special)) {
			if (special[i].kind != NORMAL)
				return special[i].kind;
			flags &= ~(u32)FLAG_TOP_FRAME;
		}
	}
	if (flags & FLAG_TOP_FRAME)
		return STOP;
	return flags & FLAG_SP_WRITE ? SWITCHING : NORMAL;
}

/* x86-64: the rule without a word of the frame pointer. */
static struct oa_rule plain_rule(u64 delta)
{
	return (struct oa_rule){
		.cfa_reg = OA_X86_RSP,
		.bx_kind = OA_REG_UNDEFINED, /* Go's functions keep no register */
		.cfa_offset = (s32)delta + 8,
		.ra_kind = OA_REG_CFA,
		.ra_offset = -8,
	};
}

/* The rule where the stack pointer is `delta` below its value at the entry. */
static u32 make_rule(struct go *go, u64 delta)
{
	struct oa_rule rule = {0};
	u32 index;

	if (go->table->machine == OA_MACHINE_X86_64) {
		rule = plain_rule(delta);
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
	if (delta / 8 < CACHED_DELTAS && !(delta & 7))
		go->cached[delta / 8] = index + 1;
	return index;
}

static inline u32 rule_of(struct go *go, s64 depth)
{
	if (depth < 0 || depth > MAX_DELTA)
		return OA_ROW_UNSUPPORTED;
	if (depth / 8 < CACHED_DELTAS && !(depth & 7) && go->cached[depth / 8])
		return go->cached[depth / 8] - 1;
	return make_rule(go, (u64)depth);
}

/* The depths of a function: pairs of (signed change of the depth, unsigned length of code),
 * the depth beginning at -1.
 */
struct depths {
	struct oa_cursor c;
	u64 size; /* of the function */
	u64 at; /* offset from which on `depth` holds */
	u64 next; /* and where it ends */
	s64 depth;
};

static inline struct depths open_depths(const struct go *go, u32 pcsp, u64 size)
{
	return (struct depths){{go->pctab + pcsp, go->end, 0}, size, 0, 0, -1};
}

/* Read the next depth: 0 at the end. */
static inline int next_depth(struct go *go, struct depths *d)
{
	u64 change, length;

	if (d->next >= d->size || !go->budget)
		return 0;
	change = oa_uleb(&d->c);
	if (!change && d->next)
		return 0;
	length = oa_uleb(&d->c);
	if (d->c.bad || length > d->size)
		return 0;
	go->budget--;
	d->depth += (s32)((u32)change >> 1 ^ -((u32)change & 1));
	d->at = d->next;
	d->next += length * go->quantum;
	return 1;
}

/* Put one row per change of the stack depth. */
static int put_depths(struct go *go, u64 size, u32 pcsp)
{
	struct depths d = open_depths(go, pcsp, size);
	struct oa_row_writer writer;
	int err = 0;

	if (oa_open_row_writer(go->rows, &writer, size < LONG_FUNCTION ? (u32)size : 0))
		return -ENOMEM;
	while (!err && next_depth(go, &d))
		if (d.next > d.at) /* always, but in damaged tables */
			err = oa_write_row(go->rows, &writer, d.at, rule_of(go, d.depth));
	oa_close_row_writer(go->rows, &writer);
	return err;
}

/* Put the first rows with a depth, up to where the frame pointer is the function's own. */
static int put_prologue(struct go *go, u64 at, s64 depth)
{
	u32 move; /* bytes of mov %rbp, depth-8(%rsp), and of the lea that follows */
	struct oa_rule unsaved;

	if (go->table->machine != OA_MACHINE_X86_64) {
		if (oa_rows_put(go->rows, at, rule_of(go, depth)))
			return -ENOMEM;
		return oa_rows_put(go->rows, at + 8, OA_ROW_FRAME_POINTER);
	}
	if (depth == 8) { /* push %rbp; mov %rsp, %rbp */
		if (oa_rows_put(go->rows, at, rule_of(go, depth)))
			return -ENOMEM;
		return oa_rows_put(go->rows, at + 3, OA_ROW_FRAME_POINTER);
	}
	/* Up to Go 1.20: the whole frame is made, then the frame pointer saved, then moved. */
	unsaved = plain_rule((u64)depth);
	move = depth - 8 < 128 ? 5 : 8;
	if (oa_rows_put(go->rows, at, oa_rows_rule(go->rows, &unsaved)) ||
	    oa_rows_put(go->rows, at + move, rule_of(go, depth)))
		return -ENOMEM;
	return oa_rows_put(go->rows, at + 2 * move, OA_ROW_FRAME_POINTER);
}

/* Tell whether a function moves the stack pointer, as far as the table knows. */
static int has_frame(struct go *go, u64 size, u32 pcsp)
{
	struct depths d = open_depths(go, pcsp, size);

	while (next_depth(go, &d))
		if (d.depth > 0)
			return 1;
	return 0;
}

/* The same where the stack is switched: by the frame pointer once that is the function's own.
 * Functions without a frame leave it alone (systemstack and asmcgocall up to Go 1.20): it is that
 * of their caller, which is left out: a wrapper of the same name, made by the compiler.
 */
static int put_frame_pointer(struct go *go, u64 size, u32 pcsp)
{
	struct depths d = open_depths(go, pcsp, size);
	int framed = 0, err = 0;

	if (!has_frame(go, size, pcsp))
		return oa_rows_put(go->rows, 0, OA_ROW_FRAME_POINTER);
	while (!err && next_depth(go, &d)) {
		if (d.depth <= 0 || d.depth > MAX_DELTA)
			err = oa_rows_put(go->rows, d.at, rule_of(go, d.depth));
		else if (framed)
			err = oa_rows_put(go->rows, d.at, OA_ROW_FRAME_POINTER);
		else
			err = put_prologue(go, d.at, d.depth);
		framed |= d.depth > 0;
	}
	return err;
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
	if (wanted <= 0)
		return wanted;
	return kind == SWITCHING ? put_frame_pointer(go, size, pcsp) : put_depths(go, size, pcsp);
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
