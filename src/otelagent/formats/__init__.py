# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Small pure parsers: bytes into dataclasses."""
