# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Rows for arm64 code that nothing describes, from its instructions: the vDSO, musl.

Every path through a function is followed, and what moves the stack pointer, saves
or restores x29 and x30 is kept count of. Where two paths disagree nothing is said.
Encodings: Arm Architecture Reference Manual, C4.1.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from otelagent.abi._generated import Reg, RegKind, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otelagent.unwind.rows import RowBuilder

MAX_CODE_BYTES = 4 << 20
"""Of more undescribed code nothing is derived."""
FP, LR, SP = 29, 30, 31
_MAX_FRAME = 1 << 24
_TRAPS = 0xD4200000  # brk
_PADDING = {0, 0xD503201F}  # udf, nop


class State(NamedTuple):
    """What holds before an instruction. Distances in bytes from the CFA, downwards.

    Attributes:
        sp: Of the stack pointer; -1: not known.
        fp: Of x29, where it is a frame pointer; -1: it is not.
        saved: Of the slots that have the caller's x29 and x30; 0: it is in the register.
    """

    sp: int = 0
    fp: int = -1
    saved: tuple[int, int] = (0, 0)

    def is_known(self) -> bool:
        """Tell whether sp or x29 leads to the CFA, and what the caller had is somewhere."""
        return (self.sp >= 0 or self.fp >= 0) and -1 not in self.saved


ENTRY = State()
UNKNOWN = State(-1, -1, (-1, -1))


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def _move(state: State, bytes_up: int) -> State:
    if state.sp < 0:
        return state
    sp = state.sp - bytes_up
    return state._replace(sp=sp if 0 <= sp <= _MAX_FRAME else -1)


def _lose(state: State, reg: int) -> State:
    """A register got a value that is not followed."""
    if reg == FP:
        saved = (state.saved[0] or -1, state.saved[1])
        return state._replace(fp=-1, saved=saved)
    if reg == LR:
        return state._replace(saved=(state.saved[0], state.saved[1] or -1))
    return state


def _transfer(state: State, regs: Iterable[tuple[int, int]], base: int, *, load: bool) -> State:
    """Registers are stored to, or loaded from, distances behind a base register."""
    for reg, offset in regs:
        from_cfa = state.sp if base == SP else state.fp if base == FP else -1
        slot = from_cfa - offset if from_cfa >= 0 else -1
        if reg not in (FP, LR):
            continue
        which = reg - FP
        saved = list(state.saved)
        if load:
            if slot > 0 and slot == saved[which]:
                saved[which] = 0
                state = state._replace(saved=(saved[0], saved[1]))
                state = state._replace(fp=-1) if reg == FP else state
            else:
                state = _lose(state, reg)
        elif slot > 0 and not saved[which]:
            saved[which] = slot
            state = state._replace(saved=(saved[0], saved[1]))
    return state


def _pair(state: State, word: int) -> State:
    """stp, ldp and the like."""
    mode, scale = word >> 23 & 3, 4 << (word >> 30) if word >> 26 & 1 else 4 << (word >> 31)
    offset, base = _signed(word >> 15 & 127, 7) * scale, word >> 5 & 31
    at = 0 if mode == 1 else offset
    if mode == 3 and base == SP:
        state, at = _move(state, offset), 0
    if not word >> 26 & 1:
        regs = ((word & 31, at), (word >> 10 & 31, at + scale))
        state = _transfer(state, regs, base, load=bool(word >> 22 & 1))
    return _move(state, offset) if mode == 1 and base == SP else state


def _single(state: State, word: int) -> State:
    """str, ldr and the like."""
    base, reg, is_vector = word >> 5 & 31, word & 31, word >> 26 & 1
    size, kind = word >> 30, word >> 22 & 3
    load = bool(kind) if not is_vector else True
    if word >> 24 & 1:
        offset, mode = (word >> 10 & 0xFFF) << size, 0
    else:
        offset, mode = _signed(word >> 12 & 0x1FF, 9), word >> 10 & 3
        if word >> 21 & 1:  # by a register
            return _lose(state, reg) if load and not is_vector else state
    if mode == 3 and base == SP:
        state, offset = _move(state, offset), 0
    if not is_vector:
        regs = ((reg, 0 if mode == 1 else offset),) if size == 3 else ()
        state = _transfer(state, regs, base, load=load) if regs else state
        state = _lose(state, reg) if load and size != 3 else state
    return _move(state, offset) if mode == 1 and base == SP else state


