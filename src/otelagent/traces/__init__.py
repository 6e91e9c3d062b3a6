# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Batches of the C core into finished traces."""
