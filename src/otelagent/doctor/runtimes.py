# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The runtimes that run on this machine, and whether their frames can be unwound.

A runtime is known by the name of a file that a process has mapped as code;
whether a CPython can be unwound is what the profiler itself says of that file.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.doctor.report import RuntimeFound
from otelagent.errors import BadElf, TargetError, UnsupportedRuntime
from otelagent.formats.elf import ElfFile
from otelagent.host import procfs
from otelagent.host.files import open_mapped
from otelagent.interpreters import registry

if TYPE_CHECKING:
    from otelagent.formats.proc_maps import MappedRange

MAX_PROCESSES = 4096
_NATIVE_ONLY = "native frames only"
_NAMES = (
    ("CPython", re.compile(r"libpython3\.\d+.*|python3(\.\d+)?")),
    ("Node.js", re.compile(r"node(js)?|libnode\.so.*")),
    ("Java (HotSpot)", re.compile(r"libjvm\.so")),
    ("Ruby", re.compile(r"libruby.*\.so.*|ruby(\d.*)?")),
    ("PHP", re.compile(r"php(-fpm|-cgi)?\d*(\.\d+)?|libphp.*\.so.*")),
    ("Perl", re.compile(r"perl(5.*)?|libperl\.so.*")),
    (".NET", re.compile(r"libcoreclr\.so")),
    ("Erlang", re.compile(r"beam\.smp")),
)
_GO_SECTION = ".go.buildinfo"


class Finder:
    """Looks at processes; each file once."""

    def __init__(self) -> None:
        self._told: dict[tuple[int, int, int], tuple[str, bool, str] | None] = {}
        self.found: dict[tuple[str, bool, str], set[int]] = defaultdict(set)

    def look(self, pid: int) -> None:
        """Look at one process; one that is gone or not ours to see is passed over."""
        try:
            mapped = procfs.read_maps(pid)
        except TargetError:
            return
        for index, area in enumerate(mapped):
            if not area.inode:
                continue
            key = (area.major, area.minor, area.inode)
            if key not in self._told:
                self._told[key] = self._judge(pid, area, is_program=index == 0)
            if told := self._told[key]:
                self.found[told].add(pid)

    @staticmethod
    def _judge(pid: int, area: MappedRange, *, is_program: bool) -> tuple[str, bool, str] | None:
        base = os.path.basename(area.path)  # noqa: PTH119 (a path of another root)
        name = next((name for name, known in _NAMES if known.fullmatch(base)), "")
        if name and name != "CPython":
            return name, False, _NATIVE_ONLY
        if not name and not is_program:
            return None
        dev = os.makedev(area.major, area.minor)
        try:
            with open_mapped(
                pid, area.start, area.end, area.path, dev=dev, inode=area.inode
            ) as source:
                return _judge_elf(ElfFile(source), name)
        except UnsupportedRuntime as err:
            return "CPython", False, f"{_NATIVE_ONLY}: {err}"
        except (BadElf, TargetError):
            return None


def _judge_elf(elf: ElfFile, name: str) -> tuple[str, bool, str] | None:
    if not name:
        is_go = elf.section(_GO_SECTION) is not None
        return ("Go", True, "as native code, by its own tables") if is_go else None
    detected = registry.detect(elf)
    if detected is None:
        return None  # `python3` linked with the library, which is judged itself
    minor = getattr(detected.build, "minor", "?")
    return f"CPython 3.{minor}", True, "functions, files and lines"


def examine_runtimes(proc: Path = Path("/proc")) -> list[RuntimeFound]:
    """Look at all processes; of more than 4,096 at the first."""
    finder = Finder()
    pids = sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal())
    for pid in pids[:MAX_PROCESSES]:
        finder.look(pid)
    rows = [
        RuntimeFound(name, len(pids), is_unwound, remark)
        for (name, is_unwound, remark), pids in finder.found.items()
    ]
    return sorted(rows, key=lambda row: (-row.processes, row.name))
