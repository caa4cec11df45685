// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The steps that the ranks of an EP context make together: options are exchanged and compared;
 * windows are shown together with "ready" or the error; boards are opened, which all wait for. A
 * rank that fails says so, so that all fail with its name.
 *
 * When ranks join, those that have the context make the same steps, also with each other, so that a
 * rank that is missing, dies or is at another round is named to everybody by itself; but only those
 * that join are strangers to them.
 */
#include "ep_meet.h"

#include "deadline.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ERRNO_MAX 4095

#define FAIL(code, ...) accel_fail(NULL, code, ACCEL_AT_CREATE, __VA_ARGS__)

/* The body of EP_READY. */
struct ready {
	int32_t status; /* 0 or the errno that ended the sender's create */
	uint32_t pad;
	uint64_t window, payload; /* regions */
	uint64_t incarnation;
};

_Static_assert(sizeof(struct ready) <= sizeof(struct accel_ep_hello), "answers hold either");

/* Messages of contexts that were given up on one side. */
static void forget_older(struct accel_group *group, uint64_t tag)
{
	for (int p = 0; p < group->world; p++) {
		if (!group->channel[p])
			continue;
		accel_channel_drop(group->channel[p], ACCEL_MESSAGE_EP_OPTS, tag * 2);
		accel_channel_drop(group->channel[p], ACCEL_MESSAGE_EP_READY, tag * 2);
		accel_channel_drop(group->channel[p], ACCEL_MESSAGE_VERBS, tag);
	}
}

void accel_ep_meeting_init(struct accel_ep_meeting *m, struct accel_group *group)
{
	*m = (struct accel_ep_meeting){
		.role = group->params.opts.join ? ACCEL_EP_JOINS : ACCEL_EP_CREATES,
		.group = group,
		.tag = ++group->ep_number,
	};
	forget_older(group, m->tag);
	for (int p = 0; p < group->world; p++) {
		if (!group->channel[p])
			continue;
		accel_ranks_add(m->with, p);
		accel_ranks_add(m->strange, p);
	}
}

void accel_ep_meeting_fini(struct accel_ep_meeting *m)
{
	free(m->answers);
}

void accel_ep_decline(struct accel_ep_meeting *m)
{
	const struct accel_ep_hello none = {0};

	for (int p = 0; p < m->group->world; p++)
		if (accel_ranks_has(m->with, p))
			accel_channel_send(m->group->channel[p], ACCEL_MESSAGE_EP_OPTS, m->tag * 2,
					   &none, sizeof(none), 0);
}

static int exchange(struct accel_ep_meeting *m, uint32_t type, uint64_t tag, const void *mine,
		    size_t bytes)
{
	struct accel_exchange what = {.with = m->with,
				      .type = type,
				      .tag = tag,
				      .mine = mine,
				      .bytes = bytes,
				      .all = m->answers,
				      .timeout_ns = m->ep->local.timeout_ns,
				      .aborted = &m->ep->aborted};

	if (m->deadline_ns) {
		what.timeout_ns = m->deadline_ns - accel_now_ns();
		what.timeout_ns = what.timeout_ns > 0 ? what.timeout_ns : 1;
	}
	return accel_exchange(m->group, &what);
}

static int fail_about(int rank, int code, const char *text)
{
	const struct accel_failure where = {.rank = rank, .phase = ACCEL_PHASE_CREATE, .lane = -1};

	return accel_fail(NULL, code, &where, text, rank);
}

static int check_role(const struct accel_ep_meeting *m, int peer, uint32_t role)
{
	uint32_t due = accel_ranks_has(m->strange, peer) ? ACCEL_EP_JOINS : ACCEL_EP_LETS_JOIN;

	if (role < ACCEL_EP_CREATES || role > ACCEL_EP_JOINS)
		return fail_about(peer, -EPROTO,
				  "rank %d takes part as what this version does not know");
	if (m->role == ACCEL_EP_CREATES && role == ACCEL_EP_LETS_JOIN)
		return fail_about(
			peer, -EPROTO,
			"rank %d lets ranks join a context, and this rank makes a new one");
	if (m->role != ACCEL_EP_LETS_JOIN || role == due)
		return 0;
	return fail_about(
		peer, -EPROTO,
		due == ACCEL_EP_JOINS ? "rank %d was to join, but takes part as if it had been here"
		: role == ACCEL_EP_JOINS ? "rank %d joins, but this rank was not told to let it"
					 : "rank %d makes a new context, and this rank lets "
					   "ranks join one that it has");
}

