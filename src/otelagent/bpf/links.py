# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Sampling events: one perf event per online CPU with a BPF program on each.

CPUs come and go: `refresh()` compares with the list of online ones and is to
be called about once a second. Used by one thread.
"""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent import log
from otelagent._native import ffi, lib
from otelagent.bpf.reasons import describe, refusal_hint
from otelagent.errors import AttachFailed, KernelError, MissingFeature, NotPermitted

if TYPE_CHECKING:
    from collections.abc import Collection

    from otelagent.bpf.object import Link, Program

_logger = logging.getLogger(__name__)
_ONLINE = "/sys/devices/system/cpu/online"
_PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
_NO_PERF = "this kernel has no perf events (CONFIG_PERF_EVENTS), or a seccomp filter denies them"
_PARANOID_MEANS = {
    "-1": "no restriction",
    "0": "no raw tracepoints without privilege",
    "1": "no CPU-wide events without privilege",
    "2": "no kernel profiling without privilege",
    "3": "no perf events without privilege",
    "4": "no perf events without privilege",
}
"""Documentation/admin-guide/sysctl/kernel.rst; 3 and 4 are Debian's and Ubuntu's."""
_DEBIANS = ("3", "4")


@dataclass(frozen=True, slots=True)
class Rate:
    """How often to sample: by time (`cpu-clock`) or by the CPU's cycle counter.

    Exactly one of `frequency_hz` and `period` is set; the period is in ns or cycles.
    """

    frequency_hz: int = 0
    period: int = 0
    is_hardware: bool = False

    @property
    def name(self) -> str:
        """The event's name on the command line."""
        return "cycles" if self.is_hardware else "cpu-clock"

    @property
    def source(self) -> int:
        """The event in the C core (`enum oa_perf_source`)."""
        return int(lib.OA_PERF_CYCLES if self.is_hardware else lib.OA_PERF_CPU_CLOCK)


