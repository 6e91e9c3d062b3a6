# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent's own health: what it counts, what it costs, and whether it is well."""
