# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""CPython of all versions that the machine has, and Go."""

from __future__ import annotations

import shutil

from integration.pythons import Python, find_pythons
from tests.coredump.recipes.recipe import Recipe

KINDS = {
    "calls": ("recursion", "c_callbacks", "special", "classes", "execs"),
    "made": ("comprehension", "imports"),
    "async": ("generators", "coroutines"),
    "ctypes": ("ctypes_callback", "recursion"),
    "deep": ("deep",),
    "idle": ("idle_queue", "idle_sleep", "idle_lock", "idle_select", "idle_pool"),
    "many": ("many",),
    "sub": ("subinterpreter", "subinterpreter_below"),
    "within": ("subinterpreter_within",),
    "nested": ("subinterpreter_nested",),
    "perf": ("recursion", "generators", "classes"),
    "moved": ("subinterpreter_moved",),
    "beginning": ("beginning",),
}
LIMITED = {
    "3.9-debian": ("calls", "async"),
    "3.13-debian": ("calls", "async"),
    "3.11-system": ("calls", "async", "ctypes"),
}
"""Other builds of versions that there is a whole set of."""

BEGINNING = (
    "The frame of made has not reached its first traceable instruction: CPython hides it from"
    " f_back, as we do; py-spy shows it, and with it the frames below are out of step."
)


def _oracles(python: Python) -> tuple[str, ...]:
    return ("self", "py-spy") if int(python.version[2:]) <= 13 else ("self",)


def _python(python: Python, kind: str) -> Recipe:
    name = f"py-{python.name}-{kind}"
    options = ("-X", "perf") if kind == "perf" else ()
    return Recipe(
        *(name, "kinds.py", (*python.command, *options, "{src}/kinds.py", *KINDS[kind])),
        env=python.env,
        versions={"python": (*python.command, "--version")},
        version_env=python.env,
        oracles=_oracles(python),
        note=BEGINNING if kind == "beginning" else "",
    )


def _has(python: Python, kind: str) -> bool:
    """Tell whether a version has a kind, and whether it would tell more than another one's.

    Before 3.13 an interpreter that runs in another thread than the one that made it keeps
    that one's state: its frames are sought in the wrong thread. Before 3.11 nothing tells
    whose frames are newer, if an older interpreter runs in a newer one (docs/accuracy.md).
    """
    minor = int(python.version[2:])
    if kind == "within":
        return minor <= 10  # newer ones have "nested"
    if kind == "beginning":
        return minor == 11  # others have no frame yet, or collect garbage elsewhere
    return minor >= {"nested": 11, "perf": 12, "moved": 13}.get(kind, 0)


PYTHONS = [
    _python(python, kind)
    for python in find_pythons()
    for kind in LIMITED.get(python.name, tuple(KINDS))
    if _has(python, kind)
]


def _entering(python: Python, kind: str, *steps: str) -> Recipe:
    """Make a case of an instant in the eval loop's prologue; gdb goes there.

    If a loader was told which program to run, gdb does not know that.
    """
    name = "entry" if kind == "entering" else "last"
    symbols = (f"add-symbol-file {python.command[-1]}",) if len(python.command) > 1 else ()
    return Recipe(
        f"at-py-{python.name}-{name}" + "".join(step.split()[1] for step in steps),
        "kinds.py",
        (*python.command, "{src}/kinds.py", kind),
        env=python.env,
        versions={"python": (*python.command, "--version")},
        version_env=python.env,
        gdb=("run", *symbols, "break *_PyEval_EvalFrameDefault", "signal 0", *steps),
        oracles=("self",),
    )


# gdb's cores have zeros for the other threads' stacks if glibc guards them by madvise (2.42).
ENTRIES = [
    _entering(python, *what)
    for python in find_pythons()
    if python.origin == "pyenv" or python.version in ("3.14", "3.15")
    for what in (("entering",), ("entering", "stepi 9"), ("leaving",))
    if python.origin == "pyenv" or what != ("leaving",)
]

COMPILE = ("cc", "-shared", "-fPIC", "-O1", "-o", "{out}/parkedext.so")


