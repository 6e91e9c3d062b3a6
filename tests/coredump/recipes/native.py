# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""C, C++, Rust, Zig, assembly of libraries, and code made at run time."""

from __future__ import annotations

from tests.coredump.recipes.recipe import Recipe

PROGRAM, SOURCE = "{out}/native", "{src}/native.c"


def c_case(name: str, kind: str, compiler: str, *flags: str, **more) -> Recipe:
    """Make a case of `programs/native.c`."""
    after = more.pop("after", ())
    build = ((compiler, *flags, "-pthread", "-o", PROGRAM, SOURCE), *after)
    versions = {"compiler": (compiler, "--version")}
    return Recipe(name, "native.c", (PROGRAM, kind), build, versions=versions, **more)


def _at(name: str, kind: str, *steps: str, flags: tuple[str, ...] = ("-O2",), **more) -> Recipe:
    """Make a case of an instant that gdb goes to."""
    return c_case(f"at-{name}", kind, "gcc", *flags, gdb=steps, **more)


# The first "ret" behind the place where gdb stands, or some instructions before it.
_TO_END = (
    "python pc = gdb.selected_frame().pc();"
    " code = gdb.selected_frame().architecture().disassemble(pc, pc + 999);"
    " end = [at for at, one in enumerate(code) if one['asm'].startswith('ret')][0];"
    " gdb.execute('break *%d' % code[end - {}]['addr'])"
)


def at_ends(compiler: str, prefix: str) -> list[Recipe]:
    """Make cases of the last instructions of functions: 0 is the `ret`."""
    wanted = {"descend": 2, "in_huge": 3, "in_realigned": 3, "in_vla": 4, "in_alloca": 4}
    return [
        c_case(
            f"{prefix}-{where.replace('_', '-')}-end-{back}",
            "mixed",
            *(compiler, "-O2", "-DOA_RETURNS"),
            gdb=(f"tbreak *{where}", "run", _TO_END.format(back), "continue"),
        )
        for where, count in wanted.items()
        for back in range(count)
    ]