def _add(state: State, word: int) -> State:
    """Add or subtract a constant."""
    to, of = word & 31, word >> 5 & 31
    value = (word >> 10 & 0xFFF) << (12 * (word >> 22 & 1))
    value = -value if word >> 30 & 1 else value
    if word >> 29 & 1:  # cmp and the like: register 31 is no stack pointer there
        return state if to == SP else _lose(state, to)
    if to == SP:
        from_cfa = state.sp if of == SP else state.fp if of == FP else -1
        return _move(state._replace(sp=from_cfa), value)
    if to == FP and of == SP and word >> 31:
        fp = state.sp - value if state.sp >= 0 else -1
        return _lose(state, FP)._replace(fp=fp if fp >= 0 else -1)
    return _lose(state, to)


def _apply(state: State, word: int) -> State:
    """What an instruction that does not branch does."""
    for mask, bits, effect in _EFFECTS:
        if word & mask == bits:
            return effect(state, word)
    return state


def _other_stack(state: State, word: int) -> State:
    """Add an extended register, or a logical operation with a constant: may write to sp."""
    if word & 31 == SP and word & 0x60000000 not in (0x20000000, 0x60000000):
        return state._replace(sp=-1)
    return _lose(state, word & 31)


def _other(state: State, word: int) -> State:
    """Data processing: register 31 is none there."""
    return _lose(state, word & 31)


_EFFECTS = (
    (0x3A000000, 0x28000000, _pair),
    (0x3A000000, 0x38000000, _single),
    (0x1F800000, 0x11000000, _add),
    (0x1FE00000, 0x0B200000, _other_stack),
    (0x1F800000, 0x12000000, _other_stack),
    (0x1C000000, 0x10000000, _other),
    (0x0E000000, 0x0A000000, _other),
)


class _Code:
    """Some code, and the states that were found."""

    def __init__(self, addr: int, data: bytes) -> None:
        self.addr = addr
        self.words = struct.unpack(f"<{len(data) // 4}I", data[: len(data) & ~3])
        self.states: list[State | None] = [None] * len(self.words)
        self.tables: list[tuple[int, State]] = []
        self.entries: set[int] = set()
        self._sorted: list[int] = []
        self._work: list[int] = []
        self._calls: list[tuple[int, State]] = []

    def reach(self, index: int, state: State) -> None:
        """Note that an instruction is reached in a state."""
        if not 0 <= index < len(self.words):
            return
        before = self.states[index]
        if before == state or (before is not None and index in self.entries):
            return
        if before is not None:
            state = _join(before, state)
            if state == before:
                return
        self.states[index] = state
        self._work.append(index)

    def enter(self, index: int) -> None:
        """A function begins here."""
        if 0 <= index < len(self.words) and index not in self.entries:
            self.entries.add(index)
            self.states[index] = ENTRY
            self._work.append(index)

    def drain(self) -> None:
        """Go on from all that was reached; behind calls last: they may not return."""
        while self._work or self._calls:
            if not self._work:
                self._return(*self._calls.pop())
                continue
            index = self._work.pop()
            self._step(index, self.states[index] or UNKNOWN)

    def _return(self, index: int, state: State) -> None:
        """Go on behind a call, unless another function begins there."""
        start = index
        while start < len(self.words) and self.words[start] in _PADDING:
            start += 1
        if start < len(self.words) and _opens(self.words[start]):
            self.enter(start)
        elif index < len(self.words) and self.states[index] is None:
            self.reach(index, state)

    def _step(self, index: int, state: State) -> None:
        word = self.words[index]
        if word & 0x7C000000 == 0x14000000:
            target = index + _signed(word & 0x3FFFFFF, 26)
            if word >> 31:
                self._calls.append((index + 1, _lose(state, LR)))
            elif state != ENTRY or target not in self.entries:
                self.reach(target, state)
        elif word & 0xFF000000 == 0x54000000 or word & 0x7E000000 == 0x34000000:
            self.reach(index + _signed(word >> 5 & 0x7FFFF, 19), state)
            self.reach(index + 1, state)
        elif word & 0x7E000000 == 0x36000000:
            self.reach(index + _signed(word >> 5 & 0x3FFF, 14), state)
            self.reach(index + 1, state)
        elif word & 0xFE000000 == 0xD6000000:
            if word >> 21 & 3 == 1:  # blr
                self._calls.append((index + 1, _lose(state, LR)))
            elif not word >> 21 & 3:  # br: through a table, or to another function
                self.tables.append((index, state))
        elif word & 0xFFE00000 != _TRAPS and word:
            self.reach(index + 1, _apply(state, word))

    def fill(self) -> None:
        """Give a state to what no path led to: jumps through tables, functions nobody calls."""
        for index, word in enumerate(self.words):
            if self.states[index] is not None or word in _PADDING:
                continue
            first = bisect_right(self._sorted, index)
            last = self._sorted[first - 1] if first else 0
            low, high = (bisect_right(self.tables, (at,)) for at in (last, index))
            states = {state for _, state in self.tables[low:high]}
            if _is_start(self.words, index) and word & _SIGN_MASK in _SIGNS:
                self.enter(index)  # what a table leads to begins with neither
            elif len(states) == 1:
                self.reach(index, states.pop())
            elif not states and _is_start(self.words, index):
                self.enter(index)
            self.drain()

    def sort(self) -> None:
        """Order what was found, for `fill`."""
        self.tables = sorted(set(self.tables))
        self._sorted = sorted(self.entries)


