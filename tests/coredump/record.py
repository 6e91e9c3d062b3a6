# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes the cases: `python -m tests.coredump.record [NAME…]`, names as patterns.

Builds each recipe's program, runs it, records it where it stands, asks others for
its stacks (`oracle`) and writes the case. What the machine lacks is skipped and said.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.coredump.case import (
    SNAPSHOT,
    read_expected,
    run_case,
    write_expected,
    write_recipe,
)
from otelagent.coredump.recording import record
from otelagent.host.core import CoreImage
from otelagent.host.live import LiveImage
from otelagent.host.snapshot import pack
from tests.coredump import oracle
from tests.coredump.recipes import RECIPES, Missing, Recipe

if TYPE_CHECKING:
    from otelagent.host.snapshot import Snapshot

ROOT = Path(__file__).parent
CASES = ROOT / "cases"
PROGRAMS = ROOT / "programs"
READY_SECONDS = 60
FOLDER = "/case"
"""Where a case's program is said to have been."""


def _first_line(*command: str, env: tuple[tuple[str, str], ...] = ()) -> str:
    own = os.environ | dict(env)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=own)
    return (done.stdout or done.stderr).strip().splitlines()[0]


def build(recipe: Recipe, folder: Path) -> dict[str, object]:
    """Build a recipe's program; returns what the case says of it."""
    said: dict[str, object] = {}
    for step in recipe.build:
        command = [part.format(src=PROGRAMS, out=folder) for part in step]
        if not shutil.which(command[0]):
            raise Missing(command[0])
        env = os.environ | dict(recipe.build_env)
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=folder, env=env
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    if recipe.build:
        said["build"] = [" ".join(step) for step in recipe.build]
    for key, command in recipe.versions.items():
        said[key] = _first_line(
            *(part.format(src=PROGRAMS, out=folder) for part in command), env=recipe.version_env
        )
    said["libc"] = _first_line("ldd", "--version")
    return said


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _await(pid: int, states: str) -> None:
    until = time.monotonic() + READY_SECONDS
    while _state(pid) not in states and time.monotonic() < until:
        time.sleep(0.01)


def drive_live(recipe: Recipe, folder: Path) -> tuple[Snapshot, list[str]]:
    """Run, wait until it stands, record, ask."""
    command = [part.format(src=PROGRAMS, out=folder) for part in recipe.run]
    if not shutil.which(command[0]):
        raise Missing(command[0])
    env = os.environ | dict(recipe.env) | {"OA_OUT": str(folder)}
    errors = (folder / "errors").open("w")
    with (
        errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=env, cwd=folder
        ) as process,
    ):
        pid = process.pid
        try:
            for _ in range(recipe.lines):
                line = process.stdout.readline()
                if not line.startswith(b"ready"):
                    raise RuntimeError(f"{recipe.name} said {line!r}")
            if recipe.child:
                pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
            time.sleep(0.3)
            if recipe.drive == "stop":
                os.kill(pid, signal.SIGSTOP)
                _await(pid, "T")
            elif not recipe.child:
                _await(pid, "S")
            image = LiveImage(pid)
            snapshot = record(image, is_live=True)
            image.close()
            return snapshot, ask(recipe, snapshot, pid, folder)
        finally:
            if pid != process.pid:
                os.kill(pid, signal.SIGKILL)
            process.kill()


def ask(recipe: Recipe, snapshot: Snapshot, pid: int, folder: Path) -> list[str]:
    """Ask who knows for the stacks of a process that stands."""
    said = []
    if "gdb" in recipe.oracles:
        env = {"OA_GDB_MADE": oracle.made_code(pid)} if recipe.made else {}
        stacks = oracle.run_gdb("-p", str(pid), env=env)
        agreed, count, differences = oracle.compare_pcs(snapshot, stacks)
        told = ", told that made code keeps frame pointers" if recipe.made else ""
        said.append(f"{oracle.gdb_version()}{told}: {agreed} of {count} frames")
        said += differences
    if "self" in recipe.oracles:
        said += ask_itself(snapshot, folder)
    if "go" in recipe.oracles:
        agreed, count, differences = oracle.compare_go(snapshot, ask_go(pid, folder))
        said.append(f"Go's own traceback: {agreed} of {count} functions")
        said += differences
    if "py-spy" in recipe.oracles:
        said.append(oracle.ask_py_spy(pid, snapshot))
    return said


def ask_go(pid: int, folder: Path) -> str:
    """Let a Go program end by a traceback of all threads, each written by itself."""
    os.kill(pid, signal.SIGQUIT)
    os.kill(pid, signal.SIGCONT)
    _await(pid, "Z")
    return (folder / "errors").read_text()


