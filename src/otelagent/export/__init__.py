# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The door to OTLP: the core model to and from its messages."""
