#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# accelctl where there may be no device but host: what it says, documents that parse, exit statuses, completion.
set -u
. tests/tap.sh
BUILD=${BUILD:-build}
ctl=$BUILD/bin/accelctl
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# $1 exit status that is due, rest the arguments; leaves $out/text and $out/error.
runs() {
	want=$1
	shift
	"$ctl" "$@" >"$out/text" 2>"$out/error"
	got=$?
	[ $got = "$want" ] || echo "accelctl $* exits with $got, not $want: $(head -n 3 "$out/error")"
}

says() {
	grep -q -- "$1" "$out/text" "$out/error" || echo "does not say: $1"
}

# A value of the document, by a Python expression on d.
json() {
	python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
sys.exit(0 if eval(sys.argv[2]) else sys.argv[2] + " is not so")' "$out/text" "$1" 2>&1
}

tap_ok 'list has host' "$(runs 0 list; says '^host ')"
tap_ok 'list --json has host first' "$(runs 0 list --json; json 'd["devices"][0] == {"name": "host", "usable": True}')"
tap_ok 'info host' "$(runs 0 info host; says '^device  *host'; says '^kernels ')"
tap_ok 'info --json' "$(runs 0 info host --json
	json 'd["schema"] == "accelctl-info/1" and d["page_bytes"] >= 4096')"
tap_ok 'selftest host passes' "$(runs 0 selftest host --bytes 1000000
	says '^PASS'; says 'GiB/s'; says 'skipped quota')"
tap_ok 'selftest --json has times in ns' "$(runs 0 selftest host --bytes 4096 --json
	json 'd["passed"] and all(s.get("time_ns", 1) > 0 for s in d["steps"]) and len(d["steps"]) == 7')"
tap_ok 'selftest without room fails and says so' "$(runs 1 selftest host --bytes 1000000000000000
	says 'FAILED *create')"
tap_ok 'top --once --json' "$(runs 0 top --once --json
	json 'isinstance(d["devices"], list) and isinstance(d["clients"], list)')"
tap_ok 'a device that is not there is 3, with the cure' "$(runs 3 info accel255; says modprobe)"
tap_ok 'a name that is none is 3' "$(runs 3 selftest nothing; says 'accelN')"
if [ ! -e /dev/accel ]; then
	tap_ok 'list says how to get a device' "$(runs 0 list; says 'modprobe accel soft=1')"
	tap_ok 'info without a device is host'"'"'s' "$(runs 0 info; says '^device  *host')"
	tap_ok 'top --once without a device is 3' "$(runs 3 top --once; says 'modprobe')"
fi
tap_ok 'help' "$(runs 0 --help; says 'selftest \[DEVICE\]'; runs 0 top --help)"
tap_ok 'version' "$(runs 0 --version; says '^accelctl [0-9]')"
tap_ok 'wrong usage is 2' "$(runs 2; runs 2 nothing; runs 2 list host; runs 2 list --bytes 1
	runs 2 info --once
	runs 2 selftest --bytes; runs 2 selftest --bytes x; runs 2 top --interval 0
	runs 2 info host host; runs 2 list --no)"

# $1 words of the line so far, the last to be completed; prints what is offered.
completes() {
	bash -c '. libaccel/tools/accelctl.bash
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_accelctl
echo "${COMPREPLY[*]}"' bash "$@"
}
# $1 what must be offered, rest the words.
offers() {
	want=$1
	shift
	got=$(completes "$@")
	[ "$got" = "$want" ] || echo "offered for '$*': $got"
}
tap_ok 'completion of commands, options, devices' "$(offers selftest accelctl se; offers --interval accelctl top --i
	offers host accelctl info h; offers '' accelctl list h)"
tap_done
