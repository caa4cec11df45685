/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The numbers: bf16, E4M3, 1x128 scales and the order in which rows are combined. Every processor that touches a row
 * (CPU, GPU, software device, card) agrees with this file bit for bit.
 *
 * bf16     The high half of a binary32. Rounded to nearest, ties to even; overflow gives infinity; every NaN becomes
 *          0x7fc0, because the sign and payload of a computed NaN differ between processors.
 * E4M3     sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinity; 0x7f and 0xff are NaN. Nearest, ties to
 *          even; anything beyond +-448, infinities included, saturates to +-448; NaN stays NaN; the sign always
 *          stays, so -0 is 0x80 and a NaN is 0x7f or 0xff.
 * block    128 elements of a row (the last block may be short) under one f32 scale, with amax = max(|x|, 1e-4):
 *              DIV    scale = amax / 448,                 code = E4M3(x / scale)
 *              MUL    scale = amax / 448,                 code = E4M3(x * (448 / amax))
 *              UE8M0  scale = 2^ceil(log2(amax / 448)),   code = E4M3(x / scale)
 *          all in binary32. A NaN spreads: its block has scale NaN (0x7fc00000) and codes NaN. An infinity makes its
 *          block's scale infinite, its own code NaN and the finite ones' +-0. A code has the sign of its element.
 * back     code * scale, rounded to f32, and once more when bf16 is wanted; a NaN is 0x7fc00000.
 * combine  part = bf16(sum over its terms of weight * row, in slot order), out = bf16(sum of parts, in rank order):
 *          binary32, each product rounded before it is added (never fused), every sum starting from its first term.
 *
 * The first half is integer arithmetic only, for places where floats are forbidden. The second half, behind
 * ACCEL_NUM_FLOAT, computes; its results are those above only between accel_num_fp_begin() and accel_num_fp_end().
 * Freestanding: no libc. Define ACCEL_NUM_FN before including to give the functions another linkage.
 */
#ifndef ACCEL_NUM_H
#define ACCEL_NUM_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdint.h>
#endif

#ifndef ACCEL_NUM_FN
#define ACCEL_NUM_FN static inline
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum accel_num_rule {
	ACCEL_NUM_RULE_DIV = 0,
	ACCEL_NUM_RULE_MUL = 1,
	ACCEL_NUM_RULE_UE8M0 = 2,
};

#define ACCEL_NUM_BLOCK 128 /* elements under one scale */
#define ACCEL_NUM_BF16_NAN 0x7fc0u
#define ACCEL_NUM_F32_NAN 0x7fc00000u
#define ACCEL_NUM_F32_INF 0x7f800000u
#define ACCEL_NUM_E4M3_NAN 0x7fu       /* with either sign */
#define ACCEL_NUM_E4M3_448 0x7eu       /* the largest magnitude */
#define ACCEL_NUM_AMAX_MIN 0x38d1b717u /* 1e-4f */

ACCEL_NUM_FN uint32_t accel_num_bf16_to_f32(uint16_t bf16)
{
	return (uint32_t)bf16 << 16;
}

ACCEL_NUM_FN uint16_t accel_num_f32_to_bf16(uint32_t f32)
{
	if ((f32 & 0x7fffffffu) > ACCEL_NUM_F32_INF)
		return ACCEL_NUM_BF16_NAN;
	return (uint16_t)((f32 + 0x7fffu + ((f32 >> 16) & 1)) >> 16);
}

ACCEL_NUM_FN uint8_t accel_num_f32_to_e4m3(uint32_t f32)
{
	uint32_t sign = f32 >> 24 & 0x80, magnitude = f32 & 0x7fffffffu, mantissa, shift;

	if (magnitude > ACCEL_NUM_F32_INF)
		return (uint8_t)(sign | ACCEL_NUM_E4M3_NAN);
	if (magnitude >= 0x43e00000u) /* 448 */
		return (uint8_t)(sign | ACCEL_NUM_E4M3_448);
	if (magnitude <= 0x3a800000u) /* 2^-10, half of the least code: a tie, to zero */
		return (uint8_t)sign;
	if (magnitude >=
	    0x3c800000u) /* 2^-6, the least normal: round off 20 bits, change the bias by 120 */
		return (uint8_t)(sign | (((magnitude + 0x7ffffu + (magnitude >> 20 & 1)) >> 20) -
					 (120 << 3)));
	mantissa = (magnitude & 0x7fffffu) | 0x800000u;
	shift = 141 - (magnitude >> 23); /* 21..24: units of 2^-9 */
	return (uint8_t)(sign |
			 (mantissa + (1u << (shift - 1)) - 1 + (mantissa >> shift & 1)) >> shift);
}

