/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "pages.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PER_READ = 512 };

/* Documentation/admin-guide/mm/pagemap.rst */
static const u64 PRESENT = 1ULL << 63, SWAPPED = 1ULL << 62, OF_FILE = 1ULL << 61;

struct release {
	s64 done; /* bytes */
	u64 page;
	int pagemap;
};

static void give_back(struct release *release, u64 start, u64 end, u64 resident)
{
	if (resident && !madvise((void *)(uintptr_t)start, end - start, MADV_DONTNEED))
		release->done += (s64)(resident * release->page);
}

/* A page that was written (a debugger's or uprobe's breakpoint) is anonymous: the file has not
 * what it has, so it stays.
 */
static void release_range(struct release *release, u64 start, u64 end)
{
	u64 entries[PER_READ], run = start, resident = 0;

	for (u64 at = start; at < end;) {
		u64 wanted = (end - at) / release->page;
		ssize_t got = pread(release->pagemap, entries,
				    (wanted < PER_READ ? wanted : PER_READ) * sizeof(*entries),
				    (off_t)(at / release->page * sizeof(*entries)));

		if (got < (ssize_t)sizeof(*entries))
			break;
		for (u64 i = 0; i < (u64)got / sizeof(*entries); i++, at += release->page) {
			int is_clean = !(entries[i] & SWAPPED) &&
				       (!(entries[i] & PRESENT) || entries[i] & OF_FILE);

			if (is_clean) {
				resident += !!(entries[i] & PRESENT);
				continue;
			}
			give_back(release, run, at, resident);
			run = at + release->page;
			resident = 0;
		}
		if (at >= end)
			give_back(release, run, end, resident);
	}
}

/* An object without position independent code has had its text written to. */
static int has_text_relocations(const struct dl_phdr_info *object)
{
	for (u16 i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &object->dlpi_phdr[i];
		const ElfW(Dyn) * entry;

		if (header->p_type != PT_DYNAMIC)
			continue;
		entry = (const void *)(uintptr_t)(object->dlpi_addr + header->p_vaddr);
		for (; entry->d_tag != DT_NULL; entry++)
			if (entry->d_tag == DT_TEXTREL ||
			    (entry->d_tag == DT_FLAGS && entry->d_un.d_val & DF_TEXTREL))
				return 1;
	}
	return 0;
}

/* What is made read-only after relocation (RELRO) lies in a segment that may be written: only
 * segments that never may are looked at, so that it does not matter what is being loaded now.
 */
static int release_object(struct dl_phdr_info *object, size_t size, void *context)
{
	struct release *release = context;
	u64 vdso = getauxval(AT_SYSINFO_EHDR);

	(void)size;
	if (has_text_relocations(object))
		return 0;
	for (u16 i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &object->dlpi_phdr[i];
		u64 start = (object->dlpi_addr + header->p_vaddr) & -release->page;
		u64 end = object->dlpi_addr + header->p_vaddr + header->p_filesz;

		if (header->p_type != PT_LOAD || header->p_flags & PF_W ||
		    header->p_filesz != header->p_memsz || (vdso >= start && vdso < end))
			continue;
		release_range(release, start, (end + release->page - 1) & -release->page);
	}
	return 0;
}

s64 oa_release_libraries(void)
{
	struct release release = {.page = (u64)sysconf(_SC_PAGESIZE)};

	release.pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (release.pagemap < 0)
		return -errno;
	dl_iterate_phdr(release_object, &release);
	close(release.pagemap);
	return release.done;
}
