# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Writing an output file so that nothing is overwritten or lost by accident.

- `-` and `/dev/stdout` are standard output; devices, pipes and sockets are written into.
- A regular file is written under a temporary name beside it and appears whole;
  one that is there is replaced only by force (and keeps its owner and mode).
- Under sudo a new file belongs to the user who called sudo.
- Where writing fails, what was sampled is kept in another directory.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from otelagent.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

    Writer = Callable[[BinaryIO], None]

STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
RESCUE_DIRECTORIES = ("/var/tmp", "/tmp", "/dev/shm", ".")  # noqa: S108 (created by mkstemp)
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def default_name(ending: str = ".html") -> str:
    """Name an output after host and time: `otelagent-<host>-<UTC><ending>`."""
    host = "".join(c if c in _NAME_CHARACTERS else "-" for c in os.uname().nodename)
    return f"otelagent-{host or 'host'}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}{ending}"


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except OSError as err:
        raise OutputError(f"{path}: {err.strerror or err}") from err


def check_output(name: str, *, force: bool = False) -> None:
    """Refuse an output that could not be written, before there is anything to lose.

    Raises:
        OutputError: A file is there already, or its directory cannot be written.
    """
    if name in STDOUT:
        return
    path = Path(name)
    found = _status(path)
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise OutputError(f"{path} is a directory", hint="name a file in it")
    if found is not None and not stat.S_ISREG(found.st_mode):
        return
    if (found is not None or path.is_symlink()) and not force:
        raise OutputError(f"{path} exists", hint="--force overwrites it")
    directory = path.parent
    if not directory.is_dir():
        raise OutputError(f"{directory} is not a directory", hint="make it first")
    try:
        # Modes say little: root may do anything, but not on a read-only or special file system.
        descriptor, temporary = tempfile.mkstemp(prefix=".otelagent-", dir=directory)
    except OSError as err:
        what = "you may not write there" if isinstance(err, PermissionError) else err.strerror
        raise OutputError(f"{directory}: {what}", hint="choose another with -o") from err
    os.close(descriptor)
    Path(temporary).unlink()


def write_output(name: str, write: Writer, *, force: bool = False, keep: bool = False) -> None:
    """Write an output by the rules above.

    Args:
        name: Where to.
        write: Writes all of it; is called again when the first try failed.
        force: Replace a regular file that is there.
        keep: Save the output in another directory when writing fails.

    Raises:
        OutputError: It is not where it should be; the message says where it was kept.
        BrokenPipeError: The reader of a pipe has gone, and nothing was to be kept.
    """
    try:
        _write_somewhere(name, write, force=force)
    except (OSError, OutputError) as err:
        if isinstance(err, BrokenPipeError) and not keep:
            raise  # nobody wants to read on: `| head`
        if isinstance(err, OutputError):
            reason, hint = str(err), err.hint
        else:
            shown = "standard output" if name in STDOUT else name
            reason, hint = f"{shown}: {err.strerror or err}", ""
        kept = _rescue(name, write) if keep else None
        if kept is not None:
            raise OutputError(f"{reason}; the profile was kept in {kept}", hint=hint) from err
        raise OutputError(reason, hint=hint) from err


def print_output(show: Callable[[TextIO], None]) -> None:
    """Show something on standard output.

    Raises:
        OutputError: It cannot be written there.
        BrokenPipeError: The reader of the pipe has gone.
    """
    try:
        show(sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as err:
        # What is still in the buffer would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(f"standard output: {err.strerror or err}") from err


def _write_somewhere(name: str, write: Writer, *, force: bool) -> None:
    if name in STDOUT:
        sys.stdout.flush()
        write(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    path = Path(name)
    found = _status(path)
    if found is not None and not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        # No O_CREAT and no O_TRUNC: a device is never replaced, not even in a race.
        with os.fdopen(os.open(path, os.O_WRONLY), "wb") as stream:
            write(stream)
        return
    check_output(name, force=force)
    _write_beside(path, write, found, force=force)


def _write_beside(path: Path, write: Writer, old: os.stat_result | None, *, force: bool) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            write(stream)
            _set_owner(stream.fileno(), old)
        if force:
            Path(temporary).replace(path)
        else:
            _rename_new(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()


def _rename_new(temporary: str, path: Path) -> None:
    """Give the file its name, unless another one has it by now."""
    try:
        os.link(temporary, path)
    except FileExistsError as err:
        raise OutputError(f"{path} exists", hint="--force overwrites it") from err
    except OSError:
        # A file system without hard links: the check before must do.
        Path(temporary).rename(path)


def _set_owner(descriptor: int, old: os.stat_result | None) -> None:
    if old is not None:
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
        with suppress(PermissionError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
        return
    mask = os.umask(0)
    os.umask(mask)
    os.fchmod(descriptor, 0o666 & ~mask)
    user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if os.geteuid() == 0 and user.isdecimal():
        os.fchown(descriptor, int(user), int(group) if group.isdecimal() else -1)


def _rescue(name: str, write: Writer) -> str | None:
    """Write into the first directory that takes it."""
    ending = "".join(Path(name).suffixes[-2:]) if name not in STDOUT else ".profile"
    for directory in dict.fromkeys((tempfile.gettempdir(), *RESCUE_DIRECTORIES)):
        try:
            descriptor, path = tempfile.mkstemp(ending, "otelagent-", directory)
        except OSError:
            continue
        try:
            with os.fdopen(descriptor, "wb") as stream:
                write(stream)
                _set_owner(stream.fileno(), None)
        except OSError:
            Path(path).unlink(missing_ok=True)
            continue
        return path
    return None
