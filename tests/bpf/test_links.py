# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import errno
from types import SimpleNamespace

import pytest

from otelagent.bpf import links
from otelagent.bpf.links import Rate, SamplingEvents, open_error, parse_cpu_list
from otelagent.errors import AttachFailed, MissingFeature, NotPermitted


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0\n", [0]), ("0-3\n", [0, 1, 2, 3]), ("0-1,4,6-7", [0, 1, 4, 6, 7]), ("\n", [])],
)
def test_cpu_lists_are_expanded(text, cpus):
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EACCES, NotPermitted, "perf_event_paranoid"),
        (errno.ENOENT, MissingFeature, "cpu-clock"),
        (errno.EMFILE, AttachFailed, "ulimit"),
    ],
)
def test_each_refusal_of_the_kernel_has_its_way_out(monkeypatch, number, kind, words):
    monkeypatch.setattr(links, "refusal_hint", lambda _call: "")

    error = open_error(-number, "cycles")

    assert type(error) is kind
    assert words in error.hint


class FakeLink:
    def __init__(self, fd, program):
        self.fd, self.program = fd, program

    def close(self):
        self.program.attached.remove(self.fd)


class FakeProgram:
    """Remembers which events (numbered like their CPU) it is attached to."""

    def __init__(self):
        self.attached = []

    def attach_perf_event(self, fd):
        if fd == 66:
            raise AttachFailed("refused")
        self.attached.append(fd)
        return FakeLink(fd, self)


@pytest.fixture
def machine(monkeypatch):
    """CPUs that are online, those that vanish when opened, and what was closed."""

    class Machine:
        def __init__(self):
            self.online, self.gone, self.closed, self.times = [0, 1], (), [], {}

        def open_sampling(self, rate, cpu, pid):
            if cpu in self.gone:
                raise OSError(errno.ENODEV, "No such device")
            return cpu

    machine = Machine()
    monkeypatch.setattr(links, "online_cpus", lambda: machine.online)
    monkeypatch.setattr(links, "open_sampling", machine.open_sampling)
    monkeypatch.setattr(links, "close_event", machine.closed.append)
    monkeypatch.setattr(links, "read_times", lambda cpu: machine.times.get(cpu, (0, 0)))
    return machine


def test_cpus_that_come_and_go_are_followed(machine):
    program = FakeProgram()
    events = SamplingEvents(program, Rate(frequency_hz=99))
    events.attach()
    assert program.attached == [0, 1]

    machine.online = [1, 2]
    events.refresh()
    assert (program.attached, events.cpus) == ([1, 2], [1, 2])

    machine.online, machine.gone = [1, 2, 3], {3}
    events.refresh()
    assert events.cpus == [1, 2]

    events.close()
    assert program.attached == []


def test_cpu_that_went_and_came_between_two_looks_is_sampled_again(machine, monkeypatch):
    opened = []

    def open_sampling(rate, cpu, pid):
        opened.append(cpu)
        return machine.open_sampling(rate, cpu, pid)

    monkeypatch.setattr(links, "open_sampling", open_sampling)
    events = SamplingEvents(FakeProgram(), Rate(frequency_hz=99))
    events.attach()
    for now in (100, 200):
        machine.times = {0: (now, now), 1: (now, now)}
        events.refresh()
    assert opened == [0, 1]

    machine.times = {0: (300, 300), 1: (200, 200)}
    events.refresh()
    assert opened == [0, 1, 1]

    for now in (400, 500):  # it went just when its event was opened
        machine.times = {0: (now, now), 1: (0, 0)}
        events.refresh()
    assert opened == [0, 1, 1, 1]

    machine.times = {0: (600, 600), 1: (20, 20)}
    events.refresh()
    assert opened == [0, 1, 1, 1]


def test_an_event_of_one_process_stands_still_while_that_sleeps(machine):
    program = FakeProgram()
    events = SamplingEvents(program, Rate(frequency_hz=99), pid=77)
    events.attach()
    machine.times = {0: (100, 100), 1: (100, 100)}
    program.attach_perf_event = None

    events.refresh()
    events.refresh()

    assert events.cpus == [0, 1]


def test_throttled_time_of_cpus_that_went_counts_too(machine):
    events = SamplingEvents(FakeProgram(), Rate(frequency_hz=100))
    events.attach()
    machine.times = {0: (500_000_000, 1_000_000_000), 1: (1_000_000_000, 1_000_000_000)}
    machine.online = [1]
    events.refresh()

    assert events.throttled() == events.throttled() == (50, 0.25)


def test_nothing_stays_attached_when_one_cpu_is_refused(machine):
    program = FakeProgram()
    machine.online = [0, 1, 66]

    with pytest.raises(AttachFailed):
        SamplingEvents(program, Rate(frequency_hz=99)).attach()

    assert program.attached == []
    assert machine.closed == [66]


def test_a_cpu_that_came_and_is_refused_does_not_end_the_recording(machine):
    program = FakeProgram()
    events = SamplingEvents(program, Rate(frequency_hz=99))
    events.attach()
    machine.online = [0, 1, 66]

    events.refresh()
    events.refresh()

    assert program.attached == [0, 1]
    assert machine.closed == [66, 66]


def test_what_cannot_be_switched_off_does_not_end_the_recording(machine, monkeypatch):
    refusing = SimpleNamespace(oa_perf_enable=lambda _fd, _on: -errno.EBADF)
    events = SamplingEvents(FakeProgram(), Rate(frequency_hz=99))
    events.attach()
    monkeypatch.setattr(links, "lib", refusing)

    events.disable()
    with pytest.raises(AttachFailed):
        events.enable()


@pytest.mark.parametrize("is_hardware", [False, True])
def test_a_frequency_that_the_kernel_refuses_is_asked_for_as_a_period(monkeypatch, is_hardware):
    """A busy kernel lowers kernel.perf_event_max_sample_rate, which holds for frequencies only."""
    asked = []

    def opened(_source, _cpu, _pid, frequency, period):
        asked.append((frequency, period))
        return -errno.EINVAL if frequency else 7

    fake = SimpleNamespace(oa_perf_open_sampling=opened, OA_PERF_CYCLES=1, OA_PERF_CPU_CLOCK=0)
    monkeypatch.setattr(links, "lib", fake)
    rate = Rate(frequency_hz=199, is_hardware=is_hardware)

    if is_hardware:
        with pytest.raises(AttachFailed, match="cycles"):
            links.open_sampling(rate, 0)
    else:
        assert links.open_sampling(rate, 0) == 7
        assert asked == [(199, 0), (0, 1_000_000_000 // 199)]


def test_debians_stricter_setting_is_named_where_the_capabilities_are_there(monkeypatch, tmp_path):
    (tmp_path / "paranoid").write_text("3\n")
    monkeypatch.setattr(links, "_PARANOID", tmp_path / "paranoid")
    monkeypatch.setattr(links, "refusal_hint", lambda _call: "a security module may deny it")

    assert "CAP_SYS_ADMIN" in open_error(-errno.EACCES, "dummy").hint

    (tmp_path / "paranoid").write_text("2\n")
    assert "security module" in open_error(-errno.EACCES, "dummy").hint
