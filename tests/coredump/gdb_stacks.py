# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Run inside of gdb: writes the stack of each thread as JSON to `$OA_GDB_OUT`.

Thread id → [[pc, function or null, kind]], the newest frame first; inlined frames are left out.
"""

import json
import os

import gdb

LIMIT = 3000
STACK_POINTER = "sp"
NOT_REAL = (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME)  # gdb concludes them from debug information


def walk(thread):
    thread.switch()
    frames, previous = [], None
    try:
        frame = gdb.newest_frame()
        while frame is not None and len(frames) < LIMIT:
            place = (frame.pc(), int(frame.read_register(STACK_POINTER)))
            if frame.type() not in NOT_REAL and place != previous:
                previous = place
                kind = "signal" if frame.type() == gdb.SIGTRAMP_FRAME else "normal"
                frames.append([frame.pc(), frame.name(), kind])
            frame = frame.older()
    except gdb.error as err:
        frames.append([0, str(err), "error"])
    return frames


threads = {
    thread.ptid[1] or thread.ptid[0]: walk(thread) for thread in gdb.inferiors()[0].threads()
}
with open(os.environ["OA_GDB_OUT"], "w") as out:
    json.dump(threads, out)
