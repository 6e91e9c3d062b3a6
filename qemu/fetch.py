# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Fetch kernels of Debian into a cache, without installing anything.

The packages come from the mirror that this machine's own apt uses, through an
apt configuration of our own, so the system's lists and packages stay as they
are. Old versions leave the mirror as new ones come: a series (`6.1`) or
`newest` is asked for, never a version, and what answers 404 is passed over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otelagent" / "kernels"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# experimental is left out: its kernels are release candidates.
SUITES = ("bullseye", "bookworm", "trixie", "trixie-backports", "sid")
SECURITY_SUITES = ("bookworm-security", "trixie-security")
LISTS_ARE_GOOD_S = 24 * 3600
DOWNLOAD_TIMEOUT_S = 180
# The cloud flavour is small and has all that booting under qemu takes. From 6.19 on
# `linux-image-*` is empty and `linux-binary-*` holds the kernel.
NAME = re.compile(r"linux-(?:image|binary)-(\d[^ ]*-cloud-(?:amd64|arm64))")


class NoKernel(Exception):  # noqa: N818 (named for the fate)
    """No such kernel can be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel to boot: its image, and its modules if it needs any from us."""

    release: str
    image: Path
    modules: Path | None


def version_key(release: str) -> list[int]:
    """Order `6.1.0-49-cloud-amd64` before `6.12.5+deb13-cloud-amd64`."""
    return [int(number) for number in re.findall(r"\d+", release.split("-cloud", maxsplit=1)[0])]


def is_in_series(release: str, series: str) -> bool:
    """Tell whether `6.1.0-49-cloud-amd64` is a `6.1`; everything but a candidate is `newest`."""
    if series == "newest":
        return "rc" not in release
    return re.match(rf"{re.escape(series)}(?!\d)", release) is not None


def run(*command: str | Path, **kwargs: object) -> subprocess.CompletedProcess[str]:
    """Run a tool and keep what it says."""
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **kwargs
    )


def read_mirrors() -> tuple[str, str | None]:
    """Ask apt for the URIs of Debian's archive and, if there is one, of its security archive."""
    listing = run(
        *("apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages")
    ).stdout
    found = dict(line.split(" ", 1) for line in reversed(listing.splitlines()) if " " in line)
    if "Debian" not in found:
        raise NoKernel("apt knows no Debian archive on this machine, and kernels come from there")
    return found["Debian"], found.get("Debian-Security")


