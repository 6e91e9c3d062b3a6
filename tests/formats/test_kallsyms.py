# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
from hypothesis import given, settings
from hypothesis import strategies as st

from otelagent.formats.kallsyms import KERNEL, Kallsyms, ModuleRange, parse_modules

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


def test_packed_names_are_the_same_in_less_memory():
    """Also those that lie in two blocks, which are cut wherever they are full."""
    lines = [f"{(1 << 63) + 16 * n:x} t function_of_the_kernel_{n}_{n * n}\n" for n in range(5000)]
    symbols = Kallsyms("".join(lines).encode())
    addresses = [(1 << 63) + 16 * n + 3 for n in range(5000)]
    before = [symbols.find(addr) for addr in addresses]
    names = len(symbols._names)

    symbols.pack()

    assert [symbols.find(addr) for addr in addresses] == before
    assert before[4999] == ("function_of_the_kernel_4999_24990001", KERNEL)
    assert not symbols._names
    assert sum(map(len, symbols._packed)) < names / 3
    symbols.pack()  # is done once
    assert symbols.find(addresses[7]) == before[7]
