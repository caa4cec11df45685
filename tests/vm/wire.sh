# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# For tests in a guest, which source this: RDMA devices rxe1 to rxeN (Soft-RoCE) with a wire between them, all in one
# kernel. rxeI is on card vI and has address 10.8.0.I; each card is one end of a veth pair whose other end, pI, is a
# port of a bridge in the namespace "switch". netem on vI is a bad cable.
#
# Soft-RoCE of 6.12 knows no namespace but the first, so all cards are there, and the kernel would take what one sends
# to another for its own and never put it on the wire. Three rules of routing undo that: what comes in by vI may be for
# this host, what goes out by vI or from its address takes the table of vI, and only then are local addresses looked
# up. That table holds the network, and the card's own address, so that a rank can also send to itself.

# Makes the switch and the rules that all cards need.
wire_switch() {
	# crc32_generic: Soft-RoCE of 6.12 does not ask for it and cannot do without it.
	modprobe -q crc32_generic
	modprobe -a rdma_rxe ib_uverbs rdma_ucm veth bridge sch_netem && ip netns add switch || return
	ip -n switch -batch - <<-'LINES' || return
		link add br0 mtu 9000 type bridge mcast_snooping 0
		link set br0 up
	LINES
	for setting in all/accept_local=1 all/rp_filter=0 default/rp_filter=0 all/arp_ignore=1 all/arp_announce=2; do
		echo "${setting#*=}" >"/proc/sys/net/ipv4/conf/${setting%=*}" || return
	done
	# One address a card, so that its GIDs are one of the link and one of IPv4.
	echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
	ip -batch - <<-'LINES'
		rule add pref 100 lookup local
		rule del pref 0
	LINES
}

# $1 number of a card, which is made.
wire_card() {
	ip -batch - <<-LINES || return
		link add v$1 mtu 9000 type veth peer name p$1 mtu 9000 netns switch
		addr add 10.8.0.$1/24 dev v$1 noprefixroute
		link set v$1 up
		route add 10.8.0.0/24 dev v$1 src 10.8.0.$1 table $((200 + $1))
		route add local 10.8.0.$1 dev v$1 table $((200 + $1))
		rule add pref 10 iif v$1 lookup local
		rule add pref 20 oif v$1 lookup $((200 + $1))
		rule add pref 30 from 10.8.0.$1 lookup $((200 + $1))
	LINES
	ip -n switch link set "p$1" master br0 up && rdma link add "rxe$1" type rxe netdev "v$1"
}

# $1 devices: makes those that are not there.
wire_up() {
	[ -e /run/netns/switch ] || wire_switch || return
	for i in $(seq "$1"); do
		[ -e "/sys/class/infiniband/rxe$i" ] || wire_card "$i" || return
	done
}

# $1 number of a card, which goes away with its device.
wire_cut() {
	ip -batch - <<-LINES
		rule del pref 10 iif v$1
		rule del pref 20 oif v$1
		rule del pref 30 from 10.8.0.$1
		link del v$1
	LINES
}

# $1 MTU of all cards, 1500 or 9000; their devices follow.
wire_mtu() {
	for card in /sys/class/net/v[0-9]*; do
		echo "link set ${card##*/} mtu $1"
	done | ip -batch -
}

# wire_bad I WORDS...: what leaves rxeI suffers what these words of netem say, and nothing without words.
wire_bad() {
	card=v$1
	shift
	tc qdisc del dev "$card" root 2>/dev/null
	[ $# = 0 ] || tc qdisc add dev "$card" root netem limit 10000 "$@"
}
