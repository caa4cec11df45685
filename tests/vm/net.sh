#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# accelctl net on Soft-RoCE: what it shows of ports that can and cannot be used, and the test of a link, here from a
# device to itself, between two processes of one host that are told to use verbs.
set -u
. tests/tap.sh
. tests/ctl.sh
BUILD=${BUILD:-build}
ctl=$BUILD/bin/accelctl
card=netdummy0 device=netrxe0 address=10.97.0.1
out=$(mktemp -d)
trap 'rdma link delete $device 2>/dev/null; ip link delete $card 2>/dev/null; rm -rf "$out"' EXIT
# 2^18 x 4.096 us before a packet counts as lost: an emulated CPU is slow to acknowledge a large message, and a kernel
# that watches itself so slow that all of it is sent again and again.
export ACCEL_OPTS=verbs.devices=$device,verbs.ack_timeout=18

modprobe -q crc32_generic
modprobe -a dummy rdma_rxe ib_uverbs
ip link add $card type dummy
ip link set $card up mtu 9000
rdma link add $device type rxe netdev $card

tap_ok 'a port without an address has its link-local GID' "$(runs 0 "$ctl" net; says "^$device:1 .*RoCE v2 *fe80::")"
ip addr add $address/24 dev $card
tap_ok 'a port with an address has that' "$(runs 0 "$ctl" net; says "^$device:1 *active *ethernet"
	says "RoCE v2 *$address *$card"; says 'rail 1: named by verbs.devices')"
tap_ok 'the same as a document' "$(runs 0 "$ctl" net --json
	json "any(p['device'] == '$device' and p['rail'] == 1 and p['mtu_bytes'] == 4096 and
		p['gid'] == {'index': p['gid']['index'], 'type': 'RoCE v2', 'address': '$address', 'netdev': '$card'}
		for p in d['ports'])")"
ip addr add 10.97.1.1/24 dev $card
tap_ok 'all GIDs that verbs.gid could name' "$(runs 0 "$ctl" net
	says "^ *GID [0-9]* *RoCE v2 *$address *$card (used)"; says "^ *GID [0-9]* *RoCE v2 *10.97.1.1 *$card$"
	says '^ *GID [0-9]* *RoCE v2 *fe80::'
	runs 0 "$ctl" net --json
	json "any({'10.97.1.1', '$address'} <= {g['address'] for g in p['gids'] if g['here']} for p in d['ports'])")"
ip addr del 10.97.1.1/24 dev $card
ip link set $card down
tap_ok 'a port that is down is 3, with the reason' "$(runs 3 "$ctl" net; says 'not usable: the port is down'
	says 'docs/rdma.md')"
ip link set $card up
tap_ok 'an address that is nobody'"'"'s is 2, with those there are' "$(
	ACCEL_OPTS=verbs.devices=$device,verbs.gid=10.1.2.3 runs 2 "$ctl" net; says "$address ($device:1")"

# $1 the port, rest more options of both ends: what rank 1 says is in $out/peer.
link() {
	port=$1
	shift
	"$ctl" net --test --rank 1 --peer 127.0.0.1 --port "$port" "$@" >"$out/peer" 2>&1 &
	peer=$!
	runs 0 "$ctl" net --test --rank 0 --port "$port" "$@"
	wait $peer || echo "rank 1 exits with $?: $(tail -n 3 "$out/peer")"
}

tap_ok 'a link is tested: bytes, latency, bandwidth' "$(link 31100
	says "^this side *rank 0, rail 1: $device:1"
	says "^other side *rank 1, rail 1: $device:1, .* MTU 4096, .* $address on $card"
	says '^bytes  *512 rows of 14336 bytes'
	says '^latency '; says '^bandwidth '; says ' 0 by the CPU'; says '^PASS')"
modprobe accel soft=1
tap_ok 'and with rows in memory of accel0, as a document' "$(link 31110 accel0 --json
	json "(d['passed'] and d['here'][0]['device'] == '$device' and d['dispatch_ns'] > 0 and
		d['both_bytes_per_s'] > 0 and d['work_requests'] > 0)")"
tap_ok 'over a port that is down it is 3 at once' "$(ip link set $card down
	runs 3 "$ctl" net --test --rank 0 --port 31130; says 'FAIL'; says 'the port is down')"
tap_done
