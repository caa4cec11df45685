// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Every back end's grouped GEMM against kernels/ref, whose head states the bound. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ACCEL_NUM_FLOAT
#include "kernels/kernels.h"
#include "kernels/ref/ref.h"
#include "tests/tap.h"
#include "uapi/accel_num.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* One GEMM and the memory it uses; y has room for a gap of one element after each row. */
struct problem {
	struct k_gemm gemm;
	uint8_t *rows, *codes; /* the weight begins one byte after codes: at an odd address */
	float *row_scales, *scales, *y;
	const void **row;
	const float **row_scale;
};

static uint32_t blocks(uint32_t n)
{
	return (n + K_BLOCK - 1) / K_BLOCK;
}

static size_t row_size(enum k_dtype dtype)
{
	return dtype == K_DTYPE_F32 ? 4 : dtype == K_DTYPE_BF16 ? 2 : 1;
}

static float uniform(uint64_t *state) /* -1..1 */
{
	return (float)tap_random_below(state, 1 << 20) / (1 << 19) - 1;
}

static uint8_t random_code(uint64_t *state, bool exact)
{
	static const uint8_t small[] = {0x00, 0x80, 0x38,
					0xb8, 0x40, 0xc0}; /* 0, -0, 1, -1, 2, -2 */
	uint8_t code = (uint8_t)tap_random(state);

	if (exact)
		return small[code % COUNT(small)];
	return (code & 0x7f) == ACCEL_NUM_E4M3_NAN ? 0x01 : code;
}

static float random_scale(uint64_t *state, bool exact)
{
	return exact ? ldexpf(1, (int)tap_random_below(state, 3) - 1)
		     : ldexpf(1.5f + uniform(state) / 2, -10);
}

static void put_element(void *row, enum k_dtype dtype, uint32_t k, uint64_t *state, bool exact)
{
	float value = exact ? (float)tap_random_below(state, 5) - 2 : uniform(state);
	uint32_t bits = accel_num_bits(value);

	if (dtype == K_DTYPE_F32)
		((float *)row)[k] = value;
	else if (dtype == K_DTYPE_BF16)
		((uint16_t *)row)[k] = accel_num_f32_to_bf16(bits);
	else
		((uint8_t *)row)[k] = random_code(state, exact);
}

/* exact: operands so small that every partial sum is an exact f32 */
static void problem_init(struct problem *p, uint32_t rows, uint32_t in, uint32_t out,
			 enum k_dtype row_dtype, enum k_dtype y_dtype, uint64_t *state, bool exact)
{
	size_t weights = (size_t)in * out, stride = in * row_size(row_dtype);

	memset(p, 0, sizeof(*p));
	p->rows = malloc(rows * stride + 1);
	p->codes = malloc(weights + 2);
	p->scales = malloc(((size_t)blocks(in) * blocks(out) + 1) * sizeof(float));
	p->row_scales = malloc(((size_t)rows * blocks(in) + 1) * sizeof(float));
	p->y = malloc(((size_t)rows * (out + 1) + 1) * sizeof(float));
	p->row = malloc((rows + 1) * sizeof(*p->row));
	p->row_scale = malloc((rows + 1) * sizeof(*p->row_scale));
	for (size_t i = 0; i < weights; i++)
		p->codes[1 + i] = random_code(state, exact);
	for (size_t i = 0; i < (size_t)blocks(in) * blocks(out); i++)
		p->scales[i] = random_scale(state, exact);
	for (size_t i = 0; i < (size_t)rows * blocks(in); i++)
		p->row_scales[i] = random_scale(state, exact);
	for (uint32_t r = 0; r < rows; r++) {
		uint32_t place = rows - 1 - r; /* addresses that descend */

		p->row[r] = p->rows + place * stride;
		p->row_scale[r] = p->row_scales + (size_t)place * blocks(in);
		for (uint32_t k = 0; k < in; k++)
			put_element(p->rows + place * stride, row_dtype, k, state, exact);
	}
	p->gemm = (struct k_gemm){
		.rows = rows,
		.in = in,
		.out = out,
		.row_dtype = row_dtype,
		.row = p->row,
		.weight = p->codes + 1,
		.row_scale = row_dtype == K_DTYPE_FP8 ? p->row_scale : NULL,
		.weight_scale = p->scales,
		.y_dtype = y_dtype,
		.y = p->y,
		.y_stride = (out + 1) * row_size(y_dtype),
	};
}

