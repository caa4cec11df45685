# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# The second half of a guest's start, on the host's tree: guest.sh TREE. Runs what mk/vm.sh left in /run/vm, one job or
# a list of tests, and leaves the output and the exit status there, in a folder for each guest. The kernel's log goes to
# the console, into which this writes which test begins.
tree=$1
out=/run/vm/$VM_GUEST
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb

mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t debugfs debug /sys/kernel/debug
mount -t tracefs trace /sys/kernel/tracing
ulimit -c 0
cd "$tree" || exit
. /run/vm/environment

# Guest 1 is the switch of the others: it has a card for each of them. More than one are joined by a bridge.
join_network() {
	VM_NIC=eth0
	if [ -e /sys/class/net/eth1 ]; then
		VM_NIC=br0
		modprobe bridge
		ip link add br0 mtu 9000 address 52:54:00:00:00:01 type bridge
		for card in /sys/class/net/eth*; do
			ip link set "${card##*/}" mtu 9000 master br0 up
		done
	fi
	ip link set $VM_NIC mtu 9000 up
	ip addr add "10.77.0.$VM_GUEST/24" dev $VM_NIC
	for guest in $(seq "$VM_GUESTS"); do
		echo "10.77.0.$guest guest$guest"
	done >>/etc/hosts
	export VM_NIC
}

# Waits until every guest but one that left has come to the place named $1. The host ends us if one of them cannot.
meet() {
	: >"$out/$1"
	for guest in $(seq "$VM_GUESTS"); do
		until [ -e "/run/vm/$guest/$1" ] || [ -e "/run/vm/$guest/left" ]; do sleep 0.1; done
	done
}

[ "$VM_GUESTS" = 1 ] || join_network
# The first connection of all has the kernel patch its own text (net_get_random_once): an emulated one dies of it now
# and then if the other CPU runs that text, as it does when two ranks are the first.
busybox nc -w 1 127.0.0.1 9 2>/dev/null
meet here
if [ -e /run/vm/tests ]; then
	export CHECK_DIR=$out/check
	status=0
	number=0
	while read -r test; do
		number=$((number + 1))
		meet "test$number"
		echo "vm: test $test" >/dev/kmsg
		mk/test.sh "$test" </dev/null >/dev/null 2>>"$out/stderr" || status=1
	done </run/vm/tests
else
	echo 'vm: job' >/dev/kmsg
	sh /run/vm/job </dev/null >"$out/stdout" 2>"$out/stderr"
	status=$?
fi
echo 'vm: done' >/dev/kmsg
dmesg >"$out/dmesg"
echo $status >"$out/status.new"
mv "$out/status.new" "$out/status"
meet end
