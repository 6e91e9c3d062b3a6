# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""SIGHUP: the settings are read again; what can change at run time does, the rest is named."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

from otelagent.cli.session import Session
from otelagent.config.settings import NAMES
from otelagent.errors import AgentError
from otelagent.host.command import is_from_terminal
from otelagent.log import fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelagent.config.resolve import Resolved

logger = logging.getLogger(__name__)
CLIENT = {"headers", "compression", "timeout"}
CLIENT |= {"ca-certificate", "client-certificate", "client-key"}
"""Settings of how a receiver is spoken to."""
LIVE = CLIENT | {"samples-per-second", "max-cpu", "monitor-interval", "shutdown-timeout"}
LIVE |= {"reporter-interval", "reporter-jitter", "timestamps", "env-vars"}
LIVE |= {"probabilistic-threshold", "probabilistic-interval"}
LIVE |= {"service-name", "resource-attributes"}
"""Settings that can change while the agent runs."""


class AgentSession(Session):
    """A session that a SIGHUP does not end, unless it says that the terminal went away.

    Attributes:
        on_hangup: Called at such a SIGHUP, by the main thread.
    """

    on_hangup: Callable[[], None] | None = None

    def interrupted(self, info: signal.struct_siginfo) -> bool:
        """Reload, or end."""
        if info.si_signo == signal.SIGHUP and self.on_hangup and not is_from_terminal(info):
            self.on_hangup()
            return False
        return super().interrupted(info)


def differences(old: Resolved, new: Resolved) -> set[str]:
    """List the settings that are not what they were."""
    return {
        key
        for key, name in NAMES.items()
        if getattr(old.settings, name) != getattr(new.settings, name)
    }


class Reloader:
    """Reads the settings again and lets them hold.

    Args:
        resolved: Those that hold.
        read: Reads them again.
        apply: Lets new ones hold; is given the keys that changed and can.
    """

    def __init__(
        self,
        resolved: Resolved,
        read: Callable[[], Resolved],
        apply: Callable[[Resolved, set[str]], None],
    ) -> None:
        self._resolved = resolved
        self._read = read
        self._apply = apply

    def reload(self) -> None:
        """Do it; where something is wrong with the new settings, the old ones hold."""
        try:
            fresh = self._read()
            changed = differences(self._resolved, fresh)
            self._apply(fresh, changed & LIVE)
        except AgentError as err:
            said = fields(f"not reloaded: {err}", hint=err.hint)
            logger.warning("%s", said)
            return
        late = ", ".join(sorted(changed - LIVE))
        live = ", ".join(sorted(changed & LIVE)) or "nothing"
        logger.warning("%s", fields("reloaded", changed=live, needs_a_restart=late))
        self._resolved = fresh
