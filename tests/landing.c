// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * See landing.h. One lock guards all; whoever looks for a message carries out those that are due. A
 * context that has gone leaves its struct behind, so that peers find out that it left, and when.
 */
#include "landing.h"

#include "ep_slice.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	WORLD_MAX = 16,
	REGIONS_MAX = 64, /* shown at a time */
	LOOKS_MAX = 6,	  /* that a message, or the news of its end, may be late */
};

/* A message that this rank sends; one at a time a peer, lane and way. */
struct message {
	bool sent;    /* and its sender does not know yet that it was carried out */
	bool carried; /* out, or dropped */
	uint32_t looks, round;
	struct accel_signal signal;
};

/* What has come from a peer. */
struct arrival {
	uint32_t round, count, base;
	bool taken;
};

struct peer {
	uint64_t incarnation; /* 0: not connected */
	bool closed, cut;
	struct message out[ACCEL_LANES_MAX][ACCEL_WAYS];
	struct arrival in[ACCEL_LANES_MAX][ACCEL_WAYS];
};

struct landing {
	struct accel_transport base; /* ep NULL: it has left */
	struct landing *next;
	uint64_t incarnation;
	int rank;
	uint32_t left_round[ACCEL_LANES_MAX];
	struct accel_region *region[REGIONS_MAX];
	struct peer peer[WORLD_MAX];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t carried_out = PTHREAD_COND_INITIALIZER;
static struct landing *all;
static uint64_t random_state;

landing_tamper_fn *landing_tamper;

void landing_seed(uint64_t seed)
{
	random_state = seed;
}

void landing_link(struct accel_group *group, int host_ranks)
{
	for (int p = 0; p < group->world; p++)
		if (p / host_ranks != group->rank / host_ranks)
			group->link[p] = ACCEL_LINK_VERBS;
}

static uint32_t late(void)
{
	return (uint32_t)tap_random_below(&random_state, LOOKS_MAX + 1);
}

static struct landing *find(uint64_t incarnation)
{
	struct landing *l = all;

	while (l && l->incarnation != incarnation)
		l = l->next;
	return l;
}

/* The peer as it sees this rank, if the two are connected and it lives. */
static struct landing *other(struct landing *l, int peer)
{
	const struct peer *to = &l->peer[peer];
	struct landing *o = to->closed || to->cut ? NULL : find(to->incarnation);

