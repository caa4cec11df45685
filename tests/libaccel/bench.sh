#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# What make bench makes of its measurements, on tiny ones: one document in which every number still names its result, a
# table, plots, and a verdict that is that of the parts. No time is judged here.
set -u
. tests/tap.sh

bin=${BUILD:-build}/bin
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
tiny='--hidden 256 --experts 16 --topk 4 --groups 4 --topk-groups 2 --samples 5 --runs 2'

tap_ok 'bench: an unknown option is refused' "$(
	mk/bench.sh --nonsense 2>&1 | grep -q 'nonsense: not an option' || echo taken)"
if ! command -v gnuplot >/dev/null || ! command -v python3 >/dev/null; then
	tap_skip 'bench: its document, table and plots' 'no gnuplot, or no python3'
	tap_done
fi
# shellcheck disable=SC2086 # a list of words
for name in a b; do
	echo "$name accel-perf ep --tokens 1,8 $tiny" >>"$dir/plan"
	"$bin/accel-perf" ep --tokens 1,8 $tiny --json "$dir/$name.json" >/dev/null 2>&1
done
echo 'c accel-perf-openmpi' >>"$dir/plan"
echo 'c: it was not built' >"$dir/skipped"
tap_ok 'bench: parts that pass make a whole that passes' "$(
	python3 mk/bench_report.py "$dir" 'make bench' >"$dir/out" 2>&1 || cat "$dir/out"
	grep -qx 'PASS: 0 of 0 bars met' "$dir/out" || cat "$dir/out")"
tap_ok 'bench: its document' "$(python3 - "$dir" 2>&1 <<'CHECK'
import json, sys
load = lambda name: json.load(open(f"{sys.argv[1]}/{name}.json"))
whole, parts = load("bench"), [load("a"), load("b")]
assert whole["schema"] == "accel-perf/1" and whole["verdict"] == "pass" and set(whole["commands"]) == {"a", "b"}
assert whole["skipped"] == [{"what": "c", "why": "it was not built"}], whole["skipped"]
results = {r["id"]: r for r in whole["results"]}
assert len(results) == len(whole["results"]) == sum(len(part["results"]) for part in parts)
for q in whole["ratios"]:
    assert all(results[i]["made_by"] == q["made_by"] for i in [q["num"], *(q["den"] or q["num"]).split("+")]), q
    if q["den"]:
        value = results[q["num"]]["ns"]["median"] / sum(results[i]["ns"]["median"] for i in q["den"].split("+"))
        assert abs(value - q["value"]) <= 1e-3 * value, q
CHECK
)"
tap_ok 'bench: an in-place dispatch has its echo beside it in the table' "$(
	grep -E '^\| 2 \| 8, ' "$dir/table.md" >"$dir/rows"
	[ "$(wc -l <"$dir/rows")" = 6 ] || cat "$dir/table.md"
	awk -F '|' '$4 !~ /x\)/ || $5 !~ /x\)/' "$dir/rows")"
tap_ok 'bench: plots' "$(
	for plot in dispatch-r2-bf16 echo-r2-bf16 combine-r2-bf16 dispatch-r2-fp8 echo-r2-fp8; do
		head -c 8 "$dir/$plot.png" 2>&1 | grep -aq PNG || echo "no $plot.png"
	done)"
sed -i 's/"verdict": "pass"/"verdict": "fail"/' "$dir/b.json"
tap_ok 'bench: one part that fails fails the whole' "$(
	python3 mk/bench_report.py "$dir" 'make bench' >"$dir/out" 2>&1
	[ $? = 1 ] && grep -q '^FAIL' "$dir/out" || cat "$dir/out")"
rm "$dir/a.json" "$dir/b.json"
tap_ok 'bench: nothing measured is an error' "$(
	python3 mk/bench_report.py "$dir" 'make bench' >"$dir/out" 2>&1
	[ $? = 3 ] || cat "$dir/out")"
tap_done
