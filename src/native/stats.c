/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "stats.h"

#include <bpf/bpf.h>
#include <errno.h>

s32 oa_stats_enable(void)
{
	int fd = bpf_enable_stats(BPF_STATS_RUN_TIME);

	return fd < 0 ? -errno : fd;
}

s32 oa_program_times(s32 program_fd, u64 values[2])
{
	struct bpf_prog_info info = {0};
	u32 size = sizeof(info);

	if (bpf_obj_get_info_by_fd(program_fd, &info, &size))
		return -errno;
	values[0] = info.run_time_ns;
	values[1] = info.run_cnt;
	return 0;
}
