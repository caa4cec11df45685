// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * How an exchange becomes work requests and queue pairs, as libaccel-verbs-record.so writes them down: over
 * which rails and queue pairs a message is spread, how many requests and doorbells it takes, which of them
 * are inline or ask for a completion, what the operator's options make of a queue pair's path; and
 * what the log says of it. That the rows are right the exchange itself checks.
 *
 * Here every token goes to every rank, so that each message has as many rows as there are tokens: it
 * has three quarters of all experts, and what it lacks are never all those of one rank.
 */
#define _GNU_SOURCE
#include "nics.h"
#include "tap.h"
#include "verbs.h"

#include <accel/accel_error.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	WORLD_MAX = 4,
	HIDDEN = 256,
	ROW_BYTES = 2 * HIDDEN,
	TOKENS_MAX = 300,
	REQUESTS_MAX = 1024,
	MESSAGE_MAX = 256, /* requests of one */
	STATES_MAX = 256,
	LINES_MAX = 64, /* of the log */
	LINE_BYTES = 512,
	SPREAD_RAILS = 2, /* in the tests of spreading: those of a rank, */
	SPREAD_QPS = 2,	  /* and queue pairs on each */
	DEPTH_DEFAULT = 256,
};

/* What a rank knows of itself: where others write, where it sends from, and its queue pairs. */
struct end {
	uint64_t landed[WORLD_MAX];   /* row 0 of what each sends it */
	uint64_t returned[WORLD_MAX]; /* row 0 of the results that each sends back */
	uint64_t x, y;
	uint32_t record_bytes;
	struct {
		uint32_t num; /* 0: there is none */
		uint8_t rail;
	} qp[WORLD_MAX][ACCEL_STRIPES_MAX]; /* to each */
};

struct request {
	int from, to;
	uint32_t qp; /* in from's qp[to] */
	uint32_t rail;
	uint32_t post; /* in which call of ibv_post_send() */
	uint32_t way;  /* enum accel_way, or ACCEL_WAY_GOODBYE */
	uint32_t flags;
	uint32_t row, rows; /* of the message; a line has none */
	bool line;
	uint64_t bytes, addr; /* addr: of its first entry */
	int entries;
};

/* A queue pair that went to RTR or RTS. */
struct state {
	uint32_t qp, state;
	/* RTR: MTU DEST LID SL GLOBAL GID CLASS HOPS; RTS: TIMEOUT RETRIES RNR_RETRIES */
	uint32_t value[8];
};

static FILE *record; /* without a name any more */
static struct end ends[WORLD_MAX];
static struct request requests[REQUESTS_MAX];
static struct state states[STATES_MAX];
static unsigned request_count, state_count, post_count;

/* ---- One recorded round ---------------------------------------------------------------------- */

/* Before the recording library is first loaded: it then begins its file. */
static bool record_open(void)
{
	char base[] = "/tmp/accel-requests-XXXXXX", path[64];
	const struct accel_verbs_api *api = NULL;
	int fd;

	if (record)
		return true;
	fd = mkstemp(base);
	if (!CHECK(fd >= 0))
		return false;
	close(fd);
	snprintf(path, sizeof(path), "%s.%d", base, (int)getpid());
	setenv("RECORD_LIBRARY", verbs_loop_path(), 1);
	setenv("RECORD_FILE", base, 1);
	if (CHECK_EQ(accel_verbs_api_get(verbs_record_path(), &api), 0))
		record = fopen(path, "re");
	unlink(base);
	unlink(path);
	return CHECK(record);
}

static void end_note(const struct exchange *e)
{
	const struct accel_ep *ep = e->ep;
	struct accel_verbs_transport *t = accel_verbs_transport(ep->transport[ACCEL_LINK_VERBS]);
	struct end *end = &ends[e->rank];

	end->x = (uintptr_t)e->lane[0].x.addr;
	end->y = (uintptr_t)e->lane[0].y.addr;
	end->record_bytes = ep->layout.record_bytes;
	for (int p = 0; p < ep->group->world; p++) {
		const struct accel_verbs_peer *peer;

		if (p == e->rank)
			continue;
		peer = accel_verbs_peer(t, p);
		end->landed[p] = (uintptr_t)accel_ep_landed(ep, 0, p);
		end->returned[p] = (uintptr_t)accel_ep_returned(ep, 0) +
				   (uint64_t)ep->peers[p].remote * ep->shape.tokens_max * ROW_BYTES;
		for (int q = 0; q < peer->qp_count; q++) {
			end->qp[p][q].num = peer->qp[q].qp ? peer->qp[q].qp->qp_num : 0;
			end->qp[p][q].rail = peer->qp[q].rail;
		}
	}
}

