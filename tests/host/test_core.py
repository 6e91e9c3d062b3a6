# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Core files as images: memory from the core and from files, which must be those that ran."""

import lzma
import struct

import pytest
import zstandard

from otelagent.errors import FormatError, MemoryFault, TargetError
from otelagent.host.core import CoreImage
from tests.builders.cores import (
    CODE,
    NT_FILE,
    NT_PRPSINFO,
    NT_PRSTATUS,
    PAGE,
    STACK,
    VDSO,
    Core,
    R,
    W,
    X,
    crashed,
    files,
    note,
    psinfo,
    status,
)

TEXT = 0x40_0000


def program(build_id=b"\x12\x34\x56\x78", code=b"\x90"):
    """An ELF file of two pages: header and build id, then code."""
    build = struct.pack("<III", 4, len(build_id), 3) + b"GNU\0" + build_id
    head = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\x02\x01\x01" + bytes(9), 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0),
    )
    notes_at = 64 + 2 * 56
    segments = struct.pack("<IIQQQQQQ", 4, 4, notes_at, notes_at, 0, len(build), len(build), 4)
    segments += struct.pack("<IIQQQQQQ", 1, 5, PAGE, PAGE, 0, PAGE, PAGE, PAGE)
    return (head + segments + build).ljust(PAGE, b"\0") + code * PAGE


def core_of(path, *, head=b""):
    """A core of a process that ran the program at `path`; the core holds only its `head`."""
    made = Core()
    made.notes = [
        note(NT_PRSTATUS, status(9, rip=TEXT + PAGE, rsp=STACK)),
        note(NT_PRPSINFO, psinfo(9, "prog", "prog")),
        note(NT_FILE, files((TEXT, TEXT + PAGE, 0, path), (TEXT + PAGE, TEXT + 2 * PAGE, 1, path))),
    ]
    made.load(TEXT, head, PAGE, R)
    made.load(TEXT + PAGE, b"", PAGE, R | X)
    made.load(STACK, bytes(range(64)), PAGE, R | W)
    return made


@pytest.fixture
def write(tmp_path):
    def make(core, name="core"):
        path = tmp_path / name
        path.write_bytes(core if isinstance(core, bytes) else core.write())
        return str(path)

    return make


def test_memory_that_the_core_holds_is_read_across_segments(write):
    made = Core()
    made.load(PAGE, b"a" * PAGE)
    made.load(2 * PAGE, b"b" * 8, PAGE)
    with CoreImage.open(write(made)) as image:
        assert image.read(2 * PAGE - 2, 4) == b"aabb"
        assert image.read(PAGE, 0) == b""
        for addr, size in ((2 * PAGE, 9), (0, 1), (3 * PAGE, 1), (1 << 63, 8), (PAGE, 1 << 62)):
            with pytest.raises(MemoryFault):
                image.read(addr, size)


def test_what_the_core_lacks_is_read_from_the_file(write, tmp_path):
    binary = tmp_path / "prog"
    binary.write_bytes(program())
    with CoreImage.open(write(core_of(str(binary), head=program()[:512]))) as image:
        assert image.read(TEXT + PAGE, 4) == b"\x90" * 4
        (mapped,) = image.read_maps()
        assert (mapped.start, mapped.offset, mapped.path) == (TEXT + PAGE, PAGE, str(binary))
        with image.open_mapped(mapped) as source:
            assert source.read_at(PAGE, 1) == b"\x90"


def test_a_file_of_another_build_is_refused(write, tmp_path):
    binary = tmp_path / "prog"
    binary.write_bytes(program(b"\xff\xff\xff\xff"))
    with CoreImage.open(write(core_of(str(binary), head=program()[:512]))) as image:
        (mapped,) = image.read_maps()
        with pytest.raises(TargetError, match=r"another build than the one that ran \(12345678\)"):
            image.open_mapped(mapped)
        with pytest.raises(MemoryFault):
            image.read(TEXT + PAGE, 4)


def test_files_are_looked_for_in_the_sysroot_and_never_outside(write, tmp_path):
    (tmp_path / "root" / "bin").mkdir(parents=True)
    (tmp_path / "root" / "bin" / "prog").write_bytes(program())
    (tmp_path / "root" / "bin" / "away").symlink_to(tmp_path / "outside")
    (tmp_path / "outside").write_bytes(program())

    with CoreImage.open(write(core_of("/bin/prog")), sysroot=tmp_path / "root") as image:
        assert image.read(TEXT + PAGE, 1) == b"\x90"
    away = CoreImage.open(write(core_of("/bin/away")), sysroot=tmp_path / "root")
    with away, pytest.raises(MemoryFault):
        away.read(TEXT + PAGE, 1)


@pytest.mark.parametrize("name", [".build-id/12/345678", "prog"])
def test_files_are_looked_for_in_debug_directories(write, tmp_path, name):
    place = tmp_path / "debug" / name
    place.parent.mkdir(parents=True)
    place.write_bytes(program())
    core = write(core_of("/no/such/prog", head=program()[:512]))

    with CoreImage.open(core, debug_dirs=[tmp_path / "debug"]) as image:
        assert image.read(TEXT + PAGE, 1) == b"\x90"


def test_code_that_gcore_left_out_is_found_by_its_file(write, tmp_path):
    binary = tmp_path / "prog"
    binary.write_bytes(program())
    made = core_of(str(binary))
    made.loads = [load for load in made.loads if load[0] >= STACK]

    with CoreImage.open(write(made)) as image:
        assert [each.start for each in image.read_maps()] == [TEXT + PAGE]


def test_files_of_data_that_gcore_left_out_are_no_code(write, tmp_path):
    (tmp_path / "data").write_bytes(b"just text" * 1000)
    made = core_of(str(tmp_path / "data"))
    made.loads = [load for load in made.loads if load[0] >= STACK]

    with CoreImage.open(write(made)) as image:
        assert image.read_maps() == []


def test_the_vdso_is_found_in_the_core(write):
    with CoreImage.open(write(crashed(vdso=b"\x7fELF" + bytes(60)))) as image:
        assert [each.path for each in image.read_maps() if each.start == VDSO] == ["[vdso]"]
        assert image.read_vdso() == b"\x7fELF" + bytes(60)
    with CoreImage.open(write(crashed())) as image, pytest.raises(TargetError, match="no vDSO"):
        image.read_vdso()


@pytest.mark.parametrize("pack", [lzma.compress, zstandard.ZstdCompressor().compress])
def test_packed_cores_are_unpacked(write, pack):
    with CoreImage.open(write(pack(crashed().write()))) as image:
        assert image.read(CODE, 1) == b"\xe8"
        assert image.problems == []


def test_a_packed_core_that_is_cut_is_read_as_far_as_it_goes(write):
    whole = lzma.compress(crashed().write() + bytes(range(256)) * 8192)

    with CoreImage.open(write(whole[:-200])) as image:
        assert "cannot be unpacked to its end: it is cut" in image.problems[0]
        assert image.read(CODE, 1) == b"\xe8"


def test_zeros_without_end_take_no_room(write):
    packed = zstandard.ZstdCompressor().compress(crashed().write() + bytes(64 << 20))

    with CoreImage.open(write(packed)) as image:
        assert image._source.size > 64 << 20
        assert image._source.stat.st_blocks * 512 < 16 << 20


def test_cores_of_other_machines_are_refused(write):
    with pytest.raises(FormatError, match=r"core: a core of machine 243 cannot be unwound, but of"):
        CoreImage.open(write(Core(machine=243)))
