# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Compare our unwind rows with `readelf --debug-dump=frames-interp`: `oracle.py [FILE…]`.

For every row that readelf prints, the CFA, the frame pointer and the return
address are compared where it begins and at its last byte. readelf prints `exp`
for expressions; those are only counted. Without arguments every ELF file of the
base system is compared. Exit status 1 if anything disagrees.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.abi import _generated as abi
from otelagent.errors import BadElf
from otelagent.formats.elf import EM_AARCH64, BytesSource, ElfFile
from otelagent.unwind.extract import RowTable, extract

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

X86_NAMES = [
    "rax",
    "rdx",
    "rcx",
    "rbx",
    "rsi",
    "rdi",
    "rbp",
    "rsp",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
    "rip",
]
ARM_NAMES = [f"x{i}" for i in range(31)] + ["sp"]
UNCHANGED = {"u", "s"}
BASE_SYSTEM = ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec")


@dataclass(frozen=True, slots=True)
class Interp:
    """One row of readelf's table; `end` is exclusive."""

    start: int
    end: int
    cfa: str
    fp: str
    ra: str
    is_signal: bool


@dataclass(slots=True)
class Result:
    """What a comparison found; bytes of code but for `disagreements`."""

    covered: int = 0
    supported: int = 0
    expressions: int = 0
    rows: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    disagreements: list[str] = field(default_factory=list)

    def add(self, other: Result) -> None:
        """Sum up."""
        self.covered += other.covered
        self.supported += other.supported
        self.expressions += other.expressions
        self.rows += other.rows
        self.changed.update(other.changed)
        self.disagreements += other.disagreements


