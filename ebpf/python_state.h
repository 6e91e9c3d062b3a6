/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_PYTHON_STATE_H
#define OA_PYTHON_STATE_H

#include "env.h"

/* What the CPython unwinder does next. */
enum py_phase {
	PY_START, /* nothing is known yet */
	PY_SEARCH, /* looks for the thread states, one a step */
	PY_READY, /* at a C frame; if it is the eval loop's, its Python frames come next */
	PY_WALK, /* in the middle of the Python frames of one run of the eval loop */
	PY_LEAVE, /* they are pushed; the eval loop's C frame is not left yet */
	PY_NATIVE, /* no CPython, or no thread state: all frames are native ones */
};

/* What the CPython unwinder keeps from one step to the next. */
struct oa_python_state {
	struct oa_python_proc proc; /* copy of the map's value */
	struct oa_python_thread thread; /* this thread's states */
	u64 cursor[OA_PY_STATES]; /* per state: the next frame or _PyCFrame; 0: no more */
	u64 id; /* what thread states are compared with */
	u64 low; /* the eval loop's C frame: its stack pointer */
	u64 high; /* and its caller's; 0: not known yet */
	u64 at; /* the Python frame to look at; PY_SEARCH: the thread state */
	u64 end; /* address that tells whose frames these are; PY_SEARCH: the interpreter */
	u64 next; /* the cursor behind them */
	u64 saved_hash; /* the trace before them */
	u32 saved_frames;
	u16 searched;
	u8 found;
	u8 candidate; /* whose frames are walked; OA_PY_STATES: nobody's */
	u8 phase; /* enum py_phase */
	u8 fault; /* of a stack that is else complete */
	u8 newest; /* the eval loop's C frame is the newest frame of all */
	u8 pad[5];
	u8 frame[128]; /* copy of a frame */
	u8 code[32]; /* copy of a part of a code object */
};

#endif
