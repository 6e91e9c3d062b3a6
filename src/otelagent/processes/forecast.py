# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Guess which files a command will map, so that they can be known before it begins.

A guess that is wrong costs the time to read a file; what is missed is read when
it is mapped, as in any process. Nothing here decides what a process has mapped.
"""

from __future__ import annotations

import logging
import os
import shutil
import struct
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.errors import TargetError
from otelagent.formats.elf import DT_STRTAB, PT_DYNAMIC, ElfFile
from otelagent.host.files import FileSource, open_file
from otelagent.host.kept import KeptFile
from otelagent.log import fields
from otelagent.processes.mentions import find_pythons, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from otelagent.processes.executables import Executables, Loaded

logger = logging.getLogger(__name__)
PT_INTERP = 3
DT_NEEDED, DT_RPATH, DT_RUNPATH = 1, 15, 29
MAX_FILES = 24
MAX_NEEDED = 64
MAX_SCRIPTS = 4
"""The kernel follows as many `#!` lines (fs/exec.c)."""
_MAX_TEXT_BYTES = 4096
_WRAPPERS = {
    *("chrt", "env", "ionice", "nice", "nohup", "numactl"),
    *("setpriv", "setsid", "stdbuf", "taskset", "timeout"),
}


def preload(executables: Executables, command: Sequence[str], seconds: float = 0.3) -> None:
    """Load the files that a command will map; they stay to the end.

    An interpreter is loaded in any case, the rest as far as `seconds` reach.
    """
    until = time.monotonic() + seconds
    files = [loaded for path in foresee(command) if (loaded := _identify(executables, path))]
    for loaded in sorted(files, key=lambda each: each.interpreter is None):
        if loaded.interpreter is None and time.monotonic() > until:
            return
        executables.acquire(loaded)


def _identify(executables: Executables, path: Path) -> Loaded | None:
    try:
        source = open_file(str(path))
        at = source.stat
        identity = (os.major(at.st_dev), os.minor(at.st_dev), at.st_ino)
        kept = KeptFile.keep(source, str(path))
        loaded = executables.add(identity, str(path), kept, (at.st_size, at.st_mtime_ns))
    except TargetError as err:
        logger.info("%s", fields("not loaded in advance", file=path, error=err))
        return None
    executables.recognise(loaded)
    return loaded


def foresee(command: Sequence[str]) -> Iterator[Path]:
    """Iterate over files of code that `command` and CPythons behind it will map, its own first.

    Args:
        command: A path, or what is looked for on PATH, and its arguments.
    """
    program, scripts = _program_of(command)
    waiting = deque([program] if program else [])
    waiting.extend(find_pythons(command, scripts))
    seen: set[str] = set()
    while waiting and len(seen) < MAX_FILES:
        path = waiting.popleft()
        real = os.path.realpath(path)
        if real in seen:
            continue
        seen.add(real)
        try:
            with open_file(real) as source:
                linked = list(_linked(source, path))
        except TargetError:
            continue
        yield Path(real)
        waiting.extend(linked)


def _program_of(command: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Find the ELF file that runs: behind `#!` lines, and behind env(1) and the like.

    With the texts of the scripts on the way to it.
    """
    words, texts = list(command), list[str]()
    for _ in range(MAX_SCRIPTS):
        words = _behind_wrappers(words)
        found = shutil.which(words[0]) if words else None
        if found is None:
            break
        text = read_text(found)
        if not text.startswith("#!"):
            return Path(found), texts
        texts.append(text)
        words = text[2:].split("\n", 1)[0].split()
    return None, texts


def _behind_wrappers(words: list[str]) -> list[str]:
    """Leave out env(1), nice(1) and the like with what they are told; they exec the rest."""
    while words and os.path.basename(words[0]) in _WRAPPERS:  # noqa: PTH119 (text of a script)
        places = range(1, len(words))
        words = words[next((at for at in places if _is_program(words[at])), len(words)) :]
    return words


def _is_program(word: str) -> bool:
    """Tell a program from an option, a variable, or a number that belongs to one."""
    return not word.startswith("-") and "=" not in word and shutil.which(word) is not None


def _linked(source: FileSource, path: Path) -> Iterator[Path]:
    """Iterate over its loader and the libraries that it names, where they are found."""
    elf = ElfFile(source)
    for segment in elf.segments:
        if segment.type == PT_INTERP:
            loader = source.read_at(segment.offset, min(segment.filesz, _MAX_TEXT_BYTES))
            yield Path(os.fsdecode(loader.split(b"\0", 1)[0]))
    needed, own = _named(elf)
    places = [Path(place.replace("$ORIGIN", str(path.parent))) for place in own]
    for name in needed:
        found = next((at for at in _candidates(name, places) if at.is_file()), None)
        if found:
            yield found


def _named(elf: ElfFile) -> tuple[list[str], list[str]]:
    """List DT_NEEDED, and the directories of DT_RUNPATH and DT_RPATH."""
    needed: list[str] = []
    places: list[str] = []
    strings = elf.dynamic.get(DT_STRTAB)
    if strings is None:
        return needed, places
    for segment in elf.segments:
        if segment.type != PT_DYNAMIC:
            continue
        data = elf.source.read_at(segment.offset, min(segment.filesz, _MAX_TEXT_BYTES))
        for tag, value in struct.iter_unpack("<QQ", data[: len(data) & ~15]):
            if tag == DT_NEEDED and len(needed) < MAX_NEEDED:
                needed.append(_string(elf, strings + value))
            elif tag in (DT_RPATH, DT_RUNPATH):
                places.extend(_string(elf, strings + value).split(":"))
    return needed, places


def _string(elf: ElfFile, addr: int) -> str:
    offset = elf.offset_of(addr)
    data = elf.source.read_at(offset, _MAX_TEXT_BYTES) if offset is not None else b""
    return os.fsdecode(data.split(b"\0", 1)[0])


def _candidates(name: str, places: Iterable[Path]) -> Iterator[Path]:
    """List where the loader may find a library: as it is told, or beside our own."""
    if "/" in name:
        yield Path(name)
        return
    if not name:
        return
    told = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    for place in (*places, *map(Path, filter(None, told)), *_system_places()):
        yield place / name


def _system_places() -> Iterator[Path]:
    machine = os.uname().machine
    for top in ("/lib", "/usr/lib", "/usr/local/lib"):
        yield Path(f"{top}/{machine}-linux-gnu")
    yield from map(Path, ("/lib64", "/usr/lib64", "/usr/local/lib", "/lib", "/usr/lib"))
