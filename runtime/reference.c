// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Expert by expert over the tokens that chose it, then token by token over the ranks that would
 * have computed a part.
 */
#include "reference.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int moe_reference_init(struct moe_reference *ref, const char *kernels,
		       const struct moe_config *config, const struct moe_placement *placement,
		       struct moe_weights *weights, struct moe_team *team, bool fp8,
		       struct moe_error *err)
{
	uint32_t shared = moe_config_shared_width(config);
	uint32_t width = shared > config->intermediate ? shared : config->intermediate;

	*ref = (struct moe_reference){
		.config = config, .placement = placement, .weights = weights, .fp8 = fp8};
	return moe_ffn_init(&ref->ffn, k_ops_get(kernels), team, config->hidden, width, fp8, err);
}

void moe_reference_fini(struct moe_reference *ref)
{
	moe_ffn_fini(&ref->ffn);
}

/* The lists of one layer. */
struct work {
	uint32_t tokens, entries;
	int32_t *slots;		 /* [T,K] where the placement has each choice */
	uint32_t *expert_offset; /* [E+1] */
	uint32_t *token;	 /* [entries] by expert, then token, then k */
	uint32_t *entry_of;	 /* [T,K] place of a choice in those lists */
	uint16_t *y;		 /* [entries,H] */
	uint8_t *codes;		 /* [T,H] FP8 */
	float *scales;		 /* [T,B] */
	const void **row;
	const float **scale;
	uint32_t *part_offset, *term_offset;
	const void **term;
	float *weight;
	float *shared; /* [T,H] */
};

static void work_fini(struct work *w)
{
	free(w->slots);
	free(w->expert_offset);
	free(w->token);
	free(w->entry_of);
	free(w->y);
	free(w->codes);
	free(w->scales);
	free(w->row);
	free(w->scale);
	free(w->part_offset);
	free(w->term_offset);
	free(w->term);
	free(w->weight);
	free(w->shared);
}

static int work_init(struct work *w, const struct moe_config *c, uint32_t tokens,
		     struct moe_error *err)
{
	size_t choices = (size_t)tokens * c->topk, blocks = (c->hidden + K_BLOCK - 1) / K_BLOCK;

	*w = (struct work){.tokens = tokens};
	w->slots = calloc(choices + 1, sizeof(*w->slots));
	w->expert_offset = calloc(c->experts + 1, sizeof(*w->expert_offset));
	w->token = calloc(choices + 1, sizeof(*w->token));
	w->entry_of = calloc(choices + 1, sizeof(*w->entry_of));
	w->y = malloc((choices + 1) * c->hidden * sizeof(*w->y));
	w->codes = malloc((size_t)(tokens + 1) * c->hidden);
	w->scales = malloc((tokens + 1) * blocks * sizeof(*w->scales));
	w->row = calloc(choices + 1, sizeof(*w->row));
	w->scale = calloc(choices + 1, sizeof(*w->scale));
	w->part_offset = calloc(tokens + 1, sizeof(*w->part_offset));
	w->term_offset = calloc(choices + 1, sizeof(*w->term_offset));
	w->term = calloc(choices + 1, sizeof(*w->term));
	w->weight = calloc(choices + 1, sizeof(*w->weight));
	w->shared = malloc((size_t)(tokens + 1) * c->hidden * sizeof(*w->shared));
	if (w->slots && w->expert_offset && w->token && w->entry_of && w->y && w->codes &&
	    w->scales && w->row && w->scale && w->part_offset && w->term_offset && w->term &&
	    w->weight && w->shared)
		return 0;
	work_fini(w);
	return moe_error_set(err, -ENOMEM, "no memory to check %u tokens in one process", tokens);
}

static void list(struct work *w, const struct moe_config *c, const int32_t *ids)
{
	size_t choices = (size_t)w->tokens * c->topk;
	uint32_t *at = w->expert_offset;

	for (size_t i = 0; i < choices; i++)
		if (ids[i] >= 0)
			at[ids[i] + 1]++;
	for (uint32_t e = 0; e < c->experts; e++)
		at[e + 1] += at[e];
	for (size_t i = 0; i < choices; i++) {
		if (ids[i] < 0)
			continue;
		w->entry_of[i] = at[ids[i]]++;
		w->token[w->entry_of[i]] = (uint32_t)(i / c->topk);
	}
	memmove(at + 1, at, c->experts * sizeof(*at));
	at[0] = 0;
	w->entries = at[c->experts];
}

