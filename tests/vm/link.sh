# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# For tests in several guests, which source this: an RDMA device (Soft-RoCE) on the card that joins them. It is rxe1 in
# guest 1, rxe2 in guest 2, so that errors that name a device say which, and its address is the guest's, 10.77.0.I.

link_up() {
	[ ! -e "/sys/class/infiniband/rxe$VM_GUEST" ] || return 0
	modprobe -q crc32_generic
	modprobe -a rdma_rxe ib_uverbs rdma_ucm sch_netem && echo 1 >"/proc/sys/net/ipv6/conf/$VM_NIC/disable_ipv6" &&
		rdma link add "rxe$VM_GUEST" type rxe netdev "$VM_NIC"
}

# $1 MTU of this guest's card
link_mtu() {
	ip link set "$VM_NIC" mtu "$1"
}

# link_bad WORDS...: what leaves this guest suffers what these words of netem say, and nothing without words.
link_bad() {
	tc qdisc del dev "$VM_NIC" root 2>/dev/null
	[ $# = 0 ] || tc qdisc add dev "$VM_NIC" root netem limit 10000 "$@"
}

# Waits until every guest has come to the place named $1 of this run of guests.
link_meet() {
	: >"/run/vm/$VM_GUEST/at.$1"
	for guest in $(seq "$VM_GUESTS"); do
		until [ -e "/run/vm/$guest/at.$1" ]; do sleep 0.05; done
	done
}

# Runs what mk/vm/rsh.sh in another guest wants run here, until that guest calls link_over.
link_serve() {
	until [ -e /run/vm/over ]; do
		for job in /run/vm/"$VM_GUEST"/rsh.*.job; do
			[ -e "$job" ] || continue
			job=${job%.job}
			mv "$job.job" "$job.run"
			{
				sh "$job.run" >"$job.out" 2>"$job.err"
				echo $? >"$job.status"
				mv "$job.status" "$job.code"
			} </dev/null &
		done
		sleep 0.05
	done
}

link_over() {
	: >/run/vm/over
}