def ask_itself(snapshot: Snapshot, folder: Path) -> list[str]:
    """Compare with what a Python program wrote of its stacks."""
    own = json.loads((folder / "stacks.json").read_text())
    own = {int(tid): frames for tid, frames in own.items()}
    agreed, count, differences = oracle.compare_python(snapshot, own)
    return [f"the program itself: {agreed} of {count} frames", *differences]


def drop_code(snapshot: Snapshot) -> None:
    """Forget the pages of code."""
    snapshot.memory = [
        piece
        for piece in snapshot.memory
        if not any(each.start <= piece[0] < each.end for each in snapshot.maps)
    ]


def drive_gdb(recipe: Recipe, folder: Path) -> tuple[Snapshot, list[str]]:
    """Let gdb run the program to a place, say its stack and write a core; record that."""
    command = [part.format(src=PROGRAMS, out=folder) for part in recipe.run]
    steps = [
        "set breakpoint pending on",
        "set style enabled off",
        *recipe.gdb,
        f"gcore {folder}/core",
    ]
    env = {**dict(recipe.env), "OA_OUT": str(folder)}
    steps = [*(f"set environment {key} {value}" for key, value in env.items()), *steps]
    arguments = [part for step in steps for part in ("-ex", step)]
    stacks = oracle.run_gdb(*arguments, program=("--args", *command), env=dict(recipe.gdb_env))
    with tempfile.TemporaryDirectory() as sysroot:
        for path in recipe.files:
            target = Path(sysroot, path.lstrip("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        image = CoreImage.open(f"{folder}/core", sysroot=Path(sysroot) if recipe.files else None)
        snapshot = record(image, is_live=False)
        if not recipe.has_code:
            drop_code(snapshot)
        image.close()
    if "self" in recipe.oracles:
        return snapshot, ask_itself(snapshot, folder)
    agreed, count, differences = oracle.compare_pcs(snapshot, stacks)
    return snapshot, [f"{oracle.gdb_version()}: {agreed} of {count} frames", *differences]


def rename_folder(snapshot: Snapshot, folder: Path) -> None:
    """Let what was made in a folder have been in another: its name differs from time to time."""
    old, new = str(folder), FOLDER
    for part in (*snapshot.maps, *snapshot.files):
        part.path = part.path.replace(old, new)
    for part in snapshot.files:
        part.problem = part.problem.replace(old, new)
    snapshot.notes = {
        path.replace(old, new): data.replace(old.encode(), new.encode()) if path == "maps" else data
        for path, data in snapshot.notes.items()
    }


def make(recipe: Recipe) -> str:
    """Make one case; returns how it was agreed."""
    with tempfile.TemporaryDirectory(prefix="oa-case-") as name:
        folder = Path(name)
        said: dict[str, object] = {"program": recipe.source, "run": " ".join(recipe.run)}
        said |= build(recipe, folder)
        if recipe.gdb:
            said["gdb"] = list(recipe.gdb)
        drive = drive_gdb if recipe.gdb else drive_live
        snapshot, agreed = drive(recipe, folder)
        rename_folder(snapshot, folder)
    target = CASES / recipe.name
    target.mkdir(parents=True, exist_ok=True)
    data = pack(snapshot)
    (target / SNAPSHOT).write_bytes(data)
    outcome = run_case(target)
    write_expected(target, outcome.threads)
    if recipe.like:
        other = oracle.functions(read_expected(CASES / recipe.like))
        names = {name for each in other for name in each} - {"_start"}
        other = [[name for name in each if name in names] for each in other]
        is_like = oracle.functions(outcome.threads, names) == other
        agreed.append(f"{recipe.like}: {'the same functions' if is_like else 'other functions'}")
    if recipe.note:
        said["note"] = recipe.note
    write_recipe(target, said | {"agreed": agreed})
    faults = sorted({each["fault"] for each in outcome.threads} - {""})
    return f"{len(data) // 1024} KiB; {agreed}; {faults or ''}"


def main(patterns: list[str]) -> int:
    logging.disable()  # what a trial at leaving something out makes of it
    failed = 0
    for recipe in RECIPES:
        if patterns and not any(fnmatch.fnmatch(recipe.name, each) for each in patterns):
            continue
        try:
            print(f"{recipe.name}: {make(recipe)}", flush=True)
        except Missing as err:
            print(f"{recipe.name}: not made: {err} is missing", flush=True)
        except Exception as err:  # noqa: BLE001 (one recipe; the others go on)
            print(f"{recipe.name}: FAILED: {err!r}", flush=True)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
