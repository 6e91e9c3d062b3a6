# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import re
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otelagent.symbolize.demangle import CUT_MARK, MAX_NAME_CHARS, demangle
from tests.symbolize.builds import CXX_SOURCE, RUST_SOURCE, compile_c, need, nm_ranges, run

KNOWN = {
    "_ZN4shop6BasketIlE3addEl": "shop::Basket<long>::add(long)",
    "_ZNK4shop3JobcvbEv": "shop::Job::operator bool() const",
    "_ZN4shop5applyIZ4mainEUliE0_EEiT_i.constprop.0": (
        "int shop::apply<main::{lambda(int)#2}>(main::{lambda(int)#2}, int) [clone .constprop.0]"
    ),
    "_ZN12_GLOBAL__N_16hiddenEPFiiEd": "(anonymous namespace)::hidden(int (*)(int), double)",
    "_Z1fRA4_KcM1AKFvvE": "f(char const (&) [4], void (A::*)() const)",
    "_ZNSsC1ERKSs": (
        "std::basic_string<char, std::char_traits<char>, std::allocator<char> >"
        "::basic_string(std::string const&)"
    ),
    "_ZThn16_N1A1fEv": "non-virtual thunk to A::f()",
    "_ZN1AC2B5cxx11Ev": "A::A[abi:cxx11]()",
    "_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE": "core::fmt::Write::write_fmt",
    "_ZN42_$LT$$RF$T$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE": (
        "<&T as core::fmt::Debug>::fmt"
    ),
    "_RNCNvCs6GmmlP4bgsG_1r4main0B3_": "r::main::{closure#0}",
    "_RINvNtCs6GmmlP4bgsG_1r4shop5totalNtB2_4ItemKj2_EB4_": "r::shop::total::<r::shop::Item, 2>",
    "_RNvXCs_1rReNtB2_5Price5price": "<&str as r::Price>::price",
    "main": "main",
    "_Znwm@@GLIBCXX_3.4": "operator new(unsigned long)",
    "memcpy@@GLIBC_2.14": "memcpy",
}


@pytest.mark.parametrize("mangled", KNOWN)
def test_name_is_as_in_the_source(mangled):
    assert demangle(mangled.encode()) == KNOWN[mangled]


@pytest.mark.parametrize("name", ["_Z", "_ZN", "_Z1", "_R", "_Z3fo", "_Z1fQ", "_RX", "_Zz9"])
def test_name_that_is_not_understood_stays(name):
    assert demangle(name.encode()) == name


def filtered(names: list[str]) -> list[str]:
    """What binutils make of the names, without its spaces and crate hashes."""
    text = subprocess.run(
        [need("c++filt")], input="\n".join(names), capture_output=True, text=True, check=True
    ).stdout
    return [re.sub(r"\[[0-9a-f]{5,}\]|::h[0-9a-f]{16}$", "", line) for line in text.splitlines()]


def normal(text: str) -> str:
    """Forget where tools differ: `> >`, the long form of std::string, types of constants."""
    text = text.replace(
        "std::basic_string<char, std::char_traits<char>, std::allocator<char> >", "std::string"
    )
    text = re.sub(r": (?:[ui](?:8|16|32|64|128|size)|bool|char)(?=[,>\]])", "", text)
    return text.replace(" ", "")


def test_all_names_of_a_cxx_program_are_those_of_binutils(tmp_path):
    path = compile_c(tmp_path / "program", "-O0", compiler="g++", source=CXX_SOURCE)
    names = sorted({r[2] for r in nm_ranges(path) if r[2].startswith("_Z")})
    assert len(names) > 50

    got = [demangle(name.encode()) for name in names]

    assert [normal(one) for one in got] == [normal(one) for one in filtered(names)]


def test_all_names_of_a_rust_program_are_those_of_binutils(tmp_path):
    """The standard library has v0 names; the program is given them too."""
    (tmp_path / "r.rs").write_text(RUST_SOURCE)
    program = tmp_path / "r"
    flags = ["-O", "-Csymbol-mangling-version=v0"]
    run(need("rustc"), *flags, tmp_path / "r.rs", "-o", program)
    names = sorted({r[2] for r in nm_ranges(program) if r[2].startswith(("_R", "_ZN"))})
    assert len(names) > 50

    got = [normal(demangle(name.encode())) for name in names]
    expected = [normal(one) for one in filtered(names)]

    assert [(g, e) for g, e in zip(got, expected, strict=True) if g != e and len(e) < 4096] == []


def bomb() -> bytes:
    """A name of 300 bytes whose readable form would have 2^30 parts."""
    text = b"_Z1fSt4pairIiiE"
    for digit in b"0123456789ABCDEFGHIJKLMNOPQRSTU":
        ref = b"S" + bytes([digit]) + b"_"
        text += b"S_I" + ref + ref + b"E"
    return text


def test_name_that_would_explode_is_cut_or_refused():
    found = demangle(bomb())

    assert len(found) <= MAX_NAME_CHARS + len(CUT_MARK)


def test_long_name_is_cut_and_marked():
    assert demangle(b"x" * 5000) == "x" * MAX_NAME_CHARS + CUT_MARK
    assert demangle(b"_Z1f" + b"1A" * 4000).endswith(CUT_MARK)


SEEDS = [name.encode() for name in KNOWN] + [bomb()]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(2, 400), st.sampled_from(b"STRPNIEJDpXLZUl_019BFKM.QcvA"))),
    st.integers(0, 60),
)
@example(b"_ZN" + b"I" * 9000, [], 0)
@example(b"_Z1f" + b"P" * 9000 + b"i", [], 0)
@example(b"_RF" * 3000, [], 0)
def test_hostile_names_are_answered(seed, changes, cut):
    data = bytearray(seed)
    for at, byte in changes:
        data[at % len(data)] = byte
    found = demangle(bytes(data[: len(data) - cut]))

    assert len(found) <= MAX_NAME_CHARS + len(CUT_MARK)
