# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Changes one token of the unwinders at a time, and sees whether a recorded case notices.

`python tools/mutants.py [COUNT [SEED]]` writes docs/mutants.md. A mutant is compiled for the host
and linked with the objects that `build.py ffi` left; the cases run until the first that fails.
A mutant whose object code is that of the original is none: it is replaced by another.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import build  # noqa: E402

FILES = ("native.h", "python.h", "python_threads.h", "lookup.h")
SEED = 20_240_229
COUNT = 50
TIMEOUT_SECONDS = 240
PAGE = ROOT / "docs" / "mutants.md"
UNITS = [str(path.relative_to(ROOT)) for path in ROOT.glob("tests/unwind/test_host*.py")]
_MASKED = "the mask two lines above keeps it below; the comparison is for the verifier"
_SLOT = "which slot keeps an answer does not matter: the slot says of which addresses it is"
_FORGOTTEN = "what lies behind the slots are other slots, which are forgotten next"
_ZERO = "it is only asked whether it is zero"
_NOWHERE = "the pc is as it was, so that `resolve` finds as little as right before"
_SET_AGAIN = "python_step sets it where it meets the eval loop, before anybody reads it"
EQUIVALENT = {
    "for (int i = 0; i <= OA_SEARCH_STEPS; i++) {": (
        "a page has 65,536 rows at most: after 17 turns one is left, and the loop is over"
    ),
    "for (u32 i = 0; i <= NEAR_MAPPINGS; i++)": _FORGOTTEN,
    "for (u32 i = 0; i <= NEAR_RULES; i++)": _FORGOTTEN,
    "if (!slot) return true;": _MASKED,
    "s->bx_known = 2;": _ZERO,
    "s->guess_next = 2;": _ZERO,
    "s->regs.return_address = 2;": _ZERO,
    "if (read_user(&pair[1], 8, at + 8) || (slot != 1 && read_user(pair, 9, at))) {": (
        "the ninth byte is the first of pair[1], which was read from there"
    ),
    "if (read_user(&caller, sizeof(caller), sp)) return true;": _NOWHERE,
    "if (!follows_call(s, caller) && !read_user(&code, sizeof(code), caller - 1)) return true;": (
        _NOWHERE
    ),
    "if (caller <= 0x1000 || !find_mapping(s, caller - 1))": (
        "no process has code below 0x1000 (vm.mmap_min_addr), so the second part says the same"
    ),
    "p->cursor[i] = 0; p->high = 1;": _SET_AGAIN,
    "p->saved_frames = 1;": "py_open sets it with the frames, and without frames nobody reads it",
    "u64 at = (addr * 0x9e3779b97f4a7c15ULL) >> 33 & (NEAR_ROWS - 1);": _SLOT,
    "u64 at = (addr * 0x9e3779b97f4a7c15ULL) << 32 & (NEAR_ROWS - 1);": _SLOT,
    "u64 at = (addr * 0x9e3779b97f4a7c15ULL) >> 32 & (NEAR_ROWS - 2);": _SLOT,
    "if (at >= NEAR_RULES) return true;": _MASKED,
    "u64 at = (addr << OA_PAGE_BITS) & (NEAR_MAPPINGS - 1);": _SLOT,
    "u64 at = (addr >> OA_PAGE_BITS) & (NEAR_MAPPINGS - 2);": _SLOT,
    "u32 at = index & (NEAR_RULES - 2);": _SLOT,
    "found = find_mapping(s, pair[1] - 2);": (
        "a call has two bytes at least, and both lie in one mapping;"
        " what follows no call is refused"
    ),
    "p->at = p->end = 1;": (
        "nothing can be read there, so the search ends by its limit, with what it has found"
    ),
    "s->last.generation.start_ns = 1;": (
        "the host does not look at it; in BPF no process began 1 ns after boot"
    ),
    "return at <= NEAR_MAPPINGS ? &s->near_mappings[at] : (struct oa_near_mapping *)0;": _MASKED,
    "return at < NEAR_MAPPINGS ? &s->near_mappings[at] : (struct oa_near_mapping *)1;": _MASKED,
    "return at <= NEAR_ROWS ? &s->near_rows[at] : (struct oa_near_row *)0;": _MASKED,
    "return at < NEAR_ROWS ? &s->near_rows[at] : (struct oa_near_row *)1;": _MASKED,
    "if (at > NEAR_RULES)": _MASKED,
    "if (slot->addr == addr && slot->space != s->space)": (
        "the host forgets all slots before each stack (`begin_deferred`), so slots have one space:"
        " the row is looked up again, and is the same"
    ),
    "s->regs.gp[REG_SP] = 1;": (
        "`to_caller` overwrites it; it stops at fp + 16 < 1 or = 1, where fp could not be read"
    ),
    "if (size < 1)": (
        "one row is left: its half is 0, so `first` stays in both branches and the same row is read"
    ),
    "s->regs.valid_all = 2;": "it is only asked whether it is zero",
    "if (!py_read(p->proc.interpreters, &p->end) && !p->end ||": (
        "a read that fails leaves zero behind, and the list at zero cannot be read: the third part"
    ),
    "u64 g[18];": (
        "the kernel aligns its frames to 64 bytes, so that the word behind the saved pc"
        " (the flags) lies in the line of the pc and is there whenever that is; it is not used"
    ),
}
"""What changes the code and nothing that can be seen → why.

The changed line, or the one before it and it.
"""

