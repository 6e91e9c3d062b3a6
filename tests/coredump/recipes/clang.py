# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""C and C++ by clang: what `native.py` has by gcc, and instants of clang's own prologues.

lld writes no call frame information for the PLT, and lays out `.plt.sec` otherwise than ld.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.coredump.recipes.native import CORRUPT, STRIP, THROWING, at_ends, c_case, cxx_case

if TYPE_CHECKING:
    from tests.coredump.recipes.recipe import Recipe

LLD = ("-fuse-ld=lld", "-Wl,-z,lazy")
LINKERS = {
    "plt": ("-Wl,-z,lazy",),
    "plt-sec": ("-Wl,-z,lazy", "-Wl,-z,ibtplt", "-fcf-protection=full"),
    "plt-lld": LLD,
    "plt-sec-lld": (*LLD, "-Wl,-z,force-ibt", "-fcf-protection=full"),
}
NO_TABLES = ("-fno-asynchronous-unwind-tables", "-fno-unwind-tables")
NO_RULES = (
    "lld writes no call frame information for the PLT: once a slot's number is pushed gdb takes"
    " that for an address. The program's functions are those of another case, on which gdb agrees."
)
STEPS = {
    "descend": (0, 1, 2, 3),
    "in_huge": (1, 2, 3, 4),
    "in_realigned": (1, 2, 3, 4, 5),
    "in_vla": (1, 2, 4, 6),
    "in_alloca": (1, 2, 4, 6),
}
"""After how many instructions of which function."""


def _clang(name: str, kind: str, *flags: str, **more) -> Recipe:
    return c_case(f"c-clang-{name}", kind, "clang", *flags, **more)


def _at(
    name: str,
    kind: str,
    gdb: tuple[str, ...],
    step: int = 0,
    flags: tuple[str, ...] = ("-O2",),
    **own,
) -> Recipe:
    """Make a case of an instant that gdb goes to, and of some instructions later."""
    steps = (*gdb, *([f"stepi {step}"] if step else []))
    return c_case(f"at-clang-{name}", kind, "clang", *flags, gdb=steps, **own)


def _in_plt(name: str, step: int) -> Recipe:
    """Make a case of an instant on the way through the PLT to the loader: 0 is its first.

    The PLT by ld has rules; of that by lld gdb guesses, until a slot's number is pushed.
    """
    steps = ("break main", "run", "break *'write@plt'", "continue")
    own = {"like": "c-clang-O2", "note": NO_RULES} if name.endswith("lld") else {}
    return _at(f"{name}-{step}", "mixed", steps, step, flags=("-O2", *LINKERS[name]), **own)


BUILDS = [
    _clang("Os", "mixed", "-Os"),
    _clang("omit", "mixed", "-O1", "-fomit-frame-pointer"),
    _clang("keep", "mixed", "-O2", "-fno-omit-frame-pointer"),
    _clang("static", "mixed", "-O2", "-static"),
    _clang("static-pie", "mixed", "-O2", "-static-pie"),
    _clang("no-pie", "mixed", "-O2", "-no-pie"),
    _clang("stripped", "mixed", "-O2", after=(STRIP,)),
    _clang("split", "mixed", "-O2", "-fsplit-stack", "-fuse-ld=gold"),
    _clang("debug-frame", "mixed", "-O2", "-g", *NO_TABLES),
    _clang("no-frame", "mixed", "-O2", *NO_TABLES, like="c-clang-O2", oracles=()),
    _clang("corrupt", "mixed", "-O2", after=CORRUPT, like="c-clang-O2", oracles=()),
    *(_clang(name, "mixed", "-O2", *flags) for name, flags in LINKERS.items()),
]
SIGNALS = [
    *(
        _clang(f"signal-{name}-{level}", kind, f"-{level}")
        for name, kind in (("nested", "nested"), ("altstack", "alternate"))
        for level in ("O0", "O1", "O2", "O3")
    ),
    _clang("signal-nested-lto", "nested", "-O2", "-flto", "-fuse-ld=lld"),
    _clang("signal-altstack-lto", "alternate", "-O2", "-flto", "-fuse-ld=lld"),
    _clang("signal-fault", "fault", "-O2"),
    _clang("signal-null", "crash", "-O2"),
]
KINDS = [
    _clang("clone", "clone", "-O2"),
    _clang("context", "context", "-O2"),
    _clang("vfork", "vfork", "-O2", child=True),
    _clang("setjmp", "setjmp", "-O2"),
    _clang("threads", "threads", "-O2", lines=4),
    _clang("deep", "deep", "-O0"),
    _clang("noreturn", "noreturn", "-O2"),
]
INSTANTS = [
    *(
        _at(f"{where.replace('_', '-')}-{step}", "mixed", (f"break *{where}", "run"), step)
        for where, steps in STEPS.items()
        for step in steps
    ),
    *at_ends("clang", "at-clang"),
    *(_in_plt(name, step) for name in LINKERS for step in (0, 1, 2, 3, 4)),
    _at("null", "null", ("run",)),
    _at("longjmp", "setjmp", ("break main", "run", "break __longjmp", "continue"), 5),
]
CXX = [
    cxx_case("cxx-clang-catching", "catching", "clang++", "-O2"),
    cxx_case("cxx-clang-static", "unwinding", "clang++", "-O2", "-static"),
    cxx_case("cxx-clang-throw", "catching", "clang++", "-O2", gdb=THROWING),
]
CLANG = [*BUILDS, *SIGNALS, *KINDS, *INSTANTS, *CXX]
