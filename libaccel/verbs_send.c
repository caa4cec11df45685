// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * From a signal to work requests. A row is one entry of a gather list, two where its scales lie apart, and
 * entries that adjoin are one; a request takes as many rows as the device's list holds, since they
 * are contiguous at the other end. Nothing is copied: the device reads the caller's tensor, this rank's records
 * and its lines where they lie (lines and few records go within the request, by the CPU).
 *
 * A message is spread over queue pairs in runs of rows. Which ones is the sender's choice: a small one takes
 * those of one rail, peer by peer another, a large one all; and a few rows cost one line.
 *
 * A send queue holds depth requests. Every quarter of it one asks for a completion, and the line of a
 * message does; what finds no room waits in the message for completions (accel_verbs_advance()).
 */
#include "verbs.h"

#include <assert.h>
#include <endian.h>
#include <stddef.h>
#include <string.h>

/* A stripe costs a line and a partial gather list more: with as many rows that is at most one in 8. */
#define STRIPE_ROWS_MIN 16

/* One work request that is being filled. */
struct request {
	struct ibv_send_wr *wr;
	struct ibv_sge *sge; /* [gather_max] */
	uint32_t gather_max;
	uint64_t bytes, bytes_max;
};

static void begin(struct accel_verbs_transport *t, const struct accel_verbs_qp *qp, uint32_t n,
		  struct request *q)
{
	*q = (struct request){
		.wr = &t->wr[n],
		.sge = t->sge[n],
		.gather_max = accel_verbs_rail(t, qp)->gather_max,
		.bytes_max = t->write_bytes_max,
	};
	*q->wr = (struct ibv_send_wr){.sg_list = q->sge, .opcode = IBV_WR_RDMA_WRITE};
}

/* False: it does not fit, and the request is as it was. */
static bool add(struct request *q, const void *addr, uint64_t bytes, uint32_t key)
{
	struct ibv_sge *last = q->wr->num_sge ? &q->sge[q->wr->num_sge - 1] : NULL;

	if (bytes > q->bytes_max - q->bytes)
		return false;
	if (last && last->addr + last->length == (uintptr_t)addr && last->lkey == key) {
		last->length += (uint32_t)bytes;
	} else {
		if ((uint32_t)q->wr->num_sge == q->gather_max)
			return false;
		q->sge[q->wr->num_sge++] = (struct ibv_sge){(uintptr_t)addr, (uint32_t)bytes, key};
	}
	q->bytes += bytes;
	return true;
}

/* ---- A message's requests -------------------------------------------------------------------- */

static uint64_t row_of(const struct accel_verbs_transport *t, const struct accel_verbs_message *m,
		       uint32_t i)
{
	if (!m->records)
		return (uint64_t)m->base + i;
	return accel_ep_record(t->base.ep, m->records, i)->token;
}

static bool add_row(const struct accel_verbs_transport *t, const struct accel_verbs_peer *p,
		    const struct accel_verbs_message *m, struct request *q, uint8_t rail,
		    uint32_t i)
{
	const struct accel_inbox *zeros = accel_ep_outbox(t->base.ep, m->lane, p->remote);
	uint64_t row = row_of(t, m, i);
	struct request before = *q;
	int entries = q->wr->num_sge;
	uint32_t length = entries ? q->sge[entries - 1].length : 0;

	if (add(q, m->rows.addr + row * m->rows.stride, m->rows.bytes,
		m->rows.mr->mr[rail]->lkey) &&
	    (!m->scales.bytes || add(q, m->scales.addr + row * m->scales.stride, m->scales.bytes,
				     m->scales.mr->mr[rail]->lkey)) &&
	    (!m->pad_bytes ||
	     add(q, zeros->goodbye.reserved, m->pad_bytes, t->window->mr[rail]->lkey)))
		return true;
	*q = before;
	q->wr->num_sge = entries;
	if (entries)
		q->sge[entries - 1].length = length;
	return false;
}

