# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is said reaches stderr whole and harmless, or is lost without a word."""

import io
import logging
import os
import signal

import pytest

from otelagent import log
from otelagent.cli import talk as module
from otelagent.cli.talk import Talk
from otelagent.errors import OutputError


def test_a_name_cannot_steer_the_terminal(capsys):
    Talk(quiet=False).say("sampling \x1b[2J")

    assert capsys.readouterr().err == "otelagent: sampling \N{REPLACEMENT CHARACTER}[2J\n"


def test_quiet_says_nothing(capsys):
    Talk(quiet=True).say("hello")

    assert capsys.readouterr().err == ""


def test_there_is_no_status_line_without_a_terminal(capsys):
    Talk(quiet=False).status("1 s")

    assert capsys.readouterr().err == ""


class Full(io.StringIO):
    """A stream that takes nothing."""

    def flush(self):
        raise OSError(28, "No space left on device")


def test_a_broken_stderr_is_no_error(monkeypatch):
    full = Full()
    monkeypatch.setattr(module.sys, "stderr", full)

    Talk(quiet=False).say("hello")

    assert module.sys.stderr is full


def test_what_is_said_and_logged_is_held_back(capsys):
    log.configure(0)
    talk = Talk(quiet=False)

    with talk.held():
        talk.say("said")
        logging.getLogger("otelagent.x").warning("logged")
        assert capsys.readouterr().err == ""

    assert capsys.readouterr().err == "otelagent: WARNING: logged\notelagent: said\n"


def test_the_first_signal_while_writing_only_tells(capsys):
    before = signal.getsignal(signal.SIGINT)  # ignored, if the tests run in the background
    with Talk(quiet=False).patience("writing x.html"):
        os.kill(os.getpid(), signal.SIGINT)

    assert capsys.readouterr().err == "otelagent: still writing x.html; once more gives up\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_signal_while_writing_gives_up(capsys):
    def interrupt_twice():
        with Talk(quiet=False).patience("writing x.html"):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(OutputError, match=r"interrupted while writing x\.html \(SIGTERM\)"):
        interrupt_twice()
