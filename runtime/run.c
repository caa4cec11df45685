// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * One rank of a run: weights, group, layers; then every rank's records go to rank 0, which writes
 * the output, checks and reports. Without a launcher the ranks are children of this process
 * (launch.c); under one this process is a rank.
 */
#include "run.h"

#include <accel/accel.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch.h"
#include "launch_mpi.h"
#include "run_state.h"
#include "synthetic.h"
#include "verify.h"

enum { DEVICE_BYTES = 72 }; /* of an RDMA device's name with its port */

/* ---- set-up ---- */

static void tell_loading(void *arg, uint64_t done, uint64_t total)
{
	static unsigned told = 101;
	unsigned percent = total ? (unsigned)(100 * (double)done / (double)total) : 100;

	if (percent / 10 == told / 10)
		return;
	told = percent;
	fprintf(stderr, "rank %d: weights %3u %% of %.1f GB\n", *(const int *)arg, percent,
		(double)total * 1e-9);
}

/*
 * What the caller has not set in opts, which says whose experts and how many of them to keep when
 * they are synthetic: a fresh page costs more than its contents, so the memory of experts that
 * nobody will ask for again is reused.
 */
static int open_weights(struct moe_run *run, struct moe_weights_opts *opts, unsigned sharers,
			struct moe_weights **weights, struct moe_error *err)
{
	const struct moe_run_opts *o = run->opts;

	opts->dir = o->weights;
	opts->config = &o->config;
	opts->seed = o->seed;
	opts->cache_bytes = moe_synthetic_cache_bytes(sharers);
	opts->layers = o->layers;
	opts->layer_count = o->layer_count;
	opts->team = run->team;
	opts->progress = opts->preload ? tell_loading : NULL;
	opts->progress_arg = &run->rank;
	return moe_weights_open(opts, weights, err);
}

/*
 * This rank's experts, or where balancing decides which those are, all of them; one layer's are
 * kept, for the warm-up and then the timed pass.
 */
static int open_mine(struct moe_run *run, struct moe_error *err)
{
	bool any = run->opts->eplb;
	uint32_t count = moe_placement_count(&run->placement, (uint32_t)run->rank);
	struct moe_weights_opts opts = {
		.expert_first = any ? 0 : run->placement.first[run->rank],
		.expert_count = any ? run->opts->config.experts : count,
		.experts_resident = count ? count : 1,
		.preload = run->opts->weights && !any,
	};

	return open_weights(run, &opts, (unsigned)run->world, &run->weights, err);
}

static int allgather(void *arg, const void *mine, void *all, size_t bytes)
{
	const struct moe_mpi *mpi = arg;

	return mpi->allgather(NULL, mine, all, bytes);
}

/* The RDMA device that is this rank's turn of --devices, or NULL. */
static const char *my_device(const struct moe_run *run, char name[DEVICE_BYTES])
{
	const char *list = run->opts->devices;
	size_t turn = 0, bytes;

	for (const char *c = list; c && *c; c++)
		turn += *c == ',';
	turn = (size_t)run->local_rank % (turn + 1);
	for (; list && turn; turn--)
		list = strchr(list, ',') + 1;
	if (!list)
		return NULL;
	bytes = strcspn(list, ",");
	snprintf(name, DEVICE_BYTES, "%.*s", (int)bytes, list);
	return name;
}

static int meet(struct moe_run *run, int port, struct moe_error *err)
{
	char device[DEVICE_BYTES];
	struct accel_group_opts opts = {
		.size = sizeof(opts),
		.timeout_ns = run->opts->timeout_ns,
		.transports = run->opts->transports,
		.verbs_devices = my_device(run, device),
	};
	int rc = accel_device_open(run->opts->device, &run->dev);

	if (rc)
		return moe_error_accel(err, NULL, rc, NULL);
	if (run->opts->mpi) {
		opts.allgather = allgather;
		opts.allgather_arg = (void *)run->opts->mpi;
	} else if (port) {
		opts.master_addr = "127.0.0.1";
		opts.master_port = (uint32_t)port;
	}
	/* Ranks that PMIx has named meet through it too. */
	rc = strcmp(run->launcher, "pmix")
		     ? accel_group_create(run->dev, run->rank, run->world, &opts, &run->group)
		     : accel_group_create(run->dev, -1, -1, &opts, &run->group);
	return rc ? moe_error_accel(err, NULL, rc, NULL) : 0;
}

