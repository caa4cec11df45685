// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* IN and OUT files (tensor_io.h): what a user's file says is checked whole before anything is taken from it. */
#include "tensor_io.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "uapi/accel_num.h"

enum { OUTPUTS = MOE_OUTPUT_SLOT_EXPERTS + 1 };

/* What IN must be, and where from, for sentences. */
struct wanted {
	const char *path;
	uint32_t layers, ranks, tokens;
	const struct moe_config *config;
};

static int want_type(const struct wanted *w, const struct moe_tensor *t, enum moe_dtype a,
		     enum moe_dtype b, struct moe_error *err)
{
	if (t->dtype == a || t->dtype == b)
		return 0;
	return moe_error_set(err, -EINVAL, "%s: %s is %s, must be %s or %s", w->path, t->name,
			     moe_dtype_name(t->dtype), moe_dtype_name(a), moe_dtype_name(b));
}

static int want_shape(const struct wanted *w, const struct moe_tensor *t, unsigned dims,
		      const uint64_t *shape, struct moe_error *err)
{
	if (t->dims != dims)
		return moe_error_set(err, -EINVAL, "%s: %s has %u dimensions, must have %u",
				     w->path, t->name, t->dims, dims);
	for (unsigned i = 0; i < dims; i++)
		if (t->shape[i] != shape[i])
			return moe_error_set(err, -EINVAL,
					     "%s: %s: shape[%u] is %" PRIu64 ", must be %" PRIu64,
					     w->path, t->name, i, t->shape[i], shape[i]);
	return 0;
}

static int want_memory(const struct wanted *w, const void *p, struct moe_error *err)
{
	return p ? 0 : moe_error_set(err, -ENOMEM, "%s: no memory to read it", w->path);
}

static int read_hidden(struct wanted *w, const struct moe_safetensors *file, struct moe_input *in,
		       struct moe_error *err)
{
	const struct moe_tensor *t = moe_safetensors_find(file, "hidden_states");
	uint64_t shape[2] = {0, w->config->hidden}, count;
	int rc;

	if (!t)
		return moe_error_set(err, -ENOENT, "%s: tensor hidden_states is missing", w->path);
	if (t->dims)
		shape[0] = t->shape[0];
	rc = want_type(w, t, MOE_DTYPE_BF16, MOE_DTYPE_F32, err);
	if (!rc)
		rc = want_shape(w, t, 2, shape, err);
	if (!rc && shape[0] > INT32_MAX)
		rc = moe_error_set(err, -EINVAL, "%s: %" PRIu64 " tokens are above %d", w->path,
				   shape[0], INT32_MAX);
	if (rc)
		return rc;
	w->tokens = in->tokens = (uint32_t)shape[0];
	count = shape[0] * shape[1];
	in->hidden = calloc(count + 1, sizeof(*in->hidden));
	rc = want_memory(w, in->hidden, err);
	if (rc)
		return rc;
	if (t->dtype == MOE_DTYPE_BF16) {
		memcpy(in->hidden, t->data, t->size_bytes);
		return 0;
	}
	for (uint64_t i = 0; i < count; i++) {
		uint32_t bits;

		memcpy(&bits, (const uint8_t *)t->data + 4 * i, 4);
		in->hidden[i] = accel_num_f32_to_bf16(bits);
	}
	return 0;
}

static int read_offsets(const struct wanted *w, const struct moe_safetensors *file,
			struct moe_input *in, struct moe_error *err)
{
	const struct moe_tensor *t = moe_safetensors_find(file, "rank_offsets");
	const uint64_t shape[] = {(uint64_t)w->ranks + 1};
	int rc;

	in->rank_offsets = calloc(w->ranks + UINT64_C(1), sizeof(*in->rank_offsets));
	rc = want_memory(w, in->rank_offsets, err);
	if (rc)
		return rc;
	if (!t) {
		for (uint32_t r = 0; r < w->ranks; r++)
			in->rank_offsets[r + 1] = in->rank_offsets[r] + w->tokens / w->ranks +
						  (r < w->tokens % w->ranks);
		return 0;
	}
	rc = want_type(w, t, MOE_DTYPE_I64, MOE_DTYPE_I64, err);
	if (!rc)
		rc = want_shape(w, t, 1, shape, err);
	if (rc)
		return rc;
	memcpy(in->rank_offsets, t->data, t->size_bytes);
	for (uint32_t r = 0; r <= w->ranks; r++) {
		int64_t least = r ? in->rank_offsets[r - 1] : 0, at = in->rank_offsets[r];

		if (at < least || at > w->tokens || (!r && at) ||
		    (r == w->ranks && at != w->tokens))
			return moe_error_set(err, -EINVAL,
					     "%s: rank_offsets[%" PRIu32 "] is %" PRId64
					     "; they must ascend from 0 to the %" PRIu32 " tokens",
					     w->path, r, at, w->tokens);
	}
	return 0;
}

