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

import subprocess
from collections.abc import Callable  # noqa: TC003 (a dataclass has it)
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.errors import KernelError, MissingFeature
from otelagent.kernel import known as one
from otelagent.kernel.calibration import Tick, read_ticks
from otelagent.kernel.code import MAX_CODE_BYTES, read_code
from otelagent.kernel.known import MAX_EXEC_ID, Known
from otelagent.kernel.syscalls import read_entries, read_raw_entries

if TYPE_CHECKING:
    from collections.abc import Iterator

_AUXV = Path("/proc/self/auxv")
_AUXV_BYTES = 160
_READ = "echo; while :; do read x </dev/null; done"


@dataclass(frozen=True, slots=True)
class Look:
    """A way to look at threads of ours.

    Attributes:
        name: What is shown to the user.
        read: Looks at the calling thread (pid 0), or at a child that runs `script`.
    """

    name: str
    read: Callable[[int], list[Tick]] = read_ticks
    script: str = "echo; while :; do :; done"


BY_TICKS = Look("perf event on threads of our own")
BY_SYSCALLS = (
    Look("raw tracepoint sys_enter", read_raw_entries, _READ),
    Look("tracepoint syscalls/sys_enter_read", read_entries, _READ),
)


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
    return all(one.is_pid(known, offset) and one.is_tgid(known, offset + 4) for known in seen)


def _is_stack(seen: Witnesses, offset: int) -> bool:
    return all(one.is_stack(known, offset) for known in seen)


def _is_mm(seen: Witnesses, offset: int) -> bool:
    """Tell whether `mm` is here: one per process."""
    spaces = [known.u64(offset) for known in seen]
    return (
        all(one.is_mm(known, offset) for known in seen)
        and spaces[0] == spaces[1]
        # The second child may well get the memory of the first one's.
        and spaces[0] not in spaces[2:]
    )


def _is_leader(seen: Witnesses, offset: int) -> bool:
    return seen.thread.u64(offset) == seen.leader.tick.task and all(
        one.is_leader(known, offset) for known in seen if known is not seen.thread
    )


def _is_start(seen: Witnesses, offset: int) -> bool:
    return all(one.is_start(known, offset) for known in seen)


def _is_tls(seen: Witnesses, offset: int) -> bool:
    return all(one.is_tls(known, offset) for known in seen)


def _is_exec_id(seen: Witnesses, offset: int) -> bool:
    """Tell whether `self_exec_id` is here, behind `parent_exec_id` (kernel/fork.c, fs/exec.c)."""
    own = seen.leader.u64(offset)
    children = [(seen.once.u64(offset - 8), seen.once.u64(offset))]
    children.append((seen.twice.u64(offset - 8), seen.twice.u64(offset)))
    return (
        own < MAX_EXEC_ID
        and seen.thread.u64(offset) == own
        and children == [(own, own + 1), (own, own + 2)]
    )


def find_auxv(mm: int) -> int:
    """Find `mm_struct.saved_auxv`, with our own `mm_struct` at this address; 0 if in vain.

    It holds what /proc/self/auxv shows; so much of it there is nowhere else.
    """
    try:
        copy = read_code(mm, MAX_CODE_BYTES)
        known = _AUXV.read_bytes()[:_AUXV_BYTES]
    except (KernelError, OSError):
        return 0
    return max(copy.find(known), 0) if len(known) == _AUXV_BYTES else 0


def read_witnesses(look: Look = BY_TICKS) -> Witnesses:
    """Make the threads and children, look at them, and end them; about 0.2 s.

    To be called on the process's first thread.

    Raises:
        KernelError: They cannot be looked at.
    """

    def here() -> Known:
        return one.look_here(lambda: look.read(0))

    leader = here()
    with ThreadPoolExecutor(max_workers=1) as pool:
        thread = pool.submit(here).result()
    execs = f"exec /bin/sh -c '{look.script}'"
    once, twice = (_look_at_child(look, script) for script in (look.script, execs))
    return Witnesses(leader, thread, once, twice)


def _look_at_child(look: Look, script: str) -> Known:
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(("/bin/sh", "-c", script), stdin=null, stdout=pipe) as child:
        try:
            # It says when its last exec is behind it.
            assert child.stdout is not None  # noqa: S101 (it is a pipe)
            child.stdout.readline()
            tick = one.first(look.read(child.pid))
            return Known(tick, one.read_start_ticks(Path(f"/proc/{child.pid}/stat")))
        finally:
            child.kill()
