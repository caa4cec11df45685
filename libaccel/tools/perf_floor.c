// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The floors; see perf_floor.h. A token has one part at each rank that owns one of its experts;
 * parts are numbered by token, and a part's slot counts the parts before it at the same rank.
 */
#define _GNU_SOURCE
#include "perf_floor.h"

#include "perf_rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif

#define HUGE_BYTES ((size_t)2 << 20)

struct perf_floor {
	const struct perf_case *c;
	const struct k_ops *ops;
	uint32_t parts, terms;
	int *owner;		 /* [E] */
	uint32_t *count, *stamp; /* [R] */
	uint32_t *part_offset;	 /* [T+1] */
	uint32_t *part_token, *part_slot;
	int *part_rank;
	uint32_t *term_offset; /* F_ce */
	const void **row;
	float *weight;
	uint16_t *x;	/* [T,H] bf16 */
	uint8_t *rows;	/* [T] rows as they travel: x, or codes */
	float *scales;	/* [T,B] */
	uint8_t *sent;	/* [R,T] rows as they travel, each followed by its scales */
	uint32_t *meta; /* [R,T] token, ids [K], weights [K] */
	uint16_t *y;	/* [parts or terms,H] bf16 */
};

void *perf_private_map(size_t bytes, bool huge)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (huge ? MAP_HUGETLB | MAP_HUGE_2MB : 0);
	size_t pages = huge ? HUGE_BYTES : 4096;
	void *map;

	bytes = (bytes + pages) & ~(pages - 1);
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (map == MAP_FAILED)
		return NULL;
	if (!huge)
		madvise(map, bytes, MADV_NOHUGEPAGE);
	memset(map, 0, bytes);
	return map;
}

static size_t parts_max(const struct perf_case *c)
{
	return (size_t)c->tokens * (c->topk < (uint32_t)c->world ? c->topk : (uint32_t)c->world);
}

static size_t results_max(const struct perf_case *c)
{
	return c->by_expert ? (size_t)c->tokens * c->topk : parts_max(c);
}

static size_t sent_bytes(const struct perf_case *c)
{
	return perf_row_bytes(c) + perf_scale_bytes(c);
}

static size_t meta_words(const struct perf_case *c)
{
	return 1 + 2 * (size_t)c->topk;
}

uint64_t perf_floor_bytes(const struct perf_case *c)
{
	uint64_t slots = (uint64_t)c->world * c->tokens,
		 input = c->tokens * (perf_wide_bytes(c) + sent_bytes(c));

	return input + slots * (sent_bytes(c) + 4 * meta_words(c)) +
	       results_max(c) * (perf_wide_bytes(c) + 32);
}

static int lists_create(struct perf_floor *f)
{
	const struct perf_case *c = f->c;
	size_t parts = parts_max(c), results = results_max(c), world = (size_t)c->world;

	f->owner = calloc(c->experts, sizeof(*f->owner));
	f->count = calloc(world, sizeof(*f->count));
	f->stamp = calloc(world, sizeof(*f->stamp));
	f->part_offset = calloc(c->tokens + 1, sizeof(*f->part_offset));
	f->part_token = calloc(parts, sizeof(*f->part_token));
	f->part_slot = calloc(parts, sizeof(*f->part_slot));
	f->part_rank = calloc(parts, sizeof(*f->part_rank));
	f->term_offset = calloc(parts + 1, sizeof(*f->term_offset));
	f->row = calloc(results, sizeof(*f->row));
	f->weight = calloc(results, sizeof(*f->weight));
	return f->owner && f->count && f->stamp && f->part_offset && f->part_token &&
			       f->part_slot && f->part_rank && f->term_offset && f->row && f->weight
		       ? 0
		       : -ENOMEM;
}

