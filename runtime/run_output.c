// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The file of --output, written by rank 0 from every rank's records. */
#include <accel/accel.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "run_state.h"

const char *moe_run_transport(const struct moe_run *run, char text[MOE_TRANSPORT_BYTES])
{
	struct accel_group_info info = {.size = sizeof(info)};

	if (run->opts->exchanges[0] == MOE_EXCHANGE_NONE)
		return "none";
	if (moe_exchange_is_mpi(run->opts->exchanges[0]))
		return run->opts->mpi->name;
	if (run->group)
		accel_group_info_get(run->group, &info);
	snprintf(text, MOE_TRANSPORT_BYTES, "%s", info.transport);
	return text;
}

static int write_rank(struct moe_run *run, struct moe_output *out, uint32_t layer, int rank,
		      struct moe_error *err)
{
	const uint8_t *record = run->records + ((size_t)layer * (size_t)run->world + (size_t)rank) *
						       run->record.bytes;
	const uint64_t *received = (const void *)(record + run->record.recv_tokens);
	uint32_t row = (uint32_t)run->input.rank_offsets[rank], tokens = moe_run_tokens(run, rank);
	int64_t slots[K_EXPERTS_MAX], experts[K_EXPERTS_MAX];
	int rc = moe_output_write(out, MOE_OUTPUT_MOE_OUT, layer, row, tokens,
				  record + run->record.moe_out, err);

	if (!rc)
		rc = moe_output_write(out, MOE_OUTPUT_TOPK_IDS, layer, row, tokens,
				      record + run->record.ids, err);
	if (!rc)
		rc = moe_output_write(out, MOE_OUTPUT_TOPK_WEIGHTS, layer, row, tokens,
				      record + run->record.topk_weights, err);
	if (!rc && run->opts->scores)
		rc = moe_output_write(out, MOE_OUTPUT_SCORES, layer, row, tokens,
				      record + run->record.scores, err);
	for (uint32_t s = 0; s < run->placement.slots_max; s++) {
		bool has = s < moe_placement_count(&run->placement, (uint32_t)rank);

		slots[s] = has ? (int64_t)received[s] : -1;
		experts[s] = has ? (int64_t)moe_placement_expert(&run->placement, layer,
								 run->placement.first[rank] + s)
				 : -1;
	}
	if (!rc)
		rc = moe_output_write(out, MOE_OUTPUT_RECV_TOKENS, layer, (uint32_t)rank, 1, slots,
				      err);
	if (!rc)
		rc = moe_output_write(out, MOE_OUTPUT_SLOT_EXPERTS, layer, (uint32_t)rank, 1,
				      experts, err);
	if (!rc && layer + 1 == run->opts->layer_count)
		rc = moe_output_write(out, MOE_OUTPUT_INCOMPLETE, 0, row, tokens,
				      record + run->record.incomplete, err);
	return rc;
}

/* hidden [N,H] after all layers, from what the ranks computed. */
static void last_hidden(const struct moe_run *run, uint16_t *hidden)
{
	size_t width = run->opts->config.hidden;

	memcpy(hidden, run->input.hidden, (size_t)run->tokens_all * width * sizeof(*hidden));
	for (uint32_t l = 0; l < run->opts->layer_count; l++)
		for (int r = 0; r < run->world; r++) {
			const uint8_t *record = run->records +
						((size_t)l * (size_t)run->world + (size_t)r) *
							run->record.bytes;

			moe_layer_output(run->opts->residual, moe_run_tokens(run, r),
					 (uint32_t)width,
					 (const void *)(record + run->record.moe_out),
					 hidden + (size_t)run->input.rank_offsets[r] * width);
		}
}

int moe_run_write_output(struct moe_run *run, uint16_t *hidden, struct moe_error *err)
{
	const struct moe_run_opts *o = run->opts;
	char layers[4096] = "", ranks[16], seed[24], transport[MOE_TRANSPORT_BYTES];
	const struct moe_metadata metadata[] = {
		{"version", accel_version()},
		{"layers", layers},
		{"ranks", ranks},
		{"dtype", o->fp8 ? "fp8" : "bf16"},
		{"transport", moe_run_transport(run, transport)},
		{"receive", o->landed ? "landed" : "in_place"},
		{"placement", o->eplb ? "eplb" : "contiguous"},
		{"seed", seed},
		{"weights", o->weights ? o->weights : "synthetic"},
	};
	struct moe_output *out;
	size_t used = 0;
	int rc;

	for (uint32_t l = 0; l < o->layer_count; l++)
		used += (size_t)snprintf(layers + used, sizeof(layers) - used, "%s%u", l ? "," : "",
					 o->layers[l]);
	snprintf(ranks, sizeof(ranks), "%d", run->world);
	snprintf(seed, sizeof(seed), "%" PRIu64, o->seed);
	rc = moe_output_create(o->output, &o->config, run->tokens_all, o->layer_count,
			       (uint32_t)run->world, run->placement.slots_max, o->scores, metadata,
			       sizeof(metadata) / sizeof(*metadata), &out, err);
	if (rc)
		return rc;
	for (uint32_t l = 0; l < o->layer_count; l++)
		for (int r = 0; r < run->world && !rc; r++)
			rc = write_rank(run, out, l, r, err);
	last_hidden(run, hidden);
	if (!rc)
		rc = moe_output_write(out, MOE_OUTPUT_HIDDEN_STATES, 0, 0, run->tokens_all, hidden,
				      err);
	if (!rc)
		return moe_output_finish(out, err);
	moe_output_abandon(out);
	return rc;
}