def parse_cpu_list(text: str) -> list[int]:
    """Expand `0-2,5` into [0, 1, 2, 5]."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def online_cpus() -> list[int]:
    """Read which CPUs are online; cheaply, since it is asked once a second for ever."""
    fd = os.open(_ONLINE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return parse_cpu_list(os.read(fd, 65_536).decode())
    finally:
        os.close(fd)


def paranoid_hint() -> str:
    """Say what kernel.perf_event_paranoid is and how to get around it, or what else denies."""
    hint = refusal_hint("perf_event_open")
    try:
        value = _PARANOID.read_text().strip()
    except OSError:
        return hint or "this kernel has no perf events (CONFIG_PERF_EVENTS)"
    if hint and value in _DEBIANS:
        return (
            f"kernel.perf_event_paranoid is {value}: Debian's and Ubuntu's kernels want "
            "CAP_SYS_ADMIN then, CAP_PERFMON does not do: grant it, or set it to 2"
        )
    if hint:
        return hint
    means = _PARANOID_MEANS.get(value, "unknown")
    return (
        f"kernel.perf_event_paranoid is {value} ({means}): "
        "run as root or grant CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8)"
    )


def open_error(error: int, event: str) -> KernelError:
    """Turn an errno of perf_event_open into what the user can understand."""
    number = abs(error)
    message = f"cannot open perf event {event}: {describe(error)}"
    if number in {errno.EACCES, errno.EPERM}:
        return NotPermitted(message, hint=paranoid_hint())
    if number in {errno.ENOENT, errno.EOPNOTSUPP, errno.ENXIO}:
        hint = "this CPU has no usable counter (virtual machines often hide it): use cpu-clock"
        return MissingFeature(message, hint=hint)
    if number == errno.ENOSYS:
        return MissingFeature(message, hint=_NO_PERF)
    if number == errno.EMFILE:
        return AttachFailed(message, hint="raise the limit of open files (ulimit -n)")
    if number == errno.EINVAL:
        hint = "the frequency may be above kernel.perf_event_max_sample_rate"
        return AttachFailed(message, hint=hint)
    return AttachFailed(message)


def close_event(fd: int) -> None:
    """Close an event that no link owns."""
    lib.oa_close(fd)


def open_sampling(rate: Rate, cpu: int, pid: int = -1) -> int:
    """Open a disabled event; `cpu` or `pid` -1 means any, `pid` 0 the calling thread.

    Raises:
        NotPermitted: A capability is missing.
        MissingFeature: There is no such counter.
        AttachFailed: Anything else.
        OSError: ENODEV (the CPU is offline) or ESRCH (there is no such process).
    """
    fd = int(lib.oa_perf_open_sampling(rate.source, cpu, pid, rate.frequency_hz, rate.period))
    if fd == -errno.EINVAL and rate.frequency_hz and not rate.is_hardware:
        # Above kernel.perf_event_max_sample_rate, which the kernel lowers when it is busy;
        # that holds for frequencies only.
        period = 1_000_000_000 // rate.frequency_hz
        fd = int(lib.oa_perf_open_sampling(rate.source, cpu, pid, 0, period))
    if fd in {-errno.ENODEV, -errno.ESRCH}:
        raise OSError(-fd, describe(fd))
    if fd < 0:
        raise open_error(fd, rate.name)
    return fd


def read_times(fd: int) -> tuple[int, int]:
    """Read what a sampling event counted, and for how many ns it was enabled."""
    times = ffi.new("u64[2]")
    if error := lib.oa_perf_read(fd, times):
        log.once(_logger, "read", "what the kernel throttled is not known", error=describe(error))
        return 0, 0
    return times[0], times[1]


def find_dead(before: dict[int, int], now: dict[int, int]) -> set[int]:
    """CPUs whose event was enabled for no longer than at the last look (ns, by CPU).

    A CPU that is switched off takes its events off the list, and they do not come back with
    it (`perf_event_exit_cpu_context`, kernel/events/core.c; seen on 5.10 and 7.3). An event that
    was opened just before was never enabled.
    """
    return {cpu for cpu, enabled_ns in now.items() if enabled_ns == before.get(cpu)}


def open_tracepoint(number: int, name: str) -> int:
    """Open an event of a tracepoint, by its number in tracefs.

    Raises:
        KernelError: A capability or the tracepoint is missing.
    """
    fd = int(lib.oa_perf_open_tracepoint(number))
    if fd < 0:
        raise open_error(fd, name)
    return fd


def spin(milliseconds: int) -> None:
    """Keep this thread busy in user mode, without the GIL."""
    lib.oa_spin(milliseconds)


def thread_pointer() -> int:
    """Get the calling thread's TLS base, which the kernel keeps in its task_struct."""
    return int(lib.oa_thread_pointer())


