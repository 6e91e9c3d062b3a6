/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Go function tables of any bytes: the rows that come out must be consistent. */
#include "cfi.h"
#include "fuzz.h"
#include "fuzz_rows.h"
#include "gopclntab.h"

void oa_fuzz_one(const u8 *data, size_t size)
{
	struct oa_go_table table = {.data = data, .size = size, .text = 0x1000, .rank = 1};
	struct oa_go_stats stats;
	struct oa_rows *rows = fuzz_rows();

	table.machine = size && data[size - 1] & 1 ? OA_MACHINE_AARCH64 : OA_MACHINE_X86_64;
	oa_go_parse(rows, &table, &stats);
	table.text = 0;
	oa_go_parse(rows, &table, &stats);
	fuzz_check_rows(rows);
	oa_rows_free(rows);
}