	return o && o->base.ep && o->peer[l->rank].incarnation == l->incarnation &&
			       !o->peer[l->rank].closed
		       ? o
		       : NULL;
}

/* ---- carrying out a message ---- */

static const uint8_t *source(const struct landing *l, uint64_t id, uint64_t offset, uint64_t bytes)
{
	for (int i = 0; i < REGIONS_MAX; i++) {
		const struct accel_region *r = l->region[i];

		if (!r || r->id != id)
			continue;
		return CHECK(offset <= r->bytes && bytes <= r->bytes - offset) ? r->addr + offset
									       : NULL;
	}
	CHECK(!"a message from a region that was not shown");
	return NULL;
}

static void carry(const struct landing *l, uint8_t *to, uint64_t id, uint64_t offset,
		  uint64_t bytes)
{
	const uint8_t *from = source(l, id, offset, bytes);

	if (from)
		memcpy(to, from, bytes);
}

static void carry_rows(const struct landing *l, const struct landing *to, uint32_t lane,
		       const struct accel_signal *s)
{
	const struct accel_ep *ep = l->base.ep;
	bool fp8 = ep->shape.dtype == ACCEL_DTYPE_FP8_E4M3;
	uint64_t row_bytes = ep->shape.hidden * (fp8 ? 1u : 2u),
		 scale_bytes = 4 * (uint64_t)((ep->shape.hidden + 127) / 128);
	const uint8_t *records = ep->window->addr + s->meta;
	uint8_t *rows = accel_ep_landed(to->base.ep, lane, l->rank);
	struct accel_inbox *inbox = accel_ep_inbox(to->base.ep, lane,
						   (uint32_t)to->base.ep->peers[l->rank].remote);

	for (uint32_t i = 0; i < s->count; i++, rows += ep->layout.row_bytes) {
		uint64_t token = accel_ep_record(ep, records, i)->token;

		carry(l, rows, s->region, s->offset + token * s->stride, row_bytes);
		if (fp8)
			carry(l, rows + ep->layout.scale_offset, s->scale_region,
			      s->scale_offset + token * s->scale_stride, scale_bytes);
	}
	memcpy(inbox + 1, records, (size_t)s->count * ep->layout.record_bytes);
}

static void carry_results(const struct landing *l, const struct landing *to, uint32_t lane,
			  const struct accel_signal *s)
{
	const struct accel_ep *ep = l->base.ep;
	uint64_t row_bytes = 2 * (uint64_t)ep->shape.hidden;
	uint8_t *rows = accel_ep_returned(to->base.ep, lane) +
			l->peer[to->rank].in[lane][ACCEL_WAY_DISPATCH].base * row_bytes;

	CHECK(rows + s->count * row_bytes <=
	      to->base.ep->landed->addr + to->base.ep->landed->bytes);
	for (uint32_t i = 0; i < s->count; i++)
		carry(l, rows + i * row_bytes, s->region,
		      s->offset + (uint64_t)(s->base + i) * s->stride, row_bytes);
}

static void carry_out(struct landing *l, int peer, uint32_t lane, enum accel_way way)
{
	struct message *m = &l->peer[peer].out[lane][way];
	struct landing *to = other(l, peer);
	struct arrival *in;

	m->carried = true;
	m->looks = late();
	if (!to)
		return;
	if (way == ACCEL_WAY_DISPATCH)
		carry_rows(l, to, lane, &m->signal);
	else
		carry_results(l, to, lane, &m->signal);
	in = &to->peer[l->rank].in[lane][way];
	CHECK(in->taken);
	*in = (struct arrival){.round = m->round, .count = m->signal.count, .base = m->signal.base};
	if (landing_tamper)
		landing_tamper(to->base.ep, l->rank, lane, way, &in->count);
	pthread_cond_broadcast(&carried_out);
}

/* Another look at what l sends to a peer: a step further if it is due, or if somebody now sleeps for it. */
static void look_at(struct landing *l, int peer, bool now)
{
	for (uint32_t lane = 0; lane < l->base.ep->shape.lanes; lane++)
		for (int way = 0; way < ACCEL_WAYS; way++) {
			struct message *m = &l->peer[peer].out[lane][way];

			if (!m->sent)
				continue;
			if (!now && m->looks) {
				m->looks--;
				continue;
			}
			if (m->carried)
				m->sent = false;
			else
				carry_out(l, peer, lane, way);
		}
}

static void progress(struct landing *l, bool now)
{
	for (int p = 0; p < l->base.ep->group->world; p++) {
		struct landing *o = l->peer[p].incarnation ? find(l->peer[p].incarnation) : NULL;

		if (!o)
			continue;
		look_at(l, p, now);
		if (o->base.ep && o->peer[l->rank].incarnation == l->incarnation)
			look_at(o, l->rank, now);
	}
}

/* ---- the table ---- */

static int landing_open(struct accel_ep *ep, struct accel_transport **transport)
{
	struct landing *l = calloc(1, sizeof(*l));

	if (!l || ep->group->world > WORLD_MAX)
		abort();
	l->base = (struct accel_transport){&accel_verbs_ops, ep};
	l->incarnation = ep->incarnation;
	l->rank = ep->group->rank;
	pthread_mutex_lock(&lock);
	l->next = all;
	all = l;
	pthread_mutex_unlock(&lock);
	*transport = &l->base;
	return 0;
}

static int landing_connect(struct accel_transport *base, int peer, uint64_t window,
			   uint64_t payload, uint64_t incarnation)
{
	struct landing *l = (struct landing *)base;

	(void)window;
	(void)payload;
	pthread_mutex_lock(&lock);
	CHECK(find(incarnation) != NULL);
	l->peer[peer] = (struct peer){.incarnation = incarnation};
	for (uint32_t lane = 0; lane < base->ep->shape.lanes; lane++)
		for (int way = 0; way < ACCEL_WAYS; way++)
			l->peer[peer].in[lane][way].taken = true;
	pthread_mutex_unlock(&lock);
	return 0;
}

static int landing_reg(struct accel_transport *base, int peer, struct accel_region *region)
{
	struct landing *l = (struct landing *)base;
	int i = 0;

	(void)peer;
	pthread_mutex_lock(&lock);
	while (i < REGIONS_MAX && l->region[i] != region)
		i++;
	if (i == REGIONS_MAX) {
		for (i = 0; i < REGIONS_MAX && l->region[i];)
			i++;
		if (CHECK(i < REGIONS_MAX))
			l->region[i] = accel_region_get(region);
	}
	pthread_mutex_unlock(&lock);
	return 0;
}

static void landing_dereg(struct accel_transport *base, struct accel_region *region)
{
	struct landing *l = (struct landing *)base;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < REGIONS_MAX; i++) {
		if (l->region[i] != region)
			continue;
		accel_region_put(region);
		l->region[i] = NULL;
	}
	pthread_mutex_unlock(&lock);
}

