# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""File formats of profiles: one module each, joined by `registry`."""
