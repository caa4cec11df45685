#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# One test of make check that stands for those of tests/vm that $CHECK_DIR/guest.list names: boots a guest for them, and
# one more for each set of options that some of them ask for with "check: guest OPTIONS" in their source. It passes if
# every guest came to its end; what the tests in it said is kept as theirs.
set -u
. tests/tap.sh
seconds_max=${VM_SECONDS_MAX:-420}

# The options for the guest of each test, a tab, and the test.
wishes() {
	while read -r test; do
		source=tests/${test##*tests/}
		[ -e "$source" ] || source=${source%.t}.c
		echo "$(sed -n 's|.*check: guest \([^*]*\).*|\1|p' "$source" | sed 's/ *$//')	$test"
	done <"$CHECK_DIR/guest.list"
}

while read -r test; do
	rm -f "$CHECK_DIR/$test.tap" "$CHECK_DIR/$test.log"
done <"$CHECK_DIR/guest.list"
wishes >"$CHECK_DIR/guest.wishes"
cut -f 1 "$CHECK_DIR/guest.wishes" | sort -u >"$CHECK_DIR/guest.options"
export TEST_SECONDS_MAX="${TEST_SECONDS_MAX:-180}"
while IFS= read -r options; do
	tests=$(awk -F '\t' -v options="$options" '$1 == options { print $2 }' "$CHECK_DIR/guest.wishes")
	begin=$(date +%s)
	# shellcheck disable=SC2086 # lists
	mk/vm.sh --timeout "$seconds_max" $options --tests $tests </dev/null >&2
	status=$?
	echo "# $(($(date +%s) - begin)) s: $(echo $tests)"
	# The tests that failed answer for themselves.
	[ $status != 1 ] || status=0
	tap_ok "a guest${options:+ with $options} came to its end" \
		"$([ $status = 0 ] || echo "mk/vm.sh: exit status $status")"
done <"$CHECK_DIR/guest.options"
tap_done
