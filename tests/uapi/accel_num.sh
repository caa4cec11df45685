#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# accel_num.h compiles alone wherever it is meant to: C11 and C++17, without libc for riscv32 and where floats are
# forbidden. No compiler fuses its sums, and fast-math is refused.

. tests/tap.sh

header=uapi/accel_num.h
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
strict="-Wall -Wextra -Werror -pedantic -Wno-unused-function -fsyntax-only"

printf '#include "%s"\n#include "%s"\n' $header $header >"$folder/integer.c"
{
	echo '#define ACCEL_NUM_FLOAT'
	cat "$folder/integer.c"
} >"$folder/float.c"
cat "$folder/float.c" - >"$folder/sum.c" <<'END'
void sum(float *s, const float *w, const float *x)
{
	for (int i = 0; i < 64; i++)
		s[i] = accel_num_madd(s[i], w[i], x[i]);
}
END

# compiles NAME COMPILER FLAGS...: both halves, or those named in $halves
compiles() {
	name=$1
	compiler=$2
	shift 2
	if ! command -v "$compiler" >/dev/null; then
		tap_skip "$name" "no $compiler here"
		return
	fi
	tap_ok "$name" "$(for half in ${halves:-integer float}; do
		"$compiler" "$@" $strict -I. "$folder/$half.c" 2>&1 || echo "$half half does not compile"
	done)"
}

compiles "compiles as C11" gcc -std=c11
compiles "compiles as C++17" g++ -std=c++17 -x c++
compiles "compiles as C11 with clang" clang-14 -std=c11
compiles "compiles as C++17 with clang" clang++-14 -std=c++17 -x c++
compiles "compiles freestanding for riscv32" clang-14 --target=riscv32 -march=rv32im -ffreestanding -std=c11
compiles "compiles freestanding for riscv64" clang-14 --target=riscv64 -march=rv64gc -ffreestanding -std=c11
compiles "compiles freestanding for aarch64" clang-14 --target=aarch64-none-elf -ffreestanding -std=c11
if [ "$(uname -m)" = x86_64 ]; then
	halves=integer
	compiles "integer half compiles where floats are forbidden" gcc -std=c11 -mgeneral-regs-only
	compiles "integer half compiles where floats are forbidden, with clang" clang-14 -std=c11 -mgeneral-regs-only
	for compiler in gcc clang-14; do
		if ! command -v $compiler >/dev/null; then
			tap_skip "$compiler does not fuse a sum" "no $compiler here"
			continue
		fi
		tap_ok "$compiler does not fuse a sum even when told to" "$(
			$compiler -O3 -mavx2 -mfma -ffp-contract=fast -I. -S -o "$folder/sum.s" "$folder/sum.c" 2>&1
			grep -q mulss "$folder/sum.s" || grep -q mulps "$folder/sum.s" || echo "no product in the code"
			grep -E 'vfn?m(add|sub)' "$folder/sum.s"
		)"
	done
fi
tap_ok "fast-math is refused" "$(
	gcc -ffast-math -fsyntax-only -I. "$folder/float.c" 2>&1 | grep -q 'without -ffast-math' || echo "it was not"
)"
tap_done
