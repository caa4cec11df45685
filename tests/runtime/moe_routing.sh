#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# accel-moe with routing from outside (traces of every form, drawn skew) and with balanced placements: checked against
# one process by the program itself, and by the oracle, which knows nothing of replicas. And accel-moe trace.
set -u
. tests/runtime/moe.sh

run() {
	name=$1
	shift
	# shellcheck disable=SC2086 # $small is a list of options
	expect 0 "$moe" run --check --seed 7 --layers 3,5 $small --output "$dir/$name" "$@"
}

# oracle NAME-OF-IN NAME-OF-OUT DTYPE
oracle() {
	# shellcheck disable=SC2086
	python3 tests/oracle/moe_oracle.py --weights synthetic --seed 7 --layers 3,5 $small --input "$dir/$1" \
		--output "$dir/$2" --dtype "$3" >"$dir/oracle" 2>&1 || cat "$dir/oracle"
}

# The trace $1 as int32 [tokens, layers, topk] to $2, as base64 in two strings to $3.
dump() {
	python3 - "$1" "$2" "$3" 2>&1 <<-'PYTHON'
		import base64, json, struct, sys
		head, *lines = [json.loads(line) for line in open(sys.argv[1])]
		ids = {layer: [] for layer in head["layers"]}
		for line in lines:
		    ids[line["layer"]] += line["ids"]
		tokens = [sum(rows, []) for rows in zip(*ids.values())]
		raw = b"".join(struct.pack(f"<{len(row)}i", *row) for row in tokens)
		open(sys.argv[2], "wb").write(raw)
		half = len(raw) // 8 * 4 + 4
		text = [base64.encodebytes(part).decode() for part in (raw[:half], raw[half:])]
		open(sys.argv[3], "w").write("".join(text))
	PYTHON
}

shape='--tokens 5,0,9 --ranks 3'

# shellcheck disable=SC2086 # lists of options
{
	tap_ok 'what a run records, a run follows to the same bits' "$(
		run gated $shape --save-input "$dir/in"
		expect 0 "$moe" trace record "$dir/trace" --seed 7 --layers 3,5 $small $shape
		run followed $shape --trace "$dir/trace"
		echo "same $dir/gated $dir/followed" | judge
		expect 0 "$moe" trace record "$dir/again" --seed 7 --layers 3,5 $small $shape --trace "$dir/trace"
		cmp "$dir/trace" "$dir/again")"
	tap_ok "dumps as SGLang's route alike, and uniformly weighted" "$(
		dump "$dir/trace" "$dir/dump.raw" "$dir/dump.base64"
		run raw $shape --trace "$dir/dump.raw" --trace-layers 3,5
		run base64 $shape --trace "$dir/dump.base64" --trace-layers 3,5
		echo "same $dir/raw $dir/base64" | judge
		echo "ids $dir/raw $dir/gated" | judge
		echo "given $dir/in $dir/raw $dir/raw.in" | judge
		oracle raw.in raw fp8)"
	tap_ok 'a trace too short goes round, and says so' "$(
		run round --ranks 2 --tokens 20 --trace "$dir/trace"
		mentions "$dir/err" '14 tokens of layer 3 for 40'
		run whole --ranks 2 --tokens 7 --trace "$dir/trace"
		python3 - "$dir/round" "$dir/whole" 2>&1 <<-'PYTHON'
			import sys
			sys.path.insert(0, "tests/oracle")
			from tensors import File
			long, short = (File(path).get("topk_ids") for path in sys.argv[1:])
			for rank in range(2):
			    for token in range(20):
			        place = (2 * token + rank) % 14
			        row = short[:, place % 2 * 7 + place // 2]
			        if (long[:, rank * 20 + token] != row).any():
			            print(f"rank {rank} token {token} is not token {place} of the trace")
		PYTHON
	)"
	tap_ok 'drawn routing is skewed, valid and the same for other ranks' "$(
		run drawn --ranks 3 --tokens 20,0,40 --skew 1 --save-input "$dir/drawn.in"
		run other --ranks 1 --tokens 60 --skew 1
		echo "routed $dir/drawn $dir/other" | judge
		echo "given $dir/drawn.in $dir/drawn $dir/drawn.given" | judge
		oracle drawn.given drawn fp8
		expect 0 "$moe" trace record "$dir/drawn.trace" --seed 7 --layers 3,5 $small --ranks 3 \
			--tokens 20,0,40 --skew 1
		run again --ranks 3 --tokens 20,0,40 --trace "$dir/drawn.trace"
		echo "routed $dir/drawn $dir/again" | judge)"
	for dtype in fp8 bf16; do
		tap_ok "balanced by the warm-up, $dtype: bit-equal to one process, and right" "$(
			run live --ranks 4 --tokens 12 --dtype $dtype --placement eplb --redundant 6 \
				--save-input "$dir/live.in" --json "$dir/json"
			mentions "$dir/out" 'if experts lay in order'
			oracle live.in live $dtype
			echo "report $dir/json pass" | judge)"
	done
	tap_ok 'balanced within nodes, by a trace' "$(
		run nodes --ranks 4 --tokens 15 --trace "$dir/drawn.trace" --placement eplb --redundant 4 \
			--eplb-nodes 2 --eplb-from "$dir/drawn.trace" --warmup 0 --receive landed \
			--save-input "$dir/nodes.in"
		mentions "$dir/out" 'eplb, hierarchical'
		echo "given $dir/nodes.in $dir/nodes $dir/nodes.given" | judge
		oracle nodes.given nodes fp8)"
	tap_ok 'balancing evens the ranks out' "$(
		run even --ranks 3 --tokens 200 --skew 1 --placement eplb --redundant 6 --json "$dir/json"
		python3 - "$dir/json" 2>&1 <<-'PYTHON'
			import json, sys
			report = json.load(open(sys.argv[1]))
			assert report["run"]["placement"] == "eplb" and report["run"]["redundant"] == 6, report["run"]
			for layer in report["layers"]:
			    routing = layer["routing"]
			    if not 1 <= routing["busiest_rank"] < min(1.1, routing["busiest_rank_in_order"]):
			        print(layer["layer"], routing)
		PYTHON
	)"
	tap_ok 'more slots than twice the experts, and ranks without one' "$(
		run many --ranks 5 --tokens 6 --placement eplb --redundant 30
		bare='--hidden 64 --intermediate 40 --experts 3 --topk 2 --groups 1 --topk-groups 1 --shared-experts 0'
		expect 0 "$moe" run --check $bare --ranks 6 --tokens 4 --placement eplb --redundant 1)"
}

