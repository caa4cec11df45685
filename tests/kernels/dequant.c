// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* dequant: every back end against ref and golden/quant, bit for bit; what quant_fp8 wrote comes back close. */
#include "grid.h"
#include "kernels/kernels.h"
#include "safetensors_read.h"

#include <errno.h>
#include <math.h>

/* Runs in so many parts into a fresh buffer with a gap after each row. */
static uint8_t *dequantise(const struct k_ops *ops, struct k_dequant dequant, unsigned parts)
{
	unsigned part;

	dequant.y_stride = dequant.hidden * (dequant.y_dtype == K_DTYPE_F32 ? 4u : 2u) + 5;
	dequant.y = pattern(dequant.rows * dequant.y_stride);
	for (part = parts; part-- > 0;)
		CHECK_EQ(ops->dequant(&dequant, part, parts), 0);
	return dequant.y;
}

static size_t size_bytes(const struct k_dequant *dequant)
{
	return dequant->rows * (dequant->hidden * (dequant->y_dtype == K_DTYPE_F32 ? 4u : 2u) + 5);
}

static void compare_with_ref(struct k_dequant dequant, unsigned parts)
{
	const struct k_ops *ops;
	uint8_t *got, *want;

	for (dequant.y_dtype = K_DTYPE_BF16; dequant.y_dtype <= K_DTYPE_F32; dequant.y_dtype += 2) {
		want = dequantise(k_ops_get("ref"), dequant, 1);
		for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
			got = dequantise(ops, dequant, parts);
			if (!check_same(ops->name, got, want, size_bytes(&dequant)))
				tap_diag("hidden %u rows %u", dequant.hidden, dequant.rows);
			free(got);
		}
		free(want);
	}
}

TEST(dequant, equals_ref_for_every_shape_code_and_scale)
{
	static const uint32_t hiddens[] = {1, 7, 8, 9, 127, 128, 129, 256, 300, 7168};
	uint64_t rng = tap_seed();
	uint32_t rows, fill, blocks;
	unsigned i;

	for (i = 0; i < COUNT(hiddens); i++) {
		for (rows = 0; rows <= 4; rows++) {
			for (fill = 0; fill < FILLS; fill++) {
				uint8_t *codes = fill_rows_f32(&rng, FILL_WIDE,
							       rows * hiddens[i] / 4 + 1);
				void *scales;

				blocks = (hiddens[i] + 127) / 128;
				scales = fill_rows_f32(&rng, fill, rows * blocks);
				for (size_t c = 0; c < rows * hiddens[i]; c++)
					codes[c] = (uint8_t)tap_random(&rng);
				compare_with_ref((struct k_dequant){.rows = rows,
								    .hidden = hiddens[i],
								    .codes = codes,
								    .codes_stride = hiddens[i],
								    .scales = scales,
								    .scales_stride = 4 * blocks},
						 1 + (unsigned)tap_random_below(&rng, 5));
				free(codes);
				free(scales);
			}
		}
	}
}

/* 256 codes under each of these scales, against exact arithmetic in double. */
TEST(dequant, rounds_the_exact_product_once)
{
	static const float scales[] = {
		1.0f,	  0.0f, -0.0f, 3.0f, 0x1.fffffep-3f, 0x1.8p-140f, 0x1.fffffep127f,
		INFINITY, NAN};
	uint8_t codes[256];
	float y[256], pair[2];
	unsigned i, code;
	const struct k_ops *ops;
	struct k_dequant dequant = {.rows = 1,
				    .hidden = 256,
				    .codes = codes,
				    .scales = pair,
				    .y_dtype = K_DTYPE_F32,
				    .y = y};

	for (code = 0; code < 256; code++)
		codes[code] = (uint8_t)code;
	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
		for (i = 0; i < COUNT(scales); i++) {
			pair[0] = pair[1] = scales[i];
			REQUIRE_EQ(ops->dequant(&dequant, 0, 1), 0);
			for (code = 0; code < 256; code++) {
				int exponent = code >> 3 & 15, mantissa = code & 7;
				double value = exponent ? ldexp(8 + mantissa, exponent - 10)
							: ldexp(mantissa, -9);
				float want = (float)((code & 0x80 ? -value : value) * scales[i]);
				uint32_t bits, want_bits;

				memcpy(&bits, &y[code], 4);
				memcpy(&want_bits, &want, 4);
				if ((code & 0x7f) == 0x7f || isnan(want))
					want_bits = 0x7fc00000;
				CHECK_EQ(bits, want_bits);
			}
		}
	}
}

