// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * NICs that fail under a group, by the loop library (tests/verbs/loop.h): requests, links, ports,
 * devices. Whoever is hit is told which peer, device and port it was, and what the device said; the others mask it,
 * complete the round, go on without it and with it again once it has come back, and nothing is left
 * behind.
 */
#include "join.h"
#include "leaks.h"
#include "nics.h"
#include "verbs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { TRIES = 200, RETRIES = 2, ACK_TIMEOUT = 11 /* 3 tries of 8 ms */ };

/* A run in which the victim's NIC fails in one of these ways. */
struct faulty {
	struct nics n; /* first: what nics_run() hands on */
	const char *name;
	void (*begin)(const struct faulty *f);
	void (*end)(void);
	unsigned nth;
	enum ibv_wc_status status;
	enum moment moment;
	/* The victim's device, unless another has masked it before; NULL: anything. */
	const char *says;
	_Atomic unsigned said;
};

static bool is_told(struct exchange *e, int rc, const char *what)
{
	const struct accel_error error = exchange_error(e);
	char port[32], name[16];

	snprintf(port, sizeof(port), "loop%d port 1", e->rank);
	snprintf(name, sizeof(name), "rank %d", error.rank);
	return tap_check(error.code == rc && error.rank >= 0 && error.rank != e->rank &&
				 strstr(error.text, name) &&
				 (rc != -EIO || strstr(error.text, port)) &&
				 (!what || strstr(error.text, what)),
			 __FILE__, __LINE__, "rank %d is told %d, rank %d: %s", e->rank, rc,
			 error.rank, error.text);
}

/* ---- Those that go on ------------------------------------------------------------------------ */

/* Ends a wait; the victim is masked when it is to blame. */
static int end_masking(struct exchange *e, int (*end)(struct exchange *, uint32_t, int64_t))
{
	int rc = -ETIMEDOUT;

	for (int i = 0; i < TRIES && rc < 0; i++) {
		rc = end(e, 0, 100 * INT64_C(1000000));
		if (rc >= 0 || rc == -ETIMEDOUT)
			continue;
		if (!CHECK(rc == -EIO || rc == -ESHUTDOWN || rc == -ECONNRESET) ||
		    !is_told(e, rc, NULL) || !CHECK_EQ(exchange_error(e).rank, VICTIM) ||
		    !CHECK_EQ(accel_ep_mask(e->ep, VICTIM), 0))
			return rc;
	}
	return rc;
}

static bool masking_round(struct exchange *e)
{
	return CHECK_EQ(exchange_dispatch_begin(e, 0), 0) &&
	       CHECK_EQ(end_masking(e, exchange_dispatch_end), 0) &&
	       CHECK(exchange_recv_ok(e, 0)) && CHECK_EQ(exchange_combine_begin(e, 0), 0) &&
	       CHECK(end_masking(e, exchange_combine_end) >= 0) && CHECK(exchange_out_ok(e, 0));
}

static bool go_on(struct exchange *e, struct ranks_ctx *ctx, const struct faulty *f)
{
	bool ok = true;

	/* One that has failed to receive only shows when it is missing from a round. */
	for (int i = 0; i < 4 && ok; i++)
		ok = masking_round(e);
	ok = ok && CHECK_EQ(masks(e), 1u << VICTIM);
	ranks_meet(ctx, SEEN, 1, WORLD); /* the victim's old life has ended */
	if (f->end && e->rank == 0)
		f->end();
	ranks_meet(ctx, WOKEN, 1, WORLD - 1);
	return ok && come_back(e, ctx, 1u << VICTIM, 0);
}

/* ---- The one that is hit --------------------------------------------------------------------- */

static int act(struct exchange *e, enum moment moment)
{
	switch (moment) {
	case BEFORE_BEGIN:
		return exchange_dispatch_begin(e, 0);
	case AFTER_BEGIN:
		return exchange_dispatch_end(e, 0, -1);
	case AFTER_END:
		return exchange_combine_begin(e, 0);
	default:
		return exchange_combine_end(e, 0, -1);
	}
}

