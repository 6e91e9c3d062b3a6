#!/bin/sh
# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
#
# Before removing (dpkg: `remove`, rpm: 0), not before upgrading.
set -e
case "$1" in
remove | 0)
	[ ! -d /run/systemd/system ] || systemctl --no-reload disable --now otelagent.service
	;;
esac
