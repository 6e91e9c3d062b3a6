# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Examples name commands and options that there are."""

import re

import pytest
import typer

from otelagent.cli.examples import EXAMPLES, epilogue
from otelagent.cli.main import app

ROOT = typer.main.get_command(app)
WORDS = [words for examples in EXAMPLES.values() for words, _ in examples]


def commands(group, path=""):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def test_every_command_has_examples_at_the_end_of_its_help():
    found = dict(commands(ROOT))

    assert set(found) == set(EXAMPLES)
    assert all(command.epilog == epilogue(name) for name, command in found.items())


@pytest.mark.parametrize("words", WORDS)
def test_what_an_example_names_is_there(words):
    ours = re.split(r" [|>] | -- ", words)[0]
    name = max((name for name, _ in commands(ROOT) if ours.startswith(name)), key=len)
    command = dict(commands(ROOT))[name]
    context = command.make_context(name, [], resilient_parsing=True)
    parameters = command.get_params(context)
    options = {each for one in parameters for each in (*one.opts, *one.secondary_opts)}

    asked = {word for word in ours.split() if word.startswith("-") and word != "-"}
    assert asked <= options
