# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which files are mapped where in which process; the only writer of per-process maps."""
