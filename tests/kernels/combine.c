// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * combine: every back end against sums made here in double. A product of a bf16 and an f32 is exact in double, and
 * a sum of two f32 rounded from double is the f32 sum, so that is the same definition by another road.
 */
#include "grid.h"
#include "kernels/kernels.h"

#include <errno.h>
#include <math.h>

static const uint32_t hiddens[] = {1, 7, 8, 15, 16, 17, 31, 32, 33, 40, 64, 100, 129, 7168};

/* A combine with everything it points at; out has a gap of 3 bytes after each row. */
struct problem {
	struct k_combine combine;
	uint32_t *part_offset, *term_offset;
	const void **row;
	uint16_t *rows;
	float *weight;
};

static struct problem problem_make(uint64_t *rng, uint32_t tokens, uint32_t hidden, bool terms,
				   enum fill fill)
{
	struct problem p;
	uint32_t parts, count, i;

	p.part_offset = pattern((tokens + 1) * sizeof(uint32_t));
	p.part_offset[0] = (uint32_t)tap_random_below(rng, 3);
	for (i = 0; i < tokens; i++)
		p.part_offset[i + 1] = p.part_offset[i] + (uint32_t)tap_random_below(rng, 6);
	count = parts = p.part_offset[tokens];
	p.term_offset = NULL;
	if (terms) {
		p.term_offset = pattern((parts + 1) * sizeof(uint32_t));
		p.term_offset[0] = (uint32_t)tap_random_below(rng, 3);
		for (i = 0; i < parts; i++)
			p.term_offset[i + 1] = p.term_offset[i] +
					       (uint32_t)tap_random_below(rng, 5);
		count = p.term_offset[parts];
	}
	p.row = pattern(count * sizeof(*p.row));
	p.rows = fill_rows_bf16(rng, fill, (size_t)count * hidden);
	p.weight = fill_rows_f32(rng, fill, count);
	for (i = 0; i < count; i++)
		p.row[i] = p.rows + tap_random_below(rng, count) * hidden;
	p.combine = (struct k_combine){.tokens = tokens,
				       .hidden = hidden,
				       .part_offset = p.part_offset,
				       .term_offset = p.term_offset,
				       .row = p.row,
				       .weight = terms ? p.weight : NULL,
				       .out_stride = 2 * (size_t)hidden + 3};
	return p;
}

static void problem_free(struct problem *p)
{
	free(p->part_offset);
	free(p->term_offset);
	free(p->row);
	free(p->rows);
	free(p->weight);
}

static uint8_t *run(const struct k_ops *ops, struct k_combine combine, unsigned parts)
{
	unsigned part;

	combine.out = pattern(combine.tokens * combine.out_stride);
	for (part = parts; part-- > 0;)
		CHECK_EQ(ops->combine(&combine, part, parts), 0);
	return combine.out;
}

