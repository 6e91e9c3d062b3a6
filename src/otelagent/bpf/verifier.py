# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Trim what libbpf and the verifier said to the lines that decide.

A verifier log is a trace of every instruction that was looked at. What counts
is its end: the error, the instruction it is about, and the source line (lines
that begin with `;`) that it came from. libbpf puts the log between
`-- BEGIN PROG LOAD LOG --` and `-- END PROG LOAD LOG --`.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

_PROGRAM = re.compile(
    r"^libbpf: prog '([^']+)': (?:BPF program load failed|failed to)", re.MULTILINE
)
_MAP = re.compile(
    r"^libbpf: (?:map|Error in bpf_create_map_xattr)[ (]'?([^'):]+)'?.*fail", re.MULTILINE
)
_STATISTICS = re.compile(
    r"^(processed \d+ insns|verification time|stack depth|-- |libbpf: |max_states)"
)
_INSTRUCTION = re.compile(r"^\d+: (\([0-9a-f]{2}\)|R\d)")
_KEEP_LINES = 6
_LOAD_LOG = re.compile(
    r"prog '([^']+)': -- BEGIN PROG LOAD LOG --\n(.*?)-- END PROG LOAD LOG --", re.DOTALL
)
_PROCESSED = re.compile(r"^processed (\d+) insns \(limit (\d+)\)", re.MULTILINE)
_TIME = re.compile(r"^verification time (\d+) usec", re.MULTILINE)
# "stack depth 8+208"; 7.3: "stack depth max 224", the deepest chain of calls.
_STACK = re.compile(r"^stack depth (?:max )?([\d+]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LoadLog:
    """What was being loaded (empty if the log does not say), and why it was refused."""

    program: str
    map_name: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What verifying one program took: instructions processed, of at most `limit`; µs; stack.

    `stack_bytes` is 0 where the kernel does not tell.
    """

    program: str
    instructions: int
    limit: int
    microseconds: int
    stack_bytes: int


def parse_statistics(log: str) -> list[Statistics]:
    """Read the statistics of each loaded program; those of functions it calls are added up."""
    found = []
    for match in _LOAD_LOG.finditer(log):
        processed = _PROCESSED.search(match[2])
        if not processed:
            continue
        took = _TIME.search(match[2])
        stack = _STACK.search(match[2])
        depth = sum(map(int, stack[1].split("+"))) if stack else 0
        counts = (int(processed[1]), int(processed[2]), int(took[1]) if took else 0, depth)
        found.append(Statistics(match[1], *counts))
    return found


def parse_log(log: str) -> LoadLog:
    """Find the failed program or map and the decisive lines of a libbpf log."""
    program = _PROGRAM.search(log)
    failed_map = _MAP.search(log)
    return LoadLog(
        program[1] if program else "",
        failed_map[1] if failed_map else "",
        tuple(_decisive(_verifier_part(log)) or _own_words(log)),
    )


def _verifier_part(log: str) -> list[str]:
    """Cut out the verifier's log; one that was cut at its start has no BEGIN."""
    end = log.rfind("-- END PROG LOAD LOG --")
    if end < 0:
        return []
    begin = log.rfind("-- BEGIN PROG LOAD LOG --", 0, end)
    return log[max(begin, 0) : end].splitlines()


def _decisive(lines: list[str]) -> list[str]:
    """Keep the last source line, the last instruction and the error after it."""
    told = [line.strip() for line in itertools.takewhile(_is_terse, lines) if line.strip()]
    told = [line for line in told if not _STATISTICS.match(line)]
    if not told:
        return []
    source = [at for at, line in enumerate(told) if line.startswith(";")]
    tail = told[-_KEEP_LINES:]
    if source and source[-1] < len(told) - _KEEP_LINES:
        return [told[source[-1]], *tail]
    return [line for line in tail if line.startswith(";") or not _is_early(line, tail)]


def _is_terse(line: str) -> bool:
    """Tell the log proper from the long explanation that follows it on newest kernels (7.3)."""
    return not line.startswith("Verification failed:")


def _is_early(line: str, tail: list[str]) -> bool:
    """Tell whether an instruction comes before the last three: it decides nothing."""
    instructions = [other for other in tail if _INSTRUCTION.match(other)]
    return line in instructions[:-3]


def _own_words(log: str) -> list[str]:
    """Take libbpf's own last lines where the verifier said nothing."""
    lines = [line.removeprefix("libbpf: ") for line in log.splitlines() if line.strip()]
    return lines[-3:]
