# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""One agent for Linux servers: whole-machine profiles and spans, as OTLP."""
