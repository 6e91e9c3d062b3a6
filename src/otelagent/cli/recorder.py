# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What `record` does: check the request, sample until something ends it, write, tell."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING

from otelagent.cli.request import Request, intention, make_options
from otelagent.cli.talk import Talk
from otelagent.errors import AgentError
from otelagent.formats.durations import parse_duration
from otelagent.host import procfs
from otelagent.host.command import HeldCommand
from otelagent.kernel import capabilities
from otelagent.profile.formats import registry
from otelagent.profile.output import check_output, default_name, write_output

if TYPE_CHECKING:
    from otelagent.profile.formats.registry import Format
    from otelagent.profiler import Profiler

_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
_FROM_KERNEL = 0x80
"""si_code SI_KERNEL (include/uapi/asm-generic/siginfo.h): a terminal sent it to its whole group."""


def run(request: Request) -> None:
    """Record as asked and exit with the right status.

    Raises:
        AgentError: As it says.
    """
    request.check()
    seconds = parse_duration(request.duration) if request.duration else None
    name = request.format_name or (registry.format_of(request.output) if request.output else "html")
    target = registry.format_named(name)
    output = request.output or default_name()
    check_output(output, force=request.force)
    capabilities.require()
    talk = Talk(quiet=request.quiet)
    # The threads that are started from now on inherit the mask: only the loop sees signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    command = HeldCommand.fork(request.command) if request.command else None
    options = make_options(request, talk, command)
    from otelagent.profiler import Profiler  # noqa: PLC0415 (the child is forked before)

    profiler = Profiler(options)
    profiler.start()
    try:
        talk.say(intention(request, seconds, output))
        if command:
            command.release()
        interrupted = _wait(profiler, talk, command, request, seconds)
    except BaseException:
        profiler.stop()
        profiler.close()
        raise
    profiler.stop()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    _write(profiler, talk, request, target, output)
    status = command.exit_status if command else 0
    if interrupted == signal.SIGALRM:
        status = 0
    elif command and interrupted:
        status = 128 + interrupted
    sys.exit(status)


def _wait(
    profiler: Profiler,
    talk: Talk,
    command: HeldCommand | None,
    request: Request,
    seconds: float | None,
) -> int:
    """Wait for the end: returns the signal that brought it, SIGALRM for the duration, or 0."""
    began = time.monotonic()
    ticks = 0
    while True:
        left = 0.25 if seconds is None else min(0.25, began + seconds - time.monotonic())
        if left <= 0:
            if command:
                _terminate(command)
            return int(signal.SIGALRM)
        info = signal.sigtimedwait(_SIGNALS, left)
        if command and command.reap():
            return 0
        if info and info.si_signo != signal.SIGCHLD:
            if command:
                if info.si_signo != signal.SIGINT or info.si_code != _FROM_KERNEL:
                    command.send(signal.Signals(info.si_signo))
                _terminate(command, grace=5, first=None)
            return info.si_signo
        ticks += 1
        if ticks % 4 == 0:
            profiler.refresh()
        if request.pids and not any(procfs.is_alive(pid) for pid in request.pids):
            talk.say("the process has ended")
            return 0
        talk.status(_status(profiler, time.monotonic() - began))


def _terminate(
    command: HeldCommand, *, grace: float = 5, first: signal.Signals | None = signal.SIGTERM
) -> None:
    """End the command: a signal, some time, then SIGKILL."""
    if first is not None:
        command.send(first)
    deadline = time.monotonic() + grace
    while not command.reap() and time.monotonic() < deadline:
        signal.sigtimedwait({signal.SIGCHLD}, 0.1)
    if not command.reap():
        command.send(signal.SIGKILL)
        command.reap(wait=True)


def _status(profiler: Profiler, elapsed: float) -> str:
    tally = profiler.collector.tally
    lost = profiler.losses().lost_samples
    faults = sum(tally.faults.values())
    return (
        f"{elapsed:5.1f} s  {tally.samples} samples  {lost} lost  "
        f"{faults} short stacks  {len(profiler.collector.traces)} traces"
    )


def _write(profiler: Profiler, talk: Talk, request: Request, target: Format, output: str) -> None:
    from otelagent.profile.table import print_top  # noqa: PLC0415
    from otelagent.recording import make_profile, summary  # noqa: PLC0415

    losses = profiler.losses()
    profile = make_profile(profiler, profiler.collector.groups, losses)
    profiler.close()
    try:
        write_output(
            output, lambda stream: target.write(profile, stream), force=request.force, keep=True
        )
    except AgentError:
        talk.say(summary(profiler, losses))
        raise
    if not request.output and not request.quiet:
        print_top(profile, sys.stdout)
        sys.stdout.flush()
    name = "standard output" if output == "-" else output
    talk.say(f"wrote {name}: {summary(profiler, losses)}")
