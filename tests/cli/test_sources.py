# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`report` and `diff` of a store, as a user runs them."""

import time
from array import array

import pytest
from typer.testing import CliRunner

from otelagent.cli.main import app
from otelagent.cli.sources import window
from otelagent.errors import ConfigError, FormatError
from otelagent.export.splitting import encode_requests
from otelagent.export.store import Store
from tests.export.receivers import profile


@pytest.fixture
def store(tmp_path):
    """`old` two minutes ago, `new` just now."""
    kept = Store(str(tmp_path), 1 << 30, 10**15)
    for name, ago in (("old", 120), ("new", 1)):
        made = profile(name=name)
        made.start_unix_ns = time.time_ns() - ago * 10**9
        made.duration_ns = 1000
        for *_keys, group in made:
            group.timestamps_ns[:] = array("Q", [made.start_unix_ns + at for at in range(3)])
        for record in encode_requests(made, made):
            kept.put(record)
    kept.close(0)
    return str(tmp_path)


def run(*arguments):
    done = CliRunner().invoke(app, arguments)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_report_takes_a_time_of_a_store(store):
    assert "old" in run("report", store)
    recent = run("report", store, "--since", "1m")
    before = run("report", store, "--since", "1h", "--until", "1m")

    assert ("new" in recent, "old" in recent) == (True, False)
    assert ("new" in before, "old" in before) == (False, True)


def test_diff_of_a_store_alone_is_with_the_time_before(store):
    rows = run("diff", store, "--since", "100s").splitlines()[1:]

    assert sorted((row.split()[0], row.split()[1], row.split()[4]) for row in rows) == [
        ("0.0%", "100.0%", "new"),
        ("100.0%", "0.0%", "old"),
    ]


def test_what_cannot_be_meant_is_told(store, tmp_path):
    with pytest.raises(ConfigError, match="what to compare with"):
        run("diff", store)
    with pytest.raises(ConfigError, match="--until is not after"):
        window("1h", "2h")
    with pytest.raises(ConfigError, match="are for a store"):
        run("report", "a.otlp", "--since", "1h")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="no files of a store"):
        run("report", str(tmp_path / "empty"))
