// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Completions. Whoever polls takes in all of them: lines that arrived, sends that were read to
 * their end, and what failed. Nothing that a peer writes is believed before its line's completion has
 * come and its line was checked; nothing is looked at twice.
 *
 * A message takes the place of the one before in the same lane and way, which poll() has then
 * returned: verbs.h says why. A peer that does not keep to that is cut off.
 */
#include "verbs.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#define POLLED_MAX 16 /* completions at a time */
#define POLLS_MAX 64  /* then others may go on */

void accel_verbs_stop(struct accel_verbs_transport *t, struct accel_verbs_peer *p)
{
	p->stopped = true;
	for (uint8_t i = 0; i < p->qp_count; i++)
		accel_verbs_qp_stop(t, &p->qp[i]);
	accel_verbs_advance(t, p);
	t->news |= (1u << t->lanes) - 1;
}

static void fail(struct accel_verbs_transport *t, struct accel_verbs_peer *p, int code,
		 const char *where, const char *fmt, va_list args)
{
	char *trouble = t->base.ep->peers[p->rank].trouble;
	size_t n = strlen(where);

	if (p->error || p->state == ACCEL_VERBS_APART)
		return;
	memcpy(trouble, where, n);
	vsnprintf(trouble + n, ACCEL_TROUBLE_BYTES - n, fmt, args);
	accel_log(ACCEL_LOG_INFO, "rank %d: rank %d cannot be reached any more: %s",
		  t->base.ep->group->rank, p->rank, trouble);
	p->error = code;
	accel_verbs_stop(t, p);
}

void accel_verbs_fail(struct accel_verbs_transport *t, struct accel_verbs_peer *p, int code,
		      const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fail(t, p, code, "", fmt, args);
	va_end(args);
}

void accel_verbs_qp_fail(struct accel_verbs_transport *t, const struct accel_verbs_qp *qp,
			 const char *fmt, ...)
{
	const struct accel_verbs_port *port = &accel_verbs_rail(t, qp)->port;
	char where[sizeof(port->device) + 48];
	va_list args;

	snprintf(where, sizeof(where), "%s port %u, queue pair %u: ", port->device, port->port,
		 qp->qp ? qp->qp->qp_num : 0);
	va_start(args, fmt);
	fail(t, qp->peer, -EIO, where, fmt, args);
	va_end(args);
}

/* ---- What arrived ---------------------------------------------------------------------------- */

static void fail_line(struct accel_verbs_transport *t, struct accel_verbs_peer *p, const char *what)
{
	accel_verbs_fail(t, p, -EPROTO, "it sent %s", what);
}

/* Each word once: a peer that lies of what has come may still be writing it, so what is checked is the copy. */
static struct accel_line read_line(const struct accel_line *at)
{
	const volatile uint64_t *from = (const volatile uint64_t *)at;
	union {
		uint64_t word[sizeof(struct accel_line) / sizeof(uint64_t)];
		struct accel_line line;
	} copy;

	for (size_t i = 0; i < sizeof(copy.word) / sizeof(*copy.word); i++)
		copy.word[i] = from[i];
	return copy.line;
}

static void take_goodbye(struct accel_verbs_transport *t, struct accel_verbs_peer *p)
{
	for (uint32_t lane = 0; lane < t->lanes; lane++) {
		const struct accel_line line = read_line(
			&accel_ep_inbox(t->base.ep, lane, p->remote)->goodbye);

		if (line.incarnation != p->incarnation) {
			fail_line(t, p, "a goodbye of another incarnation");
			return;
		}
		p->left_round[lane] = line.left_round;
	}
	p->left = true;
	t->news |= (1u << t->lanes) - 1;
}

/* What is wrong with a line, or NULL. */
static const char *check_line(const struct accel_verbs_transport *t,
			      const struct accel_verbs_peer *p, const struct accel_line *line,
			      uint32_t stripe, uint32_t round)
{
	const struct accel_ep *ep = t->base.ep;

	if (line->incarnation != p->incarnation)
		return "a line of another incarnation";
	if ((line->round & ACCEL_IMM_ROUND_MASK) != round)
		return "a line of another round than its completion says";
	if (!line->stripes || line->stripes > ACCEL_STRIPES_MAX || stripe >= line->stripes)
		return "a line beyond its message's";
	if (line->count > ep->shape.tokens_max || line->stripe_count > line->count)
		return "a line that counts more rows than there can be";
	if (line->base > p->there.returned_rows ||
	    line->count > p->there.returned_rows - line->base)
		return "a line whose results have no room";
	return NULL;
}

/* One more stripe of the message that it belongs to. */
static const char *join(struct accel_verbs_arrival *a, const struct accel_line *line,
			uint32_t stripe)
{
	if (a->whole || !a->stripes) {
		if (a->whole && !a->read)
			return "a message before its last one was read";
		*a = (struct accel_verbs_arrival){.round = line->round,
						  .count = line->count,
						  .base = line->base,
						  .stripes = (uint8_t)line->stripes};
	}
	if (a->round != line->round || a->count != line->count || a->base != line->base ||
	    a->stripes != line->stripes || a->came & 1u << stripe)
		return "lines that contradict each other";
	a->came |= (uint8_t)(1u << stripe);
	a->rows += line->stripe_count;
	a->whole = a->came == (1u << a->stripes) - 1;
	if (a->rows > a->count || (a->whole && a->rows != a->count))
		return "stripes that do not add up";
	return NULL;
}

