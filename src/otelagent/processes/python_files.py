# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Files of CPython that BPF knows wherever they are mapped, before user space has seen it.

Where an interpreter keeps things follows from its file, but for the address that
it is mapped at; that BPF finds in the process itself (`ebpf/find.h`). So the first
samples of a process have Python frames if its interpreter was seen before: among
the files of a command that is held, or by any recording on this machine.
"""

from __future__ import annotations

import logging
import re
import struct
import zlib
from typing import TYPE_CHECKING, Protocol

from otelagent import log
from otelagent.abi._generated import Unwinder
from otelagent.errors import AgentError, BadElf, MemoryFault
from otelagent.formats.elf import PT_DYNAMIC, ElfFile
from otelagent.interpreters import registry

if TYPE_CHECKING:
    from otelagent.bpf.maps import HashMap
    from otelagent.processes.executables import Loaded

logger = logging.getLogger(__name__)
MAX_FILES = 128
"""Those learnt last are kept: half of the map's entries, so that it is never full."""
NAME = "python-files"
_KEY = struct.Struct("=QQ")  # struct oa_python_file_key
_HEAD = struct.Struct("<8sIII")  # magic, CRC-32 of the entries, bytes of a value, entries
_LIST = "_r_debug"
"""glibc's dynamic linker (link.h): where its list of files begins."""
_MAGIC = b"oa-pyth1"
"""Raise its number when the same file would have other facts."""
_INTERPRETER = re.compile(r"/(?:lib)?python\d[^/]*$")
_ASSISTANT = re.compile(r"/ld-[^/]*$")
"""The dynamic linker, which knows where an interpreter is."""


def is_interpreter(path: str) -> bool:
    """Tell whether a file has the name of an interpreter; what it is its content tells."""
    return _INTERPRETER.search(path) is not None


def tells_of_python(path: str) -> bool:
    """Tell whether a file has the name of an interpreter or of what finds one."""
    return is_interpreter(path) or _ASSISTANT.search(path) is not None


class Shelf(Protocol):
    """Where facts are kept from one recording to the next."""

    def read(self, name: str) -> bytes | None:
        """Read what was written; None if there is nothing that can be trusted."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Keep it; failure does no harm."""
        ...


class FileMemory:
    """The memory of a process as its file fills it (`protocols.Memory`)."""

    def __init__(self, elf: ElfFile, bias: int) -> None:
        self._elf = elf
        self._bias = bias

    def read(self, addr: int, size: int) -> bytes:
        """Read what the file has at an address of the process; MemoryFault where it has nothing."""
        try:
            return self._elf.read_address(addr - self._bias, size)
        except BadElf as err:
            raise MemoryFault(addr, size) from err


class PythonFiles:
    """The only writer of `python_files`; used by the thread that loads files."""

    def __init__(self, files: HashMap, shelf: Shelf) -> None:
        self._files = files
        self._shelf = shelf
        self._known: dict[bytes, bytes] = {}
        value_bytes = files.info.value_size
        for key, value in decode(shelf.read(NAME) or b"", value_bytes).items():
            self._enter(key, value)

    def learn(self, loaded: Loaded) -> None:
        """Take note of a file if it is an interpreter that can be unwound, or a dynamic linker."""
        try:
            facts = describe(loaded, self._files.info.value_size)
        except AgentError as err:
            log.once(logger, (loaded.key, "facts"), "first samples lack Python frames", error=err)
            return
        if facts is None:
            return
        key, value = facts
        if self._known.get(key) == value:
            return
        self._enter(key, value)
        self._shelf.write(NAME, encode(self._known))

    def _enter(self, key: bytes, value: bytes) -> None:
        self._known.pop(key, None)
        while len(self._known) >= MAX_FILES:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._files.delete(oldest)
        self._known[key] = value
        self._files[key] = value


def describe(loaded: Loaded, value_bytes: int) -> tuple[bytes, bytes] | None:
    """Make the map's key and value for a file; None if it is not one for the map.

    Raises:
        AgentError: It lies, or it is an interpreter that cannot be unwound.
    """
    elf = loaded.elf
    dynamic = next((each.vaddr for each in elf.segments if each.type == PT_DYNAMIC), None)
    if dynamic is None:
        return None
    key = _KEY.pack(dynamic, elf.sections_offset)
    if loaded.interpreter is not None:
        if loaded.interpreter.family.unwinder != Unwinder.PYTHON:
            return None
        return key, registry.attach(loaded.interpreter, 0, FileMemory(elf, 0)).value()
    if not elf.soname.startswith("ld-"):
        return None
    symbol = elf.find_symbols(_LIST).get(_LIST)
    return (key, struct.pack("=Q", symbol.value).ljust(value_bytes, b"\0")) if symbol else None


def encode(known: dict[bytes, bytes]) -> bytes:
    """Write facts as the bytes that are kept."""
    body = b"".join(key + value for key, value in known.items())
    size = len(next(iter(known.values()), b""))
    return _HEAD.pack(_MAGIC, zlib.crc32(body), size, len(known)) + body


def decode(data: bytes, value_bytes: int) -> dict[bytes, bytes]:
    """Read them again; nothing if they are damaged, or of another version."""
    if len(data) < _HEAD.size:
        return {}
    magic, crc, size, count = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    step = _KEY.size + value_bytes
    if magic != _MAGIC or size != value_bytes or len(body) != count * step:
        return {}
    if count > MAX_FILES or zlib.crc32(body) != crc:
        return {}
    pieces = (body[at : at + step] for at in range(0, len(body), step))
    return {piece[: _KEY.size]: piece[_KEY.size :] for piece in pieces}
