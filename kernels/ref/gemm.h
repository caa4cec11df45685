/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* Which arguments of a grouped GEMM are valid: the same answer in every back end, before anything is written. */
#ifndef ACCEL_KERNELS_REF_GEMM_H
#define ACCEL_KERNELS_REF_GEMM_H

#include "kernels/kernels.h"

/* 0, or -EINVAL: a NULL that would be read or written, an unknown dtype, rows of y that overlap, part >= parts */
int k_gemm_check(const struct k_gemm *gemm, unsigned count, unsigned part, unsigned parts);

#endif
