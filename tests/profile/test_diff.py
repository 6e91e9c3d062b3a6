# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import io
import json

import pytest

from otelagent.model import Pid, Process, Thread, Trace
from otelagent.profile import diff
from otelagent.profile.formats import collapsed, html
from otelagent.profile.model import Profile
from tests.builders.profiles import API, native, python, synthetic_profile


def profile_of(file: str = "/v1/app.py", **counts: int) -> Profile:
    profile = Profile()
    for name, count in counts.items():
        trace = Trace((python(name, file, 5), python("main", file, 9)))
        profile.add(trace, Process(Pid(count), "p"), Thread(1), count, count)
    return profile


def test_shares_are_of_each_profiles_own_total():
    changes = diff.diff_functions(profile_of(f=10, g=10), profile_of(f=300, g=100))

    found = {one.label.name: (one.self_change, one.total_change) for one in changes}
    assert found == {"f": (0.25, 0.25), "g": (-0.25, -0.25), "main": (0, 0)}


def test_a_function_of_one_side_only_comes_with_zero():
    [new, gone, _main] = diff.diff_functions(profile_of(old=5), profile_of(new=5))

    assert {(one.label.name, one.self_before, one.self_after) for one in (new, gone)} == {
        ("new", 0.0, 1.0),
        ("old", 1.0, 0.0),
    }


def test_another_directory_does_not_make_another_function():
    changes = diff.diff_functions(profile_of("/v1/app.py", f=1), profile_of("/v2/app.py", f=1))

    assert [(one.self_change, one.total_change) for one in changes] == [(0, 0), (0, 0)]


def test_collapsed_stacks_are_compared_by_name_alone():
    profile = synthetic_profile()
    stream = io.BytesIO()
    collapsed.write(profile, stream)

    changes = diff.diff_functions(profile, collapsed.read(stream.getvalue()))

    named = [one for one in changes if not one.label.name.endswith("_[k]")]
    assert all(one.self_change == pytest.approx(0) for one in named)


def test_code_without_names_is_one_row_of_its_file():
    """Its addresses are others in the next build, and too many to read."""
    profile = Profile()
    for address in (0x10, 0x20):
        profile.add(Trace((native(API, address),)), Process(Pid(1), "p"), Thread(1), 1, 1)

    [change] = diff.diff_functions(profile, profile)

    assert (change.label.name, change.self_before, change.self_after) == ("[api-server]", 1, 1)


def test_a_profile_compared_with_itself_has_not_changed():
    profile = synthetic_profile()

    assert {one.self_change for one in diff.diff_functions(profile, profile)} == {0}


def test_an_empty_profile_can_be_compared():
    assert diff.diff_functions(Profile(), Profile()) == []
    assert diff.diff_functions(Profile(), profile_of(f=1))[0].self_change == 1


def test_the_page_has_both_sides_and_reads_back_as_the_later_one():
    before, after = profile_of(f=10), profile_of(f=3, g=4)
    payload = diff.pack_diff(before, after, "a")

    assert (sum(payload.samples.value), sum(payload.samples.base)) == (7, 10)
    assert (payload.base_total, payload.base_name) == (10, "a")
    stream = io.BytesIO()
    diff.write_html(before, after, ("a", "b"), stream)
    assert html.read(stream.getvalue()).samples == 7


def test_table_and_json_show_the_same():
    before, after = profile_of(f=1, g=1), profile_of(f=3, g=1)
    text, data = io.StringIO(), io.BytesIO()

    diff.print_diff(before, after, text, 10)
    diff.write_json(before, after, ("a", "b"), data)

    assert "50.0%   75.0%  +25.0%   +25.0%  f  [/v1/app.py]" in text.getvalue()
    rows = {one["name"]: one for one in json.loads(data.getvalue())["functions"]}
    assert (rows["f"]["self_before"], rows["f"]["self_after"]) == (0.5, 0.75)
