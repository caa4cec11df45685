// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* swiglu: ref against libm in double, every other back end against ref within the bound of kernels/ref/swiglu.c. */
#include "grid.h"
#include "kernels/kernels.h"
#include "kernels/ref/ref.h"

#include <errno.h>
#include <math.h>

static uint8_t *run(const struct k_ops *ops, struct k_swiglu swiglu, unsigned parts)
{
	unsigned part;

	swiglu.y_stride = swiglu.width * (swiglu.y_dtype == K_DTYPE_F32 ? 4u : 2u) + 3;
	swiglu.y = pattern(swiglu.rows * swiglu.y_stride);
	for (part = parts; part-- > 0;)
		CHECK_EQ(ops->swiglu(&swiglu, part, parts), 0);
	return swiglu.y;
}

static float result(const struct k_swiglu *swiglu, const uint8_t *y, size_t row, size_t column)
{
	size_t element_bytes = swiglu->y_dtype == K_DTYPE_F32 ? 4 : 2;
	uint8_t bytes[4] = {0};
	float value;

	memcpy(bytes + 4 - element_bytes,
	       y + row * (swiglu->width * element_bytes + 3) + column * element_bytes,
	       element_bytes);
	memcpy(&value, bytes, 4);
	return value;
}

static double ulp(double value)
{
	return ldexp(1.0, (fabs(value) < 0x1p-126 ? -126 : ilogb(value)) - 23);
}

static bool near(float got, float want, float up, enum k_dtype dtype)
{
	double bound;

	if (isnan(want) || isinf(want))
		return isnan(want) ? isnan(got) : got == want || fabs((double)got) > 0x1.ffffp127;
	if (isinf(got))
		return fabs((double)want) > 0x1.fep127;
	bound = K_SWIGLU_ULP * ulp(want) + 0x1p-140 * fabs((double)up);
	return fabs((double)got - want) <= bound + (dtype == K_DTYPE_BF16 ? 0x1p16 * ulp(want) : 0);
}

static void check_shape(uint64_t *rng, uint32_t rows, uint32_t width, enum fill fill)
{
	float *gate = fill_rows_f32(rng, fill, rows * (size_t)(width + 1)),
	      *up = fill_rows_f32(rng, fill, rows * (size_t)width);
	struct k_swiglu swiglu = {.rows = rows,
				  .width = width,
				  .gate = gate,
				  .gate_stride = 4 * (size_t)width + 4,
				  .up = up,
				  .up_stride = 4 * (size_t)width};
	const struct k_ops *ops;
	uint8_t *want, *got;
	size_t row, column;

	for (swiglu.y_dtype = K_DTYPE_BF16; swiglu.y_dtype <= K_DTYPE_F32; swiglu.y_dtype += 2) {
		want = run(k_ops_get("ref"), swiglu, 1);
		for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
			got = run(ops, swiglu, 1 + (unsigned)tap_random_below(rng, 5));
			for (row = 0; row < rows; row++) {
				for (column = 0; column < width; column++) {
					float a = result(&swiglu, got, row, column),
					      b = result(&swiglu, want, row, column);

					tap_check(near(a, b, up[row * width + column],
						       swiglu.y_dtype),
						  ops->name, 0, "silu(%a) * %a is %a, not %a",
						  (double)gate[row * (width + 1) + column],
						  (double)up[row * width + column], (double)a,
						  (double)b);
				}
				if (rows > 1 && width > 1)
					CHECK_EQ(got[row * (width * (swiglu.y_dtype == K_DTYPE_F32
									     ? 4u
									     : 2u) +
							    3) +
						     width * (swiglu.y_dtype == K_DTYPE_F32 ? 4u
											    : 2u)],
						 0xa5);
			}
			free(got);
		}
		free(want);
	}
	free(gate);
	free(up);
}