static void run_round(struct ranks_ctx *ctx, int rank)
{
	struct exchange e;

	if (nics_open(&e, ctx, rank, 0) && CHECK(exchange_round(&e, 0)))
		end_note(&e);
	exchange_close(&e);
}

static bool qp_find(uint32_t num, struct request *r)
{
	for (r->from = 0; r->from < WORLD_MAX; r->from++)
		for (r->to = 0; r->to < WORLD_MAX; r->to++)
			for (r->qp = 0; r->qp < ACCEL_STRIPES_MAX; r->qp++)
				if (ends[r->from].qp[r->to][r->qp].num == num) {
					r->rail = ends[r->from].qp[r->to][r->qp].rail;
					return true;
				}
	return false;
}

/* Whole rows of one of the slices that the sender has there; else it is no row. */
static bool rows_find(struct request *r, uint64_t remote, uint32_t tokens)
{
	const uint64_t slice[ACCEL_WAYS] = {ends[r->to].landed[r->from],
					    ends[r->to].returned[r->from]};

	for (r->way = 0; r->way < ACCEL_WAYS; r->way++) {
		const uint64_t offset = remote - slice[r->way];

		if (remote < slice[r->way] || offset >= (uint64_t)tokens * ROW_BYTES)
			continue;
		r->row = (uint32_t)(offset / ROW_BYTES);
		r->rows = (uint32_t)(r->bytes / ROW_BYTES);
		return CHECK_EQ(offset % ROW_BYTES, 0) && CHECK_EQ(r->bytes % ROW_BYTES, 0) &&
		       CHECK(r->row + r->rows <= tokens);
	}
	return false;
}

static bool request_take(const char *line, uint32_t tokens)
{
	struct request *r = &requests[request_count];
	uint32_t num, opcode, imm;
	uint64_t remote;

	if (!CHECK(request_count < REQUESTS_MAX))
		return false;
	*r = (struct request){.post = post_count};
	if (!CHECK_EQ(sscanf(line, "wr %x %x %x %x %" SCNx64 " %*x %" SCNx64 " %d %" SCNx64 ":",
			     &num, &opcode, &r->flags, &imm, &remote, &r->bytes, &r->entries,
			     &r->addr),
		      8) ||
	    !CHECK(qp_find(num, r)))
		return false;
	r->line = opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
	if (r->line)
		r->way = imm >> 28 & 3;
	else if (!CHECK(rows_find(r, remote, tokens))) /* with one lane a goodbye is a line */
		return false;
	request_count++;
	return true;
}

static bool state_take(const char *line)
{
	struct state *s = &states[state_count];
	uint32_t *v = s->value;
	int got = sscanf(line, "modify %x %x %x %x %x %x %x %x %x %x", &s->qp, &s->state, &v[0],
			 &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]);

	if (s->state != IBV_QPS_RTR && s->state != IBV_QPS_RTS)
		return true;
	return CHECK_EQ(got, s->state == IBV_QPS_RTR ? 10 : 5) && CHECK(++state_count < STATES_MAX);
}

static bool line_take(const char *line, uint32_t tokens)
{
	if (!strncmp(line, "modify ", 7))
		return state_take(line);
	post_count += !strncmp(line, "post ", 5);
	return strncmp(line, "wr ", 3) != 0 || request_take(line, tokens);
}

/* A round of all ranks, then what was written of it. */
static bool run(struct nics *n)
{
	char line[4096];
	bool ok;

	if (!record_open())
		return false;
	n->library = verbs_record_path();
	memset(ends, 0, sizeof(ends));
	request_count = state_count = post_count = 0;
	fseek(record, 0, SEEK_END);
	ok = nics_run(n, 0, run_round);
	while (ok && fgets(line, sizeof(line), record))
		ok = line_take(line, n->shape.ref.tokens_max) || (tap_diag("%s", line), false);
	return ok;
}

