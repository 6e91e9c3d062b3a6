# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The Python face of `ebpf/oa_abi.h` says what the header says."""

import pytest

import build
from otelagent.abi import _generated
from otelagent.abi._generated import HELP, Fault, FrameKind, RecordKind, Row

HEADER = """
enum oa_colour {
\tOA_COLOUR_RED,\t\t/* like a rose, or two */
\tOA_COLOUR_BLUE = 7,\t/* like the sky */
\tOA_GREEN =
\t\t9, /* like a folded
\t\t    * comment */
\tOA_GREY,
};
struct oa_thing {
\tu64 red;\t/* enum oa_colour */
};
"""


def test_enumerators_keep_order_values_and_comments():
    assert build.read_enums(HEADER) == {
        "oa_colour": [
            ("OA_COLOUR_RED", 0, "like a rose, or two"),
            ("OA_COLOUR_BLUE", 7, "like the sky"),
            ("OA_GREEN", 9, "like a folded comment"),
            ("OA_GREY", 10, ""),
        ]
    }


def test_names_lose_the_prefix_that_the_class_already_says():
    assert build.class_name("oa_frame_kind") == "FrameKind"
    assert build.member_name("oa_frame_kind", "OA_FRAME_NATIVE") == "NATIVE"
    assert build.member_name("oa_limit", "OA_MAX_CHUNKS") == "MAX_CHUNKS"


def test_a_member_never_becomes_something_that_is_no_name():
    assert build.member_name("oa_cpu", "OA_CPU_32") == "CPU_32"


def test_every_enumerator_of_the_header_has_its_value_in_python():
    enums = build.read_enums((build.EBPF / "oa_abi.h").read_text())
    expected = {
        (build.class_name(enum), build.member_name(enum, name)): value
        for enum, members in enums.items()
        for name, value, _ in members
    }

    found = {
        (enum, name): member.value
        for enum in {cls for cls, _ in expected}
        for name, member in getattr(_generated, enum).__members__.items()
    }

    assert expected == found


@pytest.mark.parametrize("value", ["1 << 3", "0x10", "OA_OTHER"])
def test_a_value_that_is_no_plain_number_stops_the_build(value):
    with pytest.raises(SystemExit, match="not understood"):
        build.read_enums(f"enum oa_x {{\n\tOA_A,\n\tOA_B = {value},\n}};\n")


def test_no_enum_is_overlooked():
    header = (build.EBPF / "oa_abi.h").read_text()

    assert header.count("\nenum oa_") == len(build.read_enums(header))


def test_help_of_equal_values_in_two_enums_is_kept_apart():
    assert HELP[Fault][Fault.NONE] == "the stack was walked to its first frame"
    assert HELP[FrameKind][FrameKind.NATIVE].startswith("file_or_object")
    assert HELP[RecordKind][RecordKind.SAMPLE].startswith("struct oa_sample")


def test_of_two_names_for_one_value_the_first_gives_the_help():
    assert HELP[Row][Row.COMMAND] == HELP[Row][Row.NONE] == "no information covers this address"
    assert Row(Row.COMMAND).name == "NONE"


def test_every_fault_explains_itself():
    assert [fault for fault in Fault if not HELP[Fault][fault]] == []
