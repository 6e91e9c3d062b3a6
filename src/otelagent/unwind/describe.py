# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Rows and rules in words, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otelagent.abi._generated import HELP, CfaKind, RegKind, Row
from otelagent.formats.elf import EM_AARCH64

if TYPE_CHECKING:
    from otelagent.unwind.rows import RowTable

X86_NAMES = (
    *("rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip"),
)
ARM_NAMES = (*(f"x{number}" for number in range(31)), "sp")


def describe_row(table: RowTable, elf_addr: int, machine: int) -> str:
    """Say how to step from an address to its caller: `CFA = rsp+16; rbp same; return at CFA-8`."""
    index = table.find(elf_addr)
    if index & Row.COMMAND:
        return HELP[Row][index]
    return describe_rule(table.rule(index), machine)


def describe_rule(rule: Any, machine: int) -> str:  # noqa: ANN401 (cdata)
    """Say what a `struct oa_rule` means."""
    is_arm = machine == EM_AARCH64
    names = ARM_NAMES if is_arm else X86_NAMES
    parts = [f"CFA = {_cfa(rule, names)}"]
    fp = _register(names, rule.fp_kind, rule.fp_reg, rule.fp_offset)
    parts.append(f"{names[29 if is_arm else 6]} {fp}")
    if rule.bx_kind == RegKind.CFA:
        parts.append(f"rbx at CFA{rule.bx_offset:+d}")
    parts.append(f"return {_register(names, rule.ra_kind, rule.ra_reg, rule.ra_offset)}")
    return "; ".join(parts)


def _cfa(rule: Any, names: tuple[str, ...]) -> str:  # noqa: ANN401 (cdata)
    base = f"{_name(names, rule.cfa_reg)}{rule.cfa_offset:+d}"
    second = _name(names, rule.cfa_reg2)
    return {
        CfaKind.DEREF: f"*({base}){rule.cfa_add:+d}",
        CfaKind.DEREF_INDEX: f"*({base}+{second}*8){rule.cfa_add:+d}",
        CfaKind.PLT: f"{base}, and 8 more from byte {rule.cfa_add} of each 16 on",
        CfaKind.OTHER_STACK: f"{base}, on another stack",
        CfaKind.GO_CALL: f"the goroutine's stack pointer, kept at {base}, {rule.cfa_add:+d}",
        CfaKind.GO_INJECTED: f"{base}{rule.cfa_add:+d}, the caller's x30 at {base}",
        CfaKind.GO_ENTRY: f"{base}, the caller's x30 in {second}",
    }.get(rule.cfa_kind, base)


def _register(names: tuple[str, ...], kind: int, reg: int, offset: int) -> str:
    match kind:
        case RegKind.SAME:
            return "same"
        case RegKind.CFA:
            return f"at CFA{offset:+d}"
        case RegKind.AT | RegKind.AT_AT:
            place = f"{_name(names, reg)}{offset:+d}"
            return f"at {place}" if kind == RegKind.AT else f"at *({place})"
        case RegKind.IN:
            return f"in {_name(names, reg)}"
        case RegKind.CFA_VALUE:
            return f"= CFA{offset:+d}"
    return "lost"


def _name(names: tuple[str, ...], number: int) -> str:
    return names[number] if number < len(names) else f"register {number}"
