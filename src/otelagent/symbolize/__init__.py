# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Addresses into names."""
