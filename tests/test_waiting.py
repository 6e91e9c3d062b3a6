# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Waits go into every format and come back, apart from what ran."""

import gzip
import io

import pytest

from otelagent.export.otlp_profiles import encode_profiles
from otelagent.model import Pid, Process, Thread, Trace
from otelagent.profile.formats import registry
from otelagent.profile.formats.html import page_title
from otelagent.profile.formats.pprof_proto import profile_class
from otelagent.profile.model import Profile
from otelagent.waiting import (
    OFF_CPU,
    UNKNOWN,
    WALL,
    is_waiting,
    read_waiting_frame,
    state_of,
    waiting_frame,
)
from tests.builders.profiles import LIBC, PERIOD_NS, native
from tests.export.conformance import check

READ = native(LIBC, 0xF8000, "read")
MAIN = native(LIBC, 0x26000, "main")
RAN = Trace((MAIN,))
SLEPT = Trace((waiting_frame("sleeping"), READ, MAIN))
BLOCKED = Trace((waiting_frame("blocked"), READ, MAIN), "NO_ROW")
PROCESS, THREAD = Process(Pid(7), "app"), Thread(8, "work")


def off_cpu():
    profile = Profile(sample_type=OFF_CPU, period_type=OFF_CPU, start_unix_ns=1 << 60)
    profile.duration_ns = 10**10
    profile.add(SLEPT, PROCESS, THREAD, 3, 5_000_000, [(1 << 60) + at for at in range(3)])
    profile.add(BLOCKED, PROCESS, THREAD, 1, 70_000, [(1 << 60) + 9])
    return profile


def wall():
    profile = off_cpu()
    profile.sample_type, profile.period_type = WALL, ("cpu", "nanoseconds")
    profile.period_ns = PERIOD_NS
    times = [(1 << 60) + 50, (1 << 60) + 60]
    profile.add(RAN, PROCESS, THREAD, 2, 2 * PERIOD_NS, times)
    return profile


def written(profile, name):
    stream = io.BytesIO()
    registry.write(profile, name, stream)
    return stream.getvalue()


def values(profile):
    """ns by state, and by whether it ran."""
    found = {}
    for trace, *_keys, group in profile:
        found[state_of(trace)] = found.get(state_of(trace), 0) + group.value
    return found


@pytest.mark.parametrize("make", [off_cpu, wall])
@pytest.mark.parametrize(
    "name", ["html", "pprof", "collapsed", "speedscope", "otlp", "otlp.json", "otlp.zst"]
)
def test_what_is_read_back_is_what_was_written(make, name):
    profile = make()

    back = registry.format_named(name).read(written(profile, name))

    assert back.sample_type == profile.sample_type
    # Collapsed stacks have microseconds.
    off_by = 1000 if name == "collapsed" else 0
    assert values(back) == pytest.approx(values(profile), abs=off_by)


def test_otlp_has_a_profile_of_each_kind():
    request = encode_profiles(wall(), wall())

    assert check(request) == []
    strings = request.dictionary.string_table
    ran, waited = request.resource_profiles[0].scope_profiles[0].profiles
    assert strings[ran.sample_type.type_strindex] == "samples"
    assert [len(sample.timestamps_unix_nano) for sample in ran.samples] == [2]
    assert strings[waited.sample_type.type_strindex] == "off_cpu"
    assert strings[waited.sample_type.unit_strindex] == "nanoseconds"
    assert [list(sample.values) for sample in waited.samples] == [[5_000_000], [70_000]]
    # The state is an attribute there, and no frame.
    assert not any("off-CPU" in text for text in strings)
    states = {
        each.value.string_value
        for each in request.dictionary.attribute_table
        if strings[each.key_strindex].endswith("thread.state")
    }
    assert states == {"sleeping", "blocked"}


def test_pprof_has_values_of_each_kind():
    message = profile_class()()
    message.ParseFromString(gzip.decompress(written(wall(), "pprof")))

    types = [message.string_table[one.type] for one in message.sample_type]
    assert types == ["cpu", "off_cpu", "wall"]
    ran = 2 * PERIOD_NS
    rows = sorted(list(sample.value) for sample in message.sample)
    assert rows == [[0, 70_000, 70_000], [0, 5_000_000, 5_000_000], [ran, 0, ran]]


def test_collapsed_stacks_have_microseconds():
    assert written(off_cpu(), "collapsed").decode().splitlines() == [
        "app;main;read;[off-CPU: blocked] 70",
        "app;main;read;[off-CPU: sleeping] 5000",
    ]


def test_pages_and_summaries_say_what_they_are_of():
    assert page_title(off_cpu()).endswith("off-CPU profile")
    assert page_title(wall()).endswith("wall-clock profile")
    assert written(off_cpu(), "md").startswith(b"# Off-CPU profile\n")
    assert written(Profile(), "md").startswith(b"# CPU profile\n")


def test_only_its_own_name_is_a_state():
    assert read_waiting_frame("[off-CPU: sleeping]") == waiting_frame("sleeping")
    assert read_waiting_frame("off-CPU") is None
    assert not is_waiting(RAN)
    assert state_of(Trace(())) == ""
    assert state_of(Trace((waiting_frame(UNKNOWN),))) == UNKNOWN
