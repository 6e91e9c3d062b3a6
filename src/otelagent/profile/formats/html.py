# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""One HTML page with an interactive flame graph, without any other file or network.

The profile is inside as base64 of gzipped JSON (`payload`). Scripts and styles
are allowed by their hashes only; a browser without JavaScript shows a table.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from otelagent.errors import FormatError
from otelagent.profile.figures import figure
from otelagent.profile.formats.gzipped import unpack
from otelagent.profile.formats.payload import pack
from otelagent.profile.formats.payload_reading import unpack_payload
from otelagent.profile.formats.summary import utc_time
from otelagent.profile.label import label_process, place_of
from otelagent.profile.table import percent
from otelagent.profile.top import top_functions
from otelagent.waiting import name_of

if TYPE_CHECKING:
    from otelagent.profile.formats.payload import Payload
    from otelagent.profile.model import Profile

CANNOT_HOLD = ("times of single samples",)
PLAIN_ROWS = 50
SCRIPTS = ("trees.js", "flamegraph.js")

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="otelagent">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main id="app" hidden></main>
<div id="plain">
<h1>{title}</h1>
{plain}
</div>
<script id="profile" type="text/plain">{data}</script>
{scripts}
</body>
</html>
"""
_DATA = re.compile(rb'<script id="profile" type="text/plain">([A-Za-z0-9+/=]*)</script>')


@cache
def static_file(name: str) -> str:
    """Read a file of `profile/static`."""
    text = files("otelagent.profile").joinpath("static", name).read_text("utf-8")
    # What would end the element early would also make the page's hash wrong.
    if "</script" in text or "</style" in text:
        raise ValueError(name)
    return text


def source_hash(text: str) -> str:
    """Name an inline script or style for the content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def plain_table(profile: Profile) -> str:
    """Show figures and hottest functions for browsers without JavaScript."""
    figures = figure(profile)
    rows = "\n".join(
        f"<tr><td>{percent(row.self_value, profile.total)}</td>"
        f"<td>{percent(row.total_value, profile.total)}</td>"
        f"<td>{safe(row.label.name)}</td><td>{safe(place_of(row.label))}</td></tr>"
        for row in top_functions(profile, join_unnamed=True)[:PLAIN_ROWS]
    )
    return (
        f"<p>{utc_time(profile.start_unix_ns)} · {profile.duration_ns / 1e9:.1f} s ·"
        f" {figures.samples} samples · {figures.lost} lost</p>\n"
        "<p>The flame graph needs JavaScript; these are the hottest functions.</p>\n"
        "<table><thead><tr><th>self</th><th>total</th><th>function</th><th>where</th></tr>"
        f"</thead><tbody>\n{rows}\n</tbody></table>"
    )


def safe(text: str) -> str:
    """Escape text for HTML."""
    return html.escape(text.encode(errors="backslashreplace").decode())


def page_title(profile: Profile) -> str:
    """Name the page after the busiest process and the host."""
    by_name: dict[str, int] = {}
    for _trace, process, _thread, group in profile:
        name = label_process(process)
        by_name[name] = by_name.get(name, 0) + group.value
    busiest = sorted(by_name, key=lambda name: -by_name[name])
    what = ", ".join(busiest[:2]) + (f" and {len(busiest) - 2} more" if len(busiest) > 2 else "")
    host = dict(profile.host).get("host.name", "")
    return " · ".join(part for part in (what, host, name_of(profile)) if part)


def render(payload: Payload, title: str, plain: str) -> bytes:
    """Make the page of a payload; `plain` is HTML already."""
    style = static_file("flamegraph.css")
    scripts = [static_file(name) for name in SCRIPTS]
    hashes = " ".join(source_hash(script) for script in scripts)
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src {source_hash(style)};"
        " base-uri 'none'; form-action 'none'"
    )
    packed = gzip.compress(msgspec.json.encode(payload), compresslevel=6, mtime=0)
    page = PAGE.format(
        policy=policy,
        title=safe(title),
        style=style,
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
        plain=plain,
        data=base64.b64encode(packed).decode(),
    )
    return page.encode()


def write(profile: Profile, stream: BinaryIO) -> None:
    """Write the page."""
    stream.write(render(pack(profile), page_title(profile), plain_table(profile)))


def read(data: bytes) -> Profile:
    """Read the profile inside a page; of a difference, the later one.

    Raises:
        FormatError: The page was not written by otelagent.
    """
    found = _DATA.search(data)
    if found is None:
        raise FormatError("no profile in this page", hint="only otelagent's own pages are read")
    try:
        packed = base64.b64decode(found[1], validate=True)
    except ValueError as err:
        raise FormatError("the profile in this page is damaged") from err
    return unpack_payload(unpack(packed))
