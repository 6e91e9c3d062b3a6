/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Code of any bytes: the rows that come out must be consistent. */
#include "cfi.h"
#include "code.h"
#include "extent.h"
#include "fuzz.h"
#include "fuzz_rows.h"
#include "x86_insn.h"

static void check_lengths(const u8 *data, size_t size)
{
	struct oa_insn insn;

	for (size_t at = 0; at < size; at += insn.length) {
		oa_x86_decode(data + at, size - at, &insn);
		if (!insn.length || insn.length > OA_INSN_MAX_BYTES || insn.length > size - at)
			abort();
	}
}

static void check_extents(const u8 *data, size_t size)
{
	if (oa_code_extent(data, size, OA_MACHINE_X86_64) > size ||
	    oa_code_extent(data, size, OA_MACHINE_AARCH64) > size)
		abort();
}

void oa_fuzz_one(const u8 *data, size_t size)
{
	struct oa_range gaps[] = {{0x1000, 0x1000 + size / 2}, {0x1010 + size / 2, 0x200000}};
	struct oa_code code = {.size = size, .addr = 0x1000, .gaps = gaps, .gap_count = 2};
	struct oa_rows *rows = fuzz_rows();
	struct oa_code_stats stats = {0};
	struct oa_rows_table table;
	struct oa_range found[16];
	u8 *copy = malloc(size + 1); /* of this size, so that ASan sees each byte too many */

	if (!copy)
		abort();
	memcpy(copy, data, size);
	code.data = copy;
	code.symbols = copy;
	code.symbol_count = size > 480 ? 20 : size / 24;
	code.machine = OA_MACHINE_X86_64;
	code.rank = 3;
	check_lengths(copy, size);
	check_extents(copy, size);
	if (oa_code_rows(rows, &code, &stats))
		abort();
	if (stats.known > stats.bytes || stats.bytes + stats.padding > size)
		abort();
	fuzz_check_rows(rows);
	if (oa_rows_finish(rows, &table))
		abort();
	for (u64 i = 0, n = oa_code_gaps(&table, 0x1000, 0x90000, found, 16); i < n && i < 16; i++)
		if (found[i].start >= found[i].end || found[i].end > 0x90000)
			abort();
	free(copy);
	oa_rows_free(rows);
}
