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
import signal
import warnings
from typing import TYPE_CHECKING

from otelagent._native import lib

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED = 4
"""Its status where the work raised."""


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


def _run(work: Callable[[], int], most_bytes: int) -> None:
    """Do it and leave. Never returns, never raises."""
    status = FAILED
    try:
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
