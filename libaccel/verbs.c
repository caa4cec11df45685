// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The verbs transport: RDMA between ranks that share no memory, over plain libibverbs. verbs.h has the
 * protocol and says which file does what; here are its beginning and its end.
 *
 * A context has on each rail (a port that its group uses) one completion queue and one channel for
 * events, and registers for all peers together: its window, to be read by the device; the inboxes in it and
 * the landed region, to be written by peers. Those are all that a peer can ever write.
 */
#include "verbs.h"

#include "order.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define NAP_NS INT64_C(1000000)
#define WRITE_BYTES_MAX (UINT64_C(1) << 30) /* of a message, InfiniBand architecture vol. 1: 2^31 */

#define FAIL(code, ...) accel_fail(NULL, code, ACCEL_AT_CREATE, __VA_ARGS__)

/* ---- open ------------------------------------------------------------------------------------ */

static int open_devices(struct accel_group *group)
{
	struct accel_verbs_opts verbs;
	int rc = 0;

	accel_verbs_opts_init(&verbs, &group->params.opts);
	verbs.host_rank = group->host_rank;
	verbs.host_ranks = group->host_ranks;
	pthread_mutex_lock(&group->dev->lock);
	if (!group->verbs)
		rc = accel_verbs_open(&verbs, &group->verbs);
	pthread_mutex_unlock(&group->dev->lock);
	return rc;
}

/* What the devices allow of what was asked for; see verbs.h for the completion queue's size. */
static int set_limits(struct accel_verbs_transport *t)
{
	uint32_t receives = accel_verbs_receives(t->lanes);

	t->depth = t->verbs->opts.depth;
	t->qps = accel_min_u32(t->verbs->opts.qps,
			       ACCEL_STRIPES_MAX / (uint32_t)t->verbs->rail_count);
	t->write_bytes_max = WRITE_BYTES_MAX;
	for (int r = 0; r < t->verbs->rail_count; r++) {
		const struct accel_verbs_rail *rail = &t->verbs->rail[r];
		const struct ibv_device_attr *attr = &rail->port.device_attr;
		uint32_t share = (uint32_t)attr->max_cqe / (t->remotes * t->qps);

		if (rail->gather_max < ACCEL_GATHER_MIN)
			return FAIL(
				-EOPNOTSUPP,
				"%s gathers %u entries into a work request, a row needs up to %u",
				rail->port.device, rail->gather_max, ACCEL_GATHER_MIN);
		if (share < receives + ACCEL_VERBS_DEPTH_MIN)
			return FAIL(
				-ENOSPC,
				"%s has completion queues of %d entries: too few for %u queue pairs "
				"(verbs.qps, or more rails)",
				rail->port.device, attr->max_cqe, t->remotes * t->qps);
		t->depth = accel_min_u32(t->depth, (uint32_t)attr->max_qp_wr);
		t->depth = accel_min_u32(t->depth, share - receives);
		if (rail->port.attr.max_msg_sz && rail->port.attr.max_msg_sz < t->write_bytes_max)
			t->write_bytes_max = rail->port.attr.max_msg_sz;
	}
	t->depth = t->depth < ACCEL_VERBS_DEPTH_MIN ? ACCEL_VERBS_DEPTH_MIN : t->depth;
	return 0;
}

static int set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) ? -1 : 0;
}

static int open_queue(struct accel_verbs_transport *t, int r)
{
	const struct accel_verbs_api *api = t->verbs->api;
	const struct accel_verbs_rail *rail = &t->verbs->rail[r];
	uint32_t entries = t->remotes * t->qps * (t->depth + accel_verbs_receives(t->lanes));

	t->queue[r].channel = api->create_comp_channel(rail->context);
	if (t->queue[r].channel)
		t->queue[r].cq = api->create_cq(rail->context, (int)entries, &t->queue[r].overrun,
						t->queue[r].channel, 0);
	if (!t->queue[r].cq)
		return FAIL(errno == ENOMEM ? -ENOMEM : -EIO,
			    "a completion queue of %u entries on %s: %s%s", entries,
			    rail->port.device, strerror(errno),
			    errno == ENOMEM ? "; a smaller verbs.depth or a larger RLIMIT_MEMLOCK "
					      "(ulimit -l) helps"
					    : "");
	/* Events are looked for, never waited for in a read. */
	if (set_nonblocking(t->queue[r].channel->fd) || set_nonblocking(rail->context->async_fd))
		return FAIL(-EIO, "events of %s: %s", rail->port.device, strerror(errno));
	return 0;
}

static int open_registrations(struct accel_verbs_transport *t)
{
	struct accel_ep *ep = t->base.ep;
	const struct accel_ep_layout *l = &ep->layout;
	int rc = accel_verbs_use(t->verbs, NULL, ep->window, 0, ep->window->bytes, false,
				 &t->window);

	if (!rc)
		rc = accel_verbs_use(t->verbs, NULL, ep->window, l->inboxes, l->inboxes_bytes, true,
				     &t->inboxes);
	return rc ? rc
		  : accel_verbs_use(t->verbs, NULL, ep->landed, 0, ep->landed->bytes, true,
				    &t->landed);
}

