# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""One folder per interpreter: detection, layout, facts, names."""
