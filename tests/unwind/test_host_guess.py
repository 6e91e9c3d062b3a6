# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Code without rows: the frame pointer, and what guards it. x86-64 text;"""

import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from otelagent._native import ffi, lib
from otelagent.abi._generated import CfaKind, Fault, FrameFlag, Limit, Row, SampleFlag
from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.unwind.host import HostTables, HostUnwinder
from tests.unwind.walks import (
    BIAS,
    FILE,
    FP,
    IS_X86,
    SPACE,
    STACK,
    TEXT,
    World,
    parse,
    rule,
    table,
)

pytestmark = pytest.mark.skipif(not IS_X86, reason="encodings of x86-64")
CALLER = TEXT + 0x5000
ROWS = {0x1000: Row.NONE, 0x2000: Row.STOP}
NOP = b"\x90" * 16
GUESSED = 1 << FrameFlag.GUESSED_BIT | 1 << FrameFlag.RETURN_BIT
E8 = b"\xe8" + (-0x5000).to_bytes(4, "little", signed=True)


def frame_pointer_world(code=NOP, before=E8, **changes):
    """A frame at the start of the stack whose frame pointer is set up."""
    world = World(
        rows=dict(ROWS),
        stack=[STACK + 64, CALLER] + [7] * 8,
        regs={FP: STACK},
        text={TEXT - 1: b"\x90" + code, CALLER - 8: before.rjust(8, b"\x90")},
    )
    for name, value in changes.items():
        setattr(world, name, value)
    return world


def test_the_frame_pointer_leads_to_the_caller_and_the_frame_is_flagged():
    walk = frame_pointer_world().walk()

    assert [frame[:2] for frame in walk.frames] == [(0x1000, 0), (CALLER - BIAS, GUESSED)]
    assert (walk.fault, walk.flags) == (
        Fault.NONE,
        1 << SampleFlag.USER_BIT | 1 << SampleFlag.GUESSED_BIT,
    )


def test_a_frame_found_by_a_row_after_a_guess_is_not_flagged():
    rows = {0x1000: Row.NONE, 0x2000: rule(), 0x9000: Row.STOP}
    world = frame_pointer_world(rows=rows)
    world.stack[2] = TEXT + 0x9000

    walk = world.walk()

    assert [frame[1] for frame in walk.frames] == [0, GUESSED, 1 << FrameFlag.RETURN_BIT]


WINDOW = Limit.FP_WINDOW_BYTES


@pytest.mark.parametrize("file_id", [FILE, FILE + 1])
def test_a_caller_in_another_file_may_keep_anything_in_the_frame_pointer(file_id):
    """Chromium's ChromeMain keeps a frame pointer; the C library that calls main does not."""
    world = frame_pointer_world(rows={0x1000: Row.NONE})
    other = TEXT + 0x200000
    world.stack[:2] = [1, other + 0x20]
    world.text[other + 0x20 - 7] = b"\x90\x90\x90\x90\x90\xff\xd0"
    tables = world.tables()
    tables.add_mapping(SPACE, other, other + 0x1000, bias=other, file_id=file_id)
    tables.add_table(FILE + 1, table({0: Row.STOP}))

    walk = parse(HostUnwinder(tables).unwind(world.deferred()))

    assert walk.fault == (Fault.NO_ROW if file_id == FILE else Fault.NONE)


@pytest.mark.parametrize(
    ("saved", "ok"),
    [(8, True), (WINDOW, True), (WINDOW + 8, False), (0, False), (-8, False), (1 << 40, False)],
)
def test_the_frame_pointer_must_rise_within_a_window(saved, ok):
    world = frame_pointer_world()
    world.stack[0] = STACK + saved

    assert world.walk().fault == (Fault.NONE if ok else Fault.NO_ROW)


@pytest.mark.parametrize(
    ("distance", "fault"), [(-8, Fault.NO_ROW), (WINDOW, Fault.NONE), (WINDOW + 8, Fault.NO_ROW)]
)
def test_the_frame_pointer_must_lie_within_a_window_above_the_stack_pointer(distance, fault):
    world = frame_pointer_world()
    pair = (STACK + distance + 64).to_bytes(8, "little") + CALLER.to_bytes(8, "little")
    world.text[STACK + distance] = pair
    world.stack = []
    world.regs[FP] = STACK + distance

    assert world.walk().fault == fault


