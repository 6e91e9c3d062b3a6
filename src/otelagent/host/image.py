# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A whole process behind one protocol: its memory, mappings, files and threads.

`ProcessImage` is implemented for a live process (`host.live`) and a core file
(`host.core`). All that is unwound from it goes the same way: `dump.stacks.unwind`.

    with image.hold() as threads:      # a live process is stopped in here
        data = image.read(addr, size)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from otelagent.formats.elf import Source
from otelagent.protocols import Memory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from otelagent.formats.proc_maps import MappedRange
    from otelagent.formats.registers import Registers


@dataclass(frozen=True, slots=True)
class ThreadImage:
    """A thread of a process image.

    Attributes:
        tid: Its number; as the process's own pid namespace has it in a core file.
        name: Its name; empty if it is not known.
        state: In one word: `sleeping`, `running`, or the signal that ended it.
        registers: None if they could not be had; `problem` says why.
        kernel: Functions of the kernel that it is in, newest first.
        problem: What the reader must know of this thread; empty as a rule.
    """

    tid: int
    name: str = ""
    state: str = ""
    registers: Registers | None = None
    kernel: tuple[str, ...] = ()
    problem: str = ""


class OpenFile(Source, Protocol):
    """A file of the process, or what is kept of one."""

    def close(self) -> None:
        """Give back what is open."""
        ...


class MemoryTaker(Protocol):
    """The C side of an unwinder (`unwind.host.Tables`): it reads without calling Python."""

    def add_memory(self, addr: int, data: bytes | memoryview) -> None:
        """Let it read bytes at an address. ValueError if there is something already."""
        ...

    def add_file(self, addr: int, fd: int, offset: int, size: int) -> None:
        """Let it read a part of a file at an address. ValueError as `add_memory`."""
        ...

    def use_process(self, pid: int) -> None:
        """Let it read all memory of a live process where there is nothing else."""
        ...


class ProcessImage(Memory, Protocol):
    """A process that may be looked at; used by one thread.

    Attributes:
        pid: Its number.
        machine: EM_* of its code.
        pac_mask: Bits of arm64's signatures in its return addresses.
    """

    pid: int
    machine: int
    pac_mask: int

    def read_maps(self) -> list[MappedRange]:
        """List the executable mappings by address; the vDSO's path is `[vdso]`.

        Raises:
            TargetError: They cannot be had.
        """
        ...

    def open_mapped(self, mapped: MappedRange) -> OpenFile:
        """Open the file of a mapping, for its sections; the caller closes it.

        Raises:
            TargetError: It is not there, or not the file that was mapped; says which.
        """
        ...

    def read_vdso(self) -> bytes:
        """Read the vDSO, an ELF file in memory.

        Raises:
            TargetError: There is none.
        """
        ...

    def lend_memory(self, taker: MemoryTaker) -> None:
        """Let C read what `read` reads, for as long as this image is open."""
        ...

    def hold(self) -> AbstractContextManager[Sequence[ThreadImage]]:
        """Give the threads; until the context ends neither they nor the memory change.

        Raises:
            TargetError: The process cannot be held; a subclass says whether it is gone.
            NotPermitted: We may not.
        """
        ...

    def close(self) -> None:
        """Give back what is open."""
        ...
