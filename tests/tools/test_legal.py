# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A licence that is not allowed never goes unseen."""

import legal
import pytest

import build


@pytest.mark.parametrize(
    ("expression", "role", "allowed"),
    [
        ("MIT", "run-time", True),
        ("Apache-2.0 OR GPL-3.0-only", "run-time", True),
        ("Apache-2.0 AND GPL-3.0-only", "run-time", False),
        ("GPL-2.0-only", "run-time", False),
        ("GPL-2.0-only", "build", False),
        ("GPL-2.0-only", "development", True),
        ("LGPL-2.1 OR BSD-2-Clause", "linked", True),
        ("LGPL-3.0-or-later", "run-time", False),
        ("AGPL-3.0-only", "development", False),
        ("UNKNOWN", "development", False),
        ("(MIT)", "run-time", False),
    ],
)
def test_each_role_has_its_own_allowed_licences(expression, role, allowed):
    dependency = legal.Dependency("thing", "1", role, expression)

    assert legal.refused([dependency]) == ([] if allowed else [dependency])


def test_this_environment_is_clean_and_complete():
    """Direct and transitive packages are there, in the most important of their roles."""
    found = {package.name: package.role for package in legal.read_python_packages()}

    expected = {"cffi": "run-time", "pycparser": "run-time", "protobuf": "run-time"}
    expected |= {"setuptools": "build", "pytest": "development", "pluggy": "development"}
    assert expected.items() <= found.items()
    assert legal.refused([*legal.read_python_packages(), *legal.read_libraries()]) == []


def test_the_libraries_that_build_links_are_listed():
    stated = {module.removeprefix("lib").removesuffix("lib") for _, module, _ in legal.LIBRARIES}

    assert set(build.LIBRARIES) == stated
