// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * accel-moe-openmpi and accel-moe-mpich: the ranks of accel-moe run where an MPI carries the rows. The
 * exchange is the careful user's of libaccel/tools/mpi_exchange.h; here it gets the lists that a layer
 * reads. Rows become FP8 at the sender, as accel makes them.
 */
#include "exchange.h"

#include <errno.h>
#include <kernels.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libaccel/tools/mpi_exchange.h"
#include "run.h"

#ifdef OPEN_MPI
#define MPI_NAME "openmpi"
#else
#define MPI_NAME "mpich"
#endif

struct carried {
	struct moe_exchange exchange;
	struct moe_exchange_opts opts;
	struct mpi_exchange *mpi;
	const struct k_ops *ops;
	struct mpi_exchange_input input;
	uint32_t experts_local;
	uint8_t *codes;		 /* [T,H], FP8 only */
	float *scales;		 /* [T,B], FP8 only */
	int32_t *topk_idx;	 /* [slots,K] local expert, or -1 */
	uint32_t *expert_offset; /* [L+1] */
	uint32_t *expert_row;	 /* [slots * K] */
};

static uint32_t blocks_of(const struct moe_exchange_opts *o)
{
	return (o->hidden + K_BLOCK - 1) / K_BLOCK;
}

static void destroy(struct moe_exchange *exchange)
{
	struct carried *c = (struct carried *)exchange;

	mpi_exchange_destroy(c->mpi);
	free(c->codes);
	free(c->scales);
	free(c->topk_idx);
	free(c->expert_offset);
	free(c->expert_row);
	free(c);
}

static int create(const struct moe_exchange_opts *o, const struct moe_exchange_ops *ops,
		  enum mpi_exchange_method method, struct moe_exchange **exchange,
		  struct moe_error *err)
{
	struct carried *c = calloc(1, sizeof(*c));
	size_t tokens = o->tokens_max, slots = (size_t)o->ranks * tokens;
	const struct mpi_exchange_opts mpi = {
		.method = method,
		.tokens_max = o->tokens_max,
		.hidden = o->hidden,
		.topk = o->topk,
		.experts = o->experts,
		.row_bytes = o->hidden * (o->fp8 ? 1u : sizeof(uint16_t)),
		.scale_bytes = o->fp8 ? blocks_of(o) * sizeof(float) : 0,
		.expert_rank = (const int32_t *)o->expert_rank,
		.crowded = o->ranks > (uint32_t)sysconf(_SC_NPROCESSORS_ONLN),
	};
	int rc = c ? 0 : -ENOMEM;

	if (!rc) {
		c->exchange.ops = ops;
		c->opts = *o;
		c->ops = k_ops_get(NULL);
		for (uint32_t e = 0; e < o->experts; e++)
			if (o->expert_rank[e] == o->rank && o->expert_slot[e] >= c->experts_local)
				c->experts_local = o->expert_slot[e] + 1;
		c->codes = malloc(tokens * o->hidden);
		c->scales = malloc(tokens * blocks_of(o) * sizeof(*c->scales));
		c->topk_idx = malloc(slots * o->topk * sizeof(*c->topk_idx));
		c->expert_offset = malloc((c->experts_local + 2) * sizeof(*c->expert_offset));
		c->expert_row = malloc(slots * o->topk * sizeof(*c->expert_row));
		rc = c->codes && c->scales && c->topk_idx && c->expert_offset && c->expert_row
			     ? mpi_exchange_create(&mpi, &c->mpi)
			     : -ENOMEM;
	}
	if (rc) {
		if (c)
			destroy(&c->exchange);
		return moe_error_set(err, rc, "%s by " MPI_NAME " cannot be set up: %s", ops->name,
				     strerror(-rc));
	}
	c->exchange.y = mpi_exchange_y(c->mpi);
	*exchange = &c->exchange;
	return 0;
}

static int dispatch_begin(struct moe_exchange *exchange, const struct accel_ep_input *in,
			  struct moe_error *err)
{
	struct carried *c = (struct carried *)exchange;
	const struct k_quant quant = {
		.rows = in->tokens,
		.hidden = c->opts.hidden,
		.rule = K_QUANT_DIV,
		.x_dtype = K_DTYPE_BF16,
		.x = in->x,
		.x_stride = c->opts.hidden * sizeof(uint16_t),
		.codes = c->codes,
		.codes_stride = c->opts.hidden,
		.scales = c->scales,
		.scales_stride = blocks_of(&c->opts) * sizeof(*c->scales),
	};

	(void)err;
	if (c->opts.fp8 && in->tokens)
		c->ops->quant_fp8(&quant, 0, 1);
	c->input = (struct mpi_exchange_input){
		.tokens = in->tokens,
		.x = c->opts.fp8 ? c->codes : in->x,
		.scales = c->opts.fp8 ? c->scales : NULL,
		.ids = in->topk_idx,
		.weights = in->topk_weights,
	};
	return 0;
}

