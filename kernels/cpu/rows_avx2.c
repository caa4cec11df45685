// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * rows with AVX2: a cache line at a time, source and target fetched FETCH_BYTES ahead, since rows lie anywhere and the
 * hardware looks no further than a page's end. Rows that will not fit in the cache are written past it, which saves
 * reading what they overwrite; half a line so written is joined with the other half if that comes next. Rows narrower
 * than a line are the reference's.
 */
#include "kernels/cpu/avx2.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref.h"

#include <errno.h>

enum {
	LINE_BYTES = 64,
	HALF_BYTES = LINE_BYTES / 2,
	FETCH_BYTES = 1024,
};

AVX2_INLINE void fetch(const void *at)
{
	_mm_prefetch((const char *)at + FETCH_BYTES, _MM_HINT_T0);
}

AVX2_INLINE void copy_line(uint8_t *dst, const uint8_t *src)
{
	__m256i low = avx2_load(src), high = avx2_load(src + 32);

	avx2_store(dst, low);
	avx2_store(dst + 32, high);
}

AVX2_INLINE void stream_half(uint8_t *dst, const uint8_t *src)
{
	_mm256_stream_si256((__m256i *)dst, avx2_load(src));
}

static void copy_row(uint8_t *dst, const uint8_t *src, size_t bytes)
{
	for (size_t i = 0; i + LINE_BYTES <= bytes; i += LINE_BYTES) {
		fetch(src + i);
		fetch(dst + i);
		copy_line(dst + i, src + i);
	}
	copy_line(dst + bytes - LINE_BYTES, src + bytes - LINE_BYTES);
}

/* Of a line at least. The halves of lines that it fills only in part go through the cache. */
static void stream_row(uint8_t *dst, const uint8_t *src, size_t bytes)
{
	size_t i = -(uintptr_t)dst % HALF_BYTES;

	if (i)
		memcpy(dst, src, i);
	for (; i + LINE_BYTES <= bytes; i += LINE_BYTES) {
		fetch(src + i);
		stream_half(dst + i, src + i);
		stream_half(dst + i + HALF_BYTES, src + i + HALF_BYTES);
	}
	if (i + HALF_BYTES <= bytes) {
		stream_half(dst + i, src + i);
		i += HALF_BYTES;
	}
	if (i < bytes)
		memcpy(dst + i, src + i, bytes - i);
}

/* Tails lie where the hardware does not expect them, and are short: each is fetched before its row. */
static void fetch_tail(const struct k_rows *rows, uint32_t row)
{
	for (size_t i = 0; i < rows->tail_bytes; i += LINE_BYTES)
		_mm_prefetch((const char *)rows->src_tails[row] + i, _MM_HINT_T0);
}

static void copy_tail(const struct k_rows *rows, uint32_t row, uint8_t *dst)
{
	const uint8_t *src = rows->src_tails[row];

	if (rows->past_cache && rows->tail_bytes >= LINE_BYTES)
		stream_row(dst, src, rows->tail_bytes);
	else
		memcpy(dst, src, rows->tail_bytes);
}

int k_avx2_rows(const struct k_rows *rows, unsigned part, unsigned parts)
{
	uint32_t end;

	if (!k_rows_valid(rows) || part >= parts)
		return -EINVAL;
	if (rows->row_bytes < LINE_BYTES)
		return k_ref_rows(rows, part, parts);
	end = k_share(rows->rows, part + 1, parts);
	for (uint32_t row = k_share(rows->rows, part, parts); row < end; row++) {
		const uint8_t *src = k_rows_src(rows, row);
		uint8_t *dst = k_rows_dst(rows, row);

		if (!dst || src == dst)
			continue;
		if (!src) {
			memset(dst, 0, rows->row_bytes + rows->tail_bytes);
			continue;
		}
		fetch_tail(rows, row);
		if (rows->past_cache)
			stream_row(dst, src, rows->row_bytes);
		else
			copy_row(dst, src, rows->row_bytes);
		if (rows->tail_bytes)
			copy_tail(rows, row, dst + rows->row_bytes);
	}
	if (rows->past_cache)
		_mm_sfence(); /* before whatever tells of the rows */
	return 0;
}
