// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Measuring one case; see perf_case.h. A sample: the producers write every line of the rows
 * again, all meet, each notes the time, does its part, notes the time, and all meet again, so
 * that nobody's next step disturbs another's.
 */
#include "perf_case.h"

#include "perf_ep.h"
#include "perf_floor.h"
#include "perf_machine.h"
#include "perf_peers.h"
#include "perf_rows.h"

#include <accel/accel_ep.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	RECEIVES = 2, /* PERF_IN_PLACE, PERF_LANDED */
	/* Of a rank, over routings: making rows and comparing them takes longer than moving them. */
	CHECKED_TOKENS_MAX = 1024,
	ROUNDS_TRIED = 4,
};

struct side { /* what one rank has */
	const struct perf_case *c;
	struct perf_case_out *out;
	struct perf_rank *self;
	const struct k_ops *ops;
	struct accel_device *dev;
	struct accel_group *group;
	struct accel_buffer *buffer[2];
	uint8_t *x;
	float *scales;
	int32_t *ids[PERF_ROUTINGS];
	float *weights[PERF_ROUTINGS];
	uint16_t *sums,
		*expected[2]; /* [T,H]; of combine and of echo, of the routing being checked */
	struct perf_floor *floor;
	struct accel_ep *ep[RECEIVES];
	uint16_t *y[RECEIVES];
	void *peer[PERF_PEERS];
	struct perf_stamp unused; /* of tracks the case does not have */
};

/* What came by whatever method. */
struct round {
	struct perf_received got;
	const uint32_t *expert_row, *expert_k; /* accel by expert alone */
	uint32_t results;
};

static const char *method_name(const struct perf_case *c, enum perf_method m)
{
	static const char *const name[] = {"in place", "landed", "floor"};

	return m < PERF_PEER ? name[m] : c->peers->method[m - PERF_PEER];
}

const char *perf_rows_name(const struct perf_case *c)
{
	static const char *const name[] = {"bf16", "fp8", "quantised"};

	return name[c->rows];
}

unsigned perf_samples_of(uint32_t tokens)
{
	return tokens <= 32 ? 200 : tokens <= 512 ? 50 : 11;
}

size_t perf_case_out_bytes(const struct perf_case *c)
{
	return sizeof(struct perf_case_out) +
	       sizeof(struct perf_stamp) * PERF_TRACKS * c->samples * (size_t)c->world;
}

struct perf_stamp *perf_case_stamps(const struct perf_case *c, struct perf_case_out *out,
				    unsigned track, unsigned sample)
{
	return &out->stamp[((size_t)track * c->samples + sample) * (size_t)c->world];
}

static void ep_opts(const struct perf_case *c, enum perf_method receive, struct accel_ep_opts *opts)
{
	*opts = (struct accel_ep_opts){
		.size = sizeof(*opts),
		.dtype = c->rows == PERF_ROWS_BF16 ? ACCEL_DTYPE_BF16 : ACCEL_DTYPE_FP8_E4M3,
		.receive = receive == PERF_LANDED ? ACCEL_RECEIVE_LANDED : ACCEL_RECEIVE_IN_PLACE,
		.combine_input = c->by_expert ? ACCEL_COMBINE_EXPERT : ACCEL_COMBINE_RANK,
		.lanes = 1,
		.huge = c->huge ? ACCEL_HUGE_NEED : ACCEL_HUGE_NEVER,
		.remote_ranks = c->wire ? (uint32_t)c->world - 1 : 0,
	};
}

uint64_t perf_case_bytes(const struct perf_case *c, char *why, size_t why_bytes)
{
	uint64_t routing = (uint64_t)c->tokens *
			   (8 * (uint64_t)c->topk * PERF_ROUTINGS + 4 * (uint64_t)c->experts);
	uint64_t bytes = perf_floor_bytes(c) + routing;

	/* x, its scales, the sums and what they should be */
	bytes += c->tokens * (perf_row_bytes(c) + perf_scale_bytes(c) + 4 * perf_wide_bytes(c));
	for (int m = 0; m < RECEIVES; m++) {
		struct accel_ep_sizes sizes = {.size = sizeof(sizes)};
		struct accel_error error = {.size = sizeof(error)};
		struct accel_ep_opts opts;

		if (!(c->methods & 1u << m))
			continue;
		ep_opts(c, (enum perf_method)m, &opts);
		if (accel_ep_size_get(0, c->world, c->hidden, c->topk, c->experts, c->tokens, &opts,
				      &sizes)) {
			accel_error_get(NULL, &error);
			snprintf(why, why_bytes, "%s", error.text);
			return 0;
		}
		bytes += sizes.total_bytes;
	}
	for (unsigned i = 0; i < PERF_PEERS; i++)
		if (c->methods & 1u << (PERF_PEER + i))
			bytes += c->peers->bytes(c, i);
	return bytes * (uint64_t)c->world;
}