static int set_up(struct moe_run *run, int port, struct moe_error *err)
{
	const struct moe_run_opts *o = run->opts;
	struct moe_layer_opts layer = {
		.config = &o->config,
		.placement = &run->placement,
		.rank = (uint32_t)run->rank,
		.fp8 = o->fp8,
		.landed = o->landed,
		.residual = o->residual,
		.timeout_ns = o->timeout_ns,
	};
	int rc = moe_team_create(run->threads, NULL, &run->team, err);

	if (!rc)
		rc = moe_run_place(run, err);
	if (!rc)
		rc = moe_run_take_input(run, err);
	if (!rc)
		rc = open_mine(run, err);
	if (!rc)
		rc = meet(run, port, err);
	if (rc)
		return rc;
	layer.weights = run->weights;
	layer.team = run->team;
	layer.dev = run->dev;
	layer.group = run->group;
	layer.token_first = (uint32_t)run->input.rank_offsets[run->rank];
	layer.tokens_max = run->tokens_max;
	rc = moe_passes_init(&run->passes, o, &run->layer, &layer, err);
	if (!rc)
		rc = moe_gather_init(&run->gather, run->dev, run->group, o->timeout_ns, err);
	if (!rc && moe_run_counts_first(run))
		rc = moe_counts_init(&run->counts, run->dev, run->group, o->config.experts,
				     o->timeout_ns, err);
	if (rc)
		return rc;
	moe_record_init(&run->record, &o->config, (uint32_t)run->world, run->placement.slots_max,
			run->tokens_max, (size_t)o->exchange_count * o->samples);
	run->mine = calloc(o->layer_count, run->record.bytes);
	run->checks = calloc(o->layer_count, sizeof(*run->checks));
	if (run->rank == 0)
		run->records = calloc(o->layer_count * (size_t)run->world,
				      run->record.bytes); /* a masked rank sends none */
	if (!run->mine || !run->checks || (run->rank == 0 && !run->records))
		return moe_error_set(err, -ENOMEM, "no memory for the results of %u tokens",
				     run->tokens_all);
	return 0;
}

static void tear_down(struct moe_run *run)
{
	moe_counts_fini(&run->counts);
	moe_gather_fini(&run->gather);
	moe_passes_fini(&run->passes);
	accel_group_destroy(run->group);
	accel_device_close(run->dev);
	moe_weights_close(run->weights);
	moe_placement_fini(&run->placement);
	moe_team_destroy(run->team);
	moe_input_fini(&run->input);
	free(run->mine);
	free(run->records);
	free(run->hidden);
	free(run->checks);
}

/* ---- the layers ---- */

static void record_layer(struct moe_run *run, uint32_t layer, const struct moe_pass_output *out)
{
	const struct moe_config *c = &run->opts->config;
	uint32_t tokens = moe_run_tokens(run, run->rank);
	uint8_t *record = run->mine + layer * run->record.bytes;
	struct moe_record_head *head = (void *)record;
	struct accel_ep_stats after = {.size = sizeof(after)};
	uint64_t *waits = (void *)(record + run->record.waits);

	if (run->layer.exchange->ep) {
		accel_ep_stats_get(run->layer.exchange->ep, &after);
		accel_ep_waits_get(run->layer.exchange->ep, waits);
	}
	for (int p = 0; p < run->world; p++)
		waits[p] -= out->waits_before[p];
	*head = (struct moe_record_head){
		.times = out->times,
		.tokens = tokens,
		.rows_received = run->layer.rows_received,
		.experts_active = run->layer.experts_active,
		.rows_differ = out->rows_differ,
		.bytes_wire = after.bytes_wire - out->before.bytes_wire,
		.bytes_landed = after.bytes_landed - out->before.bytes_landed,
		.bytes_quantised = after.bytes_quantised - out->before.bytes_quantised,
		.bytes_staged = after.bytes_staged - out->before.bytes_staged,
		.maps = after.maps - out->before.maps,
		.work_requests = after.work_requests - out->before.work_requests,
	};
	for (uint32_t t = 0; t < tokens; t++)
		head->incomplete += run->layer.incomplete[t];
	memcpy(record + run->record.recv_tokens, run->layer.recv_tokens,
	       run->placement.slots_max * sizeof(uint64_t));
	memcpy(record + run->record.incomplete, run->layer.incomplete, tokens);
	memcpy(record + run->record.ids, run->layer.ids,
	       (size_t)tokens * c->topk * sizeof(int32_t));
	memcpy(record + run->record.topk_weights, run->layer.topk_weights,
	       (size_t)tokens * c->topk * sizeof(float));
	memcpy(record + run->record.scores, run->layer.scores,
	       (size_t)tokens * c->experts * sizeof(float));
	memcpy(record + run->record.moe_out, run->layer.moe_out,
	       (size_t)tokens * c->hidden * sizeof(uint16_t));
}

