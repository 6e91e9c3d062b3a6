# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Files that somebody damaged: read or refused, and what was read can be written."""

import base64
import gzip
import io
import random

import pytest

from otelagent.errors import FormatError
from otelagent.profile.formats import html
from otelagent.profile.formats.payload_reading import unpack_payload
from otelagent.profile.formats.registry import FORMATS
from tests.builders.profiles import synthetic_profile

PIECES = [b"9" * 22, b"-1", b"1e400", b"null", b'"\\ud800"', b"{}", b"[]", b"\xff", b"\0"]


def written(name: str) -> bytes:
    stream = io.BytesIO()
    FORMATS[name].write(synthetic_profile(40), stream)
    return stream.getvalue()


def page_payload() -> bytes:
    return gzip.decompress(base64.b64decode(html._DATA.search(written("html"))[1]))


# What is compressed is damaged inside: outside, the checksum would catch all.
TARGETS = {
    "otlp": (FORMATS["otlp"].read, written("otlp")),
    "otlp.json": (FORMATS["otlp.json"].read, written("otlp.json")),
    "collapsed": (FORMATS["collapsed"].read, written("collapsed")),
    "speedscope": (FORMATS["speedscope"].read, written("speedscope")),
    "pprof": (FORMATS["pprof"].read, gzip.decompress(written("pprof"))),
    "html": (unpack_payload, page_payload()),
}


def damage(good: bytes, chance: random.Random) -> bytes:
    bad = bytearray(good)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(bad))
        kind = chance.randrange(4)
        if kind == 0:
            bad[at] = chance.randrange(256)
        elif kind == 1:
            del bad[at : at + chance.randint(1, 20)]
        elif kind == 2:
            bad[at : at + 1] = chance.choice(PIECES)
        else:
            bad[at:at] = bad[max(0, at - 30) : at]
    return bytes(bad)


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_file_is_read_or_refused(name):
    read, good = TARGETS[name]
    chance = random.Random(name)
    refused = 0
    for _ in range(300):
        try:
            profile = read(damage(good, chance))
        except FormatError:
            refused += 1
            continue
        for other in ("otlp", "html", "collapsed"):
            FORMATS[other].write(profile, io.BytesIO())
    assert refused > 0
