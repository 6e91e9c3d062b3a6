# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The files under version control: what the house tests look at."""

import functools
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def tracked(*patterns: str) -> list[Path]:
    """List tracked files that exist, relative to the root; `*` crosses folders as git has it."""
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--", *patterns]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    paths = (Path(name) for name in output.decode().split("\0") if name)
    return [path for path in paths if (ROOT / path).is_file()]
