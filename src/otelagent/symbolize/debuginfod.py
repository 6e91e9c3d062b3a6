# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Fetches debug files by build id from a debuginfod server that the user named."""

from __future__ import annotations

import logging
import os
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.symbolize.debugfiles import close, is_debug_file_of, open_elf

if TYPE_CHECKING:
    from otelagent.formats.elf import ElfFile

MAX_BYTES = 2 << 30
TIMEOUT_SECONDS = 10
TOTAL_SECONDS = 90
RETRY_SECONDS = 3600

_logger = logging.getLogger(__name__)


def find(elf: ElfFile, url: str, cache_dir: Path | None) -> ElfFile | None:
    """Fetch the debug file of `elf`, or take it from `cache_dir`; None if there is none.

    That a server has none is remembered for an hour, in `cache_dir`.
    """
    build_id = elf.build_id
    if len(build_id) < 8 or not url.startswith(("http://", "https://")):
        return None
    folder = (cache_dir or Path(tempfile.gettempdir()) / f"otelagent-{os.geteuid()}") / "debuginfod"
    target = folder / f"{build_id}.debug"
    try:
        if not _is_there(folder, target, f"{url.rstrip('/')}/buildid/{build_id}/debuginfo"):
            return None
    except OSError as err:
        _logger.debug("debuginfod failed error=%s", err)
        return None
    debug = open_elf(str(target))
    if debug is not None and is_debug_file_of(elf, debug):
        return debug
    close(debug)
    return None


def _is_there(folder: Path, target: Path, url: str) -> bool:
    """Fetch `url` into `target` unless it is there or was missing lately."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        return False
    missing = target.with_suffix(".missing")
    if target.exists():
        return True
    if missing.exists() and time.time() - missing.stat().st_mtime < RETRY_SECONDS:
        return False
    if _fetch(url, target):
        return True
    missing.touch()
    return False


def _fetch(url: str, target: Path) -> bool:
    deadline = time.monotonic() + TOTAL_SECONDS
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".new-")
    try:
        with (
            os.fdopen(handle, "wb") as stream,
            urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer,  # noqa: S310 (checked)
        ):
            size = 0
            while piece := answer.read(1 << 20):
                size += len(piece)
                if size > MAX_BYTES or time.monotonic() > deadline:
                    return False
                stream.write(piece)
        Path(name).rename(target)
    except (urllib.error.URLError, TimeoutError, ValueError) as err:
        _logger.debug("debuginfod failed url=%s error=%s", url, err)
        return False
    else:
        return True
    finally:
        Path(name).unlink(missing_ok=True)
