// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The back ends, fastest first, and which of them this machine can run. */
#include "kernels/cpu/cpu.h"
#include "kernels/kernels.h"
#include "kernels/ref/ref.h"

#include <string.h>

static bool can_always(void)
{
	return true;
}

/* Bound by memory, or seldom run: wider vectors were not worth files of their own. */
#define AVX2_OPS                                                                                   \
	.gate_topk = k_avx2_gate_topk, .quant_fp8 = k_avx2_quant_fp8, .dequant = k_avx2_dequant,   \
	.rows = k_avx2_rows, .combine = k_avx2_combine, .swiglu = k_avx2_swiglu

static const struct {
	bool (*can_run)(void);
	struct k_ops ops;
} backends[] = {
#ifdef __x86_64__
	{k_cpu_has_avx512, {.name = "avx512", AVX2_OPS, .gemm = k_avx512_gemm}},
	/* By name only, since who has it has the one above: its bits differ, and nobody has timed it. */
	{k_cpu_has_avx512bf16, {.name = "avx512bf16", AVX2_OPS, .gemm = k_avx512bf16_gemm}},
	{k_cpu_has_avx2, {.name = "avx2", AVX2_OPS, .gemm = k_avx2_gemm}},
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
