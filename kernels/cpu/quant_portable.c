// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * quant_fp8 in plain C that compilers turn into vectors. E4M3 without branches: adding 2^20 times an element's power
 * of two (2^-6 at least) leaves the rounded mantissa in the low bits of the sum and that power in its exponent.
 * Short and non-finite blocks go to the reference.
 */
#define ACCEL_NUM_FLOAT
#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref.h"
#include "uapi/accel_num.h"

static void load_block(const struct k_quant *quant, const void *x, uint32_t block,
		       uint32_t f32[K_BLOCK])
{
	uint16_t bf16[K_BLOCK];
	unsigned i;

	if (quant->x_dtype == K_DTYPE_F32) {
		memcpy(f32, (const char *)x + (size_t)block * K_BLOCK * 4, K_BLOCK * 4);
		return;
	}
	memcpy(bf16, (const char *)x + (size_t)block * K_BLOCK * 2, sizeof(bf16));
	for (i = 0; i < K_BLOCK; i++)
		f32[i] = (uint32_t)bf16[i] << 16;
}

static void encode(const float magnitude[K_BLOCK], const uint32_t f32[K_BLOCK], uint8_t *codes)
{
	uint8_t code[K_BLOCK];
	uint32_t bits[K_BLOCK];
	float power[K_BLOCK];
	unsigned i;

	memcpy(bits, magnitude, sizeof(bits));
	for (i = 0; i < K_BLOCK; i++) {
		int32_t power_bits = (int32_t)(bits[i] & 0x7f800000u);

		bits[i] = (uint32_t)(power_bits > 0x3c800000 ? power_bits : 0x3c800000) +
			  (20u << 23);
	}
	memcpy(power, bits, sizeof(power));
	for (i = 0; i < K_BLOCK; i++)
		power[i] += magnitude[i];
	memcpy(bits, power, sizeof(bits));
	for (i = 0; i < K_BLOCK; i++)
		code[i] = (uint8_t)((bits[i] + (bits[i] >> 20) - ((147 - 6) << 3)) |
				    (f32[i] >> 24 & 0x80));
	memcpy(codes, code, sizeof(code));
}

static void quant_block(const struct k_quant *quant, uint32_t row, uint32_t block)
{
	uint8_t *codes = k_at_mut(quant->codes, quant->codes_stride, row);
	uint32_t f32[K_BLOCK], bits[K_BLOCK], amax = ACCEL_NUM_AMAX_MIN, scale;
	float magnitude[K_BLOCK], factor;
	unsigned i;

	load_block(quant, k_at(quant->x, quant->x_stride, row), block, f32);
	for (i = 0; i < K_BLOCK; i++)
		bits[i] = f32[i] & 0x7fffffffu;
	for (i = 0; i < K_BLOCK; i++)
		amax = (int32_t)bits[i] > (int32_t)amax ? bits[i] : amax;
	if (amax >= ACCEL_NUM_F32_INF) {
		k_ref_quant_block(quant, row, block);
		return;
	}
	scale = accel_num_scale((enum accel_num_rule)quant->rule, amax);
	memcpy(magnitude, bits, sizeof(magnitude));
	if (quant->rule == K_QUANT_MUL) {
		factor = 448.0f / accel_num_float(amax);
		for (i = 0; i < K_BLOCK; i++)
			magnitude[i] *= factor;
	} else {
		factor = accel_num_float(scale);
		for (i = 0; i < K_BLOCK; i++)
			magnitude[i] /= factor;
	}
	encode(magnitude, f32, codes + (size_t)block * K_BLOCK);
	k_store_u32(k_at_mut(quant->scales, quant->scales_stride, row), block, scale);
}

static void quant_row(const struct k_quant *quant, uint32_t row)
{
	uint32_t block, whole = quant->hidden / K_BLOCK;

	for (block = 0; block < whole; block++)
		quant_block(quant, row, block);
	if (quant->hidden % K_BLOCK)
		k_ref_quant_block(quant, row, whole);
}

int k_portable_quant_fp8(const struct k_quant *quant, unsigned part, unsigned parts)
{
	return k_quant_run(quant, part, parts, quant_row);
}
