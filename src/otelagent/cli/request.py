# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What was asked of `record` or `top`, checked, and turned into what the profiler takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from otelagent.errors import AgentError, ConfigError
from otelagent.host import procfs
from otelagent.host.cgroup import find_cgroup
from otelagent.options import Options

if TYPE_CHECKING:
    from pathlib import Path

    from otelagent.cli.talk import Talk
    from otelagent.host.command import HeldCommand


@dataclass(frozen=True, slots=True)
class Request:
    """The command line of `record`, `top` or `agent`, as it was given.

    `base` has what only some of them can be asked for.
    """

    command: tuple[str, ...]
    pids: tuple[int, ...]
    cgroups: tuple[str, ...]
    everything: bool
    frequency_hz: int
    duration: str
    event: str
    max_frames: int
    quiet: bool
    verbose: int
    symbols: bool
    debuginfod: str
    btf_path: Path | None
    check_kernel: bool
    output: str = ""
    format_name: str = ""
    force: bool = False
    base: Options = Options()  # noqa: RUF009 (frozen)

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: Not exactly one kind of target, or an unknown event.
        """
        chosen = [bool(self.command), bool(self.pids), bool(self.cgroups), self.everything]
        if sum(chosen) != 1:
            what = "say what to profile" if not any(chosen) else "say only one thing to profile"
            raise ConfigError(
                f"{what}: -p PID, --cgroup PATH, --all or -- COMMAND",
                hint="for example: -- python3 app.py",
            )
        if self.event not in {"cpu-clock", "cycles"}:
            raise ConfigError(f"there is no event {self.event!r}", hint="cpu-clock or cycles")


def make_options(request: Request, talk: Talk, command: HeldCommand | None) -> Options:
    """Turn the request into what the profiler takes; checks that targets exist."""
    options = replace(
        request.base,
        frequency_hz=request.frequency_hz,
        everything=request.everything,
        max_frames=request.max_frames,
        use_cycles=request.event == "cycles",
        btf_path=request.btf_path,
        check_kernel=request.check_kernel,
        symbols=request.symbols,
        debuginfod=request.debuginfod,
    )
    if command:
        return replace(options, held_pid=command.pid, held_argv=command.argv)
    for pid in request.pids:
        leader = procfs.leader_of(pid)
        if leader != pid:
            hint = f"-p {leader} samples all of its threads"
            raise AgentError(f"{pid} is a thread of process {leader}", hint=hint)
        if procfs.is_kernel_thread(pid):
            raise AgentError(
                f"process {pid} is a kernel thread ({procfs.read_comm(pid)}): it has no program",
                hint="--all samples the kernel's threads, too",
            )
    pids = list(request.pids)
    unified = []
    for name in request.cgroups:
        cgroup = find_cgroup(name)
        if cgroup.is_unified:
            unified.append(cgroup.path)
            continue
        talk.say(
            f"{cgroup.path} is a cgroup of version 1: its processes of this moment are "
            "followed, with their children; those that enter it later are not"
        )
        pids.extend(cgroup.pids())
    return replace(options, pids=tuple(pids), cgroups=tuple(unified))


def intention(request: Request, seconds: float | None, purpose: str, stop: str = "Ctrl-C") -> str:
    """Say what is going to happen; `purpose` is what `stop` leads to (`writes x.html`)."""
    what = "the whole system"
    if request.command:
        what = " ".join(request.command)
    elif request.pids:
        named = [f"{pid} ({procfs.read_comm(pid)})" for pid in request.pids]
        what = ("process " if len(named) == 1 else "processes ") + ", ".join(named)
    elif request.cgroups:
        what = ("cgroup " if len(request.cgroups) == 1 else "cgroups ") + ", ".join(request.cgroups)
    until = f"until {stop}"
    if seconds is not None:
        until = f"for {seconds:g} s"
    elif request.command or request.pids:
        until = "until it ends" if len(request.pids) < 2 else "until they end"
    how = f"sampling {what} at {request.frequency_hz} Hz"
    if not request.base.on_cpu:
        how = f"sampling the waits of {what}"
    elif request.base.off_cpu:
        how += ", and its waits,"
    return f"{how} {until}; {stop} {purpose}"
