/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Go's pclntab: for each function, by how much the stack pointer was moved since
 * its entry, at every instruction. That is exact in prologues and epilogues too,
 * where the frame pointer is not yet, or no longer, the function's own.
 *
 * Layouts: runtime/symtab.go (pcHeader, moduledata) and runtime/runtime2.go
 * (_func) of Go 1.16, 1.18, 1.20 and 1.26; docs/gopclntab.md.
 */
#include <errno.h>
#include <stdlib.h>

#include "gopclntab_parser.h"

#define NAME_BYTES   32 /* of a function's name, at most, to see whether it is special */
#define HEADER_BYTES 80
#ifndef PIECE_BYTES /* fuzzing takes small ones */
#define PIECE_BYTES (64 << 10)
#endif
#define SMALL_BYTES 4096 /* of what does not ascend */

enum { MAGIC_1_16 = 0xfffffffa, MAGIC_1_18 = 0xfffffff0, MAGIC_1_20 = 0xfffffff1 };
/* internal/abi/symtab.go; since Go 1.17, the last one since 1.18 */
enum { FLAG_TOP_FRAME = 1, FLAG_SP_WRITE = 2, FLAG_ASM = 4 };

enum kind { NORMAL, SWITCHING, CALLS_C, FROM_C, INJECTED, ENTRY, STOP, SIGNAL };

static void open_view(const struct oa_go *go, struct oa_view *view, u64 piece)
{
	const struct oa_go_table *table = go->table;

	oa_open_view(view, table->data, table->size, table->fd, table->offset, piece);
}

static void open_reader(const struct oa_go *go, struct oa_go_reader *reader)
{
	open_view(go, &reader->ahead, PIECE_BYTES);
	open_view(go, &reader->behind, SMALL_BYTES);
}

static void close_reader(struct oa_go_reader *reader)
{
	oa_close_view(&reader->ahead);
	oa_close_view(&reader->behind);
}

static int read_header(struct oa_go *go, u32 *magic)
{
	u64 size = go->table->size, left;
	const u8 *data = oa_look(&go->entries, 0, HEADER_BYTES, &left);
	u32 at;

	if (!data)
		return -EIO;
	if (left < HEADER_BYTES)
		return -EINVAL;
	*magic = oa_go_u32(data);
	if ((*magic != MAGIC_1_16 && *magic != MAGIC_1_18 && *magic != MAGIC_1_20) || data[4] ||
	    data[5] || (data[6] != 1 && data[6] != 4) || data[7] != 8)
		return -EINVAL;
	go->relative = *magic != MAGIC_1_16;
	go->quantum = data[6];
	go->count = oa_go_u64(data + 8);
	at = go->relative ? 32 : 24;
	go->names_at = oa_go_u64(data + at);
	go->pctab_at = oa_go_u64(data + at + 24);
	go->functions_at = oa_go_u64(data + at + 32);
	if (go->names_at >= size || go->pctab_at >= size || go->functions_at >= size ||
	    go->count >= (size - go->functions_at) / (go->relative ? 8 : 16))
		return -EINVAL;
	go->text = go->table->text ? go->table->text : go->relative ? oa_go_u64(data + 24) : 0;
	/* entry, name, args, deferreturn, pcsp, pcfile, pcln, npcdata, cuOffset, [startLine,]
	 * funcID */
	go->name_at = go->relative ? 4 : 8;
	go->pcsp_at = go->name_at + 12;
	go->id_at = *magic == MAGIC_1_18 ? 36 : 40;
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
	{"asmcgocall", 11, CALLS_C},
	{"sigreturn", 9, SIGNAL},
	{"sigtramp", 9, NORMAL}, /* the kernel calls it: its caller is the signal frame */
};

/* On arm64 only, by whole names with the zero: what is not called as functions are. */
static const struct {
	const char *name;
	u32 length;
	enum kind kind;
} special_arm64[] = {
	{"crosscall2", 11, FROM_C},
	{"gogo", 5, STOP}, /* the second half of runtime.gogo */
	{"runtime.asyncPreempt", 21, INJECTED},
	{"runtime.asyncPreempt.abi0", 26, INJECTED},
	{"runtime.sigpanic", 17, INJECTED},
	{"runtime.morestack_noctxt", 25, ENTRY},
	{"runtime.morestack_noctxt.abi0", 30, ENTRY},
};

static enum kind look_arm64_name(const u8 *name, u64 left)
{
	u32 i;

	for (i = 0; i < sizeof(special_arm64) / sizeof(*special_arm64); i++)
		if (left >= special_arm64[i].length &&
		    !memcmp(name, special_arm64[i].name, special_arm64[i].length))
			return special_arm64[i].kind;
	return NORMAL;
}

/* What a name says of a function; NORMAL: it is not special. */
static enum kind look_name(struct oa_go *go, u32 at, u32 *flags)
{
	static const char prefix[] = "runtime.";
	u64 left;
	const u8 *name = oa_look(&go->names, go->names_at + at, NAME_BYTES, &left);
	enum kind kind = NORMAL;
	u32 i;