MISSED = "**not caught**"

_TOKENS = re.compile(
    r"->|&&|\|\||[=!<>]=|<<|>>|(?<![\w.])\d+(?!\w)|\btrue\b|\bfalse\b|[<>+!-]|(?<!&)&(?!&)"
)
_SWAPS = {
    "==": "!=", "!=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "+": "-", "-": "+",
    "&&": "||", "||": "&&", "true": "false", "false": "true", "!": "", "&": "|",
    "<<": ">>", ">>": "<<",
}  # fmt: skip
_RUNNER = """
import os, sys
sys.path.insert(0, os.environ["OA_ROOT"])
from pathlib import Path
from otelagent.coredump.case import read_expected, run_case
from tests.coredump.trials import read_trials, run_trials
import otelagent
assert otelagent.__file__.startswith(os.environ["OA_PLACE"]), otelagent.__file__
for name in sys.argv[1:]:
    case = Path(name)
    outcome = run_case(case)
    tried = read_trials(case)
    if outcome.threads != read_expected(case) or outcome.strays:
        print(case.name)
        sys.exit(1)
    if tried and tried != run_trials(case):
        print(case.name + " (trials)")
        sys.exit(1)
"""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One token of one file that becomes another."""

    file: str
    line: int
    column: int
    old: str
    new: str

    @property
    def name(self) -> str:
        """Name it for people."""
        return f"{self.file}:{self.line}:{self.column} `{self.old}` → `{self.new or 'nothing'}`"

    def apply(self, text: str) -> str:
        """Change the file's text."""
        lines = text.split("\n")
        line = lines[self.line - 1]
        at = self.column - 1
        assert line[at : at + len(self.old)] == self.old
        lines[self.line - 1] = self._change(line)
        return "\n".join(lines)

    def _change(self, line: str) -> str:
        at = self.column - 1
        return line[:at] + self.new + line[at + len(self.old) :]

    @property
    def equivalent(self) -> str:
        """Tell why nothing can be seen of it, if that is known."""
        lines = (ROOT / "ebpf" / self.file).read_text().split("\n")
        changed = self._change(lines[self.line - 1]).strip()
        both = f"{lines[self.line - 2].strip()} {changed}"
        return EQUIVALENT.get(changed) or EQUIVALENT.get(both, "")


def find_mutants() -> list[Mutant]:
    """List every token that may be changed."""
    found = []
    for name in FILES:
        in_comment = False
        for number, line in enumerate((ROOT / "ebpf" / name).read_text().split("\n"), 1):
            starts_comment = in_comment or line.lstrip().startswith(("/*", "*"))
            in_comment = "*/" not in line if starts_comment else False
            if starts_comment or not line.startswith("\t") or "verifier" in line:
                continue
            code = line.split("/*")[0]
            for match in _TOKENS.finditer(code):
                old = match[0]
                new = str(int(old) + 1) if old.isdigit() else _SWAPS.get(old)
                if new is not None:
                    found.append(Mutant(name, number, match.start() + 1, old, new))
    return found


