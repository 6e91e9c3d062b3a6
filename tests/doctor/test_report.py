# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is missing decides the verdict; the screen and the archive tell it."""

import io
import json
import tarfile
from dataclasses import fields, replace

import pytest

from otelagent.doctor import bundle, limits, meaning, screen
from otelagent.doctor.bundle import contents, report_json, write_bundle
from otelagent.doctor.meaning import MEANINGS, examine_features, find_problems
from otelagent.doctor.report import (
    Capability,
    Feature,
    Limit,
    Offset,
    Problem,
    Report,
    RuntimeFound,
    Verdict,
    Weight,
)
from otelagent.kernel.features import KernelFeatures

OFFSETS = [
    Offset("task_pid", 1264, "BTF of the running kernel", "perf event on a thread"),
    Offset("task_mm", 1136, "BTF of the running kernel", ""),
    Offset("user_regs_distance", 0x3F58, "perf event on a thread", "8 ticks"),
]
REPORT = Report(
    version="0.1.0",
    kernel={"release": "6.1.0-x", "machine": "x86_64", "cpus": "2 online, 4 possible"},
    safety="safe to profile, by its version",
    btf="BTF of the running kernel",
    offsets=OFFSETS,
    sources=["/boot/x is of another kernel"],
    load="loaded in 40 ms",
    features=[
        Feature("bpf", True, True, "a map is made", "nothing works"),
        Feature("fentry", False, False, "one is attached", "no such spans"),
    ],
    capabilities=[
        Capability("CAP_BPF", True, True, "to load"),
        Capability("CAP_SYSLOG", False, False, "to name"),
    ],
    limits=[Limit("kernel.kptr_restrict", "1", "hides")],
    cgroups="v2",
    runtimes=[
        RuntimeFound("CPython 3.11", 2, True, "functions, files and lines"),
        RuntimeFound("Ruby", 1, False, "native frames only"),
    ],
)


def problem(weight):
    return Problem("it is missing", "much is lost", "do this", weight)


@pytest.mark.parametrize(
    ("weights", "verdict"),
    [
        ([], Verdict.WORKS),
        ([Weight.REDUCED], Verdict.REDUCED),
        ([Weight.REDUCED, Weight.FATAL], Verdict.CANNOT),
        ([Weight.FATAL, Weight.NOT_PERMITTED], Verdict.NOT_PERMITTED),
    ],
)
def test_the_worst_problem_is_the_verdict(weights, verdict):
    assert replace(REPORT, problems=list(map(problem, weights))).verdict is verdict


def test_every_feature_that_is_probed_has_a_meaning():
    assert list(MEANINGS) == [field.name for field in fields(KernelFeatures)]
    for name, what in MEANINGS.items():
        assert what.how, name
        assert what.without, name
        assert bool(what.weight) is bool(what.hint), name


@pytest.mark.parametrize(
    ("missing", "weights"),
    [
        ((), []),
        (("fentry", "cycles", "btf", "kprobe"), []),
        (("lpm_trie",), [Weight.FATAL]),
        (("cpu_clock", "raw_tracepoint"), [Weight.FATAL, Weight.REDUCED]),
    ],
)
def test_what_a_missing_feature_costs(monkeypatch, missing, weights):
    monkeypatch.setattr(meaning, "has_feature", lambda name: name not in missing)

    found = find_problems(examine_features())

    assert [problem.weight for problem in found] == weights
    assert all(problem.hint and problem.lost for problem in found)


@pytest.mark.parametrize(
    ("missing", "call"),
    [
        (("bpf", "ring_buffer", "lpm_trie", "raw_tracepoint", "bpf_loop"), "bpf"),
        (("cpu_clock", "sideband"), "perf_event_open"),
    ],
)
def test_a_call_that_a_filter_may_deny_is_told_once_and_not_as_a_lack(monkeypatch, missing, call):
    monkeypatch.setattr(meaning, "has_feature", lambda name: name not in missing)
    features = examine_features()

    (problem,) = find_problems(features, "Seccomp:\t2\n")
    assert problem.what == f"{call} fails, and a seccomp filter applies, which may deny it"
    assert "seccomp=unconfined" in problem.hint

    (problem,) = find_problems(features, "Seccomp:\t0\n")
    assert problem.what.startswith(f"this kernel has no {missing[0]} ")


def test_what_a_limit_refuses_is_not_told_as_a_lack_of_the_kernel(monkeypatch):
    """Before Linux 5.11 a limit of locked memory refuses large maps, and not small ones."""
    monkeypatch.setattr(meaning, "has_feature", lambda name: name != "ring_buffer")

    assert find_problems(examine_features(), is_refused=True) == []
    assert len(find_problems(examine_features())) == 1


