// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * What this CPU has, of what files in this folder are compiled for. The compiler's function also asks whether the
 * system keeps the registers. Tests put another file in the place of this one.
 */
#include "kernels/cpu/cpu.h"

#ifdef __x86_64__
#include <cpuid.h>

bool k_cpu_has_avx2(void)
{
	unsigned eax, ebx, ecx, edx;

	/* clang 14's __builtin_cpu_supports() does not know F16C. */
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
	       __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

bool k_cpu_has_avx512(void)
{
	return k_cpu_has_avx2() && __builtin_cpu_supports("avx512f") &&
	       __builtin_cpu_supports("avx512bw");
}

bool k_cpu_has_avx512bf16(void)
{
	return k_cpu_has_avx512() && __builtin_cpu_supports("avx512vbmi") &&
	       __builtin_cpu_supports("avx512bf16");
}
#endif
