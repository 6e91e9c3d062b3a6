# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Print the stacks of a command that did not reach their thread's first frame.

    .venv/bin/python tools/short_stacks.py [-F HZ] [-n STACKS] [-m FRAMES] COMMAND…

For each: the fault, how many samples, the thread, the newest and oldest frames
as `file+address name`, and where the walk ended. Then the totals of a
recording's last line, and BPF's counters. Needs root.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from otelagent.abi._generated import Fault
from otelagent.host.command import HeldCommand
from otelagent.options import Options
from otelagent.profiler import Profiler
from otelagent.recording import make_profile, summary

if TYPE_CHECKING:
    from otelagent.abi.codec import RawTrace
    from otelagent.model import Frame

SHOWN = 14


def _line(frame: Frame) -> str:
    where = frame.executable.path if frame.executable else frame.type.value
    name = frame.lines[0].function.name if frame.lines else f"({frame.reason})"
    return f"    {where}+{frame.address:#x} {name}{' GUESSED' if frame.guessed else ''}"


def _show(profiler: Profiler, raw: RawTrace, count: int, comm: bytes) -> None:
    frames = [_line(frame) for frame in profiler.handler.finish(raw).frames]
    print(
        f"-- {Fault(raw.fault).name} x{count} at {raw.fault_pc:#x}, flags {raw.flags:#x},"
        f" {raw.steps} steps, pid {raw.pid} {comm.decode(errors='replace')}"
    )
    if len(frames) > 2 * SHOWN:
        frames[SHOWN:-SHOWN] = [f"    … {len(frames) - 2 * SHOWN} more"]
    print("\n".join(frames))


def main() -> int:
    """Record the command and print what is short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-F", "--frequency", type=int, default=499)
    parser.add_argument("-n", "--stacks", type=int, default=12)
    parser.add_argument("-m", "--max-frames", type=int, default=1024)
    parser.add_argument("--bounded", action="store_true", help="tail calls instead of bpf_loop")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    command = HeldCommand.fork(given.command)
    options = Options(
        given.frequency,
        max_frames=given.max_frames,
        bounded=given.bounded,
        held_pid=command.pid,
    )
    profiler = Profiler(options)
    profiler.start()
    command.release()
    while not command.reap():
        time.sleep(0.05)
    time.sleep(0.1)
    profiler.stop()
    losses = profiler.losses()
    make_profile(profiler, profiler.collector.groups.items(), losses)
    groups = sorted(profiler.collector.groups.items(), key=lambda group: -group[1].count)
    shown = 0
    for key, total in groups:
        raw = profiler.collector.traces[key.hash]
        if (raw.fault or any(frame.guessed for frame in raw.frames())) and shown < given.stacks:
            shown += 1
            _show(profiler, raw, total.count, key.comm.rstrip(b"\0"))
    print(summary(profiler, losses))
    print({name: count for name, count in losses.counters.items() if count})
    profiler.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