static int open_sleepers(struct accel_verbs_transport *t)
{
	for (uint32_t l = 0; l < t->lanes; l++) {
		t->sleeper[l].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (t->sleeper[l].fd < 0)
			return FAIL(-ENOMEM, "an eventfd: %s", strerror(errno));
	}
	return 0;
}

static void close_local(struct accel_verbs_transport *t);

static int verbs_open(struct accel_ep *ep, struct accel_transport **transport)
{
	uint32_t remotes = ep->layout.remotes;
	struct accel_verbs_transport *t = calloc(1, sizeof(*t) + remotes * sizeof(*t->peer));
	int rc;

	if (!t)
		return FAIL(-ENOMEM, "no memory for the state of %u peers", remotes);
	t->base = (struct accel_transport){&accel_verbs_ops, ep};
	t->lanes = ep->shape.lanes;
	t->remotes = remotes;
	pthread_mutex_init(&t->lock, NULL);
	for (uint32_t l = 0; l < ACCEL_LANES_MAX; l++)
		t->sleeper[l].fd = -1;
	for (int p = 0; p < ep->group->world; p++) {
		struct accel_verbs_peer *peer;

		if (ep->peers[p].remote < 0)
			continue;
		peer = accel_verbs_peer(t, p);
		peer->rank = p;
		peer->remote = (uint32_t)ep->peers[p].remote;
	}
	rc = open_devices(ep->group);
	t->verbs = ep->group->verbs;
	if (!rc)
		rc = set_limits(t);
	for (int r = 0; !rc && r < t->verbs->rail_count; r++)
		rc = open_queue(t, r);
	if (!rc)
		rc = open_registrations(t);
	if (!rc)
		rc = open_sleepers(t);
	if (rc) {
		close_local(t);
		return rc;
	}
	*transport = &t->base;
	return 0;
}

/* ---- reg, dereg ------------------------------------------------------------------------------ */

/* The window: each peer is told once where it may write. */
static int show(struct accel_verbs_transport *t, struct accel_verbs_peer *p)
{
	int rc = 0;

	pthread_mutex_lock(&t->lock);
	if (p->state == ACCEL_VERBS_APART)
		rc = accel_verbs_show(t, p);
	accel_verbs_unlock(t);
	return rc;
}

/* Without the lock: to register takes long, and other lanes go on. */
static int verbs_reg(struct accel_transport *transport, int peer, struct accel_region *region)
{
	struct accel_verbs_transport *t = accel_verbs_transport(transport);
	struct accel_ep *ep = t->base.ep;
	struct accel_verbs_mr *mr;
	int rc;

	if (region == ep->window)
		return show(t, accel_verbs_peer(t, peer));
	if (region->id == atomic_load_explicit(&t->registered, memory_order_relaxed))
		return 0;
	rc = accel_verbs_use(t->verbs, &ep->obj, region, 0, region->bytes, false, &mr);
	if (rc)
		return rc;
	/* Kept, until the region goes: what is sent from it finds it. */
	accel_verbs_unuse(t->verbs, mr);
	atomic_store_explicit(&t->registered, region->id, memory_order_relaxed);
	return 0;
}

static void verbs_dereg(struct accel_transport *transport, struct accel_region *region)
{
	accel_verbs_forget(accel_verbs_transport(transport)->verbs, region->id);
}

/* ---- close ----------------------------------------------------------------------------------- */

/* The control socket to it, or NULL: it is of a process that has come in its place. */
static struct accel_channel *channel_of(const struct accel_verbs_transport *t,
					const struct accel_verbs_peer *p)
{
	const struct accel_ep *ep = t->base.ep;

	return ep->joins[p->rank] == ep->group->joins[p->rank] ? ep->group->channel[p->rank] : NULL;
}

static void close_peer(struct accel_verbs_transport *t, struct accel_verbs_peer *p)
{
	struct accel_channel *channel = channel_of(t, p);

	if (p->state == ACCEL_VERBS_APART)
		return;
	/* Before its packets go unanswered, so that it knows why. */
	if (p->state == ACCEL_VERBS_CONNECTED && channel)
		accel_channel_send(channel, ACCEL_MESSAGE_MASKED, t->base.ep->tag, NULL, 0, 0);
	accel_verbs_peer_end(t, p, accel_now_ns() + ACCEL_VERBS_END_NS_MAX);
}

/* Would it want to know that this rank leaves? */
static bool is_there(struct accel_verbs_transport *t, const struct accel_verbs_peer *p)
{
	struct accel_channel *channel = channel_of(t, p);

	return p->state == ACCEL_VERBS_CONNECTED && !p->left && !p->masks_us && channel &&
	       !accel_channel_drain(channel);
}

