# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otelagent.export.otlp_profiles import encode_profiles
from otelagent.export.otlp_reading import decode_profiles
from otelagent.model import (
    Executable,
    FileId,
    Frame,
    FrameType,
    Function,
    Line,
    Pid,
    Process,
    ProfileInfo,
    SampleGroup,
    Thread,
    Trace,
)
from otelagent.profile.model import Profile
from otelagent.waiting import waiting_frame
from tests.builders.profiles import as_dict, python, synthetic_profile
from tests.export.conformance import check
from tests.export.receivers import resources_of

PROCESS = Process(Pid(1), "p")


def attributes(request, indices) -> dict:
    dictionary = request.dictionary
    found = [dictionary.attribute_table[index] for index in indices]
    return {dictionary.string_table[one.key_strindex]: one.value for one in found}


def test_a_whole_profile_conforms():
    profile = synthetic_profile()

    assert check(encode_profiles(profile, profile)) == []


def test_an_empty_profile_conforms():
    request = encode_profiles(ProfileInfo(), [])

    assert check(request) == []
    assert len(request.resource_profiles) == 1


def mapping_request(text_start: int, text_end: int):
    executable = Executable(FileId(b"f" * 16), "/bin/f", "ab" * 20, "", text_start, text_end)
    profile = Profile()
    profile.add(Trace((Frame(FrameType.NATIVE, 5, executable),)), PROCESS, Thread(1), 1, 1)
    return encode_profiles(profile, profile)


def test_an_executable_without_an_extent_has_a_mapping_without_addresses():
    for start, end in ((7, 7), (7, 0), (7, 6)):
        request = mapping_request(start, end)

        assert check(request) == []
        mapping = request.dictionary.mapping_table[1]
        assert (mapping.memory_start, mapping.memory_limit) == (0, 0)


def test_the_checker_finds_empty_mappings():
    request = mapping_request(7, 9)
    assert check(request) == []

    request.dictionary.mapping_table[1].memory_limit = 7

    assert check(request) == ["a mapping ends where it begins"]


def test_the_checker_takes_mappings_with_reordered_attributes_for_equal():
    request = mapping_request(7, 9)
    dictionary = request.dictionary
    copy = dictionary.mapping_table.add()
    copy.CopyFrom(dictionary.mapping_table[1])
    copy.attribute_indices[:] = reversed(copy.attribute_indices)
    dictionary.location_table.add(mapping_index=2, address=9)
    dictionary.stack_table[1].location_indices.append(len(dictionary.location_table) - 1)

    assert check(request) == ["two equal mappings"]


def test_two_functions_at_equal_depth_keep_their_shares():
    """Python frames have no address: only their names tell 75 % from 25 %."""
    profile = Profile()
    main = python("main", "a.py", 50)
    for name, count in (("heavy", 75), ("light", 25)):
        trace = Trace((python(name, "a.py", 10), main))
        profile.add(trace, PROCESS, Thread(1), count, count)

    request = encode_profiles(profile, profile)

    strings = request.dictionary.string_table
    found = {}
    for sample in request.resource_profiles[0].scope_profiles[0].profiles[0].samples:
        stack = request.dictionary.stack_table[sample.stack_index]
        leaf = request.dictionary.location_table[stack.location_indices[0]]
        function = request.dictionary.function_table[leaf.lines[0].function_index]
        found[strings[function.name_strindex]] = sum(sample.values)
    assert found == {"heavy": 75, "light": 25}


def test_one_resource_per_process_with_its_attributes():
    profile = synthetic_profile()

    request = encode_profiles(profile, profile)

    resources = resources_of(request)
    assert {r["process.pid"] for r in resources} == {4321, 77, 900}
    assert {r["process.executable.name"] for r in resources} == {"python3", "node", "api-server"}
    web = next(r for r in resources if r["process.pid"] == 4321)
    assert web["process.executable.path"] == "/usr/bin/python3.11"
    assert (web["container.id"], web["host.name"]) == ("c0ffee", "tester")


def test_texts_of_resources_are_in_the_dictionary_once():
    profile = synthetic_profile()

    request = encode_profiles(profile, profile)

    entries = [each for r in request.resource_profiles for each in r.resource.attributes]
    assert len(entries) > 10
    assert not any(each.key or each.value.string_value for each in entries)
    assert list(request.dictionary.string_table).count("tester") == 1


def test_locations_are_in_order_of_file_and_address():
    """What compresses requests finds more alike in neighbours."""
    files = [Executable(FileId(each * 16), f"/bin/{each!r}") for each in (b"a", b"b")]
    frames = [Frame(FrameType.NATIVE, at, files[at % 2]) for at in (9, 4, 7, 2, 5)]
    profile = Profile()
    for count, stack in enumerate((frames, frames[::-1], frames[1:3]), 1):
        profile.add(Trace(tuple(stack)), PROCESS, Thread(1), count, count)

    request = encode_profiles(profile, profile)

    table = request.dictionary.location_table
    order = [(each.mapping_index, each.address) for each in table]
    assert (len(order), order) == (6, sorted(order))
    stacks = request.dictionary.stack_table
    [only] = request.resource_profiles[0].scope_profiles
    addresses = {
        sample.values[0]: [table[i].address for i in stacks[sample.stack_index].location_indices]
        for sample in only.profiles[0].samples
    }
    assert addresses == {1: [9, 4, 7, 2, 5], 2: [5, 2, 7, 4, 9], 3: [4, 7]}


