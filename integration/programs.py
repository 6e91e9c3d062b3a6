# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The workloads as commands: compiled when asked for, into `build/workloads/`.

`WORKLOADS` has them by name; `Workload.missing` names the tool that one would need.
Guests take them from the host, whose root they have (`qemu/matrix.py`).
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
SOURCES = Path(__file__).parent / "workloads"
OUT = ROOT / "build" / "workloads"
C_FLAGS = ("-O2", "-fomit-frame-pointer")
SHAPES = (
    "recursion",
    "plt",
    "signals",
    "altstack",
    "frames",
    "jumps",
    "threads",
    "short_threads",
    "vfork",
    "fork",
    "dlopen",
    "split",
)
STATIC_SHAPES = ("recursion", "plt", "signals", "frames", "threads", "fork")


@dataclass(frozen=True, slots=True)
class Binary:
    """How one file is made: `{source}` and `{out}` are filled in."""

    source: str
    command: tuple[str, ...]
    strip: bool = False
    env: tuple[tuple[str, str], ...] = ()


def _c(compiler: str, *flags: str, source: str = "c/stacks.c", strip: bool = False) -> Binary:
    command = (compiler, *C_FLAGS, *flags, "{source}", "-o", "{out}", "-lm")
    return Binary(source, command, strip)


EXTENSION = (
    "gcc",
    *C_FLAGS,
    "-shared",
    "-fPIC",
    f"-I{sysconfig.get_path('include')}",
    "{source}",
    "-o",
    "{out}",
)
REFUSED = (
    *("clang", "-target", "bpf", "-O2", "-g"),
    *(
        "-idirafter",
        f"/usr/include/{platform.machine()}-linux-gnu",
        "-c",
        "{source}",
        "-o",
        "{out}",
    ),
)
BINARIES = {
    "recurse": _c("gcc", source="c/recurse.c"),
    "recurse-static": _c("gcc", "-static", source="c/recurse.c"),
    "refused.o": Binary("bpf/refused.c", REFUSED),
    "waits": _c("gcc", "-pthread", source="c/waits.c"),
    "stacks": _c("gcc", "-pthread", "-ldl"),
    "stacks-g": _c("gcc", "-g", "-pthread"),
    "stacks-clang": _c("clang", "-pthread"),
    "stacks-stripped": _c("gcc", "-pthread", strip=True),
    "stacks-static": _c("gcc", "-static", "-pthread"),
    "stacks-static-pie": _c("gcc", "-static-pie", "-fPIE", "-pthread"),
    "stacks-no-pie": _c("gcc", "-no-pie", "-pthread"),
    "stacks-lto": _c("gcc", "-flto", "-O3", "-pthread"),
    "stacks-musl": _c("musl-gcc", "-pthread"),
    "stacks-musl-static": _c("musl-gcc", "-static", "-pthread"),
    "plugin.so": _c("gcc", "-shared", "-fPIC", source="c/plugin.c"),
    "parked": _c("gcc", "-g", "-pthread", source="c/parked.c"),
    "parked-clang": _c("clang", "-g", "-pthread", source="c/parked.c"),
    "parked-static": _c("gcc", "-static", "-pthread", source="c/parked.c"),
    "uninterruptible": _c("gcc", "-g", "-pthread", source="c/uninterruptible.c"),
    "parkedext.so": Binary("cext/parkedext.c", EXTENSION),
    "throws": _c("g++", "-std=c++17", "-pthread", source="cxx/throws.cc"),
    "throws-clang": _c("clang++", "-std=c++17", "-pthread", source="cxx/throws.cc"),
    "throws-static": _c("g++", "-std=c++17", "-static", "-pthread", source="cxx/throws.cc"),
    "rust-mixed": Binary(
        "rust/mixed.rs", ("rustc", "--edition=2021", "-O", "{source}", "-o", "{out}")
    ),
    "go-mixed": Binary("go/mixed/main.go", ("go", "build", "-o", "{out}", ".")),
    "go-stripped": Binary(
        "go/mixed/main.go", ("go", "build", "-ldflags=-s -w", "-o", "{out}", ".")
    ),
    "go-parked": Binary("go/parked/main.go", ("go", "build", "-o", "{out}", ".")),
    "go-cgo": Binary(
        "go/cgo/main.go", ("go", "build", "-o", "{out}", "."), env=(("CGO_ENABLED", "1"),)
    ),
}