TEST(swiglu, is_within_its_bound_of_ref_for_every_shape_and_input)
{
	static const uint32_t widths[] = {1, 3, 7, 8, 9, 31, 64, 192, 2048};
	uint64_t rng = tap_seed();
	unsigned i, fill;

	for (i = 0; i < COUNT(widths); i++) {
		for (fill = 0; fill < FILLS; fill++) {
			check_shape(&rng, 0, widths[i], fill);
			check_shape(&rng, 1, widths[i], fill);
			check_shape(&rng, 5, widths[i], fill);
		}
	}
}

TEST(swiglu, ref_is_libm_in_double_rounded)
{
	enum { N = 100000 };
	uint64_t rng = tap_seed();
	float *gate = fill_rows_f32(&rng, FILL_NORMAL, N),
	      *up = fill_rows_f32(&rng, FILL_NORMAL, N), *y = pattern(4 * N);
	const struct k_swiglu swiglu = {
		.rows = 1, .width = N, .gate = gate, .up = up, .y_dtype = K_DTYPE_F32, .y = y};
	unsigned i;

	for (i = 0; i < N; i++)
		gate[i] *= i % 3 ? 1.0f : 14.0f;
	REQUIRE_EQ(k_ops_get("ref")->swiglu(&swiglu, 0, 1), 0);
	for (i = 0; i < N; i++) {
		double silu = (double)gate[i] / (1.0 + exp(-(double)gate[i]));

		CHECK(fabs(y[i] - (double)(float)silu * up[i]) <= 2 * ulp(y[i]));
	}
	free(gate);
	free(up);
	free(y);
}

struct environment_test {
	const struct k_ops *ops;
	struct k_swiglu swiglu;
	uint8_t *want;
};

static void run_again(void *arg)
{
	struct environment_test *test = arg;
	uint8_t *got = run(test->ops, test->swiglu, 1);

	check_same(test->ops->name, got, test->want,
		   test->swiglu.rows * (test->swiglu.width * 4 + 3));
	free(got);
}

TEST(swiglu, gives_the_same_bits_in_every_environment_and_share)
{
	uint64_t rng = tap_seed();
	float *gate = fill_rows_f32(&rng, FILL_WIDE, 5 * 100),
	      *up = fill_rows_f32(&rng, FILL_WIDE, 5 * 100);
	struct environment_test test = {.swiglu = {.rows = 5,
						   .width = 100,
						   .gate = gate,
						   .gate_stride = 400,
						   .up = up,
						   .up_stride = 400,
						   .y_dtype = K_DTYPE_F32}};
	unsigned parts;
	uint8_t *got;

	for (test.ops = k_ops_next(NULL); test.ops; test.ops = k_ops_next(test.ops)) {
		test.want = run(test.ops, test.swiglu, 1);
		in_every_environment(run_again, &test);
		for (parts = 2; parts <= 6; parts++) {
			got = run(test.ops, test.swiglu, parts);
			check_same(test.ops->name, got, test.want, 5 * 403);
			free(got);
		}
		free(test.want);
	}
	free(gate);
	free(up);
}

TEST(swiglu, rejects_bad_arguments_and_writes_nothing)
{
	float gate[8] = {0}, up[8] = {0}, y[8] = {7};
	const struct k_swiglu good = {.rows = 2,
				      .width = 4,
				      .gate = gate,
				      .gate_stride = 16,
				      .up = up,
				      .up_stride = 16,
				      .y_dtype = K_DTYPE_F32,
				      .y = y,
				      .y_stride = 16};
	const struct k_ops *ops;
	struct k_swiglu bad;

	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
#define BAD(field, value)                                                                          \
	bad = good;                                                                                \
	bad.field = value;                                                                         \
	CHECK_EQ(ops->swiglu(&bad, 0, 1), -EINVAL)
		BAD(width, 0);
		BAD(gate, NULL);
		BAD(up, NULL);
		BAD(y, NULL);
		BAD(y_dtype, K_DTYPE_FP8);
		BAD(y_stride, 15);
#undef BAD
		CHECK_EQ(ops->swiglu(&good, 1, 1), -EINVAL);
		CHECK_EQ(ops->swiglu(NULL, 0, 1), -EINVAL);
		CHECK(y[0] == 7);
	}
}
