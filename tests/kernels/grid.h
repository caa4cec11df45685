/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * What the tests of the numbers share: inputs that are ordinary, wide or awkward, every floating-point environment a
 * caller may have, and a comparison that says where two buffers part.
 */
#ifndef ACCEL_TESTS_KERNELS_GRID_H
#define ACCEL_TESTS_KERNELS_GRID_H

#include "tap.h"

#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

enum fill {
	FILL_NORMAL,  /* about -8..8 */
	FILL_WIDE,    /* every exponent, subnormals and zeros among them */
	FILL_SPECIAL, /* infinities and NaN too */
	FILLS,
};

static inline uint32_t fill_f32(uint64_t *rng, enum fill fill)
{
	static const uint32_t special[] = {0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000,
					   0x7f810000, 0xffffffff, 0x80000000, 0x00000001,
					   0x00010000, 0x7f7f0000, 0x7f7fffff, 0x38d1b717};
	uint32_t bits = (uint32_t)tap_random(rng);

	if (fill == FILL_NORMAL)
		return (bits & 0x807fffffu) | (uint32_t)(120 + tap_random_below(rng, 10)) << 23;
	if (fill == FILL_SPECIAL && !tap_random_below(rng, 60))
		return special[tap_random_below(rng, COUNT(special))];
	if (!tap_random_below(rng, 20))
		return bits & 0x80000000u; /* zeros */
	return (bits & 0x807fffffu) | (uint32_t)tap_random_below(rng, 255) << 23;
}

/* An allocation of exactly size bytes (so that ASan sees a step beyond it), filled with a pattern. */
static inline void *pattern(size_t size_bytes)
{
	void *buffer = malloc(size_bytes ? size_bytes : 1);

	if (!buffer)
		abort();
	return memset(buffer, 0xa5, size_bytes);
}

static inline void *fill_rows_bf16(uint64_t *rng, enum fill fill, size_t count)
{
	uint16_t *rows = pattern(count * sizeof(*rows));
	size_t i;

	for (i = 0; i < count; i++)
		rows[i] = (uint16_t)(fill_f32(rng, fill) >> 16);
	return rows;
}

static inline void *fill_rows_f32(uint64_t *rng, enum fill fill, size_t count)
{
	uint32_t *rows = pattern(count * sizeof(*rows));
	size_t i;

	for (i = 0; i < count; i++)
		rows[i] = fill_f32(rng, fill);
	return rows;
}

static inline bool check_same(const char *what, const void *got, const void *want,
			      size_t size_bytes)
{
	const uint8_t *a = got, *b = want;
	size_t i = 0;

	if (!memcmp(got, want, size_bytes))
		return true;
	while (a[i] == b[i])
		i++;
	return tap_check(false, what, 0, "byte %zu of %zu is 0x%02x, not 0x%02x", i, size_bytes,
			 a[i], b[i]);
}

/* Calls run(arg) in each environment: four ways of rounding, and where there are such things, subnormals flushed. */
static inline void in_every_environment(void (*run)(void *arg), void *arg)
{
	static const int rounding[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
	unsigned i, flush;

	for (i = 0; i < COUNT(rounding); i++) {
#ifdef __SSE__
		for (flush = 0; flush < 4; flush++) {
			unsigned saved = _mm_getcsr(), set;

			fesetround(rounding[i]);
			_mm_setcsr((_mm_getcsr() & ~0x3fu) | (flush & 1 ? 0x8000 : 0) |
				   (flush & 2 ? 0x40 : 0));
			set = _mm_getcsr();
			run(arg);
			CHECK_EQ(_mm_getcsr(), set); /* as the caller had it, flags included */
			fesetround(FE_TONEAREST);
			_mm_setcsr(saved);
		}
#else
		(void)flush;
		fesetround(rounding[i]);
		run(arg);
		CHECK_EQ(fegetround(), rounding[i]);
		fesetround(FE_TONEAREST);
#endif
	}
}

#endif
