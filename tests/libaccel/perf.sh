#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# accel-perf: a tiny exchange measured by every method, its JSON, its exit codes, what it says to bad options, and
# documents compared. No time is judged here.
set -u
. tests/tap.sh

perf=${BUILD:-build}/bin/accel-perf
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
tiny='--hidden 256 --experts 16 --topk 4 --groups 4 --topk-groups 2 --samples 9 --runs 2'

# exits CODE WORD ARGUMENTS...: what is wrong, if it does not exit with CODE and say WORD.
exits() {
	want=$1
	word=$2
	shift 2
	"$perf" "$@" >"$dir/out" 2>&1
	code=$?
	[ $code = "$want" ] || echo "accel-perf $*: exit $code, not $want: $(head -n 3 "$dir/out")"
	grep -qe "$word" "$dir/out" || echo "accel-perf $*: does not say '$word': $(head -n 3 "$dir/out")"
}

tap_ok 'without a command: usage' "$(exits 2 'usage:')"
tap_ok 'an unknown command is named' "$(exits 2 'nonsense: no such command' nonsense)"
tap_ok '--help and --version' "$(exits 0 'usage:' --help; exits 0 '^accel-perf [0-9.]* (' --version)"
tap_ok 'ep --help' "$(exits 0 '--tokens LIST' ep --help)"
tap_ok 'ffn --help' "$(exits 0 'usage:' ffn --help)"
tap_ok 'ep: bad options are named' "$(
	exits 2 '--bogus: no such option' ep --bogus
	exits 2 'without its value' ep --tokens
	exits 2 'tokens 0: not a number' ep --tokens 1,0
	exits 2 'tokens x: not a number' ep --tokens x
	exits 2 'ranks 65: not a number' ep --ranks 65
	exits 2 'samples -1: not a number' ep --samples -1
	exits 2 'seed 1x: not a number' ep --seed 1x
	exits 2 'skew hot: not a number' ep --skew hot
	exits 2 'skew 11: not a number from 0 to 10' ep --skew 11
	exits 2 'skew 1x: not a number' ep --skew 1x
	exits 2 'neither: not in_place, landed or both' ep --receive neither
	exits 2 'f64: not bf16, fp8 or both' ep --dtype f64
	exits 2 'all: not rank, expert or both' ep --combine all
	exits 2 'rocket: not shm, verbs or auto' ep --transport rocket
	exits 2 'not names with commas' ep --devices rxe1,,rxe2
	exits 2 'not names with commas' ep --devices ''
	exits 2 'more than 16 names' ep --devices 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17
	exits 2 'devices is for --transport verbs' ep --transport shm --devices rxe1
	exits 2 'extra: not an option' ep extra)"
tap_ok 'ep: impossible shapes are explained' "$(
	exits 2 'experts 10: not a multiple of the 4 groups' ep --experts 10 --groups 4 --topk-groups 2
	exits 2 'topk-groups 9: there are 8 groups' ep --topk-groups 9
	exits 2 'the 1 kept groups hold 2 experts' ep --experts 16 --topk 4 --topk-groups 1
	exits 2 'ranks 5: more than the 4 experts' ep --ranks 5 --experts 4 --groups 1 --topk-groups 1 --topk 1
	exits 2 'hidden' ep --hidden 7 --tokens 1 --samples 1 --runs 1)"
# shellcheck disable=SC2086 # a list of words
{
	tap_ok 'ep: a file that cannot be written' "$(
		exits 3 'nowhere' ep $tiny --tokens 1 --json "$dir/nowhere/file")"
	tap_ok 'ep: two ranks' "$(exits 0 '^PASS' ep $tiny --tokens 1,5 --skew 1.5 --json "$dir/two.json")"
	tap_ok 'ep: three ranks, one way' "$(
		exits 0 '^PASS' ep $tiny --tokens 3 --ranks 3 --receive landed --dtype fp8 --combine expert \
			--json "$dir/three.json")"
	tap_ok 'ep: one rank' "$(exits 0 '^PASS' ep $tiny --tokens 2 --ranks 1 --dtype bf16)"
	tap_ok 'ep: what does not fit is skipped, and with nothing left that is an error' "$(
		exits 3 'skipped: needs' ep --tokens 1048576 --ranks 64 --runs 1 --dtype bf16 --combine rank
		exits 3 'nothing was measured' ep --tokens 1048576 --ranks 64 --runs 1 --dtype bf16 --combine rank)"
}

tap_ok 'ep: an in-place dispatch always has its echo beside it' "$(
	"$perf" ep --tokens 1 --samples 1 --runs 1 --hidden 256 --combine rank |
		awk '/ in place / && split($0, number, /[0-9]x/) < 3')"

