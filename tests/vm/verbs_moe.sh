#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# An MoE layer with R1's rows and routing between two kernels: accel-moe run as a launcher starts it, two ranks in each
# of two guests, shared memory within a guest and RDMA across. Rank 0, in guest 1, checks the layer against one process.
# Both guests run this.
#
# check: guest --guests 2
set -u
. tests/runtime/moe.sh
. tests/vm/link.sh

# $1 port where they meet, rest options: the ranks of this guest; nothing if both end with 0.
ranks() {
	port=$1
	shift
	started=
	for local in 0 1; do
		env RANK=$((2 * VM_GUEST - 2 + local)) WORLD_SIZE=4 LOCAL_RANK=$local LOCAL_WORLD_SIZE=2 \
			MASTER_ADDR=guest1 MASTER_PORT="$port" \
			ACCEL_OPTS="verbs.devices=rxe$VM_GUEST,verbs.ack_timeout=18" \
			"$moe" run --layers 3 --tokens 3,0,2,4 --intermediate 64 --warmup 0 --check \
			--json "$dir/$local.json" "$@" >"$dir/$local.out" 2>&1 &
		started="$started $!"
	done
	for pid in $started; do
		wait "$pid" || {
			echo "a rank ends with $?"
			tail -n 5 "$dir/0.out" "$dir/1.out"
		}
	done
}

# What rank 0 reports: bit-equal, over both transports, rows by the NIC, nothing copied.
reports() {
	mentions "$dir/0.out" PASS
	python3 - "$dir/0.json" <<-'PYTHON' 2>&1
		import json
		import sys

		report = json.load(open(sys.argv[1]))
		moved = report["layers"][0]["counters"]
		assert report["run"]["launcher"] == "env", report["run"]
		assert sorted(report["run"]["transport"]) == ["shm", "verbs"], report["run"]
		assert moved["bytes_staged"] == 0 and moved["bytes_wire"] > 0, moved
	PYTHON
}

# $1 MTU, $2 port, rest options
layer() {
	mtu=$1
	shift
	link_mtu "$mtu"
	link_meet "moe$1"
	ranks "$@"
	[ "$VM_GUEST" != 1 ] || reports
}

link_up
[ -e /sys/module/accel ] || modprobe accel soft=1
tap_ok 'fp8 at MTU 1500, received in place' "$(layer 1500 22000)"
tap_ok 'bf16 at MTU 9000, landed, in memory of accel0' "$(
	layer 9000 22004 --device accel0 --dtype bf16 --receive landed)"
tap_done
