#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# make driver-install and driver-uninstall: accel.ko's sources for dkms and what belongs to the module: udev rule,
# limits, modprobe.d example, accel(4). Without DESTDIR dkms then builds the module for the running kernel, and later
# for each new one by itself; with DESTDIR only files are put there, and a package's own scripts call dkms.
# Environment: VERSION, PREFIX, DESTDIR; SRCDIR is where dkms finds sources.
set -eu
cd "$(dirname "$0")/.."
root=${DESTDIR:-}
share=$root${PREFIX:-/usr/local}/share
src=$root${SRCDIR:-/usr/src}/accel-$VERSION
doc=$share/doc/accel

# Where each file goes, but for the sources.
files() {
	cat <<FILES
driver/60-accel.rules $root/usr/lib/udev/rules.d/60-accel.rules
driver/accel-limits.conf $root/etc/security/limits.d/60-accel.conf
driver/accel-modprobe.conf $root/etc/modprobe.d/accel.conf
driver/accel.4 $share/man/man4/accel.4
driver/ABI.txt $doc/ABI.txt
driver/accel-memlock.conf $doc/accel-memlock.conf
FILES
}

# The parts of the system that must hear of it; only when it is this system.
run_dkms() {
	if ! command -v dkms >/dev/null; then
		echo "driver-install: no dkms: install it (Debian: dkms and linux-headers of your kernel) and run:" \
			"dkms install accel/$VERSION" >&2
		exit 3
	fi
	# It would not notice that a version it has built has other sources now.
	[ -z "$(dkms status "accel/$VERSION")" ] || dkms remove "accel/$VERSION" --all
	dkms install "accel/$VERSION"
}

reload_udev() {
	! command -v udevadm >/dev/null || udevadm control --reload 2>/dev/null || true
}

case ${1:-} in
install)
	install -d "$src/driver" "$src/uapi"
	install -m 644 Kbuild "$src"
	install -m 644 driver/*.[ch] "$src/driver"
	install -m 755 driver/*.sh "$src/driver"
	install -m 644 uapi/axl_*.h "$src/uapi"
	sed "s|@VERSION@|$VERSION|" driver/dkms.conf.in >"$src/dkms.conf"
	files | while read -r file to; do
		# An operator's own settings stay.
		case $to in *.d/*.conf) [ ! -e "$to" ] || continue ;; esac
		install -D -m 644 "$file" "$to"
	done
	[ -n "$root" ] || { reload_udev && run_dkms; }
	;;
uninstall)
	[ -n "$root" ] || ! command -v dkms >/dev/null || dkms remove "accel/$VERSION" --all || true
	rm -rf "$src"
	files | while read -r file to; do
		case $to in *.d/*.conf) cmp -s "$file" "$to" || continue ;; esac
		rm -f "$to"
	done
	[ ! -d "$doc" ] || rmdir --ignore-fail-on-non-empty "$doc"
	[ -n "$root" ] || reload_udev
	;;
*)
	echo "usage: VERSION=V $0 install|uninstall" >&2
	exit 2
	;;
esac
