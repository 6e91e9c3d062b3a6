# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Raw frames are named from memory, or carry the reason why not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelagent.interpreters.python import frames as module
from otelagent.interpreters.python.frames import (
    MAX_TEXT_CHARS,
    PythonFrames,
    RawFrame,
    code_check,
    source_file_id,
)
from otelagent.interpreters.python.layout import TABLE
from tests.interpreters.python.fakes import FakeMemory, bytes_object, code_object, text_object

CODE, NAME, FILE, LINES = 0x1000, 0x2000, 0x3_0000, 0x4000
TABLES = {
    9: bytes((4, 1, 2, 2)),  # offset 4: line + 1, offset 6: line + 3
    10: bytes((4, 0, 2, 1, 2, 2)),
    12: bytes((0x80 | 1, 0, 0x80 | 11 << 3, 0, 0, 0x80 | 12 << 3, 0, 0)),
}


def build(minor=12, name="outer.<locals>.inner", file="/a.py", **changed):
    layout = TABLE[minor]
    memory = FakeMemory(
        {
            NAME: changed.get("name_object", text_object(layout, name)),
            FILE: text_object(layout, file),
            LINES: changed.get("lines_object", bytes_object(TABLES[minor])),
        }
    )
    pointers = {"name": NAME, "filename": FILE, "table": changed.get("table", LINES)}
    memory.put(CODE, code_object(layout, **pointers, first_line=70))
    return layout, memory


def raw(layout, memory, lasti=0):
    check = code_check(layout, memory.read(CODE + layout.code_block, 32))
    return RawFrame(CODE, check, lasti).encode()


@pytest.mark.parametrize("minor", TABLES)
def test_name_file_and_line_by_version(minor):
    """The unit of 3.10's offset is the instruction, of all others the byte."""
    layout, memory = build(minor)
    lasti = 4 if layout.lasti_scale == 1 else 2

    frame = PythonFrames(layout, memory).name(*raw(layout, memory, lasti))

    (line,) = frame.lines
    assert (line.function.name, line.function.file) == ("outer.<locals>.inner", "/a.py")
    assert (line.function.start_line, line.line) == (70, 71)


@pytest.mark.parametrize("name", ["f", "grüß", "αβγ", "\U0001f40d", ""])
@pytest.mark.parametrize("minor", [9, 12])
def test_names_of_every_width(minor, name):
    layout, memory = build(minor, name=name)

    frame = PythonFrames(layout, memory).name(*raw(layout, memory))

    assert frame.lines[0].function.name == name


def test_another_object_at_the_same_address_is_not_named():
    layout, memory = build()
    words = raw(layout, memory)
    pointers = {"name": NAME, "filename": FILE, "table": LINES}
    memory.put(CODE, code_object(layout, **pointers, first_line=71))

    frame = PythonFrames(layout, memory).name(*words)

    assert (frame.lines, frame.reason) == ((), "the code object was replaced by another")


def test_freed_object_has_a_reason_and_is_tried_again():
    layout, memory = build()
    words = raw(layout, memory)
    namer = PythonFrames(layout, memory)
    code = memory.pieces.pop(CODE)

    assert namer.name(*words).reason == "the code object is no longer in memory"
    memory.put(CODE, code)
    assert namer.name(*words).lines


def test_known_object_is_not_read_again():
    layout, memory = build()
    namer = PythonFrames(layout, memory)
    words = raw(layout, memory)
    namer.name(*words)
    before = memory.reads

    assert namer.name(*raw(layout, memory, 2)).lines
    assert memory.reads == before + 1  # raw() itself


def test_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_CODE_OBJECTS", 3)
    layout, memory = build()
    namer = PythonFrames(layout, memory)
    for at in range(10):
        addr = memory.put(0x10_0000 + at * 0x1000, memory.pieces[CODE])
        check = code_check(layout, memory.read(addr + layout.code_block, 32))
        assert namer.name(*RawFrame(addr, check, 0).encode()).lines

    assert len(namer._codes._kept) == 3


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"name_object": b"\xff" * 64}, "no readable name"),
        ({"lines_object": bytes_object(b"", size=1 << 62)}, "line table could not be read"),
        ({"lines_object": bytes_object(b"", size=-1)}, "line table could not be read"),
        ({"table": 0xDEAD0000}, "line table could not be read"),
    ],
)
def test_hostile_objects_have_a_reason(changed, reason):
    layout, memory = build(**changed)

    frame = PythonFrames(layout, memory).name(*raw(layout, memory))

    assert reason in frame.reason


def test_endless_name_is_cut():
    layout, _ = build()
    name = text_object(layout, "x" * 5000, length=1 << 40)
    _, memory = build(name_object=name)

    frame = PythonFrames(layout, memory).name(*raw(layout, memory))

    assert frame.lines[0].function.name == "x" * MAX_TEXT_CHARS


def test_object_that_points_to_itself_ends():
    """A code object whose strings and table are the code object."""
    layout, memory = build()
    pointers = {"name": CODE, "filename": CODE, "table": CODE}
    memory.put(CODE, code_object(layout, **pointers, first_line=70))

    frame = PythonFrames(layout, memory).name(*raw(layout, memory))

    assert frame.reason


@given(st.integers(0, (1 << 48) - 1), st.integers(0, (1 << 32) - 1), st.integers(-1, (1 << 31) - 1))
def test_raw_frame_comes_back(code, check, lasti):
    frame = RawFrame(code, check, lasti)

    assert RawFrame.decode(*frame.encode()) == frame


@given(st.binary(min_size=600, max_size=600), st.integers(0, 50))
def test_any_memory_gives_a_frame(data, lasti):
    layout = TABLE[12]
    memory = FakeMemory({0: data * 4, CODE: data})
    check = code_check(layout, memory.read(CODE + layout.code_block, 32))

    frame = PythonFrames(layout, memory).name(*RawFrame(CODE, check, lasti).encode())

    assert frame.lines or frame.reason


def test_file_id_of_a_source_is_stable_and_its_own():
    assert source_file_id("/a.py").hex() == "efe2c82c8c95a443fa6787fa6fef09ce"
    assert len(source_file_id("/a.py")) == 16
    assert source_file_id("/a.py") != source_file_id("/b.py")


def test_code_object_that_was_read_ahead_may_go():
    layout, memory = build()
    words = raw(layout, memory)
    block = memory.read(CODE + layout.code_block, 32)
    frames = PythonFrames(layout, memory)

    frames.read_ahead(CODE, block)
    memory.put(CODE, bytes(256))

    assert frames.name(*words).lines[0].function.name == "outer.<locals>.inner"
    assert not PythonFrames(layout, memory).name(*words).lines
