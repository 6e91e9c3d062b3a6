# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""CPython 3.6 and later."""
