#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# make bench: installs what is missing, builds, and measures the exchange, quantising and the experts beside every floor
# and peer. Writes $BUILD/bench: bench.json (all results, schema accel-perf/1), table.md, a .png a plot, and what each
# program said in .log files.
#
#     mk/bench.sh [--quick]
#
# --quick takes less than 3 minutes, all of it about 15, on two cores that do nothing else.
# Exit: 0 all bars met, 1 one was missed or a result is wrong, 2 usage, 3 something is missing.
set -u
cd "$(dirname "$0")/.." || exit 3
unset MAKEFLAGS MFLAGS MAKELEVEL
export PATH="/usr/bin:/bin:$PATH" BUILD="${BUILD:-build}"
quick=
case "${1-}" in
'') ;;
--quick) quick=--quick ;;
--help) sed -n '5,14s/^# \{0,1\}//p' "$0"; exit 0 ;;
*) echo "bench: $1: not an option; there is --quick" >&2; exit 2 ;;
esac

mk/deps.sh build bench || exit
make -s -j"$(nproc)" BUILD="$BUILD" tools || exit 3
out=$BUILD/bench
rm -rf "$out" && mkdir -p "$out" || exit 3
trap 'exit 130' INT TERM
began=$(date +%s)
verdict=0
done=0

# Lines of: NAME PROGRAM ARGUMENTS. Three runs where there are bars, one elsewhere.
plan() {
	if [ -n "$quick" ]; then
		cat <<'PLAN'
r2 accel-perf ep --tokens 8,128 --runs 1
r2-openmpi accel-perf-openmpi --tokens 8,128 --runs 1
r2-mpich accel-perf-mpich --tokens 8,128 --runs 1
r4-openmpi accel-perf-openmpi --ranks 4 --tokens 128 --runs 1 --dtype fp8
ffn accel-perf ffn --rows 1,16 --samples 5
PLAN
		return
	fi
	cat <<'PLAN'
r2 accel-perf ep --tokens 1,8,32,128,512,4096 --runs 3
r2-openmpi accel-perf-openmpi --tokens 1,8,32,128 --runs 3
r2-mpich accel-perf-mpich --tokens 1,8,32,128 --runs 3
r2-openmpi-large accel-perf-openmpi --tokens 512,4096 --runs 1
r2-mpich-large accel-perf-mpich --tokens 512,4096 --runs 1
r4 accel-perf ep --ranks 4 --tokens 128 --runs 3 --combine rank
r4-openmpi accel-perf-openmpi --ranks 4 --tokens 128 --runs 3
r4-mpich accel-perf-mpich --ranks 4 --tokens 128 --runs 1
r4-range accel-perf-openmpi --ranks 4 --tokens 1,8,32,512,4096 --runs 1
r8 accel-perf ep --ranks 8 --tokens 128 --runs 3 --combine rank
r8-openmpi accel-perf-openmpi --ranks 8 --tokens 128 --runs 3
r8-mpich accel-perf-mpich --ranks 8 --tokens 128 --runs 1
r8-range accel-perf-openmpi --ranks 8 --tokens 1,8,32,512,4096 --runs 1
ffn accel-perf ffn --rows 1,4,16,64
PLAN
	"$BUILD/bin/accel-perf" ep --help | grep -q -e '--skew' || return 0
	cat <<'PLAN'
r2-skew accel-perf ep --tokens 128 --runs 1 --combine rank --skew 1
r8-skew accel-perf ep --ranks 8 --tokens 128 --runs 1 --combine rank --skew 1
PLAN
}

# $1 name, rest: program and arguments.
measure() {
	name=$1
	shift
	done=$((done + 1))
	printf 'bench: %d of %d, %d s: %s\n' $done "$steps" $(($(date +%s) - began)) "$*" >&2
	if ! [ -x "$BUILD/bin/$1" ]; then
		echo "$name: $1 was not built: its MPI is missing" >>"$out/skipped"
		return
	fi
	"$BUILD/bin/$@" --json "$out/$name.json" >"$out/$name.log" </dev/null
	code=$?
	[ $code -le 1 ] && [ -e "$out/$name.json" ] && return
	echo "$name: exit $code: $(tail -n 1 "$out/$name.log")" >>"$out/skipped"
	tail -n 3 "$out/$name.log" >&2
	verdict=3
}

plan >"$out/plan"
steps=$(wc -l <"$out/plan")
while read -r line; do
	# shellcheck disable=SC2086 # a list of words
	measure $line
done <"$out/plan"

python3 mk/bench_report.py "$out" "make bench${quick:+ QUICK=1}"
code=$?
[ $verdict != 0 ] || verdict=$code
printf 'bench: %d s; %s\n' $(($(date +%s) - began)) "$(cd "$out" && echo "$out/bench.json" table.md ./*.png)"
exit $verdict