LEVELS = [
    c_case(f"c-{compiler}-{level}", "mixed", compiler, f"-{level}")
    for compiler in ("gcc", "clang")
    for level in ("O0", "O1", "O2", "O3")
]
STRIP = ("strip", PROGRAM)
# Bytes in the midst of the program's own call frame information.
_CORRUPT = (
    "import sys; d = bytearray(open(sys.argv[1], 'rb').read()); n = len(d) // 3;"
    "d[n:n + 24] = b'\\xff' * 24; open(sys.argv[1], 'wb').write(d)"
)
CORRUPT = (
    ("objcopy", "-O", "binary", "--only-section=.eh_frame", PROGRAM, "{out}/frames"),
    ("python3", "-c", _CORRUPT, "{out}/frames"),
    ("objcopy", "--update-section", ".eh_frame={out}/frames", PROGRAM),
)
BUILDS = [
    c_case("c-gcc-lto", "mixed", "gcc", "-O2", "-flto"),
    c_case("c-clang-lto", "mixed", "clang", "-O2", "-flto", "-fuse-ld=lld"),
    c_case("c-gcc-Os", "mixed", "gcc", "-Os"),
    c_case("c-gcc-omit", "mixed", "gcc", "-O1", "-fomit-frame-pointer"),
    c_case("c-gcc-keep", "mixed", "gcc", "-O2", "-fno-omit-frame-pointer"),
    c_case(
        "c-gcc-realign",
        "mixed",
        "gcc",
        "-O2",
        "-mstackrealign",
        "-mavx2",
        "-mpreferred-stack-boundary=6",
    ),
    c_case("c-clang-realign", "mixed", "clang", "-O2", "-mstackrealign", "-mavx2"),
    c_case(
        "c-gcc-plt-sec",
        "mixed",
        "gcc",
        "-O2",
        "-fcf-protection=full",
        "-Wl,-z,ibtplt",
        "-Wl,-z,lazy",
    ),
    c_case("c-gcc-static", "mixed", "gcc", "-O2", "-static"),
    c_case("c-gcc-static-pie", "mixed", "gcc", "-O2", "-static-pie"),
    c_case("c-gcc-no-pie", "mixed", "gcc", "-O2", "-no-pie"),
    c_case("c-gcc-stripped", "mixed", "gcc", "-O2", after=(STRIP,)),
    c_case(
        "c-gcc-split",
        "mixed",
        "gcc",
        "-O2",
        "-freorder-blocks-and-partition",
        "-fsplit-stack",
        "-fuse-ld=gold",
    ),
    c_case(
        *("c-gcc-debug-frame", "mixed", "gcc", "-O2", "-g"),
        *("-fno-asynchronous-unwind-tables", "-fno-unwind-tables"),
    ),
    c_case(
        *("c-gcc-no-frame", "mixed", "gcc", "-O2"),
        *("-fno-asynchronous-unwind-tables", "-fno-unwind-tables"),
        like="c-gcc-O2",
        oracles=(),
    ),
    c_case("c-gcc-corrupt", "mixed", "gcc", "-O2", after=CORRUPT, like="c-gcc-O2", oracles=()),
    c_case("c-musl", "mixed", "musl-gcc", "-O2", like="c-gcc-O2", oracles=()),
    c_case("c-musl-static", "mixed", "musl-gcc", "-O2", "-static", like="c-gcc-O2", oracles=()),
    c_case("c-musl-signal", "nested", "musl-gcc", "-O2", like="c-signal-nested", oracles=()),
]
SIGNALS = [
    c_case(f"c-signal-{name}-{level}", kind, "gcc", f"-{level}")
    for name, kind in (("nested", "nested"), ("altstack", "alternate"))
    for level in ("O0", "O1", "O3")
]
KINDS = [
    c_case("c-signal-nested", "nested", "gcc", "-O2"),
    c_case("c-signal-altstack", "alternate", "gcc", "-O2"),
    c_case("c-signal-fault", "fault", "gcc", "-O2"),
    c_case("c-signal-null", "crash", "gcc", "-O2"),
    c_case("c-signal-static", "alternate", "clang", "-O1", "-static"),
    c_case("c-clone", "clone", "gcc", "-O2"),
    c_case("c-context", "context", "gcc", "-O2"),
    c_case("c-context-static", "context", "gcc", "-O2", "-static"),
    c_case("c-vfork", "vfork", "gcc", "-O2", child=True),
    c_case("c-setjmp", "setjmp", "gcc", "-O2"),
    c_case("c-threads", "threads", "gcc", "-O2", lines=4),
    c_case("c-blocked", "blocked", "gcc", "-O2"),
    c_case("c-deep", "deep", "gcc", "-O1"),
    c_case("c-memcpy", "memcpy", "gcc", "-O1", drive="stop"),
    c_case("c-strlen", "strlen", "gcc", "-O1", "-fno-builtin", drive="stop"),
    c_case("c-vdso", "vdso", "gcc", "-O2", drive="stop"),
]
LIBC = "/usr/lib/x86_64-linux-gnu/libc.so.6"
MISSING = {
    "flags": ("-O1", "-fno-omit-frame-pointer"),
    "files": (LIBC,),
    "note": "The machine that looks at the core has the C library and not the program.",
}
INSTANTS = [
    _at("missing", "mixed", "break pause", "run", **MISSING),
    _at("missing-code", "mixed", "break pause", "run", **MISSING, has_code=False),
    *(
        _at(
            f"{where.replace('_', '-')}-{steps}",
            "mixed",
            f"break *{where}",
            "run",
            f"stepi {steps}",
        )
        for where, steps in (
            *(("descend", 1), ("descend", 3), ("in_huge", 1), ("in_huge", 4)),
            *(("in_realigned", 1), ("in_realigned", 3), ("in_vla", 2), ("in_alloca", 4)),
        )
    ),
    *at_ends("gcc", "at"),
    _at("descend-first", "mixed", "break *descend", "run"),
    _at(
        "plt",
        "mixed",
        "break main",
        "run",
        "break *'write@plt'",
        "continue",
        flags=("-O2", "-Wl,-z,lazy"),
    ),
    _at(
        "plt-sec",
        "mixed",
        "break main",
        "run",
        "break *'write@plt'",
        "continue",
        flags=("-O2", "-Wl,-z,lazy", "-Wl,-z,ibtplt", "-fcf-protection=full"),
    ),
    _at(
        "resolving",
        "mixed",
        "break main",
        "run",
        "break _dl_fixup",
        "continue",
        flags=("-O2", "-Wl,-z,lazy"),
    ),
    _at("longjmp", "setjmp", "break main", "run", "break __longjmp", "continue", "stepi 5"),
    _at("start", "mixed", "starti"),
    _at("null", "null", "run"),
    _at("astray", "astray", "run"),
    _at("entry", "mixed", "break _start", "run"),
    _at(
        "restorer",
        "nested",
        "handle SIGUSR1 nostop",
        "handle SIGUSR2 nostop",
        "break *on_first",
        "run",
        "stepi 2",
    ),
]


