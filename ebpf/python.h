/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_PYTHON_H
#define OA_PYTHON_H

#include "native.h"

/* Frames of the eval loop are native ones as long as nothing is known of the process. */
static __always_inline void python_step(struct oa_state *s)
{
	native_step(s);
}

#endif