static int run_layer(struct moe_run *run, uint32_t layer, struct moe_error *err)
{
	const struct moe_run_opts *o = run->opts;
	size_t choice = ((size_t)layer * run->input.tokens +
			 (size_t)run->input.rank_offsets[run->rank]) *
			o->config.topk;
	const struct moe_pass_input in = {
		.layer = layer,
		.tokens = moe_run_tokens(run, run->rank),
		.hidden = run->hidden,
		.ids = run->input.topk_ids ? run->input.topk_ids + choice : NULL,
		.weights = run->input.topk_ids ? run->input.topk_weights + choice : NULL,
	};
	struct moe_pass_output out = {
		.passes = (void *)(run->mine + layer * run->record.bytes + run->record.passes)};
	int rc = moe_passes_warm_up(&run->passes, &in, err);

	if (!rc && moe_run_counts_first(run)) {
		rc = moe_run_place_counted(run, layer, err);
		if (!rc) /* other experts are to be warm */
			rc = moe_passes_warm_up(&run->passes, &in, err);
	}
	if (!rc)
		rc = moe_passes_run(&run->passes, &run->gather, &in, &out, err);
	if (rc)
		return rc;
	record_layer(run, layer, &out);
	moe_layer_output(o->residual, in.tokens, o->config.hidden, run->layer.moe_out, run->hidden);
	return 0;
}

static int run_layers(struct moe_run *run, struct moe_error *err)
{
	const struct moe_run_opts *o = run->opts;

	for (uint32_t l = 0; l < o->layer_count; l++) {
		int rc;

		if (run->rank == 0)
			fprintf(stderr, "layer %u (%u of %u)\n", o->layers[l], l + 1,
				o->layer_count);
		rc = run_layer(run, l, err);
		if (rc)
			return rc;
	}
	for (uint32_t l = 0; l < o->layer_count; l++) {
		size_t bytes = run->record.bytes;
		uint8_t *all = run->records ? run->records + l * (size_t)run->world * bytes : NULL;
		int rc = moe_gather_run(&run->gather, run->mine + l * bytes, bytes, all, err);

		if (rc)
			return rc;
	}
	return 0;
}

/* ---- rank 0 ---- */

static int verify(struct moe_run *run, struct moe_report *report, uint16_t *hidden,
		  struct moe_error *err)
{
	struct moe_weights_opts opts = {
		.expert_count = run->opts->config.experts,
		.experts_resident = run->opts->config.topk, /* each is asked for about once */
	};
	struct moe_weights *all;
	int rc;

	report->weights_bytes = moe_weights_bytes(run->weights);
	moe_weights_close(run->weights);
	run->weights = NULL;
	rc = open_weights(run, &opts, 1, &all, err);
	if (rc)
		return rc;
	memcpy(hidden, run->input.hidden,
	       (size_t)run->tokens_all * run->opts->config.hidden * sizeof(*hidden));
	rc = moe_verify(report, &run->placement, all, run->team, run->tokens_all, hidden,
			run->input.topk_ids, run->input.topk_weights, run->checks, err);
	moe_weights_close(all);
	return rc;
}

static int use_all_cores(struct moe_run *run, struct moe_error *err)
{
	moe_team_destroy(run->team);
	run->team = NULL;
	return moe_team_create(moe_bind_cores(0, 1), NULL, &run->team, err);
}

/* The other ranks are done: rank 0 writes, checks with every core, and reports. */
static int finish(struct moe_run *run, struct moe_report *report, struct moe_error *err)
{
	uint16_t *hidden = malloc(((size_t)run->tokens_all + 1) * run->opts->config.hidden *
				  sizeof(*hidden));
	int rc = hidden ? 0
			: moe_error_set(err, -ENOMEM, "no memory for %u tokens", run->tokens_all);

	report->records = run->records;
	report->weights_bytes = moe_weights_bytes(run->weights);
	if (!rc && run->opts->output)
		rc = moe_run_write_output(run, hidden, err);
	if (!rc && run->opts->record)
		rc = moe_run_record(run, run->opts->record, err);
	if (!rc && run->opts->check)
		rc = use_all_cores(run, err);
	if (!rc && run->opts->check)
		rc = verify(run, report, hidden, err);
	free(hidden);
	return rc;
}

