#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# accel-moe run under a launcher that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT: ranks
# meet, on a later port too where a stranger has the first; a rank that never comes is named; ranks
# that do not fit together say so.
set -u
. tests/runtime/moe.sh

# A port that is free, as are the three after it.
free_port() {
	python3 - <<-'PYTHON'
		import random
		import socket

		while True:
		    port, sockets = random.randrange(20000, 30000), []
		    try:
		        for i in range(4):
		            sockets.append(socket.socket())
		            sockets[-1].bind(("127.0.0.1", port + i))
		        break
		    except OSError:
		        pass
		print(port)
	PYTHON
}

# rank RANK WORLD OPTIONS...: one rank in the background; what it says is in $dir/RANK.out, its
# status in $dir/RANK.status.
rank() {
	me=$1
	world=$2
	shift 2
	rm -f "$dir/$me.status"
	(
		# shellcheck disable=SC2086 # a list of options
		RANK=$me WORLD_SIZE=$world MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
			timeout -k 1 20 "$moe" run --layers 3,4 $small "$@" >"$dir/$me.out" 2>&1
		echo $? >"$dir/$me.status"
	) &
}

# ended STATUS RANK...
ended() {
	wanted=$1
	shift
	for me in "$@"; do
		await 25 test -s "$dir/$me.status"
		[ "$(cat "$dir/$me.status")" = "$wanted" ] || {
			echo "rank $me: exit $(cat "$dir/$me.status"), not $wanted"
			tail -n 5 "$dir/$me.out"
		}
	done
}

port=$(free_port)
tap_ok 'three ranks meet; rank 0 reports' "$(
	rank 2 3 --tokens 4,0,2
	rank 0 3 --tokens 4,0,2 --check --json "$dir/json"
	rank 1 3 --tokens 4,0,2
	ended 0 0 1 2
	mentions "$dir/0.out" PASS
	mentions "$dir/json" '"launcher": "environment"'
	echo "report $dir/json pass" | judge)"

tap_ok 'ranks of two hosts share their cores by LOCAL_RANK' "$(
	for me in 0 1; do
		export LOCAL_RANK=0 LOCAL_WORLD_SIZE=1
		rank $me 2 --tokens 3
	done
	ended 0 0 1)"

port=$(free_port)
# Accepts, and never says a word.
python3 - "$port" >"$dir/stranger" <<'PYTHON' &
import socket
import sys

listener = socket.socket()
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(64)
print("listening", flush=True)
guests = []
while True:
    guests.append(listener.accept())
PYTHON
stranger=$!
tap_ok 'a silent stranger has MASTER_PORT: they meet on the next' "$(
	await 10 grep -q listening "$dir/stranger"
	for me in 0 1 2; do
		rank $me 3
	done
	ended 0 0 1 2
	mentions "$dir/0.out" PASS)"
kill $stranger

tap_ok 'a rank that never comes is named' "$(
	port=$(free_port)
	for me in 0 2; do
		rank $me 3 --timeout-ms 2000
	done
	ended 4 0 2
	mentions "$dir/0.out" 'rank 1')"

tap_ok 'ranks that were told different things say which' "$(
	port=$(free_port)
	rank 0 2 --dtype fp8
	rank 1 2 --dtype bf16
	ended 2 0 1
	mentions "$dir/1.out" dtype)"

tap_ok 'an environment that makes no sense' "$(
	for pair in '3 3' 'x 3' '0 0' '-1 2' '0 99999'; do
		expect 2 env RANK="${pair% *}" WORLD_SIZE="${pair#* }" MASTER_ADDR=127.0.0.1 MASTER_PORT=1 "$moe" run
		mentions "$dir/err" RANK=
	done
	# shellcheck disable=SC2086 # a list of options
	expect 0 env RANK=1 WORLD_SIZE=3 "$moe" run --ranks 2 $small)"
tap_done
