// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The measurement of accel-perf ffn; see perf_ffn.h. Each method walks a ring of experts of its own that is larger
 * than the last-level cache. Before it is timed its result is checked: ours on some outputs against kernels/ref, the
 * peers' against ours.
 */
#define _GNU_SOURCE
#include "perf_ffn.h"

#include "perf_machine.h"
#include "perf_peer.h"
#include "perf_progress.h"
#include "perf_team.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ACCEL_NUM_FLOAT
#include "kernels/kernels.h"
#include "uapi/accel_num.h"

enum {
	WARM_UP = 3,
	SETTLE_MS = 30,	   /* libraries' threads look for work that long before they sleep */
	CHECK_OUTPUTS = 8, /* outputs of a window that kernels/ref computes again */
	METHODS_MAX = 1 + PERF_FFN_PEERS_MAX,
};

static const double bound_ref = 1e-5; /* relative L2, f32 sums in another order */
static const struct perf_peer_ops *const peers[PERF_FFN_PEERS_MAX] = {
	&perf_peer_openblas,
	&perf_peer_onednn_f32,
	&perf_peer_onednn_bf16,
	&perf_peer_torch,
};

/* gate and up [intermediate,hidden], down [hidden,intermediate], one after the other */
struct expert {
	uint8_t *codes;
	float *scales;
};

struct ffn {
	const struct perf_ffn_opts *opts;
	struct perf_report *report;
	const struct k_ops *ops;
	struct perf_team *team;
	uint32_t hidden, intermediate, rows_max;
	unsigned experts_count;
	size_t elements, blocks; /* of one matrix */
	struct expert *experts;
	uint8_t *codes; /* of all experts */
	struct perf_peer_shape shape;
	float *plain[PERF_PEER_EXPERTS_MAX]; /* the first experts' weights for the peers */
	struct perf_peer *peers[PERF_FFN_PEERS_MAX];
	unsigned peers_count;

	unsigned run;
	double read_bytes_per_s, macs_per_s; /* measured in this run, by all threads */
	uint32_t m;			     /* of the measurement at hand */
	const struct expert *expert;
	uint16_t *x, *middle;
	float *x_f32, *gate, *up, *y, *check;
	const void **x_row, **middle_row;
	int64_t ns;
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

/* One of our matrices as f32, a strip of inputs a member. */
static void matrix_expand(const struct ffn *f, const struct expert *e, unsigned matrix, float *to,
			  unsigned member, unsigned threads)
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

			for (uint32_t k = block; k < block + K_BLOCK; k++)
				to[(size_t)o * in + k] =
					accel_num_float(accel_num_e4m3_to_f32(codes[k])) * scale;
		}
}

static void plain_job(void *arg, unsigned member, unsigned threads)
{
	const struct ffn *f = arg;

	for (unsigned e = 0; e < f->shape.experts; e++)
		for (unsigned matrix = 0; matrix < 3; matrix++)
			matrix_expand(f, &f->experts[e], matrix, f->plain[e] + matrix * f->elements,
				      member, threads);
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
	for (unsigned i = 0; i < 2; i++) {
		f->expert = &f->experts[(index + i) % f->experts_count];
		perf_team_run(f->team, accel_job, f);
	}
	return f->ns;
}

static int64_t peer_sample(struct perf_peer *peer, unsigned index)
{
	peer->ops->run(peer, index % peer->shape->experts);
	return peer->ops->run(peer, (index + 1) % peer->shape->experts);
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
		g.y = f->check;
		for (unsigned i = 0; i < 3; i++) {
			g.weight = whole.weight + (size_t)at[i] * K_BLOCK * g.in;
			g.weight_scale = whole.weight_scale + (size_t)at[i] * (g.in / K_BLOCK);
			if (ref->gemm(&g, 1, 0, 1))
				return false;
			for (uint32_t r = 0; r < f->m; r++)
				good &= relative_l2((float *)whole.y + (size_t)r * whole.out +
							    at[i] * K_BLOCK,
						    f->check + (size_t)r * CHECK_OUTPUTS,
						    CHECK_OUTPUTS) <= bound_ref;
		}
	}
	return good;
}

