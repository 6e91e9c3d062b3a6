#!/bin/sh
# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
# COUNT programs one after the other that live for some 50 ms each.
count=$1
shift
while [ "$count" -gt 0 ]; do
	"$@"
	count=$((count - 1))
done