def _is_start(words: tuple[int, ...], index: int) -> bool:
    """Tell whether a function may begin where no path leads: behind the end of another."""
    before = index - 1
    while before >= 0 and words[before] in _PADDING:
        before -= 1
    ends = before < 0 or any(words[before] & mask == bits for mask, bits in _ENDS)
    return ends and (_opens(words[index]) or words[index] & 0xFF0003FF == _SUB_SP)


def _opens(word: int) -> bool:
    return any(word & mask == bits for mask, bits in _STARTS)


# ret and its signed forms, br, b
_ENDS = ((0xFFFFF000, 0xD65F0000), (0xFFFFFC1F, 0xD61F0000), (0xFC000000, 0x14000000))
_SIGN_MASK, _SIGNS = 0xFFFFFFBF, (0xD503233F, 0xD503241F)
"""paciasp or pacibsp, bti c, under the mask that makes the first two one"""
# bti c; paciasp, pacibsp; stp with x30 and str x30, before the stack pointer; sub sp, sp
_STARTS = (
    (0xFFFFFFFF, 0xD503245F),
    (0xFFFFFFBF, 0xD503233F),
    (0xFFC07FE0, 0xA9807BE0),
    (0xFFE00FFF, 0xF8000FFE),
)
_SUB_SP = 0xD10003FF


def _join(one: State, other: State) -> State:
    """What holds if either may."""
    if one.saved != other.saved:
        return UNKNOWN
    sp = one.sp if one.sp == other.sp else -1
    fp = one.fp if one.fp == other.fp else -1
    return State(sp, fp, one.saved) if sp >= 0 or fp >= 0 else UNKNOWN


def derive(addr: int, data: bytes, starts: Iterable[int]) -> Iterator[tuple[int, int, State]]:
    """Find what holds in some code: (address, bytes, state), neighbours that differ.

    Not all states are known (`State.is_known`).

    Args:
        addr: Of the first byte.
        data: The code.
        starts: Addresses of functions that are known; others are found.
    """
    code = _Code(addr, data)
    for start in (addr, *starts):
        code.enter((start - addr) // 4)
    for index, word in enumerate(code.words):
        if word & 0xFC000000 == 0x94000000:
            code.enter(index + _signed(word & 0x3FFFFFF, 26))
    code.drain()
    code.sort()
    code.fill()
    begin, before = 0, code.states[0] if code.states else None
    for index, state in enumerate([*code.states[1:], None], 1):
        if state != before or index == len(code.words):
            if before is not None:
                yield addr + begin * 4, (index - begin) * 4, before
            begin, before = index, state


def add_rows(builder: RowBuilder, addr: int, data: bytes, starts: Iterable[int], rank: int) -> int:
    """Add the rows of some code; returns how many bytes they cover."""
    covered = 0
    for start, size, state in derive(addr, data, starts):
        if not state.is_known():
            builder.add(start, size, rank, Row.UNSUPPORTED)
            continue
        by_sp = state.sp >= 0
        fp_at, lr_at = state.saved
        index = builder.rule(
            cfa_reg=Reg.ARM_SP if by_sp else Reg.ARM_FP,
            cfa_offset=state.sp if by_sp else state.fp,
            fp_kind=RegKind.CFA if fp_at else RegKind.SAME,
            fp_offset=-fp_at,
            ra_kind=RegKind.CFA if lr_at else RegKind.IN,
            ra_reg=0 if lr_at else Reg.ARM_LR,
            ra_offset=-lr_at,
        )
        builder.add(start, size, rank, index)
        covered += size
    return covered