static void arrive(struct accel_verbs_transport *t, struct accel_verbs_peer *p, uint32_t imm)
{
	uint32_t lane = imm >> 30, way = imm >> 28 & 3, stripe = imm >> 25 & 7;
	struct accel_inbox *box;
	const char *wrong;
	struct accel_line line;

	if (way == ACCEL_WAY_GOODBYE) {
		take_goodbye(t, p);
		return;
	}
	if (way >= ACCEL_WAYS || lane >= t->lanes) {
		fail_line(t, p, "a completion for a lane that there is not");
		return;
	}
	box = accel_ep_inbox(t->base.ep, lane, p->remote);
	line = read_line(way == ACCEL_WAY_DISPATCH ? &box->dispatch[ACCEL_STRIPES_MAX - 1 - stripe]
						   : &box->combine[stripe]);
	wrong = check_line(t, p, &line, stripe, imm & ACCEL_IMM_ROUND_MASK);
	if (!wrong)
		wrong = join(&p->arrival[lane][way], &line, stripe);
	if (wrong)
		fail_line(t, p, wrong);
	t->news |= 1u << lane;
}

/* ---- Completions ----------------------------------------------------------------------------- */

/*
 * A queue pair that fails as a receiver flushes its receives, and only the device's event has the
 * reason.
 */
static void fail_completion(struct accel_verbs_transport *t, const struct accel_verbs_qp *qp,
			    const struct ibv_wc *wc)
{
	const struct accel_verbs_api *api = t->verbs->api;

	if (qp->stopped)
		return;
	if (wc->status == IBV_WC_WR_FLUSH_ERR) {
		accel_verbs_events(t->verbs);
		accel_verbs_events_judge(t);
	}
	accel_verbs_qp_fail(t, qp, "%s (%d)%s", api->wc_status_str(wc->status), wc->status,
			    atomic_load(&t->verbs->rail[qp->rail].down_ns) ? "; the port is down"
									   : "");
}

static void take_receive(struct accel_verbs_transport *t, struct accel_verbs_qp *qp,
			 const struct ibv_wc *wc)
{
	int error;

	qp->receives--;
	if (wc->status != IBV_WC_SUCCESS) {
		fail_completion(t, qp, wc);
		return;
	}
	if (wc->opcode != IBV_WC_RECV_RDMA_WITH_IMM) {
		fail_line(t, qp->peer, "what no rank sends");
		return;
	}
	arrive(t, qp->peer, be32toh(wc->imm_data));
	if (qp->stopped)
		return;
	error = accel_verbs_qp_receive(qp);
	if (error)
		accel_verbs_qp_fail(t, qp, "a receive was refused: %s", strerror(error));
}

static void take(struct accel_verbs_transport *t, const struct ibv_wc *wc)
{
	uint64_t id = wc->wr_id & ~ACCEL_WR_RECEIVE;
	uint32_t remote = (uint32_t)(id >> 51), index = id >> 48 & (ACCEL_STRIPES_MAX - 1);
	struct accel_verbs_peer *p = &t->peer[remote];
	struct accel_verbs_qp *qp;

	if (remote >= t->remotes || (uint16_t)(id >> 32) != p->generation || !p->qp[index].qp)
		return; /* of a queue pair that is no more */
	qp = &p->qp[index];
	if (wc->wr_id & ACCEL_WR_RECEIVE) {
		take_receive(t, qp, wc);
	} else {
		qp->completed = (uint32_t)id;
		if (wc->status != IBV_WC_SUCCESS)
			fail_completion(t, qp, wc);
	}
	if (p->pending)
		accel_verbs_advance(t, p);
}

static void fail_queue(struct accel_verbs_transport *t, int rail)
{
	for (uint32_t i = 0; i < t->remotes; i++) {
		struct accel_verbs_peer *p = &t->peer[i];

		for (uint8_t k = 0; k < p->qp_count; k++)
			if (p->qp[k].rail == rail)
				accel_verbs_qp_fail(t, &p->qp[k],
						    "its completion queue cannot be read");
	}
}

void accel_verbs_progress(struct accel_verbs_transport *t)
{
	struct ibv_wc wc[POLLED_MAX];

	for (int r = 0; r < t->verbs->rail_count; r++) {
		int n = POLLED_MAX;

		for (unsigned polls = 0; n == POLLED_MAX && polls < POLLS_MAX; polls++) {
			n = ibv_poll_cq(t->queue[r].cq, POLLED_MAX, wc);
			for (int i = 0; i < n; i++)
				take(t, &wc[i]);
		}
		if (n < 0)
			fail_queue(t, r);
	}
}