/* Rounds until one fails. */
static void be_hit(struct exchange *e, struct faulty *f)
{
	int rc = 0;

	for (int i = 0; rc >= 0 && i < TRIES; i++) {
		const enum moment moment = (enum moment)(i % AFTER_ROUND);

		if (i == (int)f->moment)
			f->begin(f);
		rc = act(e, moment);
	}
	CHECK(rc == -EIO || rc == -ESTALE || rc == -ESHUTDOWN || rc == -ECONNRESET);
	f->said += is_told(e, rc, rc == -EIO ? f->says : NULL) && rc == -EIO;
}

static void hit(struct ranks_ctx *ctx, int rank)
{
	struct faulty *f = ctx->arg;
	const struct join_area *area = ctx->area;
	struct exchange e;
	bool ok = nics_open(&e, ctx, rank, 0);

	for (uint32_t l = 0; ctx->life && l < f->n.shape.lanes; l++)
		e.lane[l].round = area->round[l];
	if (!ctx->life) {
		ok = ok && whole_rounds(&e, 0, 1) && whole_rounds(&e, 1, 1);
		ranks_meet(ctx, STARTED, 1, WORLD);
		if (ok && rank == VICTIM)
			be_hit(&e, f);
		if (rank == VICTIM) {
			exchange_close(&e);
			ranks_meet(ctx, SEEN, 1, WORLD);
			return;
		}
		ok = ok && go_on(&e, ctx, f);
	}
	ok = ok && whole_rounds(&e, 0, 2) && whole_rounds(&e, 1, 1) && CHECK_EQ(masks(&e), 0);
	ranks_meet(ctx, DONE, 1, WORLD);
	exchange_close(&e);
}

static void run_hit(struct faulty *f)
{
	const struct leaks held = leaks_count();

	join_shape(&f->n.shape, WORLD, f->moment % 2);
	f->n.shape.timeout_ns = 20 * INT64_C(1000000000);
	f->n.ack_timeout = ACK_TIMEOUT;
	f->n.retries = RETRIES;
	nics_run(&f->n, sizeof(struct join_area), hit);
	CHECK_NO_LEAKS(held);
	if (tap_failing())
		tap_diag("%s, %s", f->name, moments[f->moment]);
}

static void fail_request(const struct faulty *f)
{
	verbs_loop()->fail_request(VICTIM, f->nth, f->status);
}

TEST(request, that_fails_is_named)
{
	static const struct {
		enum ibv_wc_status status;
		const char *says;
	} ways[] = {
		{IBV_WC_LOC_PROT_ERR, "local protection error"},
		{IBV_WC_REM_ACCESS_ERR, "remote access error"},
		{IBV_WC_REM_OP_ERR, "remote operation error"},
		{IBV_WC_RETRY_EXC_ERR, "transport retry counter exceeded"},
		{IBV_WC_GENERAL_ERR, "general error"},
	};

	unsigned said = 0;

	for (unsigned i = 0; i < sizeof(ways) / sizeof(*ways) && !tap_failing(); i++) {
		struct faulty f = {.name = ways[i].says,
				   .begin = fail_request,
				   .nth = 1 + i,
				   .status = ways[i].status,
				   .says = ways[i].says};

		run_hit(&f);
		said += f.said;
	}
	CHECK(said > 0);
}

static void cut(bool on)
{
	for (unsigned d = 0; d < WORLD; d++) {
		verbs_loop()->drop(VICTIM, d, on);
		verbs_loop()->drop(d, VICTIM, on);
	}
}

static void cut_begin(const struct faulty *f)
{
	(void)f;
	cut(true);
}

static void cut_end(void)
{
	cut(false);
}

