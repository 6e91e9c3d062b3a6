# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`otelagent doctor` on this machine, whole and with something taken away."""

import json
import os
import subprocess
import tarfile

import pytest

from integration.recording import OTELAGENT
from otelagent.kernel.features import has_feature

pytestmark = pytest.mark.needs("bpf", "cpu_clock")
WITHOUT = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


def doctor(*arguments, before=(), status=0):
    command = [*before, str(OTELAGENT), "doctor", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_screen_and_the_json_say_the_same(tmp_path):
    archive = tmp_path / "support.tar.gz"

    said = json.loads(doctor("--json", "--bundle", str(archive)))

    assert said["verdict"] in {"works", "works, reduced"}
    assert said["kernel"]["release"] == os.uname().release
    assert {row["name"] for row in said["offsets"]} >= {"task_pid", "user_regs_distance"}
    assert all(row["source"] and row["again"] for row in said["offsets"])
    there = {row["name"]: row["is_there"] for row in said["features"]}
    assert there["bpf_loop"] is has_feature("bpf_loop")
    assert any(row["name"].startswith("CPython") for row in said["runtimes"])
    assert said["load"].startswith("loaded in")
    with tarfile.open(archive) as opened:
        report = opened.extractfile("otelagent-doctor/report.json").read()
    assert json.loads(report)["verdict"] == said["verdict"]


@pytest.mark.needs("tool:setpriv")
def test_without_capabilities_it_says_which_and_how():
    text = doctor(before=WITHOUT, status=77)

    assert "not permitted" in text.splitlines()[0]
    for name in ("CAP_BPF", "CAP_PERFMON"):
        assert f"{name} is missing" in text
    assert "AmbientCapabilities" in text


def test_a_file_that_is_not_this_kernels_types_is_refused(tmp_path):
    (tmp_path / "no.btf").write_bytes(b"nothing")

    text = doctor("--btf-path", str(tmp_path / "no.btf"), status=69)

    assert "cannot work" in text.splitlines()[0]
    assert "no BTF in" in text
