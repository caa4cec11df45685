// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * OpenBLAS as a peer (perf_peer.h): f32 weights, in the order of the checkpoint and transposed, of
 * which the faster is chosen for each number of rows, and by which call.
 */
#include "perf_machine.h"
#include "perf_peer.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ROW_MAJOR = 101,
	NO_TRANS = 111,
	TRANS = 112,
	GEMV_ROWS_MAX = 4, /* beyond it a call a row never wins */
};

static const struct call {
	const char *name;
	bool gemv, transposed;
} calls[] = {
	{"sgemm [out,in]", false, false},
	{"sgemm [in,out]", false, true},
	{"sgemv [out,in]", true, false},
	{"sgemv [in,out]", true, true},
};

struct blas {
	struct perf_peer peer;
	void *library;
	void (*sgemm)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
		      const float *a, int lda, const float *b, int ldb, float beta, float *c,
		      int ldc);
	void (*sgemv)(int order, int trans, int m, int n, float alpha, const float *a, int lda,
		      const float *x, int incx, float beta, float *y, int incy);
	const char *(*corename)(void);
	const char *(*config)(void);
	float *transposed[PERF_PEER_EXPERTS_MAX]; /* [H, 2 I], then [I,H] */
	float *gate_up, *middle;
	const struct call *call;
};

static size_t floats_of(const struct perf_peer_shape *shape)
{
	return 3 * (size_t)shape->hidden * shape->intermediate;
}

static size_t expert_bytes(const struct perf_peer_shape *shape)
{
	return floats_of(shape) * sizeof(float);
}

static void close_blas(struct perf_peer *peer)
{
	struct blas *b = (struct blas *)peer;
	const struct perf_peer_shape *s = peer->shape;
	size_t rows = (size_t)s->rows_max * sizeof(float);

	for (unsigned e = 0; e < s->experts; e++)
		perf_unmap(b->transposed[e], expert_bytes(s));
	perf_unmap(b->gate_up, 2 * rows * s->intermediate);
	perf_unmap(b->middle, rows * s->intermediate);
	perf_unmap(b->peer.y, rows * s->hidden);
	if (b->library)
		dlclose(b->library);
	free(b);
}

static int load(struct blas *b, char *why, unsigned why_bytes)
{
	static const char *const symbols[] = {"cblas_sgemm", "cblas_sgemv", "openblas_get_corename",
					      "openblas_get_config", "openblas_set_num_threads"};
	void *found[5];
	void (*set_num_threads)(int);

	b->library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
	if (!b->library) {
		snprintf(why, why_bytes, "%s (Debian: libopenblas0-pthread)", dlerror());
		return -ENOENT;
	}
	for (unsigned i = 0; i < 5; i++) {
		found[i] = dlsym(b->library, symbols[i]);
		if (!found[i]) {
			snprintf(why, why_bytes, "libopenblas.so.0 has no %s", symbols[i]);
			return -ENOENT;
		}
	}
	memcpy(&b->sgemm, &found[0], sizeof(found[0]));
	memcpy(&b->sgemv, &found[1], sizeof(found[0]));
	memcpy(&b->corename, &found[2], sizeof(found[0]));
	memcpy(&b->config, &found[3], sizeof(found[0]));
	memcpy(&set_num_threads, &found[4], sizeof(found[0]));
	set_num_threads((int)perf_team_threads(b->peer.shape->team));
	sscanf(b->config(), "OpenBLAS %31s", b->peer.software);
	return 0;
}

/* The matrix [out,in] as [in,out], a strip of inputs a member. */
static void transpose(const float *plain, float *to, size_t out, size_t in, unsigned member,
		      unsigned threads)
{
	enum { BLOCK = 32 };

	for (size_t k = in / BLOCK * member / threads * BLOCK;
	     k < in / BLOCK * (member + 1) / threads * BLOCK; k += BLOCK)
		for (size_t o = 0; o < out; o++)
			for (size_t i = k; i < k + BLOCK; i++)
				to[i * out + o] = plain[o * in + i];
}

static void pack_job(void *arg, unsigned member, unsigned threads)
{
	const struct blas *b = arg;
	const struct perf_peer_shape *s = b->peer.shape;
	size_t h = s->hidden, i = s->intermediate;

	for (unsigned e = 0; e < s->experts; e++) {
		transpose(s->plain[e], b->transposed[e], 2 * i, h, member, threads);
		transpose(s->plain[e] + 2 * i * h, b->transposed[e] + 2 * i * h, h, i, member,
			  threads);
	}
}

