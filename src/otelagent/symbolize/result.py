# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a look-up yields: names, or the reason why there is none.

An address without a name is not an error. The reasons are fixed texts, so
they can be counted and shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from otelagent.model import FrameType, Function, Line

NO_SYMBOLS = "no symbols in the file"
OUTSIDE = "address outside of every symbol"
PLT_UNNAMED = "PLT stub without a symbol"
BAD_FILE = "the file is not a readable ELF file"
NO_JIT_MAP = "memory without a file, and no perf map or jitdump"
KERNEL_HIDDEN = "kernel addresses are hidden (kernel.kptr_restrict)"
KERNEL_UNKNOWN = "kernel symbols cannot be read"


@dataclass(frozen=True, slots=True)
class Named:
    """Names of one address.

    Attributes:
        lines: Innermost inlined function first, the physical one last; empty if unresolved.
        type: Which kind of code it is.
        reason: Why `lines` is empty, or why there are no source lines.
        module: Kernel only: `[kernel.kallsyms]` or the module, as `[nf_tables]`.
    """

    lines: tuple[Line, ...]
    type: FrameType
    reason: str = ""
    module: str = ""


def unresolved(reason: str, kind: FrameType = FrameType.NATIVE, module: str = "") -> Named:
    """Make the answer for an address without a name."""
    return Named((), kind, reason, module)


def plain(
    name: str, system_name: str = "", kind: FrameType = FrameType.NATIVE, module: str = ""
) -> Named:
    """Make the answer for an address of which only the function is known."""
    function = Function(name, "" if system_name == name else system_name)
    return Named((Line(function),), kind, "", module)
