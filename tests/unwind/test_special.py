# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from otelagent.abi import _generated as abi
from otelagent.formats.elf import EM_AARCH64, BytesSource, ElfFile
from otelagent.host.files import open_file
from otelagent.unwind import aarch64, x86_64
from otelagent.unwind.extract import extract
from otelagent.unwind.rows import RowBuilder

GLIBCS = [
    Path("/lib/x86_64-linux-gnu/libc.so.6"),
    Path("/lib/aarch64-linux-gnu/libc.so.6"),
    Path("/usr/aarch64-linux-gnu/lib/libc.so.6"),
]
MUSL = Path("/usr/lib/x86_64-linux-musl/libc.so")
LOADERS = [Path("/lib64/ld-linux-x86-64.so.2"), Path("/lib/ld-linux-aarch64.so.1")]


def read(path):
    with open_file(str(path)) as source:
        elf = ElfFile(BytesSource(source.read_at(0, source.size)))
    return elf, extract(elf)


def test_a_stack_ends_in_the_entry_point_of_program_and_loader():
    loaders = [path for path in LOADERS if path.exists()]
    assert loaders

    for path in [*loaders, Path("/bin/ls")]:
        elf, table = read(path)
        assert table.find(elf.entry) == abi.Row.STOP
        # the return address of the only call, looked up one byte before
        assert table.find(elf.entry + 6) == abi.Row.STOP


def test_static_program_ends_in_its_entry_point(tmp_path):
    compiler = shutil.which("cc") or pytest.skip("no C compiler")
    (tmp_path / "a.c").write_text("int main(void) { return 0; }")
    command = [compiler, "-static", "-o", str(tmp_path / "a"), str(tmp_path / "a.c")]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no static C library")

    elf, table = read(tmp_path / "a")
    assert table.find(elf.entry) == abi.Row.STOP


def make_elf(code, *, machine=62, entry=0):
    """An ELF file with one executable segment at 0x1000 and no sections."""
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\x02\x01\x01" + bytes(9), 3, machine, 1, entry, 64, 0, 0, 64, 56, 1, 64, 0, 0),
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0x1000, 0x1000, 0, len(code), len(code), 0x1000)
    return ElfFile(BytesSource((header + segment).ljust(0x1000, b"\0") + code))


def test_musl_start_is_recognised_by_its_code():
    code = bytes(64) + b"\x48\x31\xed\x48\x89\xe7" + bytes(100)

    table = extract(make_elf(code, entry=0x1040))
    assert [table.find(a) for a in (0x103F, 0x1040, 0x107F, 0x1080)] == [
        abi.Row.NONE,
        abi.Row.STOP,
        abi.Row.STOP,
        abi.Row.NONE,
    ]


def test_entry_of_a_library_means_nothing():
    """Older linkers set it to the first function of the code."""
    table = extract(make_elf(b"\x55\x48\x89\xe5" + bytes(60), entry=0x1000))

    assert table.find(0x1000) == abi.Row.NONE


def test_signal_trampoline_and_clone_are_found_by_their_code():
    """The handler's return address is the trampoline's first byte, so its row begins before it."""
    restore = b"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05"
    clone = b"\x31\xed\x5f\x41\xff\xd1\x89\xc7\x31\xc0\xb0\x3c\x0f\x05\xf4"
    code = b"\x48\x31\xed" + bytes(125) + restore + bytes(55) + clone + bytes(64)

    table = extract(make_elf(code, entry=0x1000))
    assert table.find(0x1080 - 1) == table.find(0x1080 + 7) == abi.Row.SIGNAL
    assert table.find(0x1080 - 2) == abi.Row.NONE
    assert table.find(0x10C0 + 5) == abi.Row.STOP


@pytest.mark.skipif(not MUSL.exists(), reason="musl is not installed")
def test_musl_has_a_trampoline_and_ends():
    elf, table = read(MUSL)
    trampoline = elf.read(0, elf.source.size).index(b"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05")

    assert table.find(elf.address_of(trampoline)) == abi.Row.SIGNAL
    assert table.find(elf.entry) == abi.Row.STOP
    assert any("3 ends of stacks" in line for line in table.sources)


@pytest.mark.parametrize("path", [path for path in GLIBCS if path.exists()], ids=str)
def test_functions_that_makecontext_starts_end_their_stacks(path):
    """What they return to begins where the information does, and leads nowhere."""
    _, table = read(path)
    (line,) = (line for line in table.sources if "makecontext" in line)
    start = int(line.split()[-1], 16)

    assert table.find(start - 2) != abi.Row.BEGIN
    assert table.find(start - 1) == abi.Row.BEGIN
    assert table.find(start) == table.find(start + 12) == abi.Row.STOP


def plt_offsets(code, size, machine=x86_64):
    builder = RowBuilder([(0x1000, 0x2000)])
    machine.add_linkage(builder, 0x1000, size, code, 3)
    return builder.finish([])