/* Everything to everybody; rows are ROW_BYTES both ways. */
static void shape_set(struct nics *n, int world, uint32_t tokens)
{
	exchange_shape_plain(&n->shape, tap_seed(), world);
	n->shape.ref.hidden = HIDDEN;
	n->shape.ref.experts = world == 2 ? 16 : 64;
	n->shape.ref.topk = n->shape.ref.experts * 3 / 4;
	n->shape.ref.tokens_max = tokens;
	n->shape.ref.full = true;
	n->shape.lanes = 1;
	reference_place_contiguous(&n->shape.ref);
}

/* The requests of each message, one after the other, as they were posted. */
struct message {
	int next; /* 0: the first */
	int from, to;
	uint32_t way;
	unsigned count;
	const struct request *request[MESSAGE_MAX];
};

static bool message_next(struct message *m, int world)
{
	do {
		if (m->next == world * world * ACCEL_WAYS)
			return false;
		m->way = (uint32_t)m->next % ACCEL_WAYS;
		m->to = m->next / ACCEL_WAYS % world;
		m->from = m->next / ACCEL_WAYS / world;
		m->next++;
	} while (m->from == m->to);
	m->count = 0;
	for (unsigned i = 0; i < request_count && m->count < MESSAGE_MAX; i++) {
		const struct request *r = &requests[i];

		if (r->from == m->from && r->to == m->to && r->way == m->way)
			m->request[m->count++] = r;
	}
	return CHECK(m->count > 0) && CHECK(m->count < MESSAGE_MAX);
}

/* ---- Over which queue pairs ------------------------------------------------------------------ */

struct spread {
	uint32_t qps, rails;	     /* bits */
	uint32_t rows_min, rows_max; /* of a queue pair */
};

/* On each queue pair one run of rows, and behind it one line; each row once. */
static bool spread_of(const struct message *m, uint32_t rows, struct spread *s)
{
	uint32_t begin[ACCEL_STRIPES_MAX] = {0}, count[ACCEL_STRIPES_MAX] = {0};
	bool came[TOKENS_MAX] = {0}, lined[ACCEL_STRIPES_MAX] = {0}, ok = true;
	uint32_t sum = 0;

	*s = (struct spread){.rows_min = rows};
	for (unsigned i = 0; i < m->count && ok; i++) {
		const struct request *r = m->request[i];

		ok = CHECK(!lined[r->qp]);
		lined[r->qp] = r->line;
		s->qps |= 1u << r->qp;
		s->rails |= 1u << r->rail;
		if (!count[r->qp])
			begin[r->qp] = r->row;
		if (r->rows)
			ok = ok && CHECK_EQ(r->row, begin[r->qp] + count[r->qp]);
		count[r->qp] += r->rows;
		for (uint32_t row = r->row; row < r->row + r->rows && ok; row++) {
			ok = CHECK(!came[row]);
			came[row] = true;
		}
	}
	for (uint32_t q = 0; q < ACCEL_STRIPES_MAX; q++) {
		if (!(s->qps >> q & 1))
			continue;
		ok = ok && CHECK(lined[q]);
		sum += count[q];
		s->rows_min = accel_min_u32(s->rows_min, count[q]);
		s->rows_max = s->rows_max > count[q] ? s->rows_max : count[q];
	}
	return ok && CHECK_EQ(sum, rows);
}

/* Messages of so many rows take so many queue pairs and rails; to all its peers a rank takes all rails. */
static void spreads(uint32_t rows, uint32_t stripe_bytes, int qps, int rails)
{
	struct nics n = {.qps = SPREAD_QPS, .rails = SPREAD_RAILS, .stripe_bytes = stripe_bytes};
	uint32_t taken[WORLD_MAX][ACCEL_WAYS] = {0};
	struct spread s;

	shape_set(&n, WORLD_MAX, rows);
	if (!run(&n))
		return;
	for (struct message m = {0}; message_next(&m, WORLD_MAX);) {
		if (!spread_of(&m, rows, &s) || !CHECK_EQ(__builtin_popcount(s.qps), qps) ||
		    !CHECK_EQ(__builtin_popcount(s.rails), rails) ||
		    !CHECK(s.rows_max - s.rows_min <= 1)) {
			tap_diag("rank %d to %d, way %u: %u rows, stripes of %u bytes", m.from,
				 m.to, m.way, rows, stripe_bytes);
			return;
		}
		taken[m.from][m.way] |= s.rails;
	}
	for (int r = 0; r < WORLD_MAX; r++)
		for (int way = 0; way < ACCEL_WAYS; way++)
			CHECK_EQ(taken[r][way], (1u << SPREAD_RAILS) - 1);
}

