# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""How one case is made."""

from __future__ import annotations

from dataclasses import dataclass, field


class Missing(Exception):  # noqa: N818 (no defect)
    """This machine lacks what a recipe needs."""


@dataclass(frozen=True)
class Recipe:
    """A case; `{src}` in commands is the folder of programs, `{out}` a folder of its own.

    Attributes:
        build: Commands.
        versions: What of → the command whose first line tells.
        drive: `park`: it waits after it said `ready`; `stop`: it runs on, and is stopped.
        lines: How often it says `ready`.
        gdb: Commands that bring it to the place instead; a core is recorded.
        gdb_env: What `gdb_stacks.py` is told then.
        files: Of these alone the core's program has files; empty: of all.
        has_code: gdb's cores have the pages of code, other than the kernel's.
        oracles: Who is asked: `gdb`, `self` (`stacks.json`), `go` (its traceback), `py-spy`.
        child: Its child is recorded.
        made: It makes code at run time, which keeps frame pointers: gdb is told so.
        like: A case that has the same functions: asked where nobody else can tell.
        note: Why not all agree.
    """

    name: str
    source: str
    run: tuple[str, ...]
    build: tuple[tuple[str, ...], ...] = ()
    build_env: tuple[tuple[str, str], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    versions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    version_env: tuple[tuple[str, str], ...] = ()
    drive: str = "park"
    lines: int = 1
    gdb: tuple[str, ...] = ()
    gdb_env: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()
    has_code: bool = True
    oracles: tuple[str, ...] = ("gdb",)
    child: bool = False
    made: bool = False
    like: str = ""
    note: str = ""