static void quantise(struct moe_reference *ref, struct work *w, const uint16_t *x)
{
	size_t hidden = ref->config->hidden, blocks = (hidden + K_BLOCK - 1) / K_BLOCK;
	struct k_quant quant = {
		.rows = w->tokens,
		.hidden = (uint32_t)hidden,
		.rule = K_QUANT_DIV,
		.x_dtype = K_DTYPE_BF16,
		.x = x,
		.x_stride = hidden * sizeof(*x),
		.codes = w->codes,
		.codes_stride = hidden,
		.scales = w->scales,
		.scales_stride = blocks * sizeof(float),
	};

	if (w->tokens)
		ref->ffn.ops->quant_fp8(&quant, 0, 1);
}

static int run_experts(struct moe_reference *ref, uint32_t index, struct work *w, const uint16_t *x,
		       struct moe_error *err)
{
	size_t hidden = ref->config->hidden, blocks = (hidden + K_BLOCK - 1) / K_BLOCK;

	for (uint32_t e = 0; e < ref->config->experts; e++) {
		uint32_t first = w->expert_offset[e], rows = w->expert_offset[e + 1] - first;
		struct moe_expert expert;
		int rc;

		if (!rows)
			continue;
		rc = moe_weights_get(ref->weights, index, e, &expert, err);
		if (rc)
			return rc;
		for (uint32_t i = 0; i < rows; i++) {
			size_t t = w->token[first + i];

			w->row[i] = ref->fp8 ? (const void *)(w->codes + t * hidden)
					     : x + t * hidden;
			w->scale[i] = w->scales + t * blocks;
		}
		moe_ffn_run(&ref->ffn, &expert, rows, w->row, w->scale,
			    ref->fp8 ? K_DTYPE_FP8 : K_DTYPE_BF16, K_DTYPE_BF16,
			    w->y + first * hidden);
		moe_weights_put(ref->weights, index, e);
		if (ref->progress)
			ref->progress(ref->progress_arg, w->expert_offset[e + 1], w->entries);
	}
	return 0;
}

/* Parts in rank order, entries of a part in order of k. */
static void sum(struct moe_reference *ref, struct work *w, const float *topk_weights, uint16_t *out)
{
	uint32_t topk = ref->config->topk, parts = 0, terms = 0;
	size_t hidden = ref->config->hidden;
	struct k_combine combine = {
		.tokens = w->tokens,
		.hidden = (uint32_t)hidden,
		.part_offset = w->part_offset,
		.term_offset = w->term_offset,
		.row = w->term,
		.weight = w->weight,
		.out = out,
		.out_stride = hidden * sizeof(*out),
	};

	for (uint32_t t = 0; t < w->tokens; t++) {
		w->part_offset[t] = parts;
		for (uint32_t r = 0; r < ref->placement->ranks; r++) {
			uint32_t begin = terms;

			for (size_t i = (size_t)t * topk; i < (size_t)(t + 1) * topk; i++) {
				if (w->slots[i] < 0 || ref->placement->rank[w->slots[i]] != r)
					continue;
				w->weight[terms] = topk_weights[i];
				w->term[terms++] = w->y + w->entry_of[i] * hidden;
			}
			if (terms > begin)
				w->term_offset[parts++] = begin;
		}
	}
	w->part_offset[w->tokens] = parts;
	w->term_offset[parts] = terms;
	if (w->tokens)
		ref->ffn.ops->combine(&combine, 0, 1);
}

int moe_reference_layer(struct moe_reference *ref, uint32_t index, uint32_t token, uint32_t tokens,
			const uint16_t *x, const int32_t *ids, const float *topk_weights,
			uint16_t *moe_out, struct moe_error *err)
{
	const struct moe_layer *layer = moe_weights_layer(ref->weights, index);
	struct work w;
	int rc = work_init(&w, ref->config, tokens, err);

	if (rc)
		return rc;
	list(&w, ref->config, ids);
	moe_placement_map(ref->placement, index, token, tokens, ref->config->topk, ids, w.slots);
	if (ref->fp8)
		quantise(ref, &w, x);
	rc = run_experts(ref, index, &w, x, err);
	if (!rc) {
		sum(ref, &w, topk_weights, moe_out);
		if (ref->config->shared_experts) {
			moe_ffn_run_dense(&ref->ffn, &layer->shared, tokens, x, w.shared);
			moe_layer_add(tokens, ref->config->hidden, w.shared, moe_out);
		}
	}
	work_fini(&w);
	return rc;
}