def cxx_case(name: str, kind: str, compiler: str, *flags: str, gdb: tuple[str, ...] = ()) -> Recipe:
    return Recipe(
        *(name, "throws.cc", ("{out}/throws", kind)),
        ((compiler, *flags, "-o", "{out}/throws", "{src}/throws.cc"),),
        versions={"compiler": (compiler, "--version")},
        gdb=gdb,
    )


def _rust(name: str, kind: str, *flags: str) -> Recipe:
    return Recipe(
        *(name, "panics.rs", ("{out}/panics", kind)),
        (("rustc", "--edition", "2021", *flags, "-o", "{out}/panics", "{src}/panics.rs"),),
        versions={"compiler": ("rustc", "--version")},
    )


def _zig(name: str, *flags: str) -> Recipe:
    zig = ("python3", "-m", "ziglang")
    return Recipe(
        *(name, "chain.zig", ("{out}/chain",)),
        (
            (
                *zig,
                "build-exe",
                *flags,
                "--cache-dir",
                "{out}/cache",
                "--global-cache-dir",
                "{out}/cache",
                "-femit-bin={out}/chain",
                "{src}/chain.zig",
            ),
        ),
        versions={"compiler": (*zig, "version")},
    )


THROWING = ("break __cxa_throw", "run")
LANGUAGES = [
    cxx_case("cxx-unwinding", "unwinding", "g++", "-O2"),
    cxx_case("cxx-catching", "catching", "g++", "-O2"),
    *(
        cxx_case(f"cxx-{kind}-{flags[0]}", kind, "g++", *(f"-{flag}" for flag in flags))
        for kind in ("unwinding", "catching")
        for flags in (("O0",), ("flto", "O2"))
    ),
    cxx_case("cxx-clang", "unwinding", "clang++", "-O1"),
    cxx_case("cxx-static", "unwinding", "g++", "-O2", "-static"),
    cxx_case("cxx-throw", "catching", "g++", "-O2", gdb=THROWING),
    cxx_case(
        "cxx-raise",
        "catching",
        "g++",
        "-O2",
        gdb=("break main", "run", "break _Unwind_RaiseException", "continue", "stepi 30"),
    ),
    _rust("rust-chain", "chain", "-O"),
    _rust("rust-debug", "chain"),
    _rust("rust-panic", "panic", "-O"),
    _rust("rust-drop", "drop", "-O"),
    _zig("zig-debug"),
    _zig("zig-safe", "-O", "ReleaseSafe"),
    _zig("zig-fast", "-O", "ReleaseFast"),
]


JIT = "gdb has no rules for memory without a file, and guesses; the code keeps frame pointers."


def _jit(name: str, *arguments: str) -> Recipe:
    return Recipe(
        *(name, "jit.c", ("{out}/jit", *arguments)),
        (("gcc", "-O1", "-o", "{out}/jit", "{src}/jit.c"),),
        versions={"compiler": ("gcc", "--version")},
        made=True,
        note=JIT,
    )


