# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Call frame information read from a file piece by piece gives the rows of the whole section."""

import os
import struct

import pytest

from otelagent.formats.elf import ElfFile
from otelagent.host.files import open_file
from otelagent.unwind.extract import extract
from tests.builders.cfi import CODE, FRAMES, cie, entry, make_elf

CIES = 600  # more than are remembered
FUNCTIONS = 6000


def function(out, cie_at, start, size, program):
    """An entry to be put at the end of `out`."""
    id_at = len(out) + 4
    return entry(
        struct.pack("<Iii", id_at - cie_at, start - (FRAMES + id_at + 4), size) + b"\0" + program
    )


def large_section():
    """200 KiB: every function has another CIE than the one before, most of them far away."""
    out, at = b"", []
    for number in range(CIES):
        at.append(len(out))
        out += cie(b"\x0c\x07" + bytes([8 + number % 100]) + b"\x90\x01")
    pieces = bytearray(out)
    for number in range(FUNCTIONS):
        pieces += function(pieces, at[number % CIES], CODE + number, 1, b"")
    return bytes(pieces) + bytes(4)


@pytest.fixture
def saved(tmp_path):
    """Write a file of this section; gives (in memory, opened)."""

    def save(section):
        elf = make_elf(section)
        path = tmp_path / "file"
        path.write_bytes(elf.source.read_at(0, elf.source.size))
        return elf, ElfFile(open_file(str(path)))

    return save


def test_entries_that_are_cut_by_a_piece_and_far_cies(saved):
    in_memory, opened = map(extract, saved(large_section()))

    assert opened == in_memory
    assert opened.sources[0] == f".eh_frame: {FUNCTIONS} functions"
    offsets = [opened.rule(opened.find(CODE + n)).cfa_offset for n in (0, 99, 100, 5999)]
    assert offsets == [8, 107, 8, 107]


def test_entry_that_is_longer_than_a_piece(saved):
    section = cie()
    section += function(section, 0, CODE, 0x100, bytes(200_000) + b"\x44\x0e\x20")
    section += function(section, 0, CODE + 0x100, 0x100, b"\x44\x0e\x30")

    in_memory, opened = map(extract, saved(section))

    assert opened == in_memory
    assert [opened.rule(opened.find(CODE + at)).cfa_offset for at in (0, 4, 0x104)] == [8, 32, 48]


@pytest.mark.parametrize("length", [0x7FFF_FFFF, 0xFFFF_FFF0])
def test_entry_beyond_the_end_is_damage_in_both(saved, length):
    section = large_section()[:-4] + struct.pack("<I", length) + bytes(64)

    in_memory, opened = map(extract, saved(section))

    assert opened == in_memory
    assert "damaged at offset" in opened.sources[0]


def test_file_that_shrinks_meanwhile_is_told(saved):
    _, opened = saved(large_section())
    assert opened.sections  # read before
    os.truncate(f"/proc/self/fd/{opened.source.fd}", FRAMES + 100_000)

    table = extract(opened)

    assert any("cut while it was read" in line for line in table.sources)
