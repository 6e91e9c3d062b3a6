#!/bin/sh
# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
#
# After removing: the cache goes. What was profiled goes with dpkg's purge; rpm knows no such thing.
set -e
case "$1" in
remove | purge | 0) rm -rf /var/cache/otelagent ;;
esac
if [ "$1" = purge ]; then
	rm -rf /var/lib/otelagent
	rmdir --ignore-fail-on-non-empty /etc/otelagent 2>/dev/null || true
fi
[ ! -d /run/systemd/system ] || systemctl daemon-reload