static void fill_rows(struct accel_verbs_transport *t, const struct accel_verbs_peer *p,
		      struct accel_verbs_message *m, struct accel_verbs_stripe *s,
		      struct request *q)
{
	uint8_t rail = p->qp[s->qp].rail;

	q->wr->wr.rdma.remote_addr = m->remote + (uint64_t)s->row * m->remote_row_bytes;
	q->wr->wr.rdma.rkey = p->there.landed_key[rail];
	while (s->row < s->end && add_row(t, p, m, q, rail, s->row))
		s->row++;
	accel_ep_count(&t->base.ep->counters.bytes_wire, q->bytes);
}

static uint64_t their_inbox(const struct accel_verbs_peer *p, uint32_t lane)
{
	return p->there.inbox + lane * p->there.inbox_pitch;
}

/* Records that do not fit into one request with the line. */
static void fill_records(const struct accel_verbs_transport *t, const struct accel_verbs_peer *p,
			 const struct accel_verbs_message *m, struct accel_verbs_stripe *s,
			 struct request *q)
{
	uint8_t rail = p->qp[s->qp].rail;
	uint64_t bytes = m->records_bytes - s->rest;

	if (bytes > q->bytes_max)
		bytes = q->bytes_max;
	add(q, m->records + s->rest, bytes, t->window->mr[rail]->lkey);
	q->wr->wr.rdma.remote_addr = their_inbox(p, m->lane) + sizeof(struct accel_inbox) + s->rest;
	q->wr->wr.rdma.rkey = p->there.inbox_key[rail];
	s->rest += bytes;
}

static struct accel_line *line_of(struct accel_inbox *box, const struct accel_verbs_message *m,
				  unsigned stripe)
{
	return m->way == ACCEL_WAY_DISPATCH ? &box->dispatch[ACCEL_STRIPES_MAX - 1 - stripe]
					    : &box->combine[stripe];
}

static void fill_line(const struct accel_verbs_transport *t, const struct accel_verbs_peer *p,
		      const struct accel_verbs_message *m, struct accel_verbs_stripe *s,
		      struct request *q)
{
	const struct accel_verbs_qp *qp = &p->qp[s->qp];
	struct accel_inbox *box = accel_ep_outbox(t->base.ep, m->lane, p->remote);
	unsigned stripe = (unsigned)(s - m->stripe);
	struct accel_line *line = line_of(box, m, stripe);
	uint32_t key = t->window->mr[qp->rail]->lkey;

	*line = (struct accel_line){
		.incarnation = t->base.ep->incarnation,
		.round = m->round,
		.count = m->count,
		.stripe_count = s->end - s->begin,
		.stripes = m->stripes,
		.base = m->way == ACCEL_WAY_DISPATCH ? m->base : 0,
	};
	add(q, line, sizeof(*line), key);
	if (!stripe && m->records_head)
		add(q, m->records, m->records_head, key);
	q->wr->opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
	q->wr->imm_data = htobe32(ACCEL_IMM(m->lane, m->way, stripe, m->round));
	q->wr->wr.rdma.remote_addr = their_inbox(p, m->lane) +
				     (uint64_t)((uint8_t *)line - (uint8_t *)box);
	q->wr->wr.rdma.rkey = p->there.inbox_key[qp->rail];
	if (q->bytes <= qp->inline_bytes)
		q->wr->send_flags = IBV_SEND_INLINE;
	s->lined = true;
}

/* ---- Posting --------------------------------------------------------------------------------- */

static uint32_t room(const struct accel_verbs_qp *qp)
{
	uint32_t left = qp->depth - (qp->posted - qp->completed);

	return left < ACCEL_VERBS_BATCH ? left : ACCEL_VERBS_BATCH;
}

