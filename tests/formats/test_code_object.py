# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Line tables agree with what the running CPython says of its own code objects."""

import sysconfig
import types
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelagent.formats.code_object import (
    ITERATORS,
    NO_LINE,
    LineTable,
    find_line,
    iter_lnotab,
    iter_locations,
    iter_ranges,
)

MODULES = ("typing", "inspect", "argparse", "dataclasses", "tarfile", "enum", "decimal", "ast")


def iter_codes(code):
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from iter_codes(const)


@pytest.fixture(scope="module")
def codes():
    """Every code object of some modules of the standard library, and some odd ones."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    sources = [(stdlib / f"{name}.py").read_text() for name in MODULES]
    sources.append("\n" * 70_000 + "def f(\n\n\n  a=1):\n  return (a +\n\n  b\n  )\n")
    sources.append("x = [" + ",".join("f(1)" for _ in range(3000)) + "]")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [code for source in sources for code in iter_codes(compile(source, "x", "exec"))]


def expand(ranges, size):
    """Lay ranges out as one line per two-byte instruction."""
    lines = {}
    for start, end, line in ranges:
        for offset in range(start, min(end, size), 2):
            lines[offset] = line
    return lines


def test_locations_equal_co_lines(codes):
    assert len(codes) > 1000

    for code in codes:
        ours = expand(iter_locations(code.co_linetable, code.co_firstlineno), len(code.co_code))
        theirs = ((start, end, line or NO_LINE) for start, end, line in code.co_lines())

        assert ours == expand(theirs, len(code.co_code))


def test_find_line_picks_the_instruction(codes):
    for code in codes[:200]:
        lines = expand(((a, b, line or 0) for a, b, line in code.co_lines()), len(code.co_code))
        for offset, line in lines.items():
            found = find_line(LineTable.LOCATIONS, code.co_linetable, code.co_firstlineno, offset)
            assert found == line


def test_lnotab_gives_the_lines_that_python_made_it_from(codes):
    """CPython still computes `co_lnotab`, in the format of 3.6 to 3.9, where lines exist."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for code in codes[:800]:
            lines = [line for _, _, line in code.co_lines() if line is not None]
            if None in {line for _, _, line in code.co_lines()} or not lines:
                continue  # it has no way to say "no line"
            ours = expand(iter_lnotab(code.co_lnotab, code.co_firstlineno), len(code.co_code))
            assert ours == expand(code.co_lines(), len(code.co_code))


def encode_ranges(ranges, first_line):
    """Write 3.10's `co_linetable` as Objects/lnotab_notes.txt (3.10) describes it."""
    table, line = bytearray(), first_line
    for start, end, target in ranges:
        size = end - start
        if target == NO_LINE:
            steps = [(size, 128)]
        else:
            delta, line = target - line, target
            steps = []
            while abs(delta) > 127:
                part = 127 if delta > 0 else -127
                steps.append((0, part & 255))
                delta -= part
            steps.append((size, delta & 255))
        last, delta = steps.pop()
        first = min(last, 254)
        pieces = [*steps, (first, delta)]
        more = 128 if target == NO_LINE else 0
        pieces.extend((min(254, last - at), more) for at in range(first, last, 254))
        table += b"".join(bytes(piece) for piece in pieces)
    return bytes(table)


def test_ranges_come_back(codes):
    for code in codes[:800]:
        ranges = [(start, end, line or NO_LINE) for start, end, line in code.co_lines()]

        table = encode_ranges(ranges, code.co_firstlineno)

        assert expand(iter_ranges(table, code.co_firstlineno), len(code.co_code)) == expand(
            ranges, len(code.co_code)
        )


def test_frame_that_has_not_begun_has_the_first_line():
    assert find_line(LineTable.LNOTAB, b"\x02\x01", 7, -1) == 7


def test_offset_behind_the_table_has_no_line():
    assert find_line(LineTable.LOCATIONS, b"\x80\x00", 7, 400) == NO_LINE
    assert find_line(LineTable.RANGES, b"\x02\x01", 7, 400) == NO_LINE


@given(st.sampled_from(LineTable), st.binary(max_size=300), st.integers(0, 1 << 31), st.integers())
def test_any_bytes_are_safe(kind, table, first_line, offset):
    """Tables come from another process's memory: garbage ends, with lines that are numbers."""
    ranges = list(ITERATORS[kind](table, first_line))

    assert len(ranges) <= len(table) + 1
    assert all(start <= end for start, end, _ in ranges)
    assert find_line(kind, table, first_line, offset) < 1 << 31 or offset < 0