/* ---- setting up ---- */

static void must(struct side *s, int rc, const void *obj, int code, const char *what)
{
	struct accel_error error = {.size = sizeof(error)};

	if (rc >= 0)
		return;
	accel_error_get(obj, &error);
	perf_rank_fail(s->self, code, "%s: %s", what,
		       error.code == rc ? error.text : strerror(-rc));
}

static void *private_memory(struct side *s, size_t bytes)
{
	void *memory = perf_private_map(bytes, s->c->huge);

	if (!memory)
		perf_rank_fail(s->self, PERF_MISSING, "no memory for %zu bytes%s", bytes,
			       s->c->huge
				       ? " of 2 MiB pages; reserve some with sysctl vm.nr_hugepages"
				       : "");
	return memory;
}

static void *shared_rows(struct side *s, int which, size_t bytes)
{
	const struct accel_buffer_opts opts = {
		.size = sizeof(opts), .huge = s->c->huge ? ACCEL_HUGE_NEED : ACCEL_HUGE_NEVER};

	must(s, accel_buffer_create(s->dev, bytes ? bytes : 1, &opts, &s->buffer[which]), NULL,
	     PERF_MISSING, "accel_buffer_create");
	return accel_buffer_addr(s->buffer[which]);
}

static void make_rows(struct side *s)
{
	const struct perf_case *c = s->c;
	bool wide = c->rows != PERF_ROWS_FP8;
	size_t row_bytes = wide ? perf_wide_bytes(c) : perf_row_bytes(c);

	s->x = shared_rows(s, 0, c->tokens * row_bytes);
	s->scales = wide ? NULL : shared_rows(s, 1, c->tokens * perf_scale_bytes(c));
	for (uint32_t t = 0; t < c->tokens; t++) {
		if (wide)
			perf_row_make(c, s->self->rank, t, PERF_TAG_INPUT,
				      (uint16_t *)(s->x + t * row_bytes));
		else
			perf_row_travelling(c, s->self->rank, t, s->x + t * row_bytes,
					    s->scales + t * perf_blocks(c));
	}
}

static void count_routing(struct side *s, const int32_t *ids)
{
	const struct perf_case *c = s->c;
	uint64_t rows = 0;

	for (uint32_t t = 0; t < c->tokens; t++) {
		bool goes[PERF_RANKS_MAX] = {false};

		for (uint32_t k = 0; k < c->topk; k++) {
			int owner = perf_owner(c, ids[(size_t)t * c->topk + k]);

			rows += !goes[owner];
			goes[owner] = true;
		}
	}
	atomic_fetch_add(&s->out->rows, rows);
	atomic_fetch_add(&s->out->entries, (uint64_t)c->tokens * c->topk);
}

static void make_routings(struct side *s)
{
	const struct perf_case *c = s->c;
	size_t choices = (size_t)c->tokens * c->topk;
	float *logits = calloc((size_t)c->tokens * c->experts, sizeof(*logits));

	for (unsigned i = 0; i < PERF_ROUTINGS; i++) {
		s->ids[i] = calloc(choices, sizeof(*s->ids[i]));
		s->weights[i] = calloc(choices, sizeof(*s->weights[i]));
		if (!logits || !s->ids[i] || !s->weights[i])
			perf_rank_fail(s->self, PERF_MISSING,
				       "no memory for the routing of %u tokens", c->tokens);
		if (perf_routing_make(c, s->ops, s->self->rank, i, logits, s->ids[i],
				      s->weights[i]))
			perf_rank_fail(s->self, PERF_USAGE,
				       "the kept groups hold fewer experts than a token chooses");
		count_routing(s, s->ids[i]);
	}
	free(logits);
}

