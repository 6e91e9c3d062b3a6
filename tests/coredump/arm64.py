# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes the cases of arm64: `python -m tests.coredump.arm64 [NAME…]`, names as patterns.

Programs are compiled here, run in an emulated guest (qemu/), and leave core files there; those
are recorded and shown to gdb here. It takes packages gcc-aarch64-linux-gnu,
g++-aarch64-linux-gnu, gdb-multiarch and qemu-system-arm, a Go, and root.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tests.coredump.record as recorder
from otelagent.coredump.case import SNAPSHOT, run_case, write_expected, write_recipe
from otelagent.coredump.recording import record
from otelagent.host.core import CoreImage
from otelagent.host.snapshot import pack
from tests.coredump import oracle

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "qemu"))
import arm64  # noqa: E402 (it lies there)
import fetch  # noqa: E402
import vm  # noqa: E402

FOLDER = ROOT / "build" / "aarch64" / "cases"
GUEST_FOLDER = vm.TREE / FOLDER.relative_to(ROOT)
PROGRAMS = recorder.PROGRAMS
DRIVER = PROGRAMS / "arm64_cores.py"
TIMEOUT_S = 900
CC, CXX, GDB = "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++", "gdb-multiarch"
MUSL_PACKAGE = "musl-dev"
GO_ENV = {"GOARCH": "arm64", "CC": CC, "GODEBUG": "asyncpreemptoff=1"}
BOOKWORM = ("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib")


@dataclass(frozen=True)
class Recipe:
    """A case; `{out}` and `{src}` as in `recipes`, `{root}` is what `BOOKWORM` was unpacked to.

    Attributes:
        signs: The guest's processor has pointer authentication.
        by_gdb: gdb writes the core file: the program handles each signal that would.
        oracles: `gdb`, `self`.
    """

    name: str
    source: str
    run: tuple[str, ...]
    build: tuple[str, ...] = ()
    lines: int = 1
    signs: bool = False
    by_gdb: bool = False
    oracles: tuple[str, ...] = ("gdb",)
    env: tuple[tuple[str, str], ...] = ()
    note: str = ""


def _c(name: str, kind: str, *flags: str, **more) -> Recipe:
    build = (CC, *flags, "-pthread", "-o", "{out}/native", "{src}/native.c")
    return Recipe(f"arm64-c-{name}", "native.c", ("{out}/native", kind), build, **more)


def _cxx(kind: str, **more) -> Recipe:
    build = (CXX, "-O2", "-o", "{out}/throws", "{src}/throws.cc")
    return Recipe(f"arm64-cxx-{kind}", "throws.cc", ("{out}/throws", kind), build, **more)


def _go(name: str, folder: str, *kind: str, **more) -> Recipe:
    build = ("go", "build", "-C", "{src}/" + folder, "-o", "{out}/program", ".")
    run = ("{out}/program", *kind)
    env = (("GODEBUG", "asyncpreemptoff=1"),)
    return Recipe(f"arm64-go-{name}", f"{folder}/main.go", run, build, by_gdb=True, env=env, **more)


def _python(version: str, name: str, *kinds: str) -> Recipe:
    program = {"3.13": "/usr/bin/python3.13", "3.11": "{root}/usr/bin/python3.11"}[version]
    env = (("PYTHONHOME", "{root}/usr"),) if version == "3.11" else ()
    run = (program, "{out}/kinds.py", *kinds)
    return Recipe(
        *(f"arm64-py-{version}-{name}", "kinds.py", run, ("cp", "{src}/kinds.py", "{out}")),
        oracles=("self",),
        env=env,
    )


