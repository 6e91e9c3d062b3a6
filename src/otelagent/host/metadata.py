# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a process is part of: service, container, unit; by OpenTelemetry's names.

All of it comes from /proc/PID, whose content the process may choose: everything is bounded.
Arguments are left out, since they may hold secrets, and so is the environment, but for what
OpenTelemetry defines and what the user names.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from otelagent.errors import ConfigError
from otelagent.formats.pairs import parse_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

Attributes = tuple[tuple[str, str], ...]

MAX_FILE_BYTES = 128 << 10
MAX_CHARS = 256
_CONTAINER = re.compile(r"(?<![0-9a-f])([0-9a-f]{64})(?![0-9a-f])")
_POD = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})")
_UNIT = re.compile(r"/([^/]+\.(?:service|scope))(?=/|$)")
_NSPID = re.compile(rb"^NSpid:[ \t]*\d+[ \t].*?(\d+)$", re.MULTILINE)
_SERVICE_KEYS = ("service.name", "service.namespace", "service.version")
ENVIRONMENT = "process.environment_variable."


def read_metadata(pid: int, variables: Sequence[str] = (), proc: str = "/proc") -> Attributes:
    """Describe a process; what cannot be read any more is left out.

    Args:
        pid: As this machine counts.
        variables: Names of environment variables that are wanted.
        proc: Where procfs is.
    """
    folder = f"{proc}/{pid}"
    found = _of_cgroup(_read(f"{folder}/cgroup")).copy()
    command = _read(f"{folder}/cmdline").partition(b"\0")[0].decode(errors="replace")
    found["process.command"] = command
    data = _read(f"{folder}/environ")
    if variables or b"OTEL_" in data:  # most have nothing that is wanted
        environment = parse_environment(data)
        found |= service_attributes(environment)
        found |= {ENVIRONMENT + name: environment.get(name, "") for name in variables}
    # The kernel takes four times as long for the file as for the link.
    if not _counts_as_we(folder) and (inner := _NSPID.search(_read(f"{folder}/status"))):
        found["process.vpid"] = inner[1].decode()
    return tuple((key, value[:MAX_CHARS]) for key, value in found.items() if value)


@lru_cache(maxsize=64)
def _of_cgroup(data: bytes) -> dict[str, str]:
    """Do so for many processes of few cgroups; not to be changed."""
    return cgroup_attributes(data.decode(errors="replace"))


def _counts_as_we(folder: str) -> bool:
    """Tell whether a process's numbers are ours: it is in our namespace."""
    return _read_link(f"{folder}/ns/pid") == _own_namespace()


@lru_cache(maxsize=1)
def _own_namespace() -> str:
    return _read_link("/proc/self/ns/pid") or "not known"


def _read_link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 (thrice as fast)
    except OSError:
        return ""


def cgroup_attributes(text: str) -> dict[str, str]:
    """Read /proc/PID/cgroup: the cgroup, and the container, pod or unit that it belongs to."""
    lines = text.splitlines()
    # The unified tree, else what systemd made of version 1.
    line = next((each for each in lines if each.startswith("0::")), lines[0] if lines else "")
    path = line.partition(":")[2].partition(":")[2]
    found = {"process.linux.cgroup": path} if path not in {"", "/"} else {}
    if containers := _CONTAINER.findall(text):
        found["container.id"] = containers[-1]
    if pod := _POD.search(text):
        found["k8s.pod.uid"] = pod[1].replace("_", "-")
    units = _UNIT.findall(path)
    if units and not containers:
        found["systemd.unit"] = units[-1]
    return found


def parse_environment(data: bytes) -> dict[str, str]:
    """Read /proc/PID/environ; of a variable that is there twice the first counts."""
    found: dict[str, str] = {}
    for entry in data.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals:
            found.setdefault(name.decode(errors="replace"), value.decode(errors="replace"))
    return found


def service_attributes(environment: dict[str, str]) -> dict[str, str]:
    """Find what service a process says it is."""
    try:
        said = dict(parse_pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES", ""), "attribute"))
    except ConfigError:
        said = {}  # its own business
    found = {key: said[key] for key in _SERVICE_KEYS if key in said}
    if name := environment.get("OTEL_SERVICE_NAME"):
        found["service.name"] = name
    return found


def _read(path: str) -> bytes:
    # Once for each process that is sampled: open() would take twice as long.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, MAX_FILE_BYTES)
    except OSError:
        return b""
    finally:
        os.close(fd)
