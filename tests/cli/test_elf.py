# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import pytest
from typer.testing import CliRunner

from otelagent.cli.main import app
from otelagent.errors import ConfigError, TargetError
from otelagent.formats.elf import ElfFile
from otelagent.host.files import open_file
from otelagent.unwind.file_id import file_id


def run(*arguments):
    result = CliRunner().invoke(app, ["elf", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_shows_identity_and_sources_of_rows():
    with open_file("/bin/ls") as source:
        build_id, identity = ElfFile(source).build_id, file_id(source).hex()
    text = run("/bin/ls")

    assert identity in text
    assert build_id in text
    assert ".eh_frame: " in text
    assert "rules" in text


def test_says_what_holds_at_an_address():
    with open_file("/bin/ls") as source:
        entry = ElfFile(source).entry
    text = run("/bin/ls", f"{entry:#x}", "1")

    assert "the first frame of a thread" in text
    assert "no information covers this address" in text
    assert "function     none: " in text


def test_wrong_address_is_wrong_usage():
    with pytest.raises(ConfigError, match="hexadecimal"):
        run("/bin/ls", "main")


def test_file_that_is_none_is_refused_in_words(tmp_path):
    (tmp_path / "text").write_text("hello")

    with pytest.raises(TargetError, match="not an ELF file"):
        run(str(tmp_path / "text"))
    with pytest.raises(TargetError, match="not a regular file"):
        run(str(tmp_path))