def build(name: str) -> Path:
    """Compile one binary unless it is newer than its source.

    Raises:
        FileNotFoundError: its compiler is not on this machine.
    """
    binary = BINARIES[name]
    source, out = SOURCES / binary.source, OUT / name
    if shutil.which(binary.command[0]) is None:
        raise FileNotFoundError(binary.command[0])
    if out.exists() and out.stat().st_mtime >= source.stat().st_mtime:
        return out
    OUT.mkdir(parents=True, exist_ok=True)
    command = [part.format(source=source, out=out) for part in binary.command]
    env = os.environ | dict(binary.env) | {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    subprocess.run(command, check=True, cwd=source.parent, env=env)
    if binary.strip:
        subprocess.run(["strip", str(out)], check=True)
    return out


def copy_of(name: str, folder: Path, called: str = "") -> Path:
    """Put a binary into a folder, under another name where one is given."""
    return Path(shutil.copy(build(name), folder / (called or name)))


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload: what it needs on PATH, and its command for some seconds of CPU."""

    name: str
    tools: tuple[str, ...]
    command: Callable[[float], list[str]]

    @property
    def missing(self) -> str:
        """The first tool that is not here, or nothing."""
        return next((tool for tool in self.tools if shutil.which(tool) is None), "")


def _shape(binary: str, shape: str) -> Workload:
    def command(seconds: float) -> list[str]:
        argument = [str(build("plugin.so"))] if shape == "dlopen" else []
        depth = ["90"] if shape == "recursion" else []
        return [str(build(binary)), shape, str(seconds), *argument, *depth]

    return Workload(f"{binary} {shape}", (BINARIES[binary].command[0],), command)


def _binary(name: str) -> Workload:
    tool = BINARIES[name].command[0]
    return Workload(name, (tool,), lambda seconds: [str(build(name)), str(seconds)])


def _python(shape: str) -> Workload:
    script = str(SOURCES / "python" / "mixed.py")
    return Workload(
        f"python {shape}", (), lambda seconds: [sys.executable, script, shape, str(seconds)]
    )


def _openssl(*what: str) -> Workload:
    def command(seconds: float) -> list[str]:
        return ["openssl", "speed", "-seconds", str(max(1, round(seconds / 3))), *what]

    return Workload(f"openssl {what[-1]}", ("openssl",), command)


def _chromium(_seconds: float) -> list[str]:
    profile = OUT / "chromium-profile"
    shutil.rmtree(profile, ignore_errors=True)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    page = f"file://{SOURCES / 'chromium' / 'page.html'}"
    return ["chromium", *flags, "--virtual-time-budget=20000", "--dump-dom", page]


def _short(seconds: float) -> list[str]:
    count = str(max(10, round(seconds / 0.05)))
    return [str(SOURCES / "shell" / "short.sh"), count, str(build("stacks")), "plt", "0.05"]


def _node(seconds: float) -> list[str]:
    return ["node", str(SOURCES / "node" / "mixed.js"), str(seconds)]


def workloads() -> list[Workload]:
    """Every workload, in the order of the table in docs/accuracy.md."""
    linked = ("stacks-static", "stacks-static-pie", "stacks-musl", "stacks-musl-static")
    others = ("stacks-stripped", "stacks-no-pie", "stacks-lto")
    openssl = (
        ("-evp", "aes-128-gcm"),
        ("-evp", "aes-256-cbc"),
        ("-evp", "chacha20-poly1305"),
        ("sha256",),
        ("sha512",),
        ("rsa2048",),
        ("ecdsap256",),
        ("ecdhx25519",),
    )
    return [
        *(_python(shape) for shape in ("pure", "extensions", "threads", "processes", "split")),
        *(_shape("stacks", shape) for shape in SHAPES),
        *(_shape("stacks-clang", shape) for shape in SHAPES),
        *(_shape(binary, shape) for binary in linked for shape in STATIC_SHAPES),
        *(_shape(binary, shape) for binary in others for shape in STATIC_SHAPES),
        _shape("stacks-g", "frames"),
        *(_binary(name) for name in ("throws", "throws-clang", "throws-static")),
        *(_openssl(*what) for what in openssl),
        *(_binary(name) for name in ("rust-mixed", "go-mixed", "go-stripped", "go-cgo")),
        Workload("node", ("node",), _node),
        Workload("chromium", ("chromium",), _chromium),
        Workload("short processes", ("gcc",), _short),
    ]


WORKLOADS = {workload.name: workload for workload in workloads()}

if __name__ == "__main__":
    for word in sys.argv[1:]:
        build(word)
