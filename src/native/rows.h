/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_ROWS_H
#define OA_ROWS_H
#ifndef OA_CDEF
#include "types.h"
#include "oa_abi.h"
#endif

/* Collects unwind rows of one ELF file and turns them into the arrays that the
 * BPF maps hold: pages, rows, rules (see oa_abi.h).
 *
 * A *fragment* is an address range with rows of its own: a function's frame
 * description entry, a Go function, a special case. Fragments may come in any
 * order and may overlap: the lower rank wins, then the later start.
 */

enum oa_rows_limit {
	OA_ROWS_RANKS = 4, /* fragments have rank 0 (strongest) to 3 */
	OA_ROWS_MAX_RANGES = 64, /* executable ranges of a file */
	OA_ROWS_GAP_BYTES =
		15, /* a gap up to this is padding: it belongs to the function before it */
};

/* Why a row could not be expressed (counted per row). */
enum oa_rows_reason {
	OA_REASON_CFA_EXPRESSION, /* the CFA is an expression that is not known */
	OA_REASON_CFA_MISSING, /* no CFA is defined */
	OA_REASON_RA_EXPRESSION, /* the return address is an expression that is not known */
	OA_REASON_RA_MISSING, /* no rule for the return address */
	OA_REASON_FP_EXPRESSION, /* the frame pointer is an expression that is not known: it is
				    taken as lost */
	OA_REASON_OFFSET, /* an offset does not fit 32 bits, or a register's number is too high */
	OA_REASON_RULES_FULL, /* the file has more distinct rules than a row can number */
	OA_REASON_OPCODE, /* an instruction that is not known, or is cut off */
	OA_REASON_REMEMBER, /* remember_state is nested too deeply, or restore_state has no partner
			     */
	OA_REASON_CIE, /* the common information entry cannot be used */
	OA_REASON_ENCODING, /* a pointer encoding that cannot be followed */
	OA_REASON_COUNT, /* how many there are */
};

struct oa_range {
	u64 start;
	u64 end;
};

/* A page of rows as it is stored; `page` is the ELF address >> OA_PAGE_BITS. */
struct oa_page_entry {
	u32 page;
	u32 first;
	u32 count;
};

struct oa_rows_table {
	struct oa_page_entry *pages;
	u32 *rows;
	struct oa_rule *rules;
	u32 page_count;
	u32 row_count;
	u32 rule_count;
	u32 pad;
};

struct oa_rows;

/* Start a table of rows within `ranges` (sorted, not overlapping, below 2^48). NULL: no memory or
 * bad ranges. */
struct oa_rows *oa_rows_new(const struct oa_range *ranges, u32 count);
void oa_rows_free(struct oa_rows *rows);

/* Find or add a rule. Returns its index, or OA_ROW_UNSUPPORTED if the table is full. */
u32 oa_rows_rule(struct oa_rows *rows, const struct oa_rule *rule);

/* Open a fragment at [start, start + size). Returns 1 if rows are wanted, 0 if it lies outside, < 0
 * without memory. */
int oa_rows_begin(struct oa_rows *rows, u64 start, u64 size, u32 rank);
/* Say that `index` (a rule or a command) holds from `start + offset` on; offsets ascend. */
int oa_rows_put(struct oa_rows *rows, u64 offset, u32 index);
/* A fragment with one row. */
int oa_rows_add(struct oa_rows *rows, u64 start, u64 size, u32 rank, u32 index);

/* Sort, resolve overlaps, merge, cut into pages. The table belongs to `rows`. Returns 0, or
 * -ENOMEM. */
int oa_rows_finish(struct oa_rows *rows, struct oa_rows_table *table);
/* Number of fragments so far. */
u64 oa_rows_fragments(const struct oa_rows *rows);
/* Find the fragment that covers `addr`: 1 and its range; else 0 and the gap from `addr` to the
 * next. */
int oa_rows_around(const struct oa_rows *rows, u64 addr, struct oa_range *range);

/* Find the index that holds at an ELF address; OA_ROW_NONE if there is none. */
u32 oa_find_row(const struct oa_page_entry *pages, u64 page_count, const u32 *rows, u64 row_count,
		u64 addr);
/* Copy rows, replacing each local rule index by `global[index]`; commands stay. Returns 0, or
 * -EINVAL. */
int oa_rows_remap(const u32 *rows, u64 count, const u32 *global, u64 rules, u32 *out);
/* Check that arrays that were read back are consistent: 1 if they are. */
int oa_rows_check(const struct oa_page_entry *pages, u64 page_count, const u32 *rows, u64 row_count,
		  u64 rule_count);

#endif
