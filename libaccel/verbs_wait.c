// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * What can be said of a peer, and sleeping until there is more to say.
 *
 * What has arrived counts before anything else, as long as what this rank sent one way before is read
 * no more, and what it sends this way is posted to its end: its caller may now make no call for long,
 * and the peer would wait for the rest. When the peer's answer has come, that was received; should its
 * acknowledgement be lost because the peer has gone meanwhile, the queue pairs are stopped, and flushed
 * is as good as read.
 *
 * A sleeper asks the devices for an event, looks once more and waits in poll(2): for the event, its
 * peer's control socket, or its eventfd. An event wakes one and is gone with that, so who takes it
 * wakes the others, to ask again.
 */
#define _GNU_SOURCE
#include "verbs.h"

#include "order.h"

#include <poll.h>
#include <unistd.h>

#define CHANNELS_EVENTS_MAX 1024 /* taken at a time */

/* ---- What can be said ------------------------------------------------------------------------ */

static bool has_come(const struct accel_verbs_peer *p, uint32_t lane, enum accel_way way,
		     uint32_t round)
{
	const struct accel_verbs_arrival *a = &p->arrival[lane][way];

	return a->whole && a->round == round;
}

static enum accel_way way_before(enum accel_way way)
{
	return way == ACCEL_WAY_DISPATCH ? ACCEL_WAY_COMBINE : ACCEL_WAY_DISPATCH;
}

/* Does some of it still wait for room in a queue? Then this rank must go on calling poll(). */
static bool is_stuck(const struct accel_verbs_message *m)
{
	for (unsigned i = 0; m->busy && i < m->stripes; i++)
		if (!m->stripe[i].lined)
			return true;
	return false;
}

static int look(struct accel_verbs_peer *p, uint32_t lane, enum accel_way way, uint32_t round,
		struct accel_signal *signal)
{
	struct accel_verbs_arrival *a = &p->arrival[lane][way];

	if (p->state != ACCEL_VERBS_CONNECTED)
		return 0; /* fenced by another thread just now */
	if (has_come(p, lane, way, round)) {
		if (p->message[lane][way_before(way)].busy || is_stuck(&p->message[lane][way]))
			return 0;
		a->read = true;
		*signal = (struct accel_signal){.count = a->count};
		return 1;
	}
	if (a->whole && !a->read)
		return -EPROTO; /* of a round that is not open */
	if (p->masks_us)
		return -ESTALE;
	if (p->left) {
		signal->meta = p->left_round[lane];
		return -ESHUTDOWN;
	}
	return p->error;
}

/* What the peer says over its socket. 0, or how that has ended. */
static int listen_to(struct accel_verbs_transport *t, struct accel_verbs_peer *p)
{
	struct accel_channel *channel = t->base.ep->group->channel[p->rank];
	const uint64_t tag = t->base.ep->tag;
	const size_t bytes = t->lanes * sizeof(*p->left_round);
	ssize_t masked = accel_channel_take(channel, ACCEL_MESSAGE_MASKED, tag, NULL, 0),
		left = accel_channel_take(channel, ACCEL_MESSAGE_LEFT, tag, p->left_round, bytes);

	p->masks_us |= !masked;
	p->left |= left == (ssize_t)bytes;
	if (masked == -EMSGSIZE || left == -EMSGSIZE || (left >= 0 && left < (ssize_t)bytes))
		return -EPROTO;
	return masked < 0 && masked != -EAGAIN ? (int)masked : 0;
}

/* All that can be found out about a peer that has not come. */
static int find_out(struct accel_verbs_transport *t, struct accel_verbs_peer *p, uint32_t lane,
		    enum accel_way way, uint32_t round, struct accel_signal *signal)
{
	int socket = p->state == ACCEL_VERBS_CONNECTED ? listen_to(t, p) : 0, rc;

	accel_verbs_events(t->verbs);
	accel_verbs_events_judge(t);
	accel_verbs_progress(t);
	if (has_come(p, lane, way, round) && (socket || p->left))
		accel_verbs_stop(t, p);
	rc = look(p, lane, way, round, signal);
	/* A peer that is dead is better news than a path that is broken. */
	return socket && !has_come(p, lane, way, round) && (!rc || rc == -EIO) ? socket : rc;
}

/* ---- Sleeping -------------------------------------------------------------------------------- */

