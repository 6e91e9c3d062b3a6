# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""How a frame, a process and a thread are shown: the one place that decides.

A frame without a name is `file+0xaddress`, the address being that of the ELF
file (what `addr2line` takes), or `[anon]+0xaddress` in memory without a file; where a
null or wild pointer was called it is `[no code]+0xaddress`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otelagent.model import FrameType

if TYPE_CHECKING:
    from otelagent.model import Frame, Process, Thread, Trace

ANONYMOUS = "[anon]"
NAMELESS = "[unknown]"
NAMELESS_CODE = "(without names)"


@dataclass(frozen=True, slots=True)
class Label:
    """One function of a stack as people see it; also what makes two of them the same.

    `module` is the file's base name for machine code and the source file for
    interpreted code; `file` is the source file, if known.
    """

    name: str
    type: FrameType
    module: str = ""
    file: str = ""
    guessed: bool = False
    resolved: bool = True


def base_name(path: str) -> str:
    """Give the last part of a path; `[vdso]` and the like stay whole."""
    return path.rsplit("/", 1)[-1] or path


def is_nameless_code(label: Label) -> bool:
    """Tell whether it is all code of one file that has no names, as tables show it."""
    return not label.resolved and label.name.strip("[]") == label.module.strip("[]")


def place_of(label: Label) -> str:
    """Say in a table's column where a function is; nameless code says that instead."""
    return NAMELESS_CODE if is_nameless_code(label) else label.module


def module_of(frame: Frame) -> str:
    """Name where the code lies: an ELF file, `[kernel.kallsyms]`, or nothing."""
    return base_name(frame.executable.path) if frame.executable else ""


def address_name(frame: Frame) -> str:
    """Name a frame that has no symbol."""
    if not frame.address and frame.executable is None:
        return NAMELESS
    return f"{module_of(frame) or ANONYMOUS}+{frame.address:#x}"


def label_frame(frame: Frame) -> tuple[tuple[Label, int], ...]:
    """List what a frame shows as: (label, source line), the innermost inlined one first."""
    module = module_of(frame)
    if not frame.lines:
        label = Label(address_name(frame), frame.type, module, "", frame.guessed, resolved=False)
        return ((label, 0),)
    labels = []
    for line in frame.lines:
        function = line.function
        label = Label(
            function.name or function.system_name or address_name(frame),
            frame.type,
            module or function.file,
            function.file,
            frame.guessed,
        )
        labels.append((label, line.line))
    return tuple(labels)


class Labels:
    """Labels of frames, each frame looked at once."""

    def __init__(self) -> None:
        # By identity first: a frame's own hash covers all its lines.
        self._known: dict[int, tuple[Frame, tuple[tuple[Label, int], ...]]] = {}

    def of_frame(self, frame: Frame) -> tuple[tuple[Label, int], ...]:
        """Do as `label_frame` does."""
        known = self._known.get(id(frame))
        if known is None:
            known = self._known[id(frame)] = (frame, label_frame(frame))
        return known[1]

    def of_trace(self, trace: Trace) -> list[tuple[Label, int]]:
        """List the labels of a trace, newest first, inlined functions included."""
        return [label for frame in trace.frames for label in self.of_frame(frame)]


def label_process(process: Process) -> str:
    """Name a process without its number."""
    return (
        process.name or base_name(process.executable) or (f"pid {process.pid}" * bool(process.pid))
    )


def label_thread(thread: Thread) -> str:
    """Name a thread, with its number where there is one."""
    if not thread.tid:
        return thread.name
    return f"{thread.name or 'thread'} ({thread.tid})"


def suffix(label: Label) -> str:
    """Mark kernel functions as `perf` and flame graph tools do."""
    return "_[k]" if label.type is FrameType.KERNEL else ""
