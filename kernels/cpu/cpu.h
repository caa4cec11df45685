/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The CPU back ends: portable C, and AVX2 + FMA (files named *_avx2.c are compiled for it, and run only where the CPU
 * has it). Where the reference is as fast as anything, the table in kernels/table.c names it instead.
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

#endif
