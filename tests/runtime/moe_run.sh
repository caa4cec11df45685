#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# accel-moe run and synth as users call them, on small models: golden layers, every way to receive,
# uneven and empty ranks, given routing, the report, and what it says about input that is missing or
# wrong.
set -u
. tests/runtime/moe.sh

golden=tests/golden/moe

# run NAME OPTIONS...: a checked run whose tensors go to $dir/NAME.
run() {
	name=$1
	shift
	expect 0 "$moe" run --check --warmup 0 --output "$dir/$name" "$@"
}

# oracle NAME-OF-IN NAME-OF-OUT OPTIONS...
oracle() {
	in=$dir/$1
	out=$dir/$2
	shift 2
	python3 tests/oracle/moe_oracle.py --input "$in" --output "$out" "$@" >"$dir/oracle" 2>&1 || cat "$dir/oracle"
}

# golden_layer MODEL LAYER TOKENS RANKS DTYPE: in place and landed, the same bits, and those that
# the golden layer allows.
golden_layer() {
	for receive in in_place landed; do
		run $receive --weights $golden/$1 --layers "$2" --input $golden/$1/t$3/input.safetensors --ranks "$4" \
			--dtype "$5" --receive $receive --residual none
	done
	judge <<-JOBS
		same $dir/in_place $dir/landed
		golden $dir/landed $golden/$1/t$3/layer$2.safetensors $5
	JOBS
}

while read -r model layer tokens ranks dtype; do
	tap_ok "golden $model, layer $layer, $tokens tokens, $ranks ranks, $dtype" \
		"$(golden_layer "$model" "$layer" "$tokens" "$ranks" "$dtype")"
done <<CASES
tiny 1 48 1 fp8
tiny 2 48 3 fp8
tiny 1 48 4 bf16
tiny 2 1 2 bf16
tiny 1 0 3 fp8
ragged 0 24 3 bf16
ragged 0 24 2 fp8
ragged 0 1 4 fp8
ragged 0 0 2 bf16
CASES

# ---- the same again, uneven, routed from outside ----

# shellcheck disable=SC2086 # $small is a list of options
{
	tap_ok 'ranks with 5, 0 and 3 tokens; twice the same bits' "$(
		for n in 1 2; do
			run uneven$n --layers 3,5 --tokens 5,0,3 --ranks 3 --seed 7 $small --scores \
				--save-input "$dir/in"
		done
		cmp "$dir/uneven1" "$dir/uneven2"
		oracle in uneven1 --weights synthetic --seed 7 --layers 3,5 $small)"
	tap_ok 'a checkpoint that synth wrote is the synthetic weights' "$(
		expect 0 "$moe" synth "$dir/checkpoint" --seed 7 --layers 3,5 $small --shard-bytes 300000
		run checkpoint.out --weights "$dir/checkpoint" --layers 3,5 --input "$dir/in" --ranks 3 --scores
		echo "same $dir/uneven1 $dir/checkpoint.out" | judge
		oracle in checkpoint.out --weights "$dir/checkpoint" --layers 3,5)"
	tap_ok 'routing given in the input: repeated experts and none' "$(
		echo "route $dir/in $dir/routed 2 18 3 1" | judge
		for dtype in fp8 bf16; do
			run routed.$dtype --layers 3,5 --input "$dir/routed" --ranks 4 --seed 7 $small --dtype $dtype
			oracle routed routed.$dtype --weights synthetic --seed 7 --layers 3,5 $small --dtype $dtype
		done)"
	tap_ok 'one group, no shared expert, more ranks than experts' "$(
		bare='--hidden 64 --intermediate 40 --experts 5 --topk 2 --groups 1 --topk-groups 1 --shared-experts 0'
		run bare --layers 3 --tokens 9 --ranks 7 $bare --save-input "$dir/bare.in" --threads 1
		oracle bare.in bare --weights synthetic --layers 3 $bare)"
	tap_ok 'options in the environment do not bend what was asked for' "$(
		export ACCEL_OPTS=dtype=fp8,quant=mul,receive=landed,combine_input=expert,lanes=3
		run bf16 --layers 3,5 --ranks 3 --seed 7 --input "$dir/in" $small --dtype bf16
		oracle in bf16 --weights synthetic --seed 7 --layers 3,5 $small --dtype bf16
		run fp8 --layers 3,5 --ranks 3 --seed 7 --input "$dir/in" $small --scores
		echo "same $dir/fp8 $dir/uneven1" | judge
		export ACCEL_OPTS=wings=2
		expect 2 "$moe" run --ranks 1 $small
		mentions "$dir/err" wings)"
	tap_ok 'the report has every field' "$(
		run json.out --ranks 2 $small --json "$dir/json"
		mentions "$dir/out" PASS
		echo "report $dir/json pass" | judge
		expect 0 "$moe" run --ranks 2 $small --json - && cp "$dir/out" "$dir/json"
		echo "report $dir/json pass" | judge)"
}

