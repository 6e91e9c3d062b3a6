# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The configuration file: YAML, one key a setting; what is wrong is told with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from otelagent.config.settings import TYPES, convert
from otelagent.errors import ConfigError, SettingError

MAX_FILE_BYTES = 1 << 20


class Given(NamedTuple):
    """A value, and who gave it."""

    value: Any
    source: str


def read_file(path: str) -> dict[str, Given]:
    """Read the settings of a file.

    Raises:
        SettingError: It cannot be read, is no YAML, or holds a wrong key or value.
    """
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as err:
        raise SettingError(f"{path}: {err.strerror or err}") from err
    if len(data) > MAX_FILE_BYTES:
        raise SettingError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB")
    return parse_file(data, path)


def parse_file(data: bytes, path: str) -> dict[str, Given]:
    """Take the bytes of a file apart; `path` is for messages.

    Raises:
        SettingError: As `read_file`.
    """
    import yaml  # noqa: PLC0415 (only where there is a file)

    try:
        root = yaml.compose(data, Loader=yaml.SafeLoader)
    except yaml.YAMLError as err:
        raise SettingError(f"{path}:{_line_of(err, data)}: no YAML: {_words_of(err)}") from err
    except (RecursionError, ValueError) as err:
        raise SettingError(f"{path}: no YAML that can be read") from err
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise SettingError(f"{path}:1: expected lines of KEY: VALUE")
    found: dict[str, Given] = {}
    for key_node, value_node in root.value:
        at = f"{path}:{key_node.start_mark.line + 1}"
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
        if key not in TYPES:
            raise SettingError(f"{at}: there is no setting {key!r}", hint=_suggest(key))
        if key in found:
            raise SettingError(f"{at}: {key} is there twice")
        if not isinstance(value_node, yaml.ScalarNode):
            raise SettingError(f"{at}: {key}: expected one value, not a list or a table")
        loader = yaml.SafeLoader(b"")
        try:
            value = loader.construct_object(value_node)
            found[key] = Given(convert(key, "" if value is None else value, strict=True), at)
        except (ConfigError, ValueError, yaml.YAMLError) as err:
            hint = getattr(err, "hint", "")
            what = f"{at}: {key}: {value_node.value!r}: {_words_of(err)}"
            raise SettingError(what, hint=hint) from err
        finally:
            loader.dispose()
    return found


def _words_of(err: Exception) -> str:
    """Give one line of what an error says, which with YAML may be a picture of several."""
    what = getattr(err, "problem", None) or getattr(err, "reason", None) or err
    return " ".join(str(what).split())


def _line_of(err: Exception, data: bytes) -> int:
    mark = getattr(err, "problem_mark", None)
    if mark:
        return int(mark.line) + 1
    # Of bytes or characters that may not be in YAML only the position is told.
    return data.count(b"\n", 0, getattr(err, "position", 0)) + 1


def _suggest(key: str) -> str:
    import difflib  # noqa: PLC0415

    near = difflib.get_close_matches(key.replace("_", "-"), TYPES, 1)
    return f"did you mean {near[0]}?" if near else "otelagent config show lists them all"
