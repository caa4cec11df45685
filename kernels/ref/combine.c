// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * combine: the order of sums that uapi/accel_num.h defines. A part without terms is zeros, as is a token without
 * parts. Results are canonical: a NaN is 0x7fc0 even where one row is passed through.
 */
#define ACCEL_NUM_FLOAT
#include "kernels/ref/ref.h"
#include "uapi/accel_num.h"

#include <errno.h>

/* offset [count + 1] must not decrease */
static bool offsets_valid(const uint32_t *offset, uint32_t first, uint32_t end)
{
	for (; first < end; first++)
		if (offset[first] > offset[first + 1])
			return false;
	return true;
}

static bool combine_valid(const struct k_combine *c)
{
	uint32_t row, end;

	if (!c->hidden)
		return false;
	if (!c->tokens)
		return true;
	if (!c->out || !c->part_offset || !offsets_valid(c->part_offset, 0, c->tokens))
		return false;
	if (c->tokens > 1 && c->out_stride < c->hidden * sizeof(uint16_t))
		return false;
	row = c->part_offset[0];
	end = c->part_offset[c->tokens];
	if (row == end)
		return true;
	if (c->term_offset) {
		if (!offsets_valid(c->term_offset, row, end))
			return false;
		row = c->term_offset[row];
		end = c->term_offset[end];
	}
	if (row < end && (!c->row || (c->term_offset && !c->weight)))
		return false;
	for (; row < end; row++)
		if (!c->row[row])
			return false;
	return true;
}

int k_combine_run(const struct k_combine *combine, unsigned part, unsigned parts,
		  void (*combine_token)(const struct k_combine *combine, uint32_t token))
{
	struct accel_num_fp fp;
	uint32_t token, end;

	if (!combine || part >= parts || !combine_valid(combine))
		return -EINVAL;
	token = k_share(combine->tokens, part, parts);
	end = k_share(combine->tokens, part + 1, parts);
	fp = accel_num_fp_begin();
	for (; token < end; token++)
		combine_token(combine, token);
	accel_num_fp_end(fp);
	return 0;
}

static float load_bf16(const void *row, size_t column)
{
	return accel_num_float(accel_num_bf16_to_f32(k_load_u16(row, column)));
}

static float round_bf16(float value)
{
	return accel_num_float(accel_num_bf16_to_f32(accel_num_f32_to_bf16(accel_num_bits(value))));
}

static float part_sum(const struct k_combine *c, uint32_t part, size_t column)
{
	uint32_t term, end;
	float sum;

	if (!c->term_offset)
		return load_bf16(c->row[part], column);
	term = c->term_offset[part];
	end = c->term_offset[part + 1];
	if (term == end)
		return 0.0f;
	sum = c->weight[term] * load_bf16(c->row[term], column);
	while (++term < end)
		sum = accel_num_madd(sum, c->weight[term], load_bf16(c->row[term], column));
	return round_bf16(sum);
}

static void combine_token(const struct k_combine *c, uint32_t token)
{
	uint32_t part, begin = c->part_offset[token], end = c->part_offset[token + 1];
	void *out = k_at_mut(c->out, c->out_stride, token);
	size_t column;
	float sum;

	for (column = 0; column < c->hidden; column++) {
		sum = 0.0f;
		for (part = begin; part < end; part++)
			sum = part == begin ? part_sum(c, part, column)
					    : sum + part_sum(c, part, column);
		k_store_u16(out, column, accel_num_f32_to_bf16(accel_num_bits(sum)));
	}
}

int k_ref_combine(const struct k_combine *combine, unsigned part, unsigned parts)
{
	return k_combine_run(combine, part, parts, combine_token);
}