/* Request n of a chain is filled. */
static void number(struct accel_verbs_transport *t, struct accel_verbs_qp *qp, uint32_t n,
		   bool last)
{
	struct ibv_send_wr *wr = &t->wr[n];
	uint32_t posted = qp->posted + n + 1;

	wr->wr_id = accel_verbs_wr_id(qp, posted);
	if (n)
		t->wr[n - 1].next = wr;
	if (!last && posted - qp->signalled < qp->depth / 4)
		return;
	wr->send_flags |= IBV_SEND_SIGNALED;
	qp->signalled = posted;
}

/* The first n requests, with one doorbell. */
static bool post(struct accel_verbs_transport *t, struct accel_verbs_qp *qp, uint32_t n)
{
	struct ibv_send_wr *bad = NULL;
	int rc = ibv_post_send(qp->qp, t->wr, &bad);

	if (rc && bad)
		n = (uint32_t)(bad - t->wr);
	else if (rc)
		n = 0;
	qp->posted += n;
	accel_ep_count(&t->base.ep->counters.work_requests, n);
	if (rc)
		accel_verbs_qp_fail(t, qp, "a work request was refused: %s",
				    strerror(accel_verbs_errno(rc)));
	return !rc;
}

/* As much of a stripe as there is room for. */
static void pump_stripe(struct accel_verbs_transport *t, struct accel_verbs_peer *p,
			struct accel_verbs_message *m, struct accel_verbs_stripe *s)
{
	struct accel_verbs_qp *qp = &p->qp[s->qp];
	uint32_t most, n;

	while (!s->lined && !p->stopped && (most = room(qp))) {
		for (n = 0; n < most && !s->lined; n++) {
			struct request q;

			begin(t, qp, n, &q);
			if (s->row < s->end)
				fill_rows(t, p, m, s, &q);
			else if (s->rest < m->records_bytes)
				fill_records(t, p, m, s, &q);
			else
				fill_line(t, p, m, s, &q);
			number(t, qp, n, s->lined);
		}
		if (!post(t, qp, n))
			return;
		s->last = qp->posted;
	}
}

static void pump(struct accel_verbs_transport *t, struct accel_verbs_peer *p,
		 struct accel_verbs_message *m)
{
	for (unsigned i = 0; i < m->stripes && !p->stopped; i++)
		pump_stripe(t, p, m, &m->stripe[i]);
}

/* ---- What is read to its end ----------------------------------------------------------------- */

/* Nothing that was posted to the peer is on its way. */
static bool is_still(const struct accel_verbs_peer *p)
{
	for (uint8_t i = 0; i < p->qp_count; i++)
		if (p->qp[i].posted != p->qp[i].completed)
			return false;
	return true;
}

static bool is_read(const struct accel_verbs_peer *p, const struct accel_verbs_message *m)
{
	for (unsigned i = 0; i < m->stripes; i++) {
		const struct accel_verbs_stripe *s = &m->stripe[i];

		if (!s->lined || (int32_t)(p->qp[s->qp].completed - s->last) < 0)
			return false;
	}
	return true;
}

void accel_verbs_advance(struct accel_verbs_transport *t, struct accel_verbs_peer *p)
{
	for (unsigned bits = p->pending; bits; bits &= bits - 1) {
		unsigned i = (unsigned)__builtin_ctz(bits);
		struct accel_verbs_message *m = &p->message[i / ACCEL_WAYS][i % ACCEL_WAYS];

		if (!p->stopped && !is_read(p, m)) {
			pump(t, p, m);
			continue;
		}
		/* Stopped in the middle: until all is flushed the device may still read it. */
		if (p->stopped && !is_still(p))
			continue;
		accel_verbs_unuse(t->verbs, m->rows.mr);
		accel_verbs_unuse(t->verbs, m->scales.mr);
		m->rows.mr = m->scales.mr = NULL;
		m->busy = false;
		p->pending &= (uint8_t) ~(1u << i);
		t->news |= 1u << m->lane;
	}
}

/* ---- From a signal to a message -------------------------------------------------------------- */

