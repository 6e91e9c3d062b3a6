# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Print what packages hold beside the program: `python package/manual.py page|config`.

- `page`: otelagent(1) in roff, made from the commands' own help
- `config`: the agent's configuration with every setting as a comment, made from their table
"""

from __future__ import annotations

import inspect
import sys
from importlib.metadata import version
from typing import Any

import typer

from otelagent.cli.main import app
from otelagent.config.settings import DEFAULTS, TYPES, help_of, show

STATUS = [
    ("0", "done"),
    ("1", "failed at run time"),
    ("2", "wrong usage"),
    ("69", "the kernel lacks what is needed"),
    ("77", "no permission"),
    ("78", "a wrong value in a file or the environment"),
]
FILES = [
    ("/etc/otelagent/otelagent.yaml", "settings of the service"),
    ("/var/lib/otelagent", "profiles that the agent keeps where no receiver is named"),
    ("/var/cache/otelagent", "unwind tables and symbols of files seen before; may be removed"),
]
CONFIG_HEAD = """\
# Settings of the service otelagent. What stands here are the defaults: with no receiver named
# (collection-agent), profiles are kept in /var/lib/otelagent, and nothing leaves this machine.
# `otelagent config show --config FILE` says what holds; systemctl restart otelagent applies it.
"""


def escape(text: str) -> str:
    """Write text so that roff takes it as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in {".", "'"} else line for line in text.split("\n"))


def prose(text: str) -> list[str]:
    """Turn a help text into paragraphs."""
    paragraphs = inspect.cleandoc(text.replace("\b", "")).split("\n\n")
    return [line for each in paragraphs for line in (".PP", escape(each))]


def options(command: Any, context: Any) -> list[str]:  # noqa: ANN401 (typer's own classes)
    """List what a command takes."""
    lines = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record:
            name, text = record
            lines += [".TP", f".B {escape(name)}", escape(" ".join(text.split()))]
    return lines


def examples(epilogue: str) -> list[str]:
    """Give the lines of a command's examples without what only --help needs."""
    return [line for line in epilogue.split("\n") if line not in {"\b", "Examples:"}]


def command_section(command: Any, context: Any, path: str) -> list[str]:  # noqa: ANN401
    """Describe a command, and those below it."""
    below = getattr(command, "commands", {})
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f'.SS "{escape(path)} {escape(usage)}"', *prose(command.help or "")]
    lines += options(command, context)
    if command.epilog:
        lines += [".PP", "Examples:", ".PP", ".nf", *map(escape, examples(command.epilog)), ".fi"]
    for name, child in below.items():
        lines += command_section(
            child, child.make_context(name, [], context, resilient_parsing=True), f"{path} {name}"
        )
    return lines


def page() -> str:
    """Write the manual page."""
    root: Any = typer.main.get_command(app)
    context = root.make_context("otelagent", [], resilient_parsing=True)
    number = version("otelagent")
    lines = [
        f'.TH OTELAGENT 1 "" "otelagent {number}" "User Commands"',
        *(".SH NAME", "otelagent \\- profile Linux: every language in one stack, as OTLP"),
        *(".SH SYNOPSIS", ".B otelagent", "COMMAND [ARGS]..."),
        *(".SH DESCRIPTION", *prose(root.help)),
        *(".SH OPTIONS", *options(root, context)),
        ".SH COMMANDS",
    ]
    for name, command in root.commands.items():
        child = command.make_context(name, [], context, resilient_parsing=True)
        lines += command_section(command, child, name)
    lines += [".SH EXIT STATUS", "That of the command that was recorded, or:"]
    lines += [line for code, text in STATUS for line in (".TP", code, escape(text))]
    lines += [
        ".SH FILES",
        *(x for path, text in FILES for x in (".TP", f".I {path}", escape(text))),
    ]
    return "\n".join(lines) + "\n"


def config() -> str:
    """Write the configuration."""
    lines = [CONFIG_HEAD]
    for key in TYPES:
        lines += [f"# {help_of(key)}", f"#{key}: {show(DEFAULTS[key])}".rstrip(), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write({"page": page, "config": config}[sys.argv[1]]())
