/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Call frame information: entries (this file) and their instructions (cfi_program.c).
 *
 * Format: DWARF 5 section 6.4; LSB Core, "Exception Frames", for .eh_frame; the
 * letters B (pointer authentication) and G (memory tagging) of AADWARF64.
 */
#include "cfi.h"

#include <errno.h>

#include "cfi_program.h"
#include "view.h"

#define CIE_SLOTS 256
/* No compiler comes near it; without it, two entries that take turns could be
 * made to cost the square of the section's size.
 */
#define MAX_CIE_PROGRAM	 1024
#define MAX_AUGMENTATION 16
#ifndef PIECE_BYTES /* fuzzing takes small ones */
#define PIECE_BYTES (64 << 10)
#endif
#define CIE_BYTES 4096 /* of one that is not in the same piece */

enum { /* LSB Core, "DWARF Exception Header Encoding" */
       DW_EH_PE_absptr = 0x00,
       DW_EH_PE_uleb128 = 0x01,
       DW_EH_PE_udata2 = 0x02,
       DW_EH_PE_udata4 = 0x03,
       DW_EH_PE_udata8 = 0x04,
       DW_EH_PE_sleb128 = 0x09,
       DW_EH_PE_sdata2 = 0x0a,
       DW_EH_PE_sdata4 = 0x0b,
       DW_EH_PE_sdata8 = 0x0c,
       DW_EH_PE_pcrel = 0x10,
       DW_EH_PE_textrel = 0x20,
       DW_EH_PE_datarel = 0x30,
       DW_EH_PE_funcrel = 0x40,
       DW_EH_PE_aligned = 0x50,
       DW_EH_PE_indirect = 0x80,
       DW_EH_PE_omit = 0xff,
};

struct parser {
	const struct oa_cfi_section *section;
	struct oa_rows *rows;
	struct oa_cfi_stats *stats;
	/* the piece that is looked at */
	const u8 *begin;
	const u8 *end;
	u64 base; /* where it is in the section */
	struct oa_view view;
	struct oa_view cie_view;
	struct oa_cfi_program program;
	struct oa_cfi_memo memo;
	struct oa_cfi_cie cies[CIE_SLOTS];
};

/* A pointer's value without its base; 0 and `bad` for what cannot be read. */
static u64 read_value(struct oa_cursor *c, u32 encoding)
{
	switch (encoding & 0x0f) {
	case DW_EH_PE_absptr:
	case DW_EH_PE_udata8:
	case DW_EH_PE_sdata8:
		return oa_fixed(c, 8);
	case DW_EH_PE_uleb128:
		return oa_uleb(c);
	case DW_EH_PE_sleb128:
		return (u64)oa_sleb(c);
	case DW_EH_PE_udata2:
		return oa_fixed(c, 2);
	case DW_EH_PE_sdata2:
		return (u64)(s16)oa_fixed(c, 2);
	case DW_EH_PE_udata4:
		return oa_fixed(c, 4);
	case DW_EH_PE_sdata4:
		return (u64)(s32)oa_fixed(c, 4);
	default:
		return oa_fail(c);
	}
}

static u64 read_pointer(const struct parser *p, struct oa_cursor *c, u32 encoding)
{
	u64 place = p->section->addr + p->base + (u64)(c->at - p->begin);

	if ((encoding & 0x70) == DW_EH_PE_aligned) {
		oa_skip(c, -place & 7);
		return oa_fixed(c, 8);
	}
	switch (encoding & 0x70) {
	case DW_EH_PE_absptr:
		return read_value(c, encoding);
	case DW_EH_PE_pcrel:
		return place + read_value(c, encoding);
	case DW_EH_PE_textrel:
		return p->section->text + read_value(c, encoding);
	case DW_EH_PE_datarel:
		return p->section->got + read_value(c, encoding);
	default:
		return oa_fail(c);
	}
}

/* Read the augmentation data that the letters announce. 0: it cannot be used. */
static int read_augmentation(struct parser *p, struct oa_cursor *c, struct oa_cfi_cie *cie,
			     const u8 *letters, u32 count)
{
	struct oa_cursor data = *c;
	u32 i, encoding;

	for (i = 0; i < count; i++) {
		switch (letters[i]) {
		case 'z':
			if (i)
				return 0;
			cie->sized = 1;
			data = oa_cut(c, oa_uleb(c));
			break;
		case 'L':
			oa_u8(&data);
			break;
		case 'P':
			encoding = oa_u8(&data);
			if (encoding != DW_EH_PE_omit)
				read_pointer(p, &data, encoding & ~(u32)DW_EH_PE_indirect);
			break;
		case 'R':
			cie->encoding = oa_u8(&data);
			break;
		case 'S':
			cie->signal = 1;
			break;
		case 'B':
		case 'G':
			break;
		default: /* what follows cannot be told; the size says where it ends */
			return cie->sized && !data.bad;
		}
	}
	if (!cie->sized)
		*c = data;
	return !data.bad;
}

