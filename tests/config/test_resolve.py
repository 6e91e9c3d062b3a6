# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which value holds, where it came from, and how a wrong one is told."""

import pytest

from otelagent import log
from otelagent.config.environment import strangers, variable_of
from otelagent.config.resolve import attributes_of, endpoint_of, options_of, resolve
from otelagent.config.settings import DEFAULTS, NAMES, TYPES, convert, help_of, show
from otelagent.errors import ConfigError, SettingError
from otelagent.options import OffCpu

pytest.importorskip("yaml", reason="PyYAML is not installed: make installs it")


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "agent.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_without_anything_defaults_hold_and_nothing_is_sent():
    found = resolve({}, {})

    assert found.settings.samples_per_second == 20
    assert set(found.sources.values()) == {"default"}
    assert endpoint_of(found) is None


def test_an_option_comes_before_the_environment_and_that_before_the_file(file):
    path = file("samples-per-second: 1\nreporter-interval: 1s\nmax-frames: 1\n")
    environ = {"OTELAGENT_SAMPLES_PER_SECOND": "2", "OTELAGENT_REPORTER_INTERVAL": "2s"}

    found = resolve({"samples-per-second": "3"}, environ, path)

    settings = found.settings
    assert (settings.samples_per_second, settings.reporter_interval, settings.max_frames) == (
        3,
        2.0,
        1,
    )
    assert found.sources["samples-per-second"] == "--samples-per-second"
    assert found.sources["reporter-interval"] == "OTELAGENT_REPORTER_INTERVAL"
    assert found.sources["max-frames"] == f"{path}:3"


def test_the_environment_may_name_the_file(file):
    path = file("spool: /x\n")

    assert resolve({}, {"OTELAGENT_CONFIG": path}).settings.spool == "/x"


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch):
    monkeypatch.setattr(log, "_seen", {})


def warnings_of(caplog, environ):
    resolve({}, environ)
    return caplog.messages


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("OTELAGENT_SAMPLES_PER_SECONDS", "OTELAGENT_SAMPLES_PER_SECOND"),
        ("OTELAGENT_MAXCPU", "OTELAGENT_MAX_CPU"),
        ("OTELAGENT_COLECTION_AGENT", "OTELAGENT_COLLECTION_AGENT"),
        ("OTELAGENT_max_cpu", "OTELAGENT_MAX_CPU"),
    ],
)
def test_a_misspelt_variable_is_one_warning_with_what_may_be_meant(caplog, name, meant):
    assert warnings_of(caplog, {name: "secret"}) == [
        f"{name}: there is no such setting hint=did you mean {meant}?"
    ]
    resolve({}, {name: "secret"})  # read again: not told again
    assert len(caplog.messages) == 1


def test_a_variable_that_is_like_nothing_is_told_too(caplog):
    found = warnings_of(caplog, {"OTELAGENT_XYZZY": "1", "OTELAGENT_\x1b[2J": "1"})

    assert found == [
        "'OTELAGENT_\\x1b[2J': there is no such setting hint=otelagent config show lists them",
        "OTELAGENT_XYZZY: there is no such setting hint=otelagent config show lists them",
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("OTELAGENT_CONFIG_", "OTELAGENT_SERVICE_HOST", "OTELAGENT_SERVICE_PORT_OTLP_GRPC"),
        *("OTELAGENT_PORT", "OTELAGENT_PORT_4317_TCP_ADDR", "OTELAGENT_WEB_PORT_80_TCP"),
    ],
)
def test_variables_that_are_not_meant_for_us_are_left_alone(caplog, name):
    """Kubernetes sets some for every service; one may be called otelagent."""
    value = "" if name == "OTELAGENT_CONFIG_" else "tcp://10.0.0.1:4317"

    assert warnings_of(caplog, {name: value, "OTELAGENT_DEBUG": "1"}) == []


def test_no_setting_is_taken_for_a_variable_of_kubernetes():
    names = {variable_of(key): "x" for key in TYPES}

    assert len(list(strangers({name + "X": "x" for name in names}))) == len(names)
    assert list(strangers(names)) == []


def test_every_setting_has_an_option_a_variable_a_help_text_and_a_default_that_is_valid():
    for key in TYPES:
        assert help_of(key).endswith((".", "]"))
        assert variable_of(key) == "OTELAGENT_" + NAMES[key].upper()
        if DEFAULTS[key] != "":
            assert convert(key, show(DEFAULTS[key]), strict=False) == DEFAULTS[key]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1", ":1: there is no setting 'a'"),
        ("\nsample-per-second: 1", ":2: there is no setting 'sample-per-second'"),
        ("samples-per-second: '20'", ":1: samples-per-second: '20': expected `int`, got `str`"),
        ("max-frames: 0", ":1: max-frames: '0': expected `int` >= 1"),
        ("disable-tls: 1", ":1: disable-tls: '1': expected `bool`, got `int`"),
        ("protocol: smtp", ":1: protocol: 'smtp': expected one of grpc, http/protobuf"),
        ("timeout: 5 parsecs", ":1: timeout: '5 parsecs': '5 parsecs' is not a duration"),
        ("spool-bytes: -1", ":1: spool-bytes: '-1': '-1' is not a size"),
        ("spool: [a]", ":1: spool: expected one value, not a list or a table"),
        ("spool: a\nspool: b", ":2: spool is there twice"),
        ("- a", ":1: expected lines of KEY: VALUE"),
        ("a: [", ":1: no YAML"),
        ("collection-agent: 'ftp://x'", ":1: collection-agent: 'ftp://x' is not the address"),
        ("headers: nonsense", ":1: headers: header 'nonsense' is not understood"),
        ("resource-attributes: x", ":1: resource-attributes: attribute 'x' is not understood"),
        ("probabilistic-threshold: 0", ":1: probabilistic-threshold: '0': expected `int` >= 1"),
        ("probabilistic-threshold: 101", "expected `int` <= 100"),
        ("probabilistic-threshold: 2.5", "expected `int`, got `float`"),
        ("store-age: 2026-11-21", "expected a duration, got datetime.date(2026, 11, 21)"),
        ("spool: !!python/object:os.system x", ":1: spool: "),
        ("\xff\x00", "no YAML"),
    ],
)
def test_a_wrong_file_is_told_with_line_key_and_what_was_expected(file, text, told):
    path = file(text)

    with pytest.raises(SettingError) as caught:
        resolve({}, {}, path)

    assert told in str(caught.value)
    assert str(caught.value).startswith(path)
    assert caught.value.exit_status == 78