def read_interp(path: Path, fp: str) -> Iterator[list[Interp]]:
    """Read readelf's tables, one list for each frame description entry."""
    command = ["readelf", "-wNK", "--debug-dump=frames-interp", str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        yield from parse_interp(process.stdout, fp)


def parse_interp(lines: Iterable[str], fp: str) -> Iterator[list[Interp]]:
    """Parse readelf's tables, one list for each frame description entry."""
    signals: dict[str, bool] = {}
    entry: list[Interp] = []
    columns: list[str] = []
    in_fde = is_signal = False
    start = end = 0
    for line in lines:
        if match := re.match(r"([0-9a-f]{8,}) [0-9a-f]+ [0-9a-f]+ (CIE|FDE)(.*)", line):
            if entry:
                yield _close(entry, end)
            entry, columns = [], []
            in_fde = match[2] == "FDE"
            if not in_fde:
                augmentation = re.search(r'"(\w*)"', match[3])
                signals[match[1]] = augmentation is not None and "S" in augmentation[1]
                continue
            where = re.search(r"cie=([0-9a-f]+) pc=([0-9a-f]+)\.\.([0-9a-f]+)", match[3])
            if where is None:
                in_fde = False
                continue
            is_signal = signals.get(where[1], False)
            start, end = int(where[2], 16), int(where[3], 16)
            if start == 0:
                in_fde = False
        elif in_fde and line.startswith("   LOC"):
            columns = line.split()
        elif in_fde and columns and re.match(r"[0-9a-f]{16} ", line):
            cells = re.sub(r"\br\d+ \((\w+)\)", r"\1", line).split()
            values = dict(zip(columns, cells, strict=False))
            entry.append(
                Interp(
                    int(values["LOC"], 16),
                    0,
                    values["CFA"],
                    values.get(fp, "u"),
                    values.get("ra", "u"),
                    is_signal,
                )
            )
    if entry:
        yield _close(entry, end)


def _close(entry: list[Interp], end: int) -> list[Interp]:
    ends = [row.start for row in entry[1:]] + [end]
    return [
        Interp(row.start, stop, row.cfa, row.fp, row.ra, row.is_signal)
        for row, stop in zip(entry, ends, strict=True)
        if stop > row.start
    ]


def describe(table: RowTable, index: int, names: list[str]) -> tuple[str, str, str]:
    """Write a rule as readelf would: CFA, frame pointer, return address."""
    rule = table.rule(index)
    cfa = f"{names[rule.cfa_reg]}{rule.cfa_offset:+d}" if rule.cfa_kind == 0 else "exp"

    def register(kind: int, reg: int, offset: int) -> str:
        match kind:
            case abi.RegKind.CFA:
                return f"c{offset:+d}"
            case abi.RegKind.AT:
                return "exp"
            case abi.RegKind.IN:
                return names[reg]
            case abi.RegKind.CFA_VALUE:
                return f"v{offset:+d}"
        return "u"

    return (
        cfa,
        register(rule.fp_kind, rule.fp_reg, rule.fp_offset),
        register(rule.ra_kind, rule.ra_reg, rule.ra_offset),
    )


def _differs(kind: str, theirs: str, ours: str, is_arm: bool) -> bool:
    if theirs == ours or theirs in ("exp", "vexp"):
        return False
    if theirs in UNCHANGED and ours in UNCHANGED:
        return False
    return not (kind == "ra" and is_arm and theirs in UNCHANGED and ours == "x30")


def compare_row(table: RowTable, row: Interp, addr: int, is_arm: bool, result: Result) -> None:
    """Compare one address."""
    index = table.find(addr)
    length = row.end - row.start
    where = f"{addr:#x}: readelf {row.cfa} fp={row.fp} ra={row.ra}"
    if index == abi.Row.UNSUPPORTED:
        result.supported -= length
        return
    if index == abi.Row.SIGNAL:
        if not row.is_signal:
            result.disagreements.append(f"{where}, ours: signal frame")
        result.changed["signal frames"] += length
        return
    if index in (abi.Row.STOP, abi.Row.BEGIN):
        if row.ra == "u":
            return
        result.changed["end of stack"] += length
        if not re.match(r"r?sp\+0$", row.cfa):
            result.changed["end of stack by code"] += length
        return
    if index & abi.Row.COMMAND:
        result.disagreements.append(f"{where}, ours: {abi.Row(index).name}")
        return
    ours = describe(table, index, ARM_NAMES if is_arm else X86_NAMES)
    for kind, their, our in zip(("cfa", "fp", "ra"), (row.cfa, row.fp, row.ra), ours, strict=True):
        if _differs(kind, their, our, is_arm):
            result.disagreements.append(f"{where}, ours {ours}")
            return


def _lands(table: RowTable, row: Interp) -> bool:
    """Tell whether the rows of libgcc's unwinder were overruled in there."""
    index = table.find(row.end - 1)
    return index < abi.Row.COMMAND and table.rule(index).ra_kind == abi.RegKind.AT


def compare_file(path: Path) -> Result | None:
    """Compare a whole file; None if it is not an ELF file that we read."""
    try:
        elf = ElfFile(BytesSource(path.read_bytes()))
        table = extract(elf)
    except (BadElf, OSError):
        return None
    if elf.type not in (2, 3):
        return None
    is_arm = elf.machine == EM_AARCH64
    result = Result()
    code = [(s.vaddr, s.vaddr + s.filesz) for s in elf.executable_loads()]
    entries = [
        entry
        for entry in read_interp(path, "x29" if is_arm else "rbp")
        if any(start <= entry[0].start < end for start, end in code)
    ]
    entries.sort(key=lambda entry: entry[0].start)
    previous_end = 0
    for entry, following in zip(entries, [*entries[1:], None], strict=False):
        limit = following[0].start if following else 1 << 64
        overlaps = entry[0].start < previous_end or limit < entry[-1].end
        previous_end = max(previous_end, entry[-1].end)
        for row in entry:
            length = row.end - row.start
            result.rows += 1
            result.covered += length
            result.supported += length
            result.expressions += length * (row.cfa == "exp")
            if overlaps:
                result.changed["overlapping entries"] += length
                continue
            compare_row(table, row, row.start, is_arm, result)
            if any("landing pads" in line for line in table.sources) and _lands(table, row):
                result.changed["on the way to a landing pad"] += length
            elif length > 1 and table.find(row.start) != table.find(row.end - 1):
                result.disagreements.append(f"{row.start:#x}: changes before {row.end:#x}")
    return result


def system_files(tops: Iterable[str] = BASE_SYSTEM) -> Iterator[Path]:
    """Walk over the base system's ELF files, each once."""
    seen = set()
    for top in tops:
        for path in sorted(Path(top).rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            stat = path.stat()
            if stat.st_size < 64 or (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
            with path.open("rb") as stream:
                if stream.read(5) == b"\x7fELF\x02":
                    yield path


def main(arguments: list[str]) -> int:
    """Compare files and print the sum."""
    total, files = Result(), 0
    for path in map(Path, arguments) if arguments else system_files():
        result = compare_file(path)
        if result is None:
            continue
        files += 1
        total.add(result)
        for line in result.disagreements[:5]:
            print(f"{path}: {line}")
        if result.supported < result.covered:
            print(f"{path}: {result.covered - result.supported} bytes unsupported")
    share = total.supported / total.covered if total.covered else 1.0
    print(
        f"{files} files, {total.rows} rows, {total.covered} bytes covered, "
        f"{share:.6%} supported, {total.expressions} bytes by expressions, "
        f"{len(total.disagreements)} disagreements; changed on purpose: {dict(total.changed)}"
    )
    return 1 if total.disagreements else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
