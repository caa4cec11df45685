#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# make demo: installs what is missing, builds, and runs two DeepSeek-R1 MoE layers across four ranks
# of this machine, checked against one process and against a script that shares no code with the
# product.
set -u
cd "$(dirname "$0")/.." || exit
unset MAKEFLAGS MFLAGS MAKELEVEL
# Debian's python3 first: that is the one whose modules mk/deps.sh installs.
export PATH="/usr/bin:/bin:$PATH" BUILD="${BUILD:-build}"
layers=3,4
seed=1

mk/deps.sh build demo || exit
make -s -j"$(nproc)" BUILD="$BUILD" all || exit
dir=$(mktemp -d "$BUILD/demo.XXXXXX") || exit
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
start=$(date +%s)

cat <<'TEXT'

Two MoE layers of DeepSeek-R1 at full size, eight tokens on each of four ranks: processes that share
memory. Each rank chooses experts for its tokens, sends their rows as FP8 to the ranks that own those
experts (dispatch), and brings the weighted results back (combine). Weights come from a seed. One
process then does all of it again, to compare bit for bit, which takes longest.

TEXT
"$BUILD/bin/accel-moe" run --layers $layers --tokens 8 --ranks 4 --weights synthetic --seed $seed --dtype fp8 --check \
	--save-input "$dir/in" --output "$dir/out"
one_process=$?

cat <<'TEXT'

Now the same layers in numpy, from the tokens and the seed alone: a script that shares no code with accel.

TEXT
oracle=3
if [ -e "$dir/out" ]; then
	python3 tests/oracle/moe_oracle.py --weights synthetic --seed $seed --layers $layers --dtype fp8 \
		--input "$dir/in" --output "$dir/out"
	oracle=$?
fi

verdict() {
	[ "$1" = 0 ] && echo passed || echo "FAILED (exit $1)"
}

[ $one_process = 0 ] && [ $oracle = 0 ] && word=PASS || word=FAIL
printf '\n%s: bit for bit against one process: %s; against numpy: %s; %d s\n' $word "$(verdict $one_process)" \
	"$(verdict $oracle)" $(($(date +%s) - start))
[ $word = PASS ]
