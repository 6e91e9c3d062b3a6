# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import contextlib
import io
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otelagent.errors import FormatError
from otelagent.profile.formats import otlp
from otelagent.profile.model import Profile
from tests.builders.profiles import as_dict, synthetic_profile


def binary(profile: Profile) -> bytes:
    stream = io.BytesIO()
    otlp.write(profile, stream)
    return stream.getvalue()


def as_json(profile: Profile) -> bytes:
    stream = io.BytesIO()
    otlp.write_json(profile, stream)
    return stream.getvalue()


@pytest.mark.parametrize(("write", "read"), [(binary, otlp.read), (as_json, otlp.read_json)])
def test_nothing_is_lost(write, read):
    profile = synthetic_profile()

    back = read(write(profile))

    assert as_dict(back) == as_dict(profile)
    for name in ("sample_type", "period_type", "period_ns", "start_unix_ns", "duration_ns"):
        assert getattr(back, name) == getattr(profile, name)
    assert (back.host, back.notes) == (profile.host, profile.notes)


def test_json_has_hex_ids_and_camel_case():
    tree = json.loads(as_json(synthetic_profile(10)))

    profile = tree["resourceProfiles"][0]["scopeProfiles"][0]["profiles"][0]
    assert len(bytes.fromhex(profile["profileId"])) == 16
    assert "stringTable" in tree["dictionary"]


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(data):
    """Every change of a byte gives a profile or a FormatError, nothing else."""
    good = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 8))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FormatError):
        assert otlp.read(bytes(good[: data.draw(st.integers(0, len(good)))])).samples >= 0


SMALL = binary(synthetic_profile(30))


@pytest.mark.parametrize("bad", [b"[]", b"{", b'{"dictionary": 3}', b'{"resourceProfiles": [3]}'])
def test_json_of_another_kind_is_refused(bad):
    with pytest.raises(FormatError):
        otlp.read_json(bad)
