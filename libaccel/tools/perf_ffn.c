// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * accel-perf ffn; see perf_ffn.h. Each method walks a ring of experts of its own that is larger than the last-level
 * cache. Before it is timed its result is checked: ours on some outputs against kernels/ref, the peer's against ours.
 */
#define _GNU_SOURCE
#include "perf_ffn.h"

#include "perf_blas.h"
#include "perf_machine.h"
#include "perf_team.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ACCEL_NUM_FLOAT
#include "kernels/kernels.h"
#include "uapi/accel_num.h"

enum {
	ROWS_MAX = 4096,       /* rows of one measurement */
	ROWS_COUNT_MAX = 8,    /* measurements */
	SAMPLES_FEW_ROWS = 50, /* up to 4 rows */
	SAMPLES = 21,
	SAMPLES_MAX = 10000,
	WARM_UP = 3,
	SETTLE_MS = 30,	      /* OpenBLAS's threads look for work that long before they sleep */
	CHECK_OUTPUTS = 8,    /* outputs of a window that kernels/ref computes again */
	SWIGLU_ALONE = 16384, /* elements from which waking the team pays */
};

static const double bound_ref = 1e-5; /* relative L2, f32 sums in another order */
static const double bound_peer =
	5e-3; /* our row between SwiGLU and down is rounded to bf16, the peer's is not */

/* gate and up [intermediate,hidden], down [hidden,intermediate], one after the other */
struct expert {
	uint8_t *codes;
	float *scales;
	float *plain; /* the same for the peer: [gate, up] as one matrix, then down; [out,in] */
	float *transposed; /* [in,out] */
};

struct ffn {
	const struct k_ops *ops;
	struct perf_team *team;
	struct perf_blas blas;
	uint32_t hidden, intermediate, rows_max, samples, rows[ROWS_COUNT_MAX];
	unsigned rows_count, experts_count, peer_experts_count;
	size_t elements, blocks; /* of one matrix */
	struct expert *experts;
	uint8_t *codes; /* of all experts */
	bool peer;

	uint32_t m; /* of the measurement at hand */
	const struct expert *expert;
	uint16_t *x, *middle;
	float *x_f32, *gate, *up, *y, *peer_gate_up, *peer_middle, *peer_y;
	const void **x_row, **middle_row;
	const struct blas_call *call;
	int64_t ns;
};

/* How the peer may be called; the fastest is taken for each number of rows. */
static const struct blas_call {
	const char *name;
	bool gemv, transposed;
} blas_calls[] = {
	{"sgemm [out,in]", false, false},
	{"sgemm [in,out]", false, true},
	{"sgemv [out,in]", true, false},
	{"sgemv [in,out]", true, true},
};

