# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where functions are declared, held against what pyelftools reads of the same DWARF."""

import os
import struct
import subprocess
from collections import defaultdict

import pytest
from elftools.elf.elffile import ELFFile

from otelagent.formats.elf import ElfFile
from otelagent.host.files import open_file
from otelagent.symbolize.declared import Declared, read_declared, read_sections
from tests.builders.dwarf import ABBREVS, FIRST, ONE, STRINGS, TWO, entry, unit
from tests.symbolize.builds import CXX_SOURCE, RUST_SOURCE, compile_c, need, nm_ranges

SPLIT_SOURCE = """
struct Shape { Shape(int n); virtual ~Shape(); int area(int x)
	const; int inside(int x) const
	{ return x * n; } int n; };

Shape::Shape(int n)
	: n(n) {}
Shape::~Shape() {}
int
Shape::area(int x)
	const { return inside(x) + 1; }
static int twice(int x) { return 2 * x; }
extern "C" int plain(int x) { return twice(x); }
int main(int argc, char **) { Shape s(argc); return s.area(argc) + plain(argc); }
"""


def open_declared(data: bytes) -> Declared | None:
    fd = os.memfd_create("declared")
    try:
        os.write(fd, data)
        return Declared.open(fd)
    finally:
        os.close(fd)


def read_path(path) -> Declared:
    with open_file(str(path)) as source:
        declared = open_declared(read_declared(ElfFile(source)))
    assert declared is not None
    return declared


def text(die, *attributes) -> str:
    found = [die.attributes[name].value for name in attributes if name in die.attributes]
    return found[0].decode() if found else ""


def chain(die):
    """The function's entry, and those that it is an instance or a specification of."""
    while die is not None:
        yield die
        links = ("DW_AT_specification", "DW_AT_abstract_origin")
        name = next((link for link in links if link in die.attributes), None)
        die = die.get_DIE_from_attribute(name) if name else None


def lines_by_name(path, units: str) -> dict[str, set[int]]:
    """All functions of some units, but mere declarations, by pyelftools: name → their lines."""
    found = defaultdict(set)
    with path.open("rb") as stream:
        for unit in ELFFile(stream).get_dwarf_info().iter_CUs():
            if units not in text(unit.get_top_DIE(), "DW_AT_name"):
                continue
            for die in unit.iter_DIEs():
                if die.tag != "DW_TAG_subprogram" or "DW_AT_declaration" in die.attributes:
                    continue
                dies = list(chain(die))
                linkage = "DW_AT_linkage_name", "DW_AT_MIPS_linkage_name"
                names = [text(one, *linkage) for one in dies]
                names += [text(one, "DW_AT_name") for one in dies]
                lines = [
                    one.attributes["DW_AT_decl_line"].value
                    for one in dies
                    if "DW_AT_decl_line" in one.attributes
                ]
                found[next(filter(None, names), "")].add(lines[0] if lines else 0)
    found.pop("", None)
    return found


def assert_equal(path, least: int, units: str = "") -> None:
    """Names with one line have it, those with several have none."""
    declared = read_path(path)
    expected = lines_by_name(path, units)
    wanted = {name: max(lines) if len(lines) == 1 else 0 for name, lines in expected.items()}

    got = {name: declared._find(name) for name in wanted}

    assert got == wanted
    assert sum(map(bool, wanted.values())) >= least


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("flags", [("-O0", "-gdwarf-5"), ("-O2", "-gdwarf-4"), ("-O2", "-gz")])
def test_lines_are_those_of_the_declarations(tmp_path, compiler, flags):
    path = compile_c(tmp_path / "program", "-g", *flags, compiler=compiler, source=SPLIT_SOURCE)

    assert_equal(path, 5)


def test_lines_of_templates(tmp_path):
    path = compile_c(tmp_path / "program", "-g", "-O2", compiler="g++", source=CXX_SOURCE)

    assert_equal(path, 100)


