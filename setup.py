# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
from setuptools import setup

setup(
    cffi_modules=["build.py:native_ffi"],
    # The extension keeps to the limited API: one wheel for this Python and all newer ones.
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