def test_a_row_that_is_not_supported_is_the_reason_when_the_guess_fails():
    world = frame_pointer_world(before=NOP[:8])
    world.rows[0x1000] = Row.UNSUPPORTED

    assert world.walk().fault == Fault.UNSUPPORTED


def test_a_return_address_outside_of_code_is_not_followed():
    world = frame_pointer_world()
    world.stack[1] = STACK + 8

    assert (world.walk().fault, len(world.walk().frames)) == (Fault.NO_ROW, 1)


@pytest.mark.parametrize(
    ("row", "before", "fault"),
    [
        (Row.FRAME_CODE, b"\xff\xd0", Fault.NO_MAPPING),
        (Row.FRAME_CODE, b"\x90\x90", Fault.NO_ROW),
        (Row.NONE, b"\xff\xd0", Fault.NO_ROW),
    ],
)
def test_code_that_keeps_a_frame_pointer_may_be_called_from_a_file_not_loaded_yet(
    row, before, fault
):
    """It is unwound again once that is loaded: only NO_MAPPING defers a stack."""
    world = frame_pointer_world(rows={0x1000: row})
    elsewhere = TEXT + 0x200000
    world.stack[1] = elsewhere
    world.text[elsewhere - 7] = b"\x90" * 5 + before

    assert world.walk().fault == fault


@pytest.mark.parametrize(("stack", "frames"), [([0, 0], 1), ([0, 8], 1), ([0, CALLER], 2)])
def test_a_zero_frame_pointer_marks_the_first_frame_and_that_is_a_guess_too(stack, frames):
    walk = frame_pointer_world(stack=stack).walk()

    assert (walk.fault, len(walk.frames)) == (Fault.NONE, frames)
    assert walk.flags >> SampleFlag.GUESSED_BIT & 1


def test_a_zero_in_the_newest_frame_marks_nothing():
    """Code without frame pointers computes with that register."""
    assert frame_pointer_world(regs={FP: 0}).walk().fault == Fault.NO_ROW


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"\x55", [CALLER]),  # push %rbp
        (b"\xf3\x0f\x1e\xfa", [CALLER]),  # endbr64
        (b"\xc3", [CALLER]),  # ret
        (b"\xf3\xc3", [CALLER]),  # rep ret
    ],
)
def test_at_a_function_s_ends_the_return_address_is_at_the_stack_pointer(code, words):
    world = frame_pointer_world(code + NOP, stack=words, regs={FP: STACK + 800})

    walk = world.walk()

    assert walk.frames[1][:2] == (CALLER - BIAS, GUESSED)


@pytest.mark.parametrize("move", [b"\x48\x89\xe5", b"\x48\x8b\xec"])
def test_between_push_and_move_the_frame_pointer_is_on_the_stack(move):
    world = frame_pointer_world(stack=[STACK + 800, CALLER], regs={FP: 3})
    world.text[TEXT - 1] = b"\x55" + move + NOP

    assert world.walk().frames[1][:2] == (CALLER - BIAS, GUESSED)


def test_a_prologue_in_an_older_frame_is_not_one():
    """Only the newest frame may be at its function's start."""
    world = frame_pointer_world(b"\x55" + NOP, return_address=True, valid_all=False, pc=TEXT + 1)

    assert world.walk().frames[1][0] == CALLER - BIAS
    assert world.walk().fault == Fault.NONE


CALLS = """
call *%rax
call *%r12
call *(%rax)
call *(%rsp)
call *(%rbp)
call *(%r12)
call *(%r13)
call *8(%rax)
call *8(%rsp)
call *8(%r12)
call *(%rax,%rbx,8)
call *8(%rax,%rbx,8)
call *(%rbp,%rax)
call *0x1234(%rax)
call *0x1234(%rsp)
call *0x1234(%rip)
call *0x1234(,%rax,8)
call *0x1234(%rax,%rbx,2)
call *%gs:0x10
call *%fs:(%rax)
notrack call *%rax
notrack call *0x1234(%rip)
.byte 0xf2; call *%rax
call .
"""


