// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The back ends, fastest first, and which of them this machine can run. */
#include "kernels/cpu/cpu.h"
#include "kernels/kernels.h"
#include "kernels/ref/ref.h"

#ifdef __x86_64__
#include <cpuid.h>
#endif
#include <string.h>

static bool can_always(void)
{
	return true;
}

#ifdef __x86_64__
static bool can_avx2(void)
{
	unsigned eax, ebx, ecx, edx;

	/* clang 14's __builtin_cpu_supports() does not know F16C. */
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
	       __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}
#endif

static const struct {
	bool (*can_run)(void);
	struct k_ops ops;
} backends[] = {
#ifdef __x86_64__
	{can_avx2,
	 {.name = "avx2",
	  .gate_topk = k_avx2_gate_topk,
	  .quant_fp8 = k_avx2_quant_fp8,
	  .dequant = k_avx2_dequant,
	  .rows = k_avx2_rows,
	  .combine = k_avx2_combine,
	  .swiglu = k_avx2_swiglu,
	  .gemm = k_avx2_gemm}},
#endif
	{can_always,
	 {.name = "portable",
	  .gate_topk = k_portable_gate_topk,
	  .quant_fp8 = k_portable_quant_fp8,
	  .dequant = k_ref_dequant,
	  .rows = k_ref_rows,
	  .combine = k_portable_combine,
	  .swiglu = k_ref_swiglu,
	  .gemm = k_portable_gemm}},
	{can_always,
	 {.name = "ref",
	  .gate_topk = k_ref_gate_topk,
	  .quant_fp8 = k_ref_quant_fp8,
	  .dequant = k_ref_dequant,
	  .rows = k_ref_rows,
	  .combine = k_ref_combine,
	  .swiglu = k_ref_swiglu,
	  .gemm = k_ref_gemm}},
};

enum {
	BACKENDS = sizeof(backends) / sizeof(*backends),
};

const struct k_ops *k_ops_get(const char *name)
{
	unsigned i;

	for (i = 0; i < BACKENDS; i++)
		if ((!name || !strcmp(name, backends[i].ops.name)) && backends[i].can_run())
			return &backends[i].ops;
	return NULL;
}

const struct k_ops *k_ops_next(const struct k_ops *ops)
{
	unsigned i = 0;

	while (ops && i < BACKENDS && &backends[i].ops != ops)
		i++;
	if (ops)
		i++;
	for (; i < BACKENDS; i++)
		if (backends[i].can_run())
			return &backends[i].ops;
	return NULL;
}
