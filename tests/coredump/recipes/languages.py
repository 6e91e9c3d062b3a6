# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""CPython of all versions that the machine has, and Go."""

from __future__ import annotations

import shutil

from integration.pythons import Python, find_pythons
from tests.coredump.recipes.recipe import Recipe

KINDS = {
    "calls": ("recursion", "c_callbacks", "special", "classes", "execs"),
    "made": ("comprehension", "imports"),
    "async": ("generators", "coroutines"),
    "ctypes": ("ctypes_callback", "recursion"),
    "deep": ("deep",),
}
LIMITED = {
    "3.9-debian": ("calls", "async"),
    "3.13-debian": ("calls", "async"),
    "3.11-system": ("calls", "async", "ctypes"),
}
"""Other builds of versions that there is a whole set of."""


def _python(python: Python, kind: str) -> Recipe:
    name = f"py-{python.name}-{kind}"
    oracles = ("self", "py-spy") if int(python.version[2:]) <= 13 else ("self",)
    return Recipe(
        *(name, "kinds.py", (*python.command, "{src}/kinds.py", *KINDS[kind])),
        env=python.env,
        versions={"python": (*python.command, "--version")},
        version_env=python.env,
        oracles=oracles,
    )


PYTHONS = [
    _python(python, kind)
    for python in find_pythons()
    for kind in LIMITED.get(python.name, tuple(KINDS))
]

COMPILE = ("cc", "-shared", "-fPIC", "-O1", "-o", "{out}/parkedext.so")


def _extension(python: Python) -> Recipe:
    source = "{src}/../../../integration/workloads/cext/parkedext.c"
    include = f"{python.command[0].rsplit('/', 2)[0]}/include"
    suffix = "m" if int(python.version[2:]) < 8 else ""
    command = (*COMPILE, f"-I{include}/python{python.version}{suffix}", source)
    return Recipe(
        *(f"py-{python.name}-extension", "kinds.py and integration/workloads/cext/parkedext.c"),
        (*python.command, "{src}/kinds.py", "extension"),
        (command,),
        versions={"python": (*python.command, "--version")},
        oracles=("self", "py-spy"),
    )


EXTENSIONS = [
    _extension(python)
    for python in find_pythons()
    if python.origin == "pyenv" and python.version in {"3.6", "3.8", "3.10", "3.12", "3.13"}
]

GO_TOOLS = {"1.19": "/usr/lib/go-1.19/bin/go", "now": shutil.which("go") or "go"}
GO_ENV = (("GODEBUG", "asyncpreemptoff=1"),)


def _go(tool: str, kind: str, *flags: str, cgo: bool = False, threads: int = 1) -> Recipe:
    folder = "gocgo" if cgo else "gochain"
    go = GO_TOOLS[tool]
    build = (go, "build", "-C", "{src}/" + folder, *flags, "-o", "{out}/program", ".")
    if tool == "1.19":  # it has no -C yet
        build = (
            "sh",
            "-c",
            f"cd {{src}}/{folder} && {go} build {' '.join(flags)} -o {{out}}/program .",
        )
    name = f"go-{tool}-{kind}" + "".join(flag.replace("=", "") for flag in flags[:1])
    return Recipe(
        *(name.replace(" ", "-"), f"{folder}/main.go", ("{out}/program", kind)),
        (build,),
        build_env=(("GOTOOLCHAIN", "local"), ("GOFLAGS", "-buildvcs=false")),
        env=GO_ENV,
        versions={"compiler": (go, "version")},
        drive="stop",
    )


GO = [
    *(_go(tool, kind) for tool in GO_TOOLS for kind in ("chain", "sort", "panic", "inline")),
    _go("now", "cgo", cgo=True),
    _go("now", "chain", "-ldflags=-s"),
    _go("now", "sort", "-buildmode=pie"),
]
LANGUAGES = [*PYTHONS, *EXTENSIONS, *GO]
