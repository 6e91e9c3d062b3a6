# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Sparse snapshots of processes, with the stacks that they should have: test cases."""