static void make_context(struct side *s, enum perf_method m)
{
	const struct perf_case *c = s->c;
	struct accel_ep_output output = {.size = sizeof(output)};
	struct accel_ep_info info = {.size = sizeof(info)};
	struct accel_ep_opts opts;

	ep_opts(c, m, &opts);
	must(s,
	     accel_ep_create(s->group, c->hidden, c->topk, c->experts, c->tokens, &opts, &s->ep[m]),
	     NULL, PERF_MISSING, "accel_ep_create");
	must(s, accel_ep_output_get(s->ep[m], 0, &output), s->ep[m], PERF_FAIL,
	     "accel_ep_output_get");
	s->y[m] = output.y;
	accel_ep_info_get(s->ep[m], &info);
	s->out->page_bytes = info.window_page_bytes;
}

static void make_peers(struct side *s)
{
	for (unsigned i = 0; i < PERF_PEERS; i++) {
		if (!(s->c->methods & 1u << (PERF_PEER + i)))
			continue;
		s->peer[i] = s->c->peers->create(s->c, i, s->self->meeting->crowded);
		if (!s->peer[i])
			perf_rank_fail(s->self, PERF_MISSING, "no memory for %s",
				       s->c->peers->method[i]);
	}
}

static void make_group(struct side *s)
{
	const struct perf_devices *devices = s->c->devices;
	struct accel_group_opts opts = {
		.size = sizeof(opts),
		.allgather = perf_rank_allgather,
		.allgather_arg = s->self,
		.transports = s->c->transports,
		.verbs_devices = devices->count
					 ? devices->name[(unsigned)s->self->rank % devices->count]
					 : NULL,
	};
	struct accel_group_info info = {.size = sizeof(info)};

	must(s, accel_device_open(s->c->device, &s->dev), NULL, PERF_MISSING, "accel_device_open");
	must(s, accel_group_create(s->dev, s->self->rank, s->self->world, &opts, &s->group), NULL,
	     PERF_MISSING, "accel_group_create");
	accel_group_info_get(s->group, &info);
	snprintf(s->out->transport, sizeof(s->out->transport), "%s", info.transport);
}

static void set_up(struct side *s)
{
	size_t sums_bytes = s->c->tokens * perf_wide_bytes(s->c);

	s->ops = k_ops_get(NULL);
	make_group(s);
	s->sums = private_memory(s, sums_bytes);
	for (int echo = 0; echo < 2; echo++)
		s->expected[echo] = private_memory(s, sums_bytes);
	make_rows(s);
	make_routings(s);
	if (s->c->methods & 1u << PERF_FLOOR &&
	    perf_floor_create(s->c, s->ops, s->self->rank, &s->floor))
		perf_rank_fail(s->self, PERF_MISSING, "no memory for the floors");
	for (int m = 0; m < RECEIVES; m++)
		if (s->c->methods & 1u << m)
			make_context(s, (enum perf_method)m);
	make_peers(s);
}

static void tear_down(struct side *s)
{
	for (unsigned i = 0; i < PERF_PEERS; i++)
		if (s->peer[i])
			s->c->peers->destroy(s->peer[i]);
	for (int m = 0; m < RECEIVES; m++)
		accel_ep_destroy(s->ep[m]);
	accel_group_destroy(s->group);
	accel_buffer_destroy(s->buffer[0]);
	accel_buffer_destroy(s->buffer[1]);
	accel_device_close(s->dev);
}

/* ---- the steps of a round ---- */

static void dispatch_accel(struct side *s, enum perf_method m, unsigned routing,
			   struct round *round)
{
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	const struct accel_ep_input input = {
		.size = sizeof(input),
		.tokens = s->c->tokens,
		.x_dtype = s->c->rows == PERF_ROWS_FP8 ? ACCEL_DTYPE_FP8_E4M3 : ACCEL_DTYPE_BF16,
		.x = s->x,
		.scales = s->scales,
		.topk_idx = s->ids[routing],
		.topk_weights = s->weights[routing],
	};

