# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import mmap
import os
from pathlib import Path

import pytest

from otelagent.errors import BadElf, TargetError
from otelagent.formats.elf import ElfFile
from otelagent.host.files import open_file, open_mapped, open_target
from otelagent.unwind.file_id import file_id


def test_reads_pieces_of_a_file(tmp_path):
    (tmp_path / "f").write_bytes(b"0123456789")

    with open_file(str(tmp_path / "f")) as source:
        assert source.size == 10
        assert source.read_at(3, 4) == b"3456"
        assert source.read_at(8, 100) == b"89"
        assert source.read_at(10, 1) == source.read_at(-1, 5) == b""


def test_fifo_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(TargetError, match="not a regular file"):
        open_target(str(tmp_path), "/fifo")
    with pytest.raises(TargetError, match="not a regular file"):
        open_file(str(tmp_path / "fifo"))


@pytest.mark.parametrize("path", ["/dev/null", "/"])
def test_what_is_no_regular_file_is_refused(path):
    with pytest.raises(TargetError):
        open_file(path)


def test_missing_file_says_why(tmp_path):
    with pytest.raises(TargetError, match="No such file"):
        open_target(str(tmp_path), "/missing")


@pytest.mark.parametrize("target", ["/secret", "../../secret", "/../secret"])
def test_links_stay_inside_of_the_root(tmp_path, target):
    """An absolute or climbing link means the root's own file, as it does for the target."""
    (tmp_path / "secret").write_text("outside")
    root = tmp_path / "root"
    root.mkdir()
    (root / "secret").write_text("inside")
    (root / "link").symlink_to(target)

    with open_target(str(root), "/link") as source:
        assert source.read_at(0, 10) == b"inside"


def test_magic_links_are_not_followed():
    with pytest.raises(TargetError):
        open_target("/", f"/proc/{os.getpid()}/exe")


def test_file_cut_while_it_is_read_is_an_error_and_not_a_signal(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"\x7fELF\x02\x01" + bytes(99_994))

    with open_file(str(path)) as source:
        elf = ElfFile(source)
        os.truncate(path, 1000)
        assert source.read_at(500, 1000) == bytes(500)
        with pytest.raises(BadElf, match="cut"):
            elf.read(50_000, 100)
        with pytest.raises(BadElf, match="cut"):
            file_id(source)


def test_sparse_file_of_10_gb_costs_nothing(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"head")
    os.truncate(path, 10 << 30)

    with open_file(str(path)) as source:
        assert source.size == 10 << 30
        assert len(file_id(source)) == 16
        assert source.read_at((10 << 30) - 2, 100) == bytes(2)


def mapped_file(path):
    """Map a file and give its line of /proc/self/maps: start, end, inode."""
    with path.open("rb") as stream:
        mapping = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)
    maps = Path("/proc/self/maps").read_text().splitlines()
    line = next(line for line in maps if str(path) in line)
    start, end = (int(part, 16) for part in line.split()[0].split("-"))
    return mapping, start, end, int(line.split()[4])


def test_mapped_file_is_opened(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old" * 2000)
    mapping, start, end, inode = mapped_file(path)

    with mapping, open_mapped(os.getpid(), start, end, str(path), dev=0, inode=inode) as source:
        assert source.read_at(0, 3) == b"old"


def test_replaced_file_is_never_taken_for_the_mapped_one(tmp_path):
    """With the capability the old file comes from map_files, without it nothing does."""
    path = tmp_path / "f"
    path.write_bytes(b"old" * 2000)
    mapping, start, end, inode = mapped_file(path)
    (tmp_path / "new").write_bytes(b"new" * 2000)
    (tmp_path / "new").rename(path)

    try:
        source = open_mapped(os.getpid(), start, end, str(path), dev=0, inode=inode)
    except TargetError:
        return
    with mapping, source:
        assert source.read_at(0, 3) == b"old"
