# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which CPythons a command will start, by what its arguments and its scripts say.

A shell's script is not run here, only looked through for words that are a
`python`, a script that is run by one, a virtual environment's `activate`, or
one of pyenv's shims (scripts that choose among versions).
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.errors import TargetError
from otelagent.host.files import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_TEXT_BYTES = 16_384
MAX_WORDS = 256
MAX_FOUND = 4
MAX_SCRIPTS = 4
"""One run by another: as many as the kernel follows."""
_BETWEEN = re.compile(r"""[\s;|&()<>"'`={}\[\]]+""")
_PYTHON = re.compile(r"python[\d.]*")
_SHIM = re.compile(r'^export PYENV_ROOT="([^"\n]+)"$', re.MULTILINE)
_VERSION = re.compile(r"[\w.-]+")


def read_text(path: str) -> str:
    """Read the beginning of a script; empty if it is none, or cannot be read."""
    try:
        with open_file(os.path.realpath(path)) as source:
            data = source.read_at(0, MAX_TEXT_BYTES)
    except TargetError:
        return ""
    return "" if b"\0" in data else os.fsdecode(data)


def find_pythons(command: Sequence[str], scripts: Sequence[str]) -> list[Path]:
    """List CPythons that are mentioned, in order, at most `MAX_FOUND`.

    Args:
        command: A program and its arguments.
        scripts: Texts of scripts that it is known to run.
    """
    words = _words([*command, *scripts])
    for word in list(words):
        if len(words) < MAX_WORDS and "/" in word and Path(word).is_file():
            words.update(_words([read_text(word)]))
    found: dict[Path, None] = {}
    for word in list(words)[:MAX_WORDS]:
        if len(found) < MAX_FOUND:
            found.update(dict.fromkeys(_pythons_behind(word)))
    return list(found)[:MAX_FOUND]


def _words(texts: Sequence[str]) -> dict[str, None]:
    """Take texts apart; a file in the current directory, as shells are told of, gets a slash."""
    words: dict[str, None] = {}
    for word in _BETWEEN.split(" ".join(texts)):
        if word and word[0] not in "-#$" and len(words) < MAX_WORDS:
            words[word] = None
            if "/" not in word and "." in word:
                words[f"./{word}"] = None
    return words


def _pythons_behind(word: str, scripts: int = MAX_SCRIPTS) -> Iterator[Path]:
    """Iterate over the CPythons that a word leads to: mostly none."""
    path = Path(word)
    if path.name == "activate":
        word = str(path.with_name("python"))
    found = shutil.which(word)
    if found is None:
        return
    text = read_text(found)
    if not text and _PYTHON.fullmatch(Path(found).name):
        yield Path(found)
    elif shim := _SHIM.search(text):
        yield from _chosen(Path(shim[1]), Path(found).name)
    elif scripts and text.startswith("#!"):
        for part in text[2:].split("\n", 1)[0].split():
            inner = shutil.which(part)
            if inner and _PYTHON.fullmatch(Path(inner).name):
                yield from _pythons_behind(inner, scripts - 1)


def _chosen(root: Path, name: str) -> Iterator[Path]:
    """Iterate over what a shim of pyenv may run, by the versions that are asked for."""
    for version in _versions(root):
        exact = root / "versions" / version
        for home in (exact, *sorted((root / "versions").glob(f"{version}.*"), reverse=True)):
            if (home / "bin" / name).is_file():
                program = home / "bin" / "python"
                if program.is_file():
                    yield program
                break


def _versions(root: Path) -> list[str]:
    """List the versions that pyenv would choose among: by variable, directory, or for all."""
    if told := os.environ.get("PYENV_VERSION"):
        return [each for each in told.split(":") if _VERSION.fullmatch(each)]
    here = Path.cwd()
    for place in (*(at / ".python-version" for at in (here, *here.parents)), root / "version"):
        if place.is_file():
            return [each for each in read_text(str(place)).split() if _VERSION.fullmatch(each)]
    return []