static int read_ids(const struct wanted *w, const struct moe_tensor *t, struct moe_input *in,
		    struct moe_error *err)
{
	uint64_t count = (uint64_t)w->layers * w->tokens * w->config->topk;

	in->topk_ids = calloc(count + 1, sizeof(*in->topk_ids));
	if (!in->topk_ids)
		return want_memory(w, NULL, err);
	for (uint64_t i = 0; i < count; i++) {
		int64_t id;
		int32_t narrow;

		if (t->dtype == MOE_DTYPE_I64) {
			memcpy(&id, (const uint8_t *)t->data + 8 * i, 8);
		} else {
			memcpy(&narrow, (const uint8_t *)t->data + 4 * i, 4);
			id = narrow;
		}
		if (id < -1 || id >= (int64_t)w->config->experts)
			return moe_error_set(err, -EINVAL,
					     "%s: topk_ids: element %" PRIu64 " is %" PRId64
					     ", not in -1..%" PRIu32,
					     w->path, i, id, w->config->experts - 1);
		in->topk_ids[i] = (int32_t)id;
	}
	return 0;
}

static int read_routing(const struct wanted *w, const struct moe_safetensors *file,
			struct moe_input *in, struct moe_error *err)
{
	const struct moe_tensor *ids = moe_safetensors_find(file, "topk_ids");
	const struct moe_tensor *weights = moe_safetensors_find(file, "topk_weights");
	const uint64_t shape[] = {w->layers, w->tokens, w->config->topk};
	int rc;

	if (!ids && !weights)
		return 0;
	if (!ids || !weights)
		return moe_error_set(err, -EINVAL, "%s: %s is there without %s: give both or none",
				     w->path, ids ? "topk_ids" : "topk_weights",
				     ids ? "topk_weights" : "topk_ids");
	rc = want_type(w, ids, MOE_DTYPE_I32, MOE_DTYPE_I64, err);
	if (!rc)
		rc = want_shape(w, ids, 3, shape, err);
	if (!rc)
		rc = want_type(w, weights, MOE_DTYPE_F32, MOE_DTYPE_F32, err);
	if (!rc)
		rc = want_shape(w, weights, 3, shape, err);
	if (!rc)
		rc = read_ids(w, ids, in, err);
	if (rc)
		return rc;
	in->topk_weights = calloc(weights->size_bytes + 1, 1);
	if (!in->topk_weights)
		return want_memory(w, NULL, err);
	memcpy(in->topk_weights, weights->data, weights->size_bytes);
	return 0;
}

int moe_input_read(const char *path, const struct moe_config *config, uint32_t layers,
		   uint32_t ranks, struct moe_input *input, struct moe_error *err)
{
	struct wanted w = {.path = path, .layers = layers, .ranks = ranks, .config = config};
	struct moe_safetensors *file;
	struct moe_input in = {0};
	int rc;

	if (!layers || !ranks)
		return moe_error_set(err, -EINVAL,
				     "%s: for %" PRIu32 " layers and %" PRIu32 " ranks", path,
				     layers, ranks);
	rc = moe_safetensors_open(path, &file, err);
	if (rc)
		return rc;
	rc = read_hidden(&w, file, &in, err);
	if (!rc)
		rc = read_offsets(&w, file, &in, err);
	if (!rc)
		rc = read_routing(&w, file, &in, err);
	moe_safetensors_close(file);
	if (rc)
		moe_input_fini(&in);
	else
		*input = in;
	return rc;
}

void moe_input_fini(struct moe_input *input)
{
	if (!input)
		return;
	free(input->topk_weights);
	free(input->topk_ids);
	free(input->rank_offsets);
	free(input->hidden);
}

struct moe_output {
	struct moe_safetensors_writer *writer;
	struct {
		size_t number; /* in the file */
		bool present;
		uint32_t layers, rows;
		uint64_t row_bytes;
	} tensor[OUTPUTS];
};

