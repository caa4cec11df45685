// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* rows: gather, scatter, zeros and gaps, each row checked where it should be and nothing else touched. */
#include "grid.h"
#include "kernels/kernels.h"

#include <errno.h>

enum {
	ROWS = 6,
};

static const size_t sizes_bytes[] = {1, 2, 15, 16, 63, 64, 65, 127, 128, 200, 4096, 7392, 14336};

/*
 * Row i of dst is row from[i] of src, or zeros if from[i] is below 0; a row to[i] below 0 is not
 * written. The end of a row of src may come from elsewhere, as its tail.
 */
static void check_through(const struct k_ops *ops, bool past_cache, size_t bytes, size_t tail_bytes,
			  const int *from, const int *to, unsigned parts)
{
	size_t src_stride = bytes + 1, dst_stride = bytes + 3, row_bytes = bytes - tail_bytes,
	       size_bytes = ROWS * dst_stride;
	const void *src_rows[ROWS], *src_tails[ROWS];
	void *dst_rows[ROWS];
	uint64_t rng = tap_seed();
	uint8_t *src = pattern(ROWS * src_stride), *dst = pattern(size_bytes),
		*want = pattern(size_bytes);
	struct k_rows rows = {.rows = ROWS,
			      .past_cache = past_cache,
			      .row_bytes = row_bytes,
			      .src = src,
			      .src_stride = src_stride,
			      .dst = dst,
			      .dst_stride = dst_stride,
			      .tail_bytes = tail_bytes,
			      .src_tails = src_tails};
	size_t i;

	for (i = 0; i < ROWS * src_stride; i++)
		src[i] = (uint8_t)tap_random(&rng);
	for (i = 0; i < ROWS; i++) {
		int source = from ? from[i] : (int)i, target = to ? to[i] : (int)i;

		src_rows[i] = source < 0 ? NULL : src + (size_t)source * src_stride;
		src_tails[i] = source < 0 ? NULL : (const char *)src_rows[i] + row_bytes;
		dst_rows[i] = target < 0 ? NULL : dst + (size_t)target * dst_stride;
		if (target >= 0 && source >= 0)
			memcpy(want + (size_t)target * dst_stride, src_rows[i], bytes);
		else if (target >= 0)
			memset(want + (size_t)target * dst_stride, 0, bytes);
	}
	if (from)
		rows.src_rows = src_rows;
	if (to)
		rows.dst_rows = dst_rows;
	for (i = 0; i < parts; i++)
		CHECK_EQ(ops->rows(&rows, (unsigned)i, parts), 0);
	check_same(ops->name, dst, want, size_bytes);
	free(src);
	free(dst);
	free(want);
}

static void check(const struct k_ops *ops, size_t bytes, const int *from, const int *to,
		  unsigned parts)
{
	static const size_t tails_bytes[] = {0, 4, 32, 224};

	for (size_t i = 0; i < COUNT(tails_bytes) && tails_bytes[i] < bytes; i++) {
		check_through(ops, false, bytes, tails_bytes[i], from, to, parts);
		check_through(ops, true, bytes, tails_bytes[i], from, to, parts);
	}
}

TEST(rows, land_where_the_lists_say_and_nowhere_else)
{
	static const int from[ROWS] = {3, -1, 3, 0, 5, 1}, to[ROWS] = {5, 1, -1, 0, 2, 4};
	const struct k_ops *ops;
	unsigned i, parts;

	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
		for (i = 0; i < COUNT(sizes_bytes); i++) {
			for (parts = 1; parts <= 8; parts++) {
				check(ops, sizes_bytes[i], NULL, NULL, parts);
				check(ops, sizes_bytes[i], from, NULL, parts);
				check(ops, sizes_bytes[i], NULL, to, parts);
				check(ops, sizes_bytes[i], from, to, parts);
			}
		}
	}
}

TEST(rows, repeat_one_row_by_a_source_stride_of_zero)
{
	uint8_t src[4] = {1, 2, 3, 4}, dst[12] = {0};
	const struct k_rows rows = {
		.rows = 3, .row_bytes = 4, .src = src, .dst = dst, .dst_stride = 4};

	CHECK_EQ(k_ops_get(NULL)->rows(&rows, 0, 1), 0);
	check_same("third row", dst + 8, src, 4);
}

TEST(rows, rejects_bad_arguments_and_writes_nothing)
{
	uint8_t src[8] = {1, 2, 3, 4, 5, 6, 7, 8}, dst[8] = {0};
	const struct k_rows good = {.rows = 2,
				    .row_bytes = 4,
				    .src = src,
				    .src_stride = 4,
				    .dst = dst,
				    .dst_stride = 4};
	const struct k_ops *ops;
	struct k_rows bad;

	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
#define BAD(field, value)                                                                          \
	bad = good;                                                                                \
	bad.field = value;                                                                         \
	CHECK_EQ(ops->rows(&bad, 0, 1), -EINVAL)
		BAD(row_bytes, 0);
		BAD(src, NULL);
		BAD(dst, NULL);
		BAD(dst_stride, 3);
		BAD(tail_bytes, 1);
#undef BAD
		CHECK_EQ(ops->rows(&good, 0, 0), -EINVAL);
		CHECK_EQ(ops->rows(&good, 3, 3), -EINVAL);
		CHECK_EQ(ops->rows(NULL, 0, 1), -EINVAL);
		CHECK_EQ(dst[0], 0);
		bad = (struct k_rows){.row_bytes = 1};
		CHECK_EQ(ops->rows(&bad, 0, 1), 0);
	}
}
