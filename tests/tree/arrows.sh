#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# Which folder may include which: the table below is the whole law. A name is looked up as the compiler does: beside
# the file, then in the include paths that the Makefile gives.
set -u
. tests/tap.sh

# Folder, then the prefixes of what its files may include besides their own folder's.
arrows='
uapi
kernels           uapi/
libaccel/include
libaccel/tools    uapi/ kernels/kernels.h libaccel/include/
libaccel          uapi/ kernels/kernels.h
runtime           uapi/ kernels/kernels.h libaccel/include/ libaccel/tools/mpi_exchange.h libaccel/tools/mpi_settings.h
driver            uapi/
fw                uapi/
'

# The file of ours that an include names, or nothing for a system header.
resolve() {
	for dir in "${1%/*}" . uapi kernels libaccel/include libaccel runtime tests; do
		if [ -e "$dir/$2" ]; then
			echo "$dir/$2" | sed 's|^\./||; s|[^/]*/\.\./||g'
			return
		fi
	done
}

# $1 folder (with its subfolders, those of longer rows excepted), $2.. what it may include.
offences() {
	folder=$1
	shift
	[ -d "$folder" ] || return 0
	find "$folder" -name '*.[ch]' -exec grep -HE '^[[:space:]]*#[[:space:]]*include' {} + |
		sed -E 's/:.*include[[:space:]]*(["<])([^">]*)[">].*/ \1 \2/' |
		while read -r file quote name; do
			case "$folder:$file" in
			libaccel:libaccel/include/* | libaccel:libaccel/tools/*) continue ;;
			esac
			case $name in build_info.h | axl_conftest.h) continue ;; esac # generated
			target=$(resolve "$file" "$name")
			if [ -z "$target" ]; then
				[ "$quote" = '<' ] || echo "$file includes \"$name\", which is nowhere in the tree"
				continue
			fi
			allowed=no
			for prefix in "$folder/" "$@"; do
				case "$target" in "$prefix"*) allowed=yes ;; esac
			done
			[ $allowed = yes ] || echo "$file includes $target"
		done
}

while read -r row; do
	[ -n "$row" ] || continue
	# shellcheck disable=SC2086 # a row is a list of words
	set -- $row
	tap_ok "$1 includes only what it may" "$(offences "$@")"
done <<ROWS
$arrows
ROWS
tap_done