def test_the_screen_shows_everything_in_100_columns():
    shown = list(screen.lines(replace(REPORT, problems=[problem(Weight.REDUCED)])))

    assert shown[0] == "otelagent 0.1.0: works, reduced"
    assert shown[1:3] == ["  ! it is missing: much is lost", "    → do this"]
    text = " ".join(" ".join(shown).split())
    for words in (
        *("6.1.0-x", "safe to profile", "pid 1264", "but for task_mm", "+0x3f58", "8 ticks"),
        *("/boot/x is of another", "no fentry one is attached no such spans", "kptr_restrict 1"),
        *("CAP_SYSLOG is missing, good to name", "cgroups v2", "CPython 3.11, 2 processes: func"),
        "Ruby, 1 process: not unwound: native frames only",
    ):
        assert words in text
    assert max(map(len, shown)) <= screen.WIDTH
    assert not any(line != line.rstrip() for line in shown)


def test_the_real_table_of_features_fits_the_screen(monkeypatch):
    monkeypatch.setattr(meaning, "has_feature", lambda _name: False)
    shown = list(screen.lines(replace(REPORT, features=examine_features())))

    assert max(map(len, shown)) <= screen.WIDTH
    assert len(shown) <= 50


def test_nothing_found_is_no_crash():
    empty = replace(REPORT, offsets=[], features=[], runtimes=[], capabilities=[])

    text = "\n".join(screen.lines(empty))

    assert "not found" in text
    assert "not probed" in text


def test_json_has_the_verdict_and_all_fields():
    values = json.loads(report_json(REPORT))

    assert values["verdict"] == "works"
    assert values["offsets"][0]["value"] == 1264
    assert {field.name for field in fields(Report)} <= set(values)


def test_the_archive_holds_a_fixed_list_of_files(monkeypatch, tmp_path):
    (tmp_path / "config-6.1.0-x").write_text("CONFIG_BPF=y\n")
    monkeypatch.setattr(bundle, "_CONFIG", tmp_path)
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    stream = io.BytesIO()

    write_bundle(REPORT, stream)

    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        names = set(archive.getnames())
        everything = b"".join(archive.extractfile(m).read() for m in archive.getmembers())
    allowed = {*bundle._FILES, str(tmp_path / "config-6.1.0-x")}
    copied = {"/" + name.removeprefix("otelagent-doctor/") for name in names}
    assert copied - allowed == {"/report.json", "/report.txt"}
    assert b"CONFIG_BPF=y" in everything
    assert b"hunter2" not in everything
    assert not any("environ" in name or "cmdline" in name for name in names)


def test_what_cannot_be_read_is_left_out(monkeypatch):
    monkeypatch.setattr(bundle, "_FILES", ("/nonexistent/file",))

    assert set(contents(replace(REPORT, kernel=REPORT.kernel | {"release": "no"}))) == {
        "report.json",
        "report.txt",
    }


def make_root(tmp_path, **files):
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_limits_of_the_kernel_are_read_where_they_are(tmp_path):
    root = make_root(
        tmp_path,
        proc__sys__kernel__perf_event_paranoid="4\n",
        proc__sys__net__core__bpf_jit_enable="0\n",
        proc__sys__kernel__perf_event_max_sample_rate="50\n",
        proc__self__status="Name:\tx\nSeccomp:\t2\n",
        sys__kernel__security__lockdown="none [integrity] confidentiality\n",
    )

    found = limits.examine_limits(root)

    values = {limit.name: limit.value for limit in found}
    assert values["kernel.perf_event_paranoid"] == "4"
    assert values["seccomp"] == "2"
    assert values["lockdown"].startswith("none [integrity]")
    assert "kernel.kptr_restrict" not in values
    problems = limits.find_problems(found)
    assert [problem.weight for problem in problems] == [Weight.REDUCED] * 2
    assert "bpf_jit_enable=1" in problems[0].hint
    assert "50" in problems[1].what
    assert limits.find_problems([]) == []


@pytest.mark.parametrize(
    ("kinds", "mode"),
    [(["cgroup2"], "v2"), (["cgroup"], "v1"), (["cgroup", "cgroup2"], "hybrid"), ([], "none")],
)
def test_the_mode_of_cgroups(tmp_path, kinds, mode):
    lines = [f"1 2 0:3 / /sys/fs/cgroup/{kind} rw - {kind} none rw\n" for kind in kinds]
    (tmp_path / "mountinfo").write_text("".join(lines))

    assert limits.examine_cgroups(tmp_path / "mountinfo").startswith(mode)
