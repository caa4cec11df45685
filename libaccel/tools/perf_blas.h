/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* OpenBLAS as a peer, loaded when asked for. */
#ifndef ACCEL_PERF_BLAS_H
#define ACCEL_PERF_BLAS_H

enum {
	PERF_CBLAS_ROW_MAJOR = 101,
	PERF_CBLAS_NO_TRANS = 111,
	PERF_CBLAS_TRANS = 112,
};

struct perf_blas {
	void *library;
	void (*sgemm)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
		      const float *a, int lda, const float *b, int ldb, float beta, float *c,
		      int ldc);
	void (*sgemv)(int order, int trans, int m, int n, float alpha, const float *a, int lda,
		      const float *x, int incx, float beta, float *y, int incy);
	const char *(*corename)(void);
	const char *(*config)(void);
};

/* 0, or -ENOENT and a sentence in why */
int perf_blas_open(struct perf_blas *blas, unsigned threads, char *why, unsigned why_bytes);
void perf_blas_close(struct perf_blas *blas);

#endif