static float widen(uint16_t bf16)
{
	uint32_t bits = (uint32_t)bf16 << 16;
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static uint16_t narrow(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	if (isnan(value))
		return 0x7fc0;
	if ((bits & 0xffff) > 0x8000 || ((bits & 0xffff) == 0x8000 && bits & 0x10000))
		bits += 0x10000;
	return (uint16_t)(bits >> 16);
}

static float add(float a, float b)
{
	volatile double sum = (double)a + b; /* rounded to double: no wider, no fused */

	return (float)sum;
}

static float part_sum(const struct k_combine *c, uint32_t part, uint32_t column)
{
	uint32_t term, end;
	float sum = 0;

	if (!c->term_offset)
		return widen(((const uint16_t *)c->row[part])[column]);
	term = c->term_offset[part];
	end = c->term_offset[part + 1];
	for (uint32_t i = term; i < end; i++) {
		volatile double exact = (double)c->weight[i] *
					widen(((const uint16_t *)c->row[i])[column]);

		sum = i == term ? (float)exact : add(sum, (float)exact);
	}
	return widen(narrow(sum));
}

static uint8_t *expected(const struct k_combine *c)
{
	uint8_t *out = pattern(c->tokens * c->out_stride);
	uint32_t token, part, column;
	uint16_t result;
	float sum;

	for (token = 0; token < c->tokens; token++) {
		for (column = 0; column < c->hidden; column++) {
			sum = 0;
			for (part = c->part_offset[token]; part < c->part_offset[token + 1]; part++)
				sum = part == c->part_offset[token]
					      ? part_sum(c, part, column)
					      : add(sum, part_sum(c, part, column));
			result = narrow(sum);
			memcpy(out + token * c->out_stride + 2 * (size_t)column, &result, 2);
		}
	}
	return out;
}

TEST(combine, equals_sums_in_double_for_every_shape_form_and_input)
{
	static const uint32_t token_counts[] = {0, 1, 2, 5};
	uint64_t rng = tap_seed();
	const struct k_ops *ops;
	uint8_t *want, *got;
	unsigned i, j, fill, terms, parts;

	for (i = 0; i < COUNT(hiddens) * COUNT(token_counts) * FILLS * 2; i++) {
		j = i;
		uint32_t hidden = hiddens[j % COUNT(hiddens)];
		j /= COUNT(hiddens);
		uint32_t tokens = token_counts[j % COUNT(token_counts)];
		j /= COUNT(token_counts);
		fill = j % FILLS;
		terms = j / FILLS;
		struct problem p = problem_make(&rng, tokens, hidden, terms, fill);

		want = expected(&p.combine);
		for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
			parts = 1 + (unsigned)tap_random_below(&rng, 5);
			got = run(ops, p.combine, parts);
			if (!check_same(ops->name, got, want, tokens * p.combine.out_stride))
				tap_diag("tokens %u hidden %u terms %u fill %u parts %u", tokens,
					 hidden, terms, fill, parts);
			free(got);
		}
		free(want);
		problem_free(&p);
	}
}

/* (1 + 2^-7 + 2^-20) * (1 + 2^-7) has a last bit, 2^-27, that its rounding loses and a fused sum would keep. */
TEST(combine, rounds_each_product_before_it_is_added)
{
	static const float weight[2] = {-(1.0f + 0x1p-7f), 1.0f + 0x1p-7f + 0x1p-20f};
	static const uint32_t part_offset[2] = {0, 1}, term_offset[2] = {0, 2};
	uint16_t x[64], out[64];
	const void *row[2] = {x, x};
	const struct k_combine c = {.tokens = 1,
				    .hidden = 64,
				    .part_offset = part_offset,
				    .term_offset = term_offset,
				    .row = row,
				    .weight = weight,
				    .out = out,
				    .out_stride = 128};
	const struct k_ops *ops;
	unsigned i;

	for (i = 0; i < 64; i++)
		x[i] = 0x3f81; /* 1 + 2^-7 */
	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
		REQUIRE_EQ(ops->combine(&c, 0, 1), 0);
		for (i = 0; i < 64; i++)
			CHECK_EQ(out[i], 0x3580); /* 2^-20, and 0x3581 when fused */
	}
}

TEST(combine, depends_on_the_order_of_terms_and_parts)
{
	const uint16_t one = 0x3f80, big = 0x4b80, minus_big = 0xcb80; /* 1, 2^24, -2^24 */
	const void *ascending[3] = {&big, &minus_big, &one}, *other[3] = {&one, &big, &minus_big};
	const uint32_t part_offset[2] = {0, 3};
	uint16_t out;
	struct k_combine c = {
		.tokens = 1, .hidden = 1, .part_offset = part_offset, .out = &out, .out_stride = 2};
	const struct k_ops *ops;

	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
		c.row = ascending;
		CHECK_EQ(ops->combine(&c, 0, 1), 0);
		CHECK_EQ(out, one);
		c.row = other;
		CHECK_EQ(ops->combine(&c, 0, 1), 0);
		CHECK_EQ(out, 0);
	}
}

