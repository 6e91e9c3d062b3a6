# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Field offsets: by table up to 3.12, from `_Py_DebugOffsets` after that, else a reason."""

import struct

import pytest

from otelagent.abi._generated import PythonKind
from otelagent.errors import UnsupportedRuntime
from otelagent.interpreters.python.layout import (
    NEWEST,
    OLDEST,
    TABLE,
    debug_offset_names,
    find_layout,
    parse_debug_offsets,
    read_layout,
)
from tests.interpreters.python.fakes import FakeMemory

RUNTIME = 0x7000_0000


# Of Debian's 3.14: what must fit into the pieces that BPF copies.
REAL = {
    "frame.previous": 8,
    "frame.code": 0,
    "frame.instr": 56,
    "frame.owner": 74,
    "code.argcount": 52,
    "code.firstlineno": 68,
}


def debug_offsets(minor, version=None, free_threaded=0, cookie=b"xdebugpy", **changed):
    """Write the start of `_PyRuntime`: each word is 8 times its place, if not changed."""
    names = debug_offset_names(minor)
    changed = {**REAL, **changed}
    words = [changed.get(name, 8 * (at + 4)) for at, name in enumerate(names)]
    version = version if version is not None else (0x300 + minor) << 16 | 0x02F0
    return struct.pack(f"<8sQQ{len(names)}Q", cookie, version, free_threaded, *words)


@pytest.mark.parametrize("minor", range(OLDEST, NEWEST + 1))
def test_every_version_has_a_layout(minor):
    data = debug_offsets(minor) if minor >= 13 else b"\0" * 8

    layout = read_layout(minor, RUNTIME, FakeMemory({RUNTIME: data}))

    assert layout.minor == minor
    in_block = (layout.code_argcount, layout.code_kwonly, layout.code_flags)
    for field in (*in_block, layout.code_firstlineno):
        assert 0 <= field - layout.code_block <= 28, "BPF reads them in one block"


@pytest.mark.parametrize("minor", TABLE)
def test_frames_fit_what_bpf_copies(minor):
    layout = TABLE[minor]
    copied = 128 if layout.kind == PythonKind.PY_OBJECT else 80

    words = (layout.frame_previous, layout.frame_code)
    assert all(word % 8 == 0 and word + 8 <= copied for word in words)
    assert layout.frame_instr + 4 <= copied
    assert max(layout.frame_owner, layout.frame_entry) < copied


@pytest.mark.parametrize(("minor", "words"), [(13, 41), (14, 47), (15, 55)])
def test_offsets_are_read_in_the_order_of_the_version(minor, words):
    """3.14 and 3.15 put new words between the old ones."""
    names = debug_offset_names(minor)
    assert len(names) == words

    layout = parse_debug_offsets(debug_offsets(minor), minor)

    assert layout.thread_frame == 8 * (names.index("thread.frame") + 4)
    assert layout.code_lines == 8 * (names.index("code.lines") + 4)
    assert layout.frame_owner == layout.frame_entry == 74
    assert layout.code_instructions == 8 * (names.index("code.instructions") + 4)
    assert layout.code_first_traceable == layout.code_instructions - 16


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (debug_offsets(13, cookie=b"xdebugpx"), "without debug offsets"),
        (debug_offsets(13, version=0x030E00F0), "0x30e00f0"),
        (debug_offsets(13, free_threaded=1), "free-threaded"),
        (debug_offsets(13, **{"thread.frame": 1 << 40}), "absurd"),
        (debug_offsets(13, **{"frame.instr": 80}), "absurd"),
        (debug_offsets(13, **{"code.firstlineno": 84}), "absurd"),
    ],
)
def test_what_is_not_supported_says_why(data, reason):
    with pytest.raises(UnsupportedRuntime, match=reason):
        parse_debug_offsets(data, 13)


@pytest.mark.parametrize("minor", [OLDEST - 1, NEWEST + 1])
def test_unknown_version_is_refused(minor):
    with pytest.raises(UnsupportedRuntime, match=f"3.{minor} is not known"):
        read_layout(minor, RUNTIME, FakeMemory({}))


@pytest.mark.parametrize("minor", [11, 13, 14, 15])
def test_layout_is_found_by_where_interpreters_are_listed(minor):
    data = debug_offsets(minor) if minor >= 13 else bytes(8)
    expected = read_layout(minor, RUNTIME, FakeMemory({RUNTIME: data}))
    memory = FakeMemory({RUNTIME - 4096: bytes(4096) + data + bytes(4096)})

    assert find_layout(minor, RUNTIME + expected.runtime_interpreters, memory) == expected
    if minor >= 13:
        with pytest.raises(UnsupportedRuntime):
            find_layout(minor, RUNTIME - 8, FakeMemory({RUNTIME - 8192: bytes(16384)}))