class SamplingEvents:
    """A program that runs at each tick of each online CPU.

    Args:
        program: A loaded perf_event program.
        rate: How often.
        pid: -1 for every process, or one thread and the children it will have.
        only: CPUs that are sampled; empty: all.
    """

    def __init__(
        self, program: Program, rate: Rate, *, pid: int = -1, only: Collection[int] = ()
    ) -> None:
        self._program = program
        self._only = set(only)
        self._rate = rate
        self._pid = pid
        self._links: dict[int, tuple[int, Link]] = {}
        self._is_enabled = True
        self._gone = 0, 0  # times of CPUs that went
        self._seen: dict[int, int] = {}

    def attach(self) -> None:
        """Sample on every CPU that is online; on failure nothing stays attached."""
        try:
            self._refresh()
        except BaseException:
            self.close()
            raise

    @property
    def cpus(self) -> list[int]:
        """The CPUs that are sampled."""
        return sorted(self._links)

    def refresh(self) -> None:
        """Follow CPUs that came or went since the last call; one that cannot be is told once."""
        try:
            self._refresh()
        except KernelError as err:
            log.once(_logger, "refresh", "a CPU that came is not sampled", error=err)

    def _refresh(self) -> None:
        online = set(online_cpus())
        if self._only:
            online &= self._only
        for cpu in (self._links.keys() - online) | self._left():
            fd, link = self._links.pop(cpu)
            counted, enabled = read_times(fd)
            self._gone = self._gone[0] + counted, self._gone[1] + enabled
            link.close()
        for cpu in sorted(online - self._links.keys()):
            self._add(cpu)

    def _left(self) -> set[int]:
        """CPUs whose events count no more: they went and came between two looks."""
        if self._pid != -1 or not self._is_enabled:
            return set()
        before = self._seen
        self._seen = {cpu: read_times(fd)[1] for cpu, (fd, _) in self._links.items()}
        return find_dead(before, self._seen)

    def _add(self, cpu: int) -> None:
        try:
            fd = open_sampling(self._rate, cpu, self._pid)
        except OSError as err:
            if err.errno == errno.ENODEV:
                return  # it went offline again: the next refresh tells
            raise AttachFailed(f"cannot sample process {self._pid}: {err.strerror}") from err
        try:
            link = self._program.attach_perf_event(fd)
        except AttachFailed:
            close_event(fd)
            raise
        self._links[cpu] = (fd, link)
        if not self._is_enabled:
            lib.oa_perf_enable(fd, 0)

    def enable(self, on: bool = True) -> None:
        """Switch sampling on or off on all CPUs; it is on when the events are attached."""
        self._is_enabled = on
        for fd, _ in self._links.values():
            error = lib.oa_perf_enable(fd, on)
            if error:
                raise AttachFailed(f"cannot switch a perf event: {describe(error)}")

    @property
    def is_enabled(self) -> bool:
        """Whether CPUs are interrupted now."""
        return self._is_enabled

    @property
    def frequency_hz(self) -> int:
        """Ticks per second and CPU that were asked for last."""
        return self._rate.frequency_hz

    def set_frequency(self, frequency_hz: int) -> None:
        """Tick so often from now on, also on CPUs that come later; of `cpu-clock` only.

        A frequency of a running event of the CPU clock is a period: the kernel turned it into one
        when it was opened (perf_swevent_init_hrtimer, kernel/events/core.c).

        Raises:
            AttachFailed: The kernel refuses.
        """
        self._rate = replace(self._rate, frequency_hz=frequency_hz)
        for fd, _ in self._links.values():
            error = lib.oa_perf_set_period(fd, 1_000_000_000 // frequency_hz)
            if error:
                raise AttachFailed(f"cannot change how often to sample: {describe(error)}")

    def disable(self) -> None:
        """Switch sampling off; the events stay. What cannot be switched ends with `close`."""
        try:
            self.enable(on=False)
        except AttachFailed as err:
            log.once(_logger, "disable", "sampling goes on until it is closed", error=err)

    def throttled(self) -> tuple[int, float]:
        """Tell how many ticks of all CPUs the kernel left out since, and their share.

        A throttled event stays enabled while its clock stands still (`perf_event_throttle`), for
        the rest of a jiffy that had more ticks than kernel.perf_event_max_sample_rate allows.
        """
        if self._rate.is_hardware:
            return 0, 0.0  # cycles do not tell time
        # The main thread may open and close events meanwhile: a descriptor that is gone tells 0.
        times = [self._gone, *(read_times(fd) for fd, _ in list(self._links.values()))]
        enabled_ns = sum(time[1] for time in times)
        missing_ns = max(enabled_ns - sum(time[0] for time in times), 0)
        period_ns = self._rate.period or 1_000_000_000 // self._rate.frequency_hz
        return missing_ns // period_ns, missing_ns / max(enabled_ns, 1)

    def close(self) -> None:
        """Detach everywhere."""
        for _, link in self._links.values():
            link.close()
        self._links.clear()
