# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The merged profile and its formats."""
