# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a core file says, and that nothing that it says is believed."""

import random
import struct
import time

import pytest

from otelagent.errors import FormatError
from otelagent.formats.core_file import CoreMapping, parse_core
from otelagent.formats.elf import BytesSource
from tests.builders.cores import (
    AT_SYSINFO_EHDR,
    NT_AUXV,
    NT_FILE,
    NT_PRPSINFO,
    NT_PRSTATUS,
    Core,
    files,
    note,
    psinfo,
    status,
)

CODE, STACK = 0x40_0000, 0x7FFD_0000_0000


def core():
    made = Core()
    made.notes = [
        note(NT_PRSTATUS, status(12, signal=6, rip=0x401000, rsp=STACK, fs_base=7)),
        note(NT_PRPSINFO, psinfo(12, "prog", "prog --serve")),
        note(NT_AUXV, struct.pack("<QQQQ", 9, 1, AT_SYSINFO_EHDR, 0x7FFF_0000_0000)),
        note(NT_FILE, files((CODE, CODE + 0x2000, 1, "/bin/prog"))),
        note(2, bytes(512)),
        note(NT_PRSTATUS, status(13, rip=0x401010, rsp=STACK + 64, orig_rax=34)),
    ]
    made.load(CODE, b"x" * 64, 0x2000, flags=5)
    made.load(STACK, bytes(128))
    return made


def parse(data):
    return parse_core(BytesSource(data))


def test_process_threads_and_memory_are_read():
    found = parse(core().write())

    assert (found.pid, found.name, found.arguments) == (12, "prog", "prog --serve")
    assert found.vdso == 0x7FFF_0000_0000
    assert found.mappings == [CoreMapping(CODE, CODE + 0x2000, 4096, "/bin/prog")]
    assert [(s.start, s.end, s.filesz) for s in found.segments] == [
        (CODE, CODE + 0x2000, 64),
        (STACK, STACK + 128, 128),
    ]
    assert [(thread.tid, thread.signal) for thread in found.threads] == [(12, 6), (13, 0)]
    first, second = (thread.registers(62) for thread in found.threads)
    assert (first.pc, first.gp[7], first.thread_pointer) == (0x401000, STACK, 7)
    assert (first.in_syscall, second.in_syscall) == (False, True)
    assert found.problems == []


def test_arm64_tells_thread_pointers_and_the_bits_of_signatures():
    made = Core(machine=183)
    pac = struct.pack("<QQ", 1, 0x7F << 48)
    made.notes = [note(1, bytes(392)), note(0x401, b"\x09" + bytes(7)), note(0x406, pac)]

    found = parse(made.write())

    assert found.pac_mask == 0x7F << 48
    assert found.threads[0].registers(183).thread_pointer == 9
    assert parse(core().write()).pac_mask is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an ELF file"),
        (b"\x7fELF" + bytes(80), "not a 64-bit"),
        (Core(kind=2).write(), "another kind of ELF file"),
    ],
)
def test_what_is_no_core_file_is_refused(data, message):
    with pytest.raises(FormatError, match=message):
        parse(data)


def test_a_cut_core_gives_what_is_left_and_says_so():
    data = core().write()

    found = parse(data[:-100])

    assert found.problems == [f"the file is cut: {len(data) - 100} of {len(data)} bytes are there"]
    assert len(found.threads) == 2


def test_a_core_cut_in_its_headers_says_what_is_missing():
    found = parse(core().write()[:130])

    assert any("only 1 of its 3 program headers" in each for each in found.problems)
    assert "it says of no thread which registers that had" in found.problems


def test_segments_that_overlap_or_wrap_are_left_out():
    made = core()
    made.load(CODE + 0x1000, bytes(16))
    made.load(0x6000, b"", (1 << 64) - 1)
    made.load(0x7000, bytes(32), 16)

    found = parse(made.write())

    assert [s.start for s in found.segments] == [CODE, STACK]
    assert len([each for each in found.problems if "makes no sense" in each]) == 3


@pytest.mark.parametrize(
    "lie",
    [
        struct.pack("<QQ", 1 << 63, 4096) + bytes(200),
        struct.pack("<QQ", 3, 1 << 63) + bytes(24) + b"a\0",
        files((8, 4, 0, "/x"), (1 << 60, 1 << 61, 0, "/y"), (4096, 8192, 1 << 60, "/z")),
        b"",
        bytes(16),
    ],
)
def test_a_list_of_files_that_lies_gives_none(lie):
    made = Core(notes=[note(NT_FILE, lie)])

    found = parse(made.write())

    assert found.mappings == []
    assert found.problems


def test_notes_of_any_length_end():
    made = Core(notes=[struct.pack("<III", (1 << 32) - 1, (1 << 32) - 1, 1) + bytes(64)])

    assert parse(made.write()).threads == []


def test_a_million_tiny_notes_are_cut_in_time():
    made = Core(notes=[struct.pack("<III", 0, 0, 99) * 1_000_000])
    data = made.write()
    began = time.process_time()

    found = parse(data)

    assert "notes: the rest was left out" in found.problems[0]
    assert time.process_time() - began < 2


def test_mutated_cores_are_read_or_refused():
    """Never another exception than the one that is promised."""
    whole = bytearray(core().write()[:1400])
    dice = random.Random(1)
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(dice.randrange(1, 6)):
            at = dice.randrange(len(data))
            data[at : at + 8] = dice.choice([b"\xff" * 8, bytes(8), dice.randbytes(8)])
        try:
            found = parse(bytes(data))
        except FormatError:
            continue
        for thread in found.threads:
            thread.registers(found.machine)