class PrivateApt:
    """An apt of an architecture of Debian's, with sources, lists and cache of its own."""

    def __init__(self, architecture: str = "amd64") -> None:
        folder = CACHE.parent / ("apt" if architecture == "amd64" else f"apt-{architecture}")
        self._folder = folder
        self._architecture = architecture
        self._options = [
            f"-oDir::Etc::sourcelist={folder / 'sources.list'}",
            f"-oDir::Etc::sourceparts={folder / 'parts'}",
            f"-oDir::State::lists={folder / 'lists'}",
            f"-oDir::Cache={folder / 'cache'}",
            # Images for containers switch these off; without them each call reads all lists.
            "-oDir::Cache::pkgcache=pkgcache.bin",
            "-oDir::Cache::srcpkgcache=srcpkgcache.bin",
            "-oAPT::Sandbox::User=root",
            f"-oAPT::Architecture={architecture}",
            f"-oAPT::Architectures={architecture}",
            "-oAcquire::Languages=none",
        ]

    def update(self) -> None:
        """Fetch the lists unless they are fresh; one run at a time, as apt would only refuse."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._update()

    def _update(self) -> None:
        stamp = self._folder / "updated"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < LISTS_ARE_GOOD_S:
            return
        for name in ("parts", "lists/partial", "cache/archives/partial"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "names").unlink(missing_ok=True)
        main, security = read_mirrors()
        suites = [(main, suite) for suite in SUITES]
        suites += [(security, suite) for suite in SECURITY_SUITES if security]
        lines = [f"deb [signed-by={KEYRING}] {uri} {suite} main" for uri, suite in suites]
        (self._folder / "sources.list").write_text("\n".join(lines) + "\n")
        # Its status says nothing: a suite that is gone makes it fail, and does not matter.
        said = run("apt-get", *self._options, "-q", "update", timeout=DOWNLOAD_TIMEOUT_S).stderr
        if not self.names():
            raise NoKernel(f"the lists of Debian's archive could not be fetched: {said[-300:]}")
        stamp.touch()

    def names(self) -> set[str]:
        """List the kernel packages of all suites; kept, since apt takes 20 s of CPU for it."""
        kept, stamp = self._folder / "names", self._folder / "updated"
        if kept.exists() and stamp.exists() and kept.stat().st_mtime >= stamp.stat().st_mtime:
            return set(kept.read_text().split())
        listed = run("apt-cache", *self._options, "pkgnames", "linux-").stdout.split()
        found = {name for name in listed if name.endswith(f"-cloud-{self._architecture}")}
        if stamp.exists():
            kept.write_text("\n".join(sorted(found)))
        return found

    def versions(self, package: str) -> list[str]:
        """List a package's versions, newest first."""
        rows = run("apt-cache", *self._options, "madison", package).stdout.splitlines()
        return list(dict.fromkeys(row.split("|")[1].strip() for row in rows if "|" in row))

    def download_all(self, packages: Sequence[str], release: str) -> list[Path]:
        """Download packages of a release, with all that they depend on, as for an empty machine."""
        (self._folder / "empty").touch()
        done = run(
            *("apt-get", *self._options, f"-oDir::State::status={self._folder / 'empty'}"),
            *(f"-oAPT::Default-Release={release}", "-q", "-y", "--no-install-recommends"),
            *("--download-only", "install", *packages),
            timeout=DOWNLOAD_TIMEOUT_S,
        )
        if done.returncode:
            raise NoKernel(f"packages for {self._architecture}: {done.stderr.strip()[-300:]}")
        return sorted((self._folder / "cache" / "archives").glob("*.deb"))

    def unpack(self, package: str, version: str, target: Path) -> bool:
        """Download one package and unpack it; False if the mirror no longer has it."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            command = ["apt-get", *self._options, "-q", "download", f"{package}={version}"]
            run(*command, cwd=folder, timeout=DOWNLOAD_TIMEOUT_S)
            files = list(Path(folder).glob("*.deb"))
            return bool(files) and run("dpkg", "-x", files[0], target).returncode == 0


def read_kernel(folder: Path) -> Kernel | None:
    """Describe an unpacked kernel."""
    images = [*folder.glob("boot/vmlinuz-*"), *folder.glob("usr/lib/modules/*/vmlinuz")]
    modules = [*folder.glob("lib/modules/*/kernel"), *folder.glob("usr/lib/modules/*/kernel")]
    if not images:
        return None
    image = images[0]
    release = image.name.removeprefix("vmlinuz-") if image.parent.name == "boot" else ""
    return Kernel(
        release=release or image.parent.name,
        image=image,
        modules=modules[0].parent if modules else None,
    )


def fetch_release(apt: PrivateApt, release: str, names: set[str]) -> Kernel | None:
    """Bring one release into the cache; None if the mirror has it no longer."""
    target = CACHE / release
    if target.exists():
        return read_kernel(target)
    binary = f"linux-binary-{release}"
    package = binary if binary in names else f"linux-image-{release}"
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        unpacked = Path(folder) / "unpacked"
        if not any(apt.unpack(package, v, unpacked) for v in apt.versions(package)):
            return None
        # Superseded versions lose this one; they boot without, so it may fail.
        if f"linux-modules-{release}" in names:
            modules = f"linux-modules-{release}"
            any(apt.unpack(modules, version, unpacked) for version in apt.versions(modules))
        shutil.rmtree(unpacked / "usr" / "share", ignore_errors=True)
        if read_kernel(unpacked) is None:
            return None
        # Another run may have been faster.
        with contextlib.suppress(OSError):
            unpacked.rename(target)
    return read_kernel(target)


def fetch(series: str, architecture: str = "amd64") -> Kernel:
    """Return the newest kernel of a series (`6.1`, `newest`), from the cache if it is there.

    Raises:
        NoKernel: The mirror offers none, or there is no mirror.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    apt = PrivateApt(architecture)
    apt.update()
    names = apt.names()
    releases = {match[1] for name in names if (match := NAME.fullmatch(name))}
    candidates = sorted((r for r in releases if is_in_series(r, series)), key=version_key)
    for release in reversed(candidates):
        kernel = fetch_release(apt, release, names)
        if kernel is not None:
            return kernel
    raise NoKernel(f"no kernel {series} can be downloaded; the lists name {candidates or 'none'}")
