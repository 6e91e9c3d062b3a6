# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelagent.errors import FormatError
from otelagent.formats.jitdump import JitDump, parse_header

HEADER = struct.pack("<IIIIIIQQ", 0x4A695444, 1, 40, 62, 0, 77, 5, 0)


def record(kind: int, body: bytes) -> bytes:
    return struct.pack("<IIQ", kind, 16 + len(body), 99) + body


def load(addr: int, code: bytes, name: bytes, index: int = 1) -> bytes:
    head = struct.pack("<IIQQQQ", 77, 77, addr, addr, len(code), index)
    return record(0, head + name + b"\0" + code)


def debug_info(addr: int, *entries: tuple[int, int, bytes]) -> bytes:
    body = b"".join(struct.pack("<QII", a, line, 0) + file + b"\0" for a, line, file in entries)
    return record(2, struct.pack("<QQ", addr, len(entries)) + body)


def move(old: int, new: int, size: int) -> bytes:
    return record(1, struct.pack("<IIQQQQQ", 77, 77, new, old, new, size, 1))


RECORDS = (
    debug_info(0x1000, (0x1000, 3, b"/a.js"), (0x1008, 4, b"\xff"))
    + load(0x1000, bytes(16), b"fast")
    + load(0x2000, bytes(32), b"plain", 2)
    + move(0x2000, 0x3000, 32)
)


def test_code_has_name_and_lines():
    dump = JitDump()

    assert dump.feed(RECORDS) == len(RECORDS)
    assert dump.find(0x1007) == ("fast", "/a.js", 3)
    assert dump.find(0x100F) == ("fast", "/a.js", 4)
    assert dump.find(0x1010) is None


def test_moved_code_is_found_where_it_went():
    dump = JitDump()
    dump.feed(RECORDS)

    assert dump.find(0x3010) == ("plain", "", 0)


def test_new_code_hides_what_was_there():
    dump = JitDump()
    dump.feed(RECORDS + load(0x1000, bytes(4), b"newer", 3))

    assert dump.find(0x1000) == ("newer", "", 0)


@pytest.mark.parametrize("cut", [1, 15, 17, 60])
def test_record_that_is_not_whole_waits(cut):
    dump = JitDump()
    used = dump.feed(RECORDS[:-cut])

    assert used <= len(RECORDS) - cut
    assert dump.feed(RECORDS[used:]) == len(RECORDS) - used
    assert dump.find(0x3000) == ("plain", "", 0)


@pytest.mark.parametrize("data", [b"", HEADER[:39], b"x" * 40, b"DTij" + HEADER[4:]])
def test_header_of_something_else_is_refused(data):
    with pytest.raises(FormatError):
        parse_header(data)


def test_header_gives_its_length():
    assert parse_header(HEADER + bytes(9)) == 40


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=300), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255))))
def test_any_bytes_are_read_or_refused(tail, changes):
    data = bytearray(RECORDS + tail)
    for at, value in changes:
        data[at % len(data)] = value
    dump = JitDump()
    with contextlib.suppress(FormatError):
        assert 0 <= dump.feed(bytes(data)) <= len(data)
    for addr in (0, 0x1000, 0x3001):
        dump.find(addr)
