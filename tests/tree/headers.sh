#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# Every public header compiles alone, with nothing before it, by both compilers: libaccel's as C11 and C++17, uapi's
# also without a C library and for the card's processor, but for the driver's ioctls, which stand on Linux's headers.
set -u
. tests/tap.sh

strict='-fsyntax-only -Wall -Wextra -Wshadow -Werror -pedantic'

# $1 header as included, rest: compiler and flags. What the compiler says, if it says no.
alone() {
	header=$1
	shift
	# shellcheck disable=SC2086 # flags
	echo "#include <$header>" | "$@" $strict - 2>&1
}

for file in libaccel/include/accel/*.h; do
	header=${file#libaccel/include/}
	for cc in gcc clang-14; do
		command -v $cc >/dev/null || { tap_skip "$header alone, $cc" "no $cc"; continue; }
		tap_ok "$header alone, C11, $cc" "$(alone "$header" $cc -std=c11 -x c -Ilibaccel/include)"
		tap_ok "$header alone, C++17, $cc" "$(alone "$header" $cc -std=c++17 -x c++ -Ilibaccel/include)"
	done
done
drm=$(pkg-config --cflags-only-I libdrm 2>/dev/null || echo -I/usr/include/libdrm)
for file in uapi/*.h; do
	[ -e "$file" ] || continue
	header=${file#uapi/}
	# shellcheck disable=SC2086 # flags
	{
		tap_ok "$header alone, freestanding C11" "$(alone "$header" \
			gcc -std=c11 -ffreestanding -x c -Iuapi $drm)"
		tap_ok "$header alone, C++17" "$(alone "$header" gcc -std=c++17 -x c++ -Iuapi $drm)"
	}
	if [ "$header" = axl_drm.h ]; then
		continue
	elif command -v clang-14 >/dev/null; then
		tap_ok "$header alone, riscv32" "$(alone "$header" clang-14 --target=riscv32 -march=rv32im -mabi=ilp32 \
			-std=c11 -ffreestanding -x c -Iuapi)"
	else
		tap_skip "$header alone, riscv32" 'no clang-14'
	fi
done
tap_done
