// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * One process follows the layers by itself, from the same input: nothing that the ranks computed
 * feeds into it.
 */
#include "verify.h"

#include <accel_num.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "reference.h"

enum { SAMPLE_ROWS = 4 }; /* the plain kernels take about a second a row of R1's geometry */

struct verify {
	const struct moe_report *report;
	struct moe_reference fast, plain;
	struct moe_team *team;
	uint32_t tokens;
	uint16_t *hidden, *x, *moe_out, *ranks_out;
	int32_t *ids;
	float *topk_weights, *scores;
};

static void verify_fini(struct verify *v)
{
	moe_reference_fini(&v->fast);
	moe_reference_fini(&v->plain);
	free(v->x);
	free(v->moe_out);
	free(v->ranks_out);
	free(v->ids);
	free(v->topk_weights);
	free(v->scores);
}

static int verify_init(struct verify *v, const struct moe_placement *placement,
		       struct moe_weights *weights, struct moe_error *err)
{
	const struct moe_run_opts *o = v->report->opts;
	size_t tokens = v->tokens + 1, row = (size_t)o->config.hidden * sizeof(*v->x);
	int rc;

	v->x = malloc(tokens * row);
	v->moe_out = malloc(tokens * row);
	v->ranks_out = calloc(tokens, row);
	v->ids = malloc(tokens * o->config.topk * sizeof(*v->ids));
	v->topk_weights = malloc(tokens * o->config.topk * sizeof(*v->topk_weights));
	v->scores = malloc(tokens * o->config.experts * sizeof(*v->scores));
	if (!v->x || !v->moe_out || !v->ranks_out || !v->ids || !v->topk_weights || !v->scores)
		return moe_error_set(err, -ENOMEM, "no memory to check %u tokens", v->tokens);
	rc = moe_reference_init(&v->fast, NULL, &o->config, placement, weights, v->team, o->fp8,
				err);
	if (!rc)
		rc = moe_reference_init(&v->plain, "ref", &o->config, placement, weights, v->team,
					o->fp8, err);
	return rc;
}

/* moe_out of all ranks in rank order. */
static void collect(struct verify *v, uint32_t layer)
{
	const struct moe_report *r = v->report;
	size_t row = (size_t)r->record->hidden * sizeof(*v->ranks_out);
	uint8_t *to = (uint8_t *)v->ranks_out;

	for (uint32_t rank = 0; rank < r->world; rank++) {
		const uint8_t *record = r->records +
					((size_t)layer * r->world + rank) * r->record->bytes;
		size_t bytes = ((const struct moe_record_head *)record)->tokens * row;

		memcpy(to, record + r->record->moe_out, bytes);
		to += bytes;
	}
}

static int descending(const void *a, const void *b)
{
	float left = *(const float *)a, right = *(const float *)b;

	return (left < right) - (left > right);
}

/* How far the last of the kept largest values is from the first that is left out; sorts. */
static float margin(float *values, uint32_t count, uint32_t kept)
{
	qsort(values, count, sizeof(*values), descending);
	return kept < count ? values[kept - 1] - values[kept] : INFINITY;
}

/* Whether another way to sum a logit could have chosen otherwise. scores [E], of one token. */
static bool near_tie(const struct moe_config *c, const float *bias, const float *scores)
{
	uint32_t size = c->experts / c->groups, kept = 0;
	float group[K_EXPERTS_MAX], sorted[K_EXPERTS_MAX], eligible[K_EXPERTS_MAX], closest, last;

	for (uint32_t g = 0; g < c->groups; g++) {
		for (uint32_t i = 0; i < size; i++)
			sorted[i] = scores[g * size + i] + bias[g * size + i];
		qsort(sorted, size, sizeof(*sorted), descending);
		group[g] = sorted[0] + (size > 1 ? sorted[1] : 0);
	}
	memcpy(sorted, group, c->groups * sizeof(*group));
	closest = margin(sorted, c->groups, c->groups_kept);
	last = sorted[c->groups_kept - 1];
	for (uint32_t e = 0; e < c->experts; e++)
		if (group[e / size] >= last)
			eligible[kept++] = scores[e] + bias[e];
	return fminf(closest, margin(eligible, kept, c->topk)) < MOE_NEAR_TIE;
}

/* The ranks' ids and weights of a layer against those of one process. */
static void compare_routing(struct verify *v, uint32_t layer, const float *bias, const int32_t *ids,
			    const float *topk_weights, struct moe_check *check)
{
	const struct moe_report *r = v->report;
	const struct moe_config *c = &r->opts->config;

	check->routing_equal = true;
	for (uint32_t rank = 0; rank < r->world; rank++) {
		const uint8_t *record = r->records +
					((size_t)layer * r->world + rank) * r->record->bytes;
		size_t choices = ((const struct moe_record_head *)record)->tokens * (size_t)c->topk;

		check->routing_equal &= !memcmp(record + r->record->ids, ids,
						choices * sizeof(*ids)) &&
					!memcmp(record + r->record->topk_weights, topk_weights,
						choices * sizeof(*topk_weights));
		ids += choices;
		topk_weights += choices;
	}
	for (uint32_t t = 0; t < v->tokens && bias; t++)
		check->near_ties += near_tie(c, bias, v->scores + (size_t)t * c->experts);
}