# ---- help, and bad input ----

tap_ok '--help' "$(
	expect 0 "$moe" --help
	mentions "$dir/out" synth
	expect 0 "$moe" run --help
	mentions "$dir/out" --timeout-ms
	expect 0 "$moe" synth --help
	expect 0 "$moe" --version)"

# refuses STATUS WORDS OPTIONS...: of run; the words are in what it says.
refuses() {
	wanted=$1
	words=$2
	shift 2
	expect "$wanted" "$moe" run "$@"
	mentions "$dir/err" "$words"
}

tap_ok 'a command line that is wrong' "$(
	expect 2 "$moe"
	expect 2 "$moe" fly
	mentions "$dir/err" fly
	refuses 2 --wings --wings 2
	refuses 2 twelve --ranks twelve
	refuses 2 --ranks --ranks 0
	refuses 2 stray stray
	refuses 2 fp4 --dtype fp4
	refuses 2 --tokens --ranks 3 --tokens 1,2
	refuses 2 4,3 --layers 4,3
	refuses 2 --timeout-ms --timeout-ms 0
	refuses 2 experts --experts 10
	refuses 2 'layer 0' --weights $golden/tiny --layers 0)"

# A copy of the tiny model to damage.
damaged=$dir/damaged
mkdir "$damaged"
cp $golden/tiny/*.json $golden/tiny/*.safetensors "$damaged"
index=$damaged/model.safetensors.index.json
shard=model-00002-of-00002.safetensors
tensor=model.layers.2.mlp.experts.7.up_proj.weight
tiny_in=$golden/tiny/t1/input.safetensors

tap_ok 'a checkpoint that is missing or damaged' "$(
	refuses 3 "$dir/nowhere" --weights "$dir/nowhere"
	sed -i "s/$tensor\"/$tensor.gone\"/" "$index"
	refuses 3 $tensor --weights "$damaged" --layers 2 --input $tiny_in --ranks 2
	cp $golden/tiny/*.json "$damaged"
	truncate -s -1 "$damaged/$shard"
	refuses 2 $shard --weights "$damaged" --layers 2 --input $tiny_in --ranks 2
	rm "$damaged/$shard"
	refuses 3 $shard --weights "$damaged" --layers 2 --input $tiny_in --ranks 2)"

tap_ok 'an input that does not fit' "$(
	refuses 2 256 --weights $golden/tiny --layers 1 --input $golden/ragged/t1/input.safetensors
	refuses 3 "$dir/nothing" --weights $golden/tiny --layers 1 --input "$dir/nothing"
	refuses 2 --save-input --weights $golden/tiny --layers 1 --input $tiny_in --save-input "$dir/x")"

tap_ok 'an output that cannot be written, and a report of that' "$(
	refuses 3 "$dir/no/out" --weights $golden/tiny --layers 1 --input $tiny_in --output "$dir/no/out" \
		--json "$dir/json"
	echo "report $dir/json fail" | judge)"

tap_done