static void arm(struct accel_verbs_transport *t)
{
	for (int r = 0; r < t->verbs->rail_count; r++)
		ibv_req_notify_cq(t->queue[r].cq, 0);
	accel_verbs_progress(t);
}

/* Take in the completion events that there are. */
static bool take_events(struct accel_verbs_transport *t)
{
	const struct accel_verbs_api *api = t->verbs->api;
	bool any = false;

	for (int r = 0; r < t->verbs->rail_count; r++) {
		struct ibv_cq *cq;
		void *arg;

		for (int i = 0; i < CHANNELS_EVENTS_MAX; i++) {
			if (api->get_cq_event(t->queue[r].channel, &cq, &arg))
				break;
			api->ack_cq_events(cq, 1);
			any = true;
		}
	}
	return any;
}

void accel_verbs_unlock(struct accel_verbs_transport *t)
{
	const uint64_t one = 1;

	for (uint32_t l = 0; l < t->lanes; l++)
		if (t->news >> l & 1 && t->sleeper[l].asleep &&
		    write(t->sleeper[l].fd, &one, sizeof(one)) < 0)
			continue; /* it is full: the sleeper wakes as well */
	t->news = 0;
	pthread_mutex_unlock(&t->lock);
}

/* poll(2), with the completion channels as the first of count descriptors; the lock is dropped. */
static void wait_for(struct accel_verbs_transport *t, struct pollfd *fds, int count, int64_t ns)
{
	struct timespec time = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

	for (int r = 0; r < t->verbs->rail_count; r++)
		fds[r] = (struct pollfd){.fd = t->queue[r].channel->fd, .events = POLLIN};
	accel_verbs_unlock(t);
	ppoll(fds, (nfds_t)count, &time, NULL);
	pthread_mutex_lock(&t->lock);
}

void accel_verbs_nap(struct accel_verbs_transport *t, int64_t ns)
{
	struct pollfd fds[ACCEL_RAILS_MAX];

	wait_for(t, fds, t->verbs->rail_count, ns);
	take_events(t);
	arm(t);
}

static void sleep_for(struct accel_verbs_transport *t, struct accel_verbs_peer *p, uint32_t lane,
		      int64_t ns)
{
	struct pollfd fds[ACCEL_RAILS_MAX + 2];
	struct accel_verbs_sleeper *sleeper = &t->sleeper[lane];
	int count = t->verbs->rail_count;
	uint64_t times;

	fds[count++] = (struct pollfd){.fd = accel_channel_fd(t->base.ep->group->channel[p->rank]),
				       .events = POLLIN};
	fds[count++] = (struct pollfd){.fd = sleeper->fd, .events = POLLIN};
	sleeper->asleep = true;
	wait_for(t, fds, count, ns);
	sleeper->asleep = false;
	if (read(sleeper->fd, &times, sizeof(times)) < 0)
		times = 0; /* nobody has */
	if (take_events(t))
		t->news |= (1u << t->lanes) - 1;
	accel_verbs_progress(t);
}

/* ---- poll ------------------------------------------------------------------------------------ */

static int poll_peer(struct accel_verbs_transport *t, struct accel_verbs_peer *p, uint32_t lane,
		     enum accel_way way, uint32_t round, int64_t sleep_ns,
		     struct accel_signal *signal)
{
	int rc;

	accel_verbs_progress(t);
	rc = look(p, lane, way, round, signal);
	if (!rc && sleep_ns > 0) {
		arm(t);
		rc = look(p, lane, way, round, signal);
		if (!rc && p->state == ACCEL_VERBS_CONNECTED) {
			sleep_for(t, p, lane, sleep_ns);
			rc = look(p, lane, way, round, signal);
		}
	}
	if ((!rc && sleep_ns) || rc == -EIO)
		rc = find_out(t, p, lane, way, round, signal);
	return rc;
}

int accel_verbs_poll(struct accel_transport *transport, int peer, uint32_t lane, enum accel_way way,
		     uint32_t round, int64_t sleep_ns, struct accel_signal *signal)
{
	struct accel_verbs_transport *t = accel_verbs_transport(transport);
	int rc;

	if (way == ACCEL_WAY_DONE) /* what was read is this rank's own */
		return 0;
	pthread_mutex_lock(&t->lock);
	rc = poll_peer(t, accel_verbs_peer(t, peer), lane, way, round, sleep_ns, signal);
	accel_verbs_unlock(t);
	return rc;
}
