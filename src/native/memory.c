/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "memory.h"

#include <errno.h>
#include <sys/uio.h>

int oa_memory_read(s32 pid, u64 addr, void *out, u64 size)
{
	u64 done = 0;

	while (done < size) {
		struct iovec local = {(u8 *)out + done, size - done};
		struct iovec remote = {(void *)(uintptr_t)(addr + done), size - done};
		ssize_t got = process_vm_readv(pid, &local, 1, &remote, 1, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -EFAULT;
		done += (u64)got;
	}
	return 0;
}
