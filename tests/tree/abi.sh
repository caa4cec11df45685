#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# The public surface: what libaccel.so exports, what libaccel.map lists, what the headers declare, what the man pages
# document and what the tests name are one and the same set; and the library needs nothing but the C library.
set -u
. tests/tap.sh
BUILD=${BUILD:-build}
lib=$BUILD/lib
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

nm -D --defined-only "$lib/libaccel.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort >"$work/exported"
nm -g --defined-only "$lib/libaccel.a" | awk 'NF == 3 { print $3 }' | sort >"$work/static"
sed 's/#.*//; s|/\*.*\*/||' libaccel/libaccel.map | tr ';{}' '\n\n\n' |
	awk '/local/ { exit } { sub(/global:/, "") } $1 ~ /^accel_/ { print $1 }' | sort >"$work/map"
# Functions of the headers as the compiler sees them: a name before the first parenthesis of a declaration.
for header in libaccel/include/accel/*.h; do
	echo "#include \"$header\""
done | ${CC:-cc} -E -P -Ilibaccel/include -I. - | tr '\n' ' ' | tr ';{}' '\n\n\n' |
	sed -nE 's/^[^(]*\b(accel_[a-z0-9_]+)\(.*/\1/p' | sort -u >"$work/declared"
for header in libaccel/include/accel/*.h; do
	awk -v list=1 -f mk/man.awk "$header"
done | cut -f 1 | sort >"$work/documented"
find tests/libaccel -type f -exec cat {} + | grep -oE 'accel_[a-z0-9_]+' | sort -u >"$work/tested"

only() { # lines of $1 that $2 lacks
	comm -23 "$work/$1" "$work/$2" | sed "s/\$/: $1, not $2/"
}

tap_ok 'something is exported' "$([ -s "$work/exported" ] || echo 'libaccel.so exports nothing')"
tap_ok 'exported = libaccel.map' "$(only exported map; only map exported)"
tap_ok 'exported = declared in public headers' "$(only exported declared; only declared exported)"
tap_ok 'libaccel.a shows what libaccel.so shows' "$(only exported static; only static exported)"
tap_ok 'every symbol has a doc-comment' "$(only exported documented)"
tap_ok 'no two things share a name, and so a page' "$(uniq -d "$work/documented")"
tap_ok 'every symbol is named by a test' "$(only exported tested)"
tap_ok 'every call that returns something says what' "$(
	while read -r symbol; do
		page=$BUILD/man/man3/$symbol.3
		grep -qE "^void $symbol\(" "$page" || grep -q '^\.SH RETURN VALUE' "$page" || echo "$symbol: no Return:"
	done <"$work/exported" 2>&1)"
tap_ok 'libaccel.so needs the C library alone' "$(
	readelf -d "$lib/libaccel.so" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
		grep -vE '^(libc|libm|libdl|libpthread|ld-linux-[a-z0-9-]+)\.so')"
tap_ok 'libaccel.so has its soname' "$(
	readelf -d "$lib/libaccel.so" | grep -q 'SONAME.*\[libaccel\.so\.0\]' || echo 'it is not libaccel.so.0')"
if command -v mandoc >/dev/null; then
	# A page may refer to one that is not installed yet.
	tap_ok 'man pages are clean' "$(for page in "$BUILD"/man/man?/*.?; do mandoc -T lint -W all "$page"; done 2>&1 |
		grep -v 'referenced manual not found')"
else
	tap_skip 'man pages are clean' 'no mandoc'
fi
tap_done
