# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""BPF's search for a process's interpreter, in this very process."""

import ctypes
import os
import struct
from pathlib import Path

import pytest

from otelagent._native import lib
from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.interpreters import registry
from otelagent.processes.python_files import describe
from otelagent.unwind.host import HostTables
from tests.processes.fakes import named

AT_PHDR = 3


def own_interpreter():
    """The file that this process has its CPython from, as one that was loaded."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    names = {line.split(maxsplit=5)[5] for line in lines if " r-xp " in line and "/" in line}
    for path in map(Path, sorted(name for name in names if "python3" in name)):
        elf = ElfFile(BytesSource(path.read_bytes()))
        if found := registry.detect(elf):
            return named(elf, found)
    raise AssertionError("no interpreter among the files of this process")


def segments():
    """Where the kernel put the program's headers."""
    auxv = Path("/proc/self/auxv").read_bytes()
    return dict(struct.iter_unpack("=QQ", auxv))[AT_PHDR]


@pytest.fixture
def tables():
    tables = HostTables()
    lib.oa_host_use_process(tables.handle, os.getpid(), lib.OA_HOST_REACH_ALL)
    return tables


def test_it_is_found_by_its_file_wherever_it_is_mapped(tables):
    loaded = own_interpreter()
    key, value = describe(loaded)
    tables.update(lib.OA_HOST_PYTHON_FILES, key, value)

    found = lib.oa_host_find_interpreter(tables.handle, segments())

    runtime = ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime"))
    elf_addr = struct.unpack_from("=Q", value)[0] - loaded.interpreter.build.runtime
    assert found == runtime + elf_addr


@pytest.mark.parametrize("word", [0, 8])
def test_another_file_is_not_taken_for_it(tables, word):
    key, value = map(bytearray, describe(own_interpreter()))
    key[word] ^= 1
    tables.update(lib.OA_HOST_PYTHON_FILES, bytes(key), bytes(value))

    assert lib.oa_host_find_interpreter(tables.handle, segments()) == 0


@pytest.mark.parametrize("addr", [0, 8, 1 << 46, (1 << 64) - 8])
def test_headers_that_are_not_there_lead_nowhere(tables, addr):
    assert lib.oa_host_find_interpreter(tables.handle, addr) == 0