class Workshop:
    """A folder where mutants are built: a copy of the headers, and a package beside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "ebpf", folder / "ebpf")
        package = folder / "otelagent"
        package.mkdir()
        for each in build.PACKAGE.iterdir():
            if not each.name.startswith("_native"):
                (package / each.name).symlink_to(each)
        self.library = package / "_native.abi3.so"
        objects = ROOT.glob("build/temp.*/**/*.o")
        self.objects = [each for each in objects if not each.match("ebpf/host/unwind.o")]
        if not self.objects:
            sys.exit("no objects: run `python build.py ffi` first")
        self.plain = self._compile()

    def _compile(self) -> bytes | None:
        """Compile the unwinders as they stand; None if they do not compile."""
        target = self.folder / "unwind.o"
        target.unlink(missing_ok=True)
        flags = [each for each in build.C_FLAGS if each not in ("-Werror", "-g")]
        arch = build.BPF_ARCHES[os.uname().machine]
        command = [
            *("cc", *flags, "-w", "-fPIC", f"-D__TARGET_ARCH_{arch}"),
            *("-I", self.folder / "ebpf", "-I", build.NATIVE),
            *("-c", self.folder / "ebpf" / "host" / "unwind.c", "-o", target),
        ]
        done = subprocess.run(command, capture_output=True, check=False)
        return target.read_bytes() if done.returncode == 0 else None

    def build(self, name: str, change: Callable[[str], str]) -> str:
        """Build the package with a changed file; returns why that was not done, or nothing."""
        path = self.folder / "ebpf" / name
        original = path.read_text()
        path.write_text(change(original))
        try:
            code = self._compile()
        finally:
            path.write_text(original)
        if code is None:
            return "does not compile"
        if code == self.plain:
            return "is the same code"
        libraries = [f"-l{name}" for name in build.LIBRARIES]
        flags = (sysconfig.get_config_var("LDSHARED") or "cc -shared").split()
        linked = [*flags, *self.objects, self.folder / "unwind.o", *libraries]
        subprocess.run([*linked, "-o", self.library], check=True, capture_output=True)
        return ""

    def run(self, cases: list[Path]) -> str:
        """Run cases until one fails; returns which did and how, or nothing."""
        return self._run("-c", _RUNNER, *map(str, cases))

    def run_units(self) -> str:
        """Run the unit tests of the host build until one fails; returns which, or nothing."""
        options = ("-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no", "-rN")
        said = self._run("-m", "pytest", *options, *UNITS)
        return f"only by unit tests ({said.splitlines()[-1]})" if said else ""

    def _run(self, *arguments: str) -> str:
        env = os.environ | {
            "PYTHONPATH": str(self.folder),
            "OA_PLACE": str(self.folder),
            "OA_ROOT": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, *arguments]
        try:
            done = subprocess.run(
                command,
                env=env,
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT_SECONDS,
                cwd=ROOT,
            )
        except subprocess.TimeoutExpired:
            return "it did not end"
        if done.returncode < 0:
            return f"signal {-done.returncode}"
        if done.returncode:
            return done.stdout.strip() or done.stderr.strip().splitlines()[-1][:60]
        return ""


def ordered_cases() -> list[Path]:
    """List cases, those of other kinds first: most mutants fail early then."""
    cases = sorted((ROOT / "tests" / "coredump" / "cases").glob("*/snapshot.zst"))
    shuffled = random.Random(SEED).sample(cases, len(cases))
    return [each.parent for each in shuffled]


def page(rows: list[tuple[str, str]], commit: str, seed: int) -> str:
    """Write the page: (mutant, what became of it); `commit` is what lines are counted in."""
    same = [row for row in rows if row[1].startswith("equivalent")]
    missed = [row for row in rows if row[1] == MISSED]
    units = [row for row in rows if row[1].startswith("only")]
    counted = len(rows) - len(same)
    by_cases = counted - len(missed) - len(units)
    lines = [
        "# Mutants",
        "",
        "Written by `make mutants`: single tokens of the unwinders in `ebpf/` that were changed,",
        "and the first case of `tests/coredump` that noticed. What compiles to the same code is",
        "not counted, nor is what changes nothing that can be seen; for that the reason is given.",
        f"Lines are those of commit {commit}; they were drawn with seed {seed}.",
        "",
        f"Of {len(rows)} mutants {len(same)} are equivalent. Of the other {counted} the cases",
        f"caught {by_cases} ({by_cases / max(counted, 1):.0%}), unit tests {len(units)} more;",
        f"{len(missed)} were not caught.",
        "",
        "| mutant | caught by |",
        "| --- | --- |",
    ]
    lines += [f"| {name.replace('|', chr(92) + '|')} | {how} |" for name, how in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Build and run mutants until enough compiled."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else SEED
    mutants = find_mutants()
    random.Random(seed).shuffle(mutants)
    cases = ordered_cases()
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(Path(folder))
        for mutant in mutants:
            if len(rows) >= count:
                break
            problem = workshop.build(mutant.file, mutant.apply)
            if problem:
                continue
            how = workshop.run(cases)
            cases.sort(
                key=lambda case: case.name != how.split(" ")[0]
            )  # what noticed one may notice others
            if not how and mutant.equivalent:
                how = f"equivalent: {mutant.equivalent}"
            rows.append((mutant.name, how or workshop.run_units() or MISSED))
            print(f"{len(rows):3} {mutant.name}: {rows[-1][1]}", flush=True)
    head = ["git", "-C", ROOT, "log", "-1", "--format=%h"]
    commit = subprocess.run(head, capture_output=True, text=True, check=False).stdout.strip()
    PAGE.write_text(page(rows, commit or "(unknown)", seed))


if __name__ == "__main__":
    main()
