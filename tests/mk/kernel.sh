#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# mk/kernel.sh with a kernel in its cache and with none that it could get. The download itself is what make driver and
# the tests in a guest begin with.
set -u
. tests/tap.sh

folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM

equal() {
	[ "$1" = "$2" ] || echo "$1, not $2"
}

eval "$(mk/kernel.sh)"
tap_ok 'every place that is printed is there' "$(for path in "$KDIR/Makefile" "$VMLINUZ" "$MODULES/lib/modules/$RELEASE"
do [ -e "$path" ] || echo "no $path"; done)"
tap_ok 'names choose what is printed' "$(equal "$(mk/kernel.sh KDIR RELEASE | tr '\n' ' ')" "$KDIR $RELEASE ")"
mk/kernel.sh SOMETHING >/dev/null 2>&1
tap_ok 'an unknown name is wrong usage' "$(equal $? 2)"

# A cache with an older kernel, and with what a run left that was killed.
mkdir -p "$folder/kernel/.new.killed/tree" "$folder/kernel/6.12.1+deb12-amd64"
ln -s "$MODULES" "$folder/kernel/"
tap_ok 'the newest in the cache is taken' "$(equal "$(ACCEL_CACHE=$folder mk/kernel.sh RELEASE 2>&1)" "$RELEASE")"
ACCEL_CACHE=$folder mk/kernel.sh --clean
tap_ok 'clean leaves nothing' "$(ls "$folder")"

# No archive, and no system's lists.
echo 'Dir::Etc::SourceList "/dev/null"; Dir::Etc::SourceParts "/dev/null"; Dir::State::Lists "'"$folder"'/lists";' \
	>"$folder/apt.conf"
mkdir "$folder/lists"
APT_CONFIG=$folder/apt.conf ACCEL_CACHE=$folder/none mk/kernel.sh KDIR >"$folder/out" 2>&1
tap_ok 'without an archive the cause and the cure are said' "$(equal $? 3; grep -q 'bookworm-security' "$folder/out" ||
	cat "$folder/out")"
tap_ok 'a failure leaves nothing half done' "$(find "$folder/none" -mindepth 2 ! -name lock)"
ACCEL_CACHE="$folder/a b" mk/kernel.sh KDIR >"$folder/out" 2>&1
tap_ok 'a cache with a space in its path is refused' "$(equal $? 3)"
tap_done