static void problem_fini(struct problem *p)
{
	free(p->rows);
	free(p->codes);
	free(p->scales);
	free(p->row_scales);
	free(p->y);
	free(p->row);
	free(p->row_scale);
}

static size_t y_bytes(const struct k_gemm *g)
{
	return g->rows * g->y_stride;
}

static float y_at(const struct k_gemm *g, const void *y, uint32_t r, uint32_t o)
{
	const char *row = (const char *)y + r * g->y_stride;

	if (g->y_dtype == K_DTYPE_F32)
		return ((const float *)row)[o];
	return accel_num_float(accel_num_bf16_to_f32(((const uint16_t *)row)[o]));
}

/* Runs a back end into memory of its own, which holds 0xa5 where nothing is written; the caller frees it. */
static void *run(const struct k_ops *ops, const struct k_gemm *gemm, unsigned parts)
{
	struct k_gemm g = *gemm;

	g.y = malloc(y_bytes(gemm) + 1);
	memset(g.y, 0xa5, y_bytes(gemm) + 1);
	for (unsigned part = 0; part < parts; part++)
		CHECK_EQ(ops->gemm(&g, 1, part, parts), 0);
	return g.y;
}

/* sum |x * w| of one output, in double */
static double magnitude(const struct k_gemm *g, uint32_t r, uint32_t o)
{
	double sum = 0;

	for (uint32_t k = 0; k < g->in; k++) {
		float x, w = accel_num_float(accel_num_dequant(
				 g->weight[(size_t)o * g->in + k],
				 g->weight_scale[(size_t)o / K_BLOCK * blocks(g->in) +
						 k / K_BLOCK]));

		if (g->row_dtype == K_DTYPE_F32)
			x = ((const float *)g->row[r])[k];
		else if (g->row_dtype == K_DTYPE_BF16)
			x = accel_num_float(
				accel_num_bf16_to_f32(((const uint16_t *)g->row[r])[k]));
		else
			x = accel_num_float(accel_num_dequant(((const uint8_t *)g->row[r])[k],
							      g->row_scale[r][k / K_BLOCK]));
		sum += fabs((double)x * w);
	}
	return sum;
}

static void check_bound(const struct k_ops *ops, const struct k_gemm *g, const void *want)
{
	bool flushes = !strcmp(ops->name, "avx512bf16"); /* here scales are below 1 */
	void *got = run(ops, g, 2);

	for (uint32_t r = 0; r < g->rows; r++)
		for (uint32_t o = 0; o < g->out; o++) {
			double a = y_at(g, got, r, o), b = y_at(g, want, r, o);
			double bound = 2 * (g->in + 3.0) * 0x1p-24 * magnitude(g, r, o) +
				       g->in * (flushes ? 0x1p-117 : 0x1p-149);

			if (g->y_dtype == K_DTYPE_BF16)
				bound += (fabs(a) + fabs(b)) * 0x1p-8; /* each rounded once more */
			tap_check(fabs(a - b) <= bound, __FILE__, __LINE__,
				  "%s %ux%ux%u dtype %d: y[%u][%u] is %g, not %g +- %g", ops->name,
				  g->rows, g->in, g->out, g->row_dtype, r, o, a, b, bound);
		}
	free(got);
}

static const enum k_dtype row_dtypes[] = {K_DTYPE_BF16, K_DTYPE_FP8, K_DTYPE_F32};
static const enum k_dtype y_dtypes[] = {K_DTYPE_F32, K_DTYPE_BF16};