static void port_begin(const struct faulty *f)
{
	(void)f;
	verbs_loop()->port(VICTIM, 1, false);
}

static void port_end(void)
{
	verbs_loop()->port(VICTIM, 1, true);
}

static void removal_begin(const struct faulty *f)
{
	(void)f;
	verbs_loop()->remove(VICTIM, true);
}

static void removal_end(void)
{
	verbs_loop()->remove(VICTIM, false);
}

static void run_everywhere(const char *name, void (*begin)(const struct faulty *f),
			   void (*end)(void))
{
	const int stride = RANKS_TSAN || RANKS_ASAN ? 2 : 1; /* they take longer */

	for (int moment = BEFORE_BEGIN; moment < AFTER_ROUND && !tap_failing(); moment += stride)
		run_hit(&(struct faulty){
			.name = name, .begin = begin, .end = end, .moment = (enum moment)moment});
}

TEST(link, that_is_cut_is_named)
{
	run_everywhere("the link is cut", cut_begin, cut_end);
}

TEST(port, that_goes_down_is_named)
{
	run_everywhere("the port goes down", port_begin, port_end);
}

TEST(device, that_is_removed_is_named)
{
	run_everywhere("the device is removed", removal_begin, removal_end);
}

/* ---- Acknowledgements that are late ---------------------------------------------------------- */

/* What a rank has sent is its own again only when its NIC has said so. */
static void late(struct ranks_ctx *ctx, int rank)
{
	struct exchange e;
	bool ok = nics_open(&e, ctx, rank, 0);

	if (rank == 0)
		verbs_loop()->hold(0, LOOP_HOLD_ACKS, true);
	ok = ok && CHECK_EQ(exchange_dispatch_begin(&e, 0), 0) &&
	     CHECK_EQ(exchange_dispatch_end(&e, 0, -1), 0) && CHECK(exchange_recv_ok(&e, 0)) &&
	     CHECK_EQ(exchange_combine_begin(&e, 0), 0);
	if (ok && rank == 0) {
		ranks_await(ctx, DONE, 1); /* the other has its results */
		ok = CHECK_EQ(exchange_combine_end(&e, 0, 20 * INT64_C(1000000)), -ETIMEDOUT);
		verbs_loop()->hold(0, LOOP_HOLD_ACKS, false);
	}
	ok = ok && CHECK_EQ(exchange_combine_end(&e, 0, -1), 0) && CHECK(exchange_out_ok(&e, 0));
	if (rank)
		ranks_raise(ctx, DONE);
	ok = ok && whole_rounds(&e, 0, 1);
	exchange_close(&e);
}

/* A caller that has its rows may compute for long: all of what it sends must be on its way by then. */
static void full(struct ranks_ctx *ctx, int rank)
{
	struct exchange e;
	bool ok = nics_open(&e, ctx, rank, 0);

	if (rank == 0)
		verbs_loop()->hold(0, LOOP_HOLD_ACKS, true);
	ok = ok && CHECK_EQ(exchange_dispatch_begin(&e, 0), 0);
	if (ok && rank == 0) {
		ok = CHECK_EQ(exchange_dispatch_end(&e, 0, 200 * INT64_C(1000000)), -ETIMEDOUT);
		verbs_loop()->hold(0, LOOP_HOLD_ACKS, false);
	}
	ok = ok && CHECK_EQ(exchange_dispatch_end(&e, 0, -1), 0) &&
	     CHECK(exchange_recv_ok(&e, 0)) && CHECK_EQ(exchange_combine_begin(&e, 0), 0) &&
	     CHECK_EQ(exchange_combine_end(&e, 0, -1), 0) && CHECK(exchange_out_ok(&e, 0));
	exchange_close(&e);
}

