// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* In the place of kernels/cpu/has.c: with SIMDe the files for AVX-512 need no more than AVX2. */
#include "kernels/cpu/cpu.h"

bool k_cpu_has_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool k_cpu_has_avx512(void)
{
	return k_cpu_has_avx2();
}

bool k_cpu_has_avx512bf16(void)
{
	return k_cpu_has_avx2();
}