TEST(spread, a_large_message_goes_over_all_rails_and_queue_pairs)
{
	spreads(100, 100 * ROW_BYTES, SPREAD_RAILS * SPREAD_QPS, SPREAD_RAILS);
}

TEST(spread, a_smaller_one_stays_on_one_rail_another_for_another_peer)
{
	spreads(100, 100 * ROW_BYTES + 1, SPREAD_QPS, 1);
}

/* A stripe costs a line: with fewer than 16 rows it is not worth one. */
TEST(spread, few_rows_take_fewer_queue_pairs)
{
	spreads(40, 1, 2, 2);
	spreads(31, 1, 1, 1);
	spreads(3, 1, 1, 1);
}

/* ---- Requests, doorbells, completions -------------------------------------------------------- */

/* No two rows adjoin, and a request takes three: some hundred for a message, on one queue pair. */
static bool run_many(struct nics *n)
{
	shape_set(n, 2, TOKENS_MAX);
	n->shape.pad_bytes = 32;
	n->config.max_sge = ACCEL_GATHER_MIN;
	return run(n);
}

TEST(post, takes_a_doorbell_for_32_requests)
{
	struct nics n = {0}; /* both messages have room in a queue of DEPTH_DEFAULT */

	if (!run_many(&n))
		return;
	for (struct message m = {0}; message_next(&m, 2);) {
		unsigned posts = 0;

		for (unsigned i = 0; i < m.count; i++)
			posts += !i || m.request[i]->post != m.request[i - 1]->post;
		CHECK_EQ(m.count, TOKENS_MAX / ACCEL_GATHER_MIN + 1);
		CHECK_EQ(posts, (m.count + ACCEL_VERBS_BATCH - 1) / ACCEL_VERBS_BATCH);
	}
}

/* Of a rank's requests, in order: how many in a row asked for no completion. */
static unsigned unsignalled_max(int from, int to)
{
	unsigned now = 0, most = 0;

	for (unsigned i = 0; i < request_count; i++) {
		const struct request *r = &requests[i];

		if (r->from != from || r->to != to)
			continue;
		now = r->flags & IBV_SEND_SIGNALED ? 0 : now + 1;
		most = now > most ? now : most;
	}
	return most;
}

TEST(post, asks_for_a_completion_each_quarter_of_the_queue_and_at_the_end)
{
	/* What is asked for, what the device grants (0: that), and a quarter of what is then taken. */
	static const struct {
		uint32_t depth, granted, quarter;
	} queues[] = {
		{0, 0, DEPTH_DEFAULT / 4}, {64, 0, 16}, {16, 0, 4}, {0, 100, 16}, {64, 31, 4}};

	for (size_t q = 0; q < sizeof(queues) / sizeof(*queues) && !tap_failing(); q++) {
		const uint32_t quarter = queues[q].quarter;
		struct nics n = {.depth = queues[q].depth, .config.granted_wr = queues[q].granted};

		if (!run_many(&n))
			return;
		for (struct message m = {0}; message_next(&m, 2);) {
			unsigned signalled = 0;

			for (unsigned i = 0; i < m.count; i++)
				signalled += (m.request[i]->flags & IBV_SEND_SIGNALED) != 0;
			CHECK(m.request[m.count - 1]->flags & IBV_SEND_SIGNALED);
			CHECK(signalled <= m.count / quarter + 1);
		}
		/* As many as may, and no more. */
		CHECK_EQ(unsignalled_max(0, 1), quarter - 1);
		CHECK_EQ(unsignalled_max(1, 0), quarter - 1);
	}
}