	must(s, accel_ep_dispatch(s->ep[m], 0, &input, -1, &recv), s->ep[m], PERF_FAIL,
	     "accel_ep_dispatch");
	*round = (struct round){
		.got = {recv.rows, recv.row, recv.scale, recv.src_rank, recv.src_token, s->y[m]},
		.expert_row = recv.expert_row,
		.expert_k = recv.expert_k,
		.results = s->c->by_expert ? recv.entries : recv.rows,
	};
}

static void dispatch(struct side *s, enum perf_method m, unsigned routing, struct round *round)
{
	const struct perf_sent sent = {
		.tokens = s->c->tokens,
		.x = s->x,
		.scales = s->scales,
		.ids = s->ids[routing],
		.weights = s->weights[routing],
	};

	if (m < PERF_PEER) {
		dispatch_accel(s, m, routing, round);
		return;
	}
	s->c->peers->dispatch(s->peer[m - PERF_PEER], &sent, &round->got);
	round->results = round->got.rows;
}

static void combine(struct side *s, enum perf_method m)
{
	if (m >= PERF_PEER)
		s->c->peers->combine(s->peer[m - PERF_PEER], s->sums);
	else
		must(s, accel_ep_combine(s->ep[m], 0, NULL, -1, s->sums, 0, NULL), s->ep[m],
		     PERF_FAIL, "accel_ep_combine");
}

/* This rank's own rows first, so that the ranks do not all begin with the memory of rank 0. */
static void run_experts(struct side *s, const struct perf_received *got)
{
	uint32_t n = 0;

	while (n < got->rows && got->src_rank[n] != s->self->rank)
		n++;
	for (uint32_t done = 0; done < got->rows; done++, n++) {
		if (n >= got->rows)
			n = 0;
		perf_identity(s->c, s->ops, got->row[n], got->scale ? got->scale[n] : NULL,
			      got->y + (size_t)n * s->c->hidden);
	}
}

/* ---- checking ---- */

static void check_received(struct side *s, enum perf_method m, const struct perf_received *got)
{
	const struct perf_case *c = s->c;
	uint8_t row[2 * ACCEL_HIDDEN_MAX];
	float scales[ACCEL_HIDDEN_MAX / 128];

	for (uint32_t n = 0; n < got->rows; n++) {
		perf_row_travelling(c, got->src_rank[n], (uint32_t)got->src_token[n], row, scales);
		if (memcmp(got->row[n], row, perf_row_bytes(c)) ||
		    (got->scale && memcmp(got->scale[n], scales, perf_scale_bytes(c))))
			perf_rank_fail(
				s->self, PERF_FAIL,
				"received %s, row %u is not token %d of rank %d as it was sent",
				method_name(c, m), n, got->src_token[n], got->src_rank[n]);
	}
}

/* Rows that tell their token and expert, so that a sum of the wrong ones is seen. */
static void return_tagged(struct side *s, const struct round *round)
{
	const struct perf_received *got = &round->got;

	for (uint32_t i = 0; i < round->results; i++) {
		uint32_t n = s->c->by_expert ? round->expert_row[i] : i;
		int tag = s->c->by_expert ? (int)round->expert_k[i] : s->self->rank;

		perf_row_make(s->c, got->src_rank[n], (uint32_t)got->src_token[n], tag,
			      got->y + (size_t)i * s->c->hidden);
	}
}

static void check_sums(struct side *s, const char *method, bool echo)
{
	const struct perf_case *c = s->c;

	for (uint32_t t = 0; t < c->tokens; t++)
		if (memcmp(s->sums + (size_t)t * c->hidden,
			   s->expected[echo] + (size_t)t * c->hidden, perf_wide_bytes(c)))
			perf_rank_fail(s->self, PERF_FAIL,
				       "%s, %s: the sum of token %u differs from the reference",
				       echo ? "echo" : "combine", method, t);
	memset(s->sums, 0, c->tokens * perf_wide_bytes(c));
}

static void expect(struct side *s, unsigned routing)
{
	for (int echo = 0; echo < 2; echo++)
		if (perf_expect(s->c, s->self->rank, echo, s->ids[routing], s->weights[routing],
				s->expected[echo]))
			perf_rank_fail(s->self, PERF_MISSING,
				       "no memory to check the results with");
}

