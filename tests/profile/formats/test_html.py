# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import base64
import contextlib
import gzip
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otelagent.errors import FormatError
from otelagent.model import Pid, Process, Thread, Trace
from otelagent.profile.formats import html
from otelagent.profile.formats.payload_reading import unpack_payload
from otelagent.profile.model import Profile
from tests.builders.profiles import LIBC, NODE, as_dict, native, synthetic_profile


def page(profile: Profile) -> bytes:
    stream = io.BytesIO()
    html.write(profile, stream)
    return stream.getvalue()


class Elements(HTMLParser):
    """The content of each script and style, and every tag and attribute."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.content: list[tuple[str, dict, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.found and self.found[-1][0] in {"script", "style"} and data.strip():
            self.content.append((*self.found[-1], data))


def without_times(profile: Profile) -> dict:
    return {key: (count, value) for key, (count, value, _times) in as_dict(profile).items()}


def test_all_but_time_stamps_comes_back():
    profile = synthetic_profile()

    back = html.read(page(profile))

    assert without_times(back) == without_times(profile)
    assert (back.notes, back.host, back.period_ns) == (
        profile.notes,
        profile.host,
        profile.period_ns,
    )


def test_addresses_without_a_name_have_the_group_of_their_file():
    profile = Profile()
    frames = (native(NODE, 1), native(NODE, 2), native(LIBC, 3), native(LIBC, 4, "read"))
    profile.add(Trace(frames), Process(Pid(1), "p"), Thread(1), 1, 1)

    tables = payload(profile)

    names = [tables["strings"][row[0]] for row in tables["labels"]]
    assert {name: names[group] for name, group in zip(names, tables["groups"], strict=True)} == {
        "node+0x1": "[node]",
        "node+0x2": "[node]",
        "[node]": "[node]",
        "libc.so.6+0x3": "[libc.so.6]",
        "[libc.so.6]": "[libc.so.6]",
        "read": "read",
    }
    assert "<td>[node]</td><td>(without names)</td>" in page(profile).decode()


def test_a_page_from_before_there_were_groups_is_read():
    old = {key: value for key, value in PAYLOAD.items() if key != "groups"}

    assert unpack_payload(json.dumps(old).encode()).samples == 40


def test_the_policy_allows_our_scripts_and_style_and_nothing_else():
    elements = Elements(page(synthetic_profile()).decode())

    policy = next(a["content"] for t, a in elements.found if "http-equiv" in a)
    ours = [content for tag, attrs, content in elements.content if attrs.get("type") is None]
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'"
        for one in ours
    }
    assert len(ours) == 3
    assert set(re.findall(r"'sha256-[^']*'", policy)) == hashes
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy


def test_nothing_is_fetched_and_no_style_or_handler_is_inline():
    elements = Elements(page(synthetic_profile()).decode())

    for tag, attrs in elements.found:
        assert tag not in {"link", "img", "iframe", "object"}
        assert not any(key in {"src", "href", "style"} or key.startswith("on") for key in attrs)


def test_a_function_named_like_the_end_of_a_script_ends_nothing():
    text = page(synthetic_profile()).decode()

    assert text.count("</script>") == 3
    assert "render&lt;/script&gt;" in text


def test_the_page_without_data_is_small():
    assert len(page(synthetic_profile(10))) < 100_000


def test_the_scripts_stay_small_enough_to_hold():
    lines = [line.strip() for name in html.SCRIPTS for line in html.static_file(name).split("\n")]

    assert sum(1 for line in lines if line and not line.startswith(("//", "/*"))) <= 900


@pytest.mark.parametrize("bad", [b"", b"<html></html>", b"<!DOCTYPE html><p>hello"])
def test_other_pages_are_refused(bad):
    with pytest.raises(FormatError, match="no profile"):
        html.read(bad)


def test_damaged_data_is_refused():
    good = page(synthetic_profile(20))
    at = good.index(b'type="text/plain">') + 40

    for bad in (good[:at] + b"AAAA" + good[at + 4 :], good[:at] + good[at + 1 :]):
        with pytest.raises(FormatError):
            html.read(bad)


def payload(profile: Profile) -> dict:
    data = html._DATA.search(page(profile))[1]
    return json.loads(gzip.decompress(base64.b64decode(data)))


PAYLOAD = payload(synthetic_profile(40))
NUMBERS = st.sampled_from([-2, -1, 0, 1, 7, 10**6, 2**63])


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=200, deadline=None)
@given(st.data())
def test_any_number_in_the_payload_may_be_wrong(data):
    """A page that somebody edited is read or refused; it never hangs or crashes."""
    bad = json.loads(json.dumps(PAYLOAD))
    table = data.draw(
        st.sampled_from(["parents", "frames_of", "frames", "labels", "functions", "samples"])
    )
    rows = bad[table]
    if table == "samples":
        rows = rows[data.draw(st.sampled_from([key for key in rows if rows[key]]))]
    index = data.draw(st.integers(0, len(rows) - 1))
    number = data.draw(NUMBERS)
    if isinstance(rows[index], list):
        rows[index][data.draw(st.integers(0, len(rows[index]) - 1))] = number
    else:
        rows[index] = number
    with contextlib.suppress(FormatError):
        assert unpack_payload(json.dumps(bad).encode()).samples >= 0
