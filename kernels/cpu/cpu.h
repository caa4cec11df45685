/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The CPU back ends: portable C, and those for x86, whose files are named *_avx2.c (AVX2, FMA, F16C), *_avx512.c
 * (and AVX-512F, BW) and *_avx512bf16.c (and VBMI, BF16), are compiled for that and run only where the CPU has it.
 * Where a simpler back end's operation is as fast as anything, the table in kernels/table.c names that one.
 */
#ifndef ACCEL_KERNELS_CPU_H
#define ACCEL_KERNELS_CPU_H

#include "kernels/kernels.h"

int k_portable_gate_topk(const struct k_gate *gate, unsigned part, unsigned parts);
int k_portable_quant_fp8(const struct k_quant *quant, unsigned part, unsigned parts);
int k_portable_combine(const struct k_combine *combine, unsigned part, unsigned parts);
int k_portable_gemm(const struct k_gemm *gemm, unsigned count, unsigned part, unsigned parts);

int k_avx2_gate_topk(const struct k_gate *gate, unsigned part, unsigned parts);
int k_avx2_quant_fp8(const struct k_quant *quant, unsigned part, unsigned parts);
int k_avx2_dequant(const struct k_dequant *dequant, unsigned part, unsigned parts);
int k_avx2_rows(const struct k_rows *rows, unsigned part, unsigned parts);
int k_avx2_combine(const struct k_combine *combine, unsigned part, unsigned parts);
int k_avx2_swiglu(const struct k_swiglu *swiglu, unsigned part, unsigned parts);
int k_avx2_gemm(const struct k_gemm *gemm, unsigned count, unsigned part, unsigned parts);

int k_avx512_gemm(const struct k_gemm *gemm, unsigned count, unsigned part, unsigned parts);

int k_avx512bf16_gemm(const struct k_gemm *gemm, unsigned count, unsigned part, unsigned parts);

/* Whether this CPU can run such files, and the system keeps their registers. */
bool k_cpu_has_avx2(void);
bool k_cpu_has_avx512(void);
bool k_cpu_has_avx512bf16(void);

#endif
