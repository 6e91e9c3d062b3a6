# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Build what is not Python: `python build.py [generate] [bpf] [ffi] [bytecode] [arm64] [cross]`.

The only file that knows compiler flags.

- `generate`: `ebpf/oa_abi.h` → `src/otelagent/abi/_generated.py`
- `bpf`: `ebpf/*.bpf.c` → `src/otelagent/bpf/objects/<name>.<machine>.bpf.o`
- `ffi`: `src/native/*.c` → `src/otelagent/_native.abi3.so`
- `bytecode`: `src/otelagent/**/*.py` → `__pycache__`, where Python itself may not write it
- `arm64` (only if it is named): compile the same sources for arm64 and keep nothing
- `cross` (only if it is named): the package for arm64 into `build/aarch64/`, linked with the
  libraries below `OTELAGENT_ARM64_ROOT`, a root directory of such a machine
"""

from __future__ import annotations

import compileall
import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent
EBPF = ROOT / "ebpf"
NATIVE = ROOT / "src" / "native"
PACKAGE = ROOT / "src" / "otelagent"
OBJECTS = PACKAGE / "bpf" / "objects"
BUILD = ROOT / "build"

BPF_ARCHES = {"x86_64": "x86", "aarch64": "arm64"}
BPF_FLAGS = [
    *("-target", "bpf", "-mcpu=v2", "-O2", "-g", "-std=gnu11"),
    *(
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-unused-function",
        "-Wno-unused-parameter",
        "-Wno-address-of-packed-member",
    ),
    *("-fno-stack-protector", "-ffile-prefix-map=" + str(ROOT) + "=."),
]
C_FLAGS = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]
# cffi's own generated code is not ours to mend.
FFI_FLAGS = ["-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wno-unused-function"]
LIBRARIES = ["bpf", "elf", "z"]
# What a machine that only runs programs has of them.
SONAMES = ["libbpf.so.1", "libelf.so.1", "libz.so.1"]
CROSS = "aarch64-linux-gnu"
WIDTHS = "".join(
    f"typedef {'u' if sign == 'u' else ''}int{bits}_t {sign}{bits};\n"
    for sign in "us"
    for bits in (8, 16, 32, 64)
)
LICENCE = "# Copyright The otelagent authors\n# SPDX-License-Identifier: Apache-2.0\n"


def run(*command: str | Path) -> str:
    """Run a tool; show what it said and stop when it fails."""
    result = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stdout}{result.stderr}")
    return result.stdout


def is_newer(target: Path, *sources: Path) -> bool:
    """Tell whether `target` is there and not older than any source."""
    if not target.exists():
        return False
    stamp = target.stat().st_mtime
    return all(source.stat().st_mtime <= stamp for source in (*sources, Path(__file__)))


def read_enums(header: str) -> dict[str, list[tuple[str, int, str]]]:
    """Parse `enum oa_x { NAME = value, /* help */ }` into name → (member, value, help).

    Lines may be folded anywhere; what is not understood stops the build.
    """
    member = re.compile(r"\s*(\w+)\s*(?:=\s*(\d+))?\s*,\s*(?:/\*(.*?)\*/)?\s*", re.DOTALL)
    enums = {}
    for match in re.finditer(r"^enum (\w+) \{(.*?)\n\};", header, re.DOTALL | re.MULTILINE):
        members: list[tuple[str, int, str]] = []
        at, value = 0, -1
        while at < len(match[2]):
            found = member.match(match[2], at)
            if not found:
                sys.exit(f"enum {match[1]}: not understood: {match[2][at:].strip()[:60]!r}")
            value = int(found[2]) if found[2] else value + 1
            text = " ".join(
                line.strip().removeprefix("* ") for line in (found[3] or "").split("\n")
            )
            members.append((found[1], value, text.strip()))
            at = found.end()
        enums[match[1]] = members
    return enums


def class_name(enum: str) -> str:
    """Turn `oa_frame_kind` into `FrameKind`."""
    return "".join(part.capitalize() for part in enum.split("_")[1:])


def member_name(enum: str, member: str) -> str:
    """Drop `OA_` and, where it is there, the enum's own prefix."""
    short = member.removeprefix("OA_")
    for words in range(enum.count("_"), 0, -1):
        prefix = "_".join(enum.split("_")[1 : words + 1]).upper() + "_"
        if short.startswith(prefix) and short.removeprefix(prefix).isidentifier():
            return short.removeprefix(prefix)
    return short


