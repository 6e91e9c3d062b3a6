# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A machine that lacks one thing at a time: the right line and status, and the rest works."""

import json
import subprocess
import sys

import pytest

from integration.deny import RAW_TRACEPOINT_OPEN
from integration.lacking import MASK_BTF, NO_TRACEFS, RAW, SYSCALLS, TICKS, lacking
from integration.recording import OTELAGENT, WORKLOADS
from otelagent.kernel.features import has_feature

pytestmark = pytest.mark.needs("bpf", "cpu_clock", "tool:unshare")


def run(before, *arguments):
    command = [*before, str(OTELAGENT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def doctor(before, status=0):
    done = run(before, "doctor", "--json")
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout)


def record(before, tmp_path, *arguments):
    spin = [sys.executable, str(WORKLOADS / "cli" / "spin.py"), "1"]
    target = ("--force", "-o", str(tmp_path / "x.folded"), *arguments, "--", *spin)
    return run(before, "record", *target)


def test_without_btf_the_raw_tracepoint_tells():
    said = doctor(lacking(MASK_BTF))

    assert {(row["source"], row["again"]) for row in said["offsets"][:-1]} == {(RAW, TICKS)}


def test_without_the_raw_tracepoint_the_next_source_tells():
    source = SYSCALLS if has_feature("syscall_tracepoints") else TICKS

    said = doctor(lacking(MASK_BTF, [RAW_TRACEPOINT_OPEN]))

    assert {row["source"] for row in said["offsets"][:-1]} == {source}
    assert any(reason.startswith(f"{RAW}: ") for reason in said["sources"])


def test_with_no_tracepoint_at_all_the_perf_event_tells():
    said = doctor(lacking(f"{MASK_BTF}; {NO_TRACEFS}", [RAW_TRACEPOINT_OPEN, "fsopen"]))

    assert {(row["source"], row["again"]) for row in said["offsets"][:-1]} == {(TICKS, "")}


@pytest.mark.parametrize("command", ["doctor", "record"])
def test_with_no_source_of_offsets_each_is_named(tmp_path, command):
    before = lacking(
        f"{MASK_BTF}; {NO_TRACEFS}", [RAW_TRACEPOINT_OPEN, "fsopen", "perf_event_open"]
    )

    done = record(before, tmp_path) if command == "record" else run(before, "doctor")

    assert done.returncode == 69, done.stderr
    text = " ".join((done.stdout + done.stderr).split())
    for words in ("no source of kernel offsets is left", RAW, SYSCALLS, TICKS, "--btf-path"):
        assert words in text


@pytest.mark.needs("tracefs")
def test_tracefs_that_is_not_mounted_is_mounted_for_us_alone():
    said = doctor(lacking(NO_TRACEFS))

    there = {row["name"]: row["is_there"] for row in said["features"]}
    assert there["tracefs"]
    assert there["syscall_tracepoints"] is has_feature("syscall_tracepoints")


def test_without_raw_tracepoints_children_are_still_followed(tmp_path):
    before = lacking(deny=[RAW_TRACEPOINT_OPEN])
    said = doctor(before)
    assert said["verdict"] == "works, reduced"
    assert "children" in said["problems"][0]["lost"]
    assert run(before, "doctor", "--strict").returncode == 1

    spin = f"{sys.executable} {WORKLOADS / 'cli' / 'spin.py'} 1"
    target = ("--force", "-o", str(tmp_path / "x.folded"), "--", "sh", "-c", f"{spin}; true")
    done = run(before, "record", *target)

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("WARNING") == 1
    assert "sampled some ms after their start" in done.stderr
    assert "<module>" in (tmp_path / "x.folded").read_text()


@pytest.mark.parametrize("call", ["bpf", "perf_event_open"])
@pytest.mark.parametrize("command", ["doctor", "record"])
def test_a_denied_system_call_is_named(tmp_path, call, command):
    if not has_feature("btf"):
        pytest.skip("needs btf")
    before = lacking(deny=[call])

    done = record(before, tmp_path) if command == "record" else run(before, "doctor")

    assert done.returncode == 77, done.stdout + done.stderr
    assert f"seccomp filter applies, which may deny {call}" in " ".join(
        (done.stdout + done.stderr).split()
    )


@pytest.mark.needs("tool:setpriv")
def test_without_ptrace_it_works_and_warns(tmp_path):
    before = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]

    done = record(before, tmp_path)

    assert done.returncode == 0, done.stderr
    assert "WARNING: without CAP_SYS_PTRACE" in done.stderr
    assert "<module>" in (tmp_path / "x.folded").read_text()
    assert doctor(before)["problems"][0]["what"] == "CAP_SYS_PTRACE is missing"


@pytest.mark.needs("tool:setpriv")
@pytest.mark.parametrize("name", ["bpf", "perfmon"])
def test_without_the_others_it_is_refused(tmp_path, name):
    taken = f"-sys_admin,-{name}"
    before = ["setpriv", f"--bounding-set={taken}", f"--inh-caps={taken}"]
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs a setpriv that knows CAP_BPF")

    for done in (record(before, tmp_path), run(before, "doctor")):
        assert done.returncode == 77
        assert f"CAP_{name.upper()}" in done.stdout + done.stderr


def test_hidden_kernel_symbols_cost_names_only(tmp_path):
    before = lacking("mkdir -p /tmp/empty; touch /tmp/none; mount --bind /tmp/none /proc/kallsyms")

    done = record(before, tmp_path)

    assert done.returncode == 0, done.stderr
    assert "<module>" in (tmp_path / "x.folded").read_text()


def test_a_counter_that_is_not_there_is_refused_with_the_way_out(tmp_path):
    if has_feature("cycles"):
        pytest.skip("this machine has a PMU")

    done = record([], tmp_path, "-e", "cycles")

    assert done.returncode == 69
    assert "use cpu-clock" in done.stderr
