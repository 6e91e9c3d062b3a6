# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Stacks of threads as text and as JSON: one function a line, the innermost first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from otelagent.abi._generated import HELP, Fault
from otelagent.model import FrameType
from otelagent.profile.label import address_name, module_of
from otelagent.profile.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otelagent.dump.stacks import ThreadStack
    from otelagent.host.image import ThreadImage
    from otelagent.model import Frame, Line

NATIVE = (FrameType.NATIVE, FrameType.GO, FrameType.KERNEL)
_FAULTS = {fault.name: HELP[Fault][fault] for fault in Fault}


@dataclass(slots=True)
class Report:
    """What is shown.

    Attributes:
        pid: Of the process.
        command: Its command line, or what is known of it.
        held_ms: For how long it was stopped; None: not at all.
        core: Path of the core file; empty: it lives.
        problems: What is missing, a line each.
        native: Frames of machine code and the kernel are shown, too.
    """

    pid: int
    command: str
    stacks: list[ThreadStack]
    held_ms: float | None = None
    core: str = ""
    problems: list[str] = field(default_factory=list)
    native: bool = True

    def frames(self, stack: ThreadStack) -> list[Frame]:
        """List the frames of a stack that are shown."""
        if self.native:
            return list(stack.trace.frames)
        return [frame for frame in stack.trace.frames if not _is_native(frame)]


def show_text(report: Report) -> Iterator[str]:
    """Write a report as lines."""
    yield f"Process {report.pid or '(not told)'}: {printable(report.command)}"
    yield _how(report)
    for problem in report.problems:
        yield f"Note: {printable(problem)}"
    for stack in report.stacks:
        yield ""
        yield _head(stack.thread)
        if stack.thread.problem:
            yield f"    ({printable(stack.thread.problem)})"
        shown = report.frames(stack)
        for frame in shown:
            yield from (f"    {line}" for line in _show_frame(frame))
        if not report.native and not shown and stack.trace.frames:
            yield "    (no frames of an interpreter)"
        if stack.trace.fault:
            reason = _FAULTS.get(stack.trace.fault, "")
            yield f"    ... it ends early: {reason} ({stack.trace.fault.lower()})"


def _is_native(frame: Frame) -> bool:
    """Tell what `--no-native` hides; a JIT's functions with names are the program's own."""
    return frame.type in NATIVE or (frame.type is FrameType.JIT and not frame.lines)


def _how(report: Report) -> str:
    count = f"{len(report.stacks)} thread" + "s" * (len(report.stacks) != 1)
    if report.core:
        return f"From {printable(report.core)}: {count}"
    if report.held_ms is None:
        return f"Not stopped: {count}; stacks may be torn, and those of running threads are missing"
    return f"Stopped for {report.held_ms:.1f} ms: {count}"


def _head(thread: ThreadImage) -> str:
    parts = [f"Thread {thread.tid}"]
    if thread.name:
        parts.append(f'"{printable(thread.name)}"')
    if thread.state:
        parts.append(f"({thread.state})")
    return " ".join(parts)


def _show_frame(frame: Frame) -> Iterator[str]:
    module = printable(module_of(frame))
    where = f"  [{module.strip('[]')}]" if module else ""
    mark = "  guessed" if frame.guessed else ""
    if not frame.lines:
        reason = f"  ({printable(frame.reason)})" if frame.reason else ""
        yield f"{printable(address_name(frame))}{reason}{mark}"
        return
    for number, line in enumerate(frame.lines, 1):
        inlined = "  inlined" if number < len(frame.lines) else ""
        yield f"{_name(frame, line)}{_place(line)}{where}{inlined}{mark}"


def _name(frame: Frame, line: Line) -> str:
    function = line.function
    return printable(function.name or function.system_name or address_name(frame))


def _place(line: Line) -> str:
    if not line.function.file:
        return ""
    number = f":{line.line}" if line.line else ""
    return f" ({printable(line.function.file)}{number})"


def show_json(report: Report) -> dict[str, Any]:
    """Make a report of values that JSON has."""
    return {
        "pid": report.pid,
        "command": report.command,
        "core": report.core or None,
        "stopped_ms": None if report.held_ms is None else round(report.held_ms, 3),
        "problems": report.problems,
        "threads": [_json_thread(report, stack) for stack in report.stacks],
    }


def _json_thread(report: Report, stack: ThreadStack) -> dict[str, Any]:
    thread = stack.thread
    return {
        "tid": thread.tid,
        "name": thread.name,
        "state": thread.state,
        "problem": thread.problem or None,
        "fault": stack.trace.fault.lower() or None,
        "frames": [each for frame in report.frames(stack) for each in _json_frame(frame)],
    }


def _json_frame(frame: Frame) -> Iterator[dict[str, Any]]:
    """Make one value of each function, inlined ones before the one that holds them."""
    shared: dict[str, Any] = {"type": str(frame.type), "address": frame.address}
    shared["module"] = frame.executable.path if frame.executable else None
    if frame.executable and frame.executable.build_id:
        shared["build_id"] = frame.executable.build_id
    if frame.guessed:
        shared["guessed"] = True
    if frame.reason:
        shared["reason"] = frame.reason
    if not frame.lines:
        yield {"function": None, **shared}
    for number, line in enumerate(frame.lines, 1):
        function = line.function
        yield {
            "function": function.name or function.system_name,
            "file": function.file or None,
            "line": line.line or None,
            "inlined": number < len(frame.lines),
            **shared,
        }
