# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the running kernel can do, and where its fields are."""
