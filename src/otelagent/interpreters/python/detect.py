# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Is an ELF file a CPython: `libpython3.x.so`, or a program with it linked in?

Known by symbols that are exported, so that stripped files have them too. A
`python3` that is linked with libpython has none of them: the library counts.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from otelagent.errors import UnsupportedRuntime
from otelagent.formats.elf import EM_X86_64, ElfFile
from otelagent.interpreters.python.eval_loop import FUNCTION, Range, find_eval_loop
from otelagent.interpreters.python.layout import NEWEST, OLDEST

_CURRENT = "_PyThreadState_Current"
_SYMBOLS = ("_PyRuntime", "Py_Version", "PyInterpreterState_Head", _CURRENT)
_SONAME = re.compile(r"libpython3\.(\d+)(\w*)\.so")
# PREFIX "/lib/python3.9" and friends (Modules/getpath.c).
_PATH = re.compile(rb"python3\.(\d{1,2})\x00")
_MAX_RODATA_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class PythonBuild:
    """What one ELF file tells of its CPython.

    Attributes:
        minor: Of the version 3.minor.
        runtime: ELF address of `_PyRuntime`; in 3.6 of the pointer to the first interpreter.
        eval_loop: ELF address ranges of the eval loop.
        machine: EM_* of the file.
        current: ELF address of the pointer to the current thread state, in 3.6; else 0.
    """

    minor: int
    runtime: int
    eval_loop: tuple[Range, ...]
    machine: int
    current: int = 0


def detect(elf: ElfFile) -> PythonBuild | None:
    """Recognise a CPython; None if the file is none.

    Raises:
        UnsupportedRuntime: It is one of a version or kind that cannot be unwound.
        BadElf: Its headers or symbols lie.
    """
    # The function alone first: most files have none of them, and tables of names may be large.
    function = elf.find_symbols(FUNCTION).get(FUNCTION)
    if function is None or not function.value:
        return None
    symbols = elf.find_symbols(*_SYMBOLS)
    version = symbols.get("Py_Version")
    if version:
        (number,) = struct.unpack("<Q", elf.read_address(version.value, 8))
        minor = number >> 16 & 0xFF if number >> 24 == 3 else -1
    else:
        minor = _find_minor(elf)
    if not OLDEST <= minor <= NEWEST:
        raise UnsupportedRuntime(f"CPython 3.{minor}: 3.{OLDEST} to 3.{NEWEST} are known")
    name = _SONAME.search(elf.soname)
    if name and "t" in name[2]:
        raise UnsupportedRuntime(f"CPython 3.{minor} is a free-threaded build")
    if "_PyRuntime" in symbols:
        runtime = symbols["_PyRuntime"].value
    elif "PyInterpreterState_Head" in symbols:
        runtime = _find_head(elf, symbols["PyInterpreterState_Head"].value)
    else:
        raise UnsupportedRuntime(f"CPython 3.{minor} without the symbol _PyRuntime")
    loop = find_eval_loop(elf, function.value, function.size)
    current = symbols[_CURRENT].value if _CURRENT in symbols else 0
    return PythonBuild(minor, runtime, loop, elf.machine, current)


def _find_minor(elf: ElfFile) -> int:
    """Find the version of 3.6 to 3.10, which have no `Py_Version`: -1 if in vain."""
    name = _SONAME.search(elf.soname)
    if name:
        return int(name[1])
    section = elf.section(".rodata")
    if section is None or section.size > _MAX_RODATA_BYTES:
        return -1
    found = {int(minor) for minor in _PATH.findall(elf.section_data(section))}
    return found.pop() if len(found) == 1 else -1


def _find_head(elf: ElfFile, function: int) -> int:
    """Find the variable that `PyInterpreterState_Head` of 3.6 returns: `mov rax, [rip+x]`."""
    code = elf.read_address(function, 16)
    if elf.machine == EM_X86_64:
        skipped = 4 if code.startswith(b"\xf3\x0f\x1e\xfa") else 0  # endbr64
        if code[skipped : skipped + 3] == b"\x48\x8b\x05":
            (offset,) = struct.unpack_from("<i", code, skipped + 3)
            return int(function + skipped + 7 + offset)
    raise UnsupportedRuntime("CPython 3.6 whose interpreter list was not found")
