#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# accel-moe run --exchange: a layer over accel, over each MPI that is here, and over none, bit for bit the same and
# equal to one process; the report; and what is said where an MPI is missing. No time is judged here.
set -u
. tests/runtime/moe.sh

# shellcheck disable=SC2154 # from moe.sh
bin=${moe%/*}

# same NAME EXCHANGES OPTIONS...: a checked run over these exchanges whose tensors go to $dir/NAME.
same() {
	name=$1
	exchanges=$2
	shift 2
	expect 0 "$moe" run --check --warmup 0 --samples 3 --exchange "$exchanges" --output "$dir/$name" \
		--json "$dir/$name.json" "$@"
	case $exchanges in
	*,*) mentions "$dir/out" 'results are bit-equal over all of them' ;;
	esac
}

# Tensors alone: the metadata names what carried them.
tensors() {
	python3 - "$1" "$2" <<'TENSORS' 2>&1
import struct, sys
data = []
for path in sys.argv[1:]:
    content = open(path, "rb").read()
    data.append(content[8 + struct.unpack("<Q", content[:8])[0]:])
assert len(data[0]) > 0 and data[0] == data[1], "the tensors of %s and %s differ" % tuple(sys.argv[1:])
TENSORS
}

# report NAME EXCHANGES LAYERS LAUNCHER: what the JSON says of the exchanges.
report() {
	python3 - "$dir/$1.json" "$2" "$3" "$4" <<'REPORT' 2>&1
import json, sys
root = json.load(open(sys.argv[1]))
run = root["run"]
assert root["verdict"] == "pass" and run["launcher"] == sys.argv[4], run
assert [x["name"] for x in run["exchange"]] == sys.argv[2].split(","), run["exchange"]
for x in run["exchange"]:
    assert x["samples"] == 3 and [l["layer"] for l in x["layers"]] == [int(n) for n in sys.argv[3].split(",")], x
    for l in x["layers"]:
        assert l["layer_ns"] > 0 and (0 < l["exchange_ns"] < l["layer_ns"]), x
REPORT
}

# shellcheck disable=SC2086,SC2154 # $small is a list of options
{
	tap_ok 'none: the bits of accel, in place and landed, fp8 and bf16' "$(
		for options in '--dtype fp8' '--dtype bf16 --receive landed' '--dtype fp8 --shared-experts 0'; do
			same both accel,none $small --layers 3,5 --ranks 3 --tokens 5,0,9 $options
			report both accel,none 3,5 local
			same none none $small --layers 3,5 --ranks 3 --tokens 5,0,9 $options
			tensors "$dir/both" "$dir/none"
		done)"
	tap_ok 'none: one rank, and no tokens at all' "$(
		same one none,accel $small --ranks 1 --tokens 4
		same empty accel,none $small --ranks 2 --tokens 0)"
	tap_ok 'none: experts with replicas, placed by the warm-up and by a trace' "$(
		expect 0 "$moe" trace record "$dir/trace" --layers 3,5 $small --ranks 3 --tokens 5,0,9 --skew 1
		for options in '--warmup 2' "--warmup 0 --eplb-from $dir/trace"; do
			placed="--layers 3,5 --ranks 3 --tokens 5,0,9 --trace $dir/trace"
			placed="$placed --placement eplb --redundant 6"
			same both accel,none $small $placed $options
			report both accel,none 3,5 local
			same none none $small $placed $options
			tensors "$dir/both" "$dir/none"
		done)"
	for mpi in openmpi mpich; do
		if [ ! -x "$bin/accel-moe-$mpi" ]; then
			tap_skip "$mpi: the bits of accel" "no mpicc.$mpi when this was built"
			continue
		fi
		tap_ok "$mpi: the bits of accel" "$(
			same accel accel $small --layers 3,5 --ranks 3 --tokens 5,0,9
			all=alltoallv,accel,put,window,none
			same all $all --mpi $mpi $small --layers 3,5 --ranks 3 --tokens 5,0,9
			report all $all 3,5 $mpi
			tensors "$dir/accel" "$dir/all"
			same put put --mpi $mpi $small --layers 3 --ranks 2 --tokens 3 --dtype bf16
			same accel accel $small --layers 3 --ranks 2 --tokens 3 --dtype bf16
			tensors "$dir/accel" "$dir/put")"
		tap_ok "$mpi: experts with replicas, placed by the warm-up: the bits of accel" "$(
			placed='--layers 3,5 --ranks 3 --tokens 5,0,9 --skew 1'
			placed="$placed --warmup 1 --placement eplb --redundant 6"
			same accel accel $small $placed
			same placed alltoallv,accel,put,window,none --mpi $mpi $small $placed
			tensors "$dir/accel" "$dir/placed")"
		tap_ok "$mpi: a rank's error ends the run" "$(
			expect 2 "$moe" run --mpi $mpi --exchange alltoallv --ranks 3 --tokens 1,2 $small
			expect 3 "$moe" run --mpi $mpi --exchange alltoallv --ranks 2 --weights "$dir/nowhere")"
	done
}

tap_ok 'nothing of ours links an MPI but the programs named after one' "$(
	for file in "$bin"/accel-moe "$bin"/accel-perf "$bin"/../lib/libaccel.so; do
		ldd "$file" | grep -i mpi | sed "s|^|$file: |"
	done)"

mkdir "$dir/bin"
cp "$moe" "$dir/bin"
ln -s "$PWD/$bin/../lib" "$dir/lib"
tap_ok 'bad names, and what is missing' "$(
	expect 2 "$moe" run --exchange telepathy
	mentions "$dir/err" telepathy
	expect 2 "$moe" run --exchange accel,accel
	mentions "$dir/err" twice
	expect 2 "$moe" run --exchange ,
	expect 2 "$moe" run --mpi lam
	mentions "$dir/err" lam
	expect 3 "$dir/bin/accel-moe" run --exchange alltoallv --mpi mpich
	mentions "$dir/err" 'mpich and libmpich-dev'
	expect 3 "$dir/bin/accel-moe" run --exchange put
	mentions "$dir/err" 'openmpi-bin and libopenmpi-dev'
	RANK=0 WORLD_SIZE=1 expect 2 "$moe" run --exchange put
	mentions "$dir/err" mpirun)"
tap_done
