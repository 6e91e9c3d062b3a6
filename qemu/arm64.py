# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A root directory of an arm64 machine, for guests: Debian's packages, unpacked, not installed.

It has a Python, the libraries of the extension, and in /opt/site what otelagent depends on.
No script of a package is run, so nothing needs an arm64 machine.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

import fetch
import vm

RELEASE = "trixie"
PACKAGES = (
    *("base-files", "bash", "busybox-static", "coreutils", "dash", "gdb-minimal", "libbpf1"),
    *(
        "libelf1t64",
        "libgcc-s1",
        "libstdc++6",
        "libzstd1",
        "musl",
        "python3",
        "util-linux",
        "zlib1g",
    ),
)
PYTHON = "3.13"
"""What the release has."""
MODULES = (
    *("cffi", "msgspec", "opentelemetry-proto", "pyelftools", "pytest", "rich", "typer<0.29"),
    "zstandard",
)
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_28_aarch64")
SITE = Path("opt/site")
PLACES = (str(vm.TREE).lstrip("/"),)
PIP_TIMEOUT_S = 300


def find() -> Path:
    """Return the root, made if it is not in the cache.

    Raises:
        NoKernel: It cannot be had here.
    """
    what = zlib.crc32(repr((PACKAGES, MODULES, PLATFORMS, PLACES)).encode())
    target = fetch.CACHE.parent / f"root-arm64-{RELEASE}-{what:08x}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    apt = fetch.PrivateApt("arm64")
    apt.update()
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        root = Path(folder) / "root"
        lay_out(root)
        for package in apt.download_all(PACKAGES, RELEASE):
            unpacked = fetch.run("dpkg", "-x", package, root)
            if unpacked.returncode:
                raise fetch.NoKernel(f"{package.name}: {unpacked.stderr.strip()[-300:]}")
        for name in ("doc", "man", "locale"):
            shutil.rmtree(root / "usr/share" / name, ignore_errors=True)
        add_modules(root / SITE)
        root.chmod(0o755)
        if not target.exists():  # another run may have been faster
            root.rename(target)
    return target


CC, CXX = "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++"
WORKLOADS = vm.ROOT / "integration" / "workloads"
BUILT = vm.ROOT / "build" / "aarch64"


def build(root: Path) -> Path:
    """Make the package for arm64 and what it is tried on; returns the folder of the programs.

    Raises:
        NoKernel: A compiler is missing, or says no.
    """
    target = BUILT / "programs"
    target.mkdir(parents=True, exist_ok=True)
    parked = vm.ROOT / "tests/coredump/programs/native.c"
    # Signed return addresses: no-ops where the processor has none.
    c = (CC, "-O2", "-g", "-mbranch-protection=standard", "-pthread", "-o")
    go = {"GOARCH": "arm64", "CGO_ENABLED": "1", "CC": CC}
    steps: list[tuple[tuple[str | Path, ...], dict[str, str]]] = [
        ((sys.executable, vm.ROOT / "build.py", "cross"), {"OTELAGENT_ARM64_ROOT": str(root)}),
        ((*c, target / "recurse", WORKLOADS / "c/recurse.c"), {}),
        ((*c, target / "native", parked), {}),
        ((CXX, *c[1:], target / "throws", WORKLOADS / "cxx/throws.cc"), {}),
        (("go", "build", "-C", WORKLOADS / "go/mixed", "-o", target / "gomixed", "."), go),
        (("go", "build", "-C", WORKLOADS / "go/cgo", "-o", target / "gocgo", "."), go),
    ]
    for command, environment in steps:
        if shutil.which(str(command[0])) is None:
            raise fetch.NoKernel(f"{command[0]} is not installed")
        done = fetch.run(*command, env=os.environ | environment)
        if done.returncode:
            raise fetch.NoKernel(f"{command[0]}: {done.stderr.strip()[-300:]}")
    return target


def lay_out(root: Path) -> None:
    """Make what packages take for granted: /bin and the like are links."""
    for name in ("bin", "lib", "sbin"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("dev", "proc", "run", "sys", "tmp", "var/cache", "var/tmp", *PLACES):
        (root / name).mkdir(parents=True, exist_ok=True)


def add_modules(target: Path) -> None:
    """Install Python's modules, as wheels for arm64."""
    pip = (sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check")
    where = (*("--root-user-action=ignore", "--target"), target, *("--only-binary", ":all:"))
    platforms = [part for each in PLATFORMS for part in ("--platform", each)]
    python = ("--python-version", PYTHON, "--implementation", "cp")
    done = fetch.run(*pip, *where, *platforms, *python, *MODULES, timeout=PIP_TIMEOUT_S)
    if done.returncode:
        raise fetch.NoKernel(f"Python's modules for arm64: {done.stderr.strip()[-300:]}")
