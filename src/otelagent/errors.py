# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The error tree; branches are fates, not places.

```
AgentError(hint)                one line for the user, one line what to do   exit 1
├── ConfigError                 a wrong value the user can mend              exit 2
│   └── SettingError            the same in a file or the environment        exit 78
├── KernelError                 this host cannot                             exit 69
│   ├── MissingFeature          a kernel feature is not there
│   ├── NotPermitted            a privilege is missing                       exit 77
│   ├── LoadFailed              a BPF program was rejected
│   └── AttachFailed            a program could not be attached
├── TargetError                 one process or file: counted, never the end
│   ├── ProcessGone
│   ├── MemoryFault
│   ├── BadElf
│   └── UnsupportedRuntime
├── FormatError                 a file that was to be read is not what it should be
└── OutputError                 the result could not be written
```

An address without a name has a reason (`symbolize/result.py`) and a short stack a
fault: neither is an exception.
"""

from __future__ import annotations


class AgentError(Exception):
    """What went wrong, in one line, and what to do about it (`hint`)."""

    exit_status = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(AgentError):
    """The user gave a value that cannot be used."""

    exit_status = 2


class SettingError(ConfigError):
    """A file or the environment has a value that cannot be used."""

    exit_status = 78


class KernelError(AgentError):
    """This host or kernel cannot do what is needed."""

    exit_status = 69


class MissingFeature(KernelError):  # noqa: N818 (named for the fate)
    """A kernel feature that is needed is not there."""


class NotPermitted(KernelError):  # noqa: N818
    """A privilege is missing; the hint says which and how to grant it."""

    exit_status = 77


class LoadFailed(KernelError):  # noqa: N818
    """A BPF program or map was rejected by the kernel."""


class AttachFailed(KernelError):  # noqa: N818
    """A loaded program could not be attached to its hook."""


class TargetError(AgentError):
    """One process or file cannot be handled; the agent goes on."""


class ProcessGone(TargetError):  # noqa: N818
    """The process ended while it was looked at."""


class MemoryFault(TargetError):  # noqa: N818
    """Memory of the process could not be read."""

    def __init__(self, addr: int, size: int) -> None:
        super().__init__(f"{size} bytes at {addr:#x} cannot be read")
        self.addr = addr
        self.size = size


class BadElf(TargetError):  # noqa: N818
    """A file is not the ELF file it should be."""


class UnsupportedRuntime(TargetError):  # noqa: N818
    """An interpreter is recognised but cannot be unwound."""


class FormatError(AgentError):
    """A profile or other input file cannot be read."""


class OutputError(AgentError):
    """The result could not be written."""