def test_functions_are_in_the_order_of_locations():
    file = Executable(FileId(b"a" * 16), "/bin/a")
    frames = [
        Frame(FrameType.NATIVE, at, file, (Line(Function(f"at {at}")), Line(Function("outer"))))
        for at in (9, 4, 7)
    ]
    profile = Profile()
    profile.add(Trace(tuple(frames)), PROCESS, Thread(1), 1, 1)

    tables = encode_profiles(profile, profile).dictionary

    names = [tables.string_table[each.name_strindex] for each in tables.function_table]
    assert names == ["", "at 4", "outer", "at 7", "at 9"]
    assert [each.lines[0].function_index for each in tables.location_table[1:]] == [1, 3, 4]


def test_ids_of_profiles_differ_and_share_their_chance():
    profile = synthetic_profile()

    ids = [
        each.scope_profiles[0].profiles[0].profile_id
        for _ in range(2)
        for each in encode_profiles(profile, profile).resource_profiles
    ]

    assert {len(each) for each in ids} == {16}
    assert len(set(ids)) == 6
    assert len({each[:12] for each in ids}) == 2


def test_mappings_carry_build_ids_and_frames_their_type():
    profile = synthetic_profile()

    request = encode_profiles(profile, profile)

    dictionary = request.dictionary
    by_path = {
        dictionary.string_table[one.filename_strindex]: attributes(request, one.attribute_indices)
        for one in dictionary.mapping_table
    }
    libc = by_path["/usr/lib/libc.so.6"]
    assert libc["process.executable.build_id.gnu"].string_value == "cd" * 20
    assert libc["process.executable.build_id.htlhash"].string_value == (b"c" * 16).hex()
    go = by_path["/srv/api-server"]["process.executable.build_id.go"]
    assert go.string_value == "abc/def/ghi"
    types = {
        attributes(request, one.attribute_indices)["profile.frame.type"].string_value
        for one in dictionary.location_table[1:]
    }
    assert types == {"native", "kernel", "cpython", "go", "jit"}


def test_a_profile_with_and_without_time_stamps_has_one_shape():
    profile = Profile()
    profile.add(Trace((python("a", "a.py", 5),)), PROCESS, Thread(1), 1, 1, [5])
    profile.add(Trace((python("b", "a.py", 5),)), PROCESS, Thread(1), 7, 7)

    request = encode_profiles(profile, profile)

    assert check(request) == []
    assert Profile.of(*decode_profiles(request)).samples == 8


def test_names_that_are_not_unicode_are_carried_and_stay_apart():
    profile = Profile()
    for name in ("a\udc80", "a\udc81"):
        profile.add(Trace((python(name, "x", 3),)), PROCESS, Thread(1), 1, 1)

    request = encode_profiles(profile, profile)

    assert check(request) == []
    assert len(Profile.of(*decode_profiles(request))) == 2


text = st.text(max_size=4)
numbers = st.integers(0, 2**31)
functions = st.builds(Function, text, text, text, numbers)
lines = st.builds(Line, functions, numbers, numbers)
executables = st.builds(
    Executable,
    st.sampled_from([FileId(b""), FileId(b"a" * 16), FileId(b"b" * 16)]),
    text,
    st.sampled_from(["", "ab"]),
    text,
)
frames = st.builds(
    Frame,
    st.sampled_from([each for each in FrameType if each is not FrameType.OFF_CPU]),
    numbers,
    st.none() | executables,
    st.lists(lines, max_size=3).map(tuple),
    st.booleans(),
    text,
)
states = st.sampled_from([(), (waiting_frame("sleeping"),), (waiting_frame("blocked"),)])
traces = st.builds(
    lambda state, frames, fault: Trace((*state, *frames), fault),
    states,
    st.lists(frames, max_size=4),
    st.sampled_from(["", "NO_ROW"]),
)
processes = st.builds(Process, st.integers(0, 9).map(Pid), text, text, numbers, st.integers(0, 2))
entries = st.lists(
    st.tuples(traces, processes, st.builds(Thread, numbers, text), st.integers(1, 9)), max_size=8
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=150, deadline=None)
@given(entries, st.booleans())
def test_any_profile_conforms_and_comes_back(drawn, timed):
    profile = Profile()
    for trace, process, thread, count in drawn:
        times = list(range(1, count + 1)) if timed else ()
        profile.add(trace, process, thread, count, count, times)

    request = encode_profiles(profile, profile)

    assert check(request) == []
    back = Profile.of(*decode_profiles(request))
    empty = Executable(FileId(b""), "")
    expected = as_dict(profile)
    if empty not in {frame.executable for key in expected for frame in key[0].frames}:
        assert as_dict(back) == expected


def test_groups_without_samples_are_left_out():
    entry = (Trace(()), PROCESS, Thread(1), SampleGroup())

    assert decode_profiles(encode_profiles(ProfileInfo(), [entry]))[1] == []
