#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# make driver-install puts in place what dkms needs; dkms adds, builds, installs and removes the module from that
# alone; and make driver-uninstall leaves nothing. All of it in folders of the test's own: the machine's dkms does not
# see it.
set -u
. tests/tap.sh

eval "$(mk/kernel.sh RELEASE KDIR | sed '1s/^/release=/; 2s/^/kdir=/')"
[ -n "${kdir:-}" ] || exit 3
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
trap 'exit 130' INT TERM
unset MAKEFLAGS MFLAGS MAKELEVEL

said() { # what a command says if it fails
	"$@" >"$root/log" 2>&1 || cat "$root/log" "$root"/dkms/accel/*/build/make.log 2>/dev/null
	rm -f "$root/log"
}

version=$(sed -n 's/^VERSION := //p' Makefile)
run_dkms() {
	verb=$1
	shift
	dkms "$verb" -m accel -v "$version" --dkmstree "$root/dkms" --sourcetree "$root/usr/src" \
		--installtree "$root/modules" --no-depmod "$@"
}
for_kernel="-k $release --arch x86_64 --kernelsourcedir $kdir"

mkdir -p "$root/dkms" "$root/modules/$release"
tap_ok 'driver-install' "$(said make -s DESTDIR="$root" PREFIX=/usr driver-install)"
tap_ok 'the rule, the limits, the examples and the manual are there' "$(
	for file in usr/lib/udev/rules.d/60-accel.rules etc/security/limits.d/60-accel.conf etc/modprobe.d/accel.conf \
		usr/share/man/man4/accel.4 usr/share/doc/accel/ABI.txt usr/share/doc/accel/accel-memlock.conf; do
		[ -s "$root/$file" ] || echo "no $file"
	done)"
tap_ok 'a second driver-install keeps what the operator changed' "$(
	echo 'options accel soft=3' >"$root/etc/modprobe.d/accel.conf"
	said make -s DESTDIR="$root" PREFIX=/usr driver-install
	grep -qx 'options accel soft=3' "$root/etc/modprobe.d/accel.conf" || echo 'it did not'
	cp driver/accel-modprobe.conf "$root/etc/modprobe.d/accel.conf")"
tap_ok 'modprobe reads the example, once its # are gone' "$(
	sed 's/^#options/options/' driver/accel-modprobe.conf >"$root/example.conf"
	modprobe -C "$root/example.conf" -c 2>&1 | grep -c '^options accel ' | grep -vx 2)"
tap_ok 'dkms add' "$(said run_dkms add)"
# shellcheck disable=SC2086 # a list of options
{
	tap_ok 'dkms build' "$(said run_dkms build $for_kernel)"
	tap_ok 'dkms install' "$(said run_dkms install $for_kernel)"
	module=$(find "$root/modules" -name 'accel.ko*')
	tap_ok 'the module is for that kernel' "$(
		modinfo -F vermagic "$module" 2>&1 | grep -v "^$release "
		modinfo -F license "$module" 2>&1 | grep -vx GPL)"
	tap_ok 'dkms remove' "$(said run_dkms remove --all)"
}
tap_ok 'no module is left' "$(find "$root/modules" "$root/dkms" -name 'accel.ko*')"
tap_ok 'driver-uninstall' "$(said make -s DESTDIR="$root" PREFIX=/usr driver-uninstall)"
tap_ok 'nothing is left' "$(find "$root/usr" "$root/etc" ! -type d)"
tap_done
