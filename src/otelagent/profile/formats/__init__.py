# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Readers and writers, one module per format."""
