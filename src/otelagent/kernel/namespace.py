# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether processes have the same numbers here as in the kernel's programs."""

from __future__ import annotations

from pathlib import Path

from otelagent.errors import MissingFeature

_FIRST = 0xEFFFFFFC
"""PROC_PID_INIT_INO, include/linux/proc_ns.h."""


def require_first(namespace: Path = Path("/proc/self/ns/pid")) -> None:
    """Check that we number processes as the kernel does.

    BPF programs see the numbers of the first pid namespace, while /proc and the process
    events of a container have its own: nothing that one says could be found in the other.

    Raises:
        MissingFeature: We are in a pid namespace of our own; the hint says what to do.
    """
    try:
        inode = namespace.stat().st_ino
    except FileNotFoundError:
        return  # a kernel without pid namespaces
    if inode != _FIRST:
        raise MissingFeature(
            "otelagent runs in a pid namespace of its own and cannot tell processes apart there",
            hint="run it in the host's: outside of unshare -p, docker run --pid=host, "
            "hostPID: true in Kubernetes",
        )
