// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * A table of pointers into mapped shards, or into the cache of synthetic experts. Copied are only tensors of f32 and
 * bf16 that a file puts at an address the CPU may not read them from; they are small.
 */
#include "weights.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "synthetic.h"

enum { PAGE_STEP_BYTES = 4096 };  /* preloading reads a byte of each */
enum { ALIGN_SLACK_BYTES = 512 }; /* more than what aligns the tensors of a synthetic expert */

struct block {
	struct block *next;
	_Alignas(64) uint8_t data[];
};

struct moe_weights {
	struct moe_config config;
	uint32_t layer_count, expert_first, expert_count;
	struct moe_layer *layer;   /* [layer_count] */
	struct moe_expert *expert; /* [layer_count, expert_count]; checkpoint only */
	struct moe_checkpoint *checkpoint;
	struct moe_synthetic *synthetic;
	uint64_t seed;
	struct block *blocks; /* tensors that are not mapped */
	uint64_t bytes;
};

struct progress {
	moe_progress_fn *fn;
	void *arg;
	uint64_t done, total;
};

static uint64_t blocks(uint64_t elements)
{
	return (elements + K_BLOCK - 1) / K_BLOCK;
}

static void layer_spec(const struct moe_config *config, uint32_t layer, enum moe_tensor_id tensor,
		       struct moe_tensor_spec *spec)
{
	static const char *const names[] = {
		[MOE_TENSOR_GATE] = "mlp.gate.weight",
		[MOE_TENSOR_BIAS] = "mlp.gate.e_score_correction_bias",
		[MOE_TENSOR_NORM] = "post_attention_layernorm.weight",
	};

	spec->dtype = tensor == MOE_TENSOR_BIAS ? MOE_DTYPE_F32 : MOE_DTYPE_BF16;
	spec->dims = tensor == MOE_TENSOR_GATE ? 2 : 1;
	spec->shape[0] = tensor == MOE_TENSOR_NORM ? config->hidden : config->experts;
	spec->shape[1] = tensor == MOE_TENSOR_GATE ? config->hidden : 1;
	snprintf(spec->name, sizeof(spec->name), "model.layers.%" PRIu32 ".%s", layer,
		 names[tensor]);
}

static void expert_spec(const struct moe_config *config, uint32_t layer, uint32_t expert,
			enum moe_tensor_id tensor, struct moe_tensor_spec *spec)
{
	static const char *const names[] = {"gate", "up", "down"};
	const bool scale = tensor >= MOE_TENSOR_GATE_PROJ_SCALE;
	const char *name = names[tensor % 3];
	uint64_t out, in;
	char owner[32];

	out = expert == MOE_EXPERT_SHARED ? moe_config_shared_width(config) : config->intermediate;
	in = config->hidden;
	if (tensor % 3 == MOE_TENSOR_DOWN_PROJ) {
		in = out;
		out = config->hidden;
	}
	spec->dtype = scale ? MOE_DTYPE_F32 : MOE_DTYPE_F8_E4M3;
	spec->dims = 2;
	spec->shape[0] = scale ? blocks(out) : out;
	spec->shape[1] = scale ? blocks(in) : in;
	if (expert == MOE_EXPERT_SHARED)
		snprintf(owner, sizeof(owner), "shared_experts");
	else
		snprintf(owner, sizeof(owner), "experts.%" PRIu32, expert);
	snprintf(spec->name, sizeof(spec->name), "model.layers.%" PRIu32 ".mlp.%s.%s_proj.weight%s",
		 layer, owner, name, scale ? "_scale_inv" : "");
}

void moe_tensor_spec(const struct moe_config *config, uint32_t layer, uint32_t expert,
		     enum moe_tensor_id tensor, struct moe_tensor_spec *spec)
{
	if (tensor >= MOE_TENSOR_GATE)
		layer_spec(config, layer, tensor, spec);
	else
		expert_spec(config, layer, expert, tensor, spec);
	spec->size_bytes = spec->shape[0] * spec->shape[1] * moe_dtype_bytes(spec->dtype);
}

