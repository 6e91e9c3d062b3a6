# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What verifying the profiler's programs takes on this kernel, against its limit.

Fails when a program comes within 20 % of the limit. Needs root; `make verifier-report`
runs it on every kernel of the matrix.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from otelagent.bpf.object import LOG_STATISTICS
from otelagent.bpf.verifier import Statistics, parse_statistics
from otelagent.interpreters.registry import FAMILIES
from otelagent.kernel.features import has_feature
from otelagent.kernel.offsets import find_offsets
from otelagent.kernel.plan import Plan, Wish, load, load_unwinder
from otelagent.kernel.switches import load_switches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otelagent.bpf.object import BpfObject

MOST = 0.8


def measure(*, has_loop: bool) -> tuple[list[Statistics], float]:
    """Load one flavour; returns what each program took, and seconds for all."""
    wish = Wish(frequency_hz=99, everything=True, max_frames=1024, log_level=LOG_STATISTICS)
    plan = Plan(wish, find_offsets(), has_loop)
    began = time.monotonic()
    bpf = load(plan)
    found = [*parse_statistics(bpf.log), *_late(plan, bpf)]
    seconds = time.monotonic() - began
    # Loaded only where waits are asked for: not part of the time.
    switches = load_switches(plan, bpf)
    more = [*parse_statistics(switches.log), *_late(plan, switches)]
    found += [replace(row, program=f"offcpu {row.program}") for row in more]
    switches.close()
    bpf.close()
    return found, seconds


def _late(plan: Plan, caller: BpfObject) -> Iterator[Statistics]:
    """Load what is loaded later: unwinders of runtimes."""
    for family in FAMILIES:
        late = load_unwinder(plan, family.unwinder, caller)
        yield from parse_statistics(late.log)
        late.close()


def main() -> int:
    """Print a line for each program; the status is 1 if one is too near to the limit."""
    flavours = [False, True] if has_feature("bpf_loop") else [False]
    rows: dict[str, Statistics] = {}
    took = []
    for has_loop in flavours:
        found, seconds = measure(has_loop=has_loop)
        rows |= {row.program: row for row in found}
        name = "with bpf_loop" if has_loop else "bounded"
        own = [row for row in found if not row.program.startswith("offcpu ")]
        verifying = sum(row.microseconds for row in own) / 1e6
        print(f"{name}: {len(own)} programs loaded in {seconds:.2f} s ({verifying:.2f} verifying)")
        took.append(f"{seconds:.2f} s {name}")
    for row in sorted(rows.values(), key=lambda row: -row.instructions):
        share = 100 * row.instructions / row.limit
        print(
            f"{row.program:24} {row.instructions:8} instructions, {share:5.1f} % of the limit, "
            f"{row.microseconds / 1000:8.1f} ms, {row.stack_bytes or 'untold':>6} bytes of stack"
        )
    high = too_near(rows.values())
    if high:
        print(f"too near to the limit: {', '.join(high)}")
    if not rows:
        print("nothing was loaded")
        return 1
    most = max(rows.values(), key=lambda row: row.instructions / row.limit)
    share = 100 * most.instructions / most.limit
    print(f"loaded in {' and '.join(took)}; {most.program} takes most, {share:.1f} % of the limit")
    return int(bool(high))


def too_near(rows: Iterable[Statistics]) -> list[str]:
    """Name the programs that come within 20 % of the verifier's limit."""
    return [row.program for row in rows if row.instructions >= MOST * row.limit]


if __name__ == "__main__":
    sys.exit(main())
