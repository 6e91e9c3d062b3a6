# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Requests fit what receivers take, and together hold every sample."""

from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2 as service

from otelagent.export.otlp_reading import decode_profiles
from otelagent.export.splitting import encode_requests
from otelagent.profile.model import Profile
from tests.builders.profiles import START_NS
from tests.export.conformance import check
from tests.export.receivers import profile


def many(count):
    made = Profile(period_ns=1, start_unix_ns=START_NS, duration_ns=10**9, notes={"lost.x": 3})
    for at in range(count):
        for trace, process, thread, group in profile(pid=at % 7 + 1, name=f"f{at}" * 20):
            made.add(trace, process, thread, group.count, 0, group.timestamps_ns)
    return made


def test_one_request_where_it_fits():
    made = many(10)

    assert [one.samples for one in encode_requests(made, made)] == [30]


def test_what_does_not_fit_is_split_and_nothing_is_lost():
    made = many(200)

    records = list(encode_requests(made, made, 4000))

    requests = [service.ExportProfilesServiceRequest.FromString(one.data) for one in records]
    assert max(len(one.data) for one in records) <= 4000
    assert sum(one.samples for one in records) == made.samples == 600
    assert [fault for one in requests for fault in check(one)] == []
    decoded = [decode_profiles(one) for one in requests]
    assert sum(group.count for _, entries in decoded for *_, group in entries) == 600
    assert [info.notes for info, _ in decoded] == [{"lost.x": 3}] + [{}] * (len(decoded) - 1)


def test_a_single_group_is_sent_though_it_is_too_large():
    made = profile(samples=100)

    assert [one.samples for one in encode_requests(made, made, 100)] == [100]