/* The peer's y against ours of the same expert, the second of the ring, which accel_verified() has left in f->y. */
static bool peer_verified(const struct ffn *f, struct perf_peer *peer)
{
	bool good = true;

	peer_sample(peer, 0);
	for (uint32_t r = 0; r < f->m; r++)
		good &= relative_l2(peer->y + (size_t)r * f->hidden, f->y + (size_t)r * f->hidden,
				    f->hidden) <= peer->ops->error_max;
	return good;
}

/* ---- measuring --------------------------------------------------------------------------------------------------- */

static void skip(const struct ffn *f, const char *what, const char *why)
{
	struct perf_skip entry;

	snprintf(entry.what, sizeof(entry.what), "%s", what);
	snprintf(entry.why, sizeof(entry.why), "%s", why);
	perf_report_skip(f->report, &entry);
	perf_progress_clear();
	printf("skipped %s: %s\n", what, why);
}

static void result_add(const struct ffn *f, const struct perf_peer *peer, int64_t *ns,
		       uint32_t samples)
{
	const struct perf_times times = perf_times_of(ns, samples);
	struct perf_result r = {
		.run = f->run,
		.op = "ffn",
		.method = peer ? peer->ops->method : "accel",
		.dtype = peer ? peer->ops->dtype : "bf16",
		.ranks = 1,
		.hidden = f->hidden,
		.intermediate = f->intermediate,
		.rows_m = f->m,
		.threads = perf_team_threads(f->team),
		.samples = samples,
		.ns = times,
		.per_rank_median_ns = {times.median},
		.rows = f->m,
		.payload_bytes = peer ? peer->payload_bytes
				      : 3 * (f->elements + f->blocks * sizeof(float)),
		.macs = 3 * f->elements * f->m,
		.verified = true,
	};

	if (peer)
		memcpy(r.settings, peer->settings, sizeof(r.settings));
	else
		snprintf(r.settings, sizeof(r.settings), "kernels %s", f->ops->name);
	perf_report_add(f->report, &r);
	printf("%5u  %-11s %9.3f %9.3f %9.3f  %10.3f %10.3f  %s\n", f->m, r.method,
	       (double)times.median / 1e6, (double)times.p10 / 1e6, (double)times.p90 / 1e6,
	       (double)r.payload_bytes / f->read_bytes_per_s * 1e3,
	       (double)r.macs / f->macs_per_s * 1e3, r.settings);
	fflush(stdout);
}

/* The time in which the threads can read the weights, as a result that others are compared with. */
static void floor_add(const struct ffn *f)
{
	const uint64_t bytes = 3 * (f->elements + f->blocks * sizeof(float));
	const int64_t ns = (int64_t)((double)bytes / f->read_bytes_per_s * 1e9);
	struct perf_result r = {
		.run = f->run,
		.op = "ffn",
		.method = "floor",
		.dtype = "bf16",
		.ranks = 1,
		.hidden = f->hidden,
		.intermediate = f->intermediate,
		.rows_m = f->m,
		.threads = perf_team_threads(f->team),
		.samples = 1,
		.ns = {ns, ns, ns, ns, ns},
		.per_rank_median_ns = {ns},
		.rows = f->m,
		.payload_bytes = bytes,
		.verified = true,
	};

	snprintf(r.settings, sizeof(r.settings), "weights read at %.1f GB/s",
		 f->read_bytes_per_s / 1e9);
	perf_report_add(f->report, &r);
}

/* Sample s of a method, 0 being ours; other methods' threads have gone to sleep before. */
static int64_t sample(struct ffn *f, unsigned method, unsigned s)
{
	const struct timespec settle = {.tv_nsec = SETTLE_MS * 1000000L};

	if (f->peers_count)
		nanosleep(&settle, NULL);
	return method ? peer_sample(f->peers[method - 1], s) : accel_sample(f, s);
}

/* Is the peer ready for m rows, and right? */
static bool peer_ready(const struct ffn *f, struct perf_peer *peer)
{
	char what[64], why[192];

	snprintf(what, sizeof(what), "%s, %u rows", peer->ops->method, f->m);
	if (!peer->ops->prepare(peer, f->m)) {
		skip(f, what, "it cannot be called for so many rows, or lacks memory");
		return false;
	}
	if (peer_verified(f, peer))
		return true;
	snprintf(why, sizeof(why), "computes wrong results on this CPU (%s)%s%s", peer->settings,
		 peer->ops->wrong_cure ? ": " : "",
		 peer->ops->wrong_cure ? peer->ops->wrong_cure : "");
	skip(f, what, why);
	return false;
}