TEST(gemm, is_within_the_bound_for_any_shape)
{
	static const uint32_t ins[] = {0, 1, 7, 8, 31, 33, 127, 128, 129, 256, 257, 300, 520};
	static const uint32_t outs[] = {0, 1, 7, 8, 9, 127, 130, 270};
	static const uint32_t rows[] = {0, 1, 2, 3, 4, 5, 7, 66};
	uint64_t state = tap_seed();

	for (size_t i = 0; i < COUNT(ins) * COUNT(outs) * COUNT(rows); i++) {
		uint32_t in = ins[i % COUNT(ins)], out = outs[i / COUNT(ins) % COUNT(outs)];
		uint32_t m = rows[i / COUNT(ins) / COUNT(outs)];
		struct problem p;
		void *want;

		if ((uint64_t)in * out * m > 1000000 && i % 4) /* kernels/ref is slow */
			continue;
		problem_init(&p, m, in, out, row_dtypes[i % COUNT(row_dtypes)],
			     y_dtypes[i / 3 % COUNT(y_dtypes)], &state, false);
		want = run(k_ops_get("ref"), &p.gemm, 1);
		for (const struct k_ops *ops = k_ops_next(NULL); ops; ops = k_ops_next(ops))
			check_bound(ops, &p.gemm, want);
		free(want);
		problem_fini(&p);
	}
}

TEST(gemm, is_bit_equal_to_ref_where_sums_are_exact)
{
	static const uint32_t shapes[][3] = {
		{1, 7168, 136}, {3, 2048, 200}, {5, 7168, 24}, {67, 1030, 65}, {9, 17000, 9}};
	uint64_t state = tap_seed();

	for (size_t i = 0; i < COUNT(shapes) * COUNT(row_dtypes) * COUNT(y_dtypes); i++) {
		const uint32_t *s = shapes[i % COUNT(shapes)];
		enum k_dtype row_dtype = row_dtypes[i / COUNT(shapes) % COUNT(row_dtypes)];
		struct problem p;
		void *want;

		problem_init(&p, s[0], s[1], s[2], row_dtype,
			     y_dtypes[i / COUNT(shapes) / COUNT(row_dtypes)], &state, true);
		want = run(k_ops_get("ref"), &p.gemm, 1);
		for (const struct k_ops *ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
			void *got = run(ops, &p.gemm, 3);

			tap_check(!memcmp(got, want, y_bytes(&p.gemm)), __FILE__, __LINE__,
				  "%s %ux%ux%u dtype %d differs", ops->name, s[0], s[1], s[2],
				  row_dtype);
			free(got);
		}
		free(want);
		problem_fini(&p);
	}
}

/* The rows [first, first + rows) of p alone, against the same rows of whole. */
static void check_slice(const struct k_ops *ops, const struct problem *p, const char *whole,
			uint32_t first, uint32_t rows, unsigned parts)
{
	struct k_gemm g = p->gemm;
	char *got;

	g.rows = rows;
	g.row += first;
	if (g.row_scale)
		g.row_scale += first;
	got = run(ops, &g, parts);
	tap_check(!memcmp(got, whole + first * g.y_stride, y_bytes(&g)), __FILE__, __LINE__,
		  "%s dtype %d: rows %u..%u of %u in %u parts differ from the whole batch",
		  ops->name, g.row_dtype, first, first + rows - 1, p->gemm.rows, parts);
	free(got);
}

TEST(gemm, row_does_not_depend_on_batch_or_share)
{
	static const uint32_t ins[] = {7168, 2048, 300};
	uint64_t state = tap_seed();

	for (size_t i = 0; i < COUNT(ins) * COUNT(row_dtypes); i++) {
		struct problem p;

		problem_init(&p, 70, ins[i % COUNT(ins)], 150, row_dtypes[i / COUNT(ins)],
			     K_DTYPE_F32, &state, false);
		for (const struct k_ops *ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
			bool slow = !strcmp(ops->name, "ref");
			char *whole = run(ops, &p.gemm, 1);

			for (unsigned parts = 2; parts <= (slow ? 2 : 25);
			     parts += parts < 4 ? 1 : 7)
				check_slice(ops, &p, whole, 0, 70, parts);
			for (uint32_t rows = 1; rows <= (slow ? 2 : 9); rows++)
				for (uint32_t first = 0; first + rows <= 70;
				     first += slow ? 40 : 23)
					check_slice(ops, &p, whole, first, rows, 1 + first % 3);
			check_slice(ops, &p, whole, 3, 64, 1);
			free(whole);
		}
		problem_fini(&p);
	}
}

