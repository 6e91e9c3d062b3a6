# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""From a pid or the path of a core file to what `dump` shows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.dump.show import Report
from otelagent.dump.stacks import take
from otelagent.errors import AgentError
from otelagent.host import procfs
from otelagent.host.live import LiveImage
from otelagent.namers import Namers
from otelagent.unwind.cache import RowCache

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_COMMAND_CHARS = 1024


def of_process(pid: int, *, blocking: bool = True, debug_dirs: Sequence[Path] = ()) -> Report:
    """Take the stacks of a process that runs.

    Raises:
        ProcessGone: It does not.
        NotPermitted: It may not be traced.
        AgentError: It is a thread, or cannot be stopped.
    """
    leader = procfs.leader_of(pid)
    if leader != pid:
        hint = f"-p {leader} shows all of its threads"
        raise AgentError(f"{pid} is a thread of process {leader}", hint=hint)
    image = LiveImage(pid, blocking=blocking)
    command = _command_of(pid)
    namers = Namers(symbols=True, debuginfod="", debug_dirs=tuple(debug_dirs))
    taken = take(image, namers, cache=RowCache())
    held_ms = image.held_ns / 1e6 if blocking else None
    return Report(pid, command, taken.stacks, held_ms, problems=_problems(taken.problems))


def _command_of(pid: int) -> str:
    try:
        shown = procfs.other_thread(pid) or pid
        words = Path(f"/proc/{shown}/cmdline").read_bytes()[:MAX_COMMAND_CHARS].split(b"\0")
    except OSError:
        words = []
    return os.fsdecode(b" ".join(words)).strip() or procfs.read_comm(pid)


def of_core(path: str, *, sysroot: Path | None = None, debug_dirs: Sequence[Path] = ()) -> Report:
    """Take the stacks of a core file.

    Raises:
        FormatError: It is none, or one of another kind of machine.
        TargetError: It cannot be read.
    """
    from otelagent.host.core import CoreImage  # noqa: PLC0415 (most ask for a process)

    with CoreImage.open(path, sysroot=sysroot, debug_dirs=debug_dirs) as image:
        root = str(sysroot) if sysroot else ""
        namers = Namers(symbols=True, debuginfod="", debug_dirs=tuple(debug_dirs), sysroot=root)
        core = image.core
        taken = take(image, namers, cache=RowCache())
        problems = [*dict.fromkeys(image.problems), *_problems(taken.problems)]
        command = core.arguments or core.name or "(not told)"
        return Report(core.pid, command, taken.stacks, core=path, problems=problems)


def _problems(missing: dict[str, str]) -> list[str]:
    """Say of each file that is missing what it was for."""
    return [
        f"{reason}: its frames are shown as file+offset, and may be guessed"
        for reason in missing.values()
    ]
