#!/bin/sh
# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
#
# After installing: a service that runs gets the new program; none is started unasked.
# dpkg gives `configure` and, if there was one, the version before; rpm gives 1, or 2 if there was.
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
case "$1" in
configure) [ -z "$2" ] || systemctl try-restart otelagent.service ;;
2) systemctl try-restart otelagent.service ;;
esac