static void compare_bits(struct verify *v, struct moe_check *check)
{
	size_t row = v->report->record->hidden;

	for (uint32_t t = 0; t < v->tokens; t++)
		check->rows_differ += memcmp(v->moe_out + t * row, v->ranks_out + t * row,
					     row * sizeof(*v->moe_out)) != 0;
	check->bits_equal = !check->rows_differ;
	check->done = true;
}

static double value(uint16_t bf16)
{
	uint32_t bits = accel_num_bf16_to_f32(bf16);
	float f32;

	memcpy(&f32, &bits, sizeof(f32));
	return f32;
}

static void compare_values(const uint16_t *got, const uint16_t *want, size_t width,
			   struct moe_check *check)
{
	double error = 0, norm = 0, relative;

	for (size_t i = 0; i < width; i++) {
		double difference = value(got[i]) - value(want[i]);

		error += difference * difference;
		norm += value(want[i]) * value(want[i]);
		if (!(fabs(difference) <= check->max_abs))
			check->max_abs = fabs(difference);
	}
	relative = norm > 0 ? sqrt(error / norm) : sqrt(error);
	if (!(relative <= check->rel_l2_max)) /* NaN too */
		check->rel_l2_max = relative;
	check->rel_l2_mean += relative;
	check->rows++;
}

/* A few tokens, evenly spread, one at a time: the batch must not matter either. */
static int compare_plain(struct verify *v, uint32_t layer, const int32_t *ids, const float *weights,
			 struct moe_check *check, struct moe_error *err)
{
	size_t hidden = v->report->record->hidden, topk = v->report->record->topk;
	uint32_t rows = v->tokens < SAMPLE_ROWS ? v->tokens : SAMPLE_ROWS;
	uint16_t *plain = malloc(hidden * sizeof(*plain));
	int rc = plain ? 0 : moe_error_set(err, -ENOMEM, "no memory for a row");

	for (uint32_t i = 0; i < rows && !rc; i++) {
		size_t t = (size_t)i * v->tokens / rows;

		rc = moe_reference_layer(&v->plain, layer, (uint32_t)t, 1, v->x + t * hidden,
					 ids + t * topk, weights + t * topk, plain, err);
		if (!rc)
			compare_values(v->ranks_out + t * hidden, plain, hidden, check);
	}
	if (check->rows)
		check->rel_l2_mean /= check->rows;
	free(plain);
	return rc;
}

static int verify_layer(struct verify *v, uint32_t layer, const struct moe_layer *weights,
			const int32_t *ids, const float *topk_weights, struct moe_check *check,
			struct moe_error *err)
{
	const struct moe_run_opts *o = v->report->opts;
	bool gated = !ids;
	int rc;

	moe_layer_input(o->residual, v->tokens, o->config.hidden, o->config.norm_eps, weights->norm,
			v->hidden, v->x);
	if (gated) {
		moe_gate_run(v->fast.ffn.ops, v->team, &o->config, weights, v->tokens, v->x, v->ids,
			     v->topk_weights, v->scores);
		ids = v->ids;
		topk_weights = v->topk_weights;
	}
	rc = moe_reference_layer(&v->fast, layer, 0, v->tokens, v->x, ids, topk_weights, v->moe_out,
				 err);
	if (rc)
		return rc;
	collect(v, layer);
	compare_routing(v, layer, gated ? weights->bias : NULL, ids, topk_weights, check);
	compare_bits(v, check);
	rc = compare_plain(v, layer, ids, topk_weights, check, err);
	moe_layer_output(o->residual, v->tokens, o->config.hidden, v->moe_out, v->hidden);
	return rc;
}

static void tell(void *arg, uint64_t done, uint64_t total)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\rcheck: layer %u, %3.0f %% of one process's work%s",
			*(const uint32_t *)arg, 100.0 * (double)done / (double)total,
			done == total ? "\n" : "");
}

int moe_verify(const struct moe_report *report, const struct moe_placement *placement,
	       struct moe_weights *weights, struct moe_team *team, uint32_t tokens,
	       uint16_t *hidden, const int32_t *given_ids, const float *given_weights,
	       struct moe_check *checks, struct moe_error *err)
{
	struct verify v = {.report = report, .team = team, .tokens = tokens, .hidden = hidden};
	size_t choices = (size_t)tokens * report->opts->config.topk;
	int rc = verify_init(&v, placement, weights, err);

	for (uint32_t l = 0; l < report->opts->layer_count && !rc; l++) {
		uint32_t number = report->opts->layers[l];

		v.fast.progress = tell;
		v.fast.progress_arg = &number;
		rc = verify_layer(&v, l, moe_weights_layer(weights, l),
				  given_ids ? given_ids + l * choices : NULL,
				  given_weights ? given_weights + l * choices : NULL, &checks[l],
				  err);
	}
	verify_fini(&v);
	return rc;
}
