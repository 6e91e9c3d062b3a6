/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Go function tables of any bytes: the rows that come out must be consistent, and the same if the
 * table is read piece by piece.
 */
#define _GNU_SOURCE
#include "cfi.h"
#include "fuzz.h"
#include "fuzz_rows.h"
#include "gopclntab.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int same(const void *a, const void *b, u64 size)
{
	return !size || !memcmp(a, b, size);
}

/* The same table piece by piece from a file. */
static void parse_file(const struct oa_go_table *whole, struct oa_rows *expected)
{
	static int fd = -1;
	struct oa_go_table table = *whole;
	struct oa_rows *rows = fuzz_rows();
	struct oa_rows_table a, b;
	struct oa_go_stats stats;

	if (fd < 0)
		fd = memfd_create("table", 0);
	if (ftruncate(fd, 0) || pwrite(fd, whole->data, whole->size, 5) != (ssize_t)whole->size)
		abort();
	table.data = NULL;
	table.fd = fd;
	table.offset = 5;
	oa_go_parse(rows, &table, &stats);
	if (oa_rows_finish(rows, &a) || oa_rows_finish(expected, &b))
		abort();
	if (a.row_count != b.row_count || a.rule_count != b.rule_count ||
	    !same(a.rows, b.rows, a.row_count * sizeof(u32)) ||
	    !same(a.rules, b.rules, a.rule_count * sizeof(struct oa_rule)))
		abort();
	oa_rows_free(rows);
}

void oa_fuzz_one(const u8 *data, size_t size)
{
	struct oa_go_table table = {.data = data, .size = size, .text = 0x1000, .rank = 1};
	struct oa_go_stats stats;
	struct oa_rows *rows = fuzz_rows();

	table.machine = size && data[size - 1] & 1 ? OA_MACHINE_AARCH64 : OA_MACHINE_X86_64;
	oa_go_parse(rows, &table, &stats);
	if (size)
		parse_file(&table, rows);
	table.text = 0;
	oa_go_parse(rows, &table, &stats);
	fuzz_check_rows(rows);
	oa_rows_free(rows);
}
