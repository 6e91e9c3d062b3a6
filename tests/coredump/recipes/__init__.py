# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What cases there are, and how each is made."""

from tests.coredump.recipes.clang import CLANG
from tests.coredump.recipes.languages import LANGUAGES
from tests.coredump.recipes.native import NATIVE
from tests.coredump.recipes.recipe import Missing, Recipe

RECIPES = [*NATIVE, *CLANG, *LANGUAGES]

__all__ = ["RECIPES", "Missing", "Recipe"]