TEST(round, goes_on_when_all_that_is_sent_is_posted)
{
	struct nics n = {.depth = 16};

	exchange_shape_plain(&n.shape, tap_seed(), 2);
	n.shape.ref.tokens_max = 300;
	n.shape.ref.full = true;
	n.shape.pad_bytes = 16; /* no two rows are one entry */
	n.config.max_sge = 3;	/* some hundred requests, and room for sixteen */
	nics_run(&n, 0, full);
}

TEST(round, ends_when_what_was_sent_is_read_no_more)
{
	struct nics n = {0};

	join_shape(&n.shape, 2, false);
	nics_run(&n, 0, late);
}

/* ---- Destroying ------------------------------------------------------------------------------ */

/* Nothing that was posted goes anywhere, and a peer is silent. */
static void stuck(struct ranks_ctx *ctx, int rank)
{
	struct exchange e;
	bool ok = nics_open(&e, ctx, rank, 0) && whole_rounds(&e, 0, 1);
	uint64_t begin_ns;

	ranks_meet(ctx, ROUND, 1, ctx->world);
	verbs_loop()->hold((unsigned)rank, LOOP_HOLD_REQUESTS, true);
	if (ok && rank != VICTIM)
		CHECK_EQ(exchange_dispatch_begin(&e, 0), 0);
	ranks_meet(ctx, ROUND, 2, ctx->world);
	begin_ns = ranks_now_ns();
	exchange_close(&e);
	CHECK(ranks_now_ns() - begin_ns < 20 * UINT64_C(1000000000));
}

TEST(context, is_destroyed_whatever_is_stuck)
{
	struct nics n = {0};

	join_shape(&n.shape, WORLD, false);
	nics_run(&n, 0, stuck);
}

/* ---- Devices that cannot ---------------------------------------------------------------------- */

struct refusal {
	struct nics n; /* first */
	int code;
	const char *says[4]; /* NULL: no more */
};

/* The endpoint cannot be created, and the error says why. */
static void refused(struct ranks_ctx *ctx, int rank)
{
	const struct refusal *want = ctx->arg;
	struct accel_error error = {.size = sizeof(error)};
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct accel_ep *ep = NULL;

	if (CHECK_EQ(nics_group_create(ctx, rank, 0, &dev, &group), 0)) {
		CHECK_EQ(exchange_ep_create(&want->n.shape, group, &ep), want->code);
		accel_error_get(NULL, &error);
		CHECK_EQ(error.code, want->code);
		for (int i = 0; want->says[i]; i++)
			if (!CHECK(strstr(error.text, want->says[i])))
				tap_diag("rank %d: %s", rank, error.text);
	}
	accel_ep_destroy(ep);
	accel_group_destroy(group);
	accel_device_close(dev);
}

static void refuse(struct refusal *want)
{
	exchange_shape_plain(&want->n.shape, tap_seed(), 2);
	nics_run(&want->n, 0, refused);
}

TEST(port, in_another_infiniband_subnet_is_refused)
{
	refuse(&(struct refusal){.n.config = {.infiniband = 1, .subnets = 2},
				 .code = -EINVAL,
				 .says = {"loop0 port 1 (GID fe80::200:ff:fe00:1)",
					  "loop1 port 1 (GID fe80::1:200:ff:fe00:101)",
					  "different InfiniBand subnets"}});
}

TEST(queue, that_is_too_short_is_refused)
{
	refuse(&(struct refusal){.n.config.granted_wr = ACCEL_VERBS_DEPTH_MIN - 1,
				 .code = -ENOMEM,
				 .says = {"queue pair", "verbs.depth", "RLIMIT_MEMLOCK"}});
}

/* ---- Calls that fail ------------------------------------------------------------------------- */

struct sweep {
	struct nics n;		 /* first */
	_Atomic uint32_t failed; /* bit r: rank r was told of a failure */
};