/* The regions that a round's rows can lie in. */
static struct accel_region *source(const struct accel_ep *ep, uint32_t lane, uint64_t id)
{
	if (ep->payload->id == id)
		return ep->payload;
	for (int what = 0; what < ACCEL_LENT_COUNT; what++) {
		struct accel_region *lent = ep->lane[lane].lent[what];

		if (lent && lent->id == id)
			return lent;
	}
	return NULL;
}

static int use(struct accel_verbs_transport *t, struct accel_verbs_peer *p, uint32_t lane,
	       uint64_t id, struct accel_region **region, struct accel_verbs_mr **mr)
{
	struct accel_ep *ep = t->base.ep;
	struct accel_error error = {.size = sizeof(error)};
	int rc;

	*region = source(ep, lane, id);
	assert(*region);
	rc = accel_verbs_use(t->verbs, &ep->obj, *region, 0, (*region)->bytes, false, mr);
	if (!rc)
		return 0;
	accel_error_get(&ep->obj, &error);
	accel_verbs_fail(t, p, -EIO, "its rows cannot be sent: %s", error.text);
	return rc;
}

static void set_dispatch(const struct accel_verbs_transport *t, const struct accel_verbs_peer *p,
			 struct accel_verbs_message *m, const struct accel_signal *signal)
{
	const struct accel_ep *ep = t->base.ep;
	const struct accel_ep_layout *l = &ep->layout;
	bool fp8 = ep->shape.dtype == ACCEL_DTYPE_FP8_E4M3;

	m->records = ep->window->addr + signal->meta;
	m->records_bytes = (uint64_t)m->count * l->record_bytes;
	m->records_head = m->records_bytes;
	if (m->records_head > t->write_bytes_max - sizeof(struct accel_line))
		m->records_head = t->write_bytes_max - sizeof(struct accel_line);
	m->remote = p->there.landed + m->lane * p->there.landed_pitch;
	m->remote_row_bytes = l->row_bytes;
	m->rows.bytes = fp8 ? ep->shape.hidden : l->row_bytes;
	m->scales.bytes = fp8 ? (ep->shape.hidden + 127) / 128 * 4 : 0;
	m->pad_bytes = l->row_bytes - m->rows.bytes - m->scales.bytes;
}

static void set_combine(const struct accel_verbs_transport *t, const struct accel_verbs_peer *p,
			struct accel_verbs_message *m)
{
	uint32_t bytes = 2 * t->base.ep->shape.hidden;
	uint32_t row = p->arrival[m->lane][ACCEL_WAY_DISPATCH].base;

	m->remote = p->there.returned + m->lane * p->there.landed_pitch + (uint64_t)row * bytes;
	m->remote_row_bytes = bytes;
	m->rows.bytes = bytes;
}

/* Rows that this rank has quantised have their padding behind them: each is one entry. */
static void join_row(const struct accel_ep *ep, struct accel_verbs_message *m)
{
	if (m->rows.mr != m->scales.mr || m->rows.mr->id != ep->payload->id ||
	    m->scales.addr != m->rows.addr + m->rows.bytes ||
	    m->rows.stride != m->remote_row_bytes || m->scales.stride != m->rows.stride)
		return;
	m->rows.bytes = m->remote_row_bytes;
	m->scales.bytes = m->pad_bytes = 0;
}

static int set_sources(struct accel_verbs_transport *t, struct accel_verbs_peer *p,
		       struct accel_verbs_message *m, const struct accel_signal *signal)
{
	struct accel_region *region;
	int rc;

	if (!m->count)
		return 0;
	rc = use(t, p, m->lane, signal->region, &region, &m->rows.mr);
	if (rc)
		return rc;
	m->rows.addr = region->addr + signal->offset;
	m->rows.stride = signal->stride;
	if (!m->scales.bytes)
		return 0;
	rc = use(t, p, m->lane, signal->scale_region, &region, &m->scales.mr);
	if (rc)
		return rc;
	m->scales.addr = region->addr + signal->scale_offset;
	m->scales.stride = signal->scale_stride;
	join_row(t->base.ep, m);
	return 0;
}

