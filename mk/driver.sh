#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# driver.sh KDIR OUT [ARGUMENT...]: builds OUT/RELEASE/accel.ko against the kernel tree KDIR. ARGUMENTs are for its
# make, which puts objects beside sources and is therefore given a folder of links to them, one a kernel.
set -eu

kdir=$1
out=$2
shift 2

release=$(cat "$kdir/include/config/kernel.release" 2>/dev/null) || {
	cat >&2 <<TEXT
driver: $kdir is no kernel that modules can be built against. Do one of these:
  apt-get install linux-headers-$(uname -r)     (Debian, Ubuntu; for the running kernel)
  dnf install kernel-devel-$(uname -r)          (Fedora, RHEL)
  make driver KDIR=DIR                          (a tree of headers, or of a kernel that was built)
TEXT
	exit 1
}
grep -q '^CONFIG_DRM_ACCEL=y' "$kdir/include/config/auto.conf" || {
	echo "driver: $release was built without CONFIG_DRM_ACCEL, which accel.ko is a driver of" >&2
	exit 1
}

mkdir -p "$out/$release"
dir=$(cd "$out/$release" && pwd)
find "$dir" -type l -exec rm {} +
cp -rs "$PWD/Kbuild" "$PWD/driver" "$PWD/uapi" "$dir/"
make -C "$kdir" M="$dir" "$@" modules
echo "$out/$release/accel.ko"
