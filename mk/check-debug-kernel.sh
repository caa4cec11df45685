#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# make check-debug-kernel: the tests of accel.ko on the kernel of mk/debug-kernel.sh, the first warning of which ends
# the run; then every fault in turn (tests/vm/axl_fail_nth.c), random ioctls, and a search for what leaked. Run with
# --help for its use.
set -u
cd "$(dirname "$0")/.." || exit
unset MAKEFLAGS MFLAGS MAKELEVEL
build=${BUILD:-build}
jobs=${JOBS:-$(nproc)}
minutes=${MINUTES:-3}
seconds_max=${VM_SECONDS_MAX:-3600}
debug=$build/debug-kernel
start=$(date +%s)

usage() {
	cat <<USAGE
usage: mk/check-debug-kernel.sh [NAME...]

Builds a kernel that watches itself (half an hour, once: mk/debug-kernel.sh), accel.ko for it, and runs the tests of
tests/vm in it, or those whose names hold a NAME: but for those that measure, want more guests, or are of libaccel's
verbs transport, of which nothing is in the kernel.

Environment: MINUTES of random ioctls (3); SEED; BUILD (build); JOBS; VM_SECONDS_MAX, the guest's limit (3600);
ACCEL_CACHE as for mk/debug-kernel.sh. What each test said is kept in $debug/check, the kernel's log in $debug/log.
Exit status: 0 all passed, 1 something did not, 3 something that it needs is missing.
USAGE
}

# Tests whose sources have this in their check: line.
marked() {
	grep -lE "check:.*($1)" tests/vm/*.c tests/vm/*.sh 2>/dev/null
}

# The tests in the order in which they run: what only this kernel can do comes last, what was left behind at the end.
tests() {
	left_out=$(marked 'alone|plain|guest .*--(guests|nodes)'; ls tests/vm/verbs_*)
	last=$(marked debug-kernel | grep -v axl_leaks; echo tests/vm/axl_leaks.sh)
	# shellcheck disable=SC2046,SC2086 # lists
	for source in $(printf '%s\n' tests/vm/*.c tests/vm/*.sh | grep -vxF "$left_out
$last") $last; do
		case $source in
		*.c) echo "$build/${source%.c}.t" ;;
		*) [ ! -x "$source" ] || echo "$source" ;;
		esac
	done
}

# The tests that are wanted: $1 names, a line each, or nothing.
wanted() {
	if [ -n "$1" ]; then
		tests | grep -F -- "$1"
	else
		tests
	fi
}

# Says which test runs, as the guest's console has it, until process $1 has ended.
progress() {
	said=
	while kill -0 "$1" 2>/dev/null; do
		now=$(sed -n 's/\r$//; s/.*vm: test //p' "$debug"/tmp/vm.*/1.console 2>/dev/null | tail -n 1)
		if [ "$now" != "$said" ]; then
			said=$now
			echo "check-debug-kernel: $((($(date +%s) - start) / 60)) min: ${said#"$build/"}"
		fi
		timeout 2 tail --pid="$1" -f /dev/null
	done
}

case ${1:-} in
-h | --help)
	usage
	exit 0
	;;
-*)
	usage >&2
	exit 2
	;;
esac
case $minutes in
'' | *[!0-9]* | 0)
	echo "check-debug-kernel: MINUTES is '$minutes', not a number from 1 on" >&2
	exit 2
	;;
esac

mk/deps.sh build driver check || exit
kernel=$(mk/debug-kernel.sh) || exit
release=$(ls "$kernel/lib/modules")
make -s -j"$jobs" BUILD="$build" tests || exit
make -s -j"$jobs" BUILD="$debug" KDIR="$kernel/usr/src/linux-$release" driver test-modules || exit

tests=$(wanted "$(printf '%s\n' "$@")")
if [ -z "$tests" ]; then
	echo "check-debug-kernel: no test's name holds '$*'" >&2
	exit 2
fi
rm -rf "$debug/check" "$debug/log" "$debug/tmp"
mkdir -p "$debug/tmp"
# shellcheck disable=SC2086 # a list
TMPDIR=$PWD/$debug/tmp CHECK_DIR=$debug/check BUILD=$debug VM_KERNEL="$kernel/boot/vmlinuz-$release" \
	VM_MODULES=$kernel TEST_SECONDS_MAX=1200 mk/vm.sh --memory 2048 --timeout "$seconds_max" --logs "$debug/log" \
	--append 'panic_on_warn=1 page_poison=1' --env "BUILD=$build" --env "FUZZ_SECONDS=$((minutes * 60))" \
	--tests $tests >/dev/null </dev/null &
guest=$!
trap 'kill $guest; exit 130' INT TERM
progress $guest
wait $guest
status=$?
trap - INT TERM

seconds=$(($(date +%s) - start))
# shellcheck disable=SC2046 # a list
awk -v seconds="$seconds" -v dir="$debug/check/" -f mk/tally.awk $(for test in $tests; do
	echo "$debug/check/$test.tap"; done) || [ $status != 0 ] || status=1
faults=$(sed -nE 's/^# ([0-9]+) faults$/\1/p' "$debug/check/$build/tests/vm/axl_fail_nth.t.tap" 2>/dev/null |
	awk '{ n += $1 } END { print n + 0 }')
[ $status = 0 ] && word=PASS || word=FAIL
echo "$word: accel.ko on $release: $(echo "$tests" | wc -l) tests, $faults injected faults, exit status $status"
[ $status = 0 ]