int moe_output_create(const char *path, const struct moe_config *config, uint32_t tokens,
		      uint32_t layers, uint32_t ranks, uint32_t slots, bool scores,
		      const struct moe_metadata *metadata, size_t metadata_count,
		      struct moe_output **output, struct moe_error *err)
{
	const uint64_t n = tokens, l = layers;
	/* The widest elements first, so that all are aligned. */
	const struct {
		enum moe_output_id id;
		struct moe_tensor t;
	} all[] = {
		{MOE_OUTPUT_RECV_TOKENS,
		 {"recv_tokens", MOE_DTYPE_I64, 3, {l, ranks, slots}, NULL, 0}},
		{MOE_OUTPUT_SLOT_EXPERTS,
		 {"slot_experts", MOE_DTYPE_I64, 3, {l, ranks, slots}, NULL, 0}},
		{MOE_OUTPUT_TOPK_WEIGHTS,
		 {"topk_weights", MOE_DTYPE_F32, 3, {l, n, config->topk}, NULL, 0}},
		{MOE_OUTPUT_TOPK_IDS,
		 {"topk_ids", MOE_DTYPE_I32, 3, {l, n, config->topk}, NULL, 0}},
		{MOE_OUTPUT_SCORES, {"scores", MOE_DTYPE_F32, 3, {l, n, config->experts}, NULL, 0}},
		{MOE_OUTPUT_HIDDEN_STATES,
		 {"hidden_states", MOE_DTYPE_BF16, 2, {n, config->hidden}, NULL, 0}},
		{MOE_OUTPUT_MOE_OUT,
		 {"moe_out", MOE_DTYPE_BF16, 3, {l, n, config->hidden}, NULL, 0}},
		{MOE_OUTPUT_INCOMPLETE, {"incomplete", MOE_DTYPE_U8, 1, {n}, NULL, 0}},
	};
	struct moe_tensor tensors[OUTPUTS];
	struct moe_output *o = calloc(1, sizeof(*o));
	size_t count = 0;
	int rc;

	if (!o)
		return moe_error_set(err, -ENOMEM, "%s: no memory to write it", path);
	for (size_t i = 0; i < OUTPUTS; i++) {
		const struct moe_tensor *t = &all[i].t;
		uint64_t row_bytes = moe_dtype_bytes(t->dtype);

		if (all[i].id == MOE_OUTPUT_SCORES && !scores)
			continue;
		if (t->dims > 1)
			row_bytes *= t->shape[t->dims - 1];
		o->tensor[all[i].id].number = count;
		o->tensor[all[i].id].present = true;
		o->tensor[all[i].id].layers = t->dims == 3 ? layers : 1;
		o->tensor[all[i].id].rows = all[i].id == MOE_OUTPUT_RECV_TOKENS ||
							    all[i].id == MOE_OUTPUT_SLOT_EXPERTS
						    ? ranks
						    : tokens;
		o->tensor[all[i].id].row_bytes = row_bytes;
		tensors[count++] = *t;
	}
	rc = moe_safetensors_create(path, tensors, count, metadata, metadata_count, &o->writer,
				    err);
	if (rc)
		free(o);
	else
		*output = o;
	return rc;
}

int moe_output_write(struct moe_output *output, enum moe_output_id id, uint32_t layer, uint32_t row,
		     uint32_t rows, const void *data, struct moe_error *err)
{
	uint64_t at, row_bytes;

	if ((unsigned)id >= OUTPUTS || !output->tensor[id].present)
		return moe_error_set(err, -EINVAL, "output tensor %d is not in this file", (int)id);
	if (layer >= output->tensor[id].layers || rows > output->tensor[id].rows ||
	    row > output->tensor[id].rows - rows)
		return moe_error_set(err, -EINVAL,
				     "output tensor %d: rows %" PRIu32 "+%" PRIu32
				     " of layer %" PRIu32 ", but it has %" PRIu32
				     " rows in %" PRIu32 " layers",
				     (int)id, row, rows, layer, output->tensor[id].rows,
				     output->tensor[id].layers);
	row_bytes = output->tensor[id].row_bytes;
	at = ((uint64_t)layer * output->tensor[id].rows + row) * row_bytes;
	return moe_safetensors_write(output->writer, output->tensor[id].number, at, data,
				     (size_t)(rows * row_bytes), err);
}

int moe_output_finish(struct moe_output *output, struct moe_error *err)
{
	int rc = moe_safetensors_finish(output->writer, err);

	free(output);
	return rc;
}

void moe_output_abandon(struct moe_output *output)
{
	if (!output)
		return;
	moe_safetensors_abandon(output->writer);
	free(output);
}
