// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * An expert's steps: a row's bits depend on nothing beside it, the fast kernels agree with the
 * plain ones.
 */
#include "runtime/ffn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ACCEL_NUM_FLOAT 1
#include "tests/tap.h"
#include "uapi/accel_num.h"

/* Nothing is a multiple of a block, and rows are more than two tiles. */
enum { HIDDEN = 200, WIDTH = 136, ROWS = 2 * MOE_FFN_TILE_ROWS + 5, H_BLOCKS = 2, W_BLOCKS = 2 };

struct fixture {
	struct moe_expert expert;
	uint8_t codes[3][HIDDEN * WIDTH];
	float scales[3][H_BLOCKS * W_BLOCKS];
	uint16_t x[ROWS * HIDDEN];
	uint8_t x_codes[ROWS * HIDDEN];
	float x_scales[ROWS * H_BLOCKS];
	const void *row[ROWS];
	const float *scale[ROWS];
};

static struct moe_matrix random_matrix(struct fixture *f, unsigned n, uint32_t in, uint32_t out,
				       uint64_t *state)
{
	for (size_t i = 0; i < HIDDEN * WIDTH; i++) /* no NaN; about 1 */
		f->codes[n][i] = (uint8_t)((tap_random(state) & 0x87) | 0x38);
	for (size_t i = 0; i < H_BLOCKS * W_BLOCKS; i++)
		f->scales[n][i] = 0.02f + 0.001f * (float)tap_random_below(state, 30);
	return (struct moe_matrix){in, out, f->codes[n], f->scales[n]};
}

static struct fixture *fixture(bool fp8)
{
	struct fixture *f = calloc(1, sizeof(*f));
	uint64_t state = tap_seed();

	f->expert.gate = random_matrix(f, 0, HIDDEN, WIDTH, &state);
	f->expert.up = random_matrix(f, 1, HIDDEN, WIDTH, &state);
	f->expert.down = random_matrix(f, 2, WIDTH, HIDDEN, &state);
	for (size_t i = 0; i < ROWS * HIDDEN; i++) {
		float value = (float)tap_random_below(&state, 2001) * 1e-3f - 1;

		f->x[i] = accel_num_f32_to_bf16(accel_num_bits(value));
	}
	k_ops_get(NULL)->quant_fp8(&(struct k_quant){.rows = ROWS,
						     .hidden = HIDDEN,
						     .rule = K_QUANT_DIV,
						     .x_dtype = K_DTYPE_BF16,
						     .x = f->x,
						     .x_stride = HIDDEN * sizeof(*f->x),
						     .codes = f->x_codes,
						     .codes_stride = HIDDEN,
						     .scales = f->x_scales,
						     .scales_stride = H_BLOCKS * sizeof(float)},
				   0, 1);
	for (size_t i = 0; i < ROWS; i++) {
		f->row[i] = fp8 ? (const void *)(f->x_codes + i * HIDDEN) : f->x + i * HIDDEN;
		f->scale[i] = f->x_scales + i * H_BLOCKS;
	}
	return f;
}

static enum k_dtype row_dtype(bool fp8)
{
	return fp8 ? K_DTYPE_FP8 : K_DTYPE_BF16;
}

static void run(const struct fixture *f, const char *kernels, unsigned threads, bool fp8,
		uint32_t first, uint32_t rows, float *y)
{
	struct moe_team *team;
	struct moe_ffn ffn;
	struct moe_error err;

	REQUIRE_EQ(moe_team_create(threads, NULL, &team, &err), 0);
	if (CHECK_EQ(moe_ffn_init(&ffn, k_ops_get(kernels), team, HIDDEN, WIDTH, fp8, &err), 0))
		moe_ffn_run(&ffn, &f->expert, rows, f->row + first, fp8 ? f->scale + first : NULL,
			    row_dtype(fp8), K_DTYPE_F32, y);
	moe_ffn_fini(&ffn);
	moe_team_destroy(team);
}

TEST(ffn, a_row_depends_on_no_other_row_and_no_thread)
{
	for (int fp8 = 0; fp8 < 2; fp8++) {
		struct fixture *f = fixture(fp8);
		float *all = calloc(ROWS * HIDDEN, sizeof(*all));
		float *parts = calloc(ROWS * HIDDEN, sizeof(*parts));
		static const uint32_t cuts[] = {0, 1, 4, 131, ROWS};

		run(f, NULL, 3, fp8, 0, ROWS, all);
		for (unsigned i = 0; i + 1 < sizeof(cuts) / sizeof(*cuts); i++)
			run(f, NULL, 1, fp8, cuts[i], cuts[i + 1] - cuts[i],
			    parts + (size_t)cuts[i] * HIDDEN);
		CHECK(!memcmp(all, parts, ROWS * HIDDEN * sizeof(*all)));
		free(all);
		free(parts);
		free(f);
	}
}

static double relative_error(const float *got, const float *want, size_t count)
{
	double error = 0, norm = 0;

	for (size_t i = 0; i < count; i++) {
		error += (got[i] - want[i]) * (double)(got[i] - want[i]);
		norm += want[i] * (double)want[i];
	}
	return sqrt(error / norm);
}

/*
 * Sums in another order may move a code of the quantised activations by one step, up to 2^-4 of the
 * largest of WIDTH terms: rare, so that it shows in single rows and hardly in their mean.
 */
TEST(ffn, fast_kernels_agree_with_plain_ones)
{
	for (int fp8 = 0; fp8 < 2; fp8++) {
		struct fixture *f = fixture(fp8);
		float *fast = calloc(ROWS * HIDDEN, sizeof(*fast));
		float *plain = calloc(ROWS * HIDDEN, sizeof(*plain));
		double mean;

		run(f, NULL, 1, fp8, 0, ROWS, fast);
		run(f, "ref", 1, fp8, 0, ROWS, plain);
		mean = 0;
		for (size_t i = 0; i < ROWS; i++) {
			double error = relative_error(fast + i * HIDDEN, plain + i * HIDDEN,
						      HIDDEN);

			CHECK(error < (fp8 ? 6e-2 : 1e-5));
			mean += error / ROWS;
		}
		CHECK(mean < (fp8 ? 5e-3 : 1e-5));
		free(fast);
		free(plain);
		free(f);
	}
}

TEST(ffn, dense_rows_are_rows_that_were_quantised_before)
{
	for (int fp8 = 0; fp8 < 2; fp8++) {
		struct fixture *f = fixture(fp8);
		float *rows = calloc(ROWS * HIDDEN, sizeof(*rows));
		float *dense = calloc(ROWS * HIDDEN, sizeof(*dense));
		struct moe_ffn ffn;
		struct moe_error err;

		run(f, NULL, 1, fp8, 0, ROWS, rows);
		if (CHECK_EQ(moe_ffn_init(&ffn, k_ops_get(NULL), NULL, HIDDEN, WIDTH, fp8, &err),
			     0))
			moe_ffn_run_dense(&ffn, &f->expert, ROWS, f->x, dense);
		CHECK(!memcmp(rows, dense, ROWS * HIDDEN * sizeof(*rows)));
		moe_ffn_run_dense(&ffn, &f->expert, 0, NULL, NULL);
		moe_ffn_fini(&ffn);
		free(rows);
		free(dense);
		free(f);
	}
}