static void spread(const struct accel_verbs_transport *t, const struct accel_verbs_peer *p,
		   struct accel_verbs_message *m)
{
	uint64_t bytes = (uint64_t)m->count * m->remote_row_bytes;
	bool all = bytes >= t->verbs->opts.stripe_bytes;
	uint32_t own = (uint32_t)t->verbs->rail_count, first = (uint32_t)p->rank % p->rails,
		 step = all ? 1 : p->rails, most = all ? (uint32_t)p->rails * p->qps : p->qps,
		 full = m->count / STRIPE_ROWS_MIN;

	m->stripes = (uint8_t)(full < most ? full : most);
	m->stripes += !m->stripes;
	for (uint32_t i = 0; i < m->stripes; i++) {
		uint32_t at = (first + i * step) % ((uint32_t)p->rails * p->qps);
		struct accel_verbs_stripe *s = &m->stripe[i];

		*s = (struct accel_verbs_stripe){
			.qp = (uint8_t)(at / p->rails * own + at % p->rails),
			.begin = (uint32_t)((uint64_t)m->count * i / m->stripes),
			.end = (uint32_t)((uint64_t)m->count * (i + 1) / m->stripes),
			.rest = i ? m->records_bytes : m->records_head,
		};
		s->row = s->begin;
	}
}

static void send_message(struct accel_verbs_transport *t, struct accel_verbs_peer *p, uint32_t lane,
			 enum accel_way way, uint32_t round, const struct accel_signal *signal)
{
	struct accel_verbs_message *m = &p->message[lane][way];

	assert(!m->busy);
	*m = (struct accel_verbs_message){.busy = true,
					  .lane = lane,
					  .way = way,
					  .round = round,
					  .count = signal->count,
					  .base = signal->base};
	p->pending |= (uint8_t)(1u << (lane * ACCEL_WAYS + way));
	if (way == ACCEL_WAY_DISPATCH)
		set_dispatch(t, p, m, signal);
	else
		set_combine(t, p, m);
	if (!set_sources(t, p, m, signal)) {
		spread(t, p, m);
		pump(t, p, m);
	}
	if (p->stopped)
		accel_verbs_advance(t, p);
}

int accel_verbs_send(struct accel_transport *transport, int peer, uint32_t lane, enum accel_way way,
		     uint32_t round, const struct accel_signal *signal)
{
	struct accel_verbs_transport *t = accel_verbs_transport(transport);
	struct accel_verbs_peer *p;

	if (way == ACCEL_WAY_DONE) /* what this rank reads is its own */
		return 0;
	pthread_mutex_lock(&t->lock);
	p = accel_verbs_peer(t, peer);
	if (p->state == ACCEL_VERBS_CONNECTED && !p->stopped && !p->left)
		send_message(t, p, lane, way, round, signal);
	accel_verbs_unlock(t);
	return 0;
}

void accel_verbs_goodbye(struct accel_verbs_transport *t, struct accel_verbs_peer *p)
{
	struct accel_verbs_qp *qp = &p->qp[0];
	uint32_t n;

	for (n = 0; n < t->lanes; n++) {
		struct accel_line *line = &accel_ep_outbox(t->base.ep, n, p->remote)->goodbye;
		struct request q;

		*line = (struct accel_line){.incarnation = t->base.ep->incarnation,
					    .left_round = t->base.ep->lane[n].round};
		begin(t, qp, n, &q);
		add(&q, line, sizeof(*line), t->window->mr[qp->rail]->lkey);
		q.wr->wr.rdma.remote_addr = their_inbox(p, n) +
					    offsetof(struct accel_inbox, goodbye);
		q.wr->wr.rdma.rkey = p->there.inbox_key[qp->rail];
		if (n == t->lanes - 1) {
			q.wr->opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
			q.wr->imm_data = htobe32(ACCEL_IMM(0, ACCEL_WAY_GOODBYE, 0, 0));
		}
		number(t, qp, n, n == t->lanes - 1);
	}
	post(t, qp, n);
}
