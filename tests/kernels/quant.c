// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* quant_fp8 and dequant: every back end against ref and against golden/quant, bit for bit. */
#include "grid.h"
#include "kernels/kernels.h"
#include "safetensors_read.h"

#include <errno.h>

static const uint32_t hiddens[] = {1,	2,   7,	  16,  127,	 128,  129,
				   250, 256, 320, 384, 2048 + 8, 4097, 7168};
static const uint32_t row_counts[] = {0, 1, 3, 5};

struct result {
	uint8_t *codes, *scales;
	size_t codes_bytes, scales_bytes;
};

/* Runs in so many parts into fresh buffers whose strides leave a gap that must stay untouched. */
static struct result quantise(const struct k_ops *ops, struct k_quant quant, unsigned parts)
{
	struct result result;
	unsigned part;

	quant.codes_stride = quant.hidden + 3;
	quant.scales_stride = (quant.hidden + 127) / 128 * 4 + 4;
	result.codes_bytes = quant.rows * quant.codes_stride;
	result.scales_bytes = quant.rows * quant.scales_stride;
	quant.codes = result.codes = pattern(result.codes_bytes);
	result.scales = pattern(result.scales_bytes);
	quant.scales = (float *)result.scales;
	for (part = parts; part-- > 0;)
		CHECK_EQ(ops->quant_fp8(&quant, part, parts), 0);
	return result;
}

static void result_free(struct result *result)
{
	free(result->codes);
	free(result->scales);
}

static bool result_same(const char *name, const struct result *got, const struct result *want)
{
	bool codes = check_same(name, got->codes, want->codes, want->codes_bytes);

	return check_same(name, got->scales, want->scales, want->scales_bytes) && codes;
}

static void compare_with_ref(const struct k_quant *quant, unsigned parts)
{
	struct result want = quantise(k_ops_get("ref"), *quant, 1), got;
	const struct k_ops *ops;

	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
		got = quantise(ops, *quant, parts);
		if (!result_same(ops->name, &got, &want))
			tap_diag("rows %u hidden %u rule %u dtype %u parts %u", quant->rows,
				 quant->hidden, quant->rule, quant->x_dtype, parts);
		result_free(&got);
	}
	result_free(&want);
}

static void each_shape(enum k_dtype dtype, enum k_quant_rule rule, enum fill fill, uint64_t *rng)
{
	size_t element_bytes = dtype == K_DTYPE_F32 ? 4 : 2, i, j;

	for (i = 0; i < COUNT(hiddens); i++) {
		for (j = 0; j < COUNT(row_counts); j++) {
			uint32_t rows = row_counts[j], hidden = hiddens[i];
			size_t count = (size_t)rows * (hidden + 3);
			void *x = dtype == K_DTYPE_F32 ? fill_rows_f32(rng, fill, count)
						       : fill_rows_bf16(rng, fill, count);
			struct k_quant quant = {.rows = rows,
						.hidden = hidden,
						.rule = rule,
						.x_dtype = dtype,
						.x = x,
						.x_stride = (hidden + 3) * element_bytes};

			compare_with_ref(&quant, 1 + (unsigned)tap_random_below(rng, 5));
			free(x);
		}
	}
}

TEST(quant, equals_ref_for_every_shape_rule_and_input)
{
	uint64_t rng = tap_seed();
	unsigned rule, fill;

	for (rule = 0; rule < 3; rule++) {
		for (fill = 0; fill < FILLS; fill++) {
			each_shape(K_DTYPE_BF16, rule, fill, &rng);
			each_shape(K_DTYPE_F32, rule, fill, &rng);
		}
	}
}

/* Every mantissa an amax can have, with every bf16 not above it whose code is not plainly zero. */
static void each_bf16_up_to_amax(unsigned exponent, bool from_the_least)
{
	enum { EXPONENTS = 22, ROWS = EXPONENTS * 128 / 127 + 1 };
	uint16_t *x = pattern(ROWS * 128 * sizeof(*x)), amax;
	struct k_quant quant = {
		.rows = ROWS, .hidden = 128, .x_dtype = K_DTYPE_BF16, .x = x, .x_stride = 256};
	unsigned mantissa, i, next;

	for (mantissa = 0; mantissa < 128; mantissa++) {
		amax = (uint16_t)((exponent + (from_the_least ? mantissa : 0)) << 7 | mantissa);
		for (i = 0, next = 0; i < ROWS * 128; i++) {
			x[i] = i % 128 ? (uint16_t)(amax - next++ % (EXPONENTS * 128)) : amax;
			x[i] |= (i & 1) << 15;
		}
		for (quant.rule = K_QUANT_DIV; quant.rule <= K_QUANT_UE8M0; quant.rule++)
			compare_with_ref(&quant, 1);
	}
	free(x);
}

