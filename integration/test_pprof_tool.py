# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Our pprof files, opened by Go's own tool (which Go builds when it is first used)."""

import shutil
import subprocess

import pytest

from otelagent.profile.formats.registry import write
from tests.builders.profiles import synthetic_profile

GO = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")


@pytest.mark.any_kernel
@pytest.mark.skipif(GO is None, reason="needs go")
def test_go_tool_pprof_opens_it(tmp_path):
    path = tmp_path / "a.pb.gz"
    with path.open("wb") as stream:
        write(synthetic_profile(), "pprof", stream)

    shown = subprocess.run(
        [GO, "tool", "pprof", "-symbolize=none", "-top", "-nodecount=100", path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert "Type: cpu" in shown
    assert "vfs_read" in shown
    assert "PyUnicode_New" in shown
    assert "(inline)" in shown
