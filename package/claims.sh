#!/bin/sh
# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
#
# What package/test_systemd.py has a guest do whose first process is systemd: install, start, look,
# disturb, upgrade, remove, purge. Each line is `ok` or `FAIL`, a claim, and what was said if it does not hold.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
unit=otelagent.service
config=/etc/otelagent/otelagent.yaml
store=/var/lib/otelagent

claim() { # TEXT COMMAND…: the command tells whether it holds
	text=$1
	shift
	if "$@" >/tmp/said 2>&1; then
		echo "ok   $text ($(cut -d. -f1 /proc/uptime) s)"
	else
		echo "FAIL $text ($(cut -d. -f1 /proc/uptime) s)"
		sed 's/^/     /' /tmp/said
	fi
}

eventually() { # COMMAND…: within ten minutes, since a guest is slow on a busy machine; so is asking
	deadline=$(($(cut -d. -f1 /proc/uptime) + 600))
	while [ "$(cut -d. -f1 /proc/uptime)" -lt $deadline ]; do
		"$@" >/dev/null 2>&1 && return
		sleep 3
	done
	"$@"
}

not() { ! "$@"; }
of_unit() { systemctl show -P "$1" $unit; }
is() { [ "$(of_unit "$1")" = "$2" ] || { systemctl status --no-pager $unit; false; }; }
# First the process: it may be ended between two questions, and a reload of what is being started is none.
restarted_from() { main=$(of_unit MainPID); [ "$main" != 0 ] && [ "$main" != "$1" ] && is ActiveState active; }
said() { journalctl --sync; journalctl -u $unit -o cat --no-pager >/tmp/journal; grep -E -- "$1" /tmp/journal || { tail -5 /tmp/journal; false; }; }
has_samples() { otelagent report $store --since "$1" | tee /dev/stderr | grep -q '%'; }
now() { date +%Y-%m-%dT%H:%M:%S; }
has_programs() { grep -E 'bpf_prog_[0-9a-f]+_on_cpu_tick' /proc/kallsyms; }
heard_after() { [ "$(of_unit WatchdogTimestampMonotonic)" -gt "$1" ]; }
of_process() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$(of_unit MainPID)/status"; }
within() { [ $((0x$(of_process "$1") & ~$2)) = 0 ] || { of_process "$1"; false; }; }
files() { find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/log \
	-o -path /var/lib/dpkg -o -path /var/cache/ldconfig \) -prune -o -print; cat /etc/passwd /etc/group; }
left() { files | sort >/tmp/after; diff /tmp/before /tmp/after; }

files | sort >/tmp/before
dpkg -i /packages/old.deb >/dev/null
claim "installing starts nothing" is ActiveState inactive
claim "installing enables nothing" is UnitFileState disabled
sh -c 'while :; do :; done' &

claim "it starts" systemctl enable --now $unit
claim "it has told systemd that it samples" is ActiveState active
systemctl status --no-pager -n4 $unit | sed 's/^/     /'
claim "its programs are there" has_programs
claim "the store gets profiles" eventually has_samples 1h
otelagent report $store --since 1h --top 5 | sed 's/^/     /'
# CHECKPOINT_RESTORE 40, BPF 39, PERFMON 38, SYSLOG 34, SYS_PTRACE 19, DAC_READ_SEARCH 2; for the start SYS_RESOURCE 24;
# SYS_ADMIN 21 as long as this kernel opens perf events to nobody else (its default is 3).
stays=$((1 << 40 | 1 << 39 | 1 << 38 | 1 << 34 | 1 << 19 | 1 << 2))
claim "it is bounded as the unit says" within CapBnd $((stays | 1 << 24 | 1 << 21))
claim "it has given up what only the start takes" within CapEff $((stays | 1 << 21))
claim "for good" within CapPrm $((stays | 1 << 21))
claim "it gains no privileges" [ "$(of_process NoNewPrivs)" = 1 ]
claim "its system calls are filtered" [ "$(of_process Seccomp)" = 2 ]
systemd-analyze security --no-pager $unit | tail -1 | sed 's/^/     /'

mkdir -p /run/systemd/system/$unit.d
printf '[Service]\nWatchdogSec=40s\nRestartSec=1s\n' >/run/systemd/system/$unit.d/quick.conf
systemctl daemon-reload
systemctl restart $unit
claim "the watchdog hears of it" eventually heard_after "$(of_unit WatchdogTimestampMonotonic)"
pid=$(of_unit MainPID)
kill -STOP "$pid"
claim "one that hangs is ended, and started again" eventually restarted_from "$pid"
claim "by the watchdog" said "Watchdog timeout"
rm -r /run/systemd/system/$unit.d
systemctl daemon-reload

pid=$(of_unit MainPID)
printf 'samples-per-second: 50\nstore-bytes: 2MiB\n' >>$config
claim "reload is taken" systemctl reload $unit
claim "what can change while it runs does" eventually said "samples-per-second"
claim "what cannot is named" eventually said "store-bytes"
echo "samples-per-second: lots" >>$config
systemctl reload $unit
claim "a wrong setting is told" eventually said "otelagent.yaml:[0-9]+"
claim "and nothing else happens" is ActiveState active
claim "in the same process" is MainPID "$pid"
claim "a restart with it fails, and is not tried again" not systemctl restart $unit
claim "since its status says that it is of no use" is ExecMainStatus 78
sed -i '/lots/d' $config
claim "it starts when that is mended" systemctl start $unit

pid=$(of_unit MainPID)
kill -9 "$pid"
sysctl -q kernel.perf_event_paranoid=2
claim "after kill -9 it is started again" eventually restarted_from "$pid"
claim "and samples" eventually has_samples "$(now)"
claim "without CAP_SYS_ADMIN where the kernel lets it" within CapPrm $stays

pid=$(of_unit MainPID)
dpkg -i /packages/new.deb >/tmp/said 2>&1 || cat /tmp/said
claim "an upgrade starts it anew" restarted_from "$pid"
claim "with the new program" said "."
claim "and the old settings" grep -q '^samples-per-second: 50' $config
otelagent --version | sed 's/^/     /'
eventually has_samples "$(now)" >/dev/null
claim "stop" systemctl stop $unit
claim "ends well" is Result success
claim "after a last report, of which nothing is missing" said "attempted = .* 0 \(0 samples\) dropped \+ 0 \(0 samples\) queued"
grep 'attempted' /tmp/journal | tail -1 | sed 's/^/     /'
claim "no program of ours is left" eventually not has_programs
claim "nothing is pinned" not sh -c 'find /sys/fs/bpf -name "*otelagent*" -o -name "oa_*" | grep .'
systemctl start $unit
dpkg -r otelagent >/tmp/said 2>&1 || cat /tmp/said
claim "removing stops it" is LoadState not-found
claim "it runs no more" not pgrep -f /usr/lib/otelagent/otelagent
claim "profiles stay" sh -c "ls $store/* >/dev/null"
claim "and the settings" test -f $config
dpkg -P otelagent >/tmp/said 2>&1 || cat /tmp/said
claim "after purge no file, user or group is left" left
claim "and no cgroup" not sh -c 'find /sys/fs/cgroup -name "*otelagent*" | grep .'
claim "and no program" not has_programs
