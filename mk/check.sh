#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# make check: installs what is missing, builds every variant and runs every test of every variant under prove.
#
# A test is a program build/tests/DIR/NAME.t made of tests/DIR/NAME.c, or an executable script tests/DIR/NAME.sh or .py
# (of tests/oracle, whose other scripts are tools, test_*.py); it speaks TAP and runs from the top of the tree with
# BUILD naming the build. Programs run as built, under ASan and UBSan, and, but for kernels and uapi, which start no
# thread, under TSan. A comment in a test's source can say otherwise:
#
#     check: alone       its timing matters: nothing else runs meanwhile
#     check: plain       not under sanitizers (it measures, or needs their memory)
#     check: no-tsan     not under TSan (it forks with threads running)
#
# Environment: ONLY=substring of the tests' names, RESUME=1 keeps the results of tests that passed and have not been
# rebuilt since, JOBS, SEED, TEST_SECONDS_MAX. What each test said is kept in build/check.
set -u
cd "$(dirname "$0")/.." || exit
unset MAKEFLAGS MFLAGS MAKELEVEL
# Debian's python3 first: that is the one whose modules mk/deps.sh installs.
export PATH="/usr/bin:/bin:$PATH" BUILD="${BUILD:-build}"
export CHECK_DIR="$BUILD/check"
jobs=${JOBS:-$(nproc)}
start=$(date +%s)

build() {
	printf 'check: building %s\n' "$1"
	shift
	make -s -j"$jobs" "$@" || exit
}

# Sources with the word in their check: line; grep's exit status is of no interest.
marked() {
	grep -lE "check:.*\b$1\b" tests/*/*.c tests/*/*.sh tests/*/*.py 2>/dev/null
}

# $1 build folder, $2 sources to leave out: the test programs there.
programs() {
	for source in tests/uapi/*.c tests/kernels/*.c tests/libaccel/*.c tests/runtime/*.c tests/stress/*.c; do
		[ -e "$source" ] || continue
		case " $2 " in *" $source "*) continue ;; esac
		program=${source%.c}.t
		echo "$1/$program"
	done
}

scripts() {
	for script in tests/tree/*.sh tests/uapi/*.?? tests/kernels/*.?? tests/libaccel/*.?? tests/runtime/*.?? \
		tests/driver/*.sh tests/fuzz/*.sh tests/oracle/test_*.py; do
		[ -x "$script" ] && echo "$script"
	done
}

# The lines of stdin that belong ($1 = in) or do not belong ($1 = out) to the sources marked alone.
split_alone() {
	while read -r test; do
		source=tests/${test##*tests/}
		case "$source" in *.t) source=${source%.t}.c ;; esac
		where=out
		case " $alone " in *" $source "*) where=in ;; esac
		[ "$1" != "$where" ] || echo "$test"
	done
}

run() {
	[ -n "$2" ] || return 0
	# shellcheck disable=SC2086 # a list
	prove --jobs "$1" --timer --exec mk/test.sh $2 || verdict=1
}

mk/deps.sh build check || exit
build 'gcc' BUILD="$BUILD" tests
build 'gcc, ASan and UBSan' BUILD="$BUILD/asan" SANITIZE=address,undefined test-programs
build 'gcc, TSan' BUILD="$BUILD/tsan" SANITIZE=thread test-programs
build 'clang' BUILD="$BUILD/clang" CC=clang-14 test-programs tools
build 'clang, fuzzers' BUILD="$BUILD/fuzz" CC=clang-14 SANITIZE=fuzzer-no-link,address,undefined fuzzers

alone=$(marked alone | tr '\n' ' ')
plain=$(marked plain | tr '\n' ' ')
no_tsan=$(marked no-tsan | tr '\n' ' ')
threadless=$(ls tests/uapi/*.c tests/kernels/*.c | tr '\n' ' ')
tests=$({
	scripts
	programs "$BUILD" ''
	programs "$BUILD/asan" "$plain"
	programs "$BUILD/tsan" "$plain $no_tsan $threadless"
} | grep -F -- "${ONLY:-}")
if [ -z "$tests" ]; then
	echo "check: no test's name holds '${ONLY:-}'" >&2
	exit 2
fi

# Two tests want reserved huge pages; who is root gets some for as long as they run.
pages=/proc/sys/vm/nr_hugepages
if [ -w "$pages" ] && [ "$(cat "$pages")" -lt 16 ]; then
	trap 'echo '"$(cat "$pages")"' >$pages' EXIT
	trap 'exit 130' INT TERM
	echo 16 >"$pages"
fi

verdict=0
run "$jobs" "$(echo "$tests" | split_alone out)"
run 1 "$(echo "$tests" | split_alone in)"
seconds=$(($(date +%s) - start))
taps=$(for test in $tests; do echo "$CHECK_DIR/$test.tap"; done)
# shellcheck disable=SC2086 # a list
awk -v seconds="$seconds" -v dir="$CHECK_DIR/" -f mk/tally.awk $taps || verdict=1
exit $verdict
