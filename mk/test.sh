#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# Runs one test for prove: mk/test.sh TEST. Its output is kept in $CHECK_DIR/TEST.tap, stderr in TEST.log; what a failed
# test said is shown, since prove shows only stderr. mk/test.sh --guest TEST runs it in a guest of its own; --kept TEST
# shows what is kept already. mk/check.sh sets the environment.
set -u
how=
case $1 in
--*) how=$1; shift ;;
esac
test=$1
tap=$CHECK_DIR/$test.tap
log=$CHECK_DIR/$test.log
limit=${TEST_SECONDS_MAX:-600}

# Shows the result and ends with the test's exit status.
show() {
	status=$(sed -n 's/^# exit //p' "$tap")
	cat "$tap"
	if [ "$status" != 0 ] || grep -q '^not ok' "$tap"; then
		{
			echo
			grep -E '^(not ok|#)' "$tap" | tail -n 40
			tail -n 40 "$log"
		} >&2
	fi
	exit "${status:-1}"
}

mkdir -p "${tap%/*}"
if [ "$test" = mk/vm/check.sh ]; then
	tail --pid="$GUESTS_PID" -f /dev/null
	how=--kept
fi
if [ "$how" = --guest ]; then
	echo "$test" >"$CHECK_DIR/guest.list"
	TEST_SECONDS_MAX=${TEST_SECONDS_MAX:-300} mk/vm/check.sh >"$CHECK_DIR/guest.tap" ||
		sed -n 's/^not //p' "$CHECK_DIR/guest.tap" >&2
	how=--kept
fi
if [ "$how" = --kept ]; then
	[ -e "$tap" ] || printf '1..1\nnot ok 1 - it was not run\n# exit 1\n' >"$tap"
	show
fi
if [ -n "${RESUME:-}" ] && [ "$tap" -nt "$test" ] && [ "$tap" -nt "$BUILD/lib/libaccel.so" ] &&
	tail -n 1 "$tap" | grep -qx '# exit 0'; then
	exec cat "$tap"
fi

command=./$test
case $test in
*.t) BUILD=${test%%/tests/*} ;;
esac
case $test in
*/tsan/*) # TSan's shadow memory collides with mappings that high address randomisation allows
	setarch -R true 2>/dev/null && command="setarch -R $command" ;;
esac
export ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
# shellcheck disable=SC2086 # command is two or three words
timeout -k 5 "$limit" $command >"$tap" 2>"$log"
status=$?
case $status in
124 | 137) echo "# stopped: it ran longer than $limit s" >>"$tap" ;;
esac
echo "# exit $status" >>"$tap"
show
