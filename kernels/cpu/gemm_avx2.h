/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* What the grouped GEMMs for x86 share: how rows become f32, and how code is kept in registers. */
#ifndef ACCEL_KERNELS_CPU_GEMM_AVX2_H
#define ACCEL_KERNELS_CPU_GEMM_AVX2_H

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "kernels/cpu/gemm.h"

#define ACCEL_NUM_FLOAT
#include "uapi/accel_num.h"

/* Accumulators stay in registers only where every loop over them is unrolled. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 24")
#endif
#define INLINE static inline __attribute__((always_inline))

/* As struct gemm_inner has them. */
void k_avx2_gemm_bf16(float *x, size_t stride, const uint16_t *row, unsigned n);
void k_avx2_gemm_fp8(float *x, size_t stride, const uint8_t *codes, const float *scale, unsigned n);

#endif
