# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The door to libbpf: objects, maps, links, the ring, the perf side-band."""