def test_lazy_linkage_of_x86_64():
    code = b"\xff\x35" + bytes(4) + b"\xff\x25" + bytes(8) + b"\xff\x25" + bytes(14)
    table = plt_offsets(code, 64)

    first, second = (table.rule(table.find(a)) for a in (0x1000, 0x1006))
    assert (first.cfa_offset, second.cfa_offset) == (16, 24)
    lazy = table.rule(table.find(0x1010))
    assert (lazy.cfa_kind, lazy.cfa_offset, lazy.cfa_add) == (abi.CfaKind.PLT, 8, 11)
    assert table.find(0x103F) == table.find(0x1010)


def test_linkage_without_lazy_binding_pushes_nothing():
    table = plt_offsets(b"\xff\x25" + bytes(14), 32)

    assert table.rule(table.find(0x101F)).cfa_offset == 8


def test_linkage_of_arm64_saves_the_link_register_in_its_first_entry():
    table = plt_offsets(b"\xf0\x7b\xbf\xa9" + bytes(28), 64, aarch64)

    kinds = [table.rule(table.find(a)).ra_kind for a in (0x1000, 0x1004, 0x101C, 0x1020)]
    assert kinds == [abi.RegKind.IN, abi.RegKind.CFA, abi.RegKind.CFA, abi.RegKind.IN]


def test_arm64_entry_and_signal_return():
    start = struct.pack("<II", 0xD280001D, 0xD280001E)
    restore = struct.pack("<II", 0xD2801168, 0xD4000001)
    table = extract(make_elf(start + bytes(120) + restore, machine=EM_AARCH64, entry=0x1000))

    assert table.find(0x1000) == abi.Row.STOP
    assert table.find(0x107F) == table.find(0x1080) == abi.Row.SIGNAL


@pytest.mark.parametrize(
    ("behind", "row"), [(0x1F2003D5, abi.Row.SIGNAL), (0xD503201F, abi.Row.SIGNAL), (1, None)]
)
def test_arm64_signal_return_ends_behind_its_system_call(behind, row):
    """There the pc is while the kernel has not noted the call yet; other code is not ours."""
    start = struct.pack("<II", 0xD280001D, 0xD280001E)
    code = start + bytes(120) + struct.pack("<3I", 0xD2801168, 0xD4000001, behind) + bytes(64)
    table = extract(make_elf(code, machine=EM_AARCH64, entry=0x1000))

    assert table.find(0x1087) == abi.Row.SIGNAL
    assert (table.find(0x1088) == abi.Row.SIGNAL) == (row is not None)


def test_arm64_call_right_after_a_call_through_a_register():
    code = struct.pack("<IIII", 0xD503201F, 0xD63F0020, 0x97FFFFFE, 0xD503201F)

    assert list(aarch64.calls_after_return(code, 0x1000)) == [(0x1008, 4, 0x1000)]


def test_constructors_section_is_described_by_its_code():
    call = b"\x48\x85\xc0\x74\x02\xff\xd0"
    code = b"\x48\x83\xec\x08" + call + b"\x48\x83\xc4\x08\xc3"
    builder = RowBuilder([(0x1000, 0x2000)])

    assert x86_64.add_init(builder, 0x1000, code, 3)

    table = builder.finish([])
    offsets = [table.rule(table.find(at)).cfa_offset for at in (0x1000, 0x1003, 0x1004, 0x100E)]
    assert offsets == [8, 8, 16, 16]
    assert table.rule(table.find(0x100F)).cfa_offset == 8


def test_other_code_is_left_alone():
    builder = RowBuilder([(0x1000, 0x2000)])

    assert not x86_64.add_init(builder, 0x1000, b"\x55\xc3", 3)
    assert builder.fragments == 0


def test_a_greenlet_ends_where_greenlet_starts_it(tmp_path):
    """Frames behind it are of whoever used the stack since; names alike mean nothing."""
    compiler = shutil.which("c++") or pytest.skip("no C++ compiler")
    (tmp_path / "g.cc").write_text(
        "struct _greenlet; struct _object; int sink; void outside();"
        "namespace greenlet { struct UserGreenlet {"
        " void inner_bootstrap(_greenlet *, _object *); void g_initialstub(void *); };"
        "void UserGreenlet::inner_bootstrap(_greenlet *, _object *) { sink++; }"
        "void UserGreenlet::g_initialstub(void *) {"
        " try { inner_bootstrap(nullptr, nullptr); outside(); } catch (...) { sink--; } } }"
    )
    out = str(tmp_path / "g.so")
    command = [compiler, "-shared", "-fPIC", "-o", out, str(tmp_path / "g.cc")]
    subprocess.run(command, check=True)

    elf, table = read(out)
    names = [
        f"_ZN8greenlet12UserGreenlet{name}"
        for name in ("15inner_bootstrapEP9_greenletP7_object", "13g_initialstubEPv")
    ]
    first, caller = (elf.find_symbols(name)[name] for name in names)
    assert table.find(first.value) == table.find(first.value + first.size - 1) == abi.Row.STOP
    assert table.find(first.value + first.size) != abi.Row.STOP
    assert table.find(caller.value + 4) not in (abi.Row.STOP, abi.Row.NONE)
