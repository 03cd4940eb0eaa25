#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Counts and keeps a table in bash, without starting any program. Arguments and log as in check.h; it does not leave its
# starter by itself.
log=$1
shift
duration=0
for word; do
	case $word in duration=*) duration=${word#*=} ;; esac
done
exec </dev/null >>"$log" 2>&1
fail() {
	echo "FAIL bash_loop $*"
	exit 1
}
declare -A table
for ((i = 0; i < 2000; i++)); do
	table[key$i]=$((i * i))
done
echo "READY $$"
printf '' >"$log.beat"
turns=0
sum=0
beats=0
start=${EPOCHREALTIME/./}
pid=$BASHPID
until [ -e "$log.finish" ]; do
	[ "$BASHPID" = "$pid" ] || fail "pid: expected $pid, got $BASHPID"
	key=key$((turns % 2000))
	[ "${table[$key]}" = $((turns % 2000 * (turns % 2000))) ] || fail "$key: got ${table[$key]}"
	((turns++, sum += turns))
	[ $sum = $((turns * (turns + 1) / 2)) ] || fail "sum of $turns: got $sum"
	if ((turns % 500 == 0)); then
		read -r number <"$log.beat"
		[ $beats = 0 ] || [ "$((10#$number))" = $beats ] ||
			fail "heartbeat: expected $beats, got $number: another copy runs"
		((beats++))
		printf '%020d\n' $beats >"$log.beat"
		now=${EPOCHREALTIME/./}
		((duration && now - start > duration * 1000)) && break
	fi
done
echo "OK bash_loop iterations=$turns"
