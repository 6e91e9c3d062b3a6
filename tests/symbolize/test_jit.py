# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import os

import pytest

from otelagent.model import FrameType
from otelagent.symbolize import jit
from otelagent.symbolize.jit import JitProcesses, JitSymbols, find_jitdumps
from otelagent.symbolize.result import NO_JIT_MAP, OUTSIDE
from tests.formats.test_jitdump import HEADER, RECORDS


@pytest.fixture
def process(tmp_path, monkeypatch):
    """A /proc with process 7, which sees itself as 3 and has a root of its own."""
    monkeypatch.setattr(jit, "LOOK_SECONDS", 0.0)
    folder = tmp_path / "7"
    (folder / "root" / "tmp").mkdir(parents=True)
    uid = os.getuid()
    (folder / "status").write_text(f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nNSpid:\t7\t3\n")
    (folder / "maps").write_text(
        "7f00-7f10 r-xp 00000000 08:01 5    /tmp/jit-3.dump\n7f20-7f30 r-xp 0 0:0 0\n"
    )
    return folder


def name(symbols, addr, **flags):
    named = symbols.name(addr, **flags)
    assert named.type is FrameType.JIT
    return named.lines[0].function.name if named.lines else named.reason


def test_perf_map_is_found_by_the_number_in_the_process_own_namespace(process):
    (process / "root" / "tmp" / "perf-3.map").write_text("1000 10 one\n")
    symbols = JitSymbols(7, proc=process.parent)

    assert name(symbols, 0x100F) == "one"
    assert name(symbols, 0x1010, is_return_address=True) == "one"
    assert name(symbols, 0x1010) == OUTSIDE


def test_perf_map_is_read_on_when_it_has_grown(process):
    path = process / "root" / "tmp" / "perf-3.map"
    path.write_text("1000 10 one\n2000 10 hal")
    symbols = JitSymbols(7, proc=process.parent)
    assert name(symbols, 0x2000) == OUTSIDE

    with path.open("a") as stream:
        stream.write("ves\n1000 10 newer\n")

    assert name(symbols, 0x2000) == "halves"
    assert name(symbols, 0x1000) == "newer"


def test_process_without_any_map_says_so(process):
    assert name(JitSymbols(7, proc=process.parent), 0x1000) == NO_JIT_MAP


def test_map_of_another_user_is_not_read(process):
    path = process / "root" / "tmp" / "perf-3.map"
    path.write_text("1000 10 one\n")
    (process / "status").write_text("Uid:\t4242\t4242\t4242\t4242\nNSpid:\t7\t3\n")
    if os.getuid() == 0:
        os.chown(path, 4243, -1)

    assert name(JitSymbols(7, proc=process.parent), 0x1000) == NO_JIT_MAP


def test_fifo_and_link_out_of_the_root_are_not_read(process, tmp_path):
    os.mkfifo(process / "root" / "tmp" / "perf-3.map")
    (tmp_path / "secret").write_text("1000 10 secret\n")
    (process / "root" / "tmp" / "perf-7.map").symlink_to(tmp_path / "secret")

    assert name(JitSymbols(7, proc=process.parent), 0x1000) == NO_JIT_MAP


def test_jitdump_is_found_by_its_mapping(process):
    (process / "root" / "tmp" / "jit-3.dump").write_bytes(HEADER + RECORDS)
    assert find_jitdumps(7, process.parent) == ["/tmp/jit-3.dump"]
    processes = JitProcesses(proc=process.parent)

    named = processes.name(7, 1, 0x1009, is_return_address=False)

    assert (named.lines[0].function.file, named.lines[0].line) == ("/a.js", 4)
    processes.forget(7, 1)


def test_broken_jitdump_is_not_read_again(process):
    (process / "root" / "tmp" / "jit-3.dump").write_bytes(HEADER + RECORDS + bytes(16))
    symbols = JitSymbols(7, ["/tmp/jit-3.dump"], proc=process.parent)

    assert name(symbols, 0x1000) in {"fast", OUTSIDE}
    assert name(symbols, 0x9000) == OUTSIDE