def generate() -> None:
    """Write the Python face of the enumerators in `oa_abi.h`."""
    header = EBPF / "oa_abi.h"
    target = PACKAGE / "abi" / "_generated.py"
    if is_newer(target, header, Path(__file__)):
        return
    lines = [
        LICENCE + '"""Made by `build.py generate` from `ebpf/oa_abi.h`; never edited."""\n',
        "from enum import IntEnum\n",
    ]
    # By class first: members of two enumerations with one value are equal, so one key.
    helps = []
    for enum, members in read_enums(header.read_text()).items():
        lines.append(f"\nclass {class_name(enum)}(IntEnum):")
        lines.append(f'    """`enum {enum}`."""\n')
        helps.append(f"    {class_name(enum)}: {{")
        texts: dict[int, str] = {}
        for name, value, text in members:
            short = member_name(enum, name)
            lines.append(f"    {short} = {value}")
            texts.setdefault(value, text)  # as IntEnum: a later name is but an alias
        helps += [f"        {value}: {text!r}," for value, text in texts.items()]
        helps.append("    },")
        lines.append("")
    lines.append("\nHELP: dict[type[IntEnum], dict[int, str]] = {")
    target.write_text("\n".join([*lines, *helps, "}"]) + "\n")


def bpf_headers() -> list[Path]:
    """List everything that a BPF object may include."""
    return [*EBPF.glob("*.h"), *(ROOT / "vmlinux").glob("*/*.h")]


def bpf() -> None:
    """Compile each `ebpf/<name>.bpf.c` for every architecture and drop its DWARF."""
    OBJECTS.mkdir(exist_ok=True)
    clang = os.environ.get("CLANG", "clang")
    strip = os.environ.get("LLVM_STRIP", "llvm-strip")
    multiarch = run("cc", "-print-multiarch").strip()
    for source in sorted(EBPF.glob("*.bpf.c")):
        for machine, arch in BPF_ARCHES.items():
            target = OBJECTS / f"{source.name.removesuffix('.bpf.c')}.{machine}.bpf.o"
            if is_newer(target, source, *bpf_headers()):
                continue
            includes = ["-I", EBPF, "-I", ROOT / "vmlinux" / arch]
            includes += ["-idirafter", f"/usr/include/{multiarch}"]
            partial = target.with_suffix(f".{os.getpid()}")
            run(
                clang, *BPF_FLAGS, f"-D__TARGET_ARCH_{arch}", *includes, "-c", source, "-o", partial
            )
            run(strip, "-g", partial)
            partial.replace(target)


def cdef(header: Path) -> str:
    """Preprocess a header for cffi: no includes, no macros."""
    return run("cc", "-E", "-P", "-DOA_CDEF", "-I", EBPF, "-I", NATIVE, header)


def native_sources() -> list[Path]:
    """List the C sources of the extension."""
    return [*sorted(NATIVE.glob("*.c")), *sorted((EBPF / "host").glob("*.c"))]


def native_ffi():  # noqa: ANN201 (cffi is imported only for this)
    """Describe the extension `otelagent._native` to cffi."""
    from cffi import FFI  # noqa: PLC0415

    headers = [EBPF / "oa_abi.h", *sorted(p for p in NATIVE.glob("*.h") if p.name != "types.h")]
    builder = FFI()
    builder.cdef(WIDTHS + "".join(cdef(header) for header in headers))
    sources = [os.path.relpath(source, ROOT) for source in native_sources()]
    arch = BPF_ARCHES[platform.machine()]
    builder.set_source(
        "otelagent._native",
        '#include "types.h"\n' + "".join(f'#include "{header.name}"\n' for header in headers),
        sources=sources,
        include_dirs=[str(NATIVE), str(EBPF)],
        libraries=LIBRARIES,
        extra_compile_args=[*C_FLAGS, *FFI_FLAGS, f"-D__TARGET_ARCH_{arch}"],
        py_limited_api=True,
    )
    return builder


