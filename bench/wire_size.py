# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the bytes of profiles on the wire are spent on: `python bench/wire_size.py DIR`.

DIR has requests that `sink.py` kept, of any profiler. For each part (a table, a field, the
strings of one use) it prints what 1,000 samples would take less without it, as it is and
after gzip. Parts share what they have in common, so the second column does not add up.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2 as service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Cut = Callable[[Any], None]

GZIP_LEVEL = 6
"""What all exporters use unless told otherwise."""
TABLES = ("string", "function", "location", "mapping", "stack", "attribute")
ENTRIES = {
    "function_table": ("name_strindex", "filename_strindex", "start_line"),
    "location_table": ("address", "lines", "mapping_index", "attribute_indices"),
    "mapping_table": ("filename_strindex", "attribute_indices"),
}
SAMPLES = ("timestamps_unix_nano", "values", "attribute_indices", "stack_index")
STRINGS = {
    "names of functions": ("function_table", "name_strindex"),
    "files of functions": ("function_table", "filename_strindex"),
    "paths of mappings": ("mapping_table", "filename_strindex"),
}


def profiles_of(request: Any) -> Iterator[Any]:
    for resource in request.resource_profiles:
        for scope in resource.scope_profiles:
            yield from scope.profiles


def without_field(name: str, field: str) -> Cut:
    """Leave a field of a table's entries out."""

    def cut(request: Any) -> None:
        for entry in getattr(request.dictionary, name):
            entry.ClearField(field)

    return cut


def without_strings(name: str, field: str) -> Cut:
    """Leave the text out that a field of a table's entries names."""

    def cut(request: Any) -> None:
        table = request.dictionary.string_table
        for entry in getattr(request.dictionary, name):
            table[getattr(entry, field)] = ""

    return cut


def without_values(key: str) -> Cut:
    """Leave the values of an attribute out."""

    def cut(request: Any) -> None:
        tables = request.dictionary
        for entry in tables.attribute_table:
            if tables.string_table[entry.key_strindex] == key:
                entry.ClearField("value")

    return cut


def without(of: Callable[[Any], Iterator[Any]], field: str) -> Cut:
    """Leave a field out of each message that `of` gives."""

    def cut(request: Any) -> None:
        for message in of(request):
            message.ClearField(field)

    return cut


def cuts(requests: list[Any]) -> Iterator[tuple[str, Cut]]:
    """Give the parts."""
    yield "the dictionary", lambda request: request.ClearField("dictionary")
    for name in TABLES:
        table = f"{name}_table"
        yield table, without(lambda request: iter([request.dictionary]), table)
        for field in ENTRIES.get(table, ()):
            yield f"  {field}", without_field(table, field)
    for name, place in STRINGS.items():
        yield name, without_strings(*place)
    pairs = (
        (each.dictionary, entry) for each in requests for entry in each.dictionary.attribute_table
    )
    for key in sorted({tables.string_table[entry.key_strindex] for tables, entry in pairs} - {""}):
        yield f"values of {key}", without_values(key)
    yield "resources", without(lambda request: iter(request.resource_profiles), "resource")
    yield "ids of profiles", without(profiles_of, "profile_id")
    yield "samples", without(profiles_of, "samples")
    for field in SAMPLES:
        yield f"  {field}", without(lambda r: (s for p in profiles_of(r) for s in p.samples), field)


def sizes(requests: list[Any], cut: Cut | None = None) -> tuple[int, int]:
    """Give the bytes of all requests, as they are and after gzip."""
    plain = packed = 0
    for request in requests:
        copy = service.ExportProfilesServiceRequest()
        copy.CopyFrom(request)
        if cut:
            cut(copy)
        data = copy.SerializeToString()
        squeeze = zlib.compressobj(GZIP_LEVEL, wbits=31)
        plain += len(data)
        packed += len(squeeze.compress(data) + squeeze.flush())
    return plain, packed


def main() -> None:
    """Print the table."""
    files = sorted(Path(sys.argv[1]).glob("*.otlp"))
    requests = [
        service.ExportProfilesServiceRequest.FromString(each.read_bytes()) for each in files
    ]
    samples = sum(
        len(sample.timestamps_unix_nano) or sum(sample.values)
        for request in requests
        for profile in profiles_of(request)
        for sample in profile.samples
    )
    plain, packed = sizes(requests)
    print(f"{len(requests)} requests, {samples} samples; bytes for 1,000 samples:")
    print(f"{'all':52} {1000 * plain / samples:9.0f} {1000 * packed / samples:9.0f}  gzip")
    for name, cut in cuts(requests):
        less, less_packed = sizes(requests, cut)
        saved, gained = (1000 * each / samples for each in (plain - less, packed - less_packed))
        print(f"{name:52} {saved:9.0f} {gained:9.0f} {100 * (1 - less_packed / packed):6.1f} %")


if __name__ == "__main__":
    main()
