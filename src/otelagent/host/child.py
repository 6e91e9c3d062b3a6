# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A forked child for one piece of work on bytes that nobody trusts.

It gives the memory back, and what manages to crash a parser costs only the child. It is
forked, not started anew: a new interpreter and its imports take longer than most of the work.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import resource
import select
import signal
import time
import warnings
from typing import TYPE_CHECKING

from otelagent._native import lib

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED = 4
"""Its status where the work raised."""
POLL_SECONDS = 0.1


def fork(work: Callable[[], int], most_bytes: int) -> int:
    """Do some work in a child, whose pid is given; its exit status is what the work returns.

    The work must take no lock of another thread, so it imports nothing.

    Args:
        work: What to do.
        most_bytes: How much address space it may take beside what is there.
    """
    with warnings.catch_warnings():
        # Python ≥ 3.12 warns of forking with threads. The child leaves without any clean-up.
        warnings.simplefilter("ignore", DeprecationWarning)
        parent = os.getpid()
        pid = os.fork()
    if pid == 0:
        # It has all that we have open: after a kill -9 nobody else would end it.
        lib.oa_die_with(parent)
        _run(work, most_bytes)
    return pid


def wait(pid: int, seconds: float, is_late: Callable[[], bool] = lambda: False) -> int:
    """Wait for a child, and end it after so many seconds, or when `is_late` says so.

    It never stays, not even where there is no descriptor left to wait with.

    Returns:
        Its exit status, or the negative number of the signal that ended it.
    """
    until = time.monotonic() + seconds
    has_ended = False
    try:
        fd = os.pidfd_open(pid)
        try:
            poll = select.poll()  # select() cannot wait for descriptors above 1,023
            poll.register(fd, select.POLLIN)
            while not has_ended and time.monotonic() < until and not is_late():
                has_ended = bool(poll.poll(POLL_SECONDS * 1000))
        finally:
            os.close(fd)
    finally:
        if not has_ended:
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status)


def _be_silent() -> None:
    """Say nothing: what a library prints of a damaged file is not for our user's terminal."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(nowhere, fd)


def _run(work: Callable[[], int], most_bytes: int) -> None:
    """Do it and leave. Never returns, never raises."""
    status = FAILED
    try:
        _be_silent()
        gc.disable()
        faulthandler.disable()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: PTH123, SIM115
        limit = in_use + most_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        status = work()
    finally:
        os._exit(status)
