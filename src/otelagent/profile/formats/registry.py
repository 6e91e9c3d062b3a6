# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The table of file formats: names, endings, what each cannot hold.

`write(profile, "pprof", stream)`, `read(path)`, `format_of("a.folded")`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from otelagent.errors import ConfigError, FormatError
from otelagent.profile.output import STDOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelagent.profile.model import Profile

MAX_FILE_BYTES = 1 << 30
"""No profile is this big; a file that is would fill the memory."""


@dataclass(frozen=True, slots=True)
class Format:
    """One format; its module is imported when it is used."""

    name: str
    endings: tuple[str, ...]
    module: str
    reader: str = "read"
    writer: str = "write"

    def _get(self, name: str) -> Callable[..., Profile]:
        module = import_module(f"otelagent.profile.formats.{self.module}")
        function: Callable[..., Profile] = getattr(module, name)
        return function

    def write(self, profile: Profile, stream: BinaryIO) -> None:
        """Write the profile."""
        self._get(self.writer)(profile, stream)

    def read(self, data: bytes) -> Profile:
        """Parse a file's content.

        Raises:
            FormatError: It is not this format, or one that is only written.
        """
        if not self.reader:
            raise FormatError(f"{self.name} is a summary: it cannot be read back")
        return self._get(self.reader)(data)

    @property
    def cannot_hold(self) -> tuple[str, ...]:
        """What of a profile is lost in this format."""
        module = import_module(f"otelagent.profile.formats.{self.module}")
        lost: tuple[str, ...] = module.CANNOT_HOLD
        return lost


FORMATS = {
    known.name: known
    for known in (
        Format("html", (".html", ".htm"), "html"),
        Format("pprof", (".pb.gz",), "pprof"),
        Format("collapsed", (".folded", ".collapsed"), "collapsed"),
        Format("speedscope", (".speedscope.json",), "speedscope"),
        Format("otlp", (".otlp",), "otlp"),
        Format("otlp.json", (".otlp.json",), "otlp", "read_json", "write_json"),
        Format("otlp.zst", (".otlp.zst",), "stored"),
        Format("json", (".json",), "summary", "", "write_json"),
        Format("md", (".md",), "summary", "", "write_md"),
    )
}


_HINT = f"-f takes one of: {', '.join(FORMATS)}"


def format_named(name: str) -> Format:
    """Give the format with this name.

    Raises:
        ConfigError: There is none.
    """
    found = FORMATS.get(name)
    if found is None:
        raise ConfigError(f"no format {name!r}", hint=_HINT)
    return found


def format_of(path: str | Path) -> str:
    """Tell a file's format from its ending; the longest ending that fits counts.

    Raises:
        ConfigError: The ending is not known.
    """
    name = Path(path).name.lower()
    fits = [
        (len(ending), known.name)
        for known in FORMATS.values()
        for ending in known.endings
        if name.endswith(ending)
    ]
    if str(path) in STDOUT:
        raise ConfigError("standard output has no ending: name a format", hint=_HINT)
    if not fits:
        endings = ", ".join(ending for known in FORMATS.values() for ending in known.endings)
        raise ConfigError(
            f"the ending of {str(path)!r} is not that of a format",
            hint=f"use -f, or one of the endings {endings}",
        )
    return max(fits)[1]


def write(profile: Profile, name: str, stream: BinaryIO) -> None:
    """Write the profile in the format of this name.

    Raises:
        ConfigError: There is no such format.
    """
    format_named(name).write(profile, stream)


def guess_format(data: bytes) -> str:
    """Tell a format from the content, for files whose ending says nothing."""
    head = data[:4096].lstrip()
    if data.startswith(b"\x1f\x8b"):
        return "pprof"
    if data.startswith(b"\x5b\x2a\x4d\x18"):  # export/records.py: SKIPPABLE
        return "otlp.zst"
    if head[:1] == b"<":
        return "html"
    if head[:1] == b"{":
        return "otlp.json" if b'"resourceProfiles"' in head else "speedscope"
    try:
        data[:4096].decode()
    except UnicodeDecodeError as err:
        # A cut at 4,096 bytes may split a character; anything else is binary.
        return "otlp" if err.start < 4000 else "collapsed"
    return "otlp" if b"\0" in head else "collapsed"


def read(path: str | Path) -> Profile:
    """Read a profile; the ending tells its format, else the content.

    Raises:
        FormatError: The file cannot be read or is not what it should be.
    """
    data = _read_file(Path(path))
    hint = ""
    try:
        name = format_of(path)
    except ConfigError:
        name = guess_format(data)
        hint = f"taken for {name} by its content: a profile's ending, as .pb.gz, says its format"
    try:
        return format_named(name).read(data)
    except FormatError as err:
        raise FormatError(f"{path}: {err}", hint=err.hint or hint) from err


def _read_most(stream: BinaryIO) -> bytes:
    """Read one byte more than may be read: memory is asked for only as the file needs it."""
    parts: list[bytes] = []
    left = MAX_FILE_BYTES + 1
    while left and (part := stream.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = _read_most(stream)
    except OSError as err:
        raise FormatError(f"{path}: {err.strerror or err}") from err
    if len(data) > MAX_FILE_BYTES:
        raise FormatError(f"{path}: larger than {MAX_FILE_BYTES >> 30} GiB")
    return data