/* Expert-major lists: by expert, then row, then k. */
static void list_experts(struct carried *c, const struct mpi_exchange_recv *came)
{
	uint32_t topk = c->opts.topk, *at = c->expert_offset + 1;
	size_t choices = (size_t)came->rows * topk;

	memset(c->expert_offset, 0, (c->experts_local + 2) * sizeof(*c->expert_offset));
	for (size_t i = 0; i < choices; i++) {
		int32_t id = came->topk_idx[i];

		c->topk_idx[i] = id < 0 ? -1 : (int32_t)c->opts.expert_slot[id];
		if (id >= 0)
			at[c->topk_idx[i] + 1]++;
	}
	for (uint32_t e = 0; e < c->experts_local; e++)
		at[e + 1] += at[e];
	/* at[e] is now where expert e's entries begin, and in the end where the next one's do. */
	for (size_t i = 0; i < choices; i++)
		if (c->topk_idx[i] >= 0)
			c->expert_row[at[c->topk_idx[i]]++] = (uint32_t)(i / topk);
}

static int dispatch_end(struct moe_exchange *exchange, struct accel_ep_recv *recv,
			struct moe_error *err)
{
	struct carried *c = (struct carried *)exchange;
	struct mpi_exchange_recv came;
	int rc = mpi_exchange_dispatch(c->mpi, &c->input, &came);

	if (rc)
		return moe_error_set(err, rc, "%s: a token chose an expert that there is not",
				     exchange->ops->name);
	list_experts(c, &came);
	recv->rows = came.rows;
	recv->entries = c->expert_offset[c->experts_local];
	recv->experts_local = c->experts_local;
	recv->dtype = c->opts.fp8 ? ACCEL_DTYPE_FP8_E4M3 : ACCEL_DTYPE_BF16;
	recv->row = came.row;
	recv->scale = came.scale;
	recv->src_rank = came.src_rank;
	recv->src_token = came.src_token;
	recv->topk_idx = c->topk_idx;
	recv->topk_weights = came.topk_weights;
	recv->rank_offset = came.rank_offset;
	recv->expert_offset = c->expert_offset;
	recv->expert_row = c->expert_row;
	return 0;
}

static int combine(struct moe_exchange *exchange, uint16_t *out, struct accel_ep_combined *combined,
		   struct moe_error *err)
{
	(void)err;
	mpi_exchange_combine(((struct carried *)exchange)->mpi, out);
	combined->incomplete = 0;
	return 0;
}

#define METHOD(name_, method_)                                                                     \
	static const struct moe_exchange_ops name_;                                                \
	static int create_##name_(const struct moe_exchange_opts *opts,                            \
				  struct moe_exchange **exchange, struct moe_error *err)           \
	{                                                                                          \
		return create(opts, &name_, method_, exchange, err);                               \
	}                                                                                          \
	static const struct moe_exchange_ops name_ = {                                             \
		.name = #name_,                                                                    \
		.create = create_##name_,                                                          \
		.dispatch_begin = dispatch_begin,                                                  \
		.dispatch_end = dispatch_end,                                                      \
		.combine = combine,                                                                \
		.destroy = destroy,                                                                \
	};

METHOD(alltoallv, MPI_EXCHANGE_ALLTOALLV)
METHOD(put, MPI_EXCHANGE_PUT)
METHOD(window, MPI_EXCHANGE_WINDOW)

static int allgather(void *arg, const void *mine, void *all, size_t bytes)
{
	(void)arg;
	MPI_Allgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, MPI_COMM_WORLD);
	return 0;
}

int main(int argc, char **argv)
{
	struct moe_mpi mpi = {
		.name = MPI_NAME,
		.allgather = allgather,
		.exchanges = {[MOE_EXCHANGE_ALLTOALLV] = &alltoallv,
			      [MOE_EXCHANGE_PUT] = &put,
			      [MOE_EXCHANGE_WINDOW] = &window},
	};
	int code;

	if (argc < 2 || strcmp(argv[1], "run")) {
		fprintf(stderr, "accel-moe-" MPI_NAME
				": these are the ranks of accel-moe run --exchange alltoallv, "
				"which starts them; by hand: mpirun -n N accel-moe-" MPI_NAME
				" run --ranks N OPTIONS\n");
		return MOE_EXIT_USAGE;
	}
	MPI_Init(NULL, NULL);
	MPI_Comm_rank(MPI_COMM_WORLD, &mpi.rank);
	MPI_Comm_size(MPI_COMM_WORLD, &mpi.world);
	code = moe_run_mpi(argc - 1, argv + 1, &mpi);
	/* Others may wait for this rank, and would for ever. */
	if (code > MOE_EXIT_FAIL)
		MPI_Abort(MPI_COMM_WORLD, code);
	MPI_Finalize();
	return code;
}
