#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# Spin searches every state of the models beside the code (libaccel/ep.pml, ep_landing.pml, order.pml): as the code is,
# in configurations that together cover ranks, lanes, masks, leaving, death and join; and with one mistake at a time,
# which must be found, and found by the property that it breaks.
set -u
. tests/tap.sh

memory_mib=1400
depth=20000
here=$(pwd)
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

if ! command -v spin >/dev/null; then
	echo 'Bail out! spin is missing: mk/deps.sh check installs it'
	exit 1
fi

# search MODEL COMPILER_FLAGS RUN_FLAGS DEFINITIONS: makes the verifier and runs it; what it says is in $dir/out. Prints
# why that could not be done.
search() (
	cd "$dir" && rm -f pan* ./*.trail out || exit
	# shellcheck disable=SC2086 # lists of flags
	{
		if ! spin -a $4 "$here/libaccel/$1" >spin.out 2>&1 || [ -s spin.out ]; then
			echo "spin -a $4 $1:"
			cat spin.out
			exit
		fi
		gcc -w -DCOLLAPSE -DMEMLIM=$memory_mib $2 -o pan pan.c 2>&1 || exit
		./pan -m$depth -w20 $3 >out 2>&1 || echo "pan: exit $?"
	}
)

# proven LINES...: the search was the one that LINES say, of all states, none left out for depth or memory, none merged
# by hashing, and found nothing.
proven() {
	for line in 'Full statespace search for:' '	assertion violations	+' "$@"; do
		grep -qF "$line" "$dir/out" || echo "pan does not say '$line'"
	done
	grep -qE '^State-vector [0-9]+ byte, depth reached [0-9]+, errors: 0$' "$dir/out" || echo 'not errors: 0'
	grep -E 'error: |pan:[0-9]+:|not completed|too small|out of memory|[Bb]it ?state|[Hh]ash-?[Cc]ompact' "$dir/out"
}

# safe NAME MODEL DEFINITIONS [COMPILER_FLAGS]: a long search is worth an optimised verifier, a short one is not.
safe() {
	said=$(search "$2" "-DSAFETY ${4:-}" '' "$3")
	tap_ok "$1" "${said:-$(proven '	invalid end states	+')}"
	[ -n "$said" ] || awk '/states, stored/ { states = $1 } /elapsed time/ { seconds = $4 }
		END { print "# " states " states in " seconds " s" }' "$dir/out"
}

# unsafe MISTAKE WHAT MODEL DEFINITIONS: the first error that spin comes to is WHAT: a property of the model, or a state
# in which somebody waits for ever.
unsafe() {
	case $2 in
	torn_* | wrong_* | missed_* | given_back | overrun | slot_busy)
		what="assertion violated  !($2)" expect=-DEXPECT=$2
		;;
	*) what='invalid end state' expect= ;;
	esac
	said=$(search "$3" -DSAFETY '' "-DBAD_$1 $4 $expect")
	tap_ok "$(echo "$1" | tr 'A-Z_' 'a-z '): $2" "${said:-$(
		grep -F 'pan:1: ' "$dir/out" | sed 's/ (at depth [0-9]*)$//' | grep -qxF "pan:1: $what" ||
			{ echo "spin did not find '$what':"; grep -E 'errors:|pan:' "$dir/out"; }
	)}"
}

two='-DRANKS=2 -DROUNDS=2'

safe '2 ranks, 3 rounds, either may be late' ep.pml '-DRANKS=2 -DROUNDS=3 -DANY_LATE'
safe 'rows land' ep.pml "$two -DLANDED"
safe 'the late rank is killed anywhere' ep.pml "$two -DDIES"
safe 'the late rank leaves in the middle of a round' ep.pml "$two -DQUITS"
safe 'another thread masks the late rank' ep.pml "$two -DMASKER"
safe 'the late rank joins again, its old process wakes up' ep.pml "$two -DJOIN" -O1
safe '3 ranks, 2 rounds' ep.pml '-DRANKS=3 -DROUNDS=2 -DCOARSE' -O2
safe '2 lanes' ep.pml '-DRANKS=2 -DROUNDS=1 -DLANES=2 -DCOARSE' -O2
safe 'sleep: no wakeup is lost' order.pml ''
safe 'peers that land' ep_landing.pml "$two -DSTRIPES=1"
safe 'peers that land, over 2 queue pairs' ep_landing.pml '-DRANKS=2 -DROUNDS=1' -O1
safe 'peers that land, either may be late' ep_landing.pml "$two -DSTRIPES=1 -DANY_LATE" -O1
safe 'peers that land, the late rank is killed anywhere' ep_landing.pml '-DRANKS=2 -DROUNDS=1 -DSTRIPES=1 -DDIES'
safe 'peers that land, the late rank leaves in the middle of a round' ep_landing.pml "$two -DSTRIPES=1 -DQUITS"

# ends MODEL DEFINITIONS: every wait does.
ends() {
	said=$(search "$1" -DNP -l "$2")
	tap_ok "$1: nothing goes round in a circle" \
		"${said:-$(proven '	non-progress cycles 	+ (fairness disabled)')}"
}

ends ep.pml "$two -DANY_LATE"
ends ep_landing.pml '-DRANKS=2 -DROUNDS=1 -DSTRIPES=1 -DANY_LATE'

unsafe NO_SEQLOCK torn_sum ep.pml "$two"
unsafe NO_FENCE_OWNER torn_sum ep.pml "$two"
unsafe NO_FENCE_READER torn_sum ep.pml "$two"
unsafe Y_REUSED_EARLY torn_sum ep.pml "$two"
unsafe SIGNAL_BEFORE_ROWS torn_row ep.pml "$two"
unsafe SIGNAL_BEFORE_ROWS torn_record ep.pml "$two"
unsafe SIGNAL_ROUND_FIRST wrong_signal ep.pml "$two"
unsafe ROUND_UNCHECKED wrong_signal ep.pml "$two"
unsafe MASK_ONE_STEP torn_row ep.pml "$two -DMASKER"
unsafe SUM_IGNORES_BEGUN torn_sum ep.pml "$two -DMASKER"
unsafe DONE_BEFORE_SUM torn_sum ep.pml "$two"
unsafe GOODBYE_UNFENCED torn_sum ep.pml "$two"
unsafe LEFT_LOADED_LATE missed_signal ep.pml "$two"
unsafe UNMASK_SAME_INCARNATION torn_sum ep.pml "$two -DJOIN"
unsafe UNMASK_SAME_INCARNATION wrong_signal ep.pml "$two -DJOIN"
unsafe X_UNFENCED torn_row ep.pml "$two -DQUITS"
unsafe X_BEFORE_COMPLETION given_back ep_landing.pml "$two -DSTRIPES=1"
unsafe Y_BEFORE_COMPLETION given_back ep_landing.pml "$two -DSTRIPES=1"
unsafe X_BEFORE_COMPLETION slot_busy ep_landing.pml "$two -DSTRIPES=1"
unsafe MASK_UNFLUSHED given_back ep_landing.pml "$two -DSTRIPES=1"
unsafe LEAVES_UNFLUSHED given_back ep_landing.pml "$two -DSTRIPES=1"
unsafe BEGINS_EARLY torn_row ep_landing.pml "$two -DSTRIPES=1"
unsafe BEGINS_EARLY overrun ep_landing.pml "$two -DSTRIPES=1"
unsafe ONE_LINE torn_sum ep_landing.pml "$two"
unsafe ROUND_UNCHECKED wrong_signal ep_landing.pml "$two -DSTRIPES=1"
unsafe GOODBYE_EARLY missed_signal ep_landing.pml "$two -DSTRIPES=1"
unsafe PLAIN_STORE deadlock order.pml ''
unsafe ASLEEP_FLAG deadlock order.pml ''
unsafe SLEEP_UNCHECKED deadlock order.pml ''
unsafe WAIT_UNCOMPARED deadlock order.pml ''
tap_done