TEST(combine, keeps_a_lone_minus_zero_and_zeros_a_token_without_parts)
{
	uint16_t minus_zero[64], out[2][64];
	const void *row[1] = {minus_zero};
	const uint32_t part_offset[3] = {0, 1, 1};
	const struct k_combine c = {.tokens = 2,
				    .hidden = 64,
				    .part_offset = part_offset,
				    .row = row,
				    .out = out,
				    .out_stride = 128};
	const struct k_ops *ops;
	unsigned i;

	for (i = 0; i < 64; i++)
		minus_zero[i] = 0x8000;
	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
		memset(out, 0xa5, sizeof(out));
		CHECK_EQ(ops->combine(&c, 0, 1), 0);
		for (i = 0; i < 64; i++) {
			CHECK_EQ(out[0][i], 0x8000);
			CHECK_EQ(out[1][i], 0);
		}
	}
}

struct environment_test {
	const struct k_ops *ops;
	struct problem problem;
	uint8_t *want;
};

static void combine_again(void *arg)
{
	struct environment_test *test = arg;
	const struct k_combine *c = &test->problem.combine;
	uint8_t *got = run(test->ops, *c, 1);

	check_same(test->ops->name, got, test->want, c->tokens * c->out_stride);
	free(got);
}

TEST(combine, gives_the_same_bits_in_every_floating_point_environment)
{
	uint64_t rng = tap_seed();
	struct environment_test test;
	unsigned terms;

	for (terms = 0; terms < 2; terms++) {
		test.problem = problem_make(&rng, 6, 200, terms, FILL_WIDE);
		for (test.ops = k_ops_next(NULL); test.ops; test.ops = k_ops_next(test.ops)) {
			test.want = expected(&test.problem.combine);
			in_every_environment(combine_again, &test);
			free(test.want);
		}
		problem_free(&test.problem);
	}
}

TEST(combine, parts_give_the_same_bits)
{
	uint64_t rng = tap_seed();
	struct problem p = problem_make(&rng, 7, 100, true, FILL_NORMAL);
	uint8_t *want = expected(&p.combine), *got;
	const struct k_ops *ops;
	unsigned parts;

	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
		for (parts = 1; parts <= 9; parts++) {
			got = run(ops, p.combine, parts);
			check_same(ops->name, got, want, 7 * p.combine.out_stride);
			free(got);
		}
	}
	free(want);
	problem_free(&p);
}

TEST(combine, rejects_bad_arguments_and_writes_nothing)
{
	static const uint32_t down[3] = {0, 2, 1};
	uint16_t x[8] = {0}, out[16];
	const void *row[2] = {x, x}, *hole[2] = {x, NULL};
	const float weight[2] = {1, 1};
	const uint32_t parts[3] = {0, 1, 2}, terms[3] = {0, 1, 2};
	const struct k_combine good = {.tokens = 2,
				       .hidden = 8,
				       .part_offset = parts,
				       .term_offset = terms,
				       .row = row,
				       .weight = weight,
				       .out = out,
				       .out_stride = 16};
	const struct k_ops *ops;
	struct k_combine bad;

	memset(out, 0xa5, sizeof(out));
	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
#define BAD(field, value)                                                                          \
	bad = good;                                                                                \
	bad.field = value;                                                                         \
	CHECK_EQ(ops->combine(&bad, 0, 1), -EINVAL)
		BAD(hidden, 0);
		BAD(part_offset, NULL);
		BAD(part_offset, down);
		BAD(term_offset, down);
		BAD(row, NULL);
		BAD(row, hole);
		BAD(weight, NULL);
		BAD(out, NULL);
		BAD(out_stride, 15);
#undef BAD
		CHECK_EQ(ops->combine(&good, 1, 1), -EINVAL);
		CHECK_EQ(ops->combine(NULL, 0, 1), -EINVAL);
		CHECK_EQ(out[0], 0xa5a5);
		bad = (struct k_combine){.hidden = 8};
		CHECK_EQ(ops->combine(&bad, 0, 1), 0);
	}
}