/* Lanes go on where those that have the context are; they must be at one round. */
static int check_rounds(struct accel_ep_meeting *m, int first, int peer, const uint64_t *round)
{
	const struct accel_failure where = {.rank = peer, .phase = ACCEL_PHASE_CREATE, .lane = -1};

	for (uint32_t l = 0; l < m->ep->shape.lanes; l++)
		if (m->round[l] != round[l])
			return accel_fail(NULL, -EPROTO, &where,
					  "lane %u has made %" PRIu64
					  " rounds on rank %d and %" PRIu64
					  " on rank %d: ranks that let others join must be in step",
					  l, m->round[l], first, round[l], peer);
	return 0;
}

/* Everybody's first message is there. */
static int compare(struct accel_ep_meeting *m, const struct accel_ep_hello *all,
		   const int32_t *tables)
{
	int world = m->group->world, rank = m->group->rank, first = -1, rc = 0;

	for (int p = 0; p < world && !rc; p++)
		if (accel_ranks_has(m->with, p))
			rc = accel_ep_compare(rank, &m->ep->shape, tables, p, &all[p].shape,
					      tables);
	for (int p = 0; p < world && !rc; p++)
		if (accel_ranks_has(m->with, p))
			rc = check_role(m, p, all[p].role);
	for (int p = 0; p < world && !rc; p++) {
		if ((p != rank && !accel_ranks_has(m->with, p)) ||
		    all[p].role != ACCEL_EP_LETS_JOIN)
			continue;
		if (first < 0)
			memcpy(m->round, all[p].round, sizeof(m->round));
		first = first < 0 ? p : first;
		rc = check_rounds(m, first, p, all[p].round);
	}
	m->goes_on = first >= 0;
	for (int p = 0; p < world && !rc; p++) {
		if (m->goes_on && all[p].role == ACCEL_EP_CREATES)
			rc = fail_about(p, -EPROTO,
					"rank %d makes a new context where others let "
					"ranks join one that they have");
		else if (!m->goes_on && p != rank && !accel_ranks_has(m->with, p))
			rc = fail_about(p, -ECONNRESET,
					"rank %d was absent when this rank joined: a new "
					"context needs all ranks");
	}
	return rc;
}

static int exchange_hellos(struct accel_ep_meeting *m, const int32_t *tables)
{
	struct accel_ep_hello hello = {.shape = m->ep->shape, .role = m->role};
	int rc;

	for (uint32_t l = 0; l < m->ep->shape.lanes && m->role == ACCEL_EP_LETS_JOIN; l++)
		hello.round[l] = m->ep->lane[l].round;
	rc = exchange(m, ACCEL_MESSAGE_EP_OPTS, m->tag * 2, &hello, sizeof(hello));
	return rc ? rc : compare(m, m->answers, tables);
}

/*
 * Shapes of different E make messages of different size: the exchange carries the fixed part first,
 * then the tables, so that unequal experts are named like any other field.
 */
int accel_ep_agree(struct accel_ep_meeting *m, struct accel_ep *ep, const int32_t *tables)
{
	size_t entries = 2 * (size_t)ep->shape.experts;
	int world = m->group->world, rc;

	m->ep = ep;
	m->answers = calloc((size_t)world,
			    sizeof(struct accel_ep_hello) + entries * sizeof(*tables));
	if (!m->answers) {
		accel_ep_decline(m);
		return FAIL(-ENOMEM, "no memory for the answers of %d ranks", world);
	}
	rc = exchange_hellos(m, tables);
	if (!rc)
		rc = exchange(m, ACCEL_MESSAGE_EP_OPTS, m->tag * 2 + 1, tables,
			      entries * sizeof(*tables));
	for (int p = 0; p < world && !rc; p++)
		if (accel_ranks_has(m->with, p))
			rc = accel_ep_compare(m->group->rank, &ep->shape, tables, p, &ep->shape,
					      (int32_t *)m->answers + (size_t)p * entries);
	return rc;
}

