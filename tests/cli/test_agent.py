# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Options of `agent`: one dash or two, what is told before anything is sampled."""

import os
import subprocess
import sys

import pytest

from otelagent.cli.agentoptions import spell_out
from otelagent.config.settings import TYPES


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["-collection-agent=127.0.0.1:11000"], ["--collection-agent=127.0.0.1:11000"]),
        (["-collection-agent", "a:1"], ["--collection-agent", "a:1"]),
        (["-disable-tls", "--disable-tls=false"], ["--disable-tls=true", "--disable-tls=false"]),
        (["-probabilistic-threshold=50"], ["--probabilistic-threshold=50"]),
        (["-probabilistic-interval=1m"], ["--probabilistic-interval=1m"]),
        (["-p", "12", "-vv", "-d5s"], ["-p", "12", "-vv", "-d5s"]),
        (["--no-such", "-x", "--", "-store"], ["--no-such", "-x", "--", "-store"]),
        (["-help", "-version", "-copyright"], ["--help", "--version", "--copyright"]),
        (
            ["-t=python", "-t", "all", "-tracers=none"],
            ["--tracers=python", "-t", "all", "--tracers=none"],
        ),
    ],
)
def test_one_dash_is_as_good_as_two(given, meant):
    assert spell_out(given) == meant


def run(*arguments, **environ):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "OTELAGENT_"))}
    return subprocess.run(
        [sys.executable, "-m", "otelagent", "agent", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=kept | environ,
    )


def test_a_misspelt_variable_is_a_warning_and_no_more():
    done = run("--config", "/nowhere.yaml", OTELAGENT_MAX_CPUS="1")

    assert done.returncode == 78  # of the file
    assert done.stderr.splitlines()[0] == (
        "otelagent: WARNING: OTELAGENT_MAX_CPUS: there is no such setting "
        "hint=did you mean OTELAGENT_MAX_CPU?"
    )


@pytest.mark.parametrize(
    ("arguments", "environ", "status", "told"),
    [
        (["-probabilistic-threshold=0"], {}, 2, "--probabilistic-threshold: '0': expected"),
        (["-collection-agent=ftp://x"], {}, 2, "--collection-agent: "),
        ([], {"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, 78, "OTEL_EXPORTER_OTLP_TIMEOUT"),
        (["--config", "/nowhere.yaml"], {}, 78, "/nowhere.yaml: No such file"),
    ],
)
def test_a_wrong_value_is_one_line_and_a_status(arguments, environ, status, told):
    done = run(*arguments, **environ)

    assert (done.returncode, done.stdout) == (status, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_every_setting_whole():
    done = run("--help")

    assert done.returncode == 0
    assert [key for key in TYPES if f"--{key} " not in done.stdout] == []


def test_config_show_tells_what_holds_and_where_from():
    done = subprocess.run(
        [sys.executable, "-m", "otelagent", "config", "show", "-disable-tls", "-headers=a=s3cret"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=os.environ | {"OTEL_SERVICE_NAME": "shop"},
    )

    lines = {line.split(":")[0]: line for line in done.stdout.splitlines()}
    assert done.returncode == 0
    assert lines["disable-tls"].split() == ["disable-tls:", "true", "#", "--disable-tls"]
    assert lines["service-name"].split() == ["service-name:", "shop", "#", "OTEL_SERVICE_NAME"]
    assert lines["timeout"].split() == ["timeout:", "10s", "#", "default"]
    assert "s3cret" not in done.stdout


def test_a_certificate_that_cannot_be_read_is_told_before_anything_is_sampled():
    done = run("-p", "999999999", "-collection-agent=https://a", "-ca-certificate=/nowhere.pem")

    assert done.returncode == 2
    assert "/nowhere.pem cannot be used: No such file" in done.stderr


@pytest.mark.parametrize(("option", "told"), [("-version", "otelagent "), ("-copyright", "Apache")])
def test_version_and_copyright_are_answered_at_once(option, told):
    done = run(option, "--config", "/nowhere.yaml")

    assert (done.returncode, done.stderr) == (0, "")
    assert told in done.stdout