static void say(const struct moe_run *run, const struct moe_error *err)
{
	fprintf(stderr, "accel-moe: rank %d: %s\n", run->rank, err->text);
}

/* The environment's options may have asked for that: a rank that was not heard from is left out. */
static void say_masked(const struct moe_run *run)
{
	uint64_t missing[ACCEL_RANKS_MAX / 64] = {0};

	if (!run->layer.exchange->ep || accel_ep_masks_get(run->layer.exchange->ep, missing) <= 0)
		return;
	for (int r = 0; r < run->world; r++)
		if (missing[r / 64] >> r % 64 & 1)
			fprintf(stderr, "accel-moe: rank %d: went on without rank %d\n", run->rank,
				r);
}

static int exit_of(int code, const struct moe_error *err)
{
	switch (code) {
	case 0:
		return MOE_EXIT_PASS;
	case -EINVAL:
	case -E2BIG:
	case -EOVERFLOW:
		return MOE_EXIT_USAGE;
	case -ETIMEDOUT:
	case -ECONNRESET:
	case -ESHUTDOWN:
	case -ESTALE:
	case -ECANCELED:
	case -EPROTO:
		return MOE_EXIT_PEER;
	case -EIO: /* of the path to a peer, or of a file */
		return err->rank >= 0 ? MOE_EXIT_PEER : MOE_EXIT_MISSING;
	default:
		return MOE_EXIT_MISSING;
	}
}

/* Where a launcher has put this process. */
struct place {
	const char *launcher;
	int rank, local_rank, world;
};

/* port: of the store; 0: as the launcher says. */
static int run_as(const struct moe_run_opts *opts, const struct place *place, int port,
		  unsigned threads)
{
	struct moe_run run = {.opts = opts,
			      .rank = place->rank,
			      .local_rank = place->local_rank,
			      .world = place->world,
			      .threads = threads,
			      .launcher = place->launcher};
	struct moe_report report = {.opts = opts,
				    .record = &run.record,
				    .world = (uint32_t)place->world,
				    .threads = threads,
				    .launcher = place->launcher};
	char transport[MOE_TRANSPORT_BYTES];
	struct moe_error err = {0};
	int rc = set_up(&run, port, &err);

	report.transport = moe_run_transport(&run, transport);
	if (!rc)
		rc = run_layers(&run, &err);
	if (!rc)
		say_masked(&run);
	if (!rc && run.rank == 0)
		rc = finish(&run, &report, &err);
	if (rc)
		say(&run, &err);
	if (run.rank == 0) {
		bool passed;

		report.checks = run.checks;
		report.failure = rc ? &err : NULL;
		report.ep_sizes.size = sizeof(report.ep_sizes);
		if (!rc)
			moe_rank_sizes(&run.layer, &report.ep_sizes);
		if (opts->json && moe_report_json(&report, opts->json, &err))
			say(&run, &err);
		if (!opts->json || strcmp(opts->json, "-"))
			moe_report_print(&report);
		passed = moe_report_passed(&report);
		tear_down(&run);
		return rc ? exit_of(rc, &err) : passed ? MOE_EXIT_PASS : MOE_EXIT_FAIL;
	}
	tear_down(&run);
	return exit_of(rc, &err);
}

static int run_local(void *arg, int rank, int world, int port, unsigned threads)
{
	const struct place place = {"local", rank, rank, world};

	return run_as(arg, &place, port, threads);
}

/* A whole number from the environment, or -1. */
static int number_of(const char *text)
{
	char *end;
	long number = text ? strtol(text, &end, 10) : -1;

	return text && *text >= '0' && *text <= '9' && !*end && number <= INT_MAX ? (int)number
										  : -1;
}

/*
 * Rank and world by PMIx, which tells them to groups: one is made for that alone, since the weights
 * are read, for which they are needed, before the ranks meet to run.
 */
static int ask_pmix(const struct moe_run_opts *opts, int *rank, int *world, struct moe_error *err)
{
	struct accel_group_opts group_opts = {
		.size = sizeof(group_opts), .name = "launch", .timeout_ns = opts->timeout_ns};
	struct accel_group_info info = {.size = sizeof(info)};
	struct accel_group *group = NULL;
	struct accel_device *dev = NULL;
	int rc = accel_device_open("host", &dev);

	if (!rc)
		rc = accel_group_create(dev, -1, -1, &group_opts, &group);
	if (rc)
		moe_error_accel(err, NULL, rc, NULL);
	else
		accel_group_info_get(group, &info);
	accel_group_destroy(group);
	accel_device_close(dev);
	*rank = info.rank;
	*world = info.world;
	return rc;
}

