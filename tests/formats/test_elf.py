# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from otelagent.errors import BadElf
from otelagent.formats.elf import BytesSource, ElfFile


def real_file() -> bytes:
    return Path(os.path.realpath(sys.executable)).read_bytes()


def test_headers_agree_with_pyelftools():
    data = real_file()
    with Path(os.path.realpath(sys.executable)).open("rb") as stream:
        oracle = ELFFile(stream)
        expected = [(s.name, s["sh_addr"], s["sh_size"]) for s in oracle.iter_sections()]
        segments = [(s["p_vaddr"], s["p_filesz"]) for s in oracle.iter_segments()]

    elf = ElfFile(BytesSource(data))

    assert expected == [(s.name, s.addr, s.size) for s in elf.sections]
    assert segments == [(s.vaddr, s.filesz) for s in elf.segments]


def test_symbol_is_found_by_its_exact_name():
    found = ElfFile(BytesSource(real_file())).find_symbols("main", "ain", "no_such_symbol")

    assert {"main"} >= set(found)


def test_symbols_are_found_where_another_reader_finds_them():
    defined = set()
    with Path(os.path.realpath(sys.executable)).open("rb") as stream:
        for section in ELFFile(stream).iter_sections():
            if section["sh_type"] in {"SHT_DYNSYM", "SHT_SYMTAB"}:
                symbols = [s for s in section.iter_symbols() if s["st_shndx"] != "SHN_UNDEF"]
                defined |= {(s.name, s["st_value"]) for s in symbols if s.name}
    names = sorted({name for name, _ in defined})[:: max(len(defined) // 50, 1)]

    found = ElfFile(BytesSource(real_file())).find_symbols(*names)

    assert found.keys() == set(names) != set()
    assert {(name, symbol.value) for name, symbol in found.items()} <= defined


def test_any_cut_of_the_headers_is_refused_or_empty():
    data = real_file()[:4096]
    for size in range(0, 4096, 7):
        try:
            elf = ElfFile(BytesSource(data[:size]))
            assert elf.sections == ()
            assert len(elf.segments) < 64
        except BadElf:
            continue


def test_32_bit_file_is_refused():
    with pytest.raises(BadElf):
        ElfFile(BytesSource(b"\x7fELF\x01\x01" + bytes(100)))


def test_big_endian_file_is_refused_and_says_so(tmp_path):
    data = bytearray(real_file())
    data[5] = 2

    with pytest.raises(BadElf, match="big-endian"):
        ElfFile(BytesSource(bytes(data)))

    (tmp_path / "big").write_bytes(data)
    command = [sys.executable, "-m", "otelagent", "elf", str(tmp_path / "big")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "only little-endian machines are supported" in done.stderr
    assert len(done.stderr.splitlines()) == 1
