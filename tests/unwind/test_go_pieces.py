# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A Go table that is read from a file piece by piece gives the rows of the whole table."""

import struct

import pytest

from otelagent.formats.elf import ElfFile
from otelagent.host.files import open_file
from otelagent.unwind.extract import extract
from tests.builders.pclntab import GoFunction, build_pclntab

CODE, CODE_BYTES, TABLE = 0x1000, 1 << 20, 0x2000
FUNCTIONS = 6000
LONG = 3000  # changes of the depth in one function: several times what is looked at first


def depths_of(number):
    """Every third function repeats an earlier one, near or far away."""
    if number % 3 == 2:
        number //= 2
    return ((0, 4), (8 * (number % 500 + 1), 40 + number // 500), (0, 8))


def many_functions():
    """Go functions one behind the other, one of them with a very long table."""
    functions, at = [], CODE
    for number in range(FUNCTIONS):
        depths = depths_of(number)
        if number == FUNCTIONS // 2:
            depths = tuple((8 * (n % 7), 1 + n % 3) for n in range(LONG))
        functions.append(GoFunction(f"main.f{number}", at, depths))
        at += sum(size for _, size in depths)
    return functions


def elf_bytes(table):
    """A file with code at 0x1000 and the table behind its header."""
    names = b"\0.gopclntab\0.shstrtab\0"
    sections_at = TABLE + len(table) + len(names)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\x02\x01\x01" + bytes(9), 2, 62, 1, 0, 64),
        *(sections_at, 0, 64, 56, 1, 64, 3, 2),
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, CODE, CODE, 0, CODE_BYTES, CODE_BYTES, 0x1000)
    rows = [
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (1, 1, 2, 0x800000, TABLE, len(table), 0, 0, 16, 0),
        (12, 3, 0, 0, TABLE + len(table), len(names), 0, 0, 1, 0),
    ]
    data = (header + load).ljust(TABLE, b"\0") + table + names
    return data + b"".join(struct.pack("<IIQQQQIIQQ", *row) for row in rows)


class InMemory:
    """A source without a descriptor."""

    def __init__(self, data):
        self.data, self.size = data, len(data)

    def read_at(self, offset, size):
        return self.data[offset : offset + size]


@pytest.mark.parametrize("version", ["1.16", "1.18", "1.20"])
def test_pieces_and_repeated_depths(tmp_path, version):
    functions = many_functions()
    data = elf_bytes(build_pclntab(functions, version=version))
    (tmp_path / "go").write_bytes(data)

    with open_file(str(tmp_path / "go")) as source:
        opened = extract(ElfFile(source))

    assert opened == extract(ElfFile(InMemory(data)))
    for function in functions:
        at = function.entry
        for depth, size in function.depths:
            for addr in (at, at + size - 1):
                assert opened.rule(opened.find(addr)).cfa_offset == depth + 8, function.name
            at += size


def test_table_that_is_cut_while_it_is_read_is_left_out(tmp_path):
    path = tmp_path / "go"
    path.write_bytes(elf_bytes(build_pclntab(many_functions())))

    with open_file(str(path)) as source:
        elf = ElfFile(source)
        assert elf.section(".gopclntab") is not None  # the headers were read
        with path.open("r+b") as file:
            file.truncate(TABLE + 100_000)
        table = extract(elf)

    assert any("cut while it was read" in line for line in table.sources)