static uint64_t expert_bytes(const struct moe_config *config, uint32_t expert)
{
	struct moe_tensor_spec spec;
	uint64_t bytes = 0;

	for (enum moe_tensor_id t = MOE_TENSOR_GATE_PROJ; t <= MOE_TENSOR_DOWN_PROJ_SCALE; t++) {
		moe_tensor_spec(config, 0, expert, t, &spec);
		bytes += spec.size_bytes;
	}
	return bytes;
}

uint64_t moe_expert_bytes(const struct moe_config *config)
{
	return expert_bytes(config, 0);
}

/* The shared expert and the gate; bias and norm are nothing beside them. */
static uint64_t layer_bytes(const struct moe_config *config)
{
	return expert_bytes(config, MOE_EXPERT_SHARED) +
	       UINT64_C(2) * config->experts * config->hidden;
}

static void shape_text(char *text, size_t size, const uint64_t *shape, unsigned dims)
{
	size_t used = 0;

	text[0] = 0;
	for (unsigned i = 0; i < dims && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%" PRIu64, i ? "," : "",
					 shape[i]);
}

static int check_tensor(const struct moe_tensor *t, const struct moe_tensor_spec *spec,
			struct moe_error *err)
{
	bool same = t->dims == spec->dims;
	char is[96], must[96];

	if (t->dtype != spec->dtype)
		return moe_error_set(err, -EINVAL, "tensor %s is %s, must be %s", t->name,
				     moe_dtype_name(t->dtype), moe_dtype_name(spec->dtype));
	for (unsigned i = 0; same && i < t->dims; i++)
		same = t->shape[i] == spec->shape[i];
	if (same)
		return 0;
	shape_text(is, sizeof(is), t->shape, t->dims);
	shape_text(must, sizeof(must), spec->shape, spec->dims);
	return moe_error_set(err, -EINVAL, "tensor %s has shape [%s], config.json makes it [%s]",
			     t->name, is, must);
}

/* One NaN among the small tensors would spoil every token without a word. Codes are not read here: they are large. */
static int check_finite(const struct moe_tensor_spec *spec, const uint8_t *data,
			struct moe_error *err)
{
	uint64_t count = spec->shape[0] * spec->shape[1];

	for (uint64_t i = 0; i < count; i++) {
		uint32_t bits = 0;
		float value;

		if (spec->dtype == MOE_DTYPE_F32)
			memcpy(&bits, data + 4 * i, 4);
		else if (spec->dtype == MOE_DTYPE_BF16)
			memcpy((uint8_t *)&bits + 2, data + 2 * i, 2);
		else
			return 0;
		memcpy(&value, &bits, 4);
		if (!isfinite(value))
			return moe_error_set(err, -EINVAL, "tensor %s: element %" PRIu64 " is %g",
					     spec->name, i, (double)value);
	}
	return 0;
}

static uint8_t *add_block(struct moe_weights *w, const struct moe_tensor_spec *spec,
			  struct moe_error *err)
{
	size_t size = (sizeof(struct block) + spec->size_bytes + 63) / 64 * 64;
	struct block *block = aligned_alloc(64, size);

	if (!block) {
		moe_error_set(err, -ENOMEM, "no memory for the %" PRIu64 " bytes of tensor %s",
			      spec->size_bytes, spec->name);
		return NULL;
	}
	block->next = w->blocks;
	w->blocks = block;
	return block->data;
}

static int load_synthetic(struct moe_weights *w, uint32_t layer, uint32_t expert,
			  enum moe_tensor_id tensor, const struct moe_tensor_spec *spec,
			  const void **data, struct moe_error *err)
{
	uint8_t *block = add_block(w, spec, err);

	if (!block)
		return -ENOMEM;
	moe_synthetic_fill(&w->config, w->seed, layer, expert, tensor, 0,
			   spec->shape[0] * spec->shape[1], block);
	*data = block;
	return 0;
}

/* One tensor, checked: where it is mapped, or made, or copied to where it can be read. */
static int load_tensor(struct moe_weights *w, uint32_t layer, uint32_t expert,
		       enum moe_tensor_id tensor, const void **data, struct moe_error *err)
{
	const struct moe_tensor *t;
	struct moe_tensor_spec spec;
	uint8_t *block;
	int rc;