TEST(quant, equals_ref_for_every_bf16_under_every_amax_mantissa)
{
	each_bf16_up_to_amax(100, true);
	each_bf16_up_to_amax(114, false); /* above 1e-4, the least amax, for all mantissas */
	each_bf16_up_to_amax(127, false);
	each_bf16_up_to_amax(254, false);
}

TEST(quant, parts_give_the_same_bits)
{
	uint64_t rng = tap_seed();
	void *x = fill_rows_bf16(&rng, FILL_WIDE, 7 * 300);
	struct k_quant quant = {
		.rows = 7, .hidden = 300, .x_dtype = K_DTYPE_BF16, .x = x, .x_stride = 600};
	unsigned parts;

	for (parts = 1; parts <= 9; parts++)
		compare_with_ref(&quant, parts);
	free(x);
}

TEST(quant, takes_rows_at_odd_addresses)
{
	uint64_t rng = tap_seed();
	char *x = fill_rows_f32(&rng, FILL_WIDE, 4 * 300);
	struct k_quant quant = {.rows = 3, .hidden = 260, .x = x + 1, .x_stride = 4 * 260 + 1};

	for (quant.x_dtype = K_DTYPE_BF16; quant.x_dtype <= K_DTYPE_F32; quant.x_dtype += 2)
		compare_with_ref(&quant, 1);
	free(x);
}

struct environment_test {
	const struct k_ops *ops;
	struct k_quant quant;
	struct result want;
};

static void quantise_again(void *arg)
{
	struct environment_test *test = arg;
	struct result got = quantise(test->ops, test->quant, 1);

	result_same(test->ops->name, &got, &test->want);
	result_free(&got);
}

TEST(quant, gives_the_same_bits_in_every_floating_point_environment)
{
	uint64_t rng = tap_seed();
	void *x = fill_rows_f32(&rng, FILL_WIDE, 4 * 320);
	struct environment_test test = {
		.quant = {.rows = 4, .hidden = 320, .x = x, .x_stride = 4 * 320}};
	const struct k_ops *ops;

	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
		test.ops = ops;
		for (test.quant.rule = K_QUANT_DIV; test.quant.rule <= K_QUANT_UE8M0;
		     test.quant.rule++) {
			for (test.quant.x_dtype = K_DTYPE_BF16; test.quant.x_dtype <= K_DTYPE_F32;
			     test.quant.x_dtype += 2) {
				test.want = quantise(ops, test.quant, 1);
				in_every_environment(quantise_again, &test);
				result_free(&test.want);
			}
		}
	}
	free(x);
}

/* Strips the gaps that quantise() leaves, to compare with a dense golden tensor. */
static bool rows_same(const char *name, const uint8_t *got, size_t stride, const void *want,
		      size_t row_bytes, uint32_t rows)
{
	bool same = true;
	uint32_t row;

	for (row = 0; row < rows; row++)
		same &= check_same(name, got + row * stride,
				   (const uint8_t *)want + row * row_bytes, row_bytes);
	return same;
}

static void check_golden(const char *file, uint32_t hidden)
{
	static const struct {
		enum k_quant_rule rule;
		const char *codes, *scales;
	} rules[] = {{K_QUANT_DIV, "codes_div", "scale_inv"},
		     {K_QUANT_MUL, "codes_mul", "scale_inv"},
		     {K_QUANT_UE8M0, "codes_ue8m0", "scale_inv_ue8m0"}};
	struct k_quant quant = {
		.hidden = hidden, .x_dtype = K_DTYPE_BF16, .x_stride = 2 * (size_t)hidden};
	size_t blocks = (hidden + 127) / 128, count = 0, i;
	const struct k_ops *ops;
	struct golden golden;
	struct result got;

	REQUIRE_EQ(golden_open(&golden, file), 0);
	quant.x = golden_get(&golden, "x", "BF16", &count);
	quant.rows = (uint32_t)(count / hidden);
	CHECK(quant.x && quant.rows);
	for (i = 0; i < COUNT(rules); i++) {
		const void *codes = golden_get(&golden, rules[i].codes, "F8_E4M3", &count);
		const void *scales = golden_get(&golden, rules[i].scales, "F32", &count);

		quant.rule = rules[i].rule;
		for (ops = k_ops_next(NULL); CHECK(codes && scales) && ops; ops = k_ops_next(ops)) {
			got = quantise(ops, quant, 2);
			rows_same(rules[i].codes, got.codes, hidden + 3, codes, hidden, quant.rows);
			rows_same(rules[i].scales, got.scales, 4 * blocks + 4, scales, 4 * blocks,
				  quant.rows);
			result_free(&got);
		}
	}
	golden_close(&golden);
}

