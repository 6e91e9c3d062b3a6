# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
from hypothesis import given, settings
from hypothesis import strategies as st

from otelagent.formats.kallsyms import Kallsyms, ModuleRange, parse_modules

LINE = b"ffffffff81000000 T startup\nffffffff81000100 t second\t[mod]\n"


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=300) | st.lists(st.sampled_from(list(LINE)), max_size=200).map(bytes))
def test_any_bytes_are_parsed(data):
    symbols = Kallsyms(LINE + data)

    assert symbols.count <= 2 * (LINE + data).count(b"\n") + 2
    assert symbols.find(1 << 64) is None
    symbols.find(0xFFFFFFFF81000005)


@given(st.text(max_size=200))
def test_any_text_is_a_list_of_modules(text):
    for module in parse_modules(text):
        assert isinstance(module, ModuleRange)


def test_module_is_parsed():
    text = "nf_tables 376832 0 - Live 0xffffffffc0a00000 (E)\n"

    assert parse_modules(text) == [ModuleRange("nf_tables", 0xFFFFFFFFC0A00000, 376832)]


def test_last_line_without_its_end_is_left_out():
    assert Kallsyms(LINE[:-1]).count == 1