static void check_exchange(struct side *s, enum perf_method m, unsigned routing)
{
	struct round round;

	dispatch(s, m, routing, &round);
	check_received(s, m, &round.got);
	return_tagged(s, &round);
	combine(s, m);
	check_sums(s, method_name(s->c, m), false);
	if (!perf_case_has(s->c, PERF_ECHO, m))
		return;
	dispatch(s, m, routing, &round);
	run_experts(s, &round.got);
	combine(s, m);
	check_sums(s, method_name(s->c, m), true);
}

static void check_floor(struct side *s, unsigned routing)
{
	perf_floor_dispatch(s->floor, s->ids[routing], s->weights[routing]);
	if (!perf_floor_is_dispatched(s->floor))
		perf_rank_fail(s->self, PERF_FAIL, "the floor of dispatch did not copy every row");
	if (!perf_case_has(s->c, PERF_ECHO, PERF_FLOOR))
		return;
	perf_floor_echo(s->floor, s->ids[routing], s->sums);
	check_sums(s, "floor", true);
}

/* Is the method one that the case has and is not too slow for it, other than the floor? */
static bool exchanges(const struct side *s, enum perf_method m)
{
	return m != PERF_FLOOR && s->c->methods & 1u << m && !s->out->too_slow_ns[m];
}

/* Time of a round that the slowest rank sees, of all ranks together. */
static int64_t round_ns(struct side *s, enum perf_method m)
{
	struct round round;
	int64_t ns;

	perf_rank_meet(s->self);
	ns = perf_now_ns();
	dispatch(s, m, 0, &round);
	run_experts(s, &round.got);
	combine(s, m);
	perf_rank_meet(s->self);
	return perf_now_ns() - ns;
}

/*
 * An MPI whose ranks share cores may take milliseconds for each wait. The fastest of a few rounds, of
 * which the first connects, tells whether all samples would take too long.
 */
static void leave_out_slow(struct side *s)
{
	for (int m = PERF_PEER; m < PERF_METHODS; m++) {
		int64_t best = INT64_MAX, all[PERF_RANKS_MAX];

		if (!exchanges(s, (enum perf_method)m))
			continue;
		for (int i = 0; i < ROUNDS_TRIED; i++) {
			int64_t ns = round_ns(s, (enum perf_method)m);

			best = ns < best ? ns : best;
		}
		perf_rank_allgather(s->self, &best, all, sizeof(best));
		if (2 * all[0] * s->c->samples / 1000000000 >= s->c->peer_seconds_max)
			s->out->too_slow_ns[m] = all[0];
	}
}

static void check(struct side *s)
{
	const struct perf_case *c = s->c;
	unsigned routings = c->tokens ? CHECKED_TOKENS_MAX / c->tokens : PERF_ROUTINGS;

	for (unsigned i = 0; i < PERF_ROUTINGS && i < c->samples && (!i || i < routings); i++) {
		expect(s, i);
		for (int m = 0; m < PERF_METHODS; m++)
			if (exchanges(s, (enum perf_method)m))
				check_exchange(s, (enum perf_method)m, i);
		if (s->floor)
			check_floor(s, i);
	}
}

/* ---- timing ---- */

struct sample { /* being taken */
	struct side *s;
	struct accel_ep *ep; /* NULL: a floor, or a peer */
	struct perf_moved *moved;
	struct perf_stamp *stamp;
	struct accel_ep_stats before;
};

static void sample_begin(struct sample *sample, struct side *s, enum perf_op op, enum perf_method m,
			 unsigned number)
{
	unsigned track = perf_track(op, m);
	bool wanted = perf_case_has(s->c, op, m);

	sample->s = s;
	sample->ep = m < PERF_FLOOR && wanted ? s->ep[m] : NULL;
	sample->moved = &s->out->moved[track];
	sample->stamp = wanted ? perf_case_stamps(s->c, s->out, track, number) + s->self->rank
			       : &s->unused;
	sample->before = (struct accel_ep_stats){.size = sizeof(sample->before)};
	if (sample->ep)
		accel_ep_stats_get(sample->ep, &sample->before);
	perf_rank_meet(s->self);
	sample->stamp->begin_ns = perf_now_ns();
}

