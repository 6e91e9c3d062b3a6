# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The stacks of one process image, live or a core file: no BPF, no sampling."""
