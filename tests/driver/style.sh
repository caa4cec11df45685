#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# What a kernel reviewer's tools say of driver/: the compiler with W=1, sparse, checkpatch --strict; and that whatever
# an operator can see of the module is documented.
set -u
. tests/tap.sh

kdir=${KDIR:-$(mk/kernel.sh KDIR)} || exit
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# Debian has checkpatch.pl in the package of the kernel's whole source alone: the three files it is are taken out once.
find_checkpatch() {
	home=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
	checkpatch=${ACCEL_CACHE:-${home:+$home/accel}}/checkpatch
	[ ! -e "$checkpatch/checkpatch.pl" ] || return 0
	source=$(find /usr/src -maxdepth 1 -name 'linux-source-6.*.tar.xz' | sort -V | tail -n 1)
	[ -n "$source" ] || return 0
	name=$(basename "$source" .tar.xz)/scripts
	new=$(mkdir -p "${checkpatch%/*}" && mktemp -d "$checkpatch.XXXXXX") || return 0
	tar xJf "$source" -C "$new" --strip-components=2 --occurrence=1 "$name/checkpatch.pl" "$name/spelling.txt" \
		"$name/const_structs.checkpatch" && mv -T "$new" "$checkpatch" 2>/dev/null || rm -rf "$new"
}

# $1 options, rest files. Lines of 100 columns are the tree's law, not checkpatch's.
checkpatch_says() {
	options=$1
	shift # shellcheck disable=SC2086 # a list of options
	perl "$checkpatch/checkpatch.pl" --no-tree --strict --terse --show-types $options -f "$@" | grep -v '^total:'
}

log=$work/log
unset MAKEFLAGS MFLAGS MAKELEVEL
mk/driver.sh "$kdir" "$work" W=1 C=2 CHECK=sparse >"$log" 2>&1 || echo 'error: make failed' >>"$log"
module=$(find "$work" -name accel.ko)
tap_ok 'accel.ko builds with W=1 and sparse, and they say nothing' "$(
	grep -E '(error|warning|undefined):?' "$log" | sed "s|$work/||g"
	[ -n "$module" ] || tail -n 5 "$log")"
tap_ok 'sparse saw every file' "$(
	for file in driver/*.c; do
		grep -q "CHECK.*/$file\$" "$log" || echo "$file"
	done)"

find_checkpatch
if [ -e "$checkpatch/checkpatch.pl" ]; then
	tap_ok 'checkpatch --strict' "$(
		checkpatch_says '' $(ls driver/*.[ch] | grep -v axl_trace.h)
		# The layout of trace events is the kernel's own, which checkpatch does not know.
		checkpatch_says '--ignore OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT' driver/axl_trace.h)"
else
	tap_skip 'checkpatch --strict' 'no /usr/src/linux-source-6.*.tar.xz, which has it (Debian: linux-source-6.12)'
fi
tap_ok 'accel(4) is sound mdoc' "$(mandoc -T lint -W warning driver/accel.4)"

# $1 names, $2 file: those that the file does not have as a word.
unknown_to() {
	for name in $1; do
		grep -qw -- "$name" "$2" || echo "$2 does not mention $name"
	done
}

attributes=$(sed -nE 's/^AXL_SYSFS\(([a-z_]+),.*/\1/p; s/^static BUS_ATTR_WO\(([a-z_]+)\);/\1/p' driver/axl_*.c)
parameters=$(modinfo -F parm "$module" | sed 's/:.*//')
events=$(grep -hoE '^(DEFINE_EVENT\([a-z_]+, |TRACE_EVENT\()axl_[a-z_]+' driver/axl_trace.h | sed 's/.*[ (]//')
lists=$(sed -nE 's/^\t\{ ?"(axl_[a-z]+)", [a-z_]+ ?\},$/\1/p' driver/axl_debugfs.c)
tap_ok 'ABI.txt has every attribute' "$(
	[ "$(echo "$attributes" | wc -l)" -ge 14 ] || echo "only $attributes were found"
	for name in $attributes; do
		grep -qE "^What:.*/$name\$" driver/ABI.txt || echo "$name"
	done)"
tap_ok 'ABI.txt has nothing else' "$(
	sed -nE 's/^What:.*\/([a-z_]+)$/\1/p' driver/ABI.txt | grep -vxF "$attributes")"
tap_ok 'accel(4) has every parameter, attribute, list and tracepoint' "$(
	[ "$(echo $parameters $events $lists | wc -w)" -ge 16 ] || echo "only $parameters $events $lists were found"
	unknown_to "$parameters $attributes $lists $events" driver/accel.4)"
tap_ok 'the example of modprobe.d has parameters that there are' "$(
	grep -oE '[a-z_]+=' driver/accel-modprobe.conf | tr -d = | grep -vxF "$parameters")"
tap_done
