// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * accel_num.h: every bf16 and every code against golden/quant/e4m3_tables and against exact arithmetic in double, and
 * the float half in every floating-point environment.
 */
#define ACCEL_NUM_FLOAT
#include "uapi/accel_num.h"

#include "safetensors_read.h"
#include "tests/kernels/grid.h"

#include <math.h>

static bool is_nan(uint32_t f32)
{
	return (f32 & 0x7fffffff) > 0x7f800000;
}

static double value_of(uint32_t f32)
{
	float value;

	memcpy(&value, &f32, sizeof(value));
	return value;
}

TEST(bf16, survives_the_way_through_f32_and_back)
{
	uint32_t bf16;

	for (bf16 = 0; bf16 < 0x10000; bf16++) {
		uint32_t f32 = accel_num_bf16_to_f32((uint16_t)bf16);

		CHECK_EQ(f32, bf16 << 16);
		CHECK_EQ(accel_num_f32_to_bf16(f32), is_nan(f32) ? 0x7fc0 : bf16);
	}
}

/* Each bf16 and what lies between it and the next one away from zero: below, at and above the middle. */
TEST(bf16, rounds_to_nearest_even_and_overflows_to_infinity)
{
	static const uint32_t below[] = {1, 0x7fff}, above[] = {0x8001, 0xffff};
	uint32_t bf16;
	unsigned i;

	for (bf16 = 0; bf16 < 0x10000; bf16++) {
		if ((bf16 & 0x7fff) >= 0x7f80)
			continue;
		for (i = 0; i < 2; i++) {
			CHECK_EQ(accel_num_f32_to_bf16(bf16 << 16 | below[i]), bf16);
			CHECK_EQ(accel_num_f32_to_bf16(bf16 << 16 | above[i]), bf16 + 1);
		}
		CHECK_EQ(accel_num_f32_to_bf16(bf16 << 16 | 0x8000), bf16 + (bf16 & 1));
	}
	CHECK_EQ(accel_num_f32_to_bf16(0x7f800001), 0x7fc0); /* a NaN whose payload is all below */
	CHECK_EQ(accel_num_f32_to_bf16(0xffffffff), 0x7fc0);
}

TEST(e4m3, encodes_every_bf16_as_golden_has_it)
{
	struct golden golden;
	const uint8_t *want;
	size_t count = 0, bf16;

	REQUIRE_EQ(golden_open(&golden, "quant/e4m3_tables.safetensors"), 0);
	want = golden_get(&golden, "encode_bf16_satfinite", "U8", &count);
	for (bf16 = 0; CHECK(count == 0x10000) && bf16 < count; bf16++) {
		uint32_t f32 = accel_num_bf16_to_f32((uint16_t)bf16);
		uint8_t code = accel_num_f32_to_e4m3(f32);

		CHECK_EQ(code & 0x7f, want[bf16] & 0x7f);
		CHECK_EQ(code >> 7, bf16 >> 15); /* the sign stays, a NaN's too */
		if (!is_nan(f32))
			CHECK_EQ(code, want[bf16]);
	}
	golden_close(&golden);
}

TEST(e4m3, encodes_ties_and_their_neighbours_as_golden_has_them)
{
	struct golden golden;
	const uint32_t *input;
	const uint8_t *want;
	size_t count = 0, i;

	REQUIRE_EQ(golden_open(&golden, "quant/e4m3_tables.safetensors"), 0);
	input = golden_get(&golden, "encode_f32_input", "F32", &count);
	want = golden_get(&golden, "encode_f32_satfinite", "U8", &count);
	CHECK(input && want && count > 1000);
	for (i = 0; i < count; i++)
		CHECK_EQ(accel_num_f32_to_e4m3(input[i]) & (is_nan(input[i]) ? 0x7f : 0xff),
			 want[i] & (is_nan(input[i]) ? 0x7f : 0xff));
	golden_close(&golden);
}