def test_a_file_that_is_not_there_is_told():
    with pytest.raises(SettingError, match="No such file"):
        resolve({}, {}, "/nowhere.yaml")


def test_a_wrong_variable_is_status_78_and_a_wrong_option_2():
    with pytest.raises(SettingError, match="OTELAGENT_MAX_FRAMES: 'x': expected"):
        resolve({}, {"OTELAGENT_MAX_FRAMES": "x"})
    with pytest.raises(ConfigError, match="--max-frames: 'x': expected") as caught:
        resolve({"max-frames": "x"}, {})
    assert caught.value.exit_status == 2
    with pytest.raises(ConfigError, match="--collection-agent: ") as caught:
        resolve({"collection-agent": ":"}, {})
    assert caught.value.exit_status == 2


def test_what_is_wrong_names_the_setting_once():
    wrong = "there is no tracer 'perl'"
    with pytest.raises(ConfigError, match=f"^--tracers: {wrong}$"):
        resolve({"tracers": "perl"}, {})
    with pytest.raises(SettingError, match=f"^OTELAGENT_TRACERS: {wrong}$"):
        resolve({}, {"OTELAGENT_TRACERS": "perl"})
    with pytest.raises(SettingError, match=r"^OTEL_EXPORTER_OTLP_HEADERS: headers: "):
        resolve({}, {"OTEL_EXPORTER_OTLP_HEADERS": "x"})


def endpoint(environ, options=()):
    return endpoint_of(resolve(dict(options), environ))


def test_the_seeds_options_are_grpc_without_tls():
    found = endpoint({}, {"collection-agent": "127.0.0.1:11000", "disable-tls": "true"})

    assert str(found.address) == "grpc://127.0.0.1:11000"


def test_otels_variables_hold():
    found = endpoint(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "https://c:4318/otlp",
            "OTEL_EXPORTER_OTLP_HEADERS": "a=b",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1500",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem",
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/c.pem",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/k.pem",
        }
    )

    assert str(found.address) == "https://c:4318/otlp/v1development/profiles"
    assert (found.headers, found.timeout_s, found.gzip) == ((("a", "b"),), 1.5, False)
    assert (found.ca_file, found.cert_file, found.key_file) == ("/ca.pem", "/c.pem", "/k.pem")


def test_the_form_for_profiles_comes_first_and_is_the_whole_url():
    found = endpoint(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://all:4318",
            "OTEL_EXPORTER_OTLP_PROFILES_ENDPOINT": "http://mine:1/own",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_PROFILES_PROTOCOL": "http/protobuf",
        }
    )

    assert str(found.address) == "http://mine:1/own"


def test_our_own_variables_come_before_otels():
    found = resolve(
        {},
        {
            "OTEL_SERVICE_NAME": "a",
            "OTELAGENT_SERVICE_NAME": "b",
            "OTEL_RESOURCE_ATTRIBUTES": "x=1",
        },
    )

    assert found.settings.service_name == "b"
    assert attributes_of(found) == (("x", "1"),)


def test_an_empty_variable_says_nothing():
    assert resolve({}, {"OTELAGENT_MAX_FRAMES": ""}).sources["max-frames"] == "default"


@pytest.mark.parametrize(
    ("text", "has_python"),
    [("all", True), ("python", True), ("native,python", True), ("native", False), ("none", False)],
)
def test_tracers_are_those_that_are_named(text, has_python):
    assert options_of(resolve({"tracers": text}, {})).python == has_python


def test_waits_are_followed_if_a_part_of_them_is_asked_for():
    def waits(**given):
        return options_of(resolve(given, {})).off_cpu

    assert waits() is None
    assert waits(**{"off-cpu-threshold": "0.25"}) == OffCpu(0.25, 1_000_000)
    few = waits(**{"off-cpu-threshold": "1", "off-cpu-min": "50us"})
    assert few == OffCpu(1.0, 50_000)


def test_cpus_are_a_list_of_ranges():
    assert options_of(resolve({"pin-cpu-ids": "0-2, 7"}, {})).cpus == (0, 1, 2, 7)
    assert options_of(resolve({}, {})).cpus == ()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("tracers", "perl"),
        ("tracers", "python,cobol"),
        ("pin-cpu-ids", "a"),
        ("pin-cpu-ids", "3-1"),
        ("pin-cpu-ids", "-1"),
        ("pin-cpu-ids", "0-99999999999"),
        ("map-scale-factor", "9"),
        ("bpf-log-level", "3"),
    ],
)
def test_what_is_no_tracer_cpu_or_level_is_refused(key, text):
    with pytest.raises(ConfigError, match=f"--{key}"):
        resolve({key: text}, {})


def test_a_key_without_its_certificate_is_refused():
    options = {"collection-agent": "x:1", "client-key": "/k"}

    with pytest.raises(ConfigError, match="--client-key: a key without its certificate"):
        resolve(options, {})

    resolve(options | {"client-certificate": "/c"}, {})
