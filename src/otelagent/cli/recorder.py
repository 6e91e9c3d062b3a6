# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What `record` does: check the request, sample until something ends it, write, tell."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

from otelagent.cli.request import Request, intention
from otelagent.cli.session import Session
from otelagent.cli.talk import Talk
from otelagent.errors import AgentError
from otelagent.kernel import capabilities, namespace
from otelagent.profile.formats import registry
from otelagent.profile.output import STDOUT, check_output, default_name, print_output, write_output

if TYPE_CHECKING:
    from otelagent.profile.formats.registry import Format
    from otelagent.profiler import Profiler

STATUS_SECONDS = 0.5
"""How often the status line is written anew; each time takes 0.5 ms of CPU."""
IDLE_SECONDS = 1.0
"""How often the front looks whether there is anything left to sample, signals aside."""


def run(request: Request) -> None:
    """Record as asked and exit with the right status.

    Raises:
        AgentError: As it says.
    """
    request.check()
    name = request.format_name or (registry.format_of(request.output) if request.output else "html")
    target = registry.format_named(name)
    output = request.output or default_name()
    shown = "standard output" if output in STDOUT else output
    talk = Talk(quiet=request.quiet)
    session = Session(request, talk)
    capabilities.require()
    namespace.require_first()
    check_output(output, force=request.force)
    with session:
        # What was made by now stays: nothing is gained by looking through it again and again.
        gc.freeze()
        talk.say(intention(request, session.seconds, f"stops and writes {shown}"))
        session.release()
        while not session.wait(STATUS_SECONDS if talk.is_live else IDLE_SECONDS):
            if talk.is_live:
                talk.status(status_line(session.profiler, session.elapsed))
        talk.status("naming what was sampled")
        failure = session.stop()
        gc.disable()  # much is made from here on, and nothing in cycles, before we are gone
        with talk.patience(f"writing {shown}"):
            _write(session.profiler, talk, request, target, output)
    if failure is not None:
        raise failure
    gc.freeze()  # nothing has to be collected on the way out: that took 40 ms
    sys.exit(session.status)


def status_line(profiler: Profiler, elapsed: float) -> str:
    """Tell how it goes."""
    profiler.flush()
    tally = profiler.collector.tally_now()
    lost = profiler.losses().lost_samples
    short = sum(tally.faults.values())
    return f"{elapsed:5.1f} s  {tally.samples} samples  {lost} lost  {short} short stacks"


def _write(profiler: Profiler, talk: Talk, request: Request, target: Format, output: str) -> None:
    from otelagent.cli.details import details, jit_remarks, remarks  # noqa: PLC0415 (after sampling)
    from otelagent.profile.table import print_top  # noqa: PLC0415
    from otelagent.recording import make_profile, summary  # noqa: PLC0415

    losses = profiler.losses()
    profile = make_profile(profiler, profiler.collector.take_each(), losses)
    tail = summary(profiler, losses)
    if not profile.samples:
        tail += (
            "; what waits all the time is not seen here: otelagent dump shows it"
            if not request.base.on_cpu
            else "; nothing ran on a CPU when one was due (a higher -F sees more)"
        )
    for line in (*remarks(profiler, losses), *jit_remarks(profile)):
        talk.say(line)
    if request.verbose:
        for line in details(profiler, losses):
            talk.say(line)
    profiler.close()
    try:
        write_output(
            output, lambda stream: target.write(profile, stream), force=request.force, keep=True
        )
    except AgentError:
        talk.say(tail)
        raise
    try:
        if not request.output and not request.quiet and profile.samples:
            print_output(lambda stream: print_top(profile, stream))
    finally:
        name = "standard output" if output in STDOUT else output
        talk.say(f"wrote {name}: {tail}")
