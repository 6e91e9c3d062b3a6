# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Logging set-up: plain lines on stderr, `key=value` fields, once per key.

Levels: DEBUG what was decided, INFO life cycle, WARNING results get worse
(with `hint=`), ERROR stopping. Nothing is logged per sample or frame.
"""

from __future__ import annotations

import logging
import sys

MAX_KEYS = 4096
_seen: dict[object, None] = {}


def configure(verbosity: int) -> None:
    """Write to stderr: warnings (0), also info (1), also debug (2 and more)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("otelagent: %(levelname)s: %(message)s"))
    root = logging.getLogger("otelagent")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)])


def fields(message: str, **values: object) -> str:
    """Join a message and its fields: `mapping skipped pid=12 hint=…`."""
    return " ".join([message, *(f"{key}={value}" for key, value in values.items() if value != "")])


def once(logger: logging.Logger, key: object, message: str, **values: object) -> None:
    """Warn the first time that `key` is seen, and stay silent about the last `MAX_KEYS`."""
    if key in _seen:
        return
    _seen[key] = None
    if len(_seen) > MAX_KEYS:
        _seen.pop(next(iter(_seen)), None)
    logger.warning("%s", fields(message, **values))