	moe_tensor_spec(&w->config, layer, expert, tensor, &spec);
	w->bytes += spec.size_bytes;
	if (!w->checkpoint)
		return load_synthetic(w, layer, expert, tensor, &spec, data, err);
	rc = moe_checkpoint_find(w->checkpoint, spec.name, &t, err);
	if (!rc)
		rc = check_tensor(t, &spec, err);
	if (!rc)
		rc = check_finite(&spec, t->data, err);
	if (rc)
		return rc;
	*data = t->data;
	if ((uintptr_t)t->data % moe_dtype_bytes(t->dtype)) {
		block = add_block(w, &spec, err);
		if (!block)
			return -ENOMEM;
		memcpy(block, t->data, t->size_bytes);
		*data = block;
	}
	return 0;
}

static int load_matrix(struct moe_weights *w, uint32_t layer, uint32_t expert,
		       enum moe_tensor_id tensor, struct moe_matrix *matrix, struct moe_error *err)
{
	const void *codes = NULL, *scales = NULL;
	struct moe_tensor_spec spec;
	int rc;

	rc = load_tensor(w, layer, expert, tensor, &codes, err);
	if (!rc)
		rc = load_tensor(w, layer, expert, tensor + MOE_TENSOR_GATE_PROJ_SCALE, &scales,
				 err);
	if (rc)
		return rc;
	moe_tensor_spec(&w->config, layer, expert, tensor, &spec);
	*matrix = (struct moe_matrix){
		.in = (uint32_t)spec.shape[1],
		.out = (uint32_t)spec.shape[0],
		.codes = codes,
		.scales = scales,
	};
	return 0;
}

static int load_expert(struct moe_weights *w, uint32_t layer, uint32_t expert,
		       struct moe_expert *out, struct moe_error *err)
{
	int rc;

	rc = load_matrix(w, layer, expert, MOE_TENSOR_GATE_PROJ, &out->gate, err);
	if (!rc)
		rc = load_matrix(w, layer, expert, MOE_TENSOR_UP_PROJ, &out->up, err);
	if (!rc)
		rc = load_matrix(w, layer, expert, MOE_TENSOR_DOWN_PROJ, &out->down, err);
	return rc;
}

static int load_layer(struct moe_weights *w, struct moe_layer *layer, struct moe_error *err)
{
	const void *gate = NULL, *bias = NULL, *norm = NULL;
	struct moe_tensor_spec spec;
	int rc;

	rc = load_tensor(w, layer->number, MOE_EXPERT_NONE, MOE_TENSOR_GATE, &gate, err);
	if (!rc)
		rc = load_tensor(w, layer->number, MOE_EXPERT_NONE, MOE_TENSOR_BIAS, &bias, err);
	moe_tensor_spec(&w->config, layer->number, MOE_EXPERT_NONE, MOE_TENSOR_NORM, &spec);
	if (!rc && (!w->checkpoint || moe_checkpoint_has(w->checkpoint, spec.name)))
		rc = load_tensor(w, layer->number, MOE_EXPERT_NONE, MOE_TENSOR_NORM, &norm, err);
	if (!rc && w->config.shared_experts)
		rc = load_expert(w, layer->number, MOE_EXPERT_SHARED, &layer->shared, err);
	layer->gate = gate;
	layer->bias = bias;
	layer->norm = norm;
	return rc;
}

static void advance(struct progress *p, uint64_t bytes)
{
	p->done += bytes;
	if (p->fn)
		p->fn(p->arg, p->done, p->total);
}

/* Bring the pages in while the user sees progress, not within the first step. */
static void touch(const struct moe_matrix *m)
{
	const volatile uint8_t *codes = m->codes;

	for (size_t i = 0; i < (size_t)m->in * m->out; i += PAGE_STEP_BYTES)
		(void)codes[i];
}

