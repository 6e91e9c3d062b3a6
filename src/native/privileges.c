/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

s32 oa_keep_capabilities(u64 keep)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct sets[2] = {{0}};

	if (syscall(SYS_capget, &header, sets))
		return -errno;
	/* What an exec may give back; needs CAP_SETPCAP, which goes with the rest. Without it the
	 * next line does as much: nobody gains anything by an exec any more.
	 */
	for (u32 number = 0; number < 64; number++)
		if (!(keep >> number & 1))
			prctl(PR_CAPBSET_DROP, number, 0, 0, 0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	for (u32 half = 0; half < 2; half++) {
		u32 mask = (u32)(keep >> (32 * half));

		sets[half].permitted &= mask;
		sets[half].effective &= mask;
		sets[half].inheritable &= mask;
	}
	return syscall(SYS_capset, &header, sets) ? -errno : 0;
}

void oa_die_with(s32 parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent)
		raise(SIGKILL);
}
