# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Clean Debian roots by this machine's own sources, and the packages of two versions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "build" / "dist"
MAKE = (sys.executable, ROOT / "package" / "make.py")


def debian(name, *options):
    """Make a small Debian, or take the one that is there; gives its archive."""
    archive = ROOT / "build" / name
    if not archive.is_file():
        sources = [
            *Path("/etc/apt").glob("sources.list"),
            *Path("/etc/apt/sources.list.d").glob("*"),
        ]
        sources = [path for path in sources if path.suffix in {".list", ".sources"}]
        suite = next(x for x in Path("/etc/os-release").read_text().split() if "CODENAME" in x)
        command = ["mmdebstrap", *options, suite.partition("=")[2], archive, *sources]
        subprocess.run(command, check=True)
    return archive


@pytest.fixture(scope="session")
def clean():
    """Give a root without Python and systemd."""
    return debian("package-root.tar", "--variant=essential")


@pytest.fixture(scope="session")
def with_systemd():
    """Give a root that can be booted."""
    return debian("package-systemd.tar", "--variant=minbase", "--include=systemd-sysv,procps")


@pytest.fixture(scope="session")
def packages():
    """Give what finds the packages of the version before, packed for this, and of this one."""
    old = ROOT / "build" / "package" / "before"
    if not old.is_dir():
        environ = os.environ | {"OTELAGENT_DIST": str(old)}
        subprocess.run([*MAKE, "--version", "0.0.9", "pack"], env=environ, check=True)
    return lambda kind: (next(old.glob(f"*.{kind}")), next(DIST.glob(f"*.{kind}")))
