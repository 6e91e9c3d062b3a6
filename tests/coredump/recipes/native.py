# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""C, C++, Rust and Zig."""

from __future__ import annotations

from tests.coredump.recipes.recipe import Recipe

WARN = ("-pthread",)


def c_case(name: str, kind: str, compiler: str, *flags: str, **more) -> Recipe:
    """Make a case of `programs/native.c`."""
    return Recipe(
        name,
        "native.c",
        ("{out}/native", kind),
        ((compiler, *flags, *WARN, "-o", "{out}/native", "{src}/native.c"),),
        versions={"compiler": (compiler, "--version")},
        **more,
    )


LEVELS = [
    c_case(f"c-{compiler}-{level}", "mixed", compiler, f"-{level}")
    for compiler in ("gcc", "clang")
    for level in ("O0", "O1", "O2", "O3")
]
NATIVE = [
    *LEVELS,
    c_case("c-signal-nested", "nested", "gcc", "-O2"),
    c_case("c-signal-altstack", "alternate", "gcc", "-O2"),
]
