# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The door to the host: procfs, process memory, cgroups, clocks."""