static void check_avx512_is_avx2(const struct k_gemm *g)
{
	void *want = run(k_ops_get("avx2"), g, 1), *got = run(k_ops_get("avx512"), g, 2);

	tap_check(!memcmp(got, want, y_bytes(g)), __FILE__, __LINE__,
		  "avx512 %ux%ux%u dtype %d differs from avx2", g->rows, g->in, g->out,
		  g->row_dtype);
	free(got);
	free(want);
}

/* They add the same lanes in the same order, so that machines of both kinds can serve one model. */
TEST(gemm, has_the_same_bits_with_avx512_as_with_avx2)
{
	uint64_t state = tap_seed();

	if (!k_ops_get("avx512"))
		SKIP("this CPU has no AVX-512 with BW");
	for (uint32_t rows = 1; rows <= 70; rows += rows < 8 ? 1 : 62)
		for (size_t i = 0; i < COUNT(row_dtypes); i++) {
			struct problem p;

			problem_init(&p, rows, 1100, 77, row_dtypes[i], K_DTYPE_F32, &state, false);
			check_avx512_is_avx2(&p.gemm);
			p.codes[1 + 550] = ACCEL_NUM_E4M3_NAN; /* decoded one by one */
			check_avx512_is_avx2(&p.gemm);
			problem_fini(&p);
		}
}

TEST(gemm, groups_and_y_rows_give_what_single_calls_give)
{
	static const uint32_t rows[] = {3, 0, 1, 65, 0, 2};
	uint64_t state = tap_seed();
	struct problem p[COUNT(rows)];
	struct k_gemm group[COUNT(rows)];
	void *y_row[65];

	for (size_t i = 0; i < COUNT(rows); i++)
		problem_init(&p[i], rows[i], 40 + 300 * (i & 1), 37 + 100 * (i % 3),
			     row_dtypes[i % 3], K_DTYPE_F32, &state, false);
	for (const struct k_ops *ops = k_ops_next(NULL); ops; ops = k_ops_next(ops))
		for (unsigned parts = 1; parts <= 40; parts = parts * 2 + 1) {
			for (size_t i = 0; i < COUNT(rows); i++) {
				group[i] = p[i].gemm;
				memset(p[i].y, 0xa5, y_bytes(&p[i].gemm));
			}
			for (uint32_t r = 0; r < 65; r++)
				y_row[r] = (char *)p[3].gemm.y + (64 - r) * p[3].gemm.y_stride;
			group[3].y_row = y_row;
			group[3].y = NULL;
			for (unsigned part = parts; part-- > 0;)
				CHECK_EQ(ops->gemm(group, COUNT(rows), part, parts), 0);
			for (size_t i = 0; i < COUNT(rows); i++) {
				const struct k_gemm *g = &p[i].gemm;
				char *want = run(ops, g, 1);

				for (uint32_t r = 0; r < g->rows; r++)
					CHECK(!memcmp(i == 3 ? y_row[r]
							     : (char *)g->y + r * g->y_stride,
						      want + r * g->y_stride, g->y_stride));
				free(want);
			}
		}
	for (size_t i = 0; i < COUNT(rows); i++)
		problem_fini(&p[i]);
}

TEST(gemm, parts_write_every_output_once)
{
	uint64_t state = tap_seed();
	struct problem p;

	problem_init(&p, 2, 130, 333, K_DTYPE_BF16, K_DTYPE_F32, &state, false);
	for (const struct k_ops *ops = k_ops_next(NULL); ops; ops = k_ops_next(ops))
		for (unsigned parts = 1; parts <= 64; parts += 7) {
			unsigned writers[2 * 334] = {0}, largest = 0;

			for (unsigned part = 0; part < parts; part++) {
				unsigned mine = 0;

				memset(p.y, 0xff, y_bytes(&p.gemm));
				CHECK_EQ(ops->gemm(&p.gemm, 1, part, parts), 0);
				for (unsigned i = 0; i < COUNT(writers); i++)
					if (!isnan(p.y[i])) {
						writers[i]++;
						mine++;
					}
				largest = mine > largest ? mine : largest;
			}
			for (unsigned i = 0; i < COUNT(writers); i++)
				CHECK_EQ(writers[i], i % 334 != 333);
			CHECK(largest <= 2 * (333 / parts + 1 +
					      8)); /* shares are even but for a group of outputs */
		}
	problem_fini(&p);
}