/* granted: inline_bytes as the device gives them. */
static void inlines(uint32_t tokens, uint32_t inline_bytes, uint32_t max_inline, uint32_t granted)
{
	struct nics n = {.inline_bytes = inline_bytes, .config.max_inline = max_inline};
	const uint64_t line_bytes = sizeof(struct accel_line);

	shape_set(&n, 2, tokens);
	if (!run(&n))
		return;
	for (struct message m = {0}; message_next(&m, 2);) {
		const struct request *line = m.request[m.count - 1];

		CHECK(line->line);
		CHECK_EQ(line->bytes, m.way == ACCEL_WAY_COMBINE
					      ? line_bytes
					      : line_bytes + tokens * ends[m.from].record_bytes);
		CHECK_EQ((line->flags & IBV_SEND_INLINE) != 0, line->bytes <= granted);
		/* The device reads rows where they lie; the CPU would copy them. */
		for (unsigned i = 0; i + 1 < m.count; i++)
			CHECK(!(m.request[i]->flags & IBV_SEND_INLINE));
	}
}

TEST(post, sends_a_line_inline_where_it_fits)
{
	/* The line of a combine has 64 bytes; with the records of a row it is 176, of two 288. */
	inlines(1, 0, 0, 256);
	inlines(2, 0, 0, 256);
	inlines(1, 176, 0, 176);
	inlines(1, 175, 0, 175);
	inlines(1, 0, 100, 64); /* halved until the device grants it */
	inlines(1, 63, 0, 63);
}

/* Rows that lie one behind the other at both ends. */
static void contiguous(uint32_t combine_input, enum exchange_place y_place, uint32_t receive)
{
	struct nics n = {0};
	const uint32_t tokens = TOKENS_MAX;

	shape_set(&n, 2, tokens);
	n.shape.combine_input = combine_input;
	n.shape.y_place = y_place;
	n.shape.receive = receive;
	if (!run(&n))
		return;
	for (struct message m = {0}; message_next(&m, 2);) {
		const struct request *rows = m.request[0], *line = m.request[1];

		if (!CHECK_EQ(m.count, 2) || !CHECK(line->line))
			return;
		CHECK_EQ(rows->rows, tokens);
		CHECK_EQ(rows->entries, 1);
		CHECK_EQ(rows->post, line->post);
		if (m.way == ACCEL_WAY_DISPATCH)
			CHECK_EQ(rows->addr, ends[m.from].x);
		else if (combine_input == ACCEL_COMBINE_RANK && y_place == EXCHANGE_BUFFER)
			CHECK_EQ(rows->addr,
				 ends[m.from].y + (uint32_t)m.to * (uint64_t)tokens * ROW_BYTES);
	}
}

TEST(post, writes_contiguous_rows_at_once)
{
	contiguous(ACCEL_COMBINE_RANK, EXCHANGE_BUFFER, ACCEL_RECEIVE_IN_PLACE);
	contiguous(ACCEL_COMBINE_RANK, EXCHANGE_OUTPUT, ACCEL_RECEIVE_LANDED);
	contiguous(ACCEL_COMBINE_EXPERT, EXCHANGE_BUFFER, ACCEL_RECEIVE_IN_PLACE);
}

/* ---- The path of a queue pair ---------------------------------------------------------------- */

static const struct state *state_of(uint32_t qp, uint32_t state)
{
	for (unsigned i = 0; i < state_count; i++)
		if (states[i].qp == qp && states[i].state == state)
			return &states[i];
	return NULL;
}

static bool values_are(const struct state *s, const uint32_t *want, unsigned count)
{
	bool ok = CHECK(s);

	for (unsigned i = 0; i < count && ok; i++)
		ok = tap_check(s->value[i] == want[i], __FILE__, __LINE__,
			       "queue pair %u, state %u: value %u is %#x, not %#x", s->qp, s->state,
			       i, s->value[i], want[i]);
	return ok;
}

/* A round between two ranks, whose queue pairs then have this MTU, timeout and retries. */
static void paths(struct nics *n, enum ibv_mtu mtu, uint32_t timeout, uint32_t retries)
{
	const bool roce = !n->config.infiniband, global = roce || n->config.grh;

	n->qps = 2;
	shape_set(n, 2, 3);
	if (!run(n))
		return;
	for (int r = 0; r < 2; r++)
		for (uint32_t q = 0; q < n->qps; q++) {
			const uint32_t num = ends[r].qp[!r][q].num;
			/* RoCE v2 over IPv4 is GID 3; past routers. LIDs are of InfiniBand. */
			const uint32_t path[] = {mtu,
						 ends[!r].qp[r][q].num,
						 roce ? 0 : (uint32_t)!r * LOOP_PORTS_MAX + 1,
						 n->service_level,
						 global,
						 roce ? 3 : 0,
						 global ? n->traffic_class : 0,
						 global ? 64 : 0};
			/* Without end where a receiver is not ready. */
			const uint32_t again[] = {timeout, retries, 7};

			if (!CHECK(num) || !values_are(state_of(num, IBV_QPS_RTR), path, 8) ||
			    !values_are(state_of(num, IBV_QPS_RTS), again, 3))
				return;
		}
}

