# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where each CPython version keeps what is read of it; offsets in bytes.

3.6 to 3.12 from one table per minor version. They were taken from the debug
information of real builds (x86-64; the structs hold pointers, ints and sizes
only, so they are the same on arm64) and hold for every build of the version:
CPython does not change these structs within one. From 3.13 on `_PyRuntime`
begins with `_Py_DebugOffsets` (Include/internal/pycore_debug_offsets.h), which
gives most of them; `_RULES` has what it lacks.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from otelagent.abi._generated import PythonKind
from otelagent.errors import UnsupportedRuntime
from otelagent.formats.code_object import LineTable

if TYPE_CHECKING:
    from otelagent.protocols import Memory

OLDEST, NEWEST = 6, 15
"""Minor versions that are known."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets and rules of one CPython.

    Attributes:
        runtime_interpreters: In `_PyRuntime`: pointer to the newest interpreter (3.6: at 0).
        runtime_current: In `_PyRuntime`: pointer to the thread state that has the GIL (3.7 to
            3.11: `gilstate.tstate_current`; 3.6 has a variable of its own).
        thread_frame: Current frame of a thread state, or its `_PyCFrame`.
        frame_entry: Byte that is `entry_value` in the last frame of a run of the eval loop.
        entry_shown: That last one is Python code (3.11), not a marker on the C stack.
        code_block: Argument counts, flags and first line lie within 32 bytes from here.
        lasti_scale: Bytes per unit of a raw frame's instruction offset.
    """

    minor: int
    kind: PythonKind
    lines: LineTable
    runtime_interpreters: int
    interp_next: int
    interp_threads: int
    thread_next: int
    thread_id: int
    native_thread_id: int
    thread_frame: int
    frame_previous: int
    frame_code: int
    frame_instr: int
    code_block: int
    code_argcount: int
    code_kwonly: int
    code_flags: int
    code_firstlineno: int
    code_filename: int
    code_name: int
    code_lines: int
    runtime_current: int = 0
    code_qualname: int = 0
    code_first_traceable: int = 0
    code_instructions: int = 0
    cframe_frame: int = 0
    cframe_previous: int = 0
    frame_owner: int = 0
    frame_entry: int = 0
    entry_value: int = 0
    entry_shown: bool = False
    owner_generator: int = 1
    lasti_scale: int = 1
    ascii_bytes: int = 48
    compact_bytes: int = 72


_3_6 = Layout(
    minor=6,
    kind=PythonKind.PY_OBJECT,
    lines=LineTable.LNOTAB,
    runtime_interpreters=0,
    interp_next=0,
    interp_threads=8,
    thread_next=8,
    thread_id=152,
    native_thread_id=0,
    thread_frame=24,
    frame_previous=24,
    frame_code=32,
    frame_instr=120,
    code_block=16,
    code_argcount=16,
    code_kwonly=20,
    code_flags=32,
    code_firstlineno=36,
    code_filename=96,
    code_name=104,
    code_lines=112,
)
_3_7 = replace(
    _3_6,
    minor=7,
    runtime_interpreters=24,
    runtime_current=1480,
    thread_id=176,
    frame_instr=104,
)
_3_8 = replace(
    _3_7,
    minor=8,
    runtime_interpreters=32,
    runtime_current=1368,
    code_kwonly=24,
    code_flags=36,
    code_firstlineno=40,
    code_filename=104,
    code_name=112,
    code_lines=120,
)
_3_9 = replace(_3_8, minor=9, runtime_current=568)
_3_10 = replace(_3_9, minor=10, frame_instr=96, lasti_scale=2, lines=LineTable.RANGES)
_3_11 = replace(
    _3_10,
    minor=11,
    kind=PythonKind.PY_CFRAME,
    lines=LineTable.LOCATIONS,
    lasti_scale=1,
    runtime_interpreters=40,
    runtime_current=576,
    interp_threads=16,
    thread_id=152,
    native_thread_id=160,
    thread_frame=56,
    cframe_frame=8,
    cframe_previous=16,
    frame_code=32,
    frame_previous=48,
    frame_instr=56,
    frame_owner=69,
    frame_entry=68,
    entry_value=1,
    entry_shown=True,
    code_block=48,
    code_flags=48,
    code_argcount=56,
    code_kwonly=64,
    code_firstlineno=72,
    code_filename=112,
    code_name=120,
    code_qualname=128,
    code_lines=136,
    code_first_traceable=168,
    code_instructions=184,
)
_3_12 = replace(
    _3_11,
    minor=12,
    runtime_current=0,
    interp_threads=72,
    thread_id=136,
    native_thread_id=144,
    cframe_frame=0,
    cframe_previous=8,
    frame_code=0,
    frame_previous=8,
    frame_owner=70,
    frame_entry=70,
    entry_value=3,
    entry_shown=False,
    code_argcount=52,
    code_kwonly=60,
    code_firstlineno=68,
    code_first_traceable=176,
    code_instructions=192,
    ascii_bytes=40,
    compact_bytes=56,
)
# What _Py_DebugOffsets lacks. The entry frame's owner: FRAME_OWNED_BY_CSTACK in 3.13,
# FRAME_OWNED_BY_INTERPRETER later, both 3. Their f_executable is a reference with
# tags in the low bits (3.14), which BPF masks in every version.
_3_13 = replace(_3_12, minor=13, kind=PythonKind.PY_ENTRY, cframe_frame=0, cframe_previous=0)
_RULES = {13: _3_13, 14: replace(_3_13, minor=14), 15: replace(_3_13, minor=15)}

TABLE = {layout.minor: layout for layout in (_3_6, _3_7, _3_8, _3_9, _3_10, _3_11, _3_12)}

