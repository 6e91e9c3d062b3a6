# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Kernels that no distribution has: taken from a folder, from the cache, or built.

The folder (`OTELAGENT_KERNELS`) holds NAME/bzImage. Built ones are Debian's source with
`make tinyconfig`, fragments/common.config and fragments/NAME.config; that takes some 8
minutes on two cores, and is done once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import fetch

FRAGMENTS = Path(__file__).with_name("fragments")
SOURCE = "linux-source-6.12"
PACKAGES = "flex bison bc libelf-dev libssl-dev make gcc pahole xz-utils"


def find(name: str) -> fetch.Kernel:
    """Return the image, made if need be.

    Raises:
        NoKernel: It is nowhere, and cannot be built.
    """
    folder = os.environ.get("OTELAGENT_KERNELS", "")
    for place in (Path(folder) if folder else None, fetch.CACHE / "special"):
        if place and (place / name / "bzImage").exists():
            return fetch.Kernel(name, place / name / "bzImage", None)
    return build(name, fetch.CACHE / "special" / name)


def build(name: str, target: Path) -> fetch.Kernel:
    """Build an image into the cache."""
    print(f"building kernel {name}: some minutes, once (needs {PACKAGES})", flush=True)
    fetch.CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=fetch.CACHE) as folder:
        source = unpack_source(Path(folder))
        run_make(source, "tinyconfig")
        parts = [source / ".config", FRAGMENTS / "common.config", FRAGMENTS / f"{name}.config"]
        (source / ".config").write_text("".join(part.read_text() for part in parts))
        run_make(source, "olddefconfig")
        run_make(source, f"-j{os.cpu_count()}", "bzImage")
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / "arch/x86/boot/bzImage", target / "bzImage")
    return fetch.Kernel(name, target / "bzImage", None)


def unpack_source(folder: Path) -> Path:
    """Fetch Debian's kernel source and unpack it."""
    apt = fetch.PrivateApt()
    apt.update()
    if not any(apt.unpack(SOURCE, version, folder / "deb") for version in apt.versions(SOURCE)):
        raise fetch.NoKernel(f"{SOURCE} cannot be downloaded")
    (tarball,) = (folder / "deb" / "usr" / "src").glob("linux-source-*.tar.xz")
    subprocess.run(["tar", "-xf", str(tarball), "-C", str(folder)], check=True)
    (source,) = (path for path in folder.glob("linux-source-*") if path.is_dir())
    return source


def run_make(source: Path, *arguments: str) -> None:
    """Run make, quietly unless it fails."""
    done = fetch.run("make", "-s", "-C", source, *arguments)
    if done.returncode:
        raise fetch.NoKernel(f"make {arguments[-1]} failed: {(done.stderr or done.stdout)[-800:]}")
