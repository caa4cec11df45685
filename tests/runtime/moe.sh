# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# What the tests of the real accel-moe share; they source this file from the top of the tree.

. tests/tap.sh

moe=${BUILD:-build}/bin/accel-moe
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM

# A geometry that runs in no time, yet has all that R1 has: groups, a shared expert, blocks that are
# cut short.
small='--hidden 320 --intermediate 192 --experts 18 --topk 3 --groups 6 --topk-groups 3'

# Enough passes through layers that a test can interfere long before they end.
long="$small --layers 3-100 --warmup 1000 --threads 1"

# expect STATUS COMMAND...: runs it; says nothing if it ends with that status. Its words are in
# $dir/out and $dir/err.
expect() {
	wanted=$1
	shift
	"$@" >"$dir/out" 2>"$dir/err"
	status=$?
	[ $status = "$wanted" ] || {
		echo "exit $status, not $wanted: $*"
		tail -n 5 "$dir/out" "$dir/err"
	}
}

# mentions FILE WORDS: says so where FILE lacks them.
mentions() {
	grep -qF -- "$2" "$1" || {
		echo "nothing about '$2' in:"
		tail -n 8 "$1"
	}
}

# await SECONDS COMMAND...: until it succeeds; says so if it does not in time.
await() {
	end=$(($(date +%s) + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(date +%s)" -le $end ] || {
			echo "in vain: $*"
			return 1
		}
		sleep 0.05
	done
}

# The child processes of $1 in the order in which they were started: for accel-moe, by rank.
children() {
	cat /proc/[0-9]*/stat 2>/dev/null | awk -v parent="$1" '$4 == parent && $3 != "Z" { print $1 }' | sort -n
}

child() {
	children "$1" | sed -n "$(($2 + 1))p"
}

# The processes of a list that are still there and not only waiting to be reaped.
alive() {
	for pid in "$@"; do
		awk '$3 != "Z" { print $1 }' "/proc/$pid/stat" 2>/dev/null
	done
}

none_alive() {
	[ -z "$(alive "$@")" ]
}

judge() {
	/usr/bin/env python3 tests/oracle/moe_files.py 2>&1
}
