# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""CPython 3.6 to 3.15: `detect` a file, `attach` to a process, name its frames.

build = detect(elf)                           # once per file
process = attach(build, bias, memory)         # once per address space
process.value(), process.eval_loop            # → python_procs, mappings
process.read_threads(memory)                  # → python_threads, again on a report
PythonFrames(process.layout, memory).name(file_or_object, addr)
"""

from otelagent.interpreters.python.detect import PythonBuild, detect
from otelagent.interpreters.python.frames import PythonFrames, source_file_id
from otelagent.interpreters.python.process import PythonProcess, PythonThread, attach

__all__ = [
    "PythonBuild",
    "PythonFrames",
    "PythonProcess",
    "PythonThread",
    "attach",
    "detect",
    "source_file_id",
]
