# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The messages of pprof's `profile.proto`, described in code: no protoc needed.

Names and numbers are those of github.com/google/pprof, proto/profile.proto.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "perftools.profiles"
# Message → its fields: number, name, type (`*` behind it: repeated).
MESSAGES = {
    "Profile": (
        (1, "sample_type", "ValueType*"),
        (2, "sample", "Sample*"),
        (3, "mapping", "Mapping*"),
        (4, "location", "Location*"),
        (5, "function", "Function*"),
        (6, "string_table", "string*"),
        (7, "drop_frames", "int64"),
        (8, "keep_frames", "int64"),
        (9, "time_nanos", "int64"),
        (10, "duration_nanos", "int64"),
        (11, "period_type", "ValueType"),
        (12, "period", "int64"),
        (13, "comment", "int64*"),
        (14, "default_sample_type", "int64"),
    ),
    "ValueType": ((1, "type", "int64"), (2, "unit", "int64")),
    "Sample": ((1, "location_id", "uint64*"), (2, "value", "int64*"), (3, "label", "Label*")),
    "Label": (
        (1, "key", "int64"),
        (2, "str", "int64"),
        (3, "num", "int64"),
        (4, "num_unit", "int64"),
    ),
    "Mapping": (
        (1, "id", "uint64"),
        (2, "memory_start", "uint64"),
        (3, "memory_limit", "uint64"),
        (4, "file_offset", "uint64"),
        (5, "filename", "int64"),
        (6, "build_id", "int64"),
        (7, "has_functions", "bool"),
        (8, "has_filenames", "bool"),
        (9, "has_line_numbers", "bool"),
        (10, "has_inline_frames", "bool"),
    ),
    "Location": (
        (1, "id", "uint64"),
        (2, "mapping_id", "uint64"),
        (3, "address", "uint64"),
        (4, "line", "Line*"),
        (5, "is_folded", "bool"),
    ),
    "Line": ((1, "function_id", "uint64"), (2, "line", "int64"), (3, "column", "int64")),
    "Function": (
        (1, "id", "uint64"),
        (2, "name", "int64"),
        (3, "system_name", "int64"),
        (4, "filename", "int64"),
        (5, "start_line", "int64"),
    ),
}


@cache
def profile_class() -> Any:  # noqa: ANN401 (a class made at run time)
    """Make the class of the message `Profile`."""
    file = descriptor_pb2.FileDescriptorProto(
        name="otelagent/pprof.proto", package=PACKAGE, syntax="proto3"
    )
    field_type = descriptor_pb2.FieldDescriptorProto
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field_name, kind in fields:
            field = message.field.add(name=field_name, number=number)
            repeated = kind.endswith("*")
            field.label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            plain = kind.rstrip("*")
            if plain in MESSAGES:
                field.type = field_type.TYPE_MESSAGE
                field.type_name = f".{PACKAGE}.{plain}"
            else:
                field.type = field_type.Type.Value(f"TYPE_{plain.upper()}")
    # A pool of our own: the default one may hold these names already.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.Profile"))
