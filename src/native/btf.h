/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_BTF_H
#define OA_BTF_H
#ifndef OA_CDEF
#include "types.h"
#endif

/* Where fields are, by BTF. */
struct oa_btf;

/* A raw BTF file (/sys/kernel/btf/vmlinux) or an ELF file with a .BTF section. */
struct oa_btf *oa_btf_open(const char *path, s32 *error);
void oa_btf_close(struct oa_btf *btf);
/* Byte offset of a field like "thread.uw.tp_value" in a struct, through anonymous
 * structs and unions; -ENOENT, or -EINVAL for a bit field.
 */
s32 oa_btf_offset(const struct oa_btf *btf, const char *type, const char *path);

#endif