def test_lines_of_rust(tmp_path):
    source, path = tmp_path / "program.rs", tmp_path / "program"
    source.write_text(RUST_SOURCE)
    command = [need("rustc"), "-g", "-O", "-o", str(path), str(source)]
    subprocess.run(command, check=True, capture_output=True)

    assert_equal(path, 20, "program")


def test_a_name_of_two_functions_has_no_line(tmp_path):
    one = "static int same(int x) { return x; }\nint one(int x) { return same(x); }\n"
    (tmp_path / "two.c").write_text("\n\n" + one.replace("one", "two"))
    main = one + "int two(int); int main(void) { return one(1) + two(2); }"
    path = compile_c(tmp_path / "one", "-g", "-O0", str(tmp_path / "two.c"), source=main)

    declared = read_path(path)

    assert [declared.find(name) for name in ("same", "one", "two", "none")] == [0, 2, 4, 0]


def test_a_clone_has_the_line_of_what_it_was_made_of(tmp_path):
    path = compile_c(tmp_path / "program", "-g", "-O2")

    declared = read_path(path)

    assert declared.find("middle.constprop.0") == declared.find("middle") == 7


def read_entries(*entries: bytes, abbrevs: bytes = ABBREVS) -> tuple[int, int]:
    """Read a unit of these entries; gives the lines of `one` and `two`."""
    sections = {"info": unit(*entries), "abbrev": abbrevs, "str": STRINGS}
    declared = open_declared(read_sections(sections))
    assert declared is not None
    return declared.find("one"), declared.find("two")


FIRST_ONE = entry(2, ONE, 7)


@pytest.mark.parametrize(
    ("entries", "lines"),
    [
        (FIRST_ONE + entry(2, TWO, 9), (7, 9)),
        (FIRST_ONE + entry(3, TWO, FIRST, 0, 0, 0), (7, 7)),  # two is a specification of one
        (FIRST_ONE + entry(4, TWO, 9), (7, 0)),  # a mere declaration
        (FIRST_ONE + entry(4, ONE, 9), (7, 0)),
        (FIRST_ONE + entry(2, ONE, 8), (0, 0)),
        (FIRST_ONE + entry(2, ONE, 0), (0, 0)),  # without a line somewhere: not known
        (FIRST_ONE + entry(3, TWO, FIRST + 6, 0, 0, 0), (7, 0)),  # of itself
        (FIRST_ONE + entry(3, TWO, 0xFF, 0xFF, 0xFF, 0xFF), (7, 0)),
        (FIRST_ONE + entry(2, 500, 9), (7, 0)),
        (FIRST_ONE + entry(9, TWO, 9), (7, 0)),  # no such abbreviation
        (FIRST_ONE + entry(2, TWO), (7, 0)),  # cut
    ],
)
def test_what_makes_no_sense_has_no_line(entries, lines):
    assert read_entries(entries) == lines


@pytest.mark.parametrize("abbrevs", [b"", ABBREVS[:-1], b"\x05" + ABBREVS[1:], b"\xff" * 40])
def test_abbreviations_that_make_no_sense_end_their_unit(abbrevs):
    assert read_entries(FIRST_ONE, abbrevs=abbrevs) == (0, 0)


@pytest.mark.parametrize("data", [b"", b"\0" * 16, struct.pack("=QQ", 0x0100_5354_5241_544F, 9)])
def test_a_file_of_another_kind_is_not_used(data):
    assert open_declared(data) is None


def test_names_with_lines_are_told_by_what_nm_names(tmp_path):
    path = compile_c(tmp_path / "program", "-g", "-O0")
    declared = read_path(path)

    named = {name: declared.find(name) for _, _, name in nm_ranges(path)}

    assert {"inner": 6, "middle": 7, "outer": 8, "compare": 11}.items() <= named.items()
    assert named["asm_sized"] == named["_start"] == 0