static void parse_cie(struct parser *p, struct oa_cursor c, struct oa_cfi_cie *cie)
{
	const u8 *letters;
	u32 version, count = 0, address_size = 8;

	version = oa_u8(&c);
	letters = c.at;
	while (oa_u8(&c))
		if (++count > MAX_AUGMENTATION)
			return;
	if (c.bad || (version != 1 && version != 3 && version != 4))
		return;
	if (count >= 2 && letters[0] == 'e' && letters[1] == 'h') { /* GCC 2: a pointer follows */
		oa_skip(&c, 8);
		letters += 2;
		count -= 2;
	}
	if (version == 4) {
		address_size = oa_u8(&c);
		if (oa_u8(&c)) /* segments */
			return;
	}
	cie->code_align = oa_uleb(&c);
	cie->data_align = oa_sleb(&c);
	cie->ra_reg = version == 1 ? oa_u8(&c) : (u32)oa_uleb(&c);
	if (address_size != 8 || !read_augmentation(p, &c, cie, letters, count) || c.bad)
		return;
	if (oa_left(&c) > MAX_CIE_PROGRAM)
		return;
	cie->usable = oa_cfi_start(cie, c, p->section->machine);
}

/* Find the start of an entry's body: 0 at the end or if the entry does not fit. */
static inline int open_entry(struct oa_cursor *c, struct oa_cursor *body, int *is_64)
{
	u64 length = oa_fixed(c, 4);

	*is_64 = length == 0xffffffff;
	if (*is_64)
		length = oa_fixed(c, 8);
	if (c->bad)
		return 0;
	*body = oa_cut(c, length);
	return !c->bad;
}

static struct oa_cfi_cie *read_cie(struct parser *p, struct oa_cfi_cie *cie, u64 offset,
				   struct oa_cursor c)
{
	struct oa_cursor body;
	int is_64;
	u64 id;

	if (!open_entry(&c, &body, &is_64))
		return NULL;
	id = oa_fixed(&body, is_64 && p->section->debug_frame ? 8 : 4);
	if (p->section->debug_frame ? id != (is_64 ? ~0ull : 0xffffffffull) : id != 0)
		return NULL;
	memset(cie, 0, sizeof(*cie));
	cie->offset = offset;
	cie->known = 1;
	parse_cie(p, body, cie);
	return cie;
}

/* Read a CIE that is not known: mostly it stands a little before, in the same piece. */
static struct oa_cfi_cie *load_cie(struct parser *p, struct oa_cfi_cie *cie, u64 offset)
{
	const u8 *begin = p->begin, *end = p->end;
	struct oa_cfi_cie *found = NULL;
	u64 base = p->base, left;

	if (offset >= base && offset - base <= (u64)(end - begin))
		found = read_cie(p, cie, offset,
				 (struct oa_cursor){begin + (offset - base), end, 0});
	if (found || p->view.fd < 0)
		return found;
	p->begin = oa_look(&p->cie_view, offset, CIE_BYTES, &left);
	p->base = offset;
	if (p->begin)
		found = read_cie(p, cie, offset, (struct oa_cursor){p->begin, p->begin + left, 0});
	p->begin = begin;
	p->base = base;
	return found;
}

/* The CIE at an offset of the section, from the cache or read now; NULL: none there. */
static inline struct oa_cfi_cie *find_cie(struct parser *p, u64 offset)
{
	struct oa_cfi_cie *cie = &p->cies[(offset / 4 + offset / 1024) % CIE_SLOTS];

	return cie->known && cie->offset == offset ? cie : load_cie(p, cie, offset);
}

/* Read an FDE's addresses; nearly all have the form that is tried first. */
static inline void read_range(const struct parser *p, struct oa_cursor *c, u32 encoding, u64 *start,
			      u64 *size)
{
	s32 values[2];

	if (encoding == (DW_EH_PE_pcrel | DW_EH_PE_sdata4) && oa_left(c) >= sizeof(values)) {
		memcpy(values, c->at, sizeof(values));
		*start = p->section->addr + p->base + (u64)(c->at - p->begin) + (u64)(s64)values[0];
		*size = (u64)(s64)values[1];
		c->at += sizeof(values);
		return;
	}
	*start = read_pointer(p, c, encoding);
	*size = read_value(c, encoding);
}