static int open_blas(const struct perf_peer_shape *s, struct perf_peer **peer, char *why,
		     unsigned why_bytes)
{
	struct blas *b = calloc(1, sizeof(*b));
	size_t rows = (size_t)s->rows_max * sizeof(float);
	struct perf_threads before;
	bool room;
	int rc;

	if (!b)
		return -ENOMEM;
	b->peer.ops = &perf_peer_openblas;
	b->peer.shape = s;
	b->peer.payload_bytes = expert_bytes(s);
	perf_threads_take(&before);
	rc = load(b, why, why_bytes);
	perf_threads_pin_new(&before);
	if (rc) {
		close_blas(&b->peer);
		return rc;
	}
	b->gate_up = perf_map(2 * rows * s->intermediate);
	b->middle = perf_map(rows * s->intermediate);
	b->peer.y = perf_map(rows * s->hidden);
	room = b->gate_up && b->middle && b->peer.y;
	for (unsigned e = 0; e < s->experts; e++)
		room &= (b->transposed[e] = perf_map(expert_bytes(s))) != NULL;
	if (!room) {
		snprintf(why, why_bytes, "no memory for its weights");
		close_blas(&b->peer);
		return -ENOMEM;
	}
	perf_team_run(s->team, pack_job, b);
	*peer = &b->peer;
	return 0;
}

static void multiply(const struct blas *b, const float *w, const float *x, float *y, int in,
		     int out)
{
	const struct call *call = b->call;
	int m = (int)b->peer.m;

	if (!call->gemv)
		b->sgemm(ROW_MAJOR, NO_TRANS, call->transposed ? NO_TRANS : TRANS, m, out, in, 1, x,
			 in, w, call->transposed ? out : in, 0, y, out);
	for (int r = 0; call->gemv && r < m; r++)
		b->sgemv(ROW_MAJOR, call->transposed ? TRANS : NO_TRANS,
			 call->transposed ? in : out, call->transposed ? out : in, 1, w,
			 call->transposed ? out : in, x + (size_t)r * in, 1, 0, y + (size_t)r * out,
			 1);
}

static int64_t run(struct perf_peer *peer, unsigned expert)
{
	struct blas *b = (struct blas *)peer;
	const struct perf_peer_shape *s = peer->shape;
	const float *w = b->call->transposed ? b->transposed[expert] : s->plain[expert];
	int64_t start = perf_now_ns();

	multiply(b, w, s->x, b->gate_up, (int)s->hidden, 2 * (int)s->intermediate);
	perf_peer_swiglu(s, peer->m, b->gate_up, K_DTYPE_F32, b->middle);
	multiply(b, w + 2 * (size_t)s->hidden * s->intermediate, b->middle, peer->y,
		 (int)s->intermediate, (int)s->hidden);
	return perf_now_ns() - start;
}

static bool prepare(struct perf_peer *peer, uint32_t m)
{
	struct blas *b = (struct blas *)peer;
	const struct call *fastest = &calls[0];
	int64_t best = INT64_MAX;

	peer->m = m;
	for (unsigned i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		b->call = &calls[i];
		for (unsigned t = 0; t < PERF_PEER_TRIES && (!b->call->gemv || m <= GEMV_ROWS_MAX);
		     t++) {
			int64_t ns = run(peer, t % peer->shape->experts);

			if (ns < best) {
				best = ns;
				fastest = b->call;
			}
		}
	}
	b->call = fastest;
	snprintf(peer->settings, sizeof(peer->settings), "OpenBLAS %s, %s, %s", peer->software,
		 b->corename(), b->call->name);
	return true;
}

const struct perf_peer_ops perf_peer_openblas = {
	.method = "openblas",
	.library = "openblas",
	.dtype = "f32",
	.error_max = 5e-3, /* our row between SwiGLU and down is rounded to bf16, this one is not */
	.wrong_cure = "choose another kernel with OPENBLAS_CORETYPE",
	.expert_bytes = expert_bytes,
	.open = open_blas,
	.prepare = prepare,
	.run = run,
	.close = close_blas,
};