TEST(e4m3, decodes_every_code_and_takes_it_back)
{
	struct golden golden;
	const uint32_t *want;
	size_t count = 0, code;

	REQUIRE_EQ(golden_open(&golden, "quant/e4m3_tables.safetensors"), 0);
	want = golden_get(&golden, "decode", "F32", &count);
	for (code = 0; CHECK(count == 256) && code < count; code++) {
		uint32_t f32 = accel_num_e4m3_to_f32((uint8_t)code);

		CHECK_EQ(is_nan(f32), (code & 0x7f) == 0x7f);
		if (!is_nan(f32))
			CHECK_EQ(f32, want[code]);
		CHECK_EQ(f32 >> 31, code >> 7);
		CHECK_EQ(accel_num_f32_to_e4m3(f32), code);
	}
	golden_close(&golden);
}

/* Random f32 against a search for the nearest code. */
TEST(e4m3, is_the_nearest_code_ties_to_even)
{
	uint64_t rng = tap_seed();
	unsigned i, code, best;

	for (i = 0; i < 100000; i++) {
		uint32_t f32 = (uint32_t)tap_random(&rng) % 0x07000000 +
			       0x3a000000; /* 2^-11..2^3, up to 500 by 2^6 */
		double value, gap, least = INFINITY;

		if (i % 4 == 0)
			f32 += 6u << 23;
		if (i % 8 == 0)
			f32 &= 0xfff80000; /* ties are among these */
		value = value_of(f32);
		for (code = 0, best = 0; code < 0x7f; code++) {
			gap = fabs(value_of(accel_num_e4m3_to_f32((uint8_t)code)) - value);
			if (gap < least || (gap == least && code % 2 == 0)) {
				least = gap;
				best = code;
			}
		}
		CHECK_EQ(accel_num_f32_to_e4m3(f32), best);
		CHECK_EQ(accel_num_f32_to_e4m3(f32 | 0x80000000), best | 0x80);
	}
}

TEST(e4m3, saturates_beyond_448)
{
	CHECK_EQ(accel_num_f32_to_e4m3(0x43e80000), 0x7e); /* 464 */
	CHECK_EQ(accel_num_f32_to_e4m3(0x43e80001), 0x7e);
	CHECK_EQ(accel_num_f32_to_e4m3(0x7f7fffff), 0x7e);
	CHECK_EQ(accel_num_f32_to_e4m3(0x7f800000), 0x7e);
	CHECK_EQ(accel_num_f32_to_e4m3(0xff800000), 0xfe);
	CHECK_EQ(accel_num_f32_to_e4m3(0x7f800001), 0x7f);
	CHECK_EQ(accel_num_f32_to_e4m3(0xffc00000), 0xff);
	CHECK_EQ(accel_num_f32_to_e4m3(0x80000000), 0x80);
	CHECK_EQ(accel_num_f32_to_e4m3(0x80000001), 0x80);
}

TEST(amax, is_a_magnitude_that_nan_exceeds)
{
	CHECK_EQ(accel_num_amax(ACCEL_NUM_AMAX_MIN, 0), ACCEL_NUM_AMAX_MIN);
	CHECK_EQ(accel_num_amax(ACCEL_NUM_AMAX_MIN, 0xbf800000), 0x3f800000);
	CHECK_EQ(accel_num_amax(0x40000000, 0x3f800000), 0x40000000);
	CHECK_EQ(accel_num_amax(0x7f800000, 0xffc00000), 0x7fc00000);
	CHECK_EQ(accel_num_amax(0x7fc00000, 0x7f800000), 0x7fc00000);
	CHECK(value_of(ACCEL_NUM_AMAX_MIN) == (double)1e-4f);
}

