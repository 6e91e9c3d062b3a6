# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""When the agent gives up what takes long."""

import signal

from otelagent.cli import haste as module


def test_what_takes_long_is_given_up_some_time_after_a_signal(monkeypatch):
    now, waiting = [100.0], set()
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.signal, "sigpending", lambda: waiting)
    told = []
    monkeypatch.setattr(module, "hurry_when", told.append)
    haste = module.Haste(5)
    assert told == [haste.is_late]
    now[0] = 1000.0
    assert not haste.is_late()

    waiting.add(signal.SIGTERM)
    assert not haste.is_late()
    now[0] = 1004.0
    haste.begin()  # it counts from the signal
    assert not haste.is_late()
    now[0] = 1005.0
    assert haste.is_late()
