// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Ranks over the loop library; see nics.h. */
#include "nics.h"

#include "ep.h"

#include "tap.h"

#include <stdio.h>

/* One a rank and group: options outlive the call that makes the group. */
static char device_names[RANKS_MAX][64];

bool nics_apart(const struct nics *n, int a, int b)
{
	return a != b && (a >= n->shm_ranks || b >= n->shm_ranks);
}

void nics_print(const struct nics *n)
{
	tap_diag(
		"shm among the first %d, %sqps %u rails %u depth %u stripe %u inline %u, sge %u, %s",
		n->shm_ranks, n->uneven ? "uneven " : "", n->qps, n->rails, n->depth,
		n->stripe_bytes, n->inline_bytes, n->config.max_sge,
		n->config.infiniband ? "InfiniBand" : "RoCE");
	exchange_shape_print(&n->shape);
}

bool nics_run(struct nics *n, size_t area_bytes, void (*body)(struct ranks_ctx *ctx, int rank))
{
	const int world = n->shape.ref.world;
	const struct ranks_opts opts = {
		.world = world, .threads = true, .area_bytes = area_bytes, .arg = n};
	struct loop_config config = n->config;
	bool ok;

	if (!config.devices)
		config.devices = (uint32_t)world;
	verbs_loop()->configure(&config);
	verbs_loop()->seed(n->shape.ref.seed);
	verbs_loop()->fail_call(n->fail_call, n->fail_nth, n->fail_error);
	for (int r = 0; r < world; r++) {
		size_t len = 0;

		for (uint32_t i = 0; i < (n->rails ? n->rails : 1); i++)
			len += (size_t)snprintf(device_names[r] + len,
						sizeof(device_names[r]) - len, "%sloop%u",
						i ? "," : "", ((uint32_t)r + i) % config.devices);
	}
	ok = ranks_run(&opts, body) && !tap_failing();
	CHECK_LOOP_EMPTY();
	CHECK_EQ(verbs_loop()->stats().overruns, 0);
	if (tap_failing())
		nics_print(n);
	return ok && !tap_failing();
}

void nics_group_opts(struct ranks_ctx *ctx, int rank, int number, struct accel_group_opts *opts)
{
	const struct nics *n = ctx->arg;

	ranks_group_opts(ctx, rank, number, opts);
	opts->transports = rank < n->shm_ranks ? "shm,verbs" : "verbs";
	opts->verbs_library = n->library ? n->library : verbs_loop_path();
	opts->verbs_devices = device_names[rank];
	opts->verbs_rails = n->uneven ? 1 + (uint32_t)rank % n->rails : n->rails;
	opts->verbs_qps = n->uneven ? 1 + (uint32_t)rank % n->qps : n->qps;
	opts->verbs_depth = n->depth;
	opts->verbs_stripe_bytes = n->stripe_bytes;
	opts->verbs_inline_bytes = n->inline_bytes;
	opts->verbs_ack_timeout = n->ack_timeout;
	opts->verbs_retries = n->retries;
	opts->verbs_traffic_class = n->traffic_class;
	opts->verbs_service_level = n->service_level;
	opts->verbs_mtu = n->mtu[rank % 2];
}

int nics_group_create(struct ranks_ctx *ctx, int rank, int number, struct accel_device **dev,
		      struct accel_group **group)
{
	struct accel_group_opts opts;
	int rc = accel_device_open("host", dev);

	if (rc)
		return rc;
	nics_group_opts(ctx, rank, number, &opts);
	rc = accel_group_create(*dev, rank, ctx->world, &opts, group);
	if (rc) {
		accel_device_close(*dev);
		*dev = NULL;
	}
	return rc;
}

bool nics_open(struct exchange *e, struct ranks_ctx *ctx, int rank, int number)
{
	const struct nics *n = ctx->arg;
	struct accel_error error = {.size = sizeof(error)};
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	int rc = nics_group_create(ctx, rank, number, &dev, &group);

	*e = (struct exchange){0};
	if (rc) {
		accel_error_get(NULL, &error);
		tap_diag("rank %d: accel_group_create: %s", rank, error.text);
	}
	if (!CHECK_EQ(rc, 0))
		return false;
	e->group = group;
	e->dev = dev;
	if (!exchange_open_in(e, rank, dev, group, &n->shape)) {
		accel_group_destroy(group);
		accel_device_close(dev);
		return false;
	}
	e->owns_group = true;
	return true;
}

/* Of the lane's last round. */
static uint64_t rows_of(const struct exchange *e, uint32_t lane, int from, int to)
{
	const struct reference_input *in = &e->lane[lane].in[from];
	uint64_t rows = 0;

	for (uint32_t t = 0; t < in->tokens; t++)
		rows += reference_token_goes(&e->shape->ref, in, t, to);
	return rows;
}

/*
 * Of one message: with 16 gather entries, and a row that is one or two of them, eight rows a request and
 * four more; else a row a request. Each further stripe has a line of its own.
 */
static uint64_t requests_max(const struct nics *n, uint64_t rows)
{
	const bool few = !n->config.max_sge || n->config.max_sge >= 16;
	const uint32_t stripes = (n->qps ? n->qps : 1) * (n->rails ? n->rails : 1);

	return (few && !n->shape.pad_bytes ? rows / 8 : rows) + 4 * stripes;
}

void nics_count(const struct exchange *e, const struct nics *n, uint32_t lane,
		struct nics_cost *cost)
{
	const struct reference_shape *ref = &n->shape.ref;

	for (int p = 0; p < ref->world; p++) {
		const uint64_t sent = rows_of(e, lane, e->rank, p),
			       back = rows_of(e, lane, p, e->rank);

		if (!nics_apart(n, e->rank, p))
			continue;
		cost->bytes_wire += sent * e->ep->layout.row_bytes + back * ref->hidden * 2;
		cost->work_requests_max += requests_max(n, sent) + requests_max(n, back);
	}
}

void nics_cost_check(struct exchange *e, const struct nics_cost *cost)
{
	struct accel_ep_stats got = {.size = sizeof(got)};

	if (!CHECK_EQ(accel_ep_stats_get(e->ep, &got), 0))
		return;
	CHECK_EQ(got.bytes_wire, cost->bytes_wire);
	CHECK(got.work_requests <= cost->work_requests_max);
	if (got.work_requests > cost->work_requests_max)
		tap_diag("rank %d: %llu work requests, at most %llu are due", e->rank,
			 (unsigned long long)got.work_requests,
			 (unsigned long long)cost->work_requests_max);
	if (e->shape->x_place != EXCHANGE_POINTER && e->shape->y_place != EXCHANGE_POINTER &&
	    !e->shape->expand_alignment)
		CHECK_EQ(got.bytes_staged, 0);
}
