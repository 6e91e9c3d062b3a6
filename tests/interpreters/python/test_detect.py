# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A file is recognised as CPython by its symbols; lies are errors of the file, not of the agent."""

import random
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from otelagent.errors import TargetError, UnsupportedRuntime
from otelagent.formats.elf import EM_AARCH64, EM_X86_64, BytesSource, ElfFile
from otelagent.interpreters.python import detect
from otelagent.interpreters.python.eval_loop import FUNCTION
from tests.interpreters.python.test_eval_loop import MAIN, FakeElf


class FakePython(FakeElf):
    """A file with the symbols of CPython and what is read behind them."""

    def __init__(self, symbols, soname="", rodata=b"", machine=EM_X86_64):
        super().__init__([(MAIN, b"\xc3", 64)], machine)
        self.symbols = {FUNCTION: MAIN, **symbols}
        self.soname = soname
        self.rodata = rodata

    def find_symbols(self, *names):
        found = {name: self.symbols[name] for name in names if name in self.symbols}
        return {name: SimpleNamespace(value=value, size=64) for name, value in found.items()}

    def section(self, name):
        return SimpleNamespace(size=len(self.rodata)) if name == ".rodata" else None

    def section_data(self, section):
        return self.rodata

    def put(self, addr, data):
        self.memory[addr : addr + len(data)] = data
        return self


def with_version(number):
    elf = FakePython({"_PyRuntime": 0x5000, "Py_Version": 0x6000})
    return elf.put(0x6000, struct.pack("<Q", number))


def test_version_is_read_where_it_is_exported():
    build = detect(with_version(0x030D05F0))

    assert (build.minor, build.runtime, build.eval_loop) == (13, 0x5000, ((MAIN, MAIN + 64),))


@pytest.mark.parametrize("number", [0x031000F0, 0x030500F0, 0x02070000, 0, (1 << 64) - 1])
def test_unknown_version_is_refused(number):
    with pytest.raises(UnsupportedRuntime):
        detect(with_version(number))


def test_version_of_a_library_is_in_its_name():
    elf = FakePython({"_PyRuntime": 0x5000}, soname="libpython3.7m.so.1.0")

    assert detect(elf).minor == 7


def test_version_of_a_program_is_in_its_paths():
    elf = FakePython({"_PyRuntime": 0x5000}, rodata=b"x\0lib/python3.9\0python3.9\0python39.zip\0")

    assert detect(elf).minor == 9


def test_paths_that_disagree_are_no_version():
    elf = FakePython({"_PyRuntime": 0x5000}, rodata=b"python3.9\0python3.8\0")

    with pytest.raises(UnsupportedRuntime):
        detect(elf)


def test_free_threaded_build_is_refused():
    elf = with_version(0x030D00F0)
    elf.soname = "libpython3.13t.so.1.0"

    with pytest.raises(UnsupportedRuntime, match="free-threaded"):
        detect(elf)


@pytest.mark.parametrize("prefix", [b"", b"\xf3\x0f\x1e\xfa"])
def test_list_of_interpreters_of_3_6_is_behind_a_function(prefix):
    elf = FakePython({"PyInterpreterState_Head": 0x4000}, soname="libpython3.6m.so.1.0")
    elf.put(0x4000, prefix + b"\x48\x8b\x05" + struct.pack("<i", 0x1000) + b"\xc3")

    assert detect(elf).runtime == 0x4000 + len(prefix) + 7 + 0x1000


def test_current_state_of_3_6_is_a_variable():
    symbols = {"PyInterpreterState_Head": 0x4000, "_PyThreadState_Current": 0x9000}
    elf = FakePython(symbols, soname="libpython3.6m.so.1.0")
    elf.put(0x4000, b"\x48\x8b\x05" + struct.pack("<i", 0x1000) + b"\xc3")

    assert detect(elf).current == 0x9000


def test_list_of_interpreters_that_is_not_found_is_a_reason():
    symbols = {"PyInterpreterState_Head": 0x4000}
    elf = FakePython(symbols, soname="libpython3.6m.so.1.0", machine=EM_AARCH64)

    with pytest.raises(UnsupportedRuntime, match=r"3\.6"):
        detect(elf)


def test_file_without_the_function_is_none():
    elf = FakePython({})
    del elf.symbols[FUNCTION]

    assert detect(elf) is None


def test_damaged_file_is_an_error_of_the_file():
    """This CPython's own file, with bytes changed where headers and tables are."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    paths = {line.split(maxsplit=5)[-1] for line in maps if "libpython3" in line}
    whole = Path(paths.pop() if paths else sys.executable).read_bytes()
    chance = random.Random(1)
    for _ in range(25):
        data = bytearray(whole)
        for _ in range(40):
            data[chance.randrange(64 if chance.random() < 0.1 else 100_000)] = chance.randrange(256)
        try:
            found = detect(ElfFile(BytesSource(bytes(data))))
        except TargetError as err:
            assert str(err)  # noqa: PT017 (either is right, nothing else is)
        else:
            assert found is None or found.eval_loop
