# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import typer
from typer.testing import CliRunner

from otelagent.cli.diff import diff
from otelagent.cli.report import report
from otelagent.errors import ConfigError, FormatError, OutputError
from otelagent.profile.formats.registry import FORMATS, read, write
from otelagent.profile.model import Profile
from tests.builders.profiles import synthetic_profile


def run(command, *arguments):
    app = typer.Typer(rich_markup_mode=None)
    app.command()(command)
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.otlp"
    with path.open("wb") as stream:
        write(synthetic_profile(400), "otlp", stream)
    return path


def test_without_an_output_the_hottest_functions_are_shown(saved):
    result = run(report, saved, "--top", 3)

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    assert "vfs_read" in result.stdout


@pytest.mark.parametrize("name", [n for n, known in FORMATS.items() if known.reader])
def test_any_format_is_written_and_read(saved, tmp_path, name):
    first = tmp_path / f"b{FORMATS[name].endings[0]}"
    second = tmp_path / "c.folded"
    direct = tmp_path / "d.folded"

    assert run(report, saved, "-o", first).exit_code == 0
    assert run(report, first, "-o", second).exit_code == 0
    assert run(report, saved, "-o", direct).exit_code == 0

    assert read(first).samples == 400
    assert second.read_text() == direct.read_text()


def test_a_format_without_an_output_goes_to_standard_output(saved):
    result = run(report, saved, "-f", "collapsed")

    assert sum(int(line.rsplit(" ", 1)[1]) for line in result.stdout.splitlines()) == 400
    assert "cannot hold" in result.stderr


def test_mistakes_are_errors_with_their_own_status(saved, tmp_path):
    assert isinstance(run(report, saved, "-o", tmp_path / "b.xyz").exception, ConfigError)
    assert isinstance(run(report, saved, "-f", "xyz").exception, ConfigError)
    assert isinstance(run(report, tmp_path / "none.otlp").exception, FormatError)
    assert isinstance(run(report, saved, "-o", saved).exception, OutputError)
    assert run(report, saved, "-o", saved, "--force").exit_code == 0


def test_two_files_are_compared(saved, tmp_path):
    other = tmp_path / "b.html"
    with other.open("wb") as stream:
        write(synthetic_profile(400, tilt=9), "html", stream)

    table = run(diff, saved, other)
    page = run(diff, saved, other, "-o", tmp_path / "d.html")

    assert "Δ self" in table.stdout
    assert page.exit_code == 0
    assert b"b.html against a.otlp" in (tmp_path / "d.html").read_bytes()
    assert isinstance(run(diff, saved, other, "-o", "x.pb.gz").exception, ConfigError)


def test_a_profile_without_samples_is_told(saved, tmp_path):
    empty = tmp_path / "empty.otlp"
    with empty.open("wb") as stream:
        write(Profile(), "otlp", stream)

    result = run(diff, empty, saved)

    assert result.exit_code == 0
    assert f"otelagent: {empty}: there are no samples in this profile" in result.stderr
    assert str(saved) not in result.stderr
