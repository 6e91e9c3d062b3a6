# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Packed sections, also such as lie about themselves."""

import struct
import zlib

import pytest
import zstandard

from otelagent.errors import BadElf
from otelagent.formats.elf_sections import unpack_section

PLAIN = bytes(range(256)) * 100
PACKERS = [(1, zlib.compress), (2, zstandard.compress)]
MOST = 1 << 20


def packed(kind, size, data):
    return struct.pack("<IIQQ", kind, 0, size, 1) + data


@pytest.mark.parametrize(("kind", "pack"), PACKERS)
def test_a_packed_section_is_what_it_was(kind, pack):
    assert unpack_section(".x", packed(kind, len(PLAIN), pack(PLAIN)), MOST) == PLAIN


@pytest.mark.parametrize(("kind", "pack"), PACKERS)
@pytest.mark.parametrize("size", [0, 10])
def test_no_more_is_unpacked_than_the_section_claims(kind, pack, size):
    bomb = pack(bytes(100 << 20))

    assert unpack_section(".x", packed(kind, size, bomb), MOST) == bytes(size)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        packed(1, len(PLAIN), b"no zlib"),
        packed(2, len(PLAIN), b"no zstd"),
        packed(3, len(PLAIN), zlib.compress(PLAIN)),
        packed(1, MOST + 1, zlib.compress(PLAIN)),
    ],
)
def test_what_cannot_be_unpacked_is_an_error(data):
    with pytest.raises(BadElf):
        unpack_section(".x", data, MOST)