static int parse_fde(struct parser *p, struct oa_cursor c, u64 cie_offset)
{
	struct oa_cfi_cie *cie = find_cie(p, cie_offset);
	u64 start, size;
	int wanted;

	if (!cie || cie->encoding & DW_EH_PE_indirect) {
		p->stats->bad_fdes++;
		p->stats->reasons[cie ? OA_REASON_ENCODING : OA_REASON_CIE]++;
		return 0;
	}
	read_range(p, &c, cie->encoding, &start, &size);
	if (cie->sized)
		oa_skip(&c, oa_uleb(&c));
	if (c.bad) {
		p->stats->bad_fdes++;
		return 0;
	}
	/* Linkers leave entries of removed functions behind, at address 0. */
	wanted = start ? oa_rows_begin(p->rows, start, size, p->section->rank) : 0;
	if (wanted <= 0) {
		p->stats->outside += !wanted;
		return wanted;
	}
	p->stats->fdes++;
	if (!cie->usable) {
		p->stats->reasons[OA_REASON_CIE]++;
		return oa_rows_put(p->rows, 0, OA_ROW_UNSUPPORTED);
	}
	if (cie->signal)
		return oa_rows_put(p->rows, 0, OA_ROW_SIGNAL);
	p->program.cie = cie;
	p->program.c = c;
	p->program.start = start;
	p->program.size = size;
	wanted = oa_cfi_run(&p->program, &p->memo);
	/* rax and rdx: only what ends by __builtin_eh_return saves them */
	if (p->program.saved == 3 && p->section->machine == OA_MACHINE_X86_64 &&
	    p->stats->eh_returns < OA_CFI_EH_RETURNS)
		p->stats->eh_return[p->stats->eh_returns++] =
			(struct oa_range){start, start + size};
	return wanted;
}

enum { ENDED = 1 };

/* Go through the entries of the piece. Returns ENDED at a zero length that ends the section,
 * 0 where the piece does, or an error; `stats->end` is the first entry not done.
 */
static int parse_piece(struct parser *p)
{
	const struct oa_cfi_section *section = p->section;
	struct oa_cursor c = {p->begin, p->end, 0}, body;
	int is_64, err;
	u64 id, at;

	while (oa_left(&c) >= 4) {
		if (!open_entry(&c, &body, &is_64))
			return 0;
		if (body.at == body.end) {
			if (section->to_zero)
				return ENDED;
			p->stats->end = p->base + (u64)(c.at - p->begin);
			continue;
		}
		at = p->base + (u64)(body.at - p->begin);
		id = oa_fixed(&body, is_64 && section->debug_frame ? 8 : 4);
		if (body.bad) {
			;
		} else if (section->debug_frame ? id == (is_64 ? ~0ull : 0xffffffffull) : !id) {
			p->stats->cies++;
		} else {
			/* .eh_frame: the distance back from the field; .debug_frame: an offset */
			err = parse_fde(p, body, section->debug_frame ? id : at - id);
			if (err < 0)
				return err;
		}
		p->stats->end = p->base + (u64)(c.at - p->begin);
	}
	return 0;
}

/* How many bytes the entry at `stats->end` has with its length; ~0: it cannot be told. */
static u64 entry_bytes(struct parser *p)
{
	u64 left, length;
	const u8 *begin = oa_look(&p->view, p->stats->end, 12, &left);
	struct oa_cursor c = {begin, begin + (begin ? left : 0), 0};

	if (!begin)
		return ~0ull;
	length = oa_fixed(&c, 4);
	if (length == 0xffffffff)
		length = oa_fixed(&c, 8);
	return c.bad || length > ~0ull - 12 ? ~0ull : length + (u64)(c.at - begin);
}

/* Go through the section piece by piece; each begins with an entry. */
static int parse_pieces(struct parser *p)
{
	u64 left, wanted = 12, size = p->section->size;
	int status;

	while (size) {
		p->base = p->stats->end;
		p->begin = oa_look(&p->view, p->base, wanted, &left);
		if (!p->begin)
			return -EIO;
		p->end = p->begin + left;
		status = parse_piece(p);
		if (status || p->base + left == size)
			return status < 0 ? status : 0;
		wanted = entry_bytes(p);
		if (wanted > size - p->stats->end) /* damaged: it does not fit */
			break;
	}
	return 0;
}

int oa_cfi_parse(struct oa_rows *rows, const struct oa_cfi_section *section,
		 struct oa_cfi_stats *stats)
{
	struct parser p = {.section = section, .rows = rows, .stats = stats};
	int err;

	_Static_assert(sizeof(stats->reasons) == OA_REASON_COUNT * sizeof(u64), "one per reason");
	memset(stats, 0, sizeof(*stats));
	memset(&p.memo, 0xff, sizeof(p.memo));
	if (section->machine != OA_MACHINE_X86_64 && section->machine != OA_MACHINE_AARCH64)
		return -EINVAL;
	p.program.rows = rows;
	p.program.reasons = stats->reasons;
	oa_cfi_set_machine(&p.program, section->machine);
	oa_open_view(&p.view, section->data, section->size, section->fd, section->offset,
		     PIECE_BYTES);
	oa_open_view(&p.cie_view, section->data, section->size, section->fd, section->offset,
		     CIE_BYTES);
	err = parse_pieces(&p);
	oa_close_view(&p.view);
	oa_close_view(&p.cie_view);
	return err;
}
