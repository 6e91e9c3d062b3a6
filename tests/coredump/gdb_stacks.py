# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Run inside of gdb: writes the stack of each thread as JSON to `$OA_GDB_OUT`.

Thread id → [[pc, function or null, kind]], the newest frame first; inlined frames are left out.
`$OA_GDB_MADE` are ranges (`start-end`, hex) of code that was made at run time and keeps frame
pointers, which gdb cannot know; `$OA_GDB_SLOT` says how many slots above the stack pointer
the caller's address is if the newest frame is there, before it has one.
"""

import json
import os

import gdb
import gdb.unwinder

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


class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = sp, pc


class Made(gdb.unwinder.Unwinder):
    """Unwind code that was made at run time by its frame pointer."""

    def __init__(self, ranges, slot):
        super().__init__("made")
        self.ranges, self.slot, self.first = ranges, slot, None

    def __call__(self, pending):
        pc, sp, fp = (int(pending.read_register(name)) for name in ("rip", "rsp", "rbp"))
        self.first = self.first or pc
        if not any(start <= pc < end for start, end in self.ranges):
            return None
        word = gdb.lookup_type("unsigned long").pointer()
        if self.slot is not None and pc == self.first:
            at, saved = sp + self.slot * 8, fp
            if self.slot:
                saved = int(gdb.Value(sp).cast(word).dereference())
        else:
            at, saved = fp + 8, int(gdb.Value(fp).cast(word).dereference())
        info = pending.create_unwind_info(FrameId(gdb.Value(at + 8), gdb.Value(pc)))
        info.add_saved_register("rip", gdb.Value(at).cast(word).dereference())
        info.add_saved_register("rsp", gdb.Value(at + 8))
        info.add_saved_register("rbp", gdb.Value(saved))
        return info


made = [part.split("-") for part in os.environ.get("OA_GDB_MADE", "").split()]
if made:
    slot = os.environ.get("OA_GDB_SLOT")
    ranges = [(int(start, 16), int(end, 16)) for start, end in made]
    gdb.unwinder.register_unwinder(None, Made(ranges, int(slot) if slot else None))
threads = {
    thread.ptid[1] or thread.ptid[0]: walk(thread) for thread in gdb.inferiors()[0].threads()
}
with open(os.environ["OA_GDB_OUT"], "w") as out:
    json.dump(threads, out)