static void swept(struct ranks_ctx *ctx, int rank)
{
	struct sweep *s = ctx->arg;
	struct accel_error error = {.size = sizeof(error)};
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct accel_ep *ep = NULL;
	struct exchange e = {0};
	int rc = nics_group_create(ctx, rank, 0, &dev, &group);

	if (!rc)
		rc = exchange_ep_create(&s->n.shape, group, &ep);
	if (!rc && CHECK_EQ(exchange_attach(&e, rank, dev, group, ep, &s->n.shape), 0)) {
		for (int i = 0; i < 2 * AFTER_ROUND && rc >= 0; i++)
			rc = act(&e, (enum moment)(i % AFTER_ROUND));
		if (rc < 0)
			error = exchange_error(&e);
	} else if (rc) {
		accel_error_get(NULL, &error);
	}
	if (rc < 0) {
		tap_check(error.code == rc && error.text[0], __FILE__, __LINE__,
			  "rank %d got %d, and is told %d: %s", rank, rc, error.code, error.text);
		atomic_fetch_or(&s->failed, 1u << rank);
	}
	exchange_close(&e);
	accel_group_destroy(group);
	accel_device_close(dev);
}

static const struct swept_call {
	const char *name;
	int error;
	unsigned max;
	unsigned
		told; /* of the first so many each failure must be told; others may change nothing */
} swept_calls[] = {
	{"ibv_get_device_list", ENOSYS, 8, 8},
	{"ibv_open_device", EMFILE, 8, 0},
	{"ibv_query_device", EIO, 8, 0},
	{"ibv_query_port", EIO, 8, 0},
	{"ibv_query_gid_ex", EIO, 12, 0},
	{"ibv_alloc_pd", ENOMEM, 8, 8},
	{"ibv_reg_mr", ENOMEM, 24, 24},
	{"ibv_create_comp_channel", EMFILE, 8, 8},
	{"ibv_create_cq", ENOMEM, 8, 8},
	{"ibv_create_qp", ENOMEM, 8, 0}, /* it is made with less inline room */
	{"ibv_modify_qp", ETIMEDOUT, 16, 6},
	{"ibv_destroy_qp", EBUSY, 8, 0},
	{"ibv_dereg_mr", EBUSY, 24, 0},
	{"ibv_destroy_cq", EBUSY, 8, 0},
	{"ibv_destroy_comp_channel", EBUSY, 8, 0},
	{"ibv_dealloc_pd", EBUSY, 8, 0},
	{"ibv_close_device", EIO, 8, 0},
	{"ibv_post_recv", ENOMEM, 12, 12},
	{"ibv_post_send", ENOMEM, 6, 6},
	{"ibv_poll_cq", EIO, 6, 6},
	{"ibv_req_notify_cq", EIO, 4, 0},
};

/* One call after the other fails, until there is none left to fail. */
static unsigned sweep(const struct swept_call *call)
{
	unsigned nth = 1;

	for (; nth <= call->max && !tap_failing(); nth++) {
		struct sweep s = {0};
		const struct leaks held = leaks_count();
		bool fired;

		exchange_shape_plain(&s.n.shape, tap_seed(), 2);
		s.n.shape.lanes = 1;
		s.n.shape.timeout_ns = 10 * INT64_C(1000000000);
		s.n.ack_timeout = ACK_TIMEOUT;
		s.n.retries = RETRIES;
		s.n.fail_call = call->name;
		s.n.fail_nth = nth;
		s.n.fail_error = call->error;
		nics_run(&s.n, 0, swept);
		fired = verbs_loop()->call_failed();
		CHECK_NO_LEAKS(held);
		CHECK(fired || !s.failed);
		CHECK(!fired || nth > call->told || s.failed);
		if (tap_failing())
			tap_diag("call %u of %s", nth, call->name);
		if (!fired)
			break;
	}
	return nth - 1;
}

TEST(call, that_fails_is_told_and_leaves_nothing)
{
	for (unsigned i = 0; i < sizeof(swept_calls) / sizeof(*swept_calls) && !tap_failing(); i++)
		CHECK(sweep(&swept_calls[i]) > 0);
}
