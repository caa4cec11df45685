#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# make install puts in place what a user's program needs, found through accel.pc: shared and static, C and C++; make
# uninstall takes all of it away again.
set -u
. tests/tap.sh
BUILD=${BUILD:-build}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
unset MAKEFLAGS MFLAGS MAKELEVEL

said() { # what a command says if it fails
	"$@" >"$root.log" 2>&1 || cat "$root.log"
	rm -f "$root.log"
}

flags() {
	PKG_CONFIG_PATH=$root/opt/accel/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root pkg-config "$@" accel
}

tap_ok 'install' "$(said make -s BUILD="$BUILD" DESTDIR="$root" PREFIX=/opt/accel install)"
tap_ok 'headers, libraries, accel.pc and man pages are there' "$(
	for file in include/accel/accel.h include/accel/accel_ep.h include/accel/accel_error.h lib/libaccel.a \
		lib/libaccel.so lib/libaccel.so.0 lib/pkgconfig/accel.pc share/man/man3/accel_version.3; do
		[ -e "$root/opt/accel/$file" ] || echo "no $file"
	done)"
tap_ok 'tools run from where they are installed' "$(
	for tool in "$root"/opt/accel/bin/*; do
		[ -e "$tool" ] || continue
		ldd "$tool" | grep 'not found'
	done)"
cat >"$root/user.c" <<'USER'
#include <accel/accel_ep.h>
#include <stdio.h>
int main(void)
{
	return puts(accel_version()) < 0;
}
USER
# shellcheck disable=SC2046 # flags
{
	tap_ok 'a C program, shared' "$(said cc -o "$root/c" "$root/user.c" $(flags --cflags --libs))"
	tap_ok 'a C++ program, shared' "$(said c++ -x c++ -o "$root/cxx" "$root/user.c" $(flags --cflags --libs))"
	tap_ok 'a C program, static' "$(said cc -o "$root/static" "$root/user.c" $(flags --cflags) \
		"$root/opt/accel/lib/libaccel.a" -pthread -lm -ldl)"
}
for program in c cxx static; do
	tap_ok "it runs: $program" "$(LD_LIBRARY_PATH=$root/opt/accel/lib said "$root/$program")"
done
tap_ok 'uninstall' "$(said make -s BUILD="$BUILD" DESTDIR="$root" PREFIX=/opt/accel uninstall)"
tap_ok 'nothing is left' "$(find "$root/opt" ! -type d)"
tap_done