TEST(path, has_the_defaults)
{
	paths(&(struct nics){0}, IBV_MTU_1024, 14, 7);
}

TEST(path, has_the_class_and_level_that_options_ask_for)
{
	paths(
		&(struct nics){
			.traffic_class = 106, .service_level = 5, .ack_timeout = 17, .retries = 6},
		IBV_MTU_1024, 17, 6);
}

TEST(path, over_infiniband_has_a_lid_and_a_level)
{
	paths(&(struct nics){.config.infiniband = 1, .traffic_class = 106, .service_level = 3},
	      IBV_MTU_1024, 14, 7);
}

TEST(path, over_infiniband_is_global_too_where_the_port_requires_it)
{
	paths(&(struct nics){.config = {.infiniband = 1, .grh = 1}, .traffic_class = 106},
	      IBV_MTU_1024, 14, 7);
}

TEST(path, has_the_lowest_mtu_of_ports_and_options)
{
	paths(&(struct nics){.config.mtu = 4096}, IBV_MTU_4096, 14, 7);
	paths(&(struct nics){.config.mtu = 4096, .mtu = {512, 2048}}, IBV_MTU_512, 14, 7);
	paths(&(struct nics){.config.mtu = 4096, .mtu = {0, 2048}}, IBV_MTU_2048, 14, 7);
	paths(&(struct nics){.config.mtu = 512, .mtu = {4096, 4096}}, IBV_MTU_512, 14, 7);
}

/* ---- What the log says ----------------------------------------------------------------------- */

static struct log {
	pthread_mutex_t lock;
	unsigned count;
	char line[LINES_MAX][LINE_BYTES];
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void log_keep(void *arg, int level, const char *line)
{
	(void)arg;
	(void)level;
	pthread_mutex_lock(&kept.lock);
	if (kept.count < LINES_MAX)
		snprintf(kept.line[kept.count++], LINE_BYTES, "%s", line);
	pthread_mutex_unlock(&kept.lock);
}

/* Of all lines one begins so, and it has the end. */
static void check_logged(const char *end, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static void check_logged(const char *end, const char *fmt, ...)
{
	char begin[LINE_BYTES];
	unsigned found = 0;
	va_list args;

	va_start(args, fmt);
	vsnprintf(begin, sizeof(begin), fmt, args);
	va_end(args);
	for (unsigned i = 0; i < kept.count; i++) {
		const char *line = kept.line[i];
		const size_t len = strlen(line), end_len = strlen(end);

		found += !strncmp(line, begin, strlen(begin)) && len >= end_len &&
			 !strcmp(line + len - end_len, end);
	}
	if (!tap_check(found == 1, __FILE__, __LINE__, "%u lines \"%s ... %s\"", found, begin, end))
		for (unsigned i = 0; i < kept.count; i++)
			tap_diag("%s", kept.line[i]);
}

TEST(log, says_which_port_goes_to_which_and_why)
{
	struct nics n = {
		.qps = 2, .config = {.mtu = 2048, .rate = 200, .max_sge = 7}, .mtu = {1024, 512}};

	shape_set(&n, 2, 3);
	kept.count = 0;
	CHECK_EQ(accel_log_set(ACCEL_LOG_INFO, log_keep, NULL), 0);
	run(&n);
	CHECK_EQ(accel_log_set(ACCEL_LOG_NONE, NULL, NULL), 0);
	for (int r = 0; r < 2; r++) {
		check_logged("7 entries a gather: named by verbs.devices",
			     "verbs: rail 0 is loop%d:1, 200 Gb/s, MTU 2048, RoCE v2 GID 3 "
			     "10.77.%d.1",
			     r, r);
		check_logged("MTU 512, queue pairs: 2",
			     "rank %d: rank %d over loop%d port 1 (GID 10.77.%d.1) to its loop%d "
			     "port 1 (GID 10.77.%d.1)",
			     r, !r, r, r, !r, !r);
	}
}
