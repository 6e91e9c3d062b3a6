# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Records of spool and store: what was written comes back, and damage is told."""

import io
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from otelagent.errors import FormatError
from otelagent.export.records import Record, pack_record, read_records

FIRST = Record(b"first" * 100, 3, 1000, 2000)
SECOND = Record(b"second", 4, 2000, 3000)


def read(data, *times):
    return list(read_records(io.BytesIO(data), *times))


def test_records_come_back_in_order_also_of_joined_files():
    assert read(pack_record(FIRST) + pack_record(SECOND)) == [FIRST, SECOND]
    assert read(b"") == []


def test_a_time_picks_those_that_overlap_it():
    data = pack_record(FIRST) + pack_record(SECOND)

    assert read(data, 2001) == [SECOND]
    assert read(data, 0, 2000) == [FIRST]
    assert read(data, 1500, 2500) == [FIRST, SECOND]
    assert read(data, 4000) == []


def test_zstd_alone_reads_a_file_as_messages_with_their_length():
    data = pack_record(FIRST) + pack_record(SECOND)
    plain = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()

    size = len(FIRST.data).to_bytes(4, "big")
    assert plain == size + FIRST.data + b"\0\0\0\x06second"


@pytest.mark.parametrize("lost", [1, 19, 20, 58])
def test_a_record_that_is_cut_leaves_those_before_it(lost):
    data = pack_record(FIRST) + pack_record(SECOND)
    records = read_records(io.BytesIO(data[: len(data) - lost]))

    assert next(records) == FIRST
    with pytest.raises(FormatError, match="cut"):
        next(records)


def test_a_bit_that_changed_is_noticed():
    data = bytearray(pack_record(FIRST))
    data[-1] ^= 1

    with pytest.raises(FormatError, match="damaged"):
        read(bytes(data))


@given(st.binary(max_size=200))
def test_anything_is_read_or_refused(noise):
    for data in (noise, pack_record(FIRST)[: len(noise)] + noise):
        with suppress(FormatError):
            read(data)
