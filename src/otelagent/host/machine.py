# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What this machine is, by OpenTelemetry's names; from files only, never from the network."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_ID_FILES = ("etc/machine-id", "var/lib/dbus/machine-id")
_PRETTY_NAME = re.compile(r'^PRETTY_NAME=["\']?([^"\'\n]*)', re.MULTILINE)
_MAX_BYTES = 65_536


def machine_attributes(root: str = "/") -> tuple[tuple[str, str], ...]:
    """Describe this machine; what is not known is left out."""
    found = {
        "host.name": os.uname().nodename,
        "host.id": read_machine_id(root),
        "host.arch": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os.type": "linux",
        "os.version": platform.release(),
        "os.description": read_os_name(root),
    }
    return tuple((key, value) for key, value in found.items() if value)


def read_machine_id(root: str = "/") -> str:
    """Read the machine's own id; empty where it has none."""
    for name in _ID_FILES:
        text = _read(Path(root, name)).strip()
        if re.fullmatch(r"[0-9a-f]{32}", text):
            return text
    return ""


def read_os_name(root: str = "/") -> str:
    """Read the distribution's name and version; empty where it does not say."""
    match = _PRETTY_NAME.search(_read(Path(root, "etc/os-release")))
    return match[1].strip() if match else ""


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(_MAX_BYTES).decode(errors="replace")
    except OSError:
        return ""
