# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import os
import random
import re
import subprocess

import pytest

from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.formats.gopclntab import GoTable
from otelagent.host.files import open_file
from otelagent.model import FrameType
from otelagent.symbolize.native import NativeSymbols
from otelagent.symbolize.result import OUTSIDE
from tests.symbolize.builds import need

SOURCE = """
package main

import (
	"fmt"
	"os"
	"reflect"
	"runtime"
)

type stack struct{ pcs []uintptr }

//go:noinline
func capture() []uintptr {
	pcs := make([]uintptr, 64)
	return pcs[:runtime.Callers(1, pcs)]
}

func leaf(x int) []uintptr {
	if x < 0 {
		return nil
	}
	return capture()
}

func middle(x int) []uintptr {
	y := leaf(x + 1)
	return y
}

func (s *stack) grab(x int) {
	s.pcs = middle(x)
}

//go:noinline
func outer(x int) []uintptr {
	var s stack
	s.grab(x)
	return append(s.pcs, uintptr(0))
}

//go:noinline
func anchor() {}

// The PIE's bias: where anchor is, less where the test says that it should be.
func base() uintptr {
	var want uintptr
	fmt.Sscanf(os.Getenv("ANCHOR"), "%x", &want)
	return reflect.ValueOf(anchor).Pointer() - want
}

func main() {
	anchor()
	pcs := outer(len(os.Args))
	pcs = pcs[:len(pcs)-1]
	for _, pc := range pcs {
		fmt.Printf("pc %x\\n", pc-base())
	}
	frames := runtime.CallersFrames(pcs)
	for {
		frame, more := frames.Next()
		fmt.Printf("frame %s %s:%d\\n", frame.Function, frame.File, frame.Line)
		if !more {
			break
		}
	}
}
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Builds the program once for each set of flags."""
    folder = tmp_path_factory.mktemp("go")
    (folder / "go.mod").write_text("module probe\ngo 1.16\n")
    (folder / "main.go").write_text(SOURCE)
    built = {}

    def make(*flags: str):
        if flags not in built:
            target = folder / f"program{len(built)}"
            command = [need("go"), "build", *flags, "-o", target, "."]
            env = {**os.environ, "GOFLAGS": "-buildvcs=false", "CGO_ENABLED": "0"}
            subprocess.run(command, cwd=folder, check=True, capture_output=True, env=env)
            built[flags] = target
        return built[flags]

    return make


PLAIN = ()
STRIPPED_PIE = ("-buildmode=pie", "-ldflags=-s -w")


def table_of(path) -> GoTable:
    return GoTable(ElfFile(open_file(str(path))))


def address_of(table: GoTable, name: str) -> int:
    for index in range(table.count):
        entry = table.entry(index)
        lines = table.find(entry)
        if lines and lines[-1].name == name:
            return entry
    raise AssertionError(name)


@pytest.mark.parametrize("flags", [PLAIN, STRIPPED_PIE])
def test_stack_is_the_one_that_the_runtime_prints(build, flags):
    """Names, files, lines and inlined calls equal runtime.CallersFrames', stripped or not."""
    path = build(*flags)
    symbols = NativeSymbols.open(open_file(str(path)), str(path))
    anchor = address_of(table_of(path), "main.anchor")
    env = {"ANCHOR": f"{anchor:x}"}
    out = subprocess.run([path], capture_output=True, text=True, check=True, env=env).stdout
    pcs = [int(pc, 16) for pc in re.findall(r"^pc (\w+)$", out, re.MULTILINE)]
    expected = re.findall(r"^frame (\S+) (.*)$", out, re.MULTILINE)
    assert len(expected) >= 7

    got = []
    for pc in pcs:  # one pc for each logical frame
        named = symbols.name(pc, is_return_address=True)
        assert named.type is FrameType.GO
        line = named.lines[0]
        got.append((line.function.name, f"{line.function.file}:{line.line}"))

    assert got == expected


def test_inlined_calls_lie_in_one_frame(build):
    """The compiler inlines `middle` and `leaf` into `grab`: one address, three lines."""
    table = table_of(build())
    start = address_of(table, "main.(*stack).grab")
    chains = {tuple(one.name for one in table.find(addr)) for addr in range(start, start + 80)}

    assert ("main.leaf", "main.middle", "main.(*stack).grab") in chains


def test_random_addresses_agree_with_addr2line(build):
    path = build()
    table = table_of(path)
    low, high = table.entry(0), table.entry(table.count)
    rng = random.Random(5)
    addresses = [rng.randrange(low, high) for _ in range(1000)]
    text = "".join(f"{addr:#x}\n" for addr in addresses)
    out = subprocess.run(
        [need("go"), "tool", "addr2line", path],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()

    wrong = []
    unnamed = 0
    for addr, name, place in zip(addresses, out[::2], out[1::2], strict=True):
        found = table.find(addr)
        if not found:
            unnamed += 1
            assert place.endswith((":-1", "?:0", ":0"))  # padding: Go knows no line either
        elif re.search(r":-\d+$", place):
            continue  # a mark of the linker, not a function
        elif (found[-1].name, f"{found[0].file}:{found[0].line}") != (name, place):
            wrong.append((hex(addr), found, name, place))

    assert wrong == []
    assert unnamed < 100


def test_padding_behind_a_function_belongs_to_nobody(build):
    path = build()
    table = table_of(path)
    start = address_of(table, "main.anchor")
    symbols = NativeSymbols.open(open_file(str(path)), str(path))

    assert symbols.name(start, is_return_address=False).lines[0].function.start_line > 0
    assert symbols.name(start + 15, is_return_address=False).reason == OUTSIDE


def test_broken_tables_are_answered_and_not_raised(build):
    path = build()
    data = bytearray(path.read_bytes())
    section = ElfFile(BytesSource(bytes(data))).section(".gopclntab")
    middle = table_of(path).entry(700)
    rng = random.Random(3)
    for _ in range(60):
        kept = {}
        for _ in range(rng.randrange(1, 30)):
            reach = rng.choice([80, 20_000, section.size])
            at = section.offset + rng.randrange(reach)
            kept.setdefault(at, data[at])
            data[at] = rng.randrange(256)
        symbols = NativeSymbols.open(BytesSource(bytes(data)), "x", debug_dirs=())
        for addr in (0, middle, middle + 3, (1 << 64) - 1):
            named = symbols.name(addr, is_return_address=False)
            assert named.lines or named.reason
        for at, byte in kept.items():
            data[at] = byte