@pytest.fixture(scope="module")
def encodings(tmp_path_factory):
    """Assemble each call by itself: its bytes by its text."""
    if not shutil.which("as") or not shutil.which("objcopy"):
        pytest.skip("needs binutils")
    where = tmp_path_factory.mktemp("calls")
    lines = CALLS.split("\n")[1:-1]
    source = "\n".join(f".balign 32,0x90\n.skip 16,0x90\n{line}\n.byte 0xf4" for line in lines)
    subprocess.run(["as", "-o", where / "o", "-"], input=source, text=True, check=True)
    subprocess.run(["objcopy", "-Obinary", "-j.text", where / "o", where / "b"], check=True)
    code = (where / "b").read_bytes()
    pieces = [code[at + 16 : at + 32].rstrip(b"\x90") for at in range(0, len(code), 32)]
    return {line: piece[: piece.rindex(b"\xf4")] for line, piece in zip(lines, pieces, strict=True)}


@pytest.mark.parametrize("line", CALLS.split("\n")[1:-1])
def test_every_encoding_of_a_call_is_recognised(encodings, line):
    assert frame_pointer_world(before=encodings[line]).walk().fault == Fault.NONE


@pytest.mark.parametrize(
    "before",
    [
        NOP[:8],
        b"\xe8\0\0\0\x70",  # a call to where no code is
        b"\xe9" + E8[1:],  # jmp
        b"\xff\xe0",  # jmp *%rax
        b"\xff\x20",  # jmp *(%rax)
        b"\xff\x18",  # lcall *(%rax)
        b"\xff\xf0",  # push %rax
        b"\xff\x15\0\0\0",  # one byte short of call *0(%rip)
        b"\xff\x14",
        b"\xff\x54\x24",
    ],
)
def test_what_is_no_call_stops_the_guess(before):
    walk = frame_pointer_world(before=before).walk()

    assert (walk.fault, len(walk.frames)) == (Fault.NO_ROW, 1)


def read_segments():
    """Find the C library's executable segments: (ELF address, bytes)."""
    maps = Path("/proc/self/maps").read_text()
    found = re.search(r"(/\S*/libc\.so\.6|/\S*/libc-\S+\.so)\n", maps)
    if not found or not shutil.which("objdump"):
        pytest.skip("needs glibc and objdump")
    data = Path(found[1]).read_bytes()
    loads = ElfFile(BytesSource(data)).executable_loads()
    return found[1], [(s.vaddr, data[s.offset : s.offset + s.filesz]) for s in loads]


def test_every_call_of_the_c_library_is_recognised_and_hardly_anything_else():
    path, segments = read_segments()
    tables = HostTables()
    for addr, code in segments:
        tables.add_memory(addr, code)
        tables.add_mapping(1, addr, addr + len(code))
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True
    ).stdout
    pattern = r"\t(?:\w+ )*call .*\n +([0-9a-f]+):"
    behind_calls = {int(addr, 16) for addr in re.findall(pattern, listing)}

    missed = [hex(pc) for pc in behind_calls if not lib.oa_host_follows_call(tables.handle, 1, pc)]
    addr, code = max(segments, key=lambda segment: len(segment[1]))
    chance = random.Random(1)
    places = {chance.randrange(addr, addr + len(code)) for _ in range(50_000)} - behind_calls
    taken = sum(lib.oa_host_follows_call(tables.handle, 1, pc) for pc in places)

    assert len(behind_calls) > 5_000
    assert missed == []
    assert taken / len(places) < 0.002


def test_code_of_a_live_process_is_read_where_asked_for_and_nothing_else_of_it():
    """We are the process; its data lies right behind its one executable mapping."""
    memory = ffi.new("unsigned char[]", 0x7000)
    base = int(ffi.cast("uintptr_t", memory))
    caller = base + 0x5000
    ffi.memmove(memory + 0x5000 - len(E8), E8, len(E8))
    ffi.memmove(memory + 0x6000, caller.to_bytes(8, "little"), 8)
    world = World(
        rows=dict(ROWS),
        pc=base,
        stack=[STACK + 64, caller],
        regs={FP: STACK, 10: base + 0x6000},
        mappings=[(base, base + 0x6000)],
        mapping={"bias": base - 0x1000},
    )

    def walk(**options):
        record = HostUnwinder(world.tables(), **options).unwind(world.deferred(), pid=os.getpid())
        return parse(record)

    assert walk().fault == Fault.NO_ROW
    assert [frame[:2] for frame in walk(follow_text=True).frames[1:]] == [(0x6000, GUESSED)]
    world.rows[0x1000] = rule((CfaKind.DEREF, 10, 0))
    assert walk(follow_text=True).fault == Fault.READ_STACK