/* The least power of two not below amax / 448, for every bf16 amax and the f32 beside each. */
TEST(scale, is_the_power_of_two_above_for_ue8m0)
{
	uint32_t high, amax;
	int step, exponent;

	for (high = 0x38d2; high < 0x7f80; high++) {
		for (step = -1; step <= 1; step++) {
			amax = (high << 16) + (uint32_t)step;
			exponent = -40;
			while (ldexp(448.0, exponent) < value_of(amax))
				exponent++;
			CHECK_EQ(accel_num_scale_ue8m0(amax), (127 + exponent) << 23);
		}
	}
	CHECK_EQ(accel_num_scale_ue8m0(0x7f800000), 0x7f800000);
	CHECK_EQ(accel_num_scale_ue8m0(0x7fc00123), 0x7fc00000);
}

TEST(scale, is_one_true_division)
{
	uint32_t high, want;
	float quotient;

	for (high = 0x38d2; high < 0x7f80; high++) {
		quotient = (float)(value_of(high << 16) /
				   448.0); /* an f32 quotient rounds the same by way of double */
		memcpy(&want, &quotient, sizeof(want));
		CHECK_EQ(accel_num_scale(ACCEL_NUM_RULE_DIV, high << 16), want);
		CHECK_EQ(accel_num_scale(ACCEL_NUM_RULE_MUL, high << 16), want);
	}
	CHECK_EQ(accel_num_scale(ACCEL_NUM_RULE_DIV, 0x7fffffff), 0x7fc00000);
}

TEST(madd, rounds_the_product_first)
{
	volatile float sum = -(1.0f + 0x1p-6f + 0x1p-14f), weight = 1.0f + 0x1p-7f + 0x1p-20f,
		       row = 1.0f + 0x1p-7f;

	CHECK(accel_num_madd(sum, weight, row) == 0x1p-20f);
	CHECK(fmaf(weight, row, sum) ==
	      0x1p-20f + 0x1p-27f); /* so that the numbers above are a test */
}

/* One pass over the float half with inputs that rounding and flushing would show; folded into a sum of bits. */
static uint64_t float_half(uint64_t rng)
{
	uint64_t hash = 0;
	unsigned i, rule;

	for (i = 0; i < 2000; i++) {
		uint32_t a = fill_f32(&rng, FILL_SPECIAL), b = fill_f32(&rng, FILL_WIDE),
			 c = fill_f32(&rng, FILL_WIDE);
		uint32_t amax = accel_num_amax(accel_num_amax(ACCEL_NUM_AMAX_MIN, a), b), scale;
		struct accel_num_fp fp = accel_num_fp_begin();

		for (rule = 0; rule < 3; rule++) {
			scale = accel_num_scale(rule, amax);
			hash = hash * 31 + scale;
			hash = hash * 31 + accel_num_quant(rule, amax, scale, b);
			hash = hash * 31 + accel_num_dequant((uint8_t)i, accel_num_float(c));
		}
		hash = hash * 31 +
		       accel_num_bits(accel_num_madd(accel_num_float(a), accel_num_float(b),
						     accel_num_float(c)));
		__asm__ volatile(""
				 : "+r"(hash)
				 :
				 : "memory"); /* a result in memory, as the rule asks */
		accel_num_fp_end(fp);
	}
	return hash;
}

struct float_half_test {
	uint64_t seed, want;
	unsigned differed;
};

static void float_half_again(void *arg)
{
	struct float_half_test *test = arg;

	CHECK_EQ(float_half(test->seed), test->want);
}

/* The same without the guard, to show that these environments do change results. */
static void unguarded(void *arg)
{
	struct float_half_test *test = arg;
	volatile float one = 1.0f, subnormal = 0x1p-130f, three = 3.0f;
	fenv_t environment;

	fegetenv(&environment);
	test->differed += one / three != 0x1.555556p-2f || subnormal * three != 0x1.8p-129f;
	fesetenv(&environment);
}

TEST(environment, is_set_and_put_back_and_changes_no_bit)
{
	struct float_half_test test = {.seed = tap_seed()};

	test.want = float_half(test.seed);
	in_every_environment(float_half_again, &test);
	in_every_environment(unguarded, &test);
	CHECK(test.differed >= 2);
}
