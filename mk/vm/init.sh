#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# The first process of a guest of mk/vm.sh, in its initramfs: makes the host's tree, read-only, the lower half of its
# root, mounts what the host and it share, and runs guest.sh in there; then it powers off.
# From the kernel's command line, as environment: vm_guest and vm_guests (which of how many), vm_tree (the repository),
# vm_modules (what to mount as /lib/modules/RELEASE), vm_tag (what to tell the console if it only asks whether we boot).
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

off() {
	echo o >/proc/sysrq-trigger
	while :; do sleep 1; done
}

fail() {
	echo "vm: guest $vm_guest: $*" >/dev/console
	off
}

if [ -n "$vm_tag" ]; then
	echo "$vm_tag" >/dev/console
	off
fi
hostname "guest$vm_guest"
while read -r module; do
	insmod "/modules/$module" || fail "cannot load $module"
done </modules/order

mkdir /up
mount -t tmpfs up /up
mkdir /up/low /up/high /up/work /r
nine=trans=virtio,version=9p2000.L,msize=262144
mount -t 9p -o $nine,ro,cache=loose root /up/low || fail 'cannot mount the root of the host'
mount -t overlay -o lowerdir=/up/low,upperdir=/up/high,workdir=/up/work root /r || fail 'cannot put an overlay on it'

mkdir -p /r/proc /r/sys /r/dev /r/run "/r/lib/modules/$(uname -r)"
mount -t tmpfs -o mode=755 run /r/run
mkdir /r/run/vm /r/run/lock
# Not cached: what one guest or the host writes there, the others see at once.
mount -t 9p -o $nine share /r/run/vm || fail 'cannot mount what it shares with the host'
[ -z "$vm_modules" ] || mount --bind "/r$vm_modules" "/r/lib/modules/$(uname -r)" || fail "cannot mount $vm_modules"

ip link set lo up
for place in proc sys dev; do
	mount --move /$place /r/$place
done
env -i VM_GUEST="$vm_guest" VM_GUESTS="$vm_guests" chroot /r /bin/sh "$vm_tree/mk/vm/guest.sh" \
	"$vm_tree" </r/dev/null >/r/dev/console 2>&1
chroot /r /bin/sh -c 'echo o >/proc/sysrq-trigger'
while :; do sleep 1; done
