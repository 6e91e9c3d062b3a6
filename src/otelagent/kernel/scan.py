# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Find fields of task_struct without BTF, by values that we know.

Copies of the task_structs of four threads of ours are looked at: this process's
first thread, another thread of it, a child that called execve once, and one
that called it twice. A field is where all four hold what they must. A copy may
reach into the next task, so of equal candidates the lowest counts; what stays
ambiguous is refused, since a wrong offset gives wrong stacks.
"""

from __future__ import annotations

import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.bpf.links import thread_pointer
from otelagent.errors import MissingFeature
from otelagent.kernel.calibration import Tick, is_plausible_distance, read_ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NS = 10**9
_SPIN = "echo; while :; do :; done"
_ONE_EXEC = ("/bin/sh", "-c", _SPIN)
_TWO_EXECS = ("/bin/sh", "-c", f"exec /bin/sh -c '{_SPIN}'")
_MAX_EXEC_ID = 1 << 32


@dataclass(frozen=True, slots=True)
class Known:
    """A thread of ours: what the kernel holds of it, and what we know of it.

    `start_ticks` is field 22 of its stat file (since boot, in clock ticks);
    `tls` is 0 where it is not known.
    """

    tick: Tick
    start_ticks: int
    tls: int = 0

    def u32(self, offset: int) -> int:
        """Read 4 bytes of its task_struct."""
        return int.from_bytes(self.tick.task_copy[offset : offset + 4], "little")

    def u64(self, offset: int) -> int:
        """Read 8 bytes of its task_struct."""
        return int.from_bytes(self.tick.task_copy[offset : offset + 8], "little")


@dataclass(frozen=True, slots=True)
class Witnesses:
    """The four threads; `leader` and `thread` are of one process, which forked the children."""

    leader: Known
    thread: Known
    once: Known
    twice: Known

    def __iter__(self) -> Iterator[Known]:
        return iter((self.leader, self.thread, self.once, self.twice))


def scan_offsets(seen: Witnesses) -> dict[str, int]:
    """Find all fields, named as in `struct oa_config`.

    Raises:
        MissingFeature: A field was not found, or at several places.
    """
    pid = _lowest("pid", _find(seen, _is_pid, step=4))
    # `mm` lies before `pid` on every kernel; real_parent and cred, alike, behind it. Of several
    # the nearest: farther off are empty lists of the scheduler, which look alike (6.1).
    mm = _lowest("mm", [offset for offset in _find(seen, _is_mm) if offset < pid][-1:])
    start = _find(seen, _is_start)
    boottime = _lowest("start_boottime", start)
    if boottime + 8 in start:
        # start_time comes first and is equal on a machine that was never suspended.
        boottime += 8
    leaders = [offset for offset in _find(seen, _is_leader) if offset > pid]
    return {
        "task_stack": _lowest("stack", _find(seen, _is_stack)),
        "task_mm": mm,
        "task_pid": pid,
        "task_tgid": pid + 4,
        "task_group_leader": _lowest("group_leader", leaders),
        "task_start_boottime": boottime,
        "task_self_exec_id": _lowest("self_exec_id", _find(seen, _is_exec_id)),
        "task_tls": _lowest("TLS base", _find(seen, _is_tls)),
    }


def _find(
    seen: Witnesses, is_there: Callable[[Witnesses, int], bool], *, step: int = 8
) -> list[int]:
    size = min(len(known.tick.task_copy) for known in seen)
    return [offset for offset in range(0, size - 16, step) if is_there(seen, offset)]


def _lowest(field: str, offsets: list[int]) -> int:
    if not offsets:
        raise MissingFeature(
            f"cannot find task_struct.{field}: this kernel has no BTF, and it was not recognised",
            hint="give a BTF file of this kernel with --btf-path",
        )
    return offsets[0]


def _is_pid(seen: Witnesses, offset: int) -> bool:
    return all(
        (known.u32(offset), known.u32(offset + 4)) == (known.tick.tid, known.tick.pid)
        for known in seen
    )


def _is_stack(seen: Witnesses, offset: int) -> bool:
    return all(is_plausible_distance(known.tick.regs - known.u64(offset)) for known in seen)


def _is_mm(seen: Witnesses, offset: int) -> bool:
    """Tell whether `mm` and `active_mm` are here: equal, one per process."""
    spaces = [known.u64(offset) for known in seen]
    return (
        all(known.u64(offset) == known.u64(offset + 8) for known in seen)
        and all(space >> 63 for space in spaces)
        and spaces[0] == spaces[1]
        # The second child may well get the memory of the first one's.
        and spaces[0] not in spaces[2:]
    )


def _is_leader(seen: Witnesses, offset: int) -> bool:
    return seen.thread.u64(offset) == seen.leader.tick.task and all(
        known.u64(offset) == known.tick.task for known in seen if known is not seen.thread
    )


def _is_start(seen: Witnesses, offset: int) -> bool:
    hz = os.sysconf("SC_CLK_TCK")
    return all(known.u64(offset) * hz // _NS == known.start_ticks for known in seen)


def _is_tls(seen: Witnesses, offset: int) -> bool:
    return all(known.u64(offset) == known.tls for known in seen if known.tls)


def _is_exec_id(seen: Witnesses, offset: int) -> bool:
    """Tell whether `self_exec_id` is here, behind `parent_exec_id` (kernel/fork.c, fs/exec.c)."""
    own = seen.leader.u64(offset)
    children = [(seen.once.u64(offset - 8), seen.once.u64(offset))]
    children.append((seen.twice.u64(offset - 8), seen.twice.u64(offset)))
    return (
        own < _MAX_EXEC_ID
        and seen.thread.u64(offset) == own
        and children == [(own, own + 1), (own, own + 2)]
    )


def read_witnesses() -> Witnesses:
    """Make the threads and children, look at them, and end them; about 0.2 s.

    To be called on the process's first thread.

    Raises:
        KernelError: They cannot be looked at.
    """
    leader = _look_here()
    with ThreadPoolExecutor(max_workers=1) as pool:
        thread = pool.submit(_look_here).result()
    return Witnesses(leader, thread, _look_at_child(_ONE_EXEC), _look_at_child(_TWO_EXECS))


def _look_here() -> Known:
    ticks = read_ticks()
    path = Path(f"/proc/self/task/{threading.get_native_id()}/stat")
    return Known(_first(ticks), _start_ticks(path), thread_pointer())


def _look_at_child(command: tuple[str, ...]) -> Known:
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(command, stdin=null, stdout=pipe) as child:
        try:
            # It says when its last exec is behind it.
            assert child.stdout is not None  # noqa: S101 (it is a pipe)
            child.stdout.readline()
            tick = _first(read_ticks(child.pid))
            return Known(tick, _start_ticks(Path(f"/proc/{child.pid}/stat")))
        finally:
            child.kill()


def _first(ticks: list[Tick]) -> Tick:
    if not ticks:
        raise MissingFeature("no tick hit our own thread in user mode")
    return ticks[0]


def _start_ticks(path: Path) -> int:
    """Read field 22 of a stat file; the name before it may hold anything."""
    return int(path.read_text().rpartition(")")[2].split()[19])