def ffi() -> None:
    """Build the extension in place."""
    target = PACKAGE / "_native.abi3.so"
    inputs = [*native_sources(), *NATIVE.glob("*.h"), *EBPF.glob("*.h"), *EBPF.glob("*.bpf.c")]
    if is_newer(target, *inputs, *(EBPF / "host").glob("*.h")):
        return
    BUILD.mkdir(exist_ok=True)
    run(sys.executable, ROOT / "setup.py", "-q", "build_ext", "--inplace", "--force")


def cross_compiler() -> list[str | Path]:
    """Give the command that compiles for arm64; headers of libraries are this machine's."""
    compiler = f"{CROSS}-gcc"
    if shutil.which(compiler) is None:
        sys.exit(f"{compiler} is missing (packages gcc-{CROSS}, libc6-dev-arm64-cross)")
    includes = ["-I", NATIVE, "-I", EBPF, "-idirafter", "/usr/include"]
    flags = [*C_FLAGS, *FFI_FLAGS, f"-D__TARGET_ARCH_{BPF_ARCHES['aarch64']}"]
    return [compiler, *flags, *includes]


def arm64() -> None:
    """Show what an arm64 compiler says of the C core."""
    run(*cross_compiler(), "-fsyntax-only", *native_sources())


def cross() -> None:
    """Make the package for arm64: a copy, with an extension of its own."""
    root = os.environ.get("OTELAGENT_ARM64_ROOT", "")
    libraries = Path(root) / "usr" / "lib" / CROSS
    if not root or not libraries.is_dir():
        sys.exit(f"OTELAGENT_ARM64_ROOT: {libraries} is not there")
    package = BUILD / "aarch64" / "otelagent"
    target = package.with_name("_native.abi3.so")
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("_native*", "__pycache__"))
    metadata = package.parent / "otelagent-0.dist-info"
    metadata.mkdir(exist_ok=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = f"Metadata-Version: 2.1\nName: otelagent\nVersion: {project['version']}\n"
    (metadata / "METADATA").write_text(text)
    inputs = [*native_sources(), *NATIVE.glob("*.h"), *EBPF.glob("*.h")]
    if not is_newer(target, *inputs, *(EBPF / "host").glob("*.h")):
        compile_cross(libraries, target)
    shutil.copy(target, package)


def compile_cross(libraries: Path, target: Path) -> None:
    """Compile the extension for arm64."""
    generated = target.with_name("_native.c")
    with contextlib.redirect_stdout(None):
        native_ffi().emit_c_code(str(generated))
    # The limited API is the same on both machines.
    headers = sysconfig.get_paths()
    python = [f"-I{headers[name]}" for name in ("include", "platinclude")]
    link = ["-shared", "-fPIC", "-L", libraries, *(f"-l:{name}" for name in SONAMES)]
    sources = [generated, *native_sources()]
    run(*cross_compiler(), "-DPy_LIMITED_API", *python, *sources, *link, "-o", target)


def bytecode() -> None:
    """Compile the package's Python as an installation does: else each start might do it."""
    compileall.compile_dir(PACKAGE, quiet=1)


VERBS = {"generate": generate, "bpf": bpf, "ffi": ffi, "bytecode": bytecode}
EXTRA = {"arm64": arm64, "cross": cross}

if __name__ == "__main__":
    os.chdir(ROOT)
    for verb in sys.argv[1:] or VERBS:
        if verb not in VERBS | EXTRA:
            sys.exit(f"build.py: no verb {verb!r}; there are {', '.join(VERBS | EXTRA)}")
        (VERBS | EXTRA)[verb]()
