# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Keys are told apart, and a terminal is given back as it was."""

import os
import pty
import termios

import pytest

from otelagent.cli import keys
from otelagent.cli.keys import ENTER, ESCAPE, SUSPEND, Keyboard, split_keys


@pytest.fixture
def terminal(monkeypatch):
    """A terminal whose other end we hold, as standard input."""
    ours, theirs = pty.openpty()
    stream = os.fdopen(theirs, "r")
    monkeypatch.setattr(keys.sys, "stdin", stream)
    yield ours, theirs
    stream.close()
    os.close(ours)


def test_plain_keys_and_sequences_are_told_apart():
    assert split_keys("q/é\x1b[A\x1bOB\x1b[5~\r\x08") == [
        *("q", "/", "é", "up", "down", "page up", ENTER, keys.BACKSPACE),
    ]


def test_a_lone_escape_is_the_escape_key():
    assert split_keys("\x1b") == [ESCAPE]
    assert split_keys("\x1b\x1b[B") == [ESCAPE, "down"]


def test_an_unknown_sequence_is_one_key_that_means_nothing():
    assert split_keys("\x1b[1;5Cq") == ["\x1b[1;5C", "q"]


def test_keys_arrive_at_once_and_ctrl_z_is_a_key(terminal):
    ours, _ = terminal
    with Keyboard() as keyboard:
        os.write(ours, b"s\x1a")

        assert keyboard.read(1) == ["s", SUSPEND]
        assert keyboard.read(0) == []


def test_the_terminal_is_given_back_as_it_was(terminal):
    _, theirs = terminal
    before = termios.tcgetattr(theirs)

    with Keyboard():
        assert not termios.tcgetattr(theirs)[3] & termios.ECHO

    assert termios.tcgetattr(theirs) == before