/* One step towards it: true, a goodbye was said, or cannot be over the queue pair. */
static bool say_goodbye(struct accel_verbs_transport *t, struct accel_verbs_peer *p, bool *said)
{
	const struct accel_verbs_qp *qp = &p->qp[0];

	if (p->stopped || !is_there(t, p))
		return true;
	if (*said)
		return qp->posted == qp->completed;
	if (p->pending)
		return false;
	accel_verbs_goodbye(t, p);
	*said = true;
	return false;
}

/* Where the device could not. */
static void write_goodbye(struct accel_verbs_transport *t, const struct accel_verbs_peer *p)
{
	struct accel_ep *ep = t->base.ep;
	uint64_t round[ACCEL_LANES_MAX];

	for (uint32_t l = 0; l < t->lanes; l++)
		round[l] = ep->lane[l].round;
	accel_channel_send(channel_of(t, p), ACCEL_MESSAGE_LEFT, ep->tag, round,
			   t->lanes * sizeof(*round), 0);
}

/* unheard: [remotes], the peers that may not have read theirs. */
static void say_goodbyes(struct accel_verbs_transport *t, bool *unheard)
{
	int64_t deadline_ns = accel_now_ns() + ACCEL_VERBS_END_NS_MAX;
	bool said[ACCEL_RANKS_MAX] = {0}, done = false;

	accel_verbs_nap(t, 0);
	while (!done && accel_now_ns() < deadline_ns) {
		accel_verbs_events(t->verbs);
		accel_verbs_events_judge(t);
		done = true;
		for (uint32_t i = 0; i < t->remotes; i++)
			done &= say_goodbye(t, &t->peer[i], &said[i]);
		if (!done)
			accel_verbs_nap(t, NAP_NS);
	}
	for (uint32_t i = 0; i < t->remotes; i++) {
		const struct accel_verbs_peer *p = &t->peer[i];

		unheard[i] = is_there(t, p) &&
			     (p->stopped || !said[i] || p->qp[0].posted != p->qp[0].completed);
	}
}

/* All at a time, so that a device which does not flush is waited for once. */
static void end_peers(struct accel_verbs_transport *t)
{
	int64_t deadline_ns = accel_now_ns() + ACCEL_VERBS_END_NS_MAX;

	for (uint32_t i = 0; i < t->remotes; i++)
		accel_verbs_stop(t, &t->peer[i]);
	for (uint32_t i = 0; i < t->remotes; i++)
		accel_verbs_peer_end(t, &t->peer[i], deadline_ns);
}

/* What is written to a socket comes after all that a device still brings: queue pairs end first. */
static void leave(struct accel_verbs_transport *t)
{
	bool unheard[ACCEL_RANKS_MAX] = {0};

	say_goodbyes(t, unheard);
	end_peers(t);
	for (uint32_t i = 0; i < t->remotes; i++)
		if (unheard[i])
			write_goodbye(t, &t->peer[i]);
}

/* What open() took, in reverse; also of an open that failed. */
static void close_local(struct accel_verbs_transport *t)
{
	const struct accel_verbs_api *api = t->verbs ? t->verbs->api : NULL;

	for (uint32_t l = 0; l < t->lanes; l++)
		if (t->sleeper[l].fd >= 0)
			close(t->sleeper[l].fd);
	if (t->verbs && !accel_object_is_inherited(&t->base.ep->obj)) {
		accel_verbs_unuse(t->verbs, t->landed);
		accel_verbs_unuse(t->verbs, t->inboxes);
		accel_verbs_unuse(t->verbs, t->window);
		accel_verbs_forget(t->verbs, t->base.ep->landed->id);
		accel_verbs_forget(t->verbs, t->base.ep->payload->id);
		accel_verbs_forget(t->verbs, t->base.ep->window->id);
		for (int r = 0; r < t->verbs->rail_count; r++) {
			if (t->queue[r].cq)
				api->destroy_cq(t->queue[r].cq);
			if (t->queue[r].channel)
				api->destroy_comp_channel(t->queue[r].channel);
		}
		pthread_mutex_destroy(&t->lock);
	}
	free(t);
}

static void verbs_close(struct accel_transport *transport, int peer)
{
	struct accel_verbs_transport *t = accel_verbs_transport(transport);

	/* A child has no part in the devices, and in the lock of a thread that is not there. */
	if (peer < 0 && accel_object_is_inherited(&t->base.ep->obj)) {
		close_local(t);
		return;
	}
	pthread_mutex_lock(&t->lock);
	if (peer >= 0) {
		close_peer(t, accel_verbs_peer(t, peer));
	} else {
		leave(t);
	}
	accel_verbs_unlock(t);
	if (peer < 0)
		close_local(t);
}

const struct accel_transport_ops accel_verbs_ops = {
	.name = "verbs",
	.lands = true,
	.open = verbs_open,
	.connect = accel_verbs_connect,
	.reg = verbs_reg,
	.dereg = verbs_dereg,
	.send = accel_verbs_send,
	.poll = accel_verbs_poll,
	.close = verbs_close,
};