	if (name && go->table->machine == OA_MACHINE_AARCH64)
		kind = look_arm64_name(name, left);
	if (kind != NORMAL)
		return kind;
	if (!name || left <= sizeof(prefix) || memcmp(name, prefix, sizeof(prefix) - 1))
		return NORMAL;
	name += sizeof(prefix) - 1;
	left -= sizeof(prefix) - 1;
	for (i = 0; i < sizeof(special) / sizeof(*special); i++)
		if (special[i].length <= left && !memcmp(name, special[i].name, special[i].length))
			break;
	if (i == sizeof(special) / sizeof(*special))
		return NORMAL;
	if (special[i].kind == NORMAL)
		*flags &= ~(u32)FLAG_TOP_FRAME;
	return special[i].kind;
}

/* arm64: the one function that is no assembly and is special. Wrappers have the names of what they
 * wrap, so that no other name is looked at. Few functions have a number.
 */
static int is_sigpanic(struct oa_go *go, const u8 *function)
{
	static const char wanted[] = "runtime.sigpanic";
	u64 left;
	const u8 *name;

	if (go->table->machine != OA_MACHINE_AARCH64 || !function[go->id_at])
		return 0;
	name = oa_look(&go->names, go->names_at + oa_go_u32(function + go->name_at), NAME_BYTES,
		       &left);
	return name && left >= sizeof(wanted) && !memcmp(name, wanted, sizeof(wanted));
}

static inline enum kind classify(struct oa_go *go, const u8 *function)
{
	u32 flags = function[go->id_at + 1];
	enum kind kind;

	if (go->relative && !(flags & (FLAG_ASM | FLAG_TOP_FRAME | FLAG_SP_WRITE)))
		return is_sigpanic(go, function) ? INJECTED : NORMAL;
	kind = look_name(go, oa_go_u32(function + go->name_at), &flags);
	if (kind != NORMAL)
		return kind;
	if (flags & FLAG_TOP_FRAME)
		return STOP;
	return flags & FLAG_SP_WRITE ? SWITCHING : NORMAL;
}

static int add_function(struct oa_go *go, u64 entry, u64 size, u64 at, struct oa_go_stats *stats)
{
	u64 left;
	const u8 *function = oa_go_look(&go->functions, at, go->id_at + 4, &left);
	enum kind kind;
	u32 pcsp;

	if (!function)
		return -EIO;
	pcsp = oa_go_u32(function + go->pcsp_at);
	kind = classify(go, function);
	if (kind == STOP) {
		stats->stops++;
		return oa_rows_add(go->rows, entry, size, 0, OA_ROW_STOP);
	}
	if (kind == SIGNAL) /* handlers return to its first byte: their return address minus one */
		return oa_rows_add(go->rows, entry - 1, size + 1, 0, OA_ROW_SIGNAL);
	if (!pcsp || pcsp >= go->table->size - go->pctab_at)
		return 0;
	if (kind == CALLS_C) {
		stats->calls_c = entry;
		stats->calls_c_size = size;
		kind = SWITCHING;
	}
	stats->unwound++;
	stats->switching += kind == SWITCHING;
	return oa_go_add(go, entry, size, pcsp,
			 kind == SWITCHING  ? OA_GO_SWITCHING
			 : kind == FROM_C   ? OA_GO_FROM_C
			 : kind == INJECTED ? OA_GO_INJECTED
			 : kind == ENTRY    ? OA_GO_ENTRY
					    : OA_GO_PLAIN);
}

static int add_functions(struct oa_go *go, struct oa_go_stats *stats)
{
	u32 width = go->relative ? 4 : 8;
	u64 room = go->table->size - go->functions_at, i, entry, next, offset, left;
	const u8 *pair;
	int err = 0;

	for (i = 0; i < go->count && !err; i++) {
		pair = oa_look(&go->entries, go->functions_at + i * 2 * width, 3 * width, &left);
		if (!pair)
			return -EIO;
		entry = go->relative ? oa_go_u32(pair) : oa_go_u64(pair);
		offset = go->relative ? oa_go_u32(pair + 4) : oa_go_u64(pair + 8);
		next = go->relative ? oa_go_u32(pair + 8) : oa_go_u64(pair + 16);
		if (next <= entry || offset >= room || room - offset < go->id_at + 4) {
			stats->bad += next < entry || offset >= room;
			continue;
		}
		err = add_function(go, go->relative ? go->text + entry : entry, next - entry,
				   go->functions_at + offset, stats);
	}
	return err;
}

static int parse(struct oa_go *go, struct oa_go_stats *stats)
{
	int err;

	open_view(go, &go->entries, PIECE_BYTES / 4);
	open_view(go, &go->names, SMALL_BYTES);
	open_reader(go, &go->functions);
	open_reader(go, &go->depths);
	err = read_header(go, &stats->magic);
	if (err)
		return err;
	go->budget = 4 * go->table->size;
	stats->functions = go->count;
	stats->text = go->text;
	return oa_go_reserve(go) ? -ENOMEM : add_functions(go, stats);
}

int oa_go_parse(struct oa_rows *rows, const struct oa_go_table *table, struct oa_go_stats *stats)
{
	struct oa_go *go;
	int err;

	memset(stats, 0, sizeof(*stats));
	if (table->machine != OA_MACHINE_X86_64 && table->machine != OA_MACHINE_AARCH64)
		return -EINVAL;
	go = calloc(1, sizeof(*go));
	if (!go)
		return -ENOMEM;
	go->rows = rows;
	go->table = table;
	err = parse(go, stats);
	oa_close_view(&go->entries);
	oa_close_view(&go->names);
	close_reader(&go->functions);
	close_reader(&go->depths);
	free(go->shared);
	free(go);
	return err;
}