static int load_experts(struct moe_weights *w, bool preload, struct progress *p,
			struct moe_error *err)
{
	for (uint32_t l = 0; l < w->layer_count; l++) {
		for (uint32_t e = 0; e < w->expert_count; e++) {
			struct moe_expert *out = &w->expert[(size_t)l * w->expert_count + e];
			int rc = load_expert(w, w->layer[l].number, w->expert_first + e, out, err);

			if (rc)
				return rc;
			if (preload) {
				touch(&out->gate);
				touch(&out->up);
				touch(&out->down);
			}
			advance(p, moe_expert_bytes(&w->config));
		}
	}
	return 0;
}

/* The first experts in the order of use, as many as fit; the rest is made on first use. */
static int make_experts(struct moe_weights *w, bool preload, struct progress *p,
			struct moe_error *err)
{
	uint64_t count = (uint64_t)w->layer_count * w->expert_count, made = 0;
	struct moe_synthetic_stats stats;
	struct moe_expert unused;

	moe_synthetic_stats(w->synthetic, &stats);
	for (; preload && made < count && made < stats.slots_max; made++) {
		uint32_t index = (uint32_t)(made / w->expert_count);
		uint32_t expert = w->expert_first + (uint32_t)(made % w->expert_count);
		int rc = moe_weights_get(w, index, expert, &unused, err);

		if (rc)
			return rc;
		moe_weights_put(w, index, expert);
		advance(p, moe_expert_bytes(&w->config));
	}
	w->bytes += count * moe_expert_bytes(&w->config);
	advance(p, (count - made) * moe_expert_bytes(&w->config));
	return 0;
}

static int load(struct moe_weights *w, const struct moe_weights_opts *opts, struct moe_error *err)
{
	struct progress p = {
		.fn = opts->progress,
		.arg = opts->progress_arg,
		.total = w->layer_count *
			 (layer_bytes(&w->config) + w->expert_count * moe_expert_bytes(&w->config)),
	};
	int rc;

	for (uint32_t l = 0; l < w->layer_count; l++) {
		w->layer[l].number = opts->layers[l];
		rc = load_layer(w, &w->layer[l], err);
		if (rc)
			return rc;
		advance(&p, layer_bytes(&w->config));
	}
	return w->checkpoint ? load_experts(w, opts->preload, &p, err)
			     : make_experts(w, opts->preload, &p, err);
}

static int check_opts(const struct moe_weights_opts *opts, const struct moe_config *config,
		      struct moe_error *err)
{
	if (!opts->layer_count)
		return moe_error_set(err, -EINVAL, "no layers asked for");
	for (uint32_t i = 0; i < opts->layer_count; i++) {
		if (!moe_config_is_moe(config, opts->layers[i]))
			return moe_error_set(
				err, -EINVAL,
				"layer %" PRIu32
				" has no experts: the model's MoE layers are %" PRIu32 "..%" PRIu32
				"%s",
				opts->layers[i], config->first_moe, config->layers - 1,
				config->moe_stride > 1 ? ", multiples of moe_layer_freq" : "");
		if (i && opts->layers[i] <= opts->layers[i - 1])
			return moe_error_set(err, -EINVAL,
					     "layers %" PRIu32 ", %" PRIu32 " are not ascending",
					     opts->layers[i - 1], opts->layers[i]);
	}
	if (opts->expert_count > config->experts ||
	    opts->expert_first > config->experts - opts->expert_count)
		return moe_error_set(err, -EINVAL,
				     "%" PRIu32 " experts from %" PRIu32
				     " on, but the model has %" PRIu32,
				     opts->expert_count, opts->expert_first, config->experts);
	return 0;
}

static int read_config(const struct moe_weights_opts *opts, struct moe_config *config,
		       struct moe_error *err)
{
	char path[PATH_MAX];

	if (!opts->dir) {
		if (!opts->config)
			return moe_error_set(err, -EINVAL,
					     "synthetic weights need a model configuration");
		*config = *opts->config;
		return moe_config_check(config, err);
	}
	if (snprintf(path, sizeof(path), "%s/config.json", opts->dir) >= (int)sizeof(path))
		return moe_error_set(err, -ENAMETOOLONG, "%.128s...: the path is too long",
				     opts->dir);
	return moe_config_read(path, config, err);
}