ACCEL_NUM_FN uint32_t accel_num_e4m3_to_f32(uint8_t code)
{
	uint32_t sign = (uint32_t)(code & 0x80) << 24, exponent = code >> 3 & 15,
		 mantissa = code & 7, top;

	if ((code & 0x7f) == ACCEL_NUM_E4M3_NAN)
		return sign | ACCEL_NUM_F32_NAN;
	if (exponent)
		return sign | (exponent + 120) << 23 | mantissa << 20;
	if (!mantissa)
		return sign;
	top = mantissa >= 4 ? 2 : mantissa >= 2; /* subnormal: mantissa * 2^-9 */
	return sign | (118 + top) << 23 | (mantissa << (23 - top) & 0x7fffffu);
}

/* The amax of a block, elements given as f32 bits: start from ACCEL_NUM_AMAX_MIN. As integers, NaN exceeds all. */
ACCEL_NUM_FN uint32_t accel_num_amax(uint32_t amax, uint32_t f32)
{
	uint32_t magnitude = f32 & 0x7fffffffu;

	return magnitude > amax ? magnitude : amax;
}

/* 2^ceil(log2(amax / 448)) as f32 bits: 448 is 1.75 * 2^8, so only a mantissa above 1.75 needs one power more. */
ACCEL_NUM_FN uint32_t accel_num_scale_ue8m0(uint32_t amax)
{
	if (amax > ACCEL_NUM_F32_INF)
		return ACCEL_NUM_F32_NAN;
	if (amax == ACCEL_NUM_F32_INF)
		return ACCEL_NUM_F32_INF;
	return ((amax >> 23) - 8 + ((amax & 0x7fffffu) > 0x600000u)) << 23;
}

#ifdef ACCEL_NUM_FLOAT

#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__)
#error "accel_num.h: build without -ffast-math and its parts: they change the numbers"
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16
#error "accel_num.h: float must be evaluated as binary32: on i386 build with -msse2 -mfpmath=sse"
#endif

/*
 * The floating-point environment. begin() saves the caller's and sets: nearest-even, no flushing of subnormals, no
 * traps; end() puts the caller's back, flags included. Compilers move arithmetic, but not memory accesses, across
 * these two: operands must be loaded after begin() and results stored before end(). Once a call, not once an element.
 */
struct accel_num_fp {
	uint64_t saved;
};

#if defined(__x86_64__) || defined(__SSE__)
ACCEL_NUM_FN struct accel_num_fp accel_num_fp_begin(void)
{
	const uint32_t plain = 0x1f80; /* MXCSR at reset: traps masked, RC, FTZ and DAZ zero */
	struct accel_num_fp fp;
	uint32_t mxcsr;

	__asm__ volatile("stmxcsr %0" : "=m"(mxcsr) : : "memory");
	__asm__ volatile("ldmxcsr %0" : : "m"(plain) : "memory");
	fp.saved = mxcsr;
	return fp;
}

ACCEL_NUM_FN void accel_num_fp_end(struct accel_num_fp fp)
{
	const uint32_t mxcsr = (uint32_t)fp.saved;

	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr) : "memory");
}
#elif defined(__aarch64__)
ACCEL_NUM_FN struct accel_num_fp accel_num_fp_begin(void)
{
	const uint64_t plain = 0;
	struct accel_num_fp fp;

	__asm__ volatile("mrs %0, fpcr" : "=r"(fp.saved) : : "memory");
	__asm__ volatile("msr fpcr, %0" : : "r"(plain) : "memory");
	return fp;
}

