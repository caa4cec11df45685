#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# Every fuzz target tests/fuzz/NAME.c for a few seconds, from the inputs in tests/fuzz/NAME/ where there are any. An
# input that breaks one is kept in the build folder and named; add it to tests/fuzz/NAME/ with the fix.
# Environment: FUZZ_SECONDS for each target, SEED.
set -u
. tests/tap.sh
BUILD=${BUILD:-build}
seconds=${FUZZ_SECONDS:-7}
seed=${SEED:-$(date +%s)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export ASAN_OPTIONS=allocator_may_return_null=1

echo "# SEED=$seed"
for source in tests/fuzz/*.c; do
	[ -e "$source" ] || continue
	name=$(basename "$source" .c)
	found=$BUILD/fuzz/found/$name-
	mkdir -p "$work/$name" "$BUILD/fuzz/found"
	[ ! -d "tests/fuzz/$name" ] || cp "tests/fuzz/$name"/* "$work/$name/"
	if "$BUILD/fuzz/tests/fuzz/$name" -seed="$((seed % 4294967295))" -max_total_time="$seconds" -timeout=10 \
		-rss_limit_mb=2048 -artifact_prefix="$found" "$work/$name" >"$work/log" 2>&1; then
		tap_ok "$name" ''
		sed -n 's/^Done \([0-9]* runs\).*/# \1/p' "$work/log"
	else
		tap_ok "$name" "$(tail -n 30 "$work/log")"
	fi
done
[ $tap_count != 0 ] || tap_skip 'fuzz targets' 'there are none'
tap_done
