#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# The exchange between two kernels over RDMA is no slower than what else moves bytes there: perftest, and Open MPI by
# UCX, all on the same two Soft-RoCE devices, in one short run. Bars are those of mk/bench-rdma.sh --quick. Both
# guests run this; the second does what the first wants.
#
# check: guest --guests 2 --memory 1536
# check: alone
set -u
. tests/tap.sh
. tests/vm/link.sh

tap_ok 'a device in each guest, and a link' "$(link_up 2>&1 && link_meet up)"
if [ "$VM_GUEST" != 1 ]; then
	link_serve
	tap_done
fi
dir=$(mktemp -d) || exit 1
trap 'link_over; rm -rf "$dir"' EXIT
if ! [ -x "${BUILD:-build}/bin/accel-perf-openmpi" ]; then
	tap_skip 'beside perftest and Open MPI' 'no mpicc.openmpi when this was built'
	tap_done
fi
mk/bench-rdma.sh --quick --runs 1 --hosts guest1,guest2 --rsh mk/vm/rsh.sh --devices rxe1,rxe2 --out "$dir/out" \
	>"$dir/said" 2>"$dir/log"
code=$?
tap_ok 'all of it was measured' "$([ $code -le 1 ] || { echo "exit $code"; cat "$dir/log"; tail -n 5 "$dir/out"/*.log; }
	grep '^skipped' "$dir/said")"
sed 's/^/# /' "$dir/out/table.md"
tap_ok 'rows went by the NIC, and none was staged' "$(python3 - "$dir/out/bench.json" 2>&1 <<'CHECK'
import json, sys
results = [r for r in json.load(open(sys.argv[1]))["results"] if r["method"] == "accel"]
assert results
for r in results:
    assert r["transport"] == "verbs" and r["counters"]["bytes_staged"] == 0 and r["counters"]["work_requests"], r
    if r["op"] == "dispatch":
        # Of two ranks' rows nearly half go to the other.
        assert r["tokens"] * 7168 <= r["counters"]["bytes_wire"] <= 2 * r["tokens"] * 7392, r
CHECK
)"
while read -r verdict name value bar; do
	case $verdict,$bar in
	pass,bar*) tap_ok "$name $value, $bar" '' ;;
	FAIL,bar*) tap_ok "$name $bar" "it is $value" ;;
	esac
done <"$dir/said"
tap_done
