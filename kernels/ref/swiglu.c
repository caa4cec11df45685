// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * swiglu: y = silu(gate) * up, silu in double and rounded once to f32, the product rounded to f32 and, for bf16, once
 * more. Bound on another back end: K_SWIGLU_ULP units in the last place of this f32 result, plus 2^-140 * |up| for
 * the silu that are subnormal; for bf16 one unit of bf16 besides. A NaN is 0x7fc00000 everywhere; silu of minus
 * infinity is one.
 */
#define ACCEL_NUM_FLOAT
#include "kernels/ref/ref.h"
#include "uapi/accel_num.h"

#include <errno.h>

static bool swiglu_valid(const struct k_swiglu *s)
{
	size_t y_bytes = s->y_dtype == K_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);

	if (!s->width || (s->y_dtype != K_DTYPE_F32 && s->y_dtype != K_DTYPE_BF16))
		return false;
	if (s->rows && (!s->gate || !s->up || !s->y))
		return false;
	return s->rows < 2 || s->y_stride >= s->width * y_bytes;
}

int k_swiglu_run(const struct k_swiglu *swiglu, unsigned part, unsigned parts,
		 void (*swiglu_row)(const struct k_swiglu *swiglu, uint32_t row))
{
	struct accel_num_fp fp;
	uint32_t row, end;

	if (!swiglu || part >= parts || !swiglu_valid(swiglu))
		return -EINVAL;
	row = k_share(swiglu->rows, part, parts);
	end = k_share(swiglu->rows, part + 1, parts);
	fp = accel_num_fp_begin();
	for (; row < end; row++)
		swiglu_row(swiglu, row);
	accel_num_fp_end(fp);
	return 0;
}

static void swiglu_row(const struct k_swiglu *swiglu, uint32_t row)
{
	const void *gates = k_at(swiglu->gate, swiglu->gate_stride, row);
	const void *ups = k_at(swiglu->up, swiglu->up_stride, row);
	void *y = k_at_mut(swiglu->y, swiglu->y_stride, row);
	uint32_t column, value;
	float gate, silu;

	for (column = 0; column < swiglu->width; column++) {
		gate = k_load_f32(gates, column);
		silu = (float)((double)gate * k_sigmoid(gate));
		value = accel_num_bits(silu * k_load_f32(ups, column));
		if (swiglu->y_dtype == K_DTYPE_F32)
			k_store_u32(y, column, value);
		else
			k_store_u16(y, column, accel_num_f32_to_bf16(value));
	}
}

int k_ref_swiglu(const struct k_swiglu *swiglu, unsigned part, unsigned parts)
{
	return k_swiglu_run(swiglu, part, parts, swiglu_row);
}
