# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What `top` does: sample, and show it live on a terminal or as plain tables elsewhere."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from otelagent.cli.request import Request, intention
from otelagent.cli.session import Session
from otelagent.cli.talk import Talk, is_terminal
from otelagent.cli.topcounts import Counts
from otelagent.kernel import capabilities, namespace
from otelagent.profile.output import print_output
from otelagent.profile.printable import printable
from otelagent.profile.table import print_functions, print_top

if TYPE_CHECKING:
    from typing import TextIO

    from rich.live import Live

    from otelagent.cli.keys import Keyboard

REFRESH_SECONDS = 1.0
KEY_SECONDS = 0.1


def run(request: Request, interval: float | None) -> None:
    """Sample as asked, show, and exit with the right status.

    Raises:
        AgentError: As it says.
    """
    request.check()
    capabilities.require()
    namespace.require_first()
    is_live = is_terminal(sys.stdout)
    talk = Talk(quiet=request.quiet)
    with Session(request, talk, is_silent=is_live) as session:
        what = intention(request, session.seconds, "ends it")
        talk.say(what)
        session.release()
        counts = Counts(session, interval or REFRESH_SECONDS)
        if is_live:
            with talk.held():
                has_quit = _show_live(session, counts, _subject(what), interval or REFRESH_SECONDS)
            if has_quit:
                session.quit()
        else:
            _show_plain(session, counts, interval)
        failure = session.stop()
        with talk.patience("naming what was sampled"):
            _conclude(session, counts, talk, interval=None if is_live else interval)
    if failure is not None:
        raise failure
    sys.exit(session.status)


def _subject(said: str) -> str:
    return printable(said.removeprefix("sampling ").partition(" at ")[0])


def _show_plain(session: Session, counts: Counts, interval: float | None) -> None:
    due = time.monotonic() + (interval or 0)
    while not session.wait(0.25 if interval is None else max(due - time.monotonic(), 0)):
        if interval is not None and time.monotonic() >= due:
            due += interval
            counts.tick()
            _print_interval(counts)


def _print_interval(counts: Counts) -> None:
    def show(stream: TextIO) -> None:
        stream.write(counts.figures() + "\n")
        print_top(counts.recent[-1], stream)
        stream.write("\n")

    print_output(show)


def _conclude(session: Session, counts: Counts, talk: Talk, *, interval: float | None) -> None:
    from otelagent.recording import summary  # noqa: PLC0415

    counts.tick()
    losses = session.profiler.losses()
    latest = counts.recent[-1]
    try:
        if interval is None and counts.total:
            rows = counts.functions.sorted()
            print_output(lambda stream: print_functions(rows, counts.total, stream))
        elif interval is not None and latest.samples:
            print_output(lambda stream: print_top(latest, stream))
    finally:
        talk.say(summary(session.profiler, losses))
        counts.close()
        session.profiler.close()


def _show_live(session: Session, counts: Counts, what: str, interval: float) -> bool:
    """Draw at each interval and after each key; True if a key ended it."""
    from rich.console import Console  # noqa: PLC0415 (only where there is a terminal)
    from rich.live import Live  # noqa: PLC0415

    from otelagent.cli.keys import SUSPEND, Keyboard  # noqa: PLC0415
    from otelagent.cli.topscreen import render  # noqa: PLC0415
    from otelagent.cli.topstate import State  # noqa: PLC0415

    state = State()
    due, is_stale = 0.0, True
    console = Console(file=sys.stdout, highlight=False)
    with Keyboard() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
        while not session.wait(0):
            if time.monotonic() >= due and not state.paused:
                due = time.monotonic() + interval
                counts.tick()
                is_stale = True
            if is_stale:
                rows, whole = counts.rows(state)
                screen = render(rows, whole, state, counts.head(what), console.size)
                live.update(screen, refresh=True)
            keys = keyboard.read(KEY_SECONDS)
            is_stale = bool(keys)
            for key in keys:
                if key == SUSPEND:
                    _suspend(live, keyboard)
                else:
                    state.press(key)
            if state.quitting:
                return True
    return False


def _suspend(live: Live, keyboard: Keyboard) -> None:
    """Stop as Ctrl-Z asks, with the terminal as it was, until we are continued."""
    live.stop()
    keyboard.give_back()
    os.kill(os.getpid(), signal.SIGSTOP)
    keyboard.grab()
    live.start()
