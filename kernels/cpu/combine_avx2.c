// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * combine with AVX2, bit-equal to the reference: a cache line of columns stays in registers while its rows go by, each
 * read once, and the row that is read one token later is fetched meanwhile, for the rows of a token lie anywhere. The
 * last columns may be done twice; rows narrower than a line are the reference's.
 */
#include "kernels/cpu/avx2.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref.h"

enum {
	COLUMNS = 32,
};

struct columns {
	__m256 even0, odd0, even1, odd1;
};

/* A token's rows are first..end-1 of row[], those of later tokens go on to all_end. */
struct span {
	uint32_t first, end, all_end;
};

AVX2_INLINE struct columns widen(__m256i bf16_0, __m256i bf16_1)
{
	return (struct columns){avx2_even(bf16_0), avx2_odd(bf16_0), avx2_even(bf16_1),
				avx2_odd(bf16_1)};
}

AVX2_INLINE struct columns load(const struct k_combine *c, struct span span, uint32_t index,
				size_t column)
{
	const uint16_t *row = (const uint16_t *)c->row[index] + column;
	uint32_t ahead = index + (span.end - span.first);

	if (ahead < span.all_end)
		_mm_prefetch((const char *)((const uint16_t *)c->row[ahead] + column), _MM_HINT_T0);
	return widen(avx2_load(row), avx2_load(row + 16));
}

AVX2_INLINE struct columns add(struct columns a, struct columns b)
{
	return (struct columns){_mm256_add_ps(a.even0, b.even0), _mm256_add_ps(a.odd0, b.odd0),
				_mm256_add_ps(a.even1, b.even1), _mm256_add_ps(a.odd1, b.odd1)};
}

AVX2_INLINE struct columns weighted(const struct k_combine *c, struct span span, uint32_t term,
				    size_t column)
{
	struct columns row = load(c, span, term, column);
	__m256 weight = _mm256_set1_ps(c->weight[term]);

	return (struct columns){_mm256_mul_ps(row.even0, weight), _mm256_mul_ps(row.odd0, weight),
				_mm256_mul_ps(row.even1, weight), _mm256_mul_ps(row.odd1, weight)};
}

AVX2_INLINE struct columns part_sum(const struct k_combine *c, struct span span, uint32_t part,
				    size_t column)
{
	uint32_t term = c->term_offset[part], end = c->term_offset[part + 1];
	struct columns sum;

	if (term == end)
		return widen(_mm256_setzero_si256(), _mm256_setzero_si256());
	sum = weighted(c, span, term, column);
	while (++term < end)
		sum = add(sum, weighted(c, span, term, column));
	return widen(avx2_narrow(sum.even0, sum.odd0), avx2_narrow(sum.even1, sum.odd1));
}

static void combine_token(const struct k_combine *c, uint32_t token)
{
	uint32_t part, begin = c->part_offset[token], end = c->part_offset[token + 1];
	struct span span = {begin, end, c->part_offset[c->tokens]};
	uint16_t *out = k_at_mut(c->out, c->out_stride, token);
	struct columns sum;
	size_t i, column;

	if (begin == end) {
		memset(out, 0, c->hidden * sizeof(*out));
		return;
	}
	if (c->term_offset)
		span = (struct span){c->term_offset[begin], c->term_offset[end],
				     c->term_offset[span.all_end]};
	for (i = 0; i < c->hidden; i += COLUMNS) {
		column = c->hidden - i < COLUMNS ? c->hidden - COLUMNS : i;
		if (c->term_offset) {
			sum = part_sum(c, span, begin, column);
			for (part = begin + 1; part < end; part++)
				sum = add(sum, part_sum(c, span, part, column));
		} else {
			sum = load(c, span, begin, column);
			for (part = begin + 1; part < end; part++)
				sum = add(sum, load(c, span, part, column));
		}
		avx2_store(out + column, avx2_narrow(sum.even0, sum.odd0));
		avx2_store(out + column + 16, avx2_narrow(sum.even1, sum.odd1));
	}
}

int k_avx2_combine(const struct k_combine *combine, unsigned part, unsigned parts)
{
	if (combine && combine->hidden < COLUMNS)
		return k_ref_combine(combine, part, parts);
	return k_combine_run(combine, part, parts, combine_token);
}
