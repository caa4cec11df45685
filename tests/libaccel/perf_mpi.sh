#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# accel-perf-openmpi and accel-perf-mpich: each starts its ranks, checks what every method moved and summed, and writes
# the same document as accel-perf. No time is judged here. An MPI whose compiler is not here is skipped.
set -u
. tests/tap.sh

bin=${BUILD:-build}/bin
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
tiny='--tokens 8 --hidden 512 --experts 16 --topk 4 --groups 4 --topk-groups 2 --samples 5 --runs 2'

# exits MPI CODE WORD ARGUMENTS...: what is wrong, if it does not exit with CODE and say WORD.
exits() {
	perf=$bin/accel-perf-$1
	want=$2
	word=$3
	shift 3
	timeout 60 "$perf" "$@" >"$dir/out" 2>&1
	code=$?
	[ $code = "$want" ] || echo "$perf $*: exit $code, not $want: $(tail -n 3 "$dir/out")"
	grep -qe "$word" "$dir/out" || echo "$perf $*: does not say '$word': $(tail -n 3 "$dir/out")"
}

document() {
	python3 - "$1" "$dir/$1.json" "$2" 2>&1 <<'CHECK'
import json, sys
mpi, root, world = sys.argv[1], json.load(open(sys.argv[2])), int(sys.argv[3])
assert root["schema"] == "accel-perf/1" and root["verdict"] == "pass" and not root["skipped"], root["skipped"]
assert root["software"][mpi][0].isdigit(), root["software"]
results = {r["id"]: r for r in root["results"]}
peers = {f"{mpi}-alltoallv", f"{mpi}-put", "mpi3-window"}
for r in results.values():
    assert r["verified"] and r["ranks"] == world and r["samples"] == 5 and 0 < r["ns"]["min"] <= r["ns"]["median"], r
    assert (r["method"] in peers) == bool(r.get("settings")), r
seen = {(r["op"], r["method"], r["dtype"]) for r in results.values()}
for method in peers | {"accel", "floor"}:
    for op, dtype in ("dispatch", "bf16"), ("dispatch", "fp8"), ("echo", "bf16"), ("echo", "fp8"), ("combine", "bf16"):
        assert (op, method, dtype) in seen, (op, method, dtype)
assert root["ratios"] and all(q["bar"] is None for q in root["ratios"]), root["ratios"]
for q in root["ratios"]:
    num, den = results[q["num"]], results[q["den"]]
    assert num["method"] == "accel" and den["method"] in peers and num["op"] == den["op"], q
CHECK
}

# That both ranks' times and rows are in the document that the first one writes.
apart() {
	python3 - "$1" 2>&1 <<'CHECK'
import json, sys
root = json.load(open(sys.argv[1]))
assert root["host"]["hosts"] == 2 and "hand_over_ns_max" not in root["host"], root["host"]
seen = {(r["op"], r["method"]) for r in root["results"]}
assert {("dispatch", "accel"), ("echo", "openmpi-alltoallv"), ("combine", "floor")} <= seen, seen
for r in root["results"]:
    assert r["verified"] and all(ns > 0 for ns in r["per_rank_median_ns"]), r
    assert r["ns"]["median"] >= max(r["per_rank_median_ns"]) and r["ns"]["max"] < 10e9, r
    # 8 tokens of 4 experts each, on two ranks' routings: some token of each goes to one or both.
    assert 8 <= r["work"]["rows"] <= 16, r
CHECK
}

# shellcheck disable=SC2086 # a list of words
for mpi in openmpi mpich; do
	if ! [ -x "$bin/accel-perf-$mpi" ]; then
		tap_skip "$mpi" "no mpicc.$mpi when this was built"
		continue
	fi
	tap_ok "$mpi: --help and bad options" "$(
		exits $mpi 0 'MPI_Alltoallv' --help
		exits $mpi 2 'bogus: no such option' --bogus
		exits $mpi 2 'mpirun needs its words' --mpirun
		exits $mpi 2 'base pages' --huge
		exits $mpi 2 'rocket: not shm' --transport rocket)"
	tap_ok "$mpi: two ranks" "$(exits $mpi 0 '^PASS' $tiny --json "$dir/$mpi.json")"
	tap_ok "$mpi: its document" "$(document $mpi 2)"
	tap_ok "$mpi: three ranks" "$(exits $mpi 0 '^PASS' $tiny --ranks 3 --json "$dir/$mpi.json" && document $mpi 3)"
	if [ $mpi = openmpi ]; then
		tap_ok "$mpi: by TCP, Alltoallv alone" "$(
			exits $mpi 0 '^PASS' --tcp $tiny --json "$dir/$mpi.json"
			grep -q 'btl self,tcp' "$dir/$mpi.json" && ! grep -q 'mpi3-window' "$dir/$mpi.json" ||
				echo "not by TCP: $(grep -m 1 settings "$dir/$mpi.json")")"
		# One machine passes for two.
		printf '#!/bin/sh\n. "%s/tests/libaccel/rsh_agent.sh"\n' "$PWD" >"$dir/agent" && chmod +x "$dir/agent"
		hosts="--host first,second --mca plm_rsh_agent $dir/agent"
		tap_ok "$mpi: two hosts, whose ranks share nothing" "$(
			exits $mpi 0 '^PASS' --tcp --mpirun "$hosts" $tiny --json "$dir/$mpi.json"
			apart "$dir/$mpi.json")"
		tap_ok "$mpi: two hosts have no shared memory to measure" "$(
			exits $mpi 2 'several hosts have no shared memory' --mpirun "$hosts" $tiny)"
	else
		tap_ok "$mpi: what is for Open MPI is refused" "$(exits $mpi 2 'with Open MPI' --tcp)"
	fi
	tap_ok "$mpi: a file that cannot be written" "$(exits $mpi 3 nowhere $tiny --json "$dir/nowhere/file")"
done
tap_done
