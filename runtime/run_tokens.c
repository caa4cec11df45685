// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The tokens of a run: read from a file, or made up out of the seed; their routing is in run_routing.c. */
#include <accel_num.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "run_state.h"

/*
 * Made-up hidden states: the sum of four uniform numbers from a counter, scaled to variance 1, the
 * same for any number of ranks.
 */
static void make_hidden(uint64_t seed, uint64_t first, size_t count, uint16_t *hidden)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t z = (first + i + 1) * UINT64_C(0x9e3779b97f4a7c15) +
			     seed * UINT64_C(0xd1342543de82ef95);
		float sum;
		uint32_t bits;

		z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
		z ^= z >> 31;
		sum = (float)((z & 0xffff) + (z >> 16 & 0xffff) + (z >> 32 & 0xffff) + (z >> 48)) -
		      131070.0f;
		sum *= 1.0f / 37837.0f; /* the deviation of that sum: 65536 / sqrt(3) */
		memcpy(&bits, &sum, sizeof(bits));
		hidden[i] = accel_num_f32_to_bf16(bits);
	}
}

static int make_input(struct moe_run *run, struct moe_error *err)
{
	const struct moe_run_opts *o = run->opts;
	struct moe_input *in = &run->input;

	in->rank_offsets = calloc((size_t)run->world + 1, sizeof(*in->rank_offsets));
	if (!in->rank_offsets)
		return moe_error_set(err, -ENOMEM, "no memory");
	if (o->tokens_count > 1 && o->tokens_count != (uint32_t)run->world)
		return moe_error_set(err, -EINVAL, "--tokens has %u numbers for %d ranks",
				     o->tokens_count, run->world);
	for (int r = 0; r < run->world; r++)
		in->rank_offsets[r + 1] = in->rank_offsets[r] +
					  o->tokens[o->tokens_count > 1 ? r : 0];
	in->tokens = (uint32_t)in->rank_offsets[run->world];
	in->hidden = malloc(((size_t)in->tokens + 1) * o->config.hidden * sizeof(*in->hidden));
	if (!in->hidden)
		return moe_error_set(err, -ENOMEM, "no memory for %u tokens", in->tokens);
	make_hidden(o->seed, 0, (size_t)in->tokens * o->config.hidden, in->hidden);
	return 0;
}

static int save_input(const struct moe_run *run, struct moe_error *err)
{
	const struct moe_input *in = &run->input;
	const struct moe_tensor tensors[] = {
		{.name = "hidden_states",
		 .dtype = MOE_DTYPE_BF16,
		 .dims = 2,
		 .shape = {in->tokens, run->opts->config.hidden}},
		{.name = "rank_offsets",
		 .dtype = MOE_DTYPE_I64,
		 .dims = 1,
		 .shape = {(uint64_t)run->world + 1}},
	};
	struct moe_safetensors_writer *writer;
	int rc = moe_safetensors_create(run->opts->save_input, tensors, 2, NULL, 0, &writer, err);

	if (rc)
		return rc;
	rc = moe_safetensors_write(writer, 0, 0, in->hidden,
				   (size_t)in->tokens * run->opts->config.hidden * 2, err);
	if (!rc)
		rc = moe_safetensors_write(writer, 1, 0, in->rank_offsets,
					   ((size_t)run->world + 1) * sizeof(int64_t), err);
	if (!rc)
		return moe_safetensors_finish(writer, err);
	moe_safetensors_abandon(writer);
	return rc;
}

int moe_run_take_input(struct moe_run *run, struct moe_error *err)
{
	const struct moe_run_opts *o = run->opts;
	int rc;

	if (o->input)
		rc = moe_input_read(o->input, &o->config, o->layer_count, (uint32_t)run->world,
				    &run->input, err);
	else
		rc = make_input(run, err);
	if (!rc && o->save_input && run->rank == 0)
		rc = save_input(run, err);
	if (rc)
		return rc;
	run->tokens_all = run->input.tokens;
	for (int r = 0; r < run->world; r++)
		if (moe_run_tokens(run, r) > run->tokens_max)
			run->tokens_max = moe_run_tokens(run, r);
	if (!run->tokens_max)
		run->tokens_max = 1;
	run->hidden = malloc((size_t)run->tokens_max * o->config.hidden * sizeof(*run->hidden));
	if (!run->hidden)
		return moe_error_set(err, -ENOMEM, "no memory for %u tokens", run->tokens_max);
	memcpy(run->hidden,
	       run->input.hidden + (size_t)run->input.rank_offsets[run->rank] * o->config.hidden,
	       (size_t)moe_run_tokens(run, run->rank) * o->config.hidden * sizeof(*run->hidden));
	return moe_run_take_routing(run, err);
}