def _unusual(name: str, program: str, kind: str, lines: int = 0, **more) -> Recipe:
    """Make a case of assembly (`programs/forms.S`, `frames.S`) with a thread for each function."""
    source = f"{{src}}/{program}"
    return Recipe(
        *(name, f"{program}.c and {program}.S", (f"{{out}}/{program}", kind)),
        (("gcc", "-O1", "-pthread", "-o", f"{{out}}/{program}", f"{source}.c", f"{source}.S"),),
        versions={"compiler": ("gcc", "--version")},
        lines=lines,
        **more,
    )


ODD = (
    "Frame pointers lead on, but to callers that cannot be believed: no call ends before the"
    " address, or the frame pointer is where none can be. Whole stacks are not wanted here."
    " Of a call by the last bytes of the memory gdb does not see the caller: the address behind"
    " it is no code."
)
MADE = 0x20000000
"""Where forms.c has its code."""


def _at_made(name: str, offset: int, slot: str) -> Recipe:
    """Make a case of an instant in code without a file; `slot`: where the caller's address is."""
    gdb = ("break run", "run", f"break *{MADE + offset:#x}", "continue")
    env = [("OA_GDB_MADE", f"{MADE:x}-{MADE + 0x10000:x}")]
    env += [("OA_GDB_SLOT", slot)] if slot else []
    return _unusual(f"at-made-{name}", "forms", "returns", gdb=gdb, gdb_env=tuple(env))


EXITS = Recipe(
    *("c-exit", "exits.c", ("{out}/exits",)),
    (("gcc", "-O1", "-o", "{out}/exits", "{src}/exits.c"),),
    versions={"compiler": ("gcc", "--version")},
)
UNUSUAL = [
    EXITS,
    _at_made("push", 0x30, "0"),
    _at_made("pushed", 0x31, "1"),
    _at_made("framed", 0x34, ""),
    _at_made("ret", 0x15E, "0"),
    _unusual("made-calls", "forms", "calls", 1, made=True),
    _unusual("made-odd", "forms", "odd", 33, made=True, note=ODD),
    _unusual("frames-interrupted", "frames", "spins", 19),
    _unusual(
        "frames-calling",
        "frames",
        "calls",
        5,
        note=(
            "Of a caller's registers only rbx is followed: over_lost has lost it, and over_r12 has"
            " its frame in another, so these two end with a fault that says so."
        ),
    ),
    _unusual("frames-lying", "frames", "lies", 2, note="What it tells of its frames is false."),
]


def _openssl(name: str, *arguments: str, without: str = "") -> Recipe:
    return Recipe(
        *(name, "openssl", ("openssl", "speed", "-seconds", "30", *arguments)),
        env=(("OPENSSL_ia32cap", without),) if without else (),
        versions={"openssl": ("openssl", "version")},
        drive="stop",
        lines=0,
    )


OTHERS = [
    _jit("jit-perf-map", "map"),
    _jit("jit-dump", "dump", "{out}"),
    _jit("jit-unnamed", "none"),
    _openssl("asm-sha256", "-bytes", "65536", "sha256"),
    _openssl("asm-aes", "-bytes", "65536", "-evp", "aes-256-gcm"),
    _openssl("asm-rsa", "rsa2048"),
    _openssl("asm-chacha", "-bytes", "65536", "-evp", "chacha20-poly1305"),
    # Without SHA-NI, and without anything newer than SSE2.
    _openssl("asm-sha256-avx2", "-bytes", "65536", "sha256", without=":~0x20000000"),
    _openssl("asm-sha1-avx2", "-bytes", "65536", "sha1", without=":~0x20000000"),
    _openssl("asm-rsa-plain", "rsa2048", without="~0x1000000000000000:0"),
]
NATIVE = [*LEVELS, *BUILDS, *SIGNALS, *KINDS, *INSTANTS, *LANGUAGES, *UNUSUAL, *OTHERS]
