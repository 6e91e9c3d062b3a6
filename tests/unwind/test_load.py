# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import os
import signal
import sys

import pytest

from otelagent.errors import BadElf
from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.host.files import open_file
from otelagent.unwind import load
from otelagent.unwind.cache import RowCache
from otelagent.unwind.extract import extract
from otelagent.unwind.load import load_rows, rows_key


@pytest.fixture
def cache(tmp_path):
    return RowCache(tmp_path / "cache")


@pytest.fixture
def binary():
    with open_file("/bin/ls") as source:
        yield source, ElfFile(source)


def test_child_gives_what_extract_gives_and_fills_the_cache(binary, cache, monkeypatch):
    source, elf = binary
    table = load_rows(source, elf, cache)
    assert table == extract(elf)

    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked though cached"))
    assert load_rows(source, elf, cache) == table


def test_works_without_a_cache(binary):
    assert load_rows(*binary, None).row_count > 100


def test_crash_of_the_parser_is_an_error_of_that_file(binary, cache, monkeypatch):
    def crash(elf):
        os.kill(os.getpid(), signal.SIGSEGV)

    monkeypatch.setattr(load, "extract_both", crash)

    with pytest.raises(BadElf, match="signal 11"):
        load_rows(*binary, cache)


def test_hanging_parser_is_ended(binary, cache, monkeypatch):
    monkeypatch.setattr(load, "extract_both", lambda elf: signal.pause())
    monkeypatch.setattr(load, "TIMEOUT_SECONDS", 0.1)

    with pytest.raises(BadElf, match="signal 9"):
        load_rows(*binary, cache)


def test_refusal_comes_back_in_words(binary, cache, monkeypatch):
    def refuse(elf):
        raise BadElf("a reason")

    monkeypatch.setattr(load, "extract_both", refuse)

    with pytest.raises(BadElf, match="a reason"):
        load_rows(*binary, cache)


def test_memory_hunger_is_limited(binary, cache, monkeypatch):
    monkeypatch.setattr(load, "extract_both", lambda elf: bytes(3 << 30))

    with pytest.raises(BadElf, match="failed"):
        load_rows(*binary, cache)


def test_key_tells_files_with_equal_file_id_apart():
    """Head, tail, size and build id are equal; the frame information is not."""
    with open_file(sys.executable) as source:
        data = bytearray(source.read_at(0, source.size))
    section = ElfFile(BytesSource(bytes(data))).section(".eh_frame")
    keys = []
    for _ in range(2):
        source = BytesSource(bytes(data))
        keys.append(rows_key(source, ElfFile(source)))
        data[section.offset + section.size // 2] ^= 1

    assert keys[0] != keys[1]
