# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Runtimes are found by what processes have mapped."""

import os
import sys

import pytest

from otelagent.doctor import runtimes
from otelagent.doctor.report import RuntimeFound
from otelagent.errors import MemoryFault, ProcessGone, UnsupportedRuntime
from otelagent.formats.elf import ElfFile
from otelagent.formats.proc_maps import MappedRange
from otelagent.host.files import open_file
from otelagent.interpreters import registry


def area(path, inode=7):
    return MappedRange(0x1000, 0x2000, 0, 8, 1, inode, path)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Processes by pid, each with what it has mapped, or why it cannot be looked at."""

    def make(processes):
        def read_maps(pid):
            if isinstance(processes[pid], Exception):
                raise processes[pid]
            return processes[pid]

        for pid in processes:
            (tmp_path / str(pid)).mkdir()
        (tmp_path / "self").mkdir()
        monkeypatch.setattr(runtimes.procfs, "read_maps", read_maps)
        return runtimes.examine_runtimes(tmp_path)

    return make


def test_runtimes_without_an_unwinder_are_named(machine):
    found = machine(
        {
            5: [area("/usr/bin/java", 1), area("/opt/jdk/lib/server/libjvm.so", 2)],
            6: [area("/usr/bin/node", 3)],
            7: [area("/usr/bin/node", 3)],
            8: [area("/usr/bin/noderunner", 4), area("", 0), area("[vdso]", 0)],
            9: ProcessGone("gone"),
            10: MemoryFault(1, 2),
        }
    )

    told = [(row.name, row.processes, row.is_unwound) for row in found]
    assert told == [("Node.js", 2, False), ("Java (HotSpot)", 1, False)]


def test_this_python_is_judged_by_its_file():
    with open_file(os.path.realpath(sys.executable)) as source:
        told = runtimes._judge_elf(ElfFile(source), "CPython")

    expected = f"CPython 3.{sys.version_info.minor}"
    assert told in {(expected, True, "functions, files and lines"), None}, "None: in libpython"


def test_a_cpython_that_cannot_be_unwound_says_why(machine, monkeypatch):
    def refuse(_elf):
        raise UnsupportedRuntime("CPython 3.99: 3.6 to 3.15 are known")

    monkeypatch.setattr(registry, "detect", refuse)
    monkeypatch.setattr(runtimes, "open_mapped", lambda *_, **__: open_file("/bin/true"))

    (row,) = machine({5: [area("/usr/lib/libpython3.99.so.1.0")]})

    assert row == RuntimeFound(
        "CPython", 1, False, "native frames only: CPython 3.99: 3.6 to 3.15 are known"
    )


def test_native_programs_are_no_runtimes(machine, monkeypatch):
    monkeypatch.setattr(runtimes, "open_mapped", lambda *_, **__: open_file("/bin/true"))

    assert machine({5: [area("/bin/true")]}) == []
