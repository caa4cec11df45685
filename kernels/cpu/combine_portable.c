// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* combine in plain C that compilers turn into vectors: a block of columns at a time, its sums kept in the L1 cache. */
#define ACCEL_NUM_FLOAT
#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref.h"
#include "uapi/accel_num.h"

enum {
	COLUMNS = 128,
};

/* count columns of a row from first; those beyond are zeros */
static inline void load(const void *row, size_t first, size_t count, float value[COLUMNS])
{
	uint16_t bf16[COLUMNS];
	uint32_t bits[COLUMNS];
	unsigned i;

	if (count == COLUMNS) {
		memcpy(bf16, (const char *)row + first * 2, sizeof(bf16));
	} else {
		memset(bf16, 0, sizeof(bf16));
		memcpy(bf16, (const char *)row + first * 2, count * 2);
	}
	for (i = 0; i < COLUMNS; i++)
		bits[i] = (uint32_t)bf16[i] << 16;
	memcpy(value, bits, sizeof(bits));
}

static inline void round_bf16(const float value[COLUMNS], uint16_t bf16[COLUMNS])
{
	uint32_t bits[COLUMNS];
	unsigned i;

	memcpy(bits, value, sizeof(bits));
	for (i = 0; i < COLUMNS; i++) {
		uint32_t rounded = (bits[i] + 0x7fffu + ((bits[i] >> 16) & 1)) >> 16;

		bf16[i] = (uint16_t)((int32_t)(bits[i] & 0x7fffffffu) > 0x7f800000
					     ? ACCEL_NUM_BF16_NAN
					     : rounded);
	}
}

static void part_sum(const struct k_combine *c, uint32_t part, size_t first, size_t count,
		     float sum[COLUMNS])
{
	uint32_t term, begin, end;
	uint16_t rounded[COLUMNS];
	float value[COLUMNS];
	unsigned i;

	if (!c->term_offset) {
		load(c->row[part], first, count, sum);
		return;
	}
	begin = c->term_offset[part];
	end = c->term_offset[part + 1];
	memset(sum, 0, COLUMNS * sizeof(*sum));
	for (term = begin; term < end; term++) {
		float weight = c->weight[term];

		load(c->row[term], first, count, value);
		for (i = 0; i < COLUMNS; i++)
			value[i] *= weight;
		for (i = 0; i < COLUMNS; i++)
			sum[i] = term == begin ? value[i] : sum[i] + value[i];
	}
	round_bf16(sum, rounded);
	load(rounded, 0, COLUMNS, sum);
}

static void combine_token(const struct k_combine *c, uint32_t token)
{
	uint32_t part, begin = c->part_offset[token], end = c->part_offset[token + 1];
	char *out = k_at_mut(c->out, c->out_stride, token);
	float sum[COLUMNS], value[COLUMNS];
	uint16_t rounded[COLUMNS];
	size_t first, count;
	unsigned i;

	for (first = 0; first < c->hidden; first += COLUMNS) {
		count = c->hidden - first < COLUMNS ? c->hidden - first : COLUMNS;
		memset(sum, 0, sizeof(sum));
		for (part = begin; part < end; part++) {
			part_sum(c, part, first, count, value);
			for (i = 0; i < COLUMNS; i++)
				sum[i] = part == begin ? value[i] : sum[i] + value[i];
		}
		round_bf16(sum, rounded);
		memcpy(out + first * 2, rounded, count * 2);
	}
}

int k_portable_combine(const struct k_combine *combine, unsigned part, unsigned parts)
{
	return k_combine_run(combine, part, parts, combine_token);
}
