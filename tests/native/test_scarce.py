# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The C core never reads what it could not allocate."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="names of glibc's own allocator")
def test_each_allocation_that_fails_ends_in_an_error_and_not_in_a_crash(tmp_path):
    if not shutil.which("cc"):
        pytest.skip("needs cc")
    library, program = tmp_path / "scarce.so", tmp_path / "program"
    flags = ("-O1", "-shared", "-fPIC", "-fno-builtin")
    subprocess.run(["cc", *flags, HERE / "scarce.c", "-o", library], check=True)
    source = ROOT / "tests" / "unwind" / "programs" / "chain.c"
    subprocess.run(["cc", "-O2", "-g", source, "-o", program], check=True)

    done = subprocess.run(
        [sys.executable, "-m", "tests.native.scarce_work", program],
        capture_output=True,
        cwd=ROOT,
        env=os.environ | {"LD_PRELOAD": str(library)},
        check=False,
        text=True,
    )

    counts = {line.partition(" ")[2]: int(line.split()[0]) for line in done.stdout.splitlines()}
    assert (done.returncode, done.stderr) == (0, ""), f"after {counts}"
    assert len(counts) == 10
    assert min(counts.values()) > 0