TEST(quant, equals_golden_rows)
{
	check_golden("quant/rows_h7168.safetensors", 7168);
	check_golden("quant/rows_h320_ragged.safetensors", 320);
}

TEST(quant, spreads_nan_and_keeps_signs_as_golden_nonfinite_has_it)
{
	enum { HIDDEN = 512, BLOCKS = 4 };
	static const char *const names[] = {"codes_div_spread_nan", "codes_mul_spread_nan"};
	struct k_quant quant = {.hidden = HIDDEN, .x_dtype = K_DTYPE_BF16, .x_stride = 2 * HIDDEN};
	const struct k_ops *ops;
	struct golden golden;
	struct result got;
	const uint16_t *x;
	size_t count = 0, i, row;

	REQUIRE_EQ(golden_open(&golden, "quant/nonfinite.safetensors"), 0);
	x = quant.x = golden_get(&golden, "x", "BF16", &count);
	quant.rows = (uint32_t)(count / HIDDEN);
	for (quant.rule = K_QUANT_DIV; quant.rule <= K_QUANT_MUL; quant.rule++) {
		const uint8_t *codes = golden_get(&golden, names[quant.rule], "F8_E4M3", &count);
		const void *scales = golden_get(&golden, "scale_inv_spread_nan", "F32", &count);

		for (ops = k_ops_next(NULL); CHECK(x && codes && scales) && ops;
		     ops = k_ops_next(ops)) {
			got = quantise(ops, quant, 1);
			rows_same(ops->name, got.scales, 4 * BLOCKS + 4, scales, 4 * BLOCKS,
				  quant.rows);
			for (row = 0; row < quant.rows; row++) {
				for (i = 0; i < HIDDEN; i++) {
					uint8_t code = got.codes[row * (HIDDEN + 3) + i];

					CHECK_EQ(code & 0x7f, codes[row * HIDDEN + i] & 0x7f);
					CHECK_EQ(code >> 7, x[row * HIDDEN + i] >> 15);
				}
			}
			result_free(&got);
		}
	}
	golden_close(&golden);
}

TEST(quant, rejects_bad_arguments_and_writes_nothing)
{
	uint16_t x[2 * 130] = {0};
	uint8_t codes[2 * 130];
	float scales[4];
	const struct k_quant good = {.rows = 2,
				     .hidden = 130,
				     .x_dtype = K_DTYPE_BF16,
				     .x = x,
				     .x_stride = 260,
				     .codes = codes,
				     .codes_stride = 130,
				     .scales = scales,
				     .scales_stride = 8};
	const struct k_ops *ops;
	struct k_quant bad;

	memset(codes, 0xa5, sizeof(codes));
	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
#define BAD(field, value)                                                                          \
	bad = good;                                                                                \
	bad.field = value;                                                                         \
	CHECK_EQ(ops->quant_fp8(&bad, 0, 1), -EINVAL)
		BAD(hidden, 0);
		BAD(rule, 3);
		BAD(x_dtype, K_DTYPE_FP8);
		BAD(x_dtype, 0);
		BAD(x, NULL);
		BAD(codes, NULL);
		BAD(scales, NULL);
		BAD(codes_stride, 129);
		BAD(scales_stride, 4);
#undef BAD
		CHECK_EQ(ops->quant_fp8(&good, 1, 1), -EINVAL);
		CHECK_EQ(ops->quant_fp8(&good, 0, 0), -EINVAL);
		CHECK_EQ(ops->quant_fp8(NULL, 0, 1), -EINVAL);
		CHECK_EQ(codes[0], 0xa5);
		bad = (struct k_quant){.hidden = 1, .x_dtype = K_DTYPE_BF16};
		CHECK_EQ(ops->quant_fp8(&bad, 0, 1), 0); /* no rows need no buffers */
	}
}