# document CPU SCHEMA MEDIAN...: one of a result a run, each from 5 % below to 5 % above its median.
document() {
	printf '{"schema":"%s","host":{"cpu":"%s"},"results":[' "$2" "$1"
	shift 2
	sep=
	for median in "$@"; do
		printf '%s{"op":"echo","method":"accel","tokens":8,"skew":0.0,' "$sep"
		printf '"ns":{"p10":%d,"median":%d,"p90":%d}}' $((median * 95 / 100)) "$median" $((median * 105 / 100))
		sep=,
	done
	echo ']}'
}
document A accel-perf/1 1000 1010 1020 >"$dir/old.json"
document A accel-perf/1 1020 >"$dir/same.json"
document B accel-perf/1 1200 1300 1250 >"$dir/slow.json"
document A accel-perf/1 800 >"$dir/fast.json"
document A accel-perf/2 800 >"$dir/other.json"
sed 's/echo/dispatch/g' "$dir/old.json" >"$dir/alien.json"
tap_ok 'diff: medians, their ratio, and what is beyond noise' "$(
	exits 0 'usage: accel-perf diff' diff --help
	exits 0 '  1.0  *1.0  *1.010   *echo accel tokens=8$' diff "$dir/old.json" "$dir/same.json"
	exits 0 '  1.0  *1.2  *1.238  slower  echo accel' diff "$dir/old.json" "$dir/slow.json"
	exits 0 'CPUs differ: A, B' diff "$dir/old.json" "$dir/slow.json"
	exits 0 '  0.792  faster' diff "$dir/old.json" "$dir/fast.json")"
tap_ok 'diff: --fail-above' "$(
	exits 1 'FAIL: 1 of 1 results are slower by more than 20 %' diff --fail-above 20 "$dir/old.json" \
		"$dir/slow.json"
	exits 0 slower diff --fail-above 24 "$dir/old.json" "$dir/slow.json"
	exits 0 1.010 diff --fail-above 0.5 "$dir/old.json" "$dir/same.json"
	exits 0 faster diff --fail-above 0 "$dir/old.json" "$dir/fast.json")"
tap_ok 'diff: what it refuses' "$(
	exits 2 'usage: accel-perf diff' diff "$dir/old.json"
	exits 2 'x: not a percentage' diff --fail-above x "$dir/old.json" "$dir/old.json"
	exits 2 'other.json: not a document of schema accel-perf/1' diff "$dir/old.json" "$dir/other.json"
	exits 2 'has no result that the other has' diff "$dir/old.json" "$dir/alien.json"
	exits 3 'nowhere' diff "$dir/old.json" "$dir/nowhere.json")"

if ! command -v python3 >/dev/null; then
	tap_skip 'ep: the JSON document' 'no python3'
	tap_done
fi
tap_ok 'ep: the JSON document' "$(python3 - "$dir/two.json" "$dir/three.json" 2>&1 <<'CHECK'
import json, sys
for path, world in zip(sys.argv[1:], (2, 3)):
    root = json.load(open(path))
    assert root["schema"] == "accel-perf/1" and root["verdict"] == "pass" and root["argv"][0] == "ep"
    for key in "version", "commit", "host", "software", "skipped":
        assert key in root, key
    assert root["host"]["cores"] >= 1 and root["host"]["page_bytes"] >= 4096
    results = {r["id"]: r for r in root["results"]}
    assert len(results) == len(root["results"]) > 0
    for r in results.values():
        ns = r["ns"]
        assert all(isinstance(v, int) for v in ns.values()), r
        assert 0 < ns["min"] <= ns["p10"] <= ns["median"] <= ns["p90"] <= ns["max"], r
        assert r["verified"] and r["ranks"] == world == len(r["per_rank_median_ns"]) and r["samples"] == 9, r
        assert r["skew"] == (1.5 if world == 2 else 0), r
        assert r["work"]["rows"] > 0 and r["work"]["payload_bytes"] > 0, r
        moved = r["counters"]
        assert moved["bytes_staged"] == 0 and moved["bytes_wire"] == 0, r
        landed = r.get("receive") == "landed" and r["op"] in ("dispatch", "echo")
        assert (moved["bytes_landed"] > 0) == landed, r
        quantised = r["method"] == "accel" and r["dtype"] == "fp8" and r["x_dtype"] == "bf16" and r["op"] != "combine"
        assert (moved["bytes_quantised"] > 0) == quantised, r
    for q in root["ratios"]:
        num = results[q["num"]]
        if q["den"] is None:
            value = num["work"]["payload_bytes"] / max(num["per_rank_median_ns"])
            assert q["unit"] == "GB/s" and num["op"] == "quant", q
        else:
            value = num["ns"]["median"] / sum(results[i]["ns"]["median"] for i in q["den"].split("+"))
        assert abs(value - q["value"]) <= 1e-3 * q["value"], q
        assert q["bar"] is None and q["pass"] and q["runs"] == 2, q
    seen = {(r["op"], r["method"], r.get("receive")) for r in results.values()}
    want = {("dispatch", "floor", None), ("echo", "floor", None), ("combine", "floor", None), ("quant", "floor", None),
            ("dispatch", "accel", "landed"), ("echo", "accel", "landed"), ("combine", "accel", "landed")}
    if world == 2:
        want |= {(op, "accel", "in_place") for op in ("dispatch", "echo", "combine")}
    assert seen == want, seen ^ want
CHECK
)"
tap_done
