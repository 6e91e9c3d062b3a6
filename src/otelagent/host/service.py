# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a service manager is told: sd_notify(3), as systemd documents it; silent without one."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

READY, STOPPING, ALIVE = "READY=1", "STOPPING=1", "WATCHDOG=1"


def reloading() -> tuple[str, str]:
    """Say that a reload begins now; `READY` ends it."""
    return "RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"


class ServiceManager:
    """Whoever started us, if it wants to be told.

    Attributes:
        watchdog_s: It wants a sign of life within this time; 0: it does not.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        is_for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        micros = environ.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(micros) / 1e6 if micros.isdecimal() and is_for_us else 0.0

    def tell(self, *lines: str) -> None:
        """Send a message; a manager that does not listen is its own business."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            try:
                sock.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                return
