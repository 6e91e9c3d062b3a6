/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_FIND_H
#define OA_FIND_H

/* Find the CPython of a process of which user space knows nothing yet: by the list that
 * its dynamic linker keeps for debuggers (r_debug and link_map of link.h), and the files
 * that were seen before (`python_files`). What was found is a guess until user space has
 * seen the process's mappings, and unwinds by it only if it was right.
 */

#include "trace.h"
#ifndef OA_HOST
#include "process_events.h"
#endif

enum {
	FIND_AUX = 20, /* entries of the auxiliary vector that are looked at */
	FIND_SEGMENTS = 16, /* of the program */
	FIND_DYNAMIC = 48, /* entries of its dynamic section */
	FIND_FILES = 64, /* of the process */
	/* include/uapi/linux/auxvec.h, include/uapi/linux/elf.h */
	FIND_AT_PHDR = 3,
	FIND_AT_RANDOM = 25,
	FIND_PT_LOAD = 1,
	FIND_PT_DYNAMIC = 2,
	FIND_DT_DEBUG = 21,
	FIND_EHDR_BYTES = 64, /* the program's headers follow there */
	FIND_SHOFF = 40, /* of the ELF header: e_shoff */
	FIND_R_MAP = 8, /* of r_debug: the first link_map */
	FIND_FIXED = 0x400000, /* where linkers put a program that cannot be moved */
};

/* The head of an Elf64_Phdr. */
struct oa_segment {
	u32 type;
	u32 flags;
	u64 offset;
	u64 vaddr;
	u64 skipped[4];
};

/* The public head of glibc's and musl's struct link_map. */
struct oa_link {
	u64 bias;
	u64 name;
	u64 dynamic;
	u64 next;
};

#ifndef OA_HOST
/* An entry of the auxiliary vector that the current process got from the kernel; 0: it has none. */
static __always_inline u64 find_aux(u64 type)
{
	u64 mm = read_task_u64(bpf_get_current_task(), config.task_mm);
	u64 entry[2] = {};

	if (!mm || !config.mm_auxv)
		return 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < FIND_AUX; i++) {
		if (read_kernel(entry, sizeof(entry), mm + config.mm_auxv + i * sizeof(entry)))
			return 0;
		if (entry[0] == type)
			return entry[1];
	}
	return 0;
}

/* Where the program headers of the current process are: the kernel told it at its start. */
static __always_inline u64 find_segments(void)
{
	return find_aux(FIND_AT_PHDR);
}
#endif

/* Go to the dynamic section of the program with these headers: `link` is as if it were of the
 * linker's list. False if it has none.
 */
static __always_inline bool find_dynamic(u64 segments, struct oa_link *link)
{
	struct oa_segment segment = {};

	link->bias = 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < FIND_SEGMENTS; i++) {
		if (read_user(&segment, sizeof(segment), segments + i * sizeof(segment)))
			return false;
		if (segment.type == FIND_PT_LOAD && !segment.offset)
			link->bias = segments - FIND_EHDR_BYTES - segment.vaddr;
		if (segment.type == FIND_PT_DYNAMIC) {
			link->dynamic = link->bias + segment.vaddr;
			return true;
		}
	}
	return false;
}

/* The file of a link whose ELF header is at `header`, if it is one that is known. */
static __always_inline const struct oa_python_proc *find_file(const struct oa_link *link,
							      u64 header)
{
	struct oa_python_file_key key = {.dynamic = link->dynamic - link->bias};

	if (read_user(&key.sections, sizeof(key.sections), header + FIND_SHOFF))
		return 0;
	return bpf_map_lookup_elem(&python_files, &key);
}

/* Where the r_debug is that the dynamic section of a program names; 0: it names none. */
static __always_inline u64 find_debug(u64 dynamic)
{
	u64 entry[2] = {};

#pragma clang loop unroll(disable)
	for (u32 i = 0; i < FIND_DYNAMIC; i++) {
		if (read_user(entry, sizeof(entry), dynamic + i * sizeof(entry)) || !entry[0])
			return 0;
		if (entry[0] == FIND_DT_DEBUG)
			return entry[1];
	}
	return 0;
}

/* Make p->proc the interpreter of the process whose program has its headers at `segments`; false
 * if none is found.
 */
static __always_inline bool find_interpreter(struct oa_python_state *p, u64 segments)
{
	u64 header = segments - FIND_EHDR_BYTES, debug;
	const struct oa_python_proc *found;
	struct oa_link link = {};

	if (!segments || !find_dynamic(segments, &link))
		return false;
	found = find_file(&link, header);
	if (found && !found->minor) {
		/* `ld.so PROGRAM`: the kernel's program is the linker, which has its list itself.
		 */
		debug = link.bias + found->interpreters;
		header = FIND_FIXED;
	} else {
		debug = find_debug(link.dynamic);
	}
	if (!debug || read_user(&link.next, sizeof(link.next), debug + FIND_R_MAP))
		return false;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < FIND_FILES; i++) {
		if (!link.next || read_user(&link, sizeof(link), link.next))
			return false;
		found = find_file(&link, link.bias ? link.bias : header);
		if (found && found->minor) {
			p->proc = *found;
			p->proc.interpreters += link.bias;
			return true;
		}
	}
	return false;
}

#endif
