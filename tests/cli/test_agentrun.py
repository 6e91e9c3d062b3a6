# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where profiles go is what the settings say, and nowhere else."""

import pytest

from otelagent.cli.agentrun import make_plan
from otelagent.cli.agentsinks import DEFAULT_STORE, check_certificates, make_sinks
from otelagent.config.resolve import endpoint_of, resolve
from otelagent.errors import ConfigError
from tests.export.receivers import HttpReceiver, pids_of, record


def sinks_of(**options):
    options = {key.replace("_", "-"): value for key, value in options.items()}
    resolved = resolve(options, {})
    return make_sinks(resolved.settings, endpoint_of(resolved))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"ca-certificate": "/no/ca.pem", "client-certificate": "/no/x.pem"}, "ca-certificate"),
        ({"client-certificate": "/no/x.pem"}, "client-certificate"),
    ],
)
def test_a_certificate_that_is_not_there_is_told_with_its_setting(options, key):
    resolved = resolve({"collection-agent": "host:4317", **options}, {})

    with pytest.raises(ConfigError, match=f"^--{key}: certificate {options[key]} cannot be used"):
        check_certificates(resolved, endpoint_of(resolved))


def test_without_a_receiver_profiles_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("otelagent.cli.agentsinks.DEFAULT_STORE", str(tmp_path / "lib"))

    [store], where = sinks_of()
    store.put(record())
    store.close(0)

    assert DEFAULT_STORE == "/var/lib/otelagent"
    assert where == f"kept in {tmp_path / 'lib'}"
    assert len(list((tmp_path / "lib").glob("*.zst"))) == 1


@pytest.mark.parametrize("spooled", [False, True])
def test_with_a_receiver_they_are_sent_and_kept_only_if_asked_for(tmp_path, spooled):
    more = {"spool": str(tmp_path / "spool")} if spooled else {}
    with HttpReceiver() as receiver:
        sinks, where = sinks_of(
            collection_agent=receiver.url, store=str(tmp_path / "store"), **more
        )
        for sink in sinks:
            sink.put(record(pid=9))
        for sink in sinks:
            sink.close(5)

        assert [pids_of(one) for one in receiver.requests] == [[9]]
    assert (
        where == f"kept in {tmp_path / 'store'} and sent to {receiver.url}/v1development/profiles"
    )
    assert (tmp_path / "spool").exists() == spooled

    [alone], _ = sinks_of(collection_agent="http://127.0.0.1:9")
    alone.close(0)


def test_the_plan_has_what_goes_with_every_profile():
    options = {
        "service-name": "shop",
        "resource-attributes": "team=a,service.instance.id=own",
        "env-vars": " A,,B ",
        "reporter-interval": "2m30s",
    }

    plan = make_plan(resolve(options, {}))

    found = dict(plan.resource)
    assert (found["service.name"], found["team"]) == ("shop", "a")
    assert (found["service.instance.id"], found["os.type"]) == ("own", "linux")
    assert (plan.variables, plan.interval_s) == (("A", "B"), 150.0)
