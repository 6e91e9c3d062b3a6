# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The nouns: what a finished profile is made of.

A `Trace` is a stack, newest frame first. A `Frame` is one physical frame; code
that the compiler inlined into it shows as several `lines`, the innermost first.
All of it is immutable and hashable, so equal things can be shared.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from collections.abc import Sequence

Pid = NewType("Pid", int)
Addr = NewType("Addr", int)
"""A virtual address of a process."""
ElfAddr = NewType("ElfAddr", int)
"""An address in the address space of the ELF file (p_vaddr)."""
FileOffset = NewType("FileOffset", int)
FileId = NewType("FileId", bytes)
"""16 bytes; the first 8, read as a big-endian integer, are what BPF carries."""


class FrameType(StrEnum):
    """`profile.frame.type` of the OpenTelemetry semantic conventions."""

    NATIVE = "native"
    KERNEL = "kernel"
    PYTHON = "cpython"
    GO = "go"
    JIT = "jit"
    ERROR = "abort-marker"
    """Not of the conventions: what OpenTelemetry's own profiler calls the frame that says why."""
    OFF_CPU = "off_cpu"
    """No code: in the place of the newest frame it says why a thread is not on a CPU."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function as the source names it.

    `name` is demangled, `system_name` as in the symbol table (empty if equal);
    `start_line` is where it is declared, 0 when that is not known: `co_firstlineno` of
    Python, Go 1.20 and newer by its own tables, others by `DW_AT_decl_line`.
    """

    name: str
    system_name: str = ""
    file: str = ""
    start_line: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """A place in a function; `line` and `column` are 0 when not known."""

    function: Function
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Executable:
    """An ELF file, a kernel image, module or vDSO that frames lie in.

    Attributes:
        file_id: 16 bytes, see DESIGN: SHA-256 of head, tail and size, cut.
        path: As the process saw it; `[vdso]`, `[kernel.kallsyms]`, `[nf_tables]` for what has none.
        build_id: GNU build id in hex, or empty.
        go_build_id: Go's own, or empty.
        text_start: First ELF address of executable segments.
        text_end: End of them (exclusive); 0 if not known.
        text_offset: File offset of `text_start`.
    """

    file_id: FileId
    path: str
    build_id: str = ""
    go_build_id: str = ""
    text_start: int = 0
    text_end: int = 0
    text_offset: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """One physical frame.

    Attributes:
        type: Which kind of code.
        address: ELF address (native, Go), kernel address, or 0 (interpreters); of a caller it
            is one before the return address, so that whoever names it later finds the call.
        executable: Where the address lies; None for interpreters and unknown memory.
        lines: Innermost inlined function first, the physical function last; empty if unresolved.
        guessed: Found by the frame pointer and not by unwind rows.
        reason: Why `lines` is empty or has no source lines; empty otherwise.
    """

    type: FrameType
    address: int = 0
    executable: Executable | None = None
    lines: tuple[Line, ...] = ()
    guessed: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """A whole stack, newest frame first: user frames come after the kernel's.

    `fault` is empty when the walk reached the thread's first frame, else the
    name of the `Fault` that ended it (`NO_ROW`, …).
    """

    frames: tuple[Frame, ...]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Process:
    """The process of a sample: one image; exec makes another."""

    pid: Pid
    name: str
    executable: str = ""
    start_ns: int = 0
    exec_id: int = 0
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread; `tid` is 0 where the format that was read has none."""

    tid: int
    name: str = ""


@dataclass(slots=True)
class SampleGroup:
    """Samples that share trace, process and thread.

    `timestamps_ns` (UNIX time) may be empty when only counts are known;
    otherwise it has `count` entries. `value` is in the profile's unit.
    """

    count: int = 0
    value: int = 0
    timestamps_ns: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, count: int, value: int, timestamps_ns: Sequence[int]) -> None:
        """Add samples; times of some only would belong to none of them, so there is none then."""
        if len(timestamps_ns) == count and len(self.timestamps_ns) == self.count:
            self.timestamps_ns.extend(timestamps_ns)
        else:
            del self.timestamps_ns[:]
        self.count += count
        self.value += value


@dataclass(slots=True)
class ProfileInfo:
    """What holds for all samples of a profile.

    Attributes:
        sample_type: Name and unit of what is counted.
        period_type: Name and unit of what passes between two samples.
        period_ns: How much of it passes.
        start_unix_ns: When sampling began (UNIX time); 0 if not known.
        duration_ns: How long it went on; 0 if not known.
        host: Attributes of the machine; keys begin with `host.` or `os.`.
        notes: Losses and unwinding faults by name; shown and exported.
    """

    sample_type: tuple[str, str] = ("samples", "count")
    period_type: tuple[str, str] = ("cpu", "nanoseconds")
    period_ns: int = 0
    start_unix_ns: int = 0
    duration_ns: int = 0
    host: tuple[tuple[str, str], ...] = ()
    notes: dict[str, int] = field(default_factory=dict)
