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
#     check: alone       its timing matters: nothing else runs meanwhile, and it comes last
#     check: plain       not under sanitizers (it measures, or needs their memory)
#     check: no-tsan     not under TSan (it forks with threads running)
#     check: guest ...   of tests/vm: in a guest of its own, started with these options of mk/vm.sh
#     check: debug-kernel  of tests/vm: only make check-debug-kernel runs it
#
# Those of tests/vm run in a guest (mk/vm.sh), all in one boot, from when they are built until the others have run here.
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
		tests/driver/*.sh tests/mk/*.sh tests/fuzz/*.sh tests/oracle/test_*.py; do
		[ -x "$script" ] && echo "$script"
	done
}

# What runs in a guest.
guest_tests() {
	for source in tests/vm/*.c tests/vm/*.sh; do
		[ -e "$source" ] && ! grep -q 'check: debug-kernel' "$source" || continue
		case $source in
		*.c) echo "$BUILD/${source%.c}.t" ;;
		*) [ ! -x "$source" ] || echo "$source" ;;
		esac
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

# $1 tests at a time, $2 the command for one, $3 the tests.
run() {
	[ -n "$3" ] || return 0
	# shellcheck disable=SC2086 # a list
	prove --jobs "$1" --timer --exec "$2" $3 || verdict=1
}

# Starts the guests in the background, and goes on. mk/test.sh waits for $GUESTS_PID and shows what they said.
start_guests() {
	tap=$CHECK_DIR/$guests.tap
	mkdir -p "${tap%/*}"
	echo "$in_guest" | split_alone out >"$CHECK_DIR/guest.list"
	{
		trap 'kill $job' TERM
		# Each guest has a limit of its own.
		timeout -k 5 3600 "$guests" >"$tap" 2>"$CHECK_DIR/$guests.log" </dev/null &
		job=$!
		wait $job
		echo "# exit $?" >>"$tap"
	} &
	export GUESTS_PID=$!
}

in_guest=$(guest_tests | grep -F -- "${ONLY:-}")
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
if [ -z "$tests$in_guest" ]; then
	echo "check: no test's name holds '${ONLY:-}'" >&2
	exit 2
fi

mk/deps.sh build driver check || exit
kdir=$(mk/kernel.sh KDIR) || exit
build 'gcc' BUILD="$BUILD" tests
build 'accel.ko and the modules of tests' BUILD="$BUILD" KDIR="$kdir" driver test-modules

pages=/proc/sys/vm/nr_hugepages
pages_were=$(cat $pages 2>/dev/null)
clean_up() {
	[ -z "${GUESTS_PID:-}" ] || kill "$GUESTS_PID" 2>/dev/null
	[ "$(cat $pages 2>/dev/null)" = "$pages_were" ] || echo "$pages_were" >$pages
}
trap clean_up EXIT
trap 'exit 130' INT TERM

guests=
if [ -n "$(echo "$in_guest" | split_alone out)" ]; then
	guests=mk/vm/check.sh
	start_guests
fi
build 'gcc, ASan and UBSan' BUILD="$BUILD/asan" SANITIZE=address,undefined test-programs
build 'gcc, TSan' BUILD="$BUILD/tsan" SANITIZE=thread test-programs
build 'clang' BUILD="$BUILD/clang" CC=clang-14 test-programs tools
build 'clang, fuzzers' BUILD="$BUILD/fuzz" CC=clang-14 SANITIZE=fuzzer-no-link,address,undefined fuzzers

# Two tests want reserved huge pages; who is root gets some for as long as they run.
if [ -w $pages ] && [ "$pages_were" -lt 16 ]; then
	echo 16 >$pages
fi

# The guests are one of the tests that run at a time, and the first, since they take longest; what was said in them
# follows. Alone comes what measures.
verdict=0
run "$jobs" mk/test.sh "$guests $(echo "$tests" | split_alone out)"
GUESTS_PID=
run "$jobs" 'mk/test.sh --kept' "$(echo "$in_guest" | split_alone out)"
run 1 mk/test.sh "$(echo "$tests" | split_alone in)"
run 1 'mk/test.sh --guest' "$(echo "$in_guest" | split_alone in)"
seconds=$(($(date +%s) - start))
taps=$(for test in $guests $in_guest $tests; do echo "$CHECK_DIR/$test.tap"; done)
# shellcheck disable=SC2086 # a list
awk -v seconds="$seconds" -v dir="$CHECK_DIR/" -f mk/tally.awk $taps || verdict=1
exit $verdict
