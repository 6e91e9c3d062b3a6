# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The program as a whole: help, wrong usage, and standard files that are closed or broken."""

import ast
import subprocess
import sys

import pytest

PROGRAM = (sys.executable, "-m", "otelagent")
COMMANDS = ("record", "top", "dump", "report", "diff", "doctor", "elf")


def run(*arguments, shell="", **environment):
    command = [*PROGRAM, *arguments]
    if shell:
        command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
    variables = {"PATH": "/usr/bin:/bin", "COLUMNS": "80", **environment}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=variables
    )


def test_help_lists_all_commands():
    done = run("--help")

    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_80_columns_and_cuts_no_option(name):
    done = run(name, "--help")

    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "…" not in done.stdout
    assert "\x1b" not in done.stdout


def test_sampling_begins_before_what_names_frames_is_imported():
    code = "import sys, otelagent.cli.recorder, otelagent.profiler; print(sorted(sys.modules))"
    modules = subprocess.check_output([sys.executable, "-c", code], text=True)
    for late in ("symbolize.native", "symbolize.jit", "symbolize.symcache", "profile.top"):
        assert f"'otelagent.{late}'" not in modules
    assert "'otelagent.processes.table'" in modules


def test_help_imports_nothing_heavy():
    code = "import sys, otelagent.cli.main; print(sorted(sys.modules))"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True)

    for name in ("otelagent._native", "rich", "otelagent.profiler", "elftools", "google.protobuf"):
        assert f"'{name}'" not in loaded


@pytest.mark.parametrize("client", ["grpc_client, grpc", "http_client"])
def test_an_agent_imports_nothing_that_it_needs_for_its_version_alone(client):
    """What was imported once stays in its memory for ever: that was 1 MB."""
    code = f"import sys, otelagent.cli.agentrun, otelagent.export.{client}; print([*sys.modules])"
    loaded = set(ast.literal_eval(subprocess.check_output([sys.executable, "-c", code], text=True)))

    assert "otelagent.cli.agentsinks" in loaded
    assert not loaded & {"importlib.metadata", "zipfile", "csv"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("record",),
        ("record", "-a", "--", "true"),
        ("record", "-p", "1", "-p", "x"),
        ("record", "--no-such-option"),
        ("record", "-a", "-d", "soon"),
        ("record", "-a", "-F", "0"),
        ("record", "-a", "-o", "x.unknown"),
        ("record", "-a", "-f", "unknown"),
        ("record", "-a", "-e", "sneezes"),
        ("top", "-a", "--interval", "0"),
        ("no-such-command",),
    ],
)
def test_wrong_usage_is_2_and_has_no_traceback(arguments):
    done = run(*arguments)

    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_stderr_only_silences():
    done = run("record", shell="2>&-")

    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_a_full_stderr_only_silences():
    assert run("record", shell="2>/dev/full").returncode == 2


def test_a_closed_stdout_is_told():
    done = run("elf", "/bin/true", shell=">&-")

    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_completion_is_there_for_bash():
    done = run(_OTELAGENT_COMPLETE="complete_bash", COMP_WORDS="otelagent re", COMP_CWORD="1")
    source = run("--show-completion", "bash")

    assert "record" in done.stdout + source.stdout


def test_help_onto_a_full_disk_is_no_internal_error():
    done = run("--help", shell="> /dev/full")

    assert done.returncode == 1
    assert done.stderr == "otelagent: cannot write: No space left on device\n"