# ---- trace stat ----

# shellcheck disable=SC2086
tap_ok 'trace stat tells what is in the trace' "$(
	expect 0 "$moe" trace stat "$dir/drawn.trace" $small --ranks 4 --placement eplb --redundant 6 \
		--json "$dir/stat"
	mentions "$dir/out" '18 experts, top-3'
	python3 - "$dir/drawn.trace" "$dir/stat" 2>&1 <<-'PYTHON'
		import json, sys
		from collections import Counter
		head, *lines = [json.loads(line) for line in open(sys.argv[1])]
		stat = json.load(open(sys.argv[2]))
		assert stat["schema"] == "accel-trace-stat/1" and [l["layer"] for l in stat["layers"]] == [3, 5]
		for layer in stat["layers"]:
		    ids = [i for line in lines if line["layer"] == layer["layer"] for row in line["ids"] for i in row]
		    load = Counter(ids)
		    assert layer["tokens"] == 60 and layer["choices"] == len(ids) == 180
		    assert layer["hottest_expert_share"] == max(load.values()) / 180
		    assert load[layer["hottest_expert"]] == max(load.values())
		    ranks = [sum(load[e] for e in range(*part)) for part in ((0, 5), (5, 10), (10, 14), (14, 18))]
		    assert abs(layer["busiest_rank_in_order"] - max(ranks) * 4 / 180) < 1e-9
		    assert abs(sum(layer["rank_load"]) - 180) < 1e-9
		    assert abs(layer["busiest_rank"] - max(layer["rank_load"]) * 4 / 180) < 1e-9
		    assert 1 <= layer["busiest_rank"] <= layer["busiest_rank_in_order"]
		    assert sum(c["experts"] for c in layer["histogram"]) == 18
		    assert layer["histogram"][0]["experts"] == 18 - len(load)
	PYTHON
	expect 0 "$moe" trace stat "$dir/dump.base64" $small --trace-layers 3,5
	mentions "$dir/out" base64)"

# ---- what is wrong ----

# refuses STATUS WORDS COMMAND...
refuses() {
	wanted=$1
	words=$2
	shift 2
	expect "$wanted" "$moe" "$@"
	mentions "$dir/err" "$words"
}

# shellcheck disable=SC2086
tap_ok 'what is wrong is named' "$(
	refuses 2 'choose' run $small --trace x --skew 1
	refuses 2 '--skew' run $small --skew 11
	refuses 2 '--trace-layers' run $small --trace x --trace-layers 4,3
	refuses 2 '--placement' run $small --placement best
	refuses 2 '--placement eplb' run $small --redundant 1
	refuses 2 '--warmup' run $small --placement eplb --warmup 0
	refuses 2 '4096 slots' run $small --placement eplb --redundant 4090
	refuses 2 '--eplb-nodes' run $small --placement eplb --eplb-nodes 0
	refuses 3 "$dir/none" run $small --ranks 1 --trace "$dir/none"
	refuses 2 'no token of layer 4' run $small --ranks 1 --layers 4 --trace "$dir/trace"
	refuses 2 'no token of layer 4' run $small --ranks 1 --layers 4 --placement eplb --eplb-from "$dir/trace"
	refuses 2 'of 18 experts, but the model has 256' run --ranks 1 --trace "$dir/trace"
	refuses 2 'which layers' run $small --ranks 1 --trace "$dir/dump.raw"
	refuses 2 'topk_ids' run $small --ranks 1 --layers 3,5 --input "$dir/raw.in" --trace "$dir/trace"
	echo '{"schema":"accel-trace/1","experts":18,"topk":3,"layers":[3]}' >"$dir/bad"
	echo '{"layer":3,"ids":[[1,2,18]]}' >>"$dir/bad"
	refuses 2 'line 2: id 2 of token 0' run $small --ranks 1 --trace "$dir/bad"
	refuses 2 'line 2: id 2 of token 0' trace stat "$dir/bad"
	refuses 2 usage trace
	refuses 2 usage trace stat
	refuses 2 usage trace fly "$dir/trace"
	refuses 3 "$dir/none" trace stat "$dir/none"
	refuses 3 "$dir/no/where" trace record "$dir/no/where" $small --skew 1
	refuses 3 "$dir/no/where" trace record "$dir/no/where" $small --ranks 1
	refuses 2 'leave --exchange out' trace record "$dir/out.trace" $small --ranks 2 --exchange put)"
tap_ok 'trace --help' "$(
	expect 0 "$moe" trace --help
	mentions "$dir/out" 'trace record OUT'
	expect 0 "$moe" trace stat --help)"

tap_done
