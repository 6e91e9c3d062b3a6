# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A case: a folder with a snapshot, the stacks that it should have, and how it was made.

snapshot.zst    what an unwinder reads of the process
expected.json   the stack of every thread, one frame a line
recipe.toml     program, versions, flags; who agreed with the stacks
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otelagent.coredump.replay import expected, replay
from otelagent.host.snapshot import SnapshotImage

if TYPE_CHECKING:
    from collections.abc import Mapping

SNAPSHOT, EXPECTED, RECIPE = "snapshot.zst", "expected.json", "recipe.toml"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a replay gave, and what it wanted to read and could not (`SnapshotImage.strays`)."""

    threads: list[dict[str, Any]]
    strays: list[str]


def find_cases(root: Path) -> list[Path]:
    """List the folders of cases, by name."""
    return sorted(path.parent for path in root.glob(f"*/{SNAPSHOT}"))


def run_case(folder: Path) -> Outcome:
    """Unwind a case.

    Raises:
        AgentError: Its snapshot cannot be read.
    """
    image = SnapshotImage.open(folder / SNAPSHOT)
    threads = expected(replay(image, image.snapshot.notes))
    return Outcome(threads, image.strays)


def read_expected(folder: Path) -> list[dict[str, Any]]:
    """Read what a case should give."""
    found: list[dict[str, Any]] = json.loads((folder / EXPECTED).read_text())
    return found


def write_expected(folder: Path, threads: list[dict[str, Any]]) -> None:
    """Write what a case should give, one frame a line."""
    text = json.dumps(threads, indent=1, ensure_ascii=False)
    (folder / EXPECTED).write_text(text + "\n")


def write_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Write how a case was made; values are strings, numbers, or lists of strings."""
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in recipe.items()]
    text = "\n".join(lines).replace(f"{Path.home()}/", "~/")  # where that is says nothing
    (folder / RECIPE).write_text(text + "\n")
