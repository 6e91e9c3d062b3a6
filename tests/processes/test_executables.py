# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Files with code: identified once, their rows there while they are mapped, few descriptors."""

from pathlib import Path

import pytest

from otelagent import metrics
from otelagent.errors import BadElf, TargetError
from otelagent.host.kept import KeptFile
from otelagent.processes.executables import Executables
from tests.processes.fakes import FakeFile, Machine, elf, table_of

ONE, TWO = (8, 1, 100), (8, 1, 200)
STAMP = (1000, 5)


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def executables(machine):
    return machine.executables


def test_file_that_is_known_is_closed_again(executables):
    """Every mapping of every process opens its file: only the first descriptor is kept."""
    first, again, copy = (FakeFile(elf("a")) for _ in range(3))

    loaded = executables.add(ONE, "/bin/a", first, STAMP)

    assert executables.add(ONE, "/bin/a", again, STAMP) is loaded
    assert executables.add(TWO, "/bin/copy", copy, STAMP) is loaded  # the same content
    assert (first.closed, again.closed, copy.closed) == (False, True, True)


def test_file_that_is_no_elf_file_is_closed_again(executables):
    source = FakeFile(b"no ELF file")

    with pytest.raises(BadElf):
        executables.add(ONE, "/etc/motd", source, STAMP)

    assert source.closed
    assert not executables.by_inode


def test_file_that_was_written_anew_is_identified_anew(executables):
    old = executables.add(ONE, "/bin/a", FakeFile(elf("a")), STAMP)

    new = executables.add(ONE, "/bin/a", FakeFile(elf("b")), (1000, 6))

    assert new is not old
    assert new.executable.file_id != old.executable.file_id
    assert executables.known(ONE) is new
    assert set(executables.by_key.values()) == {old, new}


def test_file_that_was_only_touched_is_hashed_once_more_and_not_each_time(executables):
    loaded = executables.add(ONE, "/bin/a", FakeFile(elf("a")), STAMP)
    assert executables.add(ONE, "/bin/a", FakeFile(elf("a")), (1000, 6)) is loaded

    class Unread(FakeFile):
        def read_at(self, offset, size):
            raise AssertionError("read again")

    assert executables.add(ONE, "/bin/a", Unread(elf("a")), (1000, 6)) is loaded


def test_rows_stay_for_the_next_process_that_maps_the_file(machine, executables):
    loaded = executables.add(ONE, "/bin/a", FakeFile(elf("a")), STAMP)
    executables.acquire(loaded)
    executables.acquire(loaded)
    assert (machine.loads, len(machine.pages)) == (1, 1)

    executables.release(loaded)
    executables.release(loaded)
    executables.acquire(loaded)
    assert (machine.loads, len(machine.pages)) == (1, 1)
    assert not executables.idle


def test_of_too_many_rows_that_nobody_needs_those_left_first_go(machine, executables, monkeypatch):
    monkeypatch.setattr("otelagent.processes.executables.MAX_IDLE_ROWS", 6)
    files = [
        executables.add((8, 1, n), f"/bin/{n}", FakeFile(elf(str(n))), STAMP) for n in range(4)
    ]
    for each in files:
        executables.acquire(each)
    assert files[0].stored.rows == 3

    for each in (files[2], files[0], files[3]):
        executables.release(each)

    assert [each.stored is not None for each in files] == [True, True, False, True]
    assert len(machine.pages) == 3
    executables.acquire(files[2])
    assert machine.loads == 5


def test_rows_that_nobody_needs_give_way_where_there_is_no_room():
    machine = Machine(most_pages=1)
    executables = Executables(machine.store, lambda *_: table_of(1), lambda _elf: None)
    first = executables.add(ONE, "/bin/a", FakeFile(elf("a")), STAMP)
    second = executables.add((8, 1, 99), "/bin/b", FakeFile(elf("b")), STAMP)
    executables.acquire(first)
    executables.release(first)

    executables.acquire(second)

    assert (first.stored, second.reason) == (None, "")


@pytest.mark.parametrize("error", [BadElf("lies"), TargetError("the pool is full")])
def test_file_without_rows_is_counted_once_and_says_why(machine, error):
    def refuse(_source, _elf):
        raise error

    executables = Executables(machine.store, refuse, lambda _elf: None)
    failed = metrics.mapping_failed.total
    loaded = executables.add(ONE, "/bin/a", FakeFile(elf("a")), STAMP)

    executables.acquire(loaded)
    executables.acquire(loaded)

    assert loaded.reason == str(error)
    assert metrics.mapping_failed.total == failed + 1
    executables.release(loaded)
    executables.release(loaded)
    assert loaded.users == 0


def test_full_page_table_is_a_reason_and_leaves_nothing_behind():
    machine = Machine(most_pages=2)
    wide = Executables(machine.store, lambda *_: table_of(1, 1, 1), lambda _elf: None)
    loaded = wide.add(ONE, "/bin/a", FakeFile(elf("a")), STAMP)

    wide.acquire(loaded)

    assert "full" in loaded.reason
    assert not machine.pages


@pytest.mark.parametrize(
    ("offset", "vaddr", "mapped_offset", "bias"),
    [
        (0x1000, 0x1000, 0x1000, 0x7000_0000 - 0x1000),
        (0x1000, 0x401000, 0x1000, 0x7000_0000 - 0x401000),
        (0x1234, 0x2234, 0x1000, 0x7000_0000 - 0x2000),  # the mapping begins at its page
        (0x1000, 0x1000, 0x3000, 0x7000_0000 - 0x3000),  # a later piece of it
    ],
)
def test_bias_of_a_mapping(executables, offset, vaddr, mapped_offset, bias):
    data = elf("a", offset=offset, vaddr=vaddr)
    loaded = executables.add(ONE, "/bin/a", FakeFile(data), STAMP)

    assert loaded.bias_of(0x7000_0000, mapped_offset) == bias


