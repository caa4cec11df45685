// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* See passes.h. */
#include "passes.h"

#include <string.h>

/* The rank over exchange x of those asked for. */
static struct moe_rank *rank_over(struct moe_passes *p, uint32_t x)
{
	return x ? &p->others[x - 1] : p->first;
}

int moe_passes_init(struct moe_passes *p, const struct moe_run_opts *o, struct moe_rank *first,
		    struct moe_layer_opts *layer, struct moe_error *err)
{
	int rc = 0;

	*p = (struct moe_passes){.opts = o, .first = first};
	for (uint32_t x = 0; x < o->exchange_count && !rc; x++) {
		enum moe_exchange_kind kind = o->exchanges[x];

		layer->exchange = kind == MOE_EXCHANGE_ACCEL  ? &moe_exchange_accel
				  : kind == MOE_EXCHANGE_NONE ? &moe_exchange_none
							      : o->mpi->exchanges[kind];
		rc = moe_rank_init(rank_over(p, x), layer, err);
	}
	return rc;
}

void moe_passes_fini(struct moe_passes *p)
{
	for (uint32_t x = p->opts ? p->opts->exchange_count : 0; x--;)
		moe_rank_fini(rank_over(p, x));
}

static int step(struct moe_rank *rank, const struct moe_pass_input *in, struct moe_times *times,
		struct moe_error *err)
{
	return moe_layer_step(rank, in->layer, in->tokens, in->hidden, in->ids, in->weights, times,
			      err);
}

/* As often as asked for; and before that once, where an exchange must have seen the round. */
int moe_passes_warm_up(struct moe_passes *p, const struct moe_pass_input *in, struct moe_error *err)
{
	struct moe_times times;
	int rc = 0;

	for (uint32_t x = 0; x < p->opts->exchange_count && !rc; x++) {
		struct moe_rank *rank = rank_over(p, x);
		const struct moe_exchange_ops *ops = rank->exchange->ops;

		if (ops->rehearse) {
			ops->rehearse(rank->exchange, true);
			rc = step(rank, in, &times, err);
			ops->rehearse(rank->exchange, false);
		}
		for (uint32_t i = 0; i < p->opts->warmup && !rc; i++)
			rc = step(rank, in, &times, err);
	}
	return rc;
}

/* Where passes are compared ranks begin each together: without an exchange they would drift. */
static int meet(struct moe_passes *p, struct moe_gather *gather, struct moe_error *err)
{
	uint8_t mine = 0, all[ACCEL_RANKS_MAX];

	if (p->opts->exchange_count * p->opts->samples == 1)
		return 0;
	return moe_gather_run(gather, &mine, 1, all, err);
}

static void count(const struct moe_rank *rank, struct moe_pass_output *out)
{
	if (!rank->exchange->ep)
		return;
	accel_ep_stats_get(rank->exchange->ep, &out->before);
	accel_ep_waits_get(rank->exchange->ep, out->waits_before);
}

static uint64_t rows_differ(const struct moe_passes *p, const struct moe_rank *rank,
			    uint32_t tokens)
{
	size_t width = p->opts->config.hidden;
	uint64_t rows = 0;

	for (size_t t = 0; t < tokens; t++)
		rows += memcmp(p->first->moe_out + t * width, rank->moe_out + t * width,
			       width * sizeof(*rank->moe_out)) != 0;
	return rows;
}

int moe_passes_run(struct moe_passes *p, struct moe_gather *gather, const struct moe_pass_input *in,
		   struct moe_pass_output *out, struct moe_error *err)
{
	uint32_t exchanges = p->opts->exchange_count, samples = p->opts->samples;
	int rc = 0;

	out->before = (struct accel_ep_stats){.size = sizeof(out->before)};
	memset(out->waits_before, 0, sizeof(out->waits_before));
	out->rows_differ = 0;
	for (uint32_t i = 0; i < samples * exchanges && !rc; i++) {
		uint32_t x = i % exchanges;
		struct moe_rank *rank = rank_over(p, x);
		struct moe_times times;

		rc = meet(p, gather, err);
		if (!x)
			count(rank, out);
		if (!rc)
			rc = step(rank, in, &times, err);
		if (rc)
			break;
		out->passes[x * samples + i / exchanges] = (struct moe_pass){
			times.total_ns, times.dispatch_ns + times.combine_ns};
		if (x)
			out->rows_differ += rows_differ(p, rank, in->tokens);
		else
			out->times = times;
	}
	return rc;
}
