#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# accel-perf ffn: a small expert by every method that this machine has, what is said about those it has not, its JSON,
# its exit codes, and what it says to bad options. No time is judged here.
set -u
. tests/tap.sh

perf=${BUILD:-build}/bin/accel-perf
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
tiny='--hidden 256 --intermediate 128 --threads 2 --samples 3'

# exits CODE WORD ARGUMENTS...: what is wrong, if it does not exit with CODE and say WORD.
exits() {
	want=$1
	word=$2
	shift 2
	"$perf" ffn "$@" >"$dir/out" 2>&1
	code=$?
	[ $code = "$want" ] || echo "accel-perf ffn $*: exit $code, not $want: $(head -n 3 "$dir/out")"
	grep -qe "$word" "$dir/out" || echo "accel-perf ffn $*: does not say '$word': $(head -n 3 "$dir/out")"
}

tap_ok '--help' "$(exits 0 '--rows LIST' --help)"
tap_ok 'bad options are named' "$(
	exits 2 '--bogus: no such option' --bogus
	exits 2 'without its value' --rows
	exits 2 'rows 0: not a number' --rows 1,0
	exits 2 'rows 4097: not a number' --rows 4097
	exits 2 'more than 8 numbers' --rows 1,2,3,4,5,6,7,8,9
	exits 2 'samples -1: not a number' --samples -1
	exits 2 'runs 0: not a number' --runs 0
	exits 2 'hidden 100: not a multiple of 128' --hidden 100
	exits 2 'kernels abacus: there are none' --kernels abacus
	exits 2 'extra: not an option' extra)"
# shellcheck disable=SC2086 # a list of words
{
	tap_ok 'two runs, a few rows and many' "$(
		exits 0 '^PASS' $tiny --rows 1,5,40 --runs 2 --json "$dir/two.json")"
	tap_ok 'a look, with the plain kernels' "$(
		exits 0 '^PASS: .*no bar' --quick --kernels ref --hidden 256 --intermediate 128 --rows 2 \
			--json "$dir/ref.json"
		grep -q 'cores, kernels ref, load' "$dir/out" || head -n 1 "$dir/out"
		grep -q '"kernels": *"ref"' "$dir/ref.json" || echo 'the document does not say which kernels')"
	tap_ok 'a file that cannot be written' "$(
		exits 3 'nowhere' $tiny --rows 1 --runs 1 --json "$dir/nowhere/file")"
}

python=$(command -v python3) || {
	tap_skip 'the JSON document' 'no python3'
	tap_done
}
tap_ok 'the JSON document' "$("$python" - "$dir/two.json" 2>&1 <<'CHECK'
import ctypes, importlib.util, json, sys

def loads(library):
    try:
        return bool(ctypes.CDLL(library))
    except OSError:
        return False

root = json.load(open(sys.argv[1]))
assert root["schema"] == "accel-perf/1" and root["verdict"] == "pass" and root["argv"][0] == "ffn"
assert all(r["threads"] == 2 for r in root["results"]), root["results"]
results = {r["id"]: r for r in root["results"]}
skipped = {s["what"]: s["why"] for s in root["skipped"]}
assert all(skipped.values()), skipped
has_bf16 = "avx512bf16" in root["host"]["flags"]
methods = {"accel", "floor"}
for method, key, here in (("openblas", "openblas", loads("libopenblas.so.0")),
                          ("onednn-f32", "onednn", loads("libdnnl.so.2")),
                          ("onednn-bf16", "onednn", has_bf16 and loads("libdnnl.so.2")),
                          ("torch", "torch", bool(importlib.util.find_spec("torch")))):
    # A method is measured with every number of rows, or said to be left out.
    missing = [rows for rows in (1, 5, 40) for run in (1, 2)
               if not any(r["method"] == method and r["rows_m"] == rows and r["run"] == run
                          for r in results.values())]
    if not here:
        assert method in skipped and len(missing) == 6, (method, skipped)
        continue
    wrong = method == "openblas" and any(w.startswith(method) and "wrong results" in why for w, why in skipped.items())
    assert not missing or wrong, (method, missing, skipped)
    assert root["software"][key][0].isdigit(), root["software"]
    methods.add(method)
assert {r["method"] for r in results.values()} <= methods
for r in results.values():
    ns = r["ns"]
    assert 0 < ns["min"] <= ns["p10"] <= ns["median"] <= ns["p90"] <= ns["max"], r
    assert r["op"] == "ffn" and r["verified"] and r["hidden"] == 256 and r["intermediate"] == 128, r
    width = {"accel": 1, "floor": 1, "onednn-bf16": 2, "torch": 2}.get(r["method"], 4)
    weights = 3 * 256 * 128 * width + (3 * 2 * 4 if width == 1 else 0)
    assert r["work"]["payload_bytes"] == weights, r
    if r["method"] != "floor":
        assert r["samples"] == 3 and r["work"]["macs"] == 3 * 256 * 128 * r["rows_m"] and r["settings"], r
names = {q["name"]: q for q in root["ratios"]}
for rows in 1, 5, 40:
    read = names["ffn_m%d_to_read_bound" % rows]
    assert results[read["den"]]["method"] == "floor" and read["bar"] is None and read["runs"] == 2, read
    best = names.get("ffn_m%d_to_best_library" % rows)
    rivals = [r for r in results.values() if r["rows_m"] == rows and r["method"] not in ("accel", "floor")]
    assert bool(best) == bool(rivals), (best, rivals)
    if best:
        num, den = results[best["num"]], results[best["den"]]
        assert num["method"] == "accel" and num["run"] == den["run"], best
        assert den["ns"]["median"] == min(r["ns"]["median"] for r in rivals if r["run"] == den["run"]), best
        assert abs(num["ns"]["median"] / den["ns"]["median"] - best["value"]) <= 1e-3 * best["value"], best
CHECK
)"
tap_done