@pytest.mark.parametrize("page", [4 << 10, 16 << 10, 64 << 10])
def test_bias_where_the_mapping_begins_a_page_before_the_code(executables, monkeypatch, page):
    """arm64 kernels have pages of 4, 16 and 64 KiB; files are aligned to 64 KiB there."""
    monkeypatch.setattr("otelagent.processes.executables.PAGE_BYTES", page)
    offset = 0x1FE40  # in the last 4 KiB of a page of any size
    data = elf("a", offset=offset, vaddr=offset + 0x10000)
    loaded = executables.add(ONE, "/bin/a", FakeFile(data), STAMP)

    first = offset & -page
    assert loaded.bias_of(0x7000_0000, first) == 0x7000_0000 - 0x10000 - first
    with pytest.raises(BadElf):
        loaded.bias_of(0x7000_0000, first - page)


def test_mapping_outside_of_code_has_no_bias(executables):
    loaded = executables.add(ONE, "/bin/a", FakeFile(elf("a")), STAMP)

    with pytest.raises(BadElf, match="offset"):
        loaded.bias_of(0x7000_0000, 0x6000)


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_descriptors_have_a_cap_and_files_can_still_be_read(machine, tmp_path):
    executables = Executables(machine.store, lambda *_: table_of(1), lambda _elf: None, max_open=8)
    before = open_files()
    loaded = []
    for number in range(40):
        path = tmp_path / str(number)
        path.write_bytes(elf(str(number)))
        loaded.append(
            executables.add((8, 1, number), str(path), KeptFile.open(str(path)), (1, number))
        )
        executables.acquire(loaded[-1])

    assert open_files() - before <= 8
    for number, each in enumerate(loaded):
        assert each.source.read_at(120, len(str(number))) == str(number).encode()
    assert open_files() - before <= 48
    for each in loaded:
        each.source.close()


def test_a_file_in_use_keeps_its_descriptor_before_one_that_is_not(machine, tmp_path):
    executables = Executables(machine.store, lambda *_: table_of(1), lambda _elf: None, max_open=4)
    loaded = []
    for number in range(4):
        path = tmp_path / str(number)
        path.write_bytes(elf(str(number)))
        each = executables.add((8, 1, number), str(path), KeptFile.open(str(path)), (1, number))
        executables.acquire(each)
        loaded.append(each)
    executables.release(loaded[2])
    path.rename(tmp_path / "other")

    path = tmp_path / "9"
    path.write_bytes(elf("9"))
    last = executables.add((8, 1, 9), str(path), KeptFile.open(str(path)), (1, 9))

    assert [each.source.is_open for each in loaded] == [True, True, False, True]
    for each in (*loaded, last):
        each.source.close()


def test_kept_file_that_was_replaced_reads_as_missing(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old content")
    kept = KeptFile.open(str(path))
    assert kept.read_at(0, 3) == b"old"

    kept.park()
    assert kept.read_at(4, 7) == b"content"
    kept.park()
    (tmp_path / "new").write_bytes(b"new content")
    (tmp_path / "new").rename(path)

    assert kept.read_at(0, 3) == b""
    path.unlink()
    assert kept.read_at(0, 3) == b""
    assert kept.size == 11


def test_files_that_nobody_maps_are_forgotten_when_there_are_too_many(executables, monkeypatch):
    """A machine that builds programs maps a new file with each."""
    monkeypatch.setattr("otelagent.processes.executables.MAX_LEFT", 8)
    mapped = executables.add(ONE, "/bin/mapped", FakeFile(elf("mapped")), STAMP)
    executables.acquire(mapped)

    for number in range(100):
        newest = executables.add((8, 2, number), "/tmp/a.out", FakeFile(elf(str(number))), STAMP)
        assert executables.by_key[newest.key] is newest

    assert len(executables.by_key) <= 9
    assert executables.known(ONE) is mapped
    assert {each.key for _, each in executables.by_inode.values()} <= executables.by_key.keys()


def test_programs_that_are_new_each_time_leave_nothing_but_the_last_ones(
    machine, executables, monkeypatch
):
    """Rows, pages and descriptors go with them; a tool that comes between them stays."""
    monkeypatch.setattr("otelagent.processes.executables.MAX_LEFT", 8)
    tool = executables.add(ONE, "/bin/tool", FakeFile(elf("tool")), STAMP)
    for number in range(100):
        new = executables.add((8, 2, number), "/tmp/a.out", FakeFile(elf(str(number))), STAMP)
        for each in (executables.known(ONE), new):
            executables.acquire(each)
            executables.release(each)

    assert executables.known(ONE) is tool
    assert len(executables.by_key) == len(executables.left) <= 8
    assert len(machine.pages) == len(executables.idle) == len(executables.left)
    assert len(executables.by_inode) <= 8


def test_a_file_that_is_forgotten_between_being_found_and_mapped_is_known_again(
    machine, executables, monkeypatch
):
    monkeypatch.setattr("otelagent.processes.executables.MAX_LEFT", 4)
    found = executables.add(ONE, "/bin/a", FakeFile(elf("a")), STAMP)
    for number in range(8):
        executables.add((8, 2, number), "/tmp/a.out", FakeFile(elf(str(number))), STAMP)
    assert found.key not in executables.by_key

    executables.acquire(found)

    assert executables.by_key[found.key] is found
    assert len(machine.pages) == 1
