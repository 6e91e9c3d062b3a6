# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every setting with every wrong value, by file, environment and option: who, what, one line."""

import pytest

from otelagent.config.environment import variable_of
from otelagent.config.resolve import resolve
from otelagent.config.settings import TYPES, Bytes, Duration, Share, kind_of
from otelagent.errors import ConfigError, SettingError

pytest.importorskip("yaml", reason="PyYAML is not installed: make installs it")

NUMBERS = ("x", "-1", "nan", "inf", "1e999", "5 5", "true", "[1]", "{a: 1}", "!!python/object:x y")
WRONG = {
    Duration: (*NUMBERS, "0", "0s", "-1s", "5 parsecs", "9999999999999h", "1s2"),
    Bytes: (*NUMBERS, "0", "1.5.2", "1 parsec", "999999999999TiB"),
    Share: (*NUMBERS, "101%", "-1%", "nan%", '"%"'),
    int: (*NUMBERS, "1.5", "99999999999999999999"),
    float: (*NUMBERS, "2", "0,5"),
    bool: ("x", "2", "1.5", "[true]", "{a: true}", "!!python/object:x y"),
    str: ('"\\0"', '"a\\nb"', '"\\x1b[31m"', "[a]", "{a: b}", "!!python/object:x y", "12", "true"),
}
"""As they stand in a file."""
OF_FILES = {"12", "true", "[a]", "{a: b}", "!!python/object:x y"}
"""Texts, which a text may be in a variable or an option."""
LISTS = {
    "collection-agent": ("ftp://x", "http://", "a b:1", "x:99999", "http://u@h", "h:1/path"),
    "protocol": ("smtp", "http"),
    "compression": ("zip",),
    "headers": ("a", "=b", "a b=c"),
    "resource-attributes": ("a", "=b"),
    "env-vars": ("A=b",),
    "tracers": ("cobol",),
    "pin-cpu-ids": ("x", "3-", "9999", "2-1"),
    "samples-per-second": ("0", "1000000"),
    "max-frames": ("0", "99999"),
    "probabilistic-threshold": ("0", "101"),
    "map-scale-factor": ("9",),
    "bpf-log-level": ("3",),
}


def wrong_values(key):
    return (*WRONG[kind_of(key)], *LISTS.get(key, ()))


def plain(value):
    """Give the text that a quoted one of YAML stands for."""
    return value[1:-1].encode().decode("unicode_escape") if value.startswith('"') else value


@pytest.mark.parametrize("key", TYPES)
def test_a_wrong_value_in_a_file_is_told_with_line_and_key(key, tmp_path):
    path = tmp_path / "agent.yaml"
    for value in wrong_values(key):
        path.write_text(f"# settings\n\n{key}: {value}\n")

        with pytest.raises(SettingError) as caught:
            resolve({}, {}, str(path))

        said = str(caught.value)
        assert said.startswith(f"{path}:3: {key}: ")
        assert said.isprintable()
        assert caught.value.exit_status == 78


@pytest.mark.parametrize("key", TYPES)
def test_a_wrong_value_elsewhere_is_told_with_the_variable_or_the_option(key):
    for value in wrong_values(key):
        if kind_of(key) is str and value in OF_FILES:
            continue
        text = plain(value)

        with pytest.raises(SettingError) as by_variable:
            resolve({}, {variable_of(key): text})
        with pytest.raises(ConfigError) as by_option:
            resolve({key: text}, {})

        assert str(by_variable.value).startswith(f"{variable_of(key)}: ")
        assert str(by_option.value).startswith(f"--{key}: ")
        assert (by_variable.value.exit_status, by_option.value.exit_status) == (78, 2)
        assert f"{by_variable.value}{by_option.value}".isprintable()


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: \x01", 1), ("\n\nstore: a\x00b", 3), ("\nstore: \xff\xfe", 2), ("a: b\n c: *d", 2)],
)
def test_what_is_no_yaml_is_told_with_its_line(text, line, tmp_path):
    path = tmp_path / "agent.yaml"
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(SettingError, match=rf"agent\.yaml:{line}: no YAML: ") as caught:
        resolve({}, {}, str(path))

    assert str(caught.value).isprintable()


def test_the_value_of_a_header_is_never_shown():
    with pytest.raises(ConfigError) as caught:
        resolve({"headers": "authorization=s3cret\x1b[31m"}, {})

    assert "s3cret" not in str(caught.value)
