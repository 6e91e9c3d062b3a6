# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Fields in BTF that is written by hand: anonymous members, bit fields, circles."""

import struct

import pytest

from otelagent.bpf import btf
from otelagent.bpf.btf import Btf
from otelagent.errors import MissingFeature

INT, STRUCT, UNION, TYPEDEF, CONST = 1, 4, 5, 8, 10


class BtfFile:
    """Type sections as in Documentation/bpf/btf.rst."""

    def __init__(self):
        self.types = b""
        self.strings = b"\0"

    def name(self, text):
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text) - 1

    def integer(self, size=4):
        self.types += struct.pack("=IIII", self.name("int"), INT << 24, size, size * 8)

    def refer(self, kind, target, name=""):
        self.types += struct.pack("=III", self.name(name), kind << 24, target)

    def composite(self, name, members, kind=STRUCT, size=64):
        flag = 1 << 31 if any(bits for *_, bits in members) else 0
        info = flag | kind << 24 | len(members)
        self.types += struct.pack("=III", self.name(name), info, size)
        for field, target, offset, bits in members:
            self.types += struct.pack("=III", self.name(field), target, bits << 24 | offset)

    def open(self, tmp_path):
        sizes = (0, len(self.types), len(self.types), len(self.strings))
        head = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, *sizes)
        path = tmp_path / "btf"
        path.write_bytes(head + self.types + self.strings)
        return Btf.open(path)


def test_members_of_anonymous_structs_and_unions_are_found(tmp_path):
    file = BtfFile()
    file.integer()
    file.composite("", [("deep", 1, 32, 0)])
    file.composite("", [("other", 1, 0, 0), ("", 2, 0, 0)], kind=UNION)
    file.refer(CONST, 3)
    file.composite("task", [("first", 1, 0, 0), ("", 4, 128, 0), ("firstly", 1, 256, 0)])

    with file.open(tmp_path) as btf:
        assert btf.offset("task", "deep") == 20
        assert btf.offset("task", "other") == 16
        assert btf.offset("task", "firstly") == 32
        assert btf.offset("task", "fir") is None


def test_a_bit_field_has_no_byte_offset(tmp_path):
    file = BtfFile()
    file.integer()
    file.composite("task", [("flag", 1, 3, 1)])

    with file.open(tmp_path) as btf, pytest.raises(MissingFeature, match="flag"):
        btf.offset("task", "flag")


def test_types_that_contain_themselves_end(tmp_path):
    file = BtfFile()
    file.composite("task", [("", 1, 0, 0)] * 50)

    with file.open(tmp_path) as btf, pytest.raises(MissingFeature):
        btf.offset("task", "x")


def test_known_places_are_looked_at_by_the_running_release(tmp_path, monkeypatch):
    monkeypatch.setattr(btf, "VMLINUX", tmp_path / "own")
    monkeypatch.setattr(btf, "_PLACES", (f"{tmp_path}/boot-{{0}}", f"{tmp_path}/debug/{{0}}"))
    assert btf.find_btf_files("6.1-x") == []
    assert not btf.btf_available()

    (tmp_path / "boot-6.1-x").write_text("not BTF")
    (tmp_path / "boot-6.1-y").touch()
    (tmp_path / "own").touch()

    assert btf.find_btf_files("6.1-x") == [tmp_path / "own", tmp_path / "boot-6.1-x"]
    assert not btf.btf_available()
