# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 (source text of other languages)
"""Programs that tests compile, and what binutils say about them."""

import random
import shutil
import subprocess
from bisect import bisect_left
from pathlib import Path

import pytest

C_SOURCE = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int depth;
static int inner(int x) { return x * 3 + depth; }
__attribute__((noinline)) static int middle(int x) { return inner(x) + inner(x + 1); }
__attribute__((noinline)) int outer(int x) { depth += x; return middle(x) ^ middle(x + 7); }
__attribute__((weak, noinline)) int maybe(int x) { return x - 1; }
int alias(int x) __attribute__((weak, alias("outer")));
static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
__asm__(".text\\n.globl asm_sized\\n.type asm_sized,@function\\nasm_sized:\\n nop\\n nop\\n ret\\n"
        ".size asm_sized,.-asm_sized\\n.globl asm_bare\\nasm_bare:\\n nop\\n ret\\n nop\\n"
        "local_bare:\\n nop\\n ret\\n.Llabel: nop\\n");
int main(int argc, char **argv)
{
	int values[64];
	for (int i = 0; i < 64; i++)
		values[i] = outer(i) + maybe(argc);
	qsort(values, 64, sizeof(*values), compare);
	printf("%d %s\\n", values[3], strrchr(argv[0], '/'));
	return 0;
}
"""

CXX_SOURCE = """
#include <map>
#include <string>
#include <vector>
#include <algorithm>
namespace shop {
template <typename T> struct Basket {
	std::vector<T> things;
	__attribute__((noinline)) void add(T thing) { things.push_back(thing); }
	__attribute__((noinline)) auto sum() const -> decltype(T() + T())
	{ T all{}; for (auto &t : things) all += t; return all; }
};
struct Base { virtual ~Base() = default; virtual int run(int) const & = 0; };
struct Job : Base { int run(int x) const & override { return x * 2; } explicit operator bool() const { return true; } };
namespace { __attribute__((noinline)) int hidden(int (*f)(int), double) { return f(3); } }
template <typename F> __attribute__((noinline)) int apply(F f, int x) { return f(x); }
}
int main(int argc, char **)
{
	shop::Basket<std::string> words;
	shop::Basket<long> numbers;
	std::map<std::string, std::vector<int>> index;
	for (int i = 0; i < argc * 10; i++) {
		words.add(std::to_string(i));
		numbers.add(i);
		index[words.sum()].push_back(i);
	}
	shop::Base *job = new shop::Job;
	int captured = job->run(argc);
	std::sort(numbers.things.begin(), numbers.things.end(), [](long a, long b) { return a > b; });
	return shop::apply([captured](int x) { return x + captured; }, 3) + shop::hidden([](int x) { return x; }, 1.0)
		+ (int)numbers.sum();
}
"""

RUST_SOURCE = """
use std::collections::HashMap;
mod shop {
    pub trait Price { fn price(&self) -> u64; }
    pub struct Item<T>(pub T);
    impl Price for Item<u32> { #[inline(never)] fn price(&self) -> u64 { self.0 as u64 * 2 } }
    impl<'a> Price for Item<&'a str> { #[inline(never)] fn price(&self) -> u64 { self.0.len() as u64 } }
    #[inline(never)]
    pub fn total<P: Price, const N: usize>(items: &[P; N]) -> u64 { items.iter().map(|i| i.price()).sum() }
}
#[inline(never)]
fn apply<F: Fn(u64) -> u64>(f: F, x: u64) -> u64 { f(x) }
fn main() {
    let mut map: HashMap<String, u64> = HashMap::new();
    let n = std::env::args().count() as u32;
    map.insert("a".into(), shop::total(&[shop::Item(n), shop::Item(n + 1)]));
    map.insert("b".into(), shop::total(&[shop::Item("xy")]));
    println!("{}", apply(|x| x + map.len() as u64, 5));
}
"""


def need(tool: str) -> str:
    """Give the tool's path, or skip the test, naming it."""
    path = shutil.which(tool)
    if not path:
        pytest.skip(f"needs {tool}")
    return path


def run(*command) -> str:
    return subprocess.run(
        [str(part) for part in command], check=True, capture_output=True, text=True
    ).stdout


def compile_c(target: Path, *flags: str, compiler: str = "gcc", source: str = C_SOURCE) -> Path:
    suffix = ".cc" if compiler.endswith("++") else ".c"
    text = target.with_suffix(suffix)
    text.write_text(source)
    run(need(compiler), *flags, text, "-o", target)
    return target


def nm_ranges(path: Path, *flags: str) -> list[tuple[int, int, str]]:
    """List (address, size, name) of defined functions with a size, as nm says."""
    found = []
    for line in run(need("nm"), "-S", "--defined-only", *flags, path).splitlines():
        parts = line.split(maxsplit=3)
        if len(parts) == 4 and parts[2] in "tTwWi":
            found.append((int(parts[0], 16), int(parts[1], 16), parts[3].partition("@")[0]))
    return found


def sample_addresses(ranges, count: int = 1000) -> dict[int, set[str]]:
    """Draw addresses inside of symbols → every name that covers them."""
    rng = random.Random(7)
    ranges = [r for r in ranges if r[1]]
    picked = {}
    for _ in range(count):
        start, size, _ = rng.choice(ranges)
        picked[start + rng.randrange(size)] = set()
    ordered = sorted(picked)
    for start, size, name in ranges:
        for addr in ordered[bisect_left(ordered, start) :]:
            if addr >= start + size:
                break
            picked[addr].add(name)
    return picked
