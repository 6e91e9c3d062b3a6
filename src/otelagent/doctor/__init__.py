# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What this machine lets the profiler do, what is missing, and how to get it."""