_COOKIE = b"xdebugpy"
# Words of _Py_DebugOffsets by section, in order; "+14" and "+15": since that version.
_SECTIONS = (
    ("runtime", "size finalizing interpreters"),
    (
        "interp",
        (
            "size id next threads main+14 gc modules sysdict builtins ceval_gil gil gil_enabled"
            " gil_locked gil_holder code_generation+14 tlbc_generation+14"
        ),
    ),
    (
        "thread",
        (
            "size prev next interp frame base_frame+15 last_profiled+15 last_profiled_seq+15 id"
            " native_id datastack status holds_gil+15 gil_requested+15 exception+15 exc_state+15"
        ),
    ),
    ("stackitem", "exc_value+15"),
    ("frame", "size previous code instr localsplus owner stackpointer+14 tlbc_index+14"),
    (
        "code",
        (
            "size filename name qualname lines firstlineno argcount localsplusnames"
            " localspluskinds instructions co_tlbc+14"
        ),
    ),
)
_BEFORE_INTERPRETERS = (1024, 2048, 4096)
"""In so many bytes before its list of interpreters `_PyRuntime` begins: 3.13 to 3.15."""
_MAX_OFFSET = 1 << 16
FRAME_BYTES = 80
"""What BPF copies of a frame (`PY_FRAME_BYTES` in `ebpf/python.h`)."""
CODE_BLOCK_BYTES = 32
"""What BPF copies of a code object."""


def debug_offset_names(minor: int) -> list[str]:
    """List the words of `_Py_DebugOffsets`, from behind cookie, version and flag, in order."""
    names = []
    for section, fields in _SECTIONS:
        for field in fields.split():
            name, _, since = field.partition("+")
            if minor >= int(since or 0):
                names.append(f"{section}.{name}")
    return names


def parse_debug_offsets(data: bytes, minor: int) -> Layout:
    """Turn the start of `_PyRuntime` into a layout.

    Raises:
        UnsupportedRuntime: Wrong cookie or version, free-threaded, or absurd offsets.
    """
    names = debug_offset_names(minor)
    words = struct.unpack_from(f"<8sQQ{len(names)}Q", data)
    cookie, version, free_threaded = words[:3]
    if cookie != _COOKIE:
        raise UnsupportedRuntime(f"CPython 3.{minor} without debug offsets")
    if version >> 16 != 0x300 + minor:
        raise UnsupportedRuntime(f"CPython 3.{minor} with debug offsets of {version:#x}")
    if free_threaded:
        raise UnsupportedRuntime(f"CPython 3.{minor} is a free-threaded build")
    offsets = dict(zip(names, words[3:], strict=True))
    rules = _RULES[minor]
    found = {
        "runtime_interpreters": "runtime.interpreters",
        "interp_next": "interp.next",
        "interp_threads": "interp.threads",
        "thread_next": "thread.next",
        "thread_id": "thread.id",
        "native_thread_id": "thread.native_id",
        "thread_frame": "thread.frame",
        "frame_previous": "frame.previous",
        "frame_code": "frame.code",
        "frame_instr": "frame.instr",
        "frame_owner": "frame.owner",
        "frame_entry": "frame.owner",
        "code_filename": "code.filename",
        "code_name": "code.name",
        "code_qualname": "code.qualname",
        "code_lines": "code.lines",
        "code_instructions": "code.instructions",
        "code_argcount": "code.argcount",
        "code_firstlineno": "code.firstlineno",
    }
    values = {field: offsets[word] for field, word in found.items()}
    in_frame = max(values[name] for name in ("frame_previous", "frame_code", "frame_instr"))
    in_block = values["code_firstlineno"] - values["code_argcount"] + 4
    if (
        max(values.values()) >= _MAX_OFFSET
        or max(in_frame + 8, values["frame_owner"] + 1) > FRAME_BYTES
        or not 0 <= in_block <= CODE_BLOCK_BYTES - 4
    ):
        raise UnsupportedRuntime(f"CPython 3.{minor} with absurd debug offsets")
    # The fields around argcount and the one before the bytecode have kept their
    # distance since 3.12 (Include/cpython/code.h).
    values["code_flags"] = values["code_block"] = values["code_argcount"] - 4
    values["code_kwonly"] = values["code_argcount"] + 8
    values["code_first_traceable"] = values["code_instructions"] - 16
    return replace(rules, **values)


def read_layout(minor: int, runtime: int, memory: Memory) -> Layout:
    """Find the layout of a process's CPython 3.`minor`.

    Args:
        minor: Of the version.
        runtime: Address of `_PyRuntime`.
        memory: Of the process.

    Raises:
        UnsupportedRuntime: The version is not known, or the build is free-threaded.
    """
    if minor in TABLE:
        return TABLE[minor]
    if minor not in _RULES:
        raise UnsupportedRuntime(f"CPython 3.{minor} is not known (3.6 to 3.15 are)")
    size = 24 + 8 * len(debug_offset_names(minor))
    return parse_debug_offsets(memory.read(runtime, size), minor)


def find_layout(minor: int, interpreters: int, memory: Memory) -> Layout:
    """Find the layout of a process's CPython by where it lists its interpreters.

    Args:
        minor: Of the version.
        interpreters: Address in `_PyRuntime` of the pointer to the newest one.
        memory: Of the process.

    Raises:
        UnsupportedRuntime: The version is not known, or `_PyRuntime` is not before that address.
        MemoryFault: It cannot be read.
    """
    if minor in TABLE:
        return TABLE[minor]
    for distance in _BEFORE_INTERPRETERS:
        at = memory.read(interpreters - distance, distance).rfind(_COOKIE)
        if at >= 0:
            return read_layout(minor, interpreters - distance + at, memory)
    raise UnsupportedRuntime(f"CPython 3.{minor} without debug offsets")
