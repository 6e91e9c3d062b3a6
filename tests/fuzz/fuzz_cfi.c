/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Call frame information of any bytes: the rows that come out must be consistent. */
#define _GNU_SOURCE
#include "cfi.h"
#include "fuzz.h"
#include "fuzz_rows.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HEADER = 2, WHOLE_CIE = 4096 };

/* The same section piece by piece from a file. */
static void parse_file(const struct oa_cfi_section *whole, const struct oa_cfi_stats *expected)
{
	static int fd = -1;
	struct oa_cfi_section section = *whole;
	struct oa_rows *rows = fuzz_rows();
	struct oa_cfi_stats stats;

	if (fd < 0)
		fd = memfd_create("section", 0);
	if (ftruncate(fd, 0) || pwrite(fd, whole->data, whole->size, 5) != (ssize_t)whole->size)
		abort();
	section.data = NULL;
	section.fd = fd;
	section.offset = 5;
	if (oa_cfi_parse(rows, &section, &stats))
		abort();
	if (whole->size <= WHOLE_CIE && memcmp(&stats, expected, sizeof(stats)))
		abort();
	oa_rows_free(rows);
}

void oa_fuzz_one(const u8 *data, size_t size)
{
	struct oa_cfi_section section = {.addr = 0x2000, .text = 0x1000, .got = 0x3000};
	struct oa_cfi_stats stats;
	struct oa_rows *rows;
	u8 *copy;

	if (size < HEADER)
		return;
	section.debug_frame = data[0] & 1;
	section.to_zero = data[0] >> 1 & 1;
	section.machine = data[0] & 4 ? OA_MACHINE_AARCH64 : OA_MACHINE_X86_64;
	section.rank = data[1] & 3;
	section.size = size - HEADER;
	copy = malloc(section.size ? section.size : 1);
	rows = fuzz_rows();
	if (!copy)
		abort();
	memcpy(copy, data + HEADER, section.size);
	section.data = copy;
	if (oa_cfi_parse(rows, &section, &stats))
		abort();
	if (stats.end > section.size)
		abort();
	parse_file(&section, &stats);
	section.rank = (section.rank + 1) & 3;
	section.addr += 7; /* the same again beside itself: overlaps of every kind */
	if (oa_cfi_parse(rows, &section, &stats))
		abort();
	fuzz_check_rows(rows);
	oa_rows_free(rows);
	free(copy);
}