static int rows_create(struct perf_floor *f)
{
	const struct perf_case *c = f->c;
	size_t slots = (size_t)c->world * c->tokens;

	f->x = perf_private_map(c->tokens * perf_wide_bytes(c), c->huge);
	f->rows = (uint8_t *)f->x;
	f->scales = NULL;
	if (c->rows != PERF_ROWS_BF16) {
		f->rows = perf_private_map(c->tokens * perf_row_bytes(c), c->huge);
		f->scales = perf_private_map(c->tokens * perf_scale_bytes(c), c->huge);
		if (!f->scales)
			return -ENOMEM;
	}
	f->sent = perf_private_map(slots * sent_bytes(c), c->huge);
	f->meta = perf_private_map(slots * meta_words(c) * sizeof(*f->meta), c->huge);
	f->y = perf_private_map(results_max(c) * perf_wide_bytes(c), c->huge);
	return f->x && f->rows && f->sent && f->meta && f->y ? 0 : -ENOMEM;
}

int perf_floor_create(const struct perf_case *c, const struct k_ops *ops, int rank,
		      struct perf_floor **floor)
{
	struct perf_floor *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->c = c;
	f->ops = ops;
	if (lists_create(f) || rows_create(f))
		return -ENOMEM;
	for (uint32_t e = 0; e < c->experts; e++)
		f->owner[e] = perf_owner(c, (int32_t)e);
	for (uint32_t t = 0; t < c->tokens; t++)
		perf_row_make(c, rank, t, PERF_TAG_INPUT, f->x + (size_t)t * c->hidden);
	if (c->rows != PERF_ROWS_BF16)
		perf_floor_quant(f);
	*floor = f;
	return 0;
}

void perf_floor_rewrite(struct perf_floor *f, enum perf_op op)
{
	const struct perf_case *c = f->c;

	if (op == PERF_QUANT)
		perf_rewrite(f->x, c->tokens * perf_wide_bytes(c));
	else if (op == PERF_COMBINE)
		perf_rewrite(f->y,
			     (size_t)(c->by_expert ? f->terms : f->parts) * perf_wide_bytes(c));
	else
		perf_rewrite(f->rows, c->tokens * perf_row_bytes(c));
	if (f->scales && op != PERF_QUANT)
		perf_rewrite(f->scales, c->tokens * perf_scale_bytes(c));
}

/* Which ranks each token goes to, and the slot of its row there. */
static void lay_out(struct perf_floor *f, const int32_t *ids)
{
	const struct perf_case *c = f->c;
	uint32_t parts = 0;

	memset(f->count, 0, (size_t)c->world * sizeof(*f->count));
	memset(f->stamp, 0, (size_t)c->world * sizeof(*f->stamp));
	for (uint32_t t = 0; t < c->tokens; t++) {
		f->part_offset[t] = parts;
		for (uint32_t k = 0; k < c->topk; k++) {
			int owner = f->owner[ids[(size_t)t * c->topk + k]];

			if (f->stamp[owner] == t + 1)
				continue;
			f->stamp[owner] = t + 1;
			f->part_rank[parts] = owner;
			f->part_slot[parts] = f->count[owner]++;
			f->part_token[parts++] = t;
		}
	}
	f->part_offset[c->tokens] = f->parts = parts;
}

static uint8_t *sent_at(const struct perf_floor *f, uint32_t part)
{
	return f->sent +
	       ((size_t)f->part_rank[part] * f->c->tokens + f->part_slot[part]) * sent_bytes(f->c);
}

void perf_floor_dispatch(struct perf_floor *f, const int32_t *ids, const float *weights)
{
	const struct perf_case *c = f->c;
	size_t row_bytes = perf_row_bytes(c), scale_bytes = perf_scale_bytes(c),
	       choices = c->topk * sizeof(*ids);

	lay_out(f, ids);
	for (uint32_t p = 0; p < f->parts; p++) {
		uint32_t t = f->part_token[p], *meta = f->meta;
		uint8_t *row = sent_at(f, p);

		meta += ((size_t)f->part_rank[p] * c->tokens + f->part_slot[p]) * meta_words(c);
		meta[0] = t;
		memcpy(meta + 1, ids + (size_t)t * c->topk, choices);
		memcpy(meta + 1 + c->topk, weights + (size_t)t * c->topk, choices);
		memcpy(row, f->rows + t * row_bytes, row_bytes);
		if (scale_bytes)
			memcpy(row + row_bytes, (uint8_t *)f->scales + t * scale_bytes,
			       scale_bytes);
	}
}

