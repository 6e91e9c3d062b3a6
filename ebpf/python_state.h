/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_PYTHON_STATE_H
#define OA_PYTHON_STATE_H

#include "env.h"

/* What the CPython unwinder keeps from one step to the next. */
struct oa_python_state {
	u64 frame; /* the next interpreter frame to look at; 0: not begun or at its end */
	u64 thread_state;
};

#endif
