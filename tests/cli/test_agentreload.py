# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""SIGHUP: what can change changes, what cannot is named, what is wrong changes nothing."""

import signal
from types import SimpleNamespace

from otelagent.cli.agentreload import LIVE, AgentSession, Reloader
from otelagent.config.resolve import resolve
from otelagent.config.settings import TYPES
from otelagent.errors import ConfigError


def test_live_settings_are_settings():
    assert set(TYPES) > LIVE


def test_changes_are_applied_or_named(caplog):
    applied = []
    fresh = resolve({"reporter-interval": "7s", "headers": "a=b", "store": "/x"}, {})
    reloader = Reloader(resolve({}, {}), lambda: fresh, lambda _, keys: applied.append(keys))

    reloader.reload()
    reloader.reload()

    assert applied == [{"reporter-interval", "headers"}, set()]
    assert [each.getMessage() for each in caplog.records] == [
        "reloaded changed=headers, reporter-interval needs_a_restart=store",
        "reloaded changed=nothing",
    ]


def test_wrong_settings_change_nothing(caplog):
    def read():
        raise ConfigError("/x.yaml:3: no", hint="write yes")

    applied = []
    Reloader(resolve({}, {}), read, lambda *_: applied.append(1)).reload()

    assert applied == []
    assert caplog.records[0].getMessage() == "not reloaded: /x.yaml:3: no hint=write yes"


def test_a_hangup_of_the_terminal_is_an_end_and_one_of_a_person_is_none():
    session = AgentSession(SimpleNamespace(duration=""), None)
    reloads = []
    session.on_hangup = lambda: reloads.append(1)
    by_kill = SimpleNamespace(si_signo=signal.SIGHUP, si_code=0)
    by_terminal = SimpleNamespace(si_signo=signal.SIGHUP, si_code=0x80)

    assert not session.interrupted(by_kill)
    assert reloads == [1]
    assert session.interrupted(by_terminal)
    assert session.interrupted(SimpleNamespace(si_signo=signal.SIGTERM, si_code=0))
    assert reloads == [1]
