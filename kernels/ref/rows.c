// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* rows: gather, scatter and zero whole rows. */
#include "kernels/ref/ref.h"

#include <errno.h>

bool k_rows_valid(const struct k_rows *rows)
{
	if (!rows || !rows->row_bytes)
		return false;
	if (rows->rows && ((!rows->src_rows && !rows->src) || (!rows->dst_rows && !rows->dst)))
		return false;
	if (rows->rows && rows->tail_bytes && !rows->src_tails)
		return false;
	return rows->rows < 2 || rows->dst_rows ||
	       rows->dst_stride >= rows->row_bytes + rows->tail_bytes;
}

int k_ref_rows(const struct k_rows *rows, unsigned part, unsigned parts)
{
	const void *src;
	uint32_t row, end;
	void *dst;

	if (!k_rows_valid(rows) || part >= parts)
		return -EINVAL;
	end = k_share(rows->rows, part + 1, parts);
	for (row = k_share(rows->rows, part, parts); row < end; row++) {
		src = k_rows_src(rows, row);
		dst = k_rows_dst(rows, row);
		if (!dst || src == dst)
			continue;
		if (!src) {
			memset(dst, 0, rows->row_bytes + rows->tail_bytes);
			continue;
		}
		memcpy(dst, src, rows->row_bytes);
		if (rows->tail_bytes)
			memcpy((char *)dst + rows->row_bytes, rows->src_tails[row],
			       rows->tail_bytes);
	}
	return 0;
}
