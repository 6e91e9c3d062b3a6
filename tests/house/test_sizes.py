# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Files and functions stay small enough to hold in one head."""

import ast
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.house.tracked import ROOT, tracked

# First pattern that matches (`*` crosses folders), and the most lines a file may have.
FILE_CAPS = [
    ("vmlinux/*.h", None),
    ("ebpf/oa_abi.h", 600),
    ("src/otelagent/profiler.py", 250),
    ("src/otelagent/agent.py", 250),
    ("src/otelagent/cli/*.py", 150),
    ("src/otelagent/profile/static/*", 900),
    ("build.py", 300),
    ("CONTRIBUTING.md", 150),
    ("tests/*.py", 500),
    ("integration/*.py", 500),
    ("*.py", 400),
    ("*.c", 500),
    ("*.h", 500),
]
# Path → why it may be longer, and how long. Each needs a reason that a reader accepts.
EXCEPTIONS: dict[str, tuple[int, str]] = {}
PYTHON_FUNCTION_LINES = 60
TEST_FUNCTION_LINES = 40
C_FUNCTION_LINES = 80


def file_cap(path: Path) -> int | None:
    if str(path) in EXCEPTIONS:
        return EXCEPTIONS[str(path)][0]
    for pattern, cap in FILE_CAPS:
        if fnmatch(str(path), pattern):
            return cap
    return None


def python_functions(source: str) -> list[tuple[str, int]]:
    nodes = ast.walk(ast.parse(source))
    functions = (n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    return [(f.name, (f.end_lineno or f.lineno) - f.lineno + 1) for f in functions]


def c_functions(source: str) -> list[tuple[str, int]]:
    """List functions with the lines of their body: kernel style has both braces in column 0."""
    pattern = r"^\w[^;{}]*?(\w+)\([^;{}]*\)[^;{}]*\n\{\n(.*?)^\}"
    bodies = re.finditer(pattern, source, re.MULTILINE | re.DOTALL)
    return [(body[1], body[2].count("\n") + 2) for body in bodies]


def test_no_file_is_longer_than_its_cap():
    lines = {path: len((ROOT / path).read_bytes().splitlines()) for path in tracked()}

    over = {str(p): n for p, n in lines.items() if (cap := file_cap(p)) is not None and n > cap}

    assert over == {}


def test_exceptions_are_still_needed():
    lines = {path: len((ROOT / path).read_bytes().splitlines()) for path in EXCEPTIONS}

    assert [path for path, count in lines.items() if count <= 400] == []


def test_no_python_function_is_longer_than_its_cap():
    over = []
    for path in tracked("*.py"):
        is_test = path.parts[0] in {"tests", "integration"}
        for name, lines in python_functions((ROOT / path).read_text()):
            if lines > (TEST_FUNCTION_LINES if is_test else PYTHON_FUNCTION_LINES):
                over.append(f"{path}: {name} has {lines} lines")

    assert over == []


def test_no_c_function_is_longer_than_its_cap():
    over = [
        f"{path}: {name} has {lines} lines"
        for path in [*tracked("*.c"), *tracked("*.h")]
        if path.parts[0] != "vmlinux"
        for name, lines in c_functions((ROOT / path).read_text())
        if lines > C_FUNCTION_LINES
    ]

    assert over == []


@pytest.mark.parametrize(
    ("path", "cap"),
    [
        ("src/otelagent/model.py", 400),
        ("src/otelagent/cli/record.py", 150),
        ("tests/formats/test_elf.py", 500),
        ("ebpf/native.bpf.c", 500),
        ("vmlinux/x86/vmlinux.h", None),
        ("README.md", None),
    ],
)
def test_each_kind_of_file_has_its_own_cap(path, cap):
    assert cap == file_cap(Path(path))


def test_c_functions_are_found_with_their_length():
    one = "static int one(int a)\n{\n\treturn a;\n}\n"
    two = "void two(int a,\n\t int b)\n{\n}\n"

    source = f"{one}\nstruct s {{\n\tint a;\n}};\n\n{two}"

    assert c_functions(source) == [("one", 3), ("two", 2)]