CGO_NOTE = (
    "gdb does not know how arm64's asmcgocall changes stacks: it gets lost there, and goes from "
    "crosscall2's callee to where Go pretends that the goroutine stands"
)
SIGNED = "-mbranch-protection=standard"
MUSL = ("-nostdinc", "-isystem", "{musl}/usr/include/aarch64-linux-musl", "-nostdlib")
MUSL_LIB = "{musl}/usr/lib/aarch64-linux-musl"
MUSL_BUILD = (
    *(CC, "-O2", "-static", "-no-pie", *MUSL, "-o", "{out}/native"),
    *(f"{MUSL_LIB}/crt1.o", f"{MUSL_LIB}/crti.o", "{src}/native.c"),
    *(f"{MUSL_LIB}/libc.a", "-lgcc", "-lgcc_eh", f"{MUSL_LIB}/crtn.o"),
)
RECIPES = [
    _c("gcc-O0", "mixed", "-O0"),
    _c("gcc-O2", "mixed", "-O2"),
    _c("gcc-omit", "mixed", "-O2", "-fomit-frame-pointer"),
    _c("static", "mixed", "-O2", "-static"),
    _c("noreturn", "noreturn", "-O2"),
    _c("signal-nested", "nested", "-O2"),
    _c("signal-altstack", "alternate", "-O2"),
    _c("signal-fault", "fault", "-O2"),
    _c("clone", "clone", "-O2"),
    _c("threads", "threads", "-O2", lines=4),
    _c("setjmp", "setjmp", "-O2"),
    _c("vdso", "vdso", "-O2"),
    _c("memcpy", "memcpy", "-O2"),
    _c("signed", "mixed", "-O2", SIGNED, signs=True),
    _c("signed-signal", "nested", "-O2", SIGNED, signs=True),
    _c("signed-vdso", "vdso", "-O2", SIGNED, signs=True),
    Recipe(*("arm64-c-musl", "native.c", ("{out}/native", "mixed"), MUSL_BUILD)),
    Recipe(*("arm64-c-musl-signal", "native.c", ("{out}/native", "nested"), MUSL_BUILD)),
    _cxx("unwinding"),
    _cxx("catching"),
    _go("chain", "gochain", "chain"),
    _go("sort", "gochain", "sort"),
    _go("cgo", "gocgo", note=CGO_NOTE),
    _python("3.13", "calls", "recursion", "generators", "c_callbacks"),
    _python("3.13", "async", "coroutines", "special"),
    _python("3.13", "ctypes", "ctypes_callback"),
    _python("3.11", "calls", "recursion", "c_callbacks", "classes"),
]


def _fill(words: tuple[str, ...], places: dict[str, Path]) -> list[str]:
    return [word.format(**{name: str(place) for name, place in places.items()}) for word in words]


def _packages(names: tuple[str, ...], suite: str) -> Path:
    """Unpack packages into a folder of the cache."""
    target = FOLDER.parent / suite
    if not target.exists():
        apt = fetch.PrivateApt("arm64")
        apt.update()
        for name in names:
            versions = apt.versions(name)
            wanted = [v for v in versions if suite != "bookworm" or "deb12" in v or "3.11" in v]
            if not any(apt.unpack(name, version, target) for version in wanted):
                raise fetch.NoKernel(f"{name} cannot be had")
    return target


def build(recipe: Recipe, places: dict[str, Path]) -> dict[str, object]:
    """Build a program; returns what the case says of it."""
    places["out"].mkdir(parents=True, exist_ok=True)
    command = _fill(recipe.build, places)
    env = os.environ | (GO_ENV | {"CGO_ENABLED": "1"} if command[0] == "go" else {})
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    said: dict[str, object] = {"program": recipe.source, "run": " ".join(recipe.run)}
    said["build"] = " ".join(recipe.build)
    tool = ["go", "version"] if command[0] == "go" else [command[0], "--version"]
    said["compiler"] = subprocess.check_output(tool, text=True).splitlines()[0]
    return said


def run_guest(recipes: list[Recipe], places: dict[str, Path], *, signs: bool) -> None:
    """Run programs in a guest; their core files lie in the folders of the cases then."""
    jobs = []
    for recipe in recipes:
        inside = {name: vm.TREE / place.relative_to(ROOT) for name, place in places.items()}
        inside["out"] = GUEST_FOLDER / recipe.name
        job = {"name": recipe.name, "lines": recipe.lines, "by_gdb": recipe.by_gdb}
        job |= {"run": _fill(recipe.run, inside)}
        job |= {"env": {name: _fill((value,), inside)[0] for name, value in recipe.env}}
        jobs.append(job)
    (FOLDER / "jobs.json").write_text(json.dumps(jobs))
    machine = vm.ARM64_SIGNING if signs else vm.ARM64
    options = vm.Options(
        machine=machine, root=arm64.find(), timeout_s=TIMEOUT_S, out=FOLDER / "cores"
    )
    kernel = fetch.fetch("newest", "arm64")
    driver = vm.TREE / DRIVER.relative_to(ROOT)
    command = ["python3", str(driver), str(GUEST_FOLDER / "jobs.json")]
    if vm.run(kernel, command, options):
        raise RuntimeError("the guest failed")


