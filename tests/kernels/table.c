// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The table of back ends: names, order, and that none has a hole. */
#include "kernels/kernels.h"
#include "tap.h"

#include <string.h>

TEST(table, gives_each_back_end_by_name_and_the_fastest_without_one)
{
	const struct k_ops *ops = k_ops_next(NULL);

	CHECK(k_ops_get(NULL) == ops);
	for (; ops; ops = k_ops_next(ops)) {
		CHECK(k_ops_get(ops->name) == ops);
		CHECK(ops->gate_topk && ops->quant_fp8 && ops->dequant && ops->rows &&
		      ops->combine && ops->swiglu && ops->gemm);
		tap_diag("this machine runs %s", ops->name);
	}
	CHECK(k_ops_get("ref") && k_ops_get("portable"));
}

TEST(table, has_null_for_an_unknown_name)
{
	CHECK(!k_ops_get("abacus"));
	CHECK(!k_ops_get(""));
}

TEST(table, ends_with_ref_and_starts_with_what_the_cpu_has)
{
	const struct k_ops *ops, *last = NULL;

	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops))
		last = ops;
	CHECK(!strcmp(last->name, "ref"));
#ifdef __x86_64__
	CHECK_EQ(k_ops_get("avx2") != NULL,
		 __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
	CHECK_EQ(k_ops_get("avx512") != NULL,
		 __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"));
	CHECK_EQ(k_ops_get("avx512bf16") != NULL, k_ops_get("avx512") &&
							  __builtin_cpu_supports("avx512vbmi") &&
							  __builtin_cpu_supports("avx512bf16"));
#endif
}

TEST(table, runs_the_back_end_for_avx512_with_bf16)
{
	if (!k_ops_get("avx512bf16"))
		SKIP("this CPU has no AVX-512 with BF16 and VBMI: gemm_simde has run its code");
	CHECK(k_ops_get(NULL) == k_ops_get("avx512")); /* unless it is named */
}
