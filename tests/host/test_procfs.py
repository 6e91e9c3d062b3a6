# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What /proc says of ourselves and of our children."""

import os
import subprocess
import threading

import pytest

from otelagent.errors import ProcessGone
from otelagent.host import procfs


def test_a_process_that_nobody_reaped_has_ended():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert procfs.has_ended(child.pid)
    child.wait()
    assert procfs.has_ended(child.pid)


def test_a_running_process_has_not_ended():
    assert not procfs.has_ended(os.getpid())


def test_a_thread_has_a_leader_and_a_process_is_its_own():
    ready, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (ready.set(), done.wait()))
    thread.start()
    ready.wait()
    try:
        assert procfs.leader_of(thread.native_id) == os.getpid()
        assert procfs.leader_of(os.getpid()) == os.getpid()
    finally:
        done.set()
        thread.join()


def test_there_is_no_leader_of_nobody():
    with pytest.raises(ProcessGone):
        procfs.leader_of(1 << 30)
