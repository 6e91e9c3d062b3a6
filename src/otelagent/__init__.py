# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""One agent for Linux servers: whole-machine profiles and spans, as OTLP."""

__version__ = "0.1.0"
"""As in `pyproject.toml`; to ask the installed package takes 1 MB of imports."""
