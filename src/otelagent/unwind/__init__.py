# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Files into unwind rows (stack deltas)."""
