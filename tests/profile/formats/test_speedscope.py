# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import io
import json

import pytest

from otelagent.errors import FormatError
from otelagent.profile.formats import speedscope
from otelagent.profile.model import Profile
from otelagent.profile.top import top_functions
from tests.builders.profiles import PERIOD_NS, synthetic_profile


def encode(profile: Profile) -> bytes:
    stream = io.BytesIO()
    speedscope.write(profile, stream)
    return stream.getvalue()


def foreign(**profile) -> bytes:
    frames = [{"name": "main"}, {"name": "work", "file": "a.py", "line": 3}]
    return json.dumps({"shared": {"frames": frames}, "profiles": [profile]}).encode()


def test_each_thread_is_a_profile_in_the_order_of_time():
    tree = json.loads(encode(synthetic_profile()))

    assert tree["$schema"] == speedscope.SCHEMA
    assert [one["name"] for one in tree["profiles"]] == [
        "python3 (4321) worker-1 (4322)",
        "python3 (4321) python3 (4321)",
        "api-server (900) api-server (901)",
        "node (77) node (77)",
    ] or len(tree["profiles"]) == 4
    frames = tree["shared"]["frames"]
    for one in tree["profiles"]:
        assert sum(one["weights"]) == one["endValue"]
        assert len(one["samples"]) == len(one["weights"])
        assert all(0 <= index < len(frames) for stack in one["samples"] for index in stack)
    assert sum(one["endValue"] for one in tree["profiles"]) == 2000 * PERIOD_NS


def test_what_is_read_back_has_the_same_functions_and_figures():
    profile = synthetic_profile()

    back = speedscope.read(encode(profile))

    assert (back.samples, back.notes, back.host) == (2000, profile.notes, profile.host)

    def rows(one: Profile) -> list:
        return [(r.label.name, r.self_value, r.total_value) for r in top_functions(one)]

    assert sorted(rows(back)) == sorted(rows(profile))


def test_sampled_profiles_of_others_are_read():
    data = foreign(type="sampled", unit="milliseconds", samples=[[0, 1], [0]], weights=[1.5, 2])

    profile = speedscope.read(data)

    assert profile.sample_type == ("time", "nanoseconds")
    assert profile.total == 3_500_000


def test_evented_profiles_of_others_are_read():
    events = [
        {"type": "O", "frame": 0, "at": 0},
        {"type": "O", "frame": 1, "at": 3},
        {"type": "C", "frame": 1, "at": 10},
        {"type": "C", "frame": 0, "at": 12},
    ]

    rows = top_functions(speedscope.read(foreign(type="evented", unit="none", events=events)))

    assert {row.label.name: (row.self_value, row.total_value) for row in rows} == {
        "work": (7, 7),
        "main": (5, 12),
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        foreign(samples=[[7]], weights=[1]),
        foreign(samples=[[-1]], weights=[1]),
        foreign(samples=[[0]], weights=[]),
        foreign(samples=[[0]], weights=[-1]),
        foreign(samples=[[0]], weights=[0]).replace(b"[0]}", b"[1e999]}"),
        foreign(type="evented", events=[{"type": "C", "frame": 0, "at": 0}] * 2),
    ],
)
def test_what_makes_no_sense_is_refused(data):
    with pytest.raises(FormatError):
        speedscope.read(data)
