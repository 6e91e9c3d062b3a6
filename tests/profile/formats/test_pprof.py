# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import contextlib
import gzip
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otelagent.errors import FormatError
from otelagent.model import FrameType, Pid, Process, Thread, Trace
from otelagent.profile.formats import pprof
from otelagent.profile.formats.gzipped import unpack
from otelagent.profile.formats.pprof_proto import profile_class
from otelagent.profile.model import Profile
from otelagent.profile.top import top_functions
from tests.builders.profiles import API, LIBC, NODE, PERIOD_NS, kernel, native, synthetic_profile


def encode(profile: Profile) -> bytes:
    stream = io.BytesIO()
    pprof.write(profile, stream)
    return stream.getvalue()


def message_of(data: bytes):
    return profile_class().FromString(gzip.decompress(data))


def test_samples_have_a_count_and_cpu_time():
    message = message_of(encode(synthetic_profile()))

    units = [message.string_table[one.unit] for one in message.sample_type]
    assert units == ["count", "nanoseconds"]
    assert sum(one.value[0] for one in message.sample) == 2000
    assert sum(one.value[1] for one in message.sample) == 2000 * PERIOD_NS
    assert message.string_table[0] == ""


def test_labels_name_process_and_thread():
    profile = Profile(period_ns=1)
    trace = Trace((native(LIBC, 0x30000, "inner", "outer"),), "NO_ROW")
    profile.add(trace, Process(Pid(7), "p"), Thread(8, "t"), 1, 1)

    message = message_of(encode(profile))

    strings = message.string_table
    labels = {strings[one.key]: strings[one.str] or one.num for one in message.sample[0].label}
    assert labels == {
        "pid": 7,
        "process": "p",
        "thread.id": 8,
        "thread.name": "t",
        "otelagent.fault": "NO_ROW",
    }
    [location] = message.location
    names = {one.id: strings[one.name] for one in message.function}
    assert [names[line.function_id] for line in location.line] == ["inner", "outer"]


def first_mapping(profile: Profile) -> str:
    message = message_of(encode(profile))
    return message.string_table[message.mapping[0].filename]


@pytest.mark.parametrize("process", [Process(Pid(7), "p", NODE.path), Process(Pid(7), "node")])
def test_the_first_mapping_is_the_program_that_took_most_time(process):
    """`go tool pprof` shows it as `File:`; a kernel or a library would say nothing."""
    profile = Profile()
    in_kernel = kernel("vfs_read", 0xFFFFFFFF81000000)
    stack = (in_kernel, native(LIBC, 1, "read"), native(NODE, 2, "main"))
    profile.add(Trace(stack), process, Thread(8), 9, 9)
    other = Process(Pid(9), "api-server", API.path)
    profile.add(Trace((in_kernel, native(API, 3, "main"))), other, Thread(9), 5, 5)

    assert first_mapping(profile) == NODE.path


def test_a_program_without_frames_of_its_own_is_named_by_a_library_before_the_kernel():
    profile = Profile()
    stack = (kernel("vfs_read", 0xFFFFFFFF81000000), native(LIBC, 1, "read"))
    profile.add(Trace(stack), Process(Pid(7), "p", "/bin/p"), Thread(8), 1, 1)

    assert first_mapping(profile) == LIBC.path


def test_what_is_read_back_has_the_same_functions_and_figures():
    profile = synthetic_profile()

    back = pprof.read(encode(profile))

    assert (back.samples, back.period_ns, back.notes, back.host) == (
        2000,
        PERIOD_NS,
        profile.notes,
        profile.host,
    )

    def rows(one: Profile) -> list:
        return [(r.label.name, r.self_value, r.total_value) for r in top_functions(one)]

    assert rows(back) == rows(profile)
    types = {frame.type for trace in back.traces for frame in trace.frames}
    assert types == {FrameType.NATIVE, FrameType.KERNEL, FrameType.PYTHON, FrameType.GO}


@pytest.mark.parametrize(
    "data", [b"", b"\x1f\x8b", b"garbage", gzip.compress(b"garbage"), gzip.compress(b"x" * 99)[:-5]]
)
def test_what_is_no_profile_is_refused(data):
    with pytest.raises(FormatError):
        pprof.read(data)


def test_a_gzip_bomb_is_refused_by_its_size():
    with pytest.raises(FormatError, match="more than 1000 bytes"):
        unpack(gzip.compress(bytes(10**7)), 1000)


def test_gzip_files_of_two_members_are_read_whole():
    assert unpack(gzip.compress(b"a") + gzip.compress(b"b")) == b"ab"


SMALL = gzip.decompress(encode(synthetic_profile(30)))


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_message_is_read_or_refused(data):
    bad = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 8))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FormatError):
        assert pprof.read(bytes(bad)).samples >= 0
