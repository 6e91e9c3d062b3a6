#!/bin/sh
# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
# Processes that come and go: churn.sh PYTHON PROGRAM FOLDER TURN RUN NAP. Each TURN seconds, by the
# clock while the machine has time for it, some 24, a file that nobody has seen and that runs for RUN
# seconds, and, each fourth time, functions with names that nobody has seen. NAP is between others.
python=$1 program=$2 folder=$3 turn=0
while :; do
	turn=$((turn + 1))
	sleep "$4" &
	new=$folder/new$((turn % 8))
	cp "$program" "$new.made" && echo "$turn" >>"$new.made" && mv "$new.made" "$new"
	timeout "$5" "$new" 40 &
	for _ in 1 2 3 4 5; do
		/bin/true
		uname -a >/dev/null
		ls -l /usr/lib >/dev/null
		sleep "$6"
	done
	if [ $((turn % 4)) = 0 ]; then
		"$python" -S -c "
def work_$turn():
    return sum(i * i for i in range(100_000))
def wait_$turn():
    return work_$turn()
wait_$turn()" &
	fi
	wait
done
