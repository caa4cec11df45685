# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# TAP for tests written in shell, which source this file and end with tap_done.

tap_count=0
tap_failed=0

# tap_ok NAME OFFENCES: passes if there are none; else they are shown, a line each.
tap_ok() {
	tap_count=$((tap_count + 1))
	if [ -z "$2" ]; then
		echo "ok $tap_count - $1"
		return
	fi
	tap_failed=$((tap_failed + 1))
	echo "$2" | sed 's/^/# /'
	echo "not ok $tap_count - $1"
}

tap_skip() {
	tap_count=$((tap_count + 1))
	echo "ok $tap_count - $1 # SKIP $2"
}

tap_done() {
	echo "1..$tap_count"
	[ $tap_failed = 0 ]
	exit
}