TEST(dequant, equals_golden)
{
	enum { HIDDEN = 320 };
	struct k_dequant dequant = {.hidden = HIDDEN, .codes_stride = HIDDEN, .scales_stride = 12};
	const void *want[4] = {NULL};
	const struct k_ops *ops;
	struct golden golden;
	size_t count = 0, row, row_bytes;
	uint8_t *got;

	REQUIRE_EQ(golden_open(&golden, "quant/rows_h320_ragged.safetensors"), 0);
	dequant.codes = golden_get(&golden, "codes_mul", "F8_E4M3", &count);
	dequant.rows = (uint32_t)(count / HIDDEN);
	dequant.scales = golden_get(&golden, "scale_inv", "F32", &count);
	want[K_DTYPE_F32] = golden_get(&golden, "dequant_mul_f32", "F32", &count);
	want[K_DTYPE_BF16] = golden_get(&golden, "dequant_mul_bf16", "BF16", &count);
	for (dequant.y_dtype = K_DTYPE_BF16; dequant.y_dtype <= K_DTYPE_F32; dequant.y_dtype += 2) {
		row_bytes = HIDDEN * (dequant.y_dtype == K_DTYPE_F32 ? 4 : 2);
		for (ops = k_ops_next(NULL); CHECK(dequant.rows && want[dequant.y_dtype]) && ops;
		     ops = k_ops_next(ops)) {
			got = dequantise(ops, dequant, 3);
			for (row = 0; row < dequant.rows; row++)
				check_same(ops->name, got + row * (row_bytes + 5),
					   (const uint8_t *)want[dequant.y_dtype] + row * row_bytes,
					   row_bytes);
			free(got);
		}
	}
	golden_close(&golden);
}

struct environment_test {
	const struct k_ops *ops;
	struct k_dequant dequant;
	uint8_t *want;
};

static void dequantise_again(void *arg)
{
	struct environment_test *test = arg;
	uint8_t *got = dequantise(test->ops, test->dequant, 1);

	check_same(test->ops->name, got, test->want, size_bytes(&test->dequant));
	free(got);
}

TEST(dequant, gives_the_same_bits_in_every_floating_point_environment)
{
	uint64_t rng = tap_seed();
	uint8_t *codes = fill_rows_f32(&rng, FILL_WIDE, 4 * 75);
	void *scales = fill_rows_f32(&rng, FILL_WIDE, 4 * 3);
	struct environment_test test = {.dequant = {.rows = 4,
						    .hidden = 300,
						    .codes = codes,
						    .codes_stride = 300,
						    .scales = scales,
						    .scales_stride = 12}};
	const struct k_ops *ops;

	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
		for (test.dequant.y_dtype = K_DTYPE_BF16; test.dequant.y_dtype <= K_DTYPE_F32;
		     test.dequant.y_dtype += 2) {
			test.ops = ops;
			test.want = dequantise(ops, test.dequant, 1);
			in_every_environment(dequantise_again, &test);
			free(test.want);
		}
	}
	free(codes);
	free(scales);
}

TEST(dequant, rejects_bad_arguments_and_writes_nothing)
{
	uint8_t codes[16] = {0};
	float scales[2] = {1, 1}, y[16] = {7};
	const struct k_dequant good = {.rows = 2,
				       .hidden = 8,
				       .codes = codes,
				       .codes_stride = 8,
				       .scales = scales,
				       .scales_stride = 4,
				       .y_dtype = K_DTYPE_F32,
				       .y = y,
				       .y_stride = 32};
	const struct k_ops *ops;
	struct k_dequant bad;

	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
#define BAD(field, value)                                                                          \
	bad = good;                                                                                \
	bad.field = value;                                                                         \
	CHECK_EQ(ops->dequant(&bad, 0, 1), -EINVAL)
		BAD(hidden, 0);
		BAD(y_dtype, K_DTYPE_FP8);
		BAD(codes, NULL);
		BAD(scales, NULL);
		BAD(y, NULL);
		BAD(y_stride, 31);
#undef BAD
		CHECK_EQ(ops->dequant(&good, 2, 2), -EINVAL);
		CHECK_EQ(ops->dequant(NULL, 0, 1), -EINVAL);
		CHECK(y[0] == 7);
	}
}