/* One code under one scale, seen through a row that is 1 at k and 0 elsewhere. */
static void check_code(const struct k_ops *ops, uint8_t code, float scale, uint32_t k)
{
	uint32_t want = accel_num_dequant(code, scale), got;
	float x[40] = {0}, y = 0;
	uint8_t codes[40] = {0};
	const void *row = x;
	struct k_gemm g = {
		.rows = 1,
		.in = 40,
		.out = 1,
		.row_dtype = K_DTYPE_F32,
		.row = &row,
		.weight = codes,
		.weight_scale = &scale,
		.y_dtype = K_DTYPE_F32,
		.y = &y,
		.y_stride = 4,
	};

	x[k] = 1;
	codes[k] = code;
	CHECK_EQ(ops->gemm(&g, 1, 0, 1), 0);
	got = accel_num_bits(y);
	if (!(want & 0x7fffffffu))
		want = 0; /* 0 + -0 */
	if (!isfinite(scale))
		want = ACCEL_NUM_F32_NAN; /* the others are 0 * scale */
	tap_check(got == want, __FILE__, __LINE__, "%s: code %#x times %a is %#x, not %#x",
		  ops->name, code, scale, got, want);
}

TEST(gemm, decodes_every_code_under_any_scale)
{
	static const float scales[] = {1,
				       -1,
				       0x1.555556p-9f,
				       0x1p-126f,
				       0x1p-149f,
				       0x1p118f,
				       0x1.fffffep118f,
				       0x1p119f,
				       0x1p120f,
				       0x1.fffffep127f,
				       0,
				       INFINITY,
				       NAN};

	for (const struct k_ops *ops = k_ops_next(NULL); ops; ops = k_ops_next(ops))
		for (size_t i = 0; i < COUNT(scales); i++)
			for (unsigned code = 0; code < 256; code++)
				if (strcmp(ops->name, "ref") || isfinite(scales[i]))
					check_code(ops, (uint8_t)code, scales[i],
						   code % 3 ? 5 : 33);
}

TEST(gemm, nan_reaches_its_outputs_and_no_other)
{
	uint64_t state = tap_seed();

	for (const struct k_ops *ops = k_ops_next(NULL); ops; ops = k_ops_next(ops))
		for (size_t i = 0; i < 4 * COUNT(row_dtypes); i++) {
			uint32_t m = 1 + tap_random_below(&state, 9),
				 in = 1 + tap_random_below(&state, 400), bad_row = m;
			uint32_t out = 1 + tap_random_below(&state, 40),
				 bad_out = tap_random_below(&state, out);
			struct problem p;

			problem_init(&p, m, in, out, row_dtypes[i % 3],
				     i & 1 ? K_DTYPE_F32 : K_DTYPE_BF16, &state, false);
			p.codes[1 + (size_t)bad_out * in + tap_random_below(&state, in)] =
				i & 2 ? 0x7f : 0xff;
			if (p.gemm.row_dtype == K_DTYPE_FP8) {
				bad_row = tap_random_below(&state, m);
				((uint8_t *)(uintptr_t)
					 p.row[bad_row])[tap_random_below(&state, in)] =
					i & 2 ? 0xff : 0x7f;
			}
			CHECK_EQ(ops->gemm(&p.gemm, 1, 0, 1), 0);
			for (uint32_t r = 0; r < m; r++)
				for (uint32_t o = 0; o < out; o++) {
					float y = y_at(&p.gemm, p.y, r, o);

					CHECK_EQ(!!isnan(y), r == bad_row || o == bad_out);
					if (isnan(y))
						CHECK_EQ((uint32_t)accel_num_bits(y),
							 ACCEL_NUM_F32_NAN);
				}
			problem_fini(&p);
		}
}

/* A copy that ends where memory ends: reading one byte more is a fault. */
static void *at_the_end(const void *bytes, size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (size + page - 1) / page * page;
	char *map = mmap(NULL, pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);

	if (map == MAP_FAILED || mprotect(map + pages, page, PROT_NONE))
		return NULL;
	return memcpy(map + pages - size, bytes, size);
}

