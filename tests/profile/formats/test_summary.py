# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import io
import json

from otelagent.model import Pid, Process, Thread, Trace
from otelagent.profile.formats import summary
from otelagent.profile.model import Profile
from tests.builders.profiles import python, synthetic_profile


def text(writer, profile: Profile) -> str:
    stream = io.BytesIO()
    writer(profile, stream)
    return stream.getvalue().decode()


def test_json_holds_figures_functions_and_stacks():
    facts = json.loads(text(summary.write_json, synthetic_profile()))

    assert facts["samples"] == facts["total"] == 2000
    assert facts["lost"] == 3
    assert facts["samples"] == facts["complete"] + sum(facts["faults"].values())
    assert {one["pid"] for one in facts["by_process"]} == {4321, 77, 900}
    assert facts["functions"][0]["self"] >= facts["functions"][1]["self"]
    assert facts["stacks"][0]["stack"][0] == "python3"
    assert facts["start"] == "2026-09-21T14:13:20Z"


def test_markdown_tables_survive_hostile_names():
    profile = Profile()
    trace = Trace((python("a|b\n`<script>`", "x.py", 3),))
    profile.add(trace, Process(Pid(1), "p"), Thread(1), 1, 1)

    rows = [line for line in text(summary.write_md, profile).splitlines() if "script" in line]

    assert rows[0].count("|") - rows[0].count("\\|") == 6
    assert "<" not in rows[0].replace("\\<", "")


def test_an_empty_profile_has_a_summary():
    assert json.loads(text(summary.write_json, Profile()))["samples"] == 0
    assert "samples: 0" in text(summary.write_md, Profile())
