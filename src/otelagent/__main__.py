# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`python -m otelagent` is the command line."""

from otelagent.cli import main

main()