static void sample_end(struct sample *sample)
{
	struct accel_ep_stats after = {.size = sizeof(after)};

	sample->stamp->end_ns = perf_now_ns();
	if (sample->s->self->apart) {
		sample->stamp->end_ns -= sample->stamp->begin_ns;
		sample->stamp->begin_ns = 0;
	}
	perf_rank_meet(sample->s->self);
	if (!sample->ep)
		return;
	accel_ep_stats_get(sample->ep, &after);
	atomic_fetch_add(&sample->moved->bytes_wire, after.bytes_wire - sample->before.bytes_wire);
	atomic_fetch_add(&sample->moved->bytes_landed,
			 after.bytes_landed - sample->before.bytes_landed);
	atomic_fetch_add(&sample->moved->bytes_quantised,
			 after.bytes_quantised - sample->before.bytes_quantised);
	atomic_fetch_add(&sample->moved->bytes_staged,
			 after.bytes_staged - sample->before.bytes_staged);
	atomic_fetch_add(&sample->moved->maps, after.maps - sample->before.maps);
	atomic_fetch_add(&sample->moved->work_requests,
			 after.work_requests - sample->before.work_requests);
}

static void rewrite_x(struct side *s)
{
	const struct perf_case *c = s->c;

	perf_rewrite(s->x, c->tokens * (s->scales ? perf_row_bytes(c) : perf_wide_bytes(c)));
	if (s->scales)
		perf_rewrite(s->scales, c->tokens * perf_scale_bytes(c));
}

static void sample_exchange(struct side *s, enum perf_method m, unsigned number)
{
	struct round round;
	unsigned routing = number % PERF_ROUTINGS;
	struct sample sample;

	rewrite_x(s);
	sample_begin(&sample, s, PERF_DISPATCH, m, number);
	dispatch(s, m, routing, &round);
	sample_end(&sample);

	perf_rewrite(round.got.y, round.results * perf_wide_bytes(s->c));
	sample_begin(&sample, s, PERF_COMBINE, m, number);
	combine(s, m);
	sample_end(&sample);

	if (!perf_case_has(s->c, PERF_ECHO, m))
		return;
	rewrite_x(s);
	sample_begin(&sample, s, PERF_ECHO, m, number);
	dispatch(s, m, routing, &round);
	run_experts(s, &round.got);
	combine(s, m);
	sample_end(&sample);
}

static void sample_floor_op(struct side *s, enum perf_op op, unsigned number)
{
	const int32_t *ids = s->ids[number % PERF_ROUTINGS];
	const float *weights = s->weights[number % PERF_ROUTINGS];
	struct sample sample;

	if (!perf_case_has(s->c, op, PERF_FLOOR))
		return;
	if (op == PERF_COMBINE)
		perf_floor_lists(s->floor, ids, weights);
	perf_floor_rewrite(s->floor, op);
	sample_begin(&sample, s, op, PERF_FLOOR, number);
	if (op == PERF_DISPATCH)
		perf_floor_dispatch(s->floor, ids, weights);
	else if (op == PERF_COMBINE)
		perf_floor_combine(s->floor, s->sums);
	else if (op == PERF_ECHO)
		perf_floor_echo(s->floor, ids, s->sums);
	else
		perf_floor_quant(s->floor);
	sample_end(&sample);
}

static void body(struct perf_rank *self, void *arg)
{
	struct side s = *(struct side *)arg;

	s.self = self;
	set_up(&s);
	leave_out_slow(&s);
	check(&s);
	for (unsigned number = 0; number < s.c->samples; number++) {
		for (int m = 0; m < PERF_METHODS; m++)
			if (exchanges(&s, (enum perf_method)m))
				sample_exchange(&s, (enum perf_method)m, number);
		for (int op = 0; op < PERF_OPS && s.floor; op++)
			sample_floor_op(&s, (enum perf_op)op, number);
	}
	tear_down(&s);
}

int perf_case_run(const struct perf_case *c, struct perf_case_out *out)
{
	struct side side = {.c = c, .out = out};
	const size_t same_bytes = offsetof(struct perf_case_out, moved);
	int code = perf_ranks_run(c->world, body, &side);

	if (!code)
		perf_shared_sum((uint64_t *)out->moved,
				(perf_case_out_bytes(c) - same_bytes) / sizeof(uint64_t));
	return code;
}