/* What every layer has stays in memory; the cache of experts gets what the bound leaves. */
static int open_synthetic(struct moe_weights *w, const struct moe_weights_opts *opts,
			  struct moe_error *err)
{
	uint64_t bound = opts->cache_bytes ? opts->cache_bytes : moe_synthetic_cache_bytes(1);
	uint64_t fixed = opts->layer_count * layer_bytes(&w->config);
	uint64_t room = bound - fixed;
	uint64_t enough = opts->experts_resident *
			  (moe_expert_bytes(&w->config) + ALIGN_SLACK_BYTES);

	if (bound <= fixed)
		return moe_error_set(
			err, -ENOMEM,
			"gates and shared experts of %" PRIu32 " layers take %" PRIu64
			" bytes, but only %" PRIu64
			" are allowed for synthetic weights: free memory or run fewer layers",
			opts->layer_count, fixed, bound);
	w->seed = opts->seed;
	return moe_synthetic_create(&w->config, opts->seed, enough && enough < room ? enough : room,
				    opts->team, &w->synthetic, err);
}

int moe_weights_open(const struct moe_weights_opts *opts, struct moe_weights **weights,
		     struct moe_error *err)
{
	struct moe_weights *w = calloc(1, sizeof(*w));
	int rc;

	if (!w)
		return moe_error_set(err, -ENOMEM, "no memory for a model");
	rc = read_config(opts, &w->config, err);
	if (!rc)
		rc = check_opts(opts, &w->config, err);
	if (!rc)
		rc = opts->dir ? moe_checkpoint_open(opts->dir, &w->checkpoint, err)
			       : open_synthetic(w, opts, err);
	if (rc)
		goto err_close;
	w->layer_count = opts->layer_count;
	w->expert_first = opts->expert_first;
	w->expert_count = opts->expert_count;
	w->layer = calloc(w->layer_count, sizeof(*w->layer));
	w->expert = calloc((size_t)w->layer_count * w->expert_count + 1, sizeof(*w->expert));
	if (!w->layer || !w->expert) {
		rc = moe_error_set(err, -ENOMEM, "no memory for a model");
		goto err_close;
	}
	rc = load(w, opts, err);
	if (rc)
		goto err_close;
	*weights = w;
	return 0;

err_close:
	moe_weights_close(w);
	return rc;
}

void moe_weights_close(struct moe_weights *weights)
{
	if (!weights)
		return;
	while (weights->blocks) {
		struct block *next = weights->blocks->next;

		free(weights->blocks);
		weights->blocks = next;
	}
	moe_synthetic_destroy(weights->synthetic);
	moe_checkpoint_close(weights->checkpoint);
	free(weights->expert);
	free(weights->layer);
	free(weights);
}

const struct moe_config *moe_weights_config(const struct moe_weights *weights)
{
	return &weights->config;
}

const struct moe_layer *moe_weights_layer(const struct moe_weights *weights, uint32_t index)
{
	return &weights->layer[index];
}

uint64_t moe_weights_bytes(const struct moe_weights *weights)
{
	return weights->bytes;
}

int moe_weights_get(struct moe_weights *weights, uint32_t index, uint32_t expert,
		    struct moe_expert *out, struct moe_error *err)
{
	uint32_t local = expert - weights->expert_first;

	if (index >= weights->layer_count || local >= weights->expert_count)
		return moe_error_set(err, -EINVAL,
				     "expert %" PRIu32 " of layer index %" PRIu32
				     " is not this rank's",
				     expert, index);
	if (weights->synthetic)
		return moe_synthetic_get(weights->synthetic, weights->layer[index].number, expert,
					 out, err);
	*out = weights->expert[(size_t)index * weights->expert_count + local];
	return 0;
}

void moe_weights_put(struct moe_weights *weights, uint32_t index, uint32_t expert)
{
	if (weights->synthetic)
		moe_synthetic_put(weights->synthetic, weights->layer[index].number, expert);
}
