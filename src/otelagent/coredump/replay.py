# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The stacks of an image by the live code, without a look at this machine: and as text.

frames = expected(SnapshotImage.open(path))
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otelagent.dump.stacks import ImageUnwinder, ThreadStack
from otelagent.host.snapshot import SnapshotImage
from otelagent.model import Frame, FrameType, Line
from otelagent.namers import Namers, detect
from otelagent.unwind.extract import extract

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otelagent.formats.elf import ElfFile, Source
    from otelagent.host.image import ProcessImage
    from otelagent.interpreters.registry import Detected
    from otelagent.unwind.rows import RowTable


def _rows(_source: Source, elf: ElfFile) -> RowTable:
    return extract(elf)


def _recognise(strays: list[str], elf: ElfFile) -> Detected | None:
    """Tell what interpreter a file is, as far as the snapshot can tell.

    Of a runtime that was not known when a case was recorded the snapshot lacks what tells, of
    each file: that makes it no stray where the file is no interpreter then.
    """
    count = len(strays)
    found = detect(elf)
    if found is None:
        del strays[count:]
    return found


def replay(image: ProcessImage, notes: Mapping[str, bytes]) -> list[ThreadStack]:
    """Give the stack of each thread.

    Args:
        image: What is unwound; nothing but it is read.
        notes: Files that the process's JIT compilers wrote, and `maps`, by path.

    Raises:
        TargetError: The image cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        _write_notes(Path(folder) / str(image.pid), notes)
        namers = Namers(symbols=True, debuginfod="", proc=Path(folder))
        strays = image.strays if isinstance(image, SnapshotImage) else []
        unwinder = ImageUnwinder(image, namers, rows=_rows, recognise=partial(_recognise, strays))
        unwinder.prepare()
        with image.hold() as threads:
            raws = unwinder.walk(threads)
            return [unwinder.name(*pair) for pair in zip(threads, raws, strict=True)]


def _write_notes(folder: Path, notes: Mapping[str, bytes]) -> None:
    """Lay notes out as /proc/PID shows them."""
    (folder / "root").mkdir(parents=True)
    user = os.getuid()
    pid = folder.name
    (folder / "status").write_text(f"Uid:\t{user}\t{user}\t{user}\t{user}\nNSpid:\t{pid}\n")
    for path, data in notes.items():
        target = folder / path if path == "maps" else folder / "root" / path.lstrip("/")
        if not target.resolve().is_relative_to(folder.resolve()):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def expected(stacks: list[ThreadStack]) -> list[dict[str, Any]]:
    """Describe stacks as `expected.json` has them: a string for each frame, newest first."""
    return [
        {
            "tid": stack.thread.tid,
            "name": stack.thread.name,
            "state": stack.thread.state,
            "fault": stack.trace.fault,
            "frames": [text for frame in stack.trace.frames for text in _frame(frame)],
        }
        for stack in stacks
    ]


def _frame(frame: Frame) -> list[str]:
    """Describe a frame: first what was inlined, as `+ function`."""
    names = [_line(line) for line in frame.lines] or [f"? ({frame.reason})"]
    where = ""
    if frame.executable is not None:
        where = f" {frame.executable.path.rsplit('/', 1)[-1]}"
    if frame.type not in (FrameType.KERNEL, FrameType.PYTHON, FrameType.JIT):
        where += f"+{frame.address:#x}"
    if frame.guessed:
        where += " guessed"
    return [
        *(f"{frame.type}: + {name}" for name in names[:-1]),
        f"{frame.type}: {names[-1]}{where}",
    ]


def _line(line: Line) -> str:
    file = line.function.file.rsplit("/", 1)[-1]
    return f"{line.function.name} ({file}:{line.line})" if file else line.function.name
