# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""BPF's search for a process's interpreter, in this very process."""

import ctypes
import os
import struct
from pathlib import Path

import pytest

from otelagent._native import ffi, lib
from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.interpreters import registry
from otelagent.processes.python_files import describe
from otelagent.unwind.host import HostTables
from tests.processes.fakes import named

AT_PHDR, AT_BASE = 3, 7
HEADER_BYTES = 64
VALUE_BYTES = ffi.sizeof("struct oa_python_proc")


def own_files(part):
    """The files with code of this process that have this in their names."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    names = {line.split(maxsplit=5)[5] for line in lines if " r-xp " in line and "/" in line}
    return [ElfFile(BytesSource(Path(name).read_bytes())) for name in names if part in name]


def own_interpreter():
    """The file that this process has its CPython from, as one that was loaded."""
    for elf in own_files("python3"):
        if found := registry.detect(elf):
            return named(elf, found)
    raise AssertionError("no interpreter among the files of this process")


def own_runtime():
    return ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime"))


def told(entry):
    """What the kernel told this program at its start."""
    return dict(struct.iter_unpack("=QQ", Path("/proc/self/auxv").read_bytes()))[entry]


@pytest.fixture
def tables():
    tables = HostTables()
    lib.oa_host_use_process(tables.handle, os.getpid(), lib.OA_HOST_REACH_ALL)
    return tables


def test_it_is_found_by_its_file_wherever_it_is_mapped(tables):
    loaded = own_interpreter()
    key, value = describe(loaded, VALUE_BYTES)
    tables.update(lib.OA_HOST_PYTHON_FILES, key, value)

    found = lib.oa_host_find_interpreter(tables.handle, told(AT_PHDR))

    offset = struct.unpack_from("=Q", value)[0] - loaded.interpreter.build.runtime
    assert found == own_runtime() + offset


def test_it_is_found_where_the_dynamic_linker_was_run_as_the_program(tables):
    """The headers are the linker's then, and name no list; the linker itself is known."""
    [linker] = own_files("/ld-linux")
    linkers_own = told(AT_BASE) + HEADER_BYTES
    tables.update(lib.OA_HOST_PYTHON_FILES, *describe(own_interpreter(), VALUE_BYTES))
    assert lib.oa_host_find_interpreter(tables.handle, linkers_own) == 0

    tables.update(lib.OA_HOST_PYTHON_FILES, *describe(named(linker, None), VALUE_BYTES))

    assert abs(lib.oa_host_find_interpreter(tables.handle, linkers_own) - own_runtime()) < 1 << 16
    normal = lib.oa_host_find_interpreter(tables.handle, told(AT_PHDR))
    assert normal == lib.oa_host_find_interpreter(tables.handle, linkers_own)


@pytest.mark.parametrize("word", [0, 8])
def test_another_file_is_not_taken_for_it(tables, word):
    key, value = map(bytearray, describe(own_interpreter(), VALUE_BYTES))
    key[word] ^= 1
    tables.update(lib.OA_HOST_PYTHON_FILES, bytes(key), bytes(value))

    assert lib.oa_host_find_interpreter(tables.handle, told(AT_PHDR)) == 0


@pytest.mark.parametrize("addr", [0, 8, 1 << 46, (1 << 64) - 8])
def test_headers_that_are_not_there_lead_nowhere(tables, addr):
    assert lib.oa_host_find_interpreter(tables.handle, addr) == 0