static int landing_send(struct accel_transport *base, int peer, uint32_t lane, enum accel_way way,
			uint32_t round, const struct accel_signal *signal)
{
	struct landing *l = (struct landing *)base;
	struct message *m;

	if (way == ACCEL_WAY_DONE)
		return 0;
	pthread_mutex_lock(&lock);
	m = &l->peer[peer].out[lane][way];
	CHECK(!m->sent || !other(l, peer));
	accel_ep_count(&base->ep->counters.bytes_wire,
		       (uint64_t)signal->count * (way == ACCEL_WAY_DISPATCH
							  ? base->ep->layout.row_bytes
							  : 2 * base->ep->shape.hidden));
	*m = (struct message){.sent = true, .looks = late(), .round = round, .signal = *signal};
	if (!m->looks)
		carry_out(l, peer, lane, way);
	pthread_mutex_unlock(&lock);
	return 0;
}

static int seen(struct landing *l, int peer, uint32_t lane, enum accel_way way, uint32_t round,
		struct accel_signal *signal)
{
	const enum accel_way before = way == ACCEL_WAY_DISPATCH ? ACCEL_WAY_COMBINE
								: ACCEL_WAY_DISPATCH;
	struct peer *p = &l->peer[peer];
	struct arrival *in = &p->in[lane][way];
	const struct landing *o = find(p->incarnation);

	if (in->round == round && !p->out[lane][before].sent) {
		in->taken = true;
		*signal = (struct accel_signal){.count = in->count};
		return 1;
	}
	if (in->round == round)
		return 0;
	if (p->cut) {
		snprintf(l->base.ep->peers[peer].trouble, ACCEL_TROUBLE_BYTES,
			 "the cable to rank %d is cut", peer);
		return -EIO;
	}
	if (o->peer[l->rank].closed && o->peer[l->rank].incarnation == l->incarnation)
		return -ESTALE;
	if (o->base.ep)
		return 0;
	signal->meta = o->left_round[lane];
	return -ESHUTDOWN;
}

static int landing_poll(struct accel_transport *base, int peer, uint32_t lane, enum accel_way way,
			uint32_t round, int64_t sleep_ns, struct accel_signal *signal)
{
	struct landing *l = (struct landing *)base;
	struct timespec end;
	int rc;

	if (way == ACCEL_WAY_DONE)
		return 0;
	pthread_mutex_lock(&lock);
	progress(l, sleep_ns > 0);
	rc = seen(l, peer, lane, way, round, signal);
	if (!rc && sleep_ns > 0) {
		clock_gettime(CLOCK_REALTIME, &end);
		end.tv_sec += (end.tv_nsec + sleep_ns) / 1000000000;
		end.tv_nsec = (end.tv_nsec + sleep_ns) % 1000000000;
		pthread_cond_timedwait(&carried_out, &lock, &end);
		progress(l, true);
		rc = seen(l, peer, lane, way, round, signal);
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

static void leave(struct landing *l)
{
	struct accel_ep *ep = l->base.ep;

	progress(l, true);
	for (uint32_t lane = 0; lane < ep->shape.lanes; lane++)
		l->left_round[lane] = (uint32_t)ep->lane[lane].round;
	for (int i = 0; i < REGIONS_MAX; i++) {
		accel_region_put(l->region[i]);
		l->region[i] = NULL;
	}
	l->base.ep = NULL;
}

/* Of messages of the two that are not carried out yet nothing is, from now on. */
static void landing_close(struct accel_transport *base, int peer)
{
	struct landing *l = (struct landing *)base;

	pthread_mutex_lock(&lock);
	if (peer < 0)
		leave(l);
	else
		l->peer[peer].closed = true;
	pthread_cond_broadcast(&carried_out);
	pthread_mutex_unlock(&lock);
}

void landing_cut(struct accel_ep *ep, int peer)
{
	struct landing *l = (struct landing *)ep->peers[peer].transport, *o;

	pthread_mutex_lock(&lock);
	o = other(l, peer);
	l->peer[peer].cut = true;
	if (o)
		o->peer[l->rank].cut = true;
	pthread_cond_broadcast(&carried_out);
	pthread_mutex_unlock(&lock);
}

/* In the place of libaccel's own, which an archive then does not give. */
const struct accel_transport_ops accel_verbs_ops = {
	.name = "landing",
	.lands = true,
	.open = landing_open,
	.connect = landing_connect,
	.reg = landing_reg,
	.dereg = landing_dereg,
	.send = landing_send,
	.poll = landing_poll,
	.close = landing_close,
};
