#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# Shows that a new user gets there: mk/clean-root.sh DIR makes a minimal Debian 12 in DIR (new or empty) with git and
# make in it, clones this repository's HEAD there, and runs make demo and make check inside. Needs root and debootstrap;
# packages come from where this machine's apt gets its own. DIR stays, for a look; nothing stays mounted.
set -eu
suite=bookworm
repository=$(cd "$(dirname "$0")/.." && pwd)

if [ $# != 1 ] || [ -n "$(ls -A "$1" 2>/dev/null)" ]; then
	echo "usage: $0 DIR, which must be new or empty" >&2
	exit 2
fi
if [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then
	echo "$0: run as root, with debootstrap installed (apt-get install debootstrap)" >&2
	exit 3
fi
git -C "$repository" diff --quiet HEAD || echo "$0: changes that are not committed stay behind" >&2

sources=$(apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
	grep -E " $suite(-updates|-security)? main\$" | sort -u)
mirror=$(echo "$sources" | awk -v suite="$suite" '$3 == suite { print $2; exit }')
if [ -z "$mirror" ]; then
	echo "$0: this machine's apt knows no source of $suite" >&2
	exit 3
fi

mkdir -p "$1"
root=$(cd "$1" && pwd)
debootstrap --variant=minbase --include=git,make "$suite" "$root" "$mirror" >"$root.log" 2>&1 || {
	tail "$root.log" >&2
	exit 3
}
rm -f "$root.log"
echo "$sources" >"$root/etc/apt/sources.list"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
# No service may start in there.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
mkdir -p "$root/source"

exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 ROOT="$root" REPOSITORY="$repository" \
	unshare --mount --pid --fork --kill-child sh -eu -c '
	mount --make-rprivate /
	mount --bind "$ROOT" "$ROOT"
	cd "$ROOT"
	mount --bind -o ro "$REPOSITORY" source
	mount -t proc proc proc
	mount -t sysfs sys sys
	[ ! -d /sys/fs/cgroup ] || mount --rbind /sys/fs/cgroup sys/fs/cgroup
	mount --rbind /dev dev
	mount -t tmpfs -o mode=1777 shm dev/shm
	mount -t tmpfs -o mode=755 run run
	exec chroot . sh -euc "
		git config --global --add safe.directory \"*\"
		git clone -q /source /root/accel
		cd /root/accel
		make demo
		make check
	"'