def _extension(python: Python) -> Recipe:
    source = "{src}/../../../integration/workloads/cext/parkedext.c"
    suffix = "m" if int(python.version[2:]) < 8 else ""
    headers = f"-I{python.include}/python{python.version}{suffix}"
    return Recipe(
        *(f"py-{python.name}-extension", "kinds.py and integration/workloads/cext/parkedext.c"),
        (*python.command, "{src}/kinds.py", "extension"),
        ((*COMPILE, headers, f"-I{python.include}", source),),
        env=python.env,
        versions={"python": (*python.command, "--version")},
        version_env=python.env,
        oracles=_oracles(python),
    )


EXTENSIONS = [_extension(python) for python in find_pythons() if python.name not in LIMITED]

GO_TOOLS = {"1.19": "/usr/lib/go-1.19/bin/go", "now": shutil.which("go") or "go"}
GO_ENV = (("GODEBUG", "asyncpreemptoff=1"), ("GOTRACEBACK", "crash"))
GO_ORACLES = ("gdb", "go")


def _go(tool: str, kind: str, *flags: str, cgo: bool = False, **more) -> Recipe:
    folder = "gocgo" if cgo else "gochain"
    go = GO_TOOLS[tool]
    build = (go, "build", "-C", "{src}/" + folder, *flags, "-o", "{out}/program", ".")
    if tool == "1.19":  # it has no -C yet
        build = (
            "sh",
            "-c",
            f"cd {{src}}/{folder} && {go} build {' '.join(flags)} -o {{out}}/program .",
        )
    name = f"go-{tool}-{kind}" + "".join(flag.replace("=", "") for flag in flags[:1])
    return Recipe(
        *(name.replace(" ", "-"), f"{folder}/main.go", ("{out}/program", kind)),
        (build,),
        build_env=(("GOTOOLCHAIN", "local"), ("GOFLAGS", "-buildvcs=false")),
        env=GO_ENV,
        versions={"compiler": (go, "version")},
        drive="stop",
        oracles=GO_ORACLES,
        **more,
    )


CGO = (
    "gdb goes by the rules of runtime.asmcgocall and runtime.cgocallback, which do not say that"
    " they switch to another stack, so it takes what lies there for a caller. Go's own traceback"
    " goes from cgocallback to the cgocall beneath it, as we do; what C has between is ours alone,"
    " and gdb agrees with it up to the switch."
)
STRIPPED = (
    "-s leaves out .debug_frame, so gdb guesses from the code; the tables by which Go itself"
    " finds callers and names are there, and its own traceback agrees."
)
LEFT_OUT = (
    "asmcgocall of Go 1.20 and older has no frame, and what is found is its caller's caller:"
    " runtime.cgocall is missing (docs/gopclntab.md)."
)
SIGNAL = (
    "gdb does not know Go's own trampoline for a signal frame and goes on wrongly from there; the"
    " frames beneath are those of the chain that the program makes."
)
SWITCH = (
    "gdb does not know that systemstack changes to the thread's own stack, and ends there or goes"
    " on with what is no code; the frames beneath are those of the chain that the program makes."
)
SWITCH_LEFT_OUT = "The caller of systemstack, runtime.gcStart, is missing (docs/gopclntab.md)."
GO = [
    *(_go(tool, kind) for tool in GO_TOOLS for kind in ("chain", "sort", "panic", "inline")),
    _go("1.19", "cgo", cgo=True, note=f"{CGO} {LEFT_OUT}"),
    _go("now", "cgo", cgo=True, note=CGO),
    *(
        _go(
            tool,
            "signal",
            gdb=("handle all nostop noprint pass", "break runtime.sighandler", "run"),
        )
        for tool in GO_TOOLS
    ),
    *(
        _go(tool, "switch", gdb=("break runtime.finishsweep_m", "run"), note=note)
        for tool, note in (("1.19", f"{SWITCH} {SWITCH_LEFT_OUT}"), ("now", SWITCH))
    ),
    _go("now", "chain", "-ldflags=-s", note=STRIPPED),
    _go("now", "sort", "-buildmode=pie"),
]
LANGUAGES = [*PYTHONS, *ENTRIES, *EXTENSIONS, *GO]
