# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What packages hold beside the program is made from its own tables, and keeps up with them."""

import re
import subprocess
import sys

import pytest

from otelagent.config.file import parse_file
from otelagent.config.settings import DEFAULTS, TYPES
from tests.house.tracked import ROOT


def made(what):
    command = [sys.executable, ROOT / "package" / "manual.py", what]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_every_setting_stands_in_the_configuration_as_a_comment_with_its_default():
    text = made("config")
    uncommented = re.sub(r"(?m)^#(?=[a-z])", "", text)

    given = parse_file(uncommented.encode(), "otelagent.yaml")

    assert parse_file(text.encode(), "otelagent.yaml") == {}
    assert {key: value.value for key, value in given.items()} == DEFAULTS


def test_the_manual_has_every_option_of_the_agent_and_no_line_that_roff_would_take():
    page = made("page")

    options = re.findall(r"(?m)^\.B (?:\\-\w, )?\\-\\-([\w\\-]+)", page)
    assert set(TYPES) <= {option.replace("\\-", "-") for option in options}
    known = ("TH", "SH", "SS", "PP", "nf", "fi", "TP", "B", "I")
    assert {line[1:3].strip() for line in page.split("\n") if line.startswith(".")} <= set(known)
    assert not re.search(r"(?m)^'", page)


@pytest.mark.parametrize("setting", ["ExecStart", "CapabilityBoundingSet", "StateDirectory"])
def test_the_unit_has_what_the_packages_rely_on(setting):
    unit = (ROOT / "package" / "otelagent.service").read_text()

    assert re.search(rf"(?m)^{setting}=.", unit)
