#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# What mk/bench-rdma.sh makes of its measurements, on made-up ones: which is compared with which, and by what bar. That
# the measurements themselves are right is for a guest: tests/vm/bench_rdma.sh.
set -u
. tests/tap.sh

dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

# made DISPATCH_NS REQUESTS: three runs of FP8 rows at 1 and 128 tokens, in which perftest moves a byte a ns, a row
# takes it 10 us and a word 2 us, and MPI takes 40 us and 3 ms. A dispatch of one token takes 15 us.
made() {
	python3 - "$dir" "$1" "$2" <<'MADE'
import json, sys
directory, dispatch_ns, requests = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ROW = 7168 + 224
PERFTEST = {"ib_write_lat": (1, f"{ROW} 200 9.5 30.0 10.0 11.0 1.0 12.0 30.0"),
            "ib_send_lat": (1, "8 200 1.5 30.0 2.0 2.2 1.0 2.0 30.0"),
            "ib_write_bw": (128, f"{ROW} 128 960.0 {1000 / 1.048576} 0.1")}
for run in 1, 2, 3:
    results = []
    for tokens, accel_ns, mpi_ns, wrs in (1, 15000, 40000, 2), (128, dispatch_ns, 3000000, requests):
        for op in "dispatch", "combine", "echo":
            for method, ns in ("accel", accel_ns), ("openmpi-alltoallv", mpi_ns):
                results.append({
                    "id": f"r{len(results) + 1}", "run": 1, "op": op, "method": method, "dtype": "fp8", "ranks": 2,
                    "tokens": tokens, "hidden": 7168, "settings": method[7:] and "--mca pml ucx", "verified": True,
                    "ns": {"median": ns + run}, "work": {"rows": 2 * tokens, "payload_bytes": 0},
                    "counters": {"bytes_wire": 2 * tokens * ROW, "work_requests": 2 * wrs, "bytes_staged": 0}})
    with open(f"{directory}/{run}.ucx.fp8.json", "w") as file:
        json.dump({"schema": "accel-perf/1", "version": "0", "commit": "0", "results": results, "skipped": [],
                   "software": {"openmpi": "4.1.4"}, "host": {"cpu": "c", "cores": 2, "kernel": "6"}}, file)
    for program, (tokens, figures) in PERFTEST.items():
        with open(f"{directory}/{run}.{program}.fp8.{tokens}.1.txt", "w") as file:
            file.write(f"{program} -n 1\n----\n #bytes #iterations what it measured\n {figures}\n----\n")
MADE
}

# says CODE LINE...: what is wrong, if the report does not exit with CODE and print lines that match.
says() {
	want=$1
	shift
	python3 mk/bench_rdma.py $options "$dir" >"$dir/out" 2>&1
	code=$?
	[ $code = "$want" ] || echo "exit $code, not $want: $(tail -n 3 "$dir/out")"
	for line in "$@"; do
		grep -qE "^$line" "$dir/out" || echo "no line '$line' in: $(cat "$dir/out")"
	done
}

if ! python3 -c '' 2>/dev/null; then
	tap_skip 'bench-rdma: what it compares' 'no python3'
	tap_done
fi
options=''
tap_ok 'bench-rdma: an unknown option is refused, and a value that is missing' "$(
	mk/bench-rdma.sh --nonsense 2>&1 | grep -q 'nonsense: not an option' || echo taken
	mk/bench-rdma.sh --devices 2>&1 | grep -q 'devices: not an option, or without' || echo taken
	mk/bench-rdma.sh --devices lo 2>&1 | grep -q 'needs two' || echo taken
	mk/bench-rdma.sh --devices no0,no1 2>&1 | grep -q 'no RDMA device no0' || echo taken)"
tap_ok 'bench-rdma: nothing measured is an error' "$(says 3 'bench-rdma: nothing was measured')"

made 1900000 20
tap_ok 'bench-rdma: all bars met' "$(says 0 \
	'pass  dispatch_to_write_bw_R2_T128_fp8 +1.00  bar >= 0.95, met in 3 of 3' \
	'pass  dispatch_to_write_lat_and_send_lat_R2_T1_fp8 +1.25  bar <= 1.50' \
	'pass  dispatch_to_alltoallv_R2_T1_fp8 +0.38  bar <= 0.67' \
	'pass  dispatch_to_alltoallv_R2_T128_fp8 +0.63  bar <= 1.00' \
	'pass  requests_a_peer_R2_T128_fp8 +1.00  bar <= 1.00' PASS)"
tap_ok 'bench-rdma: its document names what it compares' "$(python3 - "$dir/bench.json" 2>&1 <<'CHECK'
import json, sys
root = json.load(open(sys.argv[1]))
assert root["schema"] == "accel-perf/1" and root["verdict"] == "pass"
results = {r["id"]: r for r in root["results"]}
assert len(results) == len(root["results"]) == 3 * (12 + 3), len(results)
methods = {"write_bw": {"ib_write_bw"}, "write_lat_and_send_lat": {"ib_write_lat", "ib_send_lat"},
           "alltoallv": {"openmpi-alltoallv"}}
for q in root["ratios"]:
    num, den = results[q["num"]], [results[i] for i in (q["den"] or "").split("+") if i]
    assert num["method"] == "accel" and all(d["run"] == num["run"] for d in den), q
    what = q["name"].split("_R2_")[0].split("_to_")
    assert {d["method"] for d in den} == (methods[what[1]] if len(what) > 1 else set()), q
CHECK
)"
tap_ok 'bench-rdma: its table has a line a case' "$(
	grep -qE '^\| 128, FP8 \| 1900 \| 996 \| 1000 \|  \| 3000 \|  \| 20.0 \|$' "$dir/table.md" ||
		cat "$dir/table.md"
	grep -qE '^\| 1, FP8 \| 15.0 \| 985 \|  \| 10.0 \+ 2.0 \| 40.0 \|' "$dir/table.md" || cat "$dir/table.md")"

made 2500000 21
tap_ok 'bench-rdma: what is too slow, or too much, is missed' "$(says 1 \
	'FAIL  dispatch_to_write_bw_R2_T128_fp8 +0.76  bar >= 0.95, met in 0 of 3' \
	'FAIL  requests_a_peer_R2_T128_fp8 +1.05  bar <= 1.00' FAIL)"
options=--quick
tap_ok 'bench-rdma: --quick allows for noise, not for more requests' "$(says 1 \
	'pass  dispatch_to_write_bw_R2_T128_fp8 +0.76  bar >= 0.47, met in 3 of 3' \
	'pass  dispatch_to_alltoallv_R2_T128_fp8 +0.83  bar <= 2.00, met in 3 of 3' \
	'FAIL  requests_a_peer_R2_T128_fp8' FAIL)"
tap_ok 'bench-rdma: what perftest did not measure is named' "$(
	echo 'ib_write_bw -n 1' >"$dir/1.ib_write_bw.fp8.128.1.txt"
	says 1 'skipped ib_write_bw -n 1: no output' 'pass  dispatch_to_write_bw_R2_T128_fp8 .* 2 of 2')"
tap_done