/* ---- weights ---------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t z) /* splitmix64 of a counter */
{
	z = (z + 1) * 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static void codes_job(void *arg, unsigned member, unsigned threads)
{
	const struct ffn *f = arg;
	size_t words = 3 * f->elements / 8, from = words * member / threads,
	       to = words * (member + 1) / threads;

	for (unsigned e = 0; e < f->experts_count; e++)
		for (size_t i = from; i < to; i++) {
			uint64_t word = mix(i + e * words);

			for (unsigned b = 0; b < 64; b += 8)
				if ((word >> b & 0x7f) == ACCEL_NUM_E4M3_NAN)
					word ^= UINT64_C(1) << b;
			memcpy(f->experts[e].codes + 8 * i, &word, sizeof(word));
		}
	for (unsigned e = member; e < f->experts_count; e += threads)
		for (size_t i = 0; i < 3 * f->blocks; i++)
			f->experts[e].scales[i] = ldexpf(1 + (mix(i) & 0xffff) / 65536.0f, -14);
}

/* One of our matrices into the peer's, whose outputs begin at first of all. */
static void matrix_expand(const struct ffn *f, const struct expert *e, unsigned matrix,
			  uint32_t first, uint32_t all, size_t to, unsigned member,
			  unsigned threads)
{
	uint32_t in = matrix < 2 ? f->hidden : f->intermediate,
		 out = matrix < 2 ? f->intermediate : f->hidden;
	uint32_t begin = (uint64_t)in / K_BLOCK * member / threads * K_BLOCK;
	uint32_t end = (uint64_t)in / K_BLOCK * (member + 1) / threads * K_BLOCK;

	for (uint32_t block = begin; block < end; block += K_BLOCK)
		for (uint32_t o = 0; o < out; o++) {
			const uint8_t *codes = e->codes + matrix * f->elements + (size_t)o * in;
			float scale =
				e->scales[matrix * f->blocks +
					  (size_t)(o / K_BLOCK) * (in / K_BLOCK) + block / K_BLOCK];

			for (uint32_t k = block; k < block + K_BLOCK; k++) {
				float w = accel_num_float(accel_num_e4m3_to_f32(codes[k])) * scale;

				e->plain[to + (size_t)(first + o) * in + k] = w;
				e->transposed[to + (size_t)k * all + first + o] = w;
			}
		}
}

static void peer_weights_job(void *arg, unsigned member, unsigned threads)
{
	const struct ffn *f = arg;

	for (unsigned i = 0; i < f->peer_experts_count; i++) {
		const struct expert *e = &f->experts[i];

		matrix_expand(f, e, 0, 0, 2 * f->intermediate, 0, member, threads);
		matrix_expand(f, e, 1, f->intermediate, 2 * f->intermediate, 0, member, threads);
		matrix_expand(f, e, 2, 0, f->hidden, 2 * f->elements, member, threads);
	}
}

/* ---- one FFN ----------------------------------------------------------------------------------------------------- */

static struct k_gemm gemm_of(const struct ffn *f, unsigned matrix)
{
	uint32_t in = matrix < 2 ? f->hidden : f->intermediate,
		 out = matrix < 2 ? f->intermediate : f->hidden;

	return (struct k_gemm){
		.rows = f->m,
		.in = in,
		.out = out,
		.row_dtype = K_DTYPE_BF16,
		.row = matrix < 2 ? f->x_row : f->middle_row,
		.weight = f->expert->codes + matrix * f->elements,
		.weight_scale = f->expert->scales + matrix * f->blocks,
		.y_dtype = K_DTYPE_F32,
		.y = matrix == 0   ? f->gate
		     : matrix == 1 ? f->up
				   : f->y,
		.y_stride = out * sizeof(float),
	};
}

static void accel_job(void *arg, unsigned member, unsigned threads)
{
	struct ffn *f = arg;
	const struct k_gemm first[2] = {gemm_of(f, 0), gemm_of(f, 1)}, down = gemm_of(f, 2);
	const struct k_swiglu swiglu = {
		.rows = f->m,
		.width = f->intermediate,
		.gate = f->gate,
		.gate_stride = f->intermediate * sizeof(float),
		.up = f->up,
		.up_stride = f->intermediate * sizeof(float),
		.y_dtype = K_DTYPE_BF16,
		.y = f->middle,
		.y_stride = f->intermediate * sizeof(*f->middle),
	};
	int64_t start;

	perf_team_barrier(f->team);
	start = perf_now_ns();
	f->ops->gemm(first, 2, member, threads);
	perf_team_barrier(f->team);
	f->ops->swiglu(&swiglu, member, threads);
	perf_team_barrier(f->team);
	f->ops->gemm(&down, 1, member, threads);
	perf_team_barrier(f->team);
	if (!member)
		f->ns = perf_now_ns() - start;
}

/*
 * A sample is the second of two FFNs in a row, of different experts, as they follow each other in serving: threads are
 * awake and code is in the cache, weights are not.
 */
static int64_t accel_sample(struct ffn *f, unsigned index)
{
	const struct timespec settle = {.tv_nsec = SETTLE_MS * 1000000L};

	if (f->peer)
		nanosleep(&settle, NULL);
	for (unsigned i = 0; i < 2; i++) {
		f->expert = &f->experts[(index + i) % f->experts_count];
		perf_team_run(f->team, accel_job, f);
	}
	return f->ns;
}

static void peer_swiglu_job(void *arg, unsigned member, unsigned threads)
{
	struct ffn *f = arg;
	const struct k_swiglu swiglu = {
		.rows = f->m,
		.width = f->intermediate,
		.gate = f->peer_gate_up,
		.up = f->peer_gate_up + f->intermediate,
		.gate_stride = 2 * f->intermediate * sizeof(float),
		.up_stride = 2 * f->intermediate * sizeof(float),
		.y_dtype = K_DTYPE_F32,
		.y = f->peer_middle,
		.y_stride = f->intermediate * sizeof(float),
	};

	f->ops->swiglu(&swiglu, member, threads);
}

static void peer_matrix(const struct ffn *f, const float *w, const float *x, float *y, int in,
			int out)
{
	const struct blas_call *call = f->call;
	int m = (int)f->m;

	if (!call->gemv)
		f->blas.sgemm(PERF_CBLAS_ROW_MAJOR, PERF_CBLAS_NO_TRANS,
			      call->transposed ? PERF_CBLAS_NO_TRANS : PERF_CBLAS_TRANS, m, out, in,
			      1, x, in, w, call->transposed ? out : in, 0, y, out);
	for (int r = 0; call->gemv && r < m; r++)
		f->blas.sgemv(PERF_CBLAS_ROW_MAJOR,
			      call->transposed ? PERF_CBLAS_TRANS : PERF_CBLAS_NO_TRANS,
			      call->transposed ? in : out, call->transposed ? out : in, 1, w,
			      call->transposed ? out : in, x + (size_t)r * in, 1, 0,
			      y + (size_t)r * out, 1);
}

static int64_t peer_once(struct ffn *f, const struct expert *e)
{
	const float *w = f->call->transposed ? e->transposed : e->plain;
	int64_t start = perf_now_ns();

	peer_matrix(f, w, f->x_f32, f->peer_gate_up, (int)f->hidden, 2 * (int)f->intermediate);
	if (f->m * f->intermediate > SWIGLU_ALONE)
		perf_team_run(f->team, peer_swiglu_job, f);
	else
		peer_swiglu_job(f, 0, 1);
	peer_matrix(f, w + 2 * f->elements, f->peer_middle, f->peer_y, (int)f->intermediate,
		    (int)f->hidden);
	return perf_now_ns() - start;
}

static int64_t peer_sample(struct ffn *f, unsigned index)
{
	peer_once(f, &f->experts[index % f->peer_experts_count]);
	return peer_once(f, &f->experts[(index + 1) % f->peer_experts_count]);
}

/* ---- checks ------------------------------------------------------------------------------------------------------ */

static double relative_l2(const float *a, const float *b, size_t n)
{
	double difference = 0, norm = 0;

	for (size_t i = 0; i < n; i++) {
		difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
		norm += (double)b[i] * b[i];
	}
	return norm > 0 ? sqrt(difference / norm) : INFINITY;
}

/* A few outputs of each matrix, computed again by kernels/ref from the same operands. */
static bool accel_verified(struct ffn *f)
{
	const struct k_ops *ref = k_ops_get("ref");
	bool good = true;

	accel_sample(f, 0);
	for (unsigned matrix = 0; matrix < 3; matrix++) {
		struct k_gemm whole = gemm_of(f, matrix), g = whole;
		uint32_t blocks = g.out / K_BLOCK, at[] = {0, blocks / 2, blocks - 1};

		g.out = CHECK_OUTPUTS;
		g.y_stride = sizeof(float) * CHECK_OUTPUTS;
		g.y = f->peer_gate_up; /* free now, and larger */
		for (unsigned i = 0; i < 3; i++) {
			g.weight = whole.weight + (size_t)at[i] * K_BLOCK * g.in;
			g.weight_scale = whole.weight_scale + (size_t)at[i] * (g.in / K_BLOCK);
			if (ref->gemm(&g, 1, 0, 1))
				return false;
			for (uint32_t r = 0; r < f->m; r++)
				good &= relative_l2((float *)whole.y + (size_t)r * whole.out +
							    at[i] * K_BLOCK,
						    f->peer_gate_up + (size_t)r * CHECK_OUTPUTS,
						    CHECK_OUTPUTS) <= bound_ref;
		}
	}
	return good;
}

/* The peer's y against ours of the same expert, which accel_verified() has left in f->y. */
static bool peer_verified(struct ffn *f)
{
	bool good = true;

	peer_sample(f, 0);
	for (uint32_t r = 0; r < f->m; r++)
		good &= relative_l2(f->peer_y + (size_t)r * f->hidden, f->y + (size_t)r * f->hidden,
				    f->hidden) <= bound_peer;
	return good;
}

/* ---- measuring --------------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static struct perf_ffn_result *result_add(const struct ffn *f, struct perf_ffn_report *report,
					  const char *method, int64_t *ns, uint32_t samples,
					  bool verified)
{
	struct perf_ffn_result *r = &report->results[report->results_count++];

	qsort(ns, samples, sizeof(*ns), by_value);
	*r = (struct perf_ffn_result){
		.method = method,
		.rows_m = f->m,
		.hidden = f->hidden,
		.intermediate = f->intermediate,
		.threads = perf_team_threads(f->team),
		.samples = samples,
		.ns_min = ns[0],
		.ns_p10 = ns[samples / 10],
		.ns_median = ns[samples / 2],
		.ns_p90 = ns[samples * 9 / 10],
		.ns_max = ns[samples - 1],
		.macs = 3 * f->elements * f->m,
		.verified = verified,
	};
	return r;
}

static void skip(struct perf_ffn_report *report, const char *what, const char *why)
{
	unsigned i = report->skipped_count;

	if (i == PERF_FFN_SKIPPED_MAX)
		return;
	report->skipped_count++;
	snprintf(report->skipped[i].what, sizeof(report->skipped[i].what), "%s", what);
	snprintf(report->skipped[i].why, sizeof(report->skipped[i].why), "%s", why);
}

static void peer_choose(struct ffn *f)
{
	int64_t best = INT64_MAX;
	const struct blas_call *fastest = &blas_calls[0];

	for (unsigned i = 0; i < sizeof(blas_calls) / sizeof(*blas_calls); i++) {
		f->call = &blas_calls[i];
		for (unsigned s = 0; s < WARM_UP && (!f->call->gemv || f->m <= 4); s++) {
			int64_t ns = peer_once(f, &f->experts[s % f->peer_experts_count]);

			if (ns < best) {
				best = ns;
				fastest = f->call;
			}
		}
	}
	f->call = fastest;
}

static int rows_measure(struct ffn *f, struct perf_ffn_report *report)
{
	uint32_t samples = f->samples ? f->samples : f->m <= 4 ? SAMPLES_FEW_ROWS : SAMPLES;
	int64_t *ns = malloc(2 * samples * sizeof(*ns)), *peer_ns = ns ? ns + samples : NULL;
	bool good = accel_verified(f), peer_good = false;
	struct perf_ffn_result *r;

	if (!ns)
		return 3;
	if (f->peer) {
		peer_choose(f);
		peer_good = peer_verified(f);
	}
	for (unsigned s = 0; s < WARM_UP; s++)
		accel_sample(f, s);
	for (uint32_t s = 0; s < samples; s++) {
		ns[s] = accel_sample(f, s);
		if (f->peer)
			peer_ns[s] = peer_sample(f, s);
	}
	r = result_add(f, report, "accel", ns, samples, good);
	r->dtype = "bf16";
	r->payload_bytes = 3 * (f->elements + f->blocks * sizeof(float));
	snprintf(r->settings, sizeof(r->settings), "kernels %s", f->ops->name);
	if (f->peer) {
		r = result_add(f, report, "openblas", peer_ns, samples, peer_good);
		r->dtype = "f32";
		r->payload_bytes = 3 * f->elements * sizeof(float);
		snprintf(r->settings, sizeof(r->settings), "%.24s, %s, %s", f->blas.config(),
			 f->blas.corename(), f->call->name);
		if (!peer_good)
			skip(report, "openblas",
			     "computes wrong results on this CPU: choose another kernel with OPENBLAS_CORETYPE");
	}
	free(ns);
	return good ? 0 : 1;
}

/* ---- setting up -------------------------------------------------------------------------------------------------- */

static unsigned ring_count(size_t expert_bytes)
{
	return (unsigned)(2 * perf_cache_bytes() / expert_bytes) + 2;
}

static void *floats(size_t count)
{
	return perf_map(count * sizeof(float));
}

static bool experts_map(struct ffn *f)
{
	f->codes = perf_map(f->experts_count * 3 * f->elements);
	for (unsigned e = 0; e < f->experts_count; e++) {
		struct expert *x = &f->experts[e];

		x->codes = f->codes + e * 3 * f->elements;
		x->scales = floats(3 * f->blocks);
		if (!f->codes || !x->scales)
			return false;
	}
	for (unsigned e = 0; f->peer && e < f->peer_experts_count; e++) {
		struct expert *x = &f->experts[e];

		x->plain = floats(3 * f->elements);
		x->transposed = floats(3 * f->elements);
		if (!x->plain || !x->transposed)
			return false;
	}
	return true;
}

static bool rows_map(struct ffn *f)
{
	size_t m = f->rows_max, h = f->hidden, i = f->intermediate;

	f->x = perf_map(m * h * sizeof(*f->x));
	f->middle = perf_map(m * i * sizeof(*f->middle));
	f->x_f32 = floats(m * h);
	f->gate = floats(m * i);
	f->up = floats(m * i);
	f->y = floats(m * h);
	f->peer_gate_up = floats(m * 2 * i);
	f->peer_middle = floats(m * i);
	f->peer_y = floats(m * h);
	f->x_row = calloc(m, sizeof(*f->x_row));
	f->middle_row = calloc(m, sizeof(*f->middle_row));
	if (!f->x || !f->middle || !f->x_f32 || !f->gate || !f->up || !f->y || !f->peer_gate_up ||
	    !f->peer_middle || !f->peer_y || !f->x_row || !f->middle_row)
		return false;
	for (size_t n = 0; n < m * h; n++) {
		f->x[n] = accel_num_f32_to_bf16(accel_num_bits((mix(n) & 0xffff) / 32768.0f - 1));
		f->x_f32[n] = accel_num_float(accel_num_bf16_to_f32(f->x[n]));
	}
	for (size_t r = 0; r < m; r++) {
		f->x_row[r] = f->x + r * h;
		f->middle_row[r] = f->middle + r * i;
	}
	return true;
}

static void ffn_fini(struct ffn *f)
{
	size_t m = f->rows_max, h = f->hidden, i = f->intermediate;

	for (unsigned e = 0; f->experts && e < f->experts_count; e++) {
		perf_unmap(f->experts[e].scales, 3 * f->blocks * sizeof(float));
		perf_unmap(f->experts[e].plain, 3 * f->elements * sizeof(float));
		perf_unmap(f->experts[e].transposed, 3 * f->elements * sizeof(float));
	}
	perf_unmap(f->codes, f->experts_count * 3 * f->elements);
	free(f->experts);
	perf_unmap(f->x, m * h * sizeof(*f->x));
	perf_unmap(f->middle, m * i * sizeof(*f->middle));
	perf_unmap(f->x_f32, m * h * sizeof(float));
	perf_unmap(f->gate, m * i * sizeof(float));
	perf_unmap(f->up, m * i * sizeof(float));
	perf_unmap(f->y, m * h * sizeof(float));
	perf_unmap(f->peer_gate_up, m * 2 * i * sizeof(float));
	perf_unmap(f->peer_middle, m * i * sizeof(float));
	perf_unmap(f->peer_y, m * h * sizeof(float));
	free(f->x_row);
	free(f->middle_row);
	perf_blas_close(&f->blas);
	perf_team_destroy(f->team);
}

static int ffn_init(struct ffn *f, unsigned threads, struct perf_ffn_report *report)
{
	size_t room = perf_memory_free_bytes() / 10 * 6, ours, peers;
	char why[160];
	int err = perf_team_create(threads, &f->team);

	if (err) {
		fprintf(stderr, "accel-perf: ffn: cannot start %u threads: %s\n", threads,
			strerror(-err));
		return err == -EINVAL ? 2 : 3;
	}
	f->elements = (size_t)f->hidden * f->intermediate;
	f->blocks = f->elements / K_BLOCK / K_BLOCK;
	f->experts_count = ring_count(3 * f->elements);
	f->peer_experts_count = ring_count(12 * f->elements);
	ours = f->experts_count * 3 * f->elements;
	peers = f->peer_experts_count * 24 * f->elements;
	if (ours > room) {
		fprintf(stderr,
			"accel-perf: ffn: weights take %zu MiB, 60 %% of free memory is %zu MiB\n",
			ours >> 20, room >> 20);
		return 3;
	}
	f->peer = !perf_blas_open(&f->blas, perf_team_threads(f->team), why, sizeof(why));
	if (f->peer && ours + peers > room) {
		f->peer = false;
		snprintf(why, sizeof(why), "needs %zu MiB, 60 %% of free memory is %zu MiB",
			 (ours + peers) >> 20, room >> 20);
	}
	if (!f->peer)
		skip(report, "openblas", why);
	f->experts = calloc(f->experts_count, sizeof(*f->experts));
	if (!f->experts || !experts_map(f) || !rows_map(f)) {
		fprintf(stderr, "accel-perf: ffn: no memory for weights and rows\n");
		return 3;
	}
	perf_team_run(f->team, codes_job, f);
	if (f->peer)
		perf_team_run(f->team, peer_weights_job, f);
	return 0;
}

static void print_report(const struct perf_ffn_report *report)
{
	char cpu[128];

	perf_cpu_name(cpu, sizeof(cpu));
	printf("%s; measured: reads %.1f GB/s, f32 %.1f GMAC/s\n", cpu,
	       report->read_bytes_per_s / 1e9, report->macs_per_s / 1e9);
	printf("%5s  %-9s %9s %9s %9s  %11s %11s  %s\n", "rows", "method", "median ms", "p10",
	       "p90", "read bound", "MAC bound", "what ran");
	for (unsigned i = 0; i < report->results_count; i++) {
		const struct perf_ffn_result *r = &report->results[i];

		printf("%5u  %-9s %9.3f %9.3f %9.3f  %11.3f %11.3f  %s%s\n", r->rows_m, r->method,
		       r->ns_median / 1e6, r->ns_p10 / 1e6, r->ns_p90 / 1e6,
		       r->payload_bytes / report->read_bytes_per_s * 1e3,
		       r->macs / report->macs_per_s * 1e3, r->settings,
		       r->verified ? "" : "  WRONG RESULT");
	}
	for (unsigned i = 0; i < report->skipped_count; i++)
		printf("skipped %s: %s\n", report->skipped[i].what, report->skipped[i].why);
}

/* ---- options ----------------------------------------------------------------------------------------------------- */

static const char usage[] =
	"usage: accel-perf ffn [--rows 1,4,16,64] [--threads N] [--samples N] [--kernels NAME]\n"
	"                      [--hidden 7168] [--intermediate 2048] [--json FILE]\n";

/* A number in [min, max], up to the character after; NULL if it is none. */
static const char *number(const char *text, uint32_t min, uint32_t max, uint32_t *value)
{
	char *end;
	unsigned long parsed = strtoul(text, &end, 10);

	if (end == text || *text == '-' || parsed < min || parsed > max)
		return NULL;
	*value = (uint32_t)parsed;
	return end;
}

static bool whole_number(const char *text, uint32_t min, uint32_t max, uint32_t *value)
{
	const char *end = number(text, min, max, value);

	return end && !*end;
}

static bool rows_parse(struct ffn *f, const char *text)
{
	for (f->rows_count = 0; f->rows_count < ROWS_COUNT_MAX; text++) {
		text = number(text, 1, ROWS_MAX, &f->rows[f->rows_count++]);
		if (!text || !*text)
			return text;
		if (*text != ',')
			return false;
	}
	return false;
}

static int help(struct ffn *f)
{
	printf("%s", usage);
	f->rows_count = 0;
	return 0;
}

static int options_parse(struct ffn *f, uint32_t *threads, int argc, char **argv)
{
	static const struct option options[] = {
		{"rows", required_argument, NULL, 'r'},
		{"threads", required_argument, NULL, 't'},
		{"samples", required_argument, NULL, 's'},
		{"kernels", required_argument, NULL, 'k'},
		{"hidden", required_argument, NULL, 'h'},
		{"intermediate", required_argument, NULL, 'i'},
		{"help", no_argument, NULL, 'H'},
		{0},
	};
	int option;
	bool good = rows_parse(f, "1,4,16,64");

	f->hidden = 7168;
	f->intermediate = 2048;
	f->ops = k_ops_get(NULL);
	optind = 0;
	while (good && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'r')
			good = rows_parse(f, optarg);
		else if (option == 't')
			good = whole_number(optarg, 1, PERF_TEAM_MAX, threads);
		else if (option == 's')
			good = whole_number(optarg, 1, SAMPLES_MAX, &f->samples);
		else if (option == 'H')
			return help(f);
		else if (option == 'k')
			good = (f->ops = k_ops_get(optarg));
		else if (option == 'h')
			good = whole_number(optarg, K_BLOCK, 1 << 16, &f->hidden) &&
			       f->hidden % K_BLOCK == 0;
		else if (option == 'i')
			good = whole_number(optarg, K_BLOCK, 1 << 16, &f->intermediate) &&
			       f->intermediate % K_BLOCK == 0;
		else
			good = false;
		if (!good && option != '?')
			fprintf(stderr, "accel-perf: ffn: '%s' is not possible here\n", optarg);
	}
	if (!good || optind < argc) {
		fprintf(stderr,
			"%shidden and intermediate are multiples of %d; at most %d rows, %d at once\n",
			usage, K_BLOCK, ROWS_MAX, ROWS_COUNT_MAX);
		return 2;
	}
	return 0;
}

int perf_ffn_run(int argc, char **argv, struct perf_ffn_report *report)
{
	uint32_t threads = 0;
	struct ffn f = {0};
	int status = options_parse(&f, &threads, argc, argv);

	memset(report, 0, sizeof(*report));
	for (unsigned i = 0; i < f.rows_count; i++)
		f.rows_max = f.rows[i] > f.rows_max ? f.rows[i] : f.rows_max;
	if (!f.rows_count)
		return status;
	if (!status)
		status = ffn_init(&f, threads, report);
	if (!status) {
		report->read_bytes_per_s = perf_read_rate(f.team, f.codes,
							  f.experts_count * 3 * f.elements);
		report->macs_per_s = perf_mac_rate(f.team);
		for (unsigned i = 0; i < f.rows_count && status < 2; i++) {
			int one;

			f.m = f.rows[i];
			one = rows_measure(&f, report);
			status = one > status ? one : status;
		}
		print_report(report);
	}
	ffn_fini(&f);
	return status;
}
