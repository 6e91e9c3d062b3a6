# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A child for one piece of work: its status, its silence, its end."""

import errno
import os
import signal
import time

import pytest

from otelagent.host import child

ROOM = 1 << 30


def fail() -> int:
    raise ValueError


def test_its_status_is_what_the_work_returns_or_that_it_failed():
    assert child.wait(child.fork(lambda: 7, ROOM), 10) == 7
    assert child.wait(child.fork(fail, ROOM), 10) == child.FAILED


def test_what_a_library_prints_in_it_reaches_nobody(capfd):
    assert child.wait(child.fork(lambda: os.write(2, b"panicked") - 8, ROOM), 10) == 0

    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("seconds", "late"), [(0.2, False), (60, True)])
def test_it_is_ended_when_its_time_is_over_or_nobody_waits(seconds, late):
    pid = child.fork(lambda: time.sleep(60) or 0, ROOM)

    assert child.wait(pid, seconds, lambda: late) == -signal.SIGKILL


def test_it_does_not_stay_where_no_descriptor_is_left(monkeypatch):
    def refuse(_pid):
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    pid = child.fork(lambda: time.sleep(60) or 0, ROOM)

    with pytest.raises(OSError, match="too many"):
        child.wait(pid, 10)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