def finish(recipe: Recipe, said: dict[str, object]) -> str:
    """Make a case of a core file, and ask others."""
    core = FOLDER / "cores" / f"{recipe.name}.core"
    root = FOLDER.parent / "sysroot"
    image = CoreImage.open(str(core), sysroot=root)
    snapshot = record(image, is_live=False)
    image.close()
    target = recorder.CASES / recipe.name
    target.mkdir(parents=True, exist_ok=True)
    data = pack(snapshot)
    (target / SNAPSHOT).write_bytes(data)
    outcome = run_case(target)
    write_expected(target, outcome.threads)
    agreed = []
    if "gdb" in recipe.oracles:
        program = root / _fill(recipe.run[:1], GUEST_PLACES | {"out": GUEST_FOLDER / recipe.name})[
            0
        ].lstrip("/")
        steps = (f"set sysroot {root}", f"file {program}", f"core-file {core}")
        stacks = oracle.run_gdb(*(part for step in steps for part in ("-ex", step)), name=GDB)
        same, count, differences = oracle.compare_pcs(snapshot, stacks)
        agreed += [f"{oracle.gdb_version(GDB)}: {same} of {count} frames", *differences]
    if "self" in recipe.oracles:
        own = json.loads((FOLDER / "cores" / f"{recipe.name}.json").read_text())
        same, count, differences = oracle.compare_python(
            snapshot, {int(tid): frames for tid, frames in own.items()}
        )
        agreed += [f"the program itself: {same} of {count} frames", *differences]
    said |= {"note": recipe.note} if recipe.note else {}
    write_recipe(target, said | {"agreed": agreed})
    faults = sorted({each["fault"] for each in outcome.threads} - {""})
    return f"{len(data) // 1024} KiB; {agreed}; {faults or ''}"


PLACES = {"src": PROGRAMS, "root": FOLDER.parent / "bookworm", "musl": FOLDER.parent / "musl"}
GUEST_PLACES = {name: vm.TREE / place.relative_to(ROOT) for name, place in PLACES.items()}


def make_sysroot(names: list[str]) -> None:
    """Lay out what gdb and we see as the guest's root; no link out of it would be followed."""
    root = FOLDER.parent / "sysroot"
    place = root / str(GUEST_FOLDER).lstrip("/")
    if not root.exists():
        shutil.copytree(arm64.find(), root, symlinks=True)
        shutil.copytree(PLACES["root"], place.parent / "bookworm", symlinks=True)
    for name in names:
        shutil.rmtree(place / name, ignore_errors=True)
        shutil.copytree(FOLDER / name, place / name)


def main(patterns: list[str]) -> int:
    logging.disable()  # what a trial at leaving something out makes of it
    finishes = "--finish" in patterns
    patterns = [each for each in patterns if each != "--finish"]
    chosen = [
        recipe
        for recipe in RECIPES
        if not patterns or any(fnmatch.fnmatch(recipe.name, each) for each in patterns)
    ]
    (FOLDER / "cores").mkdir(parents=True, exist_ok=True)
    _packages((MUSL_PACKAGE,), "musl")
    _packages(BOOKWORM, "bookworm")
    said = {each.name: build(each, PLACES | {"out": FOLDER / each.name}) for each in chosen}
    make_sysroot([each.name for each in chosen])
    for signs in (False, True) if not finishes else ():
        if some := [each for each in chosen if each.signs == signs]:
            run_guest(some, PLACES, signs=signs)
    failed = 0
    for recipe in chosen:
        try:
            print(f"{recipe.name}: {finish(recipe, said[recipe.name])}", flush=True)
        except Exception as err:  # noqa: BLE001 (one recipe; the others go on)
            print(f"{recipe.name}: FAILED: {err!r}", flush=True)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
