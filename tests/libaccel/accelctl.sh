#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# accelctl where there may be no device but host: what it says, documents that parse, exit statuses, completion.
set -u
. tests/tap.sh
. tests/ctl.sh
BUILD=${BUILD:-build}
ctl=$BUILD/bin/accelctl
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

tap_ok 'list has host' "$(runs 0 "$ctl" list; says '^host ')"
tap_ok 'list --json has host first' "$(runs 0 "$ctl" list --json
	json 'd["devices"][0] == {"name": "host", "usable": True}')"
tap_ok 'info host' "$(runs 0 "$ctl" info host; says '^device  *host'; says '^kernels ')"
tap_ok 'info --json' "$(runs 0 "$ctl" info host --json
	json 'd["schema"] == "accelctl-info/1" and d["page_bytes"] >= 4096')"
tap_ok 'selftest host passes' "$(runs 0 "$ctl" selftest host --bytes 1000000
	says '^PASS'; says 'GiB/s'; says 'skipped quota')"
tap_ok 'selftest --json has times in ns' "$(runs 0 "$ctl" selftest host --bytes 4096 --json
	json 'd["passed"] and all(s.get("time_ns", 1) > 0 for s in d["steps"]) and len(d["steps"]) == 7')"
tap_ok 'selftest without room fails and says so' "$(runs 1 "$ctl" selftest host --bytes 1000000000000000
	says 'FAILED *create')"
tap_ok 'top --once --json' "$(runs 0 "$ctl" top --once --json
	json 'isinstance(d["devices"], list) and isinstance(d["clients"], list)')"
tap_ok 'a device that is not there is 3, with the cure' "$(runs 3 "$ctl" info accel255; says modprobe)"
tap_ok 'a name that is none is 3' "$(runs 3 "$ctl" selftest nothing; says 'accelN')"
if [ ! -e /dev/accel ]; then
	tap_ok 'list says how to get a device' "$(runs 0 "$ctl" list; says 'modprobe accel soft=1')"
	tap_ok 'info without a device is host'"'"'s' "$(runs 0 "$ctl" info; says '^device  *host')"
	tap_ok 'top --once without a device is 3' "$(runs 3 "$ctl" top --once; says 'modprobe')"
fi
if [ ! -e /sys/class/infiniband ]; then
	tap_ok 'net without an RDMA device is 3, with the cure' "$(runs 3 "$ctl" net; says 'rdma link add'
		runs 3 "$ctl" net --json; says 'rdma link add')"
fi
tap_ok 'net without its library is 3 and names the package' "$(
	ACCEL_OPTS=verbs.library=libnothing.so.1 runs 3 "$ctl" net; says 'Debian: libibverbs1')"
tap_ok 'net with a wrong option is 2' "$(ACCEL_OPTS=verbs.gid=nowhere runs 2 "$ctl" net; says 'verbs.gid')"
# As Markdown makes anchors out of headings.
sed -nE 's/^#+ //p' docs/rdma.md | tr 'A-Z ' 'a-z-' >"$out/anchors"
tap_ok 'what net refers to is in docs/rdma.md' "$(
	grep -ohE 'SEE\("[a-z-]+' libaccel/tools/ctl_net*.c | cut -d '"' -f 2 | grep -vxF -f "$out/anchors"
	grep -ohE '\(#[a-z-]+' docs/rdma.md | cut -c 3- | grep -vxF -f "$out/anchors")"
tap_ok 'help' "$(runs 0 "$ctl" --help; says 'selftest \[DEVICE\]'; runs 0 "$ctl" top --help)"
tap_ok 'version' "$(runs 0 "$ctl" --version; says '^accelctl [0-9]')"
tap_ok 'wrong usage is 2' "$(runs 2 "$ctl"; runs 2 "$ctl" nothing; runs 2 "$ctl" list host; runs 2 "$ctl" list --bytes 1
	runs 2 "$ctl" info --once
	runs 2 "$ctl" selftest --bytes; runs 2 "$ctl" selftest --bytes x; runs 2 "$ctl" top --interval 0
	runs 2 "$ctl" net --rank 1; runs 2 "$ctl" net --test --rank 2; runs 2 "$ctl" net --test --port 0
	runs 2 "$ctl" list --test; runs 2 "$ctl" net host
	runs 2 "$ctl" info host host; runs 2 "$ctl" list --no)"

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
