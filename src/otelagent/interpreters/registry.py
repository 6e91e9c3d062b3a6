# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The interpreters that are known: one table.

Each family is a package that is imported when a process is first looked at;
`detect(elf)` returns what the file tells, or None, or raises `UnsupportedRuntime`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from otelagent.abi._generated import Unwinder

if TYPE_CHECKING:
    from otelagent.formats.elf import ElfFile
    from otelagent.protocols import Memory


class Runtime(Protocol):
    """An interpreter in one address space: facts for the maps of its unwinder."""

    @property
    def eval_loop(self) -> tuple[tuple[int, int], ...]:
        """ELF address ranges that the family's unwinder owns."""
        ...

    def value(self) -> bytes:
        """Value of the family's map of processes."""
        ...


@dataclass(frozen=True, slots=True)
class Family:
    """An interpreter: its package, and its unwinder in BPF.

    `marker` is a symbol that each of its files exports: the others are not looked at.
    """

    name: str
    module: str
    unwinder: Unwinder
    marker: str


FAMILIES = (
    Family("python", "otelagent.interpreters.python", Unwinder.PYTHON, "_PyEval_EvalFrameDefault"),
)


@dataclass(frozen=True, slots=True)
class Detected:
    """A file that is an interpreter, and what its family found in it (opaque here).

    `eval_loop` are ELF address ranges, by address, that the family's unwinder owns.
    """

    family: Family
    build: object
    eval_loop: tuple[tuple[int, int], ...]


def detect(elf: ElfFile) -> Detected | None:
    """Ask every family whether the file is its own.

    Raises:
        UnsupportedRuntime: One knows the file and cannot unwind it.
        BadElf: The file lies.
    """
    for family in FAMILIES:
        build = importlib.import_module(family.module).detect(elf)
        if build is not None:
            return Detected(family, build, build.eval_loop)
    return None


def attach(detected: Detected, bias: int, memory: Memory) -> Runtime:
    """Learn how to unwind a detected interpreter in one process (errors: the family's `attach`)."""
    module = importlib.import_module(detected.family.module)
    runtime: Runtime = module.attach(detected.build, bias, memory)
    return runtime