static int rows_measure(struct ffn *f)
{
	uint32_t samples = f->opts->samples ? f->opts->samples : perf_ffn_samples(f->m);
	int64_t *ns = malloc(METHODS_MAX * samples * sizeof(*ns));
	bool ready[METHODS_MAX] = {true};

	if (!ns)
		return PERF_MISSING;
	if (!accel_verified(f)) {
		fprintf(stderr, "accel-perf ffn: %u rows: kernels %s differ from kernels ref\n",
			f->m, f->ops->name);
		free(ns);
		return PERF_FAIL;
	}
	for (unsigned p = 0; p < f->peers_count; p++)
		ready[p + 1] = peer_ready(f, f->peers[p]);
	for (unsigned s = 0; s < WARM_UP; s++)
		accel_sample(f, s);
	for (uint32_t s = 0; s < samples; s++)
		for (unsigned m = 0; m <= f->peers_count; m++)
			if (ready[m])
				ns[m * samples + s] = sample(f, m, s);
	perf_progress_clear();
	for (unsigned m = 0; m <= f->peers_count; m++)
		if (ready[m])
			result_add(f, m ? f->peers[m - 1] : NULL, ns + m * samples, samples);
	floor_add(f);
	free(ns);
	return PERF_PASS;
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
	f->check = floats(m * CHECK_OUTPUTS);
	f->x_row = calloc(m, sizeof(*f->x_row));
	f->middle_row = calloc(m, sizeof(*f->middle_row));
	if (!f->x || !f->middle || !f->x_f32 || !f->gate || !f->up || !f->y || !f->check ||
	    !f->x_row || !f->middle_row)
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

	for (unsigned p = 0; p < f->peers_count; p++)
		f->peers[p]->ops->close(f->peers[p]);
	for (unsigned e = 0; e < PERF_PEER_EXPERTS_MAX; e++)
		perf_unmap(f->plain[e], 3 * f->elements * sizeof(float));
	for (unsigned e = 0; f->experts && e < f->experts_count; e++)
		perf_unmap(f->experts[e].scales, 3 * f->blocks * sizeof(float));
	perf_unmap(f->codes, f->experts_count * 3 * f->elements);
	free(f->experts);
	perf_unmap(f->x, m * h * sizeof(*f->x));
	perf_unmap(f->middle, m * i * sizeof(*f->middle));
	perf_unmap(f->x_f32, m * h * sizeof(float));
	perf_unmap(f->gate, m * i * sizeof(float));
	perf_unmap(f->up, m * i * sizeof(float));
	perf_unmap(f->y, m * h * sizeof(float));
	perf_unmap(f->check, m * CHECK_OUTPUTS * sizeof(float));
	free(f->x_row);
	free(f->middle_row);
	perf_team_destroy(f->team);
}

/* Weights for the peers, then each peer that is there and finds room. */
static void peers_open(struct ffn *f, size_t room)
{
	size_t plain = 3 * f->elements * sizeof(float), taken;
	char why[192];
	cpu_set_t allowed, first;

	f->shape = (struct perf_peer_shape){
		.ops = f->ops,
		.team = f->team,
		.hidden = f->hidden,
		.intermediate = f->intermediate,
		.rows_max = f->rows_max,
		.x = f->x_f32,
		.experts = ring_count(3 * f->elements * sizeof(uint16_t)), /* of the narrowest */
	};
	if (f->shape.experts > PERF_PEER_EXPERTS_MAX)
		f->shape.experts = PERF_PEER_EXPERTS_MAX;
	taken = f->experts_count * 3 * f->elements + f->shape.experts * plain;
	for (unsigned e = 0; e < f->shape.experts && taken <= room; e++)
		if (!(f->shape.plain[e] = f->plain[e] = perf_map(plain)))
			taken = room + 1;
	if (taken <= room)
		perf_team_run(f->team, plain_job, f);
	for (unsigned p = 0; p < PERF_FFN_PEERS_MAX; p++) {
		size_t bytes = f->shape.experts * peers[p]->expert_bytes(&f->shape);
		struct perf_peer *peer = NULL;

		snprintf(why, sizeof(why), "no memory");
		if (taken + bytes > room) {
			snprintf(why, sizeof(why), "needs %zu MiB, 60 %% of free memory is %zu MiB",
				 (taken + bytes) >> 20, room >> 20);
			skip(f, peers[p]->method, why);
		} else if (peers[p]->open(&f->shape, &peer, why, sizeof(why))) {
			skip(f, peers[p]->method, why);
		} else {
			f->peers[f->peers_count++] = peer;
			taken += bytes;
			perf_report_software(f->report, peers[p]->library, peer->software);
		}
	}
	/* Libraries' own threads have the other cores: see perf_threads_pin_new(). */
	CPU_ZERO(&first);
	if (!sched_getaffinity(0, sizeof(allowed), &allowed))
		for (int core = 0; core < CPU_SETSIZE && !CPU_COUNT(&first); core++)
			if (CPU_ISSET(core, &allowed))
				CPU_SET(core, &first);
	if (CPU_COUNT(&first))
		sched_setaffinity(0, sizeof(first), &first);
}

