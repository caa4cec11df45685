// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The steps that the ranks of an EP context make together: options are exchanged and compared;
 * windows are shown together with "ready" or the error; boards are opened, which all wait for. A
 * rank that fails says so, so that all fail with its name.
 */
#include "ep_meet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ERRNO_MAX 4095

#define FAIL(code, ...) accel_fail(NULL, code, ACCEL_AT_CREATE, __VA_ARGS__)

/* The body of EP_READY. */
struct ready {
	int32_t status; /* 0 or the errno that ended the sender's create */
	uint32_t pad;
	uint64_t region;
	uint64_t incarnation;
};

_Static_assert(sizeof(struct ready) <= sizeof(struct accel_ep_shape), "answers hold either");

/* Messages of contexts that were given up on one side. */
static void forget_older(struct accel_group *group, uint64_t tag)
{
	for (int p = 0; p < group->world; p++) {
		if (!group->channel[p])
			continue;
		accel_channel_drop(group->channel[p], ACCEL_MESSAGE_EP_OPTS, tag * 2);
		accel_channel_drop(group->channel[p], ACCEL_MESSAGE_EP_READY, tag * 2);
	}
}

void accel_ep_meeting_init(struct accel_ep_meeting *m, struct accel_group *group)
{
	*m = (struct accel_ep_meeting){.group = group, .tag = ++group->ep_number};
	forget_older(group, m->tag);
	for (int p = 0; p < group->world; p++) {
		if (p == group->rank)
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
	const struct accel_ep_shape none = {0};

	for (int p = 0; p < m->group->world; p++)
		if (accel_ranks_has(m->with, p))
			accel_channel_send(m->group->channel[p], ACCEL_MESSAGE_EP_OPTS, m->tag * 2,
					   &none, sizeof(none), 0);
}

static int exchange(struct accel_ep_meeting *m, uint32_t type, uint64_t tag, const void *mine,
		    size_t bytes)
{
	const struct accel_exchange what = {.with = m->with,
					    .type = type,
					    .tag = tag,
					    .mine = mine,
					    .bytes = bytes,
					    .all = m->answers,
					    .timeout_ns = m->ep->local.timeout_ns};

	return accel_exchange(m->group, &what);
}

/*
 * Shapes of different E make messages of different size: the exchange carries the fixed part first,
 * then the tables, so that unequal experts are named like any other field.
 */
int accel_ep_agree(struct accel_ep_meeting *m, struct accel_ep *ep, const int32_t *tables)
{
	int world = m->group->world, rank = m->group->rank, rc;
	size_t shape_bytes = sizeof(ep->shape),
	       tables_bytes = 2 * (size_t)ep->shape.experts * sizeof(int32_t);

	m->ep = ep;
	m->answers = calloc((size_t)world, shape_bytes + tables_bytes);
	if (!m->answers) {
		accel_ep_decline(m);
		return FAIL(-ENOMEM, "no memory for the answers of %d ranks", world);
	}
	rc = exchange(m, ACCEL_MESSAGE_EP_OPTS, m->tag * 2, &ep->shape, shape_bytes);
	for (int p = 0; p < world && !rc; p++) {
		struct accel_ep_shape theirs;

		memcpy(&theirs, (uint8_t *)m->answers + (size_t)p * shape_bytes, shape_bytes);
		if (accel_ranks_has(m->with, p))
			rc = accel_ep_compare(rank, &ep->shape, tables, p, &theirs, tables);
	}
	if (!rc)
		rc = exchange(m, ACCEL_MESSAGE_EP_OPTS, m->tag * 2 + 1, tables, tables_bytes);
	for (int p = 0; p < world && !rc; p++)
		if (accel_ranks_has(m->with, p))
			rc = accel_ep_compare(rank, &ep->shape, tables, p, &ep->shape,
					      (int32_t *)m->answers +
						      (size_t)p * 2 * ep->shape.experts);
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

static int show_window(struct accel_ep_meeting *m)
{
	struct accel_ep *ep = m->ep;
	int rc = 0;

	for (int p = 0; p < m->group->world && !rc; p++)
		if (accel_ranks_has(m->strange, p))
			rc = ep->ops->reg(ep->transport, p, ep->window);
	return rc ? FAIL(rc, "the window could not be shown to a peer: %s", strerror(-rc)) : 0;
}

static int connect_peers(struct accel_ep_meeting *m)
{
	const struct ready *all = m->answers;
	struct accel_ep *ep = m->ep;
	int rc = 0;

	for (int p = 0; p < m->group->world && !rc; p++) {
		if (!accel_ranks_has(m->strange, p))
			continue;
		rc = ep->ops->connect(ep->transport, p, all[p].region, all[p].incarnation);
		if (!rc)
			rc = ep->ops->reach(ep->transport, p, all[p].region, &ep->peer_window[p]);
	}
	return rc;
}

int accel_ep_meet(struct accel_ep_meeting *m, int status)
{
	struct ready mine = {.incarnation = m->ep->incarnation};
	int rc;

	mine.status = status ? status : show_window(m);
	mine.region = m->ep->window ? m->ep->window->id : 0;
	rc = hear(m, m->tag * 2, &mine);
	if (!rc) {
		mine.status = connect_peers(m);
		rc = hear(m, m->tag * 2 + 1, &mine);
	}
	return rc;
}