ACCEL_NUM_FN void accel_num_fp_end(struct accel_num_fp fp)
{
	__asm__ volatile("msr fpcr, %0" : : "r"(fp.saved) : "memory");
}
#elif defined(__riscv) && defined(__riscv_flen)
ACCEL_NUM_FN struct accel_num_fp accel_num_fp_begin(void)
{
	struct accel_num_fp fp;
	unsigned long fcsr;

	__asm__ volatile("fscsr %0, zero" : "=r"(fcsr) : : "memory");
	fp.saved = fcsr;
	return fp;
}

ACCEL_NUM_FN void accel_num_fp_end(struct accel_num_fp fp)
{
	__asm__ volatile("fscsr %0" : : "r"((unsigned long)fp.saved) : "memory");
}
#elif defined(__riscv) /* floats are done in software: nearest-even, and there is no environment */
ACCEL_NUM_FN struct accel_num_fp accel_num_fp_begin(void)
{
	struct accel_num_fp fp = {0};

	return fp;
}

ACCEL_NUM_FN void accel_num_fp_end(struct accel_num_fp fp)
{
	(void)fp;
}
#else
#error "accel_num.h: say here how this processor's floating-point control register is saved, set and restored"
#endif

ACCEL_NUM_FN float accel_num_float(uint32_t f32)
{
	float value;

	__builtin_memcpy(&value, &f32, sizeof(value));
	return value;
}

/* The bits of a computed value, in which every NaN is ACCEL_NUM_F32_NAN. */
ACCEL_NUM_FN uint32_t accel_num_bits(float value)
{
	uint32_t f32;

	__builtin_memcpy(&f32, &value, sizeof(f32));
	return (f32 & 0x7fffffffu) > ACCEL_NUM_F32_INF ? ACCEL_NUM_F32_NAN : f32;
}

/*
 * sum + weight * row, the product rounded first. Some compilers fuse the two whatever a pragma says (gcc by default,
 * clang with -ffp-contract=fast), hence the empty asm where the processor can fuse.
 */
ACCEL_NUM_FN float accel_num_madd(float sum, float weight, float row)
{
	float product = weight * row;
#if defined(__FP_FAST_FMAF) || defined(__FMA__) || defined(__ARM_FEATURE_FMA) ||                   \
	defined(__riscv_flen)
	uint32_t f32;

	__builtin_memcpy(&f32, &product, sizeof(f32));
	__asm__("" : "+r"(f32));
	__builtin_memcpy(&product, &f32, sizeof(product));
#endif
	return sum + product;
}

/* A block's scale from its amax, both as f32 bits. */
ACCEL_NUM_FN uint32_t accel_num_scale(enum accel_num_rule rule, uint32_t amax)
{
	if (rule == ACCEL_NUM_RULE_UE8M0)
		return accel_num_scale_ue8m0(amax);
	return accel_num_bits(accel_num_float(amax) / 448.0f);
}

/* An element's code from its block's amax and scale, all as f32 bits. The magnitude is computed, the sign copied. */
ACCEL_NUM_FN uint8_t accel_num_quant(enum accel_num_rule rule, uint32_t amax, uint32_t scale,
				     uint32_t f32)
{
	float magnitude = accel_num_float(f32 & 0x7fffffffu), scaled;

	if (rule == ACCEL_NUM_RULE_MUL)
		scaled = magnitude * (448.0f / accel_num_float(amax));
	else
		scaled = magnitude / accel_num_float(scale);
	return (uint8_t)(accel_num_f32_to_e4m3(accel_num_bits(scaled)) | (f32 >> 24 & 0x80));
}

/* code * scale as f32 bits */
ACCEL_NUM_FN uint32_t accel_num_dequant(uint8_t code, float scale)
{
	return accel_num_bits(accel_num_float(accel_num_e4m3_to_f32(code)) * scale);
}

#endif /* ACCEL_NUM_FLOAT */

#ifdef __cplusplus
}
#endif
#endif
