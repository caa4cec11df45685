// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The exchange that this project is about: an EP context of one lane. */
#include "exchange.h"

#include <errno.h>
#include <stdlib.h>

static struct accel_ep_opts ep_opts(const struct moe_exchange_opts *o)
{
	return (struct accel_ep_opts){
		.size = sizeof(struct accel_ep_opts),
		.dtype = o->fp8 ? ACCEL_DTYPE_FP8_E4M3 : ACCEL_DTYPE_BF16,
		.receive = o->landed ? ACCEL_RECEIVE_LANDED : ACCEL_RECEIVE_IN_PLACE,
		.combine_input = ACCEL_COMBINE_RANK,
		.quant = ACCEL_QUANT_DIV,
		.lanes = 1,
		.expert_rank = (const int32_t *)o->expert_rank,
		.expert_slot = (const int32_t *)o->expert_slot,
		.timeout_ns = o->timeout_ns,
	};
}

int moe_exchange_accel_sizes(const struct moe_exchange_opts *o, struct accel_ep_sizes *sizes)
{
	struct accel_group_info info = {.size = sizeof(info)};
	struct accel_ep_opts opts = ep_opts(o);

	accel_group_info_get(o->group, &info);
	opts.remote_ranks = info.remote_ranks;
	return accel_ep_size_get((int)o->rank, (int)o->ranks, o->hidden, o->topk, o->experts,
				 o->tokens_max, &opts, sizes);
}

static void destroy(struct moe_exchange *exchange)
{
	accel_ep_destroy(exchange->ep);
	free(exchange);
}

static int create(const struct moe_exchange_opts *o, struct moe_exchange **out,
		  struct moe_error *err)
{
	struct accel_ep_opts opts = ep_opts(o);
	struct moe_exchange *exchange = calloc(1, sizeof(*exchange));
	int rc;

	if (!exchange)
		return moe_error_set(err, -ENOMEM, "no memory for an exchange");
	exchange->ops = &moe_exchange_accel;
	rc = accel_ep_create(o->group, o->hidden, o->topk, o->experts, o->tokens_max, &opts,
			     &exchange->ep);
	if (rc) {
		free(exchange);
		return moe_error_accel(err, NULL, rc, NULL);
	}
	*out = exchange;
	return 0;
}

static int dispatch_begin(struct moe_exchange *exchange, const struct accel_ep_input *input,
			  struct moe_error *err)
{
	int rc = accel_ep_dispatch_begin(exchange->ep, 0, input);

	return rc ? moe_error_accel(err, exchange->ep, rc, NULL) : 0;
}

static int dispatch_end(struct moe_exchange *exchange, struct accel_ep_recv *recv,
			struct moe_error *err)
{
	struct accel_ep_output output = {.size = sizeof(output)};
	int rc = accel_ep_dispatch_end(exchange->ep, 0, -1, recv);

	if (!rc)
		rc = accel_ep_output_get(exchange->ep, 0, &output);
	if (rc)
		return moe_error_accel(err, exchange->ep, rc, NULL);
	exchange->y = output.y;
	return 0;
}

static int combine(struct moe_exchange *exchange, uint16_t *out, struct accel_ep_combined *combined,
		   struct moe_error *err)
{
	int rc = accel_ep_combine(exchange->ep, 0, NULL, -1, out, 0, combined);

	return rc < 0 ? moe_error_accel(err, exchange->ep, rc, NULL) : 0;
}

const struct moe_exchange_ops moe_exchange_accel = {
	.name = "accel",
	.create = create,
	.dispatch_begin = dispatch_begin,
	.dispatch_end = dispatch_end,
	.combine = combine,
	.destroy = destroy,
};

const char *moe_exchange_name(enum moe_exchange_kind kind)
{
	static const char *const names[MOE_EXCHANGES] = {"accel", "alltoallv", "put", "window",
							 "none"};

	return names[kind];
}

void moe_exchange_destroy(struct moe_exchange *exchange)
{
	if (exchange)
		exchange->ops->destroy(exchange);
}
