# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Unwinders of runtimes: loaded when the first program of that runtime is met.

A machine without CPython has no use for its unwinder, and verifying it takes time at each start.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from otelagent.errors import KernelError, UnsupportedRuntime
from otelagent.kernel.plan import Plan, load_unwinder, tell_log
from otelagent.log import fields

if TYPE_CHECKING:
    from otelagent.abi._generated import Unwinder
    from otelagent.bpf.object import BpfObject

logger = logging.getLogger(__name__)


class LateUnwinders:
    """Loads them for the programs of some objects.

    Used by one thread at a time.
    """

    def __init__(self, plan: Plan, objects: list[BpfObject]) -> None:
        self._plan = plan
        self._objects = objects
        self._refused: dict[Unwinder, str] = {}
        """Those that were asked for, and why not."""

    def need(self, unwinder: Unwinder) -> None:
        """Load it, unless that was done.

        Raises:
            UnsupportedRuntime: The kernel refuses it.
        """
        if unwinder not in self._refused:
            self._refused[unwinder] = self._load(unwinder)
        if reason := self._refused[unwinder]:
            raise UnsupportedRuntime(reason)

    def _load(self, unwinder: Unwinder) -> str:
        try:
            for caller in self._objects:
                late = load_unwinder(self._plan, unwinder, caller)
                tell_log(self._plan, late)
                late.close()
        except KernelError as err:
            return str(err)
        logger.info("%s", fields("unwinder loaded", runtime=unwinder.name.lower()))
        return ""