/* Say ready, or why not, and hear the same from all; the error is the own one, else the lowest rank's. */
static int hear(struct accel_ep_meeting *m, uint64_t tag, const struct ready *mine)
{
	struct accel_failure where = {.rank = -1, .phase = ACCEL_PHASE_CREATE, .lane = -1};
	const struct ready *all = m->answers;
	struct accel_error own = {.size = sizeof(own)};
	int rc;

	if (mine->status)
		accel_error_get(NULL, &own);
	rc = exchange(m, ACCEL_MESSAGE_EP_READY, tag, mine, sizeof(*mine));
	where.rank = own.rank;
	if (mine->status)
		return accel_fail(NULL, mine->status, &where, "%s", own.text);
	for (int p = 0; p < m->group->world && !rc; p++) {
		if (!accel_ranks_has(m->with, p))
			continue;
		where.rank = p;
		if (all[p].status > 0 || all[p].status < -ERRNO_MAX)
			rc = accel_fail(NULL, -EPROTO, &where,
					"rank %d says %d where 0 or an errno is due", p,
					all[p].status);
		else if (all[p].status)
			rc = accel_fail(NULL, all[p].status, &where,
					"rank %d could not make its part of the context: %s", p,
					strerror(-all[p].status));
	}
	return rc;
}

static int show_memory(struct accel_ep_meeting *m)
{
	struct accel_failure where = {.phase = ACCEL_PHASE_CREATE, .lane = -1};
	struct accel_ep *ep = m->ep;
	struct accel_transport *t = NULL;
	int rc = 0;

	for (int p = 0; p < m->group->world && !rc; p++) {
		where.rank = p;
		if (!accel_ranks_has(m->strange, p))
			continue;
		t = ep->peers[p].transport;
		rc = t->ops->reg(t, p, ep->window);
		if (!rc)
			rc = t->ops->reg(t, p, ep->payload);
	}
	if (!rc)
		return 0;
	/* A transport that lands has said why, to the context, which create does not hand out. */
	if (t->ops->lands && rc != -ECONNRESET && rc != -EPROTO) {
		struct accel_error why = {.size = sizeof(why)};

		accel_error_get(&ep->obj, &why);
		return accel_fail(NULL, rc, &where, "%s", why.text);
	}
	return accel_fail(NULL, rc, &where, "the window could not be shown to rank %d: %s",
			  where.rank, strerror(-rc));
}

static int connect_peers(struct accel_ep_meeting *m)
{
	const struct ready *all = m->answers;
	struct accel_ep *ep = m->ep;
	struct accel_transport *t;
	int rc = 0;

	for (int p = 0; p < m->group->world && !rc; p++) {
		if (!accel_ranks_has(m->strange, p))
			continue;
		accel_region_put(ep->peer_window[p]);
		ep->peer_window[p] = NULL;
		t = ep->peers[p].transport;
		rc = t->ops->connect(t, p, all[p].window, all[p].payload, all[p].incarnation);
		if (!rc && !t->ops->lands)
			rc = t->ops->reach(t, p, all[p].window, &ep->peer_window[p]);
	}
	return rc;
}

int accel_ep_meet(struct accel_ep_meeting *m, int status)
{
	struct ready mine = {.incarnation = m->ep->incarnation};
	int rc;

	m->ep->tag = m->tag;
	mine.status = status ? status : show_memory(m);
	mine.window = m->ep->window ? m->ep->window->id : 0;
	mine.payload = m->ep->payload ? m->ep->payload->id : 0;
	rc = hear(m, m->tag * 2, &mine);
	if (!rc) {
		mine.status = connect_peers(m);
		rc = hear(m, m->tag * 2 + 1, &mine);
	}
	return rc;
}
