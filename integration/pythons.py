# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The CPython builds that the tests run: pyenv's, the system's, and Debian's from all its suites.

`python integration/pythons.py` fetches Debian's 3.9, 3.13, 3.14 and 3.15, each
with what it depends on (and headers), into a directory of its own under
`~/.cache/otelagent/pythons` (nothing is installed). `find_pythons()` lists what
is there, fetched or not; it never downloads.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "otelagent" / "pythons"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITES = ("bullseye", "bookworm", "trixie", "sid", "experimental")
DEBIAN = {"3.9": "bullseye", "3.13": "trixie", "3.14": "sid", "3.15": "sid"}
MINORS = tuple(f"3.{minor}" for minor in range(6, 16))


@dataclass(frozen=True, slots=True)
class Python:
    """An interpreter that can be run: its minor version, whence, and how to start it."""

    version: str
    origin: str
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Name of a test case."""
        return f"{self.version}-{self.origin}"

    @property
    def include(self) -> str:
        """Name the folder that its headers' folder is in, if it has any."""
        return self.command[-1].rsplit("/", 2)[0] + "/include"


def _pyenv() -> list[Python]:
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return [
        Python(minor, "pyenv", (str(binary),))
        for minor in MINORS
        for binary in sorted(root.glob(f"{minor}.*/bin/python{minor}"))[:1]
    ]


def _system() -> list[Python]:
    found = []
    for minor in MINORS:
        binary = Path(f"/usr/bin/python{minor}")
        if binary.exists():
            found.append(Python(minor, "system", (str(binary),)))
    return found


def _debian() -> list[Python]:
    """Start each by its own loader: neither root nor `chroot` is needed."""
    found = []
    for minor, suite in DEBIAN.items():
        root = CACHE / f"{suite}-{minor}"
        binary = root / "usr" / "bin" / f"python{minor}"
        libraries = [root / top / _triplet() for top in ("usr/lib", "lib")]
        loaders = [path for where in libraries for path in where.glob("ld-linux*.so.*")]
        if not (root / ".complete").exists() or not binary.exists() or not loaders:
            continue
        path = ":".join(map(str, libraries))
        command = (str(loaders[0]), "--library-path", path, str(binary))
        found.append(Python(minor, "debian", command, (("PYTHONHOME", str(root / "usr")),)))
    return found


def find_pythons() -> list[Python]:
    """List every interpreter that is on this machine, by version."""
    found = _pyenv() + _system() + _debian()
    return sorted(found, key=lambda python: (int(python.version[2:]), python.origin))


def _triplet() -> str:
    return f"{os.uname().machine}-linux-gnu"


def _apt(tool: str, *arguments: str, status: Path, cwd: Path | None = None) -> str:
    """Run an apt tool on lists, caches and a package state of our own."""
    options = {
        "Dir::Etc::sourcelist": CACHE / "apt" / "sources.list",
        "Dir::Etc::sourceparts": CACHE / "apt" / "parts",
        "Dir::State": CACHE / "apt" / "state",
        "Dir::State::lists": CACHE / "apt" / "lists",
        "Dir::State::status": status,
        "Dir::Cache": CACHE / "apt" / "cache",
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "Debug::NoLocking": "true",
    }
    flags = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    command = [tool, *flags, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode:
        sys.exit(f"{tool} {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def _configure() -> Path:
    """Point the private apt at the mirror that the system's own apt uses."""
    for part in ("apt/parts", "apt/state", "apt/lists/partial", "apt/cache/archives/partial"):
        (CACHE / part).mkdir(parents=True, exist_ok=True)
    status = CACHE / "apt" / "status"
    status.write_text("")
    targets = ("indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    uris = subprocess.run(["apt-get", *targets], capture_output=True, text=True, check=True).stdout
    main = sorted({uri for uri in uris.split() if "security" not in uri})
    if not main:
        sys.exit("the system's apt knows no mirror")
    lines = [f"deb [signed-by={KEYRING}] {main[0]} {suite} main\n" for suite in SUITES]
    (CACHE / "apt" / "sources.list").write_text("".join(lines))
    _apt("apt-get", "update", "-q", status=status)
    return status


def fetch(minor: str, suite: str, status: Path) -> None:
    """Download one interpreter with all it depends on and unpack it."""
    root = CACHE / f"{suite}-{minor}"
    if (root / ".complete").exists():
        return
    root.mkdir(exist_ok=True)
    command = ("install", "-y", "--print-uris", "-t", suite, f"python{minor}")
    plan = _apt("apt-get", *command, status=status)
    names = re.findall(r"^'[^']+/([^/']+\.deb)'", plan, re.MULTILINE)
    _apt("apt-get", "install", "-y", "--download-only", *command[3:], status=status)
    archives = CACHE / "apt" / "cache" / "archives"
    there = {path.name.replace("%3a", ":"): path for path in archives.glob("*.deb")}
    wanted = {name.split("_")[0] for name in names}
    for path in there.values():
        if path.name.split("_")[0] in wanted:
            subprocess.run(["dpkg", "-x", path, root], check=True)
            path.unlink()
    (root / ".complete").touch()


def fetch_headers(minor: str, suite: str, status: Path) -> None:
    """Download an interpreter's headers, without the C library's that they depend on."""
    root, name = CACHE / f"{suite}-{minor}", f"libpython{minor}-dev"
    if (root / "usr" / "include" / f"python{minor}").exists():
        return
    archives = CACHE / "apt" / "cache"
    _apt("apt-get", "download", "-q", f"{name}/{suite}", status=status, cwd=archives)
    for path in archives.glob(f"{name}_*.deb"):
        subprocess.run(["dpkg", "-x", path, root], check=True)
        path.unlink()


def main() -> None:
    """Fetch what is missing and print what there is."""
    status = _configure()
    for minor, suite in DEBIAN.items():
        fetch(minor, suite, status)
        fetch_headers(minor, suite, status)
    for python in find_pythons():
        print(python.name, " ".join(python.command))


if __name__ == "__main__":
    main()
