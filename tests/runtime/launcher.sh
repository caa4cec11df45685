#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# accel-moe run under launchers: those that set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as
# torchrun does; mpirun of Open MPI, which speaks PMIx; and those that speak neither. Ranks meet, on
# a later port too where a stranger has the first; a rank that never comes is named; ranks that do
# not fit together say so.
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
	mentions "$dir/json" '"launcher": "env"'
	echo "report $dir/json pass" | judge)"

# Of each rank as many as it is bound to cores.
threads_are() {
	mentions "$dir/json" "\"threads\": $1,"
}

cores=$(nproc)
tap_ok 'ranks of one host share its cores' "$(
	for me in 0 1; do
		rank $me 2 --tokens 3 --json "$dir/json"
	done
	ended 0 0 1
	threads_are $((cores > 1 ? cores / 2 : 1)))"

tap_ok 'ranks of two hosts share their cores by LOCAL_RANK' "$(
	for me in 0 1; do
		export LOCAL_RANK=0 LOCAL_WORLD_SIZE=1
		rank $me 2 --tokens 3 --json "$dir/json"
	done
	ended 0 0 1
	threads_are "$cores")"

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

# torchrun of PyTorch 2.15 sets these for --nproc-per-node 3. At MASTER_PORT is its own store, which takes a connection
# and waits for words of its protocol, as the stranger does.
like_torchrun() {
	for me in 0 1 2; do
		env LOCAL_RANK=$me RANK=$me GROUP_RANK=0 ROLE_RANK=$me ROLE_NAME=default LOCAL_WORLD_SIZE=3 \
			WORLD_SIZE=3 GROUP_WORLD_SIZE=1 ROLE_WORLD_SIZE=3 MASTER_ADDR=localhost \
			MASTER_PORT="$port" TORCHELASTIC_RESTART_COUNT=0 TORCHELASTIC_MAX_RESTARTS=0 \
			TORCHELASTIC_RUN_ID=c777490f TORCHELASTIC_USE_AGENT_STORE=True \
			TORCHELASTIC_ERROR_FILE="$dir/error.json" OMP_NUM_THREADS=1 \
			TORCHELASTIC_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT \
			TORCH_NCCL_ASYNC_ERROR_HANDLING=1 "$@" &
		started="${started-} $!"
	done
	for me in $started; do
		wait "$me" || return
	done
}
if command -v torchrun >/dev/null; then
	how='torchrun itself'
	torchrun="torchrun --nnodes 1 --nproc-per-node 3 --no-python"
else
	how="torchrun's environment"
	torchrun=like_torchrun
fi
# shellcheck disable=SC2086 # lists of words
tap_ok "$how: the ranks meet beside its store" "$(
	expect 0 $torchrun "$moe" run $small --json "$dir/torchrun"
	mentions "$dir/torchrun" '"launcher": "env"'
	echo "report $dir/torchrun pass" | judge)"
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

mpirun='timeout -k 1 60 mpirun.openmpi --allow-run-as-root --oversubscribe'
if command -v mpirun.openmpi >/dev/null; then
	# shellcheck disable=SC2086 # lists of words
	{
		tap_ok 'mpirun: ranks by PMIx, without an address' "$(
			expect 0 $mpirun -n 4 "$moe" run $small --layers 3,4 --tokens 4,0,2,1 --check --json "$dir/pmix"
			mentions "$dir/pmix" '"launcher": "pmix"'
			mentions "$dir/pmix" '"ranks": 4'
			echo "report $dir/pmix pass" | judge)"
		tap_ok 'mpirun: a rank that never comes is named' "$(
			mkfifo "$dir/fifo"
			expect 4 $mpirun -n 3 sh -c '[ $PMIX_RANK = 1 ] && exec cat "$1"
				exec "$2" run --timeout-ms 1500' sh "$dir/fifo" "$moe"
			mentions "$dir/err" 'rank 1 of group "launch" (3 ranks) did not come to PMIx within 1500 ms')"
		tap_ok 'mpirun: RANK and WORLD_SIZE go before PMIx' "$(
			port=$(free_port)
			expect 0 $mpirun -n 2 sh -c 'export RANK=$PMIX_RANK WORLD_SIZE=2 MASTER_ADDR=127.0.0.1
				exec "$@"' sh env MASTER_PORT="$port" "$moe" run $small --json "$dir/both"
			mentions "$dir/both" '"launcher": "env"')"
		tap_ok 'mpirun: --ranks goes before both' "$(
			expect 0 $mpirun -n 1 "$moe" run --ranks 2 $small --json "$dir/ranks"
			mentions "$dir/ranks" '"launcher": "local"')"
	}
else
	tap_skip 'mpirun: ranks by PMIx' 'no mpirun of Open MPI (Debian: openmpi-bin)'
fi

# $1 why, $2 what is in libpmix.so.2, $3 words of the error
pmix_that_is() {
	mkdir -p "$dir/lib"
	printf '%s' "$2" | cc -shared -fPIC -x c - -o "$dir/lib/libpmix.so.2"
	[ -n "$2" ] || : >"$dir/lib/libpmix.so.2"
	tap_ok "PMIx that is $1 says what to do" "$(
		expect 3 env PMIX_RANK=0 PMIX_NAMESPACE=job LD_LIBRARY_PATH="$dir/lib" "$moe" run
		mentions "$dir/err" "$3")"
}
calls=$(sed -n 's/.*(\*\([A-Z][A-Za-z_]*\))(.*/PMIx_\1/p' libaccel/pmix_abi.h | grep -v version)
version='const char *PMIx_Get_version(void) { return "PMIx 2.2.5, repo"; }'
pmix_that_is 'not to be loaded' '' 'install it (Debian: libpmix2)'
pmix_that_is 'incomplete' "$version" 'lacks PMIx_Error_string: accel needs PMIx 3'
pmix_that_is 'too old' "$version $(for call in $calls; do echo "void $call(void) {}"; done)" \
	'is "PMIx 2.2.5, repo": accel needs PMIx 3'

tap_ok 'PMI 1 and 2 are not spoken, and the error says what to do' "$(
	expect 2 env PMI_RANK=1 PMI_SIZE=2 "$moe" run
	mentions "$dir/err" "sh -c 'RANK=\$PMI_RANK WORLD_SIZE=\$PMI_SIZE exec PROGRAM'")"

tap_ok 'an environment that makes no sense' "$(
	for pair in '3 3' 'x 3' '0 0' '-1 2' '0 99999'; do
		expect 2 env RANK="${pair% *}" WORLD_SIZE="${pair#* }" MASTER_ADDR=127.0.0.1 MASTER_PORT=1 "$moe" run
		mentions "$dir/err" RANK=
	done
	expect 2 env RANK=1 PMIX_NAMESPACE=job PMI_RANK=1 "$moe" run
	mentions "$dir/err" WORLD_SIZE
	# shellcheck disable=SC2086 # a list of options
	expect 0 env RANK=1 WORLD_SIZE=3 "$moe" run --ranks 2 $small)"
tap_done