bool perf_floor_is_dispatched(const struct perf_floor *f)
{
	const struct perf_case *c = f->c;
	size_t row_bytes = perf_row_bytes(c), scale_bytes = perf_scale_bytes(c);

	for (uint32_t p = 0; p < f->parts; p++) {
		uint32_t t = f->part_token[p];

		if (memcmp(sent_at(f, p), f->rows + t * row_bytes, row_bytes) ||
		    (scale_bytes && memcmp(sent_at(f, p) + row_bytes,
					   (uint8_t *)f->scales + t * scale_bytes, scale_bytes)))
			return false;
	}
	return f->parts >= c->tokens;
}

/* One row for each part, in order of parts: what combine sums in a RANK context. */
static void list_parts(struct perf_floor *f)
{
	for (uint32_t p = 0; p < f->parts; p++)
		f->row[p] = f->y + (size_t)p * f->c->hidden;
}

/* One row for each choice; a part's terms are its choices in order. */
static void list_terms(struct perf_floor *f, const int32_t *ids, const float *weights)
{
	const struct perf_case *c = f->c;

	f->terms = 0;
	for (uint32_t p = 0; p < f->parts; p++) {
		f->term_offset[p] = f->terms;
		for (uint32_t k = 0; k < c->topk; k++) {
			size_t choice = (size_t)f->part_token[p] * c->topk + k;

			if (f->owner[ids[choice]] != f->part_rank[p])
				continue;
			f->weight[f->terms] = weights[choice];
			f->row[f->terms] = f->y + (size_t)f->terms * c->hidden;
			f->terms++;
		}
	}
	f->term_offset[f->parts] = f->terms;
}

void perf_floor_lists(struct perf_floor *f, const int32_t *ids, const float *weights)
{
	lay_out(f, ids);
	if (f->c->by_expert)
		list_terms(f, ids, weights);
	else
		list_parts(f);
}

void perf_floor_combine(struct perf_floor *f, void *out)
{
	const struct k_combine combine = {
		.tokens = f->c->tokens,
		.hidden = f->c->hidden,
		.part_offset = f->part_offset,
		.term_offset = f->c->by_expert ? f->term_offset : NULL,
		.row = f->row,
		.weight = f->c->by_expert ? f->weight : NULL,
		.out = out,
		.out_stride = perf_wide_bytes(f->c),
	};

	f->ops->combine(&combine, 0, 1);
}

void perf_floor_echo(struct perf_floor *f, const int32_t *ids, void *out)
{
	const struct perf_case *c = f->c;

	lay_out(f, ids);
	list_parts(f);
	for (uint32_t p = 0; p < f->parts; p++) {
		uint32_t t = f->part_token[p];

		perf_identity(c, f->ops, f->rows + t * perf_row_bytes(c),
			      f->scales ? f->scales + t * perf_blocks(c) : NULL,
			      f->y + (size_t)p * c->hidden);
	}
	perf_floor_combine(f, out);
}

void perf_floor_quant(struct perf_floor *f)
{
	const struct perf_case *c = f->c;
	const struct k_quant quant = {
		.rows = c->tokens,
		.hidden = c->hidden,
		.rule = K_QUANT_DIV,
		.x_dtype = K_DTYPE_BF16,
		.x = f->x,
		.x_stride = perf_wide_bytes(c),
		.codes = f->rows,
		.codes_stride = perf_row_bytes(c),
		.scales = f->scales,
		.scales_stride = perf_scale_bytes(c),
	};

	f->ops->quant_fp8(&quant, 0, 1);
}