/*
 * RANK and WORLD_SIZE, as torchrun and Kubernetes jobs set them, else PMIx. LOCAL_* decide the share
 * of the cores; without them, all ranks share those that the launcher left to this one.
 */
static int run_launched(const struct moe_run_opts *opts)
{
	const char *env_rank = getenv("RANK"), *env_world = getenv("WORLD_SIZE");
	int local_world = number_of(getenv("LOCAL_WORLD_SIZE"));
	bool by_env = env_rank && env_world;
	struct place place = {
		.launcher = by_env ? "env" : "pmix",
		.rank = number_of(env_rank),
		.local_rank = number_of(getenv("LOCAL_RANK")),
		.world = number_of(env_world),
	};
	struct moe_error err = {0};
	unsigned cores;

	if (!by_env) {
		int rc = ask_pmix(opts, &place.rank, &place.world, &err);

		if (rc) {
			fprintf(stderr, "accel-moe run: %s\n", err.text);
			return exit_of(rc, &err);
		}
	} else if (place.world < 1 || place.world > ACCEL_RANKS_MAX || place.rank < 0 ||
		   place.rank >= place.world) {
		fprintf(stderr,
			"accel-moe run: RANK=%s and WORLD_SIZE=%s: not a rank of a world of 1 to %d\n",
			env_rank, env_world, ACCEL_RANKS_MAX);
		return MOE_EXIT_USAGE;
	}
	if (place.local_rank < 0)
		place.local_rank = place.rank;
	cores = moe_bind_cores(place.local_rank, local_world < 1 ? place.world : local_world);
	return run_as(opts, &place, 0, opts->threads ? opts->threads : cores);
}

/* -1, or the exit code of --help or of a command line that is wrong. */
static int parse(struct moe_run_opts *opts, int argc, char **argv)
{
	struct moe_error err = {0};
	int rc = moe_run_opts_parse(opts, argc, argv, &err);

	if (rc > 0)
		return MOE_EXIT_PASS;
	if (!rc)
		return -1;
	fprintf(stderr, "accel-moe run: %s\n", err.text);
	return rc == -ENOENT ? MOE_EXIT_MISSING : MOE_EXIT_USAGE;
}

int moe_run_mpi(int argc, char **argv, const struct moe_mpi *mpi)
{
	struct moe_run_opts opts;
	const struct place place = {mpi->name, mpi->rank, mpi->rank, mpi->world};
	int rc = parse(&opts, argc, argv);
	unsigned cores;

	if (rc >= 0)
		return rc;
	opts.mpi = mpi;
	cores = moe_bind_cores(mpi->rank, mpi->world);
	return run_as(&opts, &place, 0, opts.threads ? opts.threads : cores);
}

static bool needs_mpi(const struct moe_run_opts *opts)
{
	for (uint32_t x = 0; x < opts->exchange_count; x++)
		if (moe_exchange_is_mpi(opts->exchanges[x]))
			return true;
	return false;
}

int moe_run(const struct moe_run_opts *opts)
{
	struct moe_error err = {0};
	int rc;

	if (needs_mpi(opts)) {
		fprintf(stderr, "accel-moe: alltoallv, put and window are for accel-moe run alone; "
				"routing is the same over each exchange: leave --exchange out\n");
		return MOE_EXIT_USAGE;
	}
	if (!opts->ranks)
		return run_launched(opts);
	rc = moe_launch_local((int)opts->ranks, opts->threads, run_local, (void *)opts, &err);
	if (rc >= 0)
		return rc;
	fprintf(stderr, "accel-moe run: %s\n", err.text);
	return MOE_EXIT_MISSING;
}

int moe_run_main(int argc, char **argv)
{
	struct moe_run_opts opts;
	struct moe_error err = {0};
	int rc = parse(&opts, argc, argv);

	if (rc >= 0)
		return rc;
	if (needs_mpi(&opts)) {
		rc = moe_launch_mpi(opts.mpi_name, opts.ranks, argc, argv, &err);
		fprintf(stderr, "accel-moe run: %s\n", err.text);
		return rc == -EINVAL ? MOE_EXIT_USAGE : MOE_EXIT_MISSING;
	}
	return moe_run(&opts);
}
