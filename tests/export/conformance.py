# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A checker of OTLP profiles, strict ways switched on: `check(request)` lists what is wrong.

It reads messages only and knows nothing of the code that made them.
"""

from __future__ import annotations

from collections import Counter

TABLES = (
    "mapping_table",
    "location_table",
    "function_table",
    "link_table",
    "string_table",
    "attribute_table",
    "stack_table",
)
FIELDS = {
    "stack_index": "stack_table",
    "link_index": "link_table",
    "mapping_index": "mapping_table",
    "function_index": "function_table",
    "attribute_indices": "attribute_table",
    "location_indices": "location_table",
}


class Checker:
    def __init__(self, request) -> None:
        self.request = request
        self.dictionary = request.dictionary
        self.faults: list[str] = []
        self.used: dict[str, set[int]] = {name: {0} for name in TABLES}
        self.ids: set[bytes] = set()

    def say(self, text: str) -> None:
        self.faults.append(text)

    def check(self) -> list[str]:
        self.messages()
        self.indices(self.request)
        self.tables()
        self.entries()
        return self.faults

    def indices(self, message) -> None:
        """Every `…_index`, `…_indices` and `…_strindex`, wherever it is."""
        for field, value in message.ListFields():
            if field.message_type is not None:
                values = value if hasattr(value, "__len__") else [value]
                for one in values:
                    self.indices(one)
            table = FIELDS.get(field.name)
            if field.name.endswith("_strindex"):
                table = "string_table"
            if table is None:
                continue
            for index in value if hasattr(value, "__len__") else [value]:
                self.used[table].add(index)
                if not 0 <= index < len(getattr(self.dictionary, table)):
                    self.say(f"{field.full_name} {index} is out of range")
        if hasattr(message, "attribute_indices"):
            self.attributes(message)

    def attributes(self, message) -> None:
        table = self.dictionary.attribute_table
        keys = [table[i].key_strindex for i in message.attribute_indices if i < len(table)]
        if len(set(keys)) != len(keys):
            self.say(f"duplicate keys in {message.DESCRIPTOR.name}")
        if 0 in message.attribute_indices:
            self.say(f"{message.DESCRIPTOR.name} uses the zero attribute")

    def tables(self) -> None:
        for name in TABLES:
            table = getattr(self.dictionary, name)
            if not len(table):
                self.say(f"{name} has no zero entry")
                continue
            wire = [
                one if isinstance(one, str) else one.SerializeToString(deterministic=True)
                for one in table
            ]
            if wire[0]:
                self.say(f"{name}[0] is not the zero value")
            self.faults += [
                f"{name} has {n} of {one!r}" for one, n in Counter(wire).items() if n > 1
            ]
            orphans = set(range(len(table))) - self.used[name]
            if orphans:
                self.say(f"{name} has orphans {sorted(orphans)}")

    def entries(self) -> None:
        self.mappings()
        for function in self.dictionary.function_table:
            if function.start_line < 0:
                self.say("negative start line")
        for location in self.dictionary.location_table:
            if any(line.line < 0 or line.column < 0 for line in location.lines):
                self.say("negative line")

    def mappings(self) -> None:
        seen = set()
        for mapping in self.dictionary.mapping_table:
            start, limit = mapping.memory_start, mapping.memory_limit
            if start > limit:
                self.say("a mapping ends before it begins")
            if start == limit != 0:
                self.say("a mapping ends where it begins")
            # The order of its attributes does not make a mapping another one.
            attributes = tuple(sorted(mapping.attribute_indices))
            identity = (start, limit, mapping.file_offset, mapping.filename_strindex, attributes)
            if identity in seen:
                self.say("two equal mappings")
            seen.add(identity)

    def messages(self) -> None:
        if not self.request.resource_profiles:
            self.say("no resource profiles")
        for resource in self.request.resource_profiles:
            keys = [self.key(entry) for entry in resource.resource.attributes]
            if len(set(keys)) != len(keys):
                self.say("duplicate resource attributes")
            if not resource.scope_profiles:
                self.say("no scope profiles")
            for scope in resource.scope_profiles:
                if not scope.profiles:
                    self.say("no profiles")
                for profile in scope.profiles:
                    self.profile(profile)

    def key(self, entry) -> str:
        if bool(entry.key) == bool(entry.key_strindex):
            self.say("an attribute with two keys or none")
        table = self.dictionary.string_table
        return entry.key or table[min(entry.key_strindex, len(table) - 1)]

    def profile(self, profile) -> None:
        if len(profile.profile_id) != 16 or not any(profile.profile_id):
            self.say("bad profile id")
        if profile.profile_id in self.ids:
            self.say("two profiles with one id")
        self.ids.add(profile.profile_id)
        if not profile.sample_type.type_strindex or not profile.sample_type.unit_strindex:
            self.say("no sample type")
        if (profile.time_unix_nano + profile.duration_nano) >= 1 << 64:
            self.say("the window does not fit")
        self.samples(profile)

    def samples(self, profile) -> None:
        shapes = set()
        seen = set()
        end = profile.time_unix_nano + profile.duration_nano
        for sample in profile.samples:
            shapes.add((bool(sample.values), bool(sample.timestamps_unix_nano)))
            self.shape(len(sample.values), len(sample.timestamps_unix_nano))
            if any(not profile.time_unix_nano <= t < end for t in sample.timestamps_unix_nano):
                self.say("a time stamp outside the profile")
            identity = (sample.stack_index, frozenset(sample.attribute_indices), sample.link_index)
            if identity in seen:
                self.say("two samples with the same stack and attributes")
            seen.add(identity)
        if len(shapes) > 1:
            self.say("samples of different shapes")

    def shape(self, values: int, times: int) -> None:
        if not values and not times:
            self.say("a sample with neither values nor time stamps")
        if values and times and values != times:
            self.say("values and time stamps differ in number")
        if values > 1 and not times:
            self.say("several values without time stamps")


def check(request) -> list[str]:
    """List every way in which the request breaks the rules."""
    return Checker(request).check()
