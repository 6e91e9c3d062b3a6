# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A replay is the snapshot's alone: nothing of this machine is read."""

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from otelagent.coredump.case import SNAPSHOT, find_cases, read_expected, run_case
from otelagent.coredump.recording import record
from otelagent.coredump.replay import expected, replay
from otelagent.errors import FormatError, MemoryFault, TargetError
from otelagent.formats.proc_maps import MappedRange
from otelagent.host.live import LiveImage
from otelagent.host.snapshot import SnapshotImage, pack, parse
from otelagent.interpreters import registry

CASES = find_cases(Path(__file__).parent / "cases")
WATCHED = """
import json, sys
from pathlib import Path
from otelagent.coredump.case import run_case

run_case(Path(sys.argv[1]))  # modules are imported here
touched = []
def watch(event, arguments):
    if event == "open" or event.split(".")[0] in {"subprocess", "socket"} or event in {
        "os.fork", "os.posix_spawn", "os.exec", "os.system"}:
        touched.append([event, repr(arguments[0]) if arguments else ""])
sys.addaudithook(watch)
run_case(Path(sys.argv[1]))
print(json.dumps(touched))
"""


def test_nothing_but_the_case_is_opened():
    """Files, programs, sockets: all that a replay asks the system for is its own."""
    case = CASES[0]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, case], capture_output=True, text=True, check=True
    )

    touched = json.loads(done.stdout)

    assert ["open", repr(str(case / SNAPSHOT))] in touched
    own = (str(case), tempfile.gettempdir())  # its folder of notes is deleted by parts
    others = [each for each in touched if each[1][1:2] == "/" and not each[1][1:].startswith(own)]
    assert others == []


def test_another_runtime_is_looked_for_in_cases_that_are_older(monkeypatch):
    """Of what tells, a snapshot has what the runtimes of its day asked each file for."""
    family = replace(registry.FAMILIES[0], marker="toy_eval")
    monkeypatch.setattr(registry, "FAMILIES", (*registry.FAMILIES, family))
    case = next(each for each in CASES if each.name == "c-exit")

    outcome = run_case(case)

    assert outcome.strays == []
    assert outcome.threads == read_expected(case)


PROGRAM = """
import os, time
def inner(n):
    if n:
        return inner(n - 1)
    os.write(1, b"ready\\n"); time.sleep(60)
inner(3)
"""


@pytest.fixture(scope="module")
def recorded():
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            yield record(LiveImage(process.pid), is_live=True)
        finally:
            process.kill()


def test_a_snapshot_unwinds_when_its_process_is_gone(recorded):
    snapshot = parse(pack(recorded))

    (thread,) = expected(replay(SnapshotImage(snapshot), snapshot.notes))

    assert thread["fault"] == ""
    inner = [text for text in thread["frames"] if text.startswith("cpython: inner")]
    assert inner == ["cpython: inner (<string>:6)", *["cpython: inner (<string>:5)"] * 3]


def test_a_snapshot_takes_tens_of_kilobytes(recorded):
    assert len(pack(recorded)) < 100_000


def test_what_was_not_read_is_missed_and_said(recorded):
    image = SnapshotImage(recorded)
    mapped = next(each for each in image.read_maps() if each.inode)
    file = image.open_mapped(mapped)

    part = next(each for each in recorded.files if each.path == mapped.path)
    behind = sum(part.read[0])

    assert file.read_at(behind, 1) == b"\0"
    assert [mapped.path in stray for stray in image.strays] == [True]
    with pytest.raises(MemoryFault):
        image.read(0x1000, 8)
    with pytest.raises(TargetError, match="not in the snapshot"):
        image.open_mapped(mapped._replace(path="/elsewhere"))
    assert isinstance(mapped, MappedRange)


@pytest.mark.parametrize("data", [b"", b"\x28\xb5\x2f\xfd garbage", b"x" * 1000])
def test_a_file_that_is_no_snapshot_is_refused(data):
    with pytest.raises(FormatError):
        parse(data)