TEST(gemm, reads_nothing_beyond_its_operands)
{
	static const uint32_t ins[] = {1, 15, 33, 250, 255, 300};
	uint64_t state = tap_seed();

	for (size_t i = 0; i < COUNT(ins) * COUNT(row_dtypes); i++) {
		uint32_t in = ins[i % COUNT(ins)], out = 3 + i;
		struct problem p;
		struct k_gemm g;
		const void *row;
		void *want, *got;

		problem_init(&p, 1, in, out, row_dtypes[i / COUNT(ins)], K_DTYPE_F32, &state,
			     false);
		g = p.gemm;
		g.weight = at_the_end(g.weight, (size_t)in * out);
		row = at_the_end(g.row[0], in * row_size(g.row_dtype));
		REQUIRE(g.weight && row);
		g.row = &row;
		for (const struct k_ops *ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
			want = run(ops, &p.gemm, 1);
			got = run(ops, &g, 1);
			CHECK(!memcmp(got, want, y_bytes(&g)));
			free(want);
			free(got);
		}
		problem_fini(&p);
	}
}

#ifdef __x86_64__
TEST(gemm, ignores_the_rounding_and_flushing_of_its_caller)
{
	static const uint32_t modes[] = {0x9fc0, 0x5f80, 0x3f80}; /* FTZ + DAZ; up; down */
	uint64_t state = tap_seed();
	struct problem p;

	problem_init(&p, 5, 300, 20, K_DTYPE_FP8, K_DTYPE_F32, &state, false);
	for (size_t i = 0; i < 3; i++)
		p.scales[i] = 0x1p-130f;
	for (const struct k_ops *ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
		void *want = run(ops, &p.gemm, 1);

		for (size_t i = 0; i < COUNT(modes); i++) {
			uint32_t before = __builtin_ia32_stmxcsr(), after;
			void *got;

			__builtin_ia32_ldmxcsr(modes[i]);
			got = run(ops, &p.gemm, 1);
			after = __builtin_ia32_stmxcsr();
			__builtin_ia32_ldmxcsr(before);
			CHECK_EQ(after, modes[i]);
			CHECK(!memcmp(got, want, y_bytes(&p.gemm)));
			free(got);
		}
		free(want);
	}
	problem_fini(&p);
}
#endif

static void check_refused(const struct k_gemm *good, const struct k_gemm *bad, unsigned part,
			  unsigned parts)
{
	struct k_gemm both[2] = {*good, *bad};

	for (const struct k_ops *ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
		memset(good->y, 0xff, y_bytes(good));
		CHECK_EQ(ops->gemm(both, 2, part, parts), -EINVAL);
		CHECK(isnan(*(float *)good->y)); /* not even the good one was begun */
	}
}

TEST(gemm, refuses_bad_arguments_before_it_writes)
{
	uint64_t state = tap_seed();
	const void *no_row[2] = {NULL, NULL};
	const float *no_scale[2] = {NULL, NULL};
	void *no_y[2] = {NULL, NULL};
	struct problem p;

	problem_init(&p, 2, 40, 20, K_DTYPE_FP8, K_DTYPE_F32, &state, false);
#define REFUSED(field, value)                                                                      \
	do {                                                                                       \
		struct k_gemm bad = p.gemm;                                                        \
		bad.field = value;                                                                 \
		check_refused(&p.gemm, &bad, 0, 1);                                                \
	} while (0)
	REFUSED(row_dtype, 0);
	REFUSED(row_dtype, 4);
	REFUSED(y_dtype, 0);
	REFUSED(y_dtype, K_DTYPE_FP8);
	REFUSED(row, NULL);
	REFUSED(row, no_row);
	REFUSED(row_scale, NULL);
	REFUSED(row_scale, no_scale);
	REFUSED(weight, NULL);
	REFUSED(weight_scale, NULL);
	REFUSED(y, NULL);
	REFUSED(y_row, no_y);
	REFUSED(y_stride, 79);
#undef REFUSED
	check_refused(&p.gemm, &p.gemm, 1, 1);
	check_refused(&p.gemm, &p.gemm, 0, 0);
	for (const struct k_ops *ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
		CHECK_EQ(ops->gemm(NULL, 1, 0, 1), -EINVAL);
		CHECK_EQ(ops->gemm(NULL, 0, 0, 1), 0);
	}
	problem_fini(&p);
}
