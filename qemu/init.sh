#!/bin/sh
# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
#
# The first process of the guest: mounts the host's root read-only, gives it kernel file systems
# and scratch folders of its own, and becomes /run/guest.sh in it.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod "/modules/$module"; done

. /job
mount -t virtiofs -o ro hostroot /root || echo "vm: the host's root could not be mounted"
# A checkout below /tmp would vanish under the tmpfs.
mount --bind "/root$FOLDER" /keep
for folder in tmp run var/tmp var/cache; do mount -t tmpfs tmpfs "/root/$folder"; done
[ -d "/root$FOLDER" ] || mkdir -p "/root$FOLDER"
mount --bind /keep "/root$FOLDER"

mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t devtmpfs dev /root/dev
mkdir -p /root/dev/shm /root/dev/pts
mount -t tmpfs tmpfs /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t bpf bpf /root/sys/fs/bpf
mount -t securityfs securityfs /root/sys/kernel/security 2>/dev/null # not in special kernels
mount -t tracefs tracefs /root/sys/kernel/tracing
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
for share in $SHARES; do
	mkdir -p "/root/${share#*:}"
	mount -t virtiofs "${share%%:*}" "/root/${share#*:}"
done
cp /bin/busybox /root/run/busybox
cp /guest.sh /root/run/guest.sh
exec switch_root /root /bin/sh /run/guest.sh
