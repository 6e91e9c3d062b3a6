# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Processes are read about once, while they live."""

from otelagent.abi.codec import Generation
from otelagent.processes import notes
from otelagent.processes.notes import ProcessNotes

ONE, TWO = Generation(1, 0, 7), Generation(2, 0, 7)


def test_a_process_is_read_about_once_and_another_life_of_its_pid_again():
    asked = []
    about = ProcessNotes(lambda pid: asked.append(pid) or (("n", str(len(asked))),))

    for each in (ONE, ONE, TWO, ONE):
        about.see(each)

    assert asked == [7, 7]
    assert (about.of(ONE), about.of(TWO)) == ((("n", "1"),), (("n", "2"),))
    assert about.of(Generation(9, 9, 9)) == ()


def test_what_nothing_needs_is_forgotten_and_there_is_a_bound(monkeypatch):
    monkeypatch.setattr(notes, "MAX_PROCESSES", 3)
    about = ProcessNotes(lambda _pid: ())
    for pid in range(10):
        about.see(Generation(pid, 0, pid))
    assert len(about) == 3

    about.keep({Generation(9, 0, 9)})

    assert len(about) == 1
