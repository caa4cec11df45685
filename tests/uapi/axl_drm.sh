#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# The binary contract of uapi/axl_drm.h: the size of every struct, offset and size of every field, value of every
# constant and every ioctl number, as tests/uapi/axl_drm.layout has them, an expression and a value a line. Programs
# built long ago hold these numbers, so a line of that file never changes; what is new is added to it:
#     tests/uapi/axl_drm.sh --print >tests/uapi/axl_drm.layout
set -u
. tests/tap.sh

header=uapi/axl_drm.h
golden=tests/uapi/axl_drm.layout
include="-Iuapi $(pkg-config --cflags-only-I libdrm 2>/dev/null || echo -I/usr/include/libdrm)"
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

# The expressions that the header defines, in its order; a line of a struct or an enum that is not understood is an
# offence, so nothing escapes by its form. The minor version is left out: that one is there to grow.
expressions() {
	awk '
		{ sub(/\/\*.*\*\//, ""); sub(/\/\*.*$/, ""); sub(/[ \t]+$/, "") }
		/^struct [a-z_0-9]+ \{$/ { in_struct = $2; print "sizeof(struct " in_struct ")"; next }
		/^enum [a-z_0-9]+ \{$/ { in_enum = 1; next }
		/^};?$/ { in_struct = ""; in_enum = 0; next }
		/^#define (AXL|DRM_AXL|DRM_IOCTL_AXL)_[A-Z_0-9]+ / && $2 !~ /_(MINOR|NAME)$/ { print $2; next }
		/^#define DRM_IOCTL_AXL_[A-Z_0-9]+ / { print $2; next }
		in_struct && match($0, /^\t__[us](8|16|32|64) [a-z_0-9]+(\[[0-9]+\])?;$/) {
			field = $2
			sub(/(\[.*)?;$/, "", field)
			print "offsetof(struct " in_struct ", " field ")"
			print "sizeof(((struct " in_struct " *)0)->" field ")"
			next
		}
		in_enum && match($0, /^\t[A-Z_0-9]+ = [0-9x]+,$/) { print $1; next }
		(in_struct || in_enum) && !/^[ \t]*$/ && !/^[ \t]*\*/ { print "#error not understood: " $0 }
	' "$header"
}

# Each expression with the value that the compiler gives it.
print_layout() {
	expressions >"$folder/expressions"
	if grep '^#error' "$folder/expressions"; then
		return 1
	fi
	{
		printf '#include <axl_drm.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void)\n{\n'
		sed 's/.*/\tprintf("%s %#llx\\n", "&", (unsigned long long)(&));/' "$folder/expressions"
		printf '\treturn 0;\n}\n'
	} >"$folder/print.c"
	# shellcheck disable=SC2086 # include is a list
	${CC:-cc} $include -o "$folder/print" "$folder/print.c" && "$folder/print"
}

if [ "${1:-}" = --print ]; then
	print_layout
	exit
fi

# $1 what clang is told: the golden file as static assertions, for another processor.
holds_for() {
	# shellcheck disable=SC2086 # lists
	clang-14 $1 -D__linux__ -std=c11 -ffreestanding -fsyntax-only $include -isystem /usr/include/x86_64-linux-gnu \
		"$folder/assert.c" 2>&1
}

tap_ok 'the header can be taken apart line by line' "$(print_layout 2>&1 >"$folder/layout" ||
	{ cat "$folder/layout"; echo "$header: write it so that tests/uapi/axl_drm.sh understands it"; })"
changed=$(sort "$golden" >"$folder/golden"; sort "$folder/layout" | comm -23 "$folder/golden" - | while read -r line; do
	now=$(grep -F -- "${line% *} 0x" "$folder/layout")
	echo "was: $line   now: ${now:-not there}"
done)
tap_ok 'no number has changed' "${changed:+$changed
These numbers are compiled into programs that exist: they never change. Only a struct that got a field at its end
grows, and with it the number of its ioctl. Add to $header and leave what is there.}"
added=$(sort "$folder/layout" | comm -13 "$folder/golden" - | while read -r line; do
	grep -qF -- "${line% *} 0x" "$golden" || echo "$line"
done)
tap_ok 'the golden file knows every number' "${added:+$added
New in $header. If they are meant to stay for ever: tests/uapi/axl_drm.sh --print >$golden}"

{
	printf '#include <axl_drm.h>\n#include <stddef.h>\n'
	sed 's/^\(.*\) \(0x[0-9a-f]*\|0\)$/_Static_assert((\1) == \2, "\1");/' "$golden"
} >"$folder/assert.c"
for target in i386-linux-gnu x86_64-linux-gnu aarch64-linux-gnu riscv32-linux-gnu; do
	if [ -d /usr/include/x86_64-linux-gnu ] && command -v clang-14 >/dev/null; then
		tap_ok "the same numbers on $target" "$(holds_for --target=$target)"
	else
		tap_skip "the same numbers on $target" 'no clang-14, or no headers of Linux'
	fi
done
tap_done
