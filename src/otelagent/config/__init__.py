# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent is told by options, environment and file, as one frozen value."""
