#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# accel-moe run when a rank is killed or stopped in the midst of it, or its parent ends: the
# survivors name the rank and end in time, and nothing stays behind.
set -u
. tests/runtime/moe.sh

shared_memory() {
	ls /dev/shm | grep -i accel
}

at_work() {
	grep -q '^layer' "$dir/err" || none_alive $run
}

# start OPTIONS...: a long run; $run is its parent, $pids its ranks, which are at work when this
# returns.
start() {
	: >"$dir/err" # what the run before said must not be taken for this one's
	# shellcheck disable=SC2086 # a list of options
	"$moe" run $long "$@" >"$dir/out" 2>"$dir/err" &
	run=$!
	await 20 at_work
	pids=$(children $run | tr '\n' ' ')
	[ -n "$pids" ] || {
		echo 'no rank is running'
		cat "$dir/err"
	}
}

# ends STATUS SECONDS: the run ends with that status, in that time, and leaves no process behind.
ends() {
	# shellcheck disable=SC2086 # a list of pids
	await "$2" none_alive $run $pids || kill -KILL $run $pids
	wait $run
	status=$?
	[ $status = "$1" ] || {
		echo "exit $status, not $1"
		tail -n 8 "$dir/err"
	}
}

before=$(shared_memory)

for receive in in_place landed; do
	tap_ok "a rank is killed, $receive: the others name it, exit 4" "$(
		start --ranks 4 --tokens 16 --receive $receive --json "$dir/json"
		kill -KILL "$(child $run 2)"
		ends 4 15
		mentions "$dir/err" 'rank 2 was ended by signal 9'
		for rank in 0 1 3; do
			grep -q "^accel-moe: rank $rank: .*rank 2" "$dir/err" || {
				echo "rank $rank does not name rank 2:"
				cat "$dir/err"
			}
		done
		echo "report $dir/json fail" | judge
		mentions "$dir/json" '"rank": 2')"
done

tap_ok 'rank 0 is killed: the others name it, exit 4' "$(
	start --ranks 3 --tokens 4
	kill -KILL "$(child $run 0)"
	ends 4 15
	for rank in 1 2; do
		grep -q "^accel-moe: rank $rank: .*rank 0" "$dir/err" || cat "$dir/err"
	done)"

tap_ok 'a rank is stopped: it is named after --timeout-ms, exit 4' "$(
	start --ranks 3 --tokens 4 --timeout-ms 1000
	kill -STOP "$(child $run 1)"
	ends 4 15
	grep -q '^accel-moe: rank [02]: .*rank 1' "$dir/err" || cat "$dir/err")"

tap_ok 'a rank is stopped and masked: the others go on, and say what lacks a part' "$(
	export ACCEL_OPTS=on_timeout=mask
	start --ranks 4 --tokens 16 --layers 3-4 --warmup 300 --timeout-ms 1000 --output "$dir/output"
	kill -STOP "$(child $run 2)"
	ends 1 20
	mentions "$dir/out" 'tokens lack a part'
	for rank in 0 1 3; do
		mentions "$dir/err" "rank $rank: went on without rank 2"
	done
	[ -e "$dir/output" ] || echo 'no output was written'
	rm -f "$dir/output")"

for signal in TERM KILL; do
	tap_ok "the parent gets SIG$signal: no rank is left" "$(
		start --ranks 4 --output "$dir/output"
		kill -$signal $run
		# shellcheck disable=SC2086 # a list of pids
		await 10 none_alive $run $pids || kill -KILL $run $pids
		[ ! -e "$dir/output" ] || echo 'an output was written')"
done

tap_ok 'nothing new in /dev/shm' "$(
	[ "$(shared_memory)" = "$before" ] || shared_memory)"
tap_done
