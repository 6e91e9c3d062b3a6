# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import io

import pytest

from otelagent.errors import ConfigError, FormatError
from otelagent.profile.formats.registry import FORMATS, format_of, read, write
from tests.builders.profiles import synthetic_profile

READABLE = [name for name, known in FORMATS.items() if known.reader]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.html", "html"),
        ("dir/a.pb.gz", "pprof"),
        ("a.folded", "collapsed"),
        ("A.COLLAPSED", "collapsed"),
        ("a.speedscope.json", "speedscope"),
        ("a.otlp", "otlp"),
        ("a.otlp.json", "otlp.json"),
        ("a.json", "json"),
        ("a.md", "md"),
    ],
)
def test_the_ending_names_the_format(path, name):
    assert format_of(path) == name


@pytest.mark.parametrize("path", ["a", "a.txt", "otlp"])
def test_an_unknown_ending_is_the_users_mistake(path):
    with pytest.raises(ConfigError) as caught:
        format_of(path)

    assert ".folded" in caught.value.hint


def test_standard_output_needs_a_format_by_name():
    with pytest.raises(ConfigError, match="no ending") as caught:
        format_of("-")

    assert "-f" in caught.value.hint
    assert "collapsed" in caught.value.hint


@pytest.mark.parametrize("ending", ["right", "wrong"])
@pytest.mark.parametrize("name", READABLE)
def test_every_format_is_read_by_its_ending_and_by_its_content(name, ending, tmp_path):
    path = tmp_path / f"a{FORMATS[name].endings[0] if ending == 'right' else '.dat'}"
    with path.open("wb") as stream:
        write(synthetic_profile(200), name, stream)

    assert read(path).samples == 200


def test_a_file_that_is_no_profile_is_told_what_would_be_one(tmp_path):
    path = tmp_path / "notes"
    path.write_text("some words\n")

    with pytest.raises(FormatError, match="line 1") as caught:
        read(path)

    assert caught.value.hint.startswith("taken for collapsed by its content")


def test_a_summary_cannot_be_read_back(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("# CPU profile")

    with pytest.raises(FormatError, match="summary"):
        read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"none\.otlp: No such file"):
        read(tmp_path / "none.otlp")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_what_it_cannot_hold(name):
    assert isinstance(FORMATS[name].cannot_hold, tuple)
    stream = io.BytesIO()
    write(synthetic_profile(5), name, stream)
    assert stream.getvalue()