static int ffn_init(struct ffn *f)
{
	size_t room = perf_memory_free_bytes() / 10 * 6, ours;
	int err = perf_team_create(f->opts->threads, &f->team);

	if (err) {
		fprintf(stderr, "accel-perf ffn: cannot start %u threads: %s\n", f->opts->threads,
			strerror(-err));
		return PERF_MISSING;
	}
	f->elements = (size_t)f->hidden * f->intermediate;
	f->blocks = f->elements / K_BLOCK / K_BLOCK;
	f->experts_count = ring_count(3 * f->elements);
	ours = f->experts_count * 3 * f->elements;
	if (ours > room) {
		fprintf(stderr,
			"accel-perf ffn: weights take %zu MiB, 60 %% of free memory is %zu MiB\n",
			ours >> 20, room >> 20);
		return PERF_MISSING;
	}
	f->experts = calloc(f->experts_count, sizeof(*f->experts));
	if (!f->experts || !experts_map(f) || !rows_map(f)) {
		fprintf(stderr, "accel-perf ffn: no memory for weights and rows\n");
		return PERF_MISSING;
	}
	perf_progress(0, f->opts->runs * f->opts->rows_count,
		      "making weights, and packing them for each library");
	perf_team_run(f->team, codes_job, f);
	peers_open(f, room);
	return PERF_PASS;
}

static int run_measure(struct ffn *f)
{
	f->read_bytes_per_s = perf_read_rate(f->team, f->codes, f->experts_count * 3 * f->elements);
	f->macs_per_s = perf_mac_rate(f->team);
	perf_progress_clear();
	printf("\nrun %u of %u, ms, %u threads; measured: reads %.1f GB/s, f32 %.1f GMAC/s\n",
	       f->run, f->opts->runs, perf_team_threads(f->team), f->read_bytes_per_s / 1e9,
	       f->macs_per_s / 1e9);
	printf("%5s  %-11s %9s %9s %9s  %10s %10s  %s\n", "rows", "method", "median", "p10", "p90",
	       "read bound", "MAC bound", "what ran");
	for (unsigned i = 0; i < f->opts->rows_count; i++) {
		int rc;

		f->m = f->opts->rows[i];
		perf_progress((f->run - 1) * f->opts->rows_count + i,
			      f->opts->runs * f->opts->rows_count, "run %u, %u rows", f->run, f->m);
		rc = rows_measure(f);
		if (rc)
			return rc;
	}
	return PERF_PASS;
}

int perf_ffn_measure(const struct perf_ffn_opts *opts, struct perf_report *report)
{
	struct ffn f = {
		.opts = opts,
		.report = report,
		.ops = opts->ops,
		.hidden = opts->hidden,
		.intermediate = opts->intermediate,
	};
	int rc;

	for (unsigned i = 0; i < opts->rows_count; i++)
		f.rows_max = opts->rows[i] > f.rows_max ? opts->rows[i] : f.rows_max;
	rc = ffn_init(&f);
	for (f.run = 1; !rc && f.run <= opts->runs; f.run++)
		rc = run_measure(&f);
	ffn_fini(&f);
	return rc;
}
