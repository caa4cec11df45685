#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# make stress: fails every system call of a rank in turn, then runs random exchanges with random faults (tests/stress),
# half of the time as threads and half as processes. A failure prints the case and the command that repeats it.
# Environment: MINUTES, SEED, BUILD.
set -u
cd "$(dirname "$0")/.." || exit
export BUILD="${BUILD:-build}" MINUTES="${MINUTES:-1}"
case $MINUTES in
'' | *[!0-9]* | 0)
	echo "stress: MINUTES is '$MINUTES', not a number from 1 on" >&2
	exit 2
	;;
esac
log=$(mktemp) || exit
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM

echo "stress: failing every call in turn, then $MINUTES min of random cases"
for program in sweep random; do
	{ "$BUILD/tests/stress/$program.t" || echo "not ok $program: exit $?"; } 2>&1 | tee -a "$log"
done
failed=$(grep -c '^not ok' "$log")
calls=$(awk '/calls failed$/ { n += $2 } END { print n + 0 }' "$log")
cases=$(awk '/cases were sound$/ { n += $2 } END { print n + 0 }' "$log")
[ "$failed" = 0 ] && word=PASS || word=FAIL
echo "$word: $calls calls failed in turn, $cases random cases were sound"
[ "$word" = PASS ]
