# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# What became of the guests, for mk/vm.sh, which sources this: the programs' exit statuses, the tests' results, and what
# the kernels had to say. Takes tree, run, results, guests, leaves, limit; sets status.

complaints() {
	awk -f "$tree/mk/vm/splats.awk" "$run/$1.console"
}

# Says how guest $1 failed to end, and sets status.
judge_culprit() {
	name='the guest'
	[ "$guests" = 1 ] || name="guest $1"
	during=$(running "$1")
	during=${during:+ in $during}
	status=125
	case $(cat "$run/$1.exit") in
	124 | 137)
		status=124
		say "$limit s were up and $name was not done$during; the end of its console:"
		;;
	*)
		crash=$(complaints "$1" | grep -m 1 -E 'panic|Oops|BUG' | cut -f 2)
		if [ -n "$crash" ]; then
			say "the kernel of $name crashed$during: $crash; the end of its console:"
		else
			say "$name ended before its work was done$during; what QEMU said, and the end of its console:"
			cat "$run/$1.qemu" >&2
		fi
		;;
	esac
	tail -n 40 "$run/$1.console" >&2
}

# Of the guest that was to leave in the midst of its program: nothing if it did.
stayed() {
	[ -e "$run/share/$leaves/left" ] && [ ! -e "$run/share/$leaves/status" ] || echo "guest $leaves did not leave"
}

# The test that guest $1 began last, while it has not said that it is done.
running() {
	awk '
		/vm: test / { sub(/\r$/, ""); sub(/.*vm: test /, ""); test = $0 }
		/vm: done/ { test = "" }
		END { print test }' "$run/$1.console"
}

# What is wrong with test $1 beyond what it says itself, a line each.
problems() {
	if [ ! -e "$run/share/1/check/$1.tap" ] && [ "$(running 1)" != "$1" ]; then
		echo 'not run: the guest had ended'
	elif ! grep -q '^# exit ' "$run/share/1/check/$1.tap"; then
		echo 'the guest ended during this test'
	fi
	for guest in $(seq 2 "$guests"); do
		tap=$run/share/$guest/check/$1.tap
		if [ "$guest" = "$leaves" ]; then
			stayed
			grep -m 1 '^not ok' "$tap"
		elif ! grep -q '^# exit 0' "$tap"; then
			echo "guest $guest: $(grep -m 1 -E '^(not ok|# exit)' "$tap")"
		fi 2>/dev/null
	done
	for guest in $(seq "$guests"); do
		complaints "$guest" | awk -F '\t' -v test="$1" '$1 == test { print "kernel log: " $2 }'
	done
}

# Keeps the results of test $1 where the host's tests have theirs; fails if the test did.
keep_result() {
	kept=$results/$1
	mkdir -p "$(dirname "$kept")"
	cat "$run/share/1/check/$1.log" >"$kept.log" 2>/dev/null
	problems "$1" >"$run/problems"
	if [ -s "$run/problems" ]; then
		{
			grep -vE '^(1\.\.|# exit)' "$run/share/1/check/$1.tap"
			sed 's/#/ /g; s/^/not ok - /' "$run/problems"
		} 2>/dev/null |
			awk '/^(not )?ok / { count++ } { print } END { print "1.." count "\n# exit 1" }' >"$kept.tap"
		awk -v begin="vm: test $1" '/vm: (test|done)/ { inside = 0 } index($0, begin) { inside = 1 } inside' \
			"$run/1.console" >>"$kept.log"
	else
		cp "$run/share/1/check/$1.tap" "$kept.tap"
	fi
	grep -q '^# exit 0' "$kept.tap" && ! grep -q '^not ok' "$kept.tap"
}

keep_results() {
	while read -r test; do
		if keep_result "$test"; then
			echo "# passed $test"
		else
			echo "# FAILED $test"
			grep -E '^(not ok|#)' "$results/$test.tap" | tail -n 40 >&2
			tail -n 40 "$results/$test.log" >&2
			[ $status != 0 ] || status=1
		fi
	done <"$run/share/tests"
}

# How the program of every guest ended; the first that failed decides.
job_status() {
	for guest in $(seq "$guests"); do
		[ $status = 0 ] || return 0
		if [ "$guest" = "$leaves" ]; then
			[ -z "$(stayed)" ] || { say "$(stayed)"; status=1; }
			continue
		fi
		status=$(cat "$run/share/$guest/status")
		[ "$status" = 0 ] || [ "$guests" = 1 ] || say "guest $guest: the program's exit status is $status"
	done
}

# What the kernels said outside of tests, which no test answers for.
job_complaints() {
	for guest in $(seq "$guests"); do
		complaints "$guest" |
			awk -F '\t' -v of="guest $guest" '$1 == "-" { print "vm: kernel log of " of ": " $2 }'
	done
}
