// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * What a pair of ranks tells each other before rows can travel: one message over the control socket,
 * sent when the queue pairs are in INIT and their receives posted, so that whoever has read it may send
 * at once. Rail i of one talks to rail i of the other, up to the smaller number, and so do queue
 * pairs. All of it is checked here: what is wrong names the rank that said it.
 */
#include "verbs.h"

#include "order.h"
#include "verbs_gid.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

/* Addresses as the device takes them, which are this process's own. */
struct hello {
	uint32_t version, lanes;
	uint32_t rails, qps; /* qps: a rail */
	uint64_t incarnation;
	uint64_t inbox, inbox_pitch; /* of lane 0, and to the next lane's; bytes */
	uint64_t landed, returned, landed_pitch;
	uint64_t returned_rows;
	uint32_t tokens_max, row_bytes, record_bytes, hidden;
	struct hello_rail {
		union ibv_gid gid;
		uint32_t gid_type, link_layer, lid, mtu; /* enums of verbs.h */
		uint32_t port, inbox_key, landed_key, reserved;
		uint32_t qpn[ACCEL_STRIPES_MAX], psn[ACCEL_STRIPES_MAX];
		char device[64];
	} rail[ACCEL_RAILS_MAX];
};

_Static_assert(sizeof(struct hello) <= ACCEL_MESSAGE_BYTES_MAX, "fits into a message");

static enum ibv_mtu mtu_of(const struct accel_verbs_transport *t, int rail)
{
	enum ibv_mtu mtu = t->verbs->rail[rail].port.attr.active_mtu;

	while (t->verbs->opts.mtu && mtu > IBV_MTU_256 && 128u << mtu > t->verbs->opts.mtu)
		mtu--;
	return mtu;
}

static void describe_rail(const struct accel_verbs_transport *t, const struct accel_verbs_peer *p,
			  int r, struct hello_rail *rail)
{
	const struct accel_verbs_port *port = &t->verbs->rail[r].port;

	*rail = (struct hello_rail){
		.gid = port->gid,
		.gid_type = port->gid_type,
		.link_layer = port->attr.link_layer,
		.lid = port->attr.lid,
		.mtu = mtu_of(t, r),
		.port = port->port,
		.inbox_key = t->inboxes->mr[r]->rkey,
		.landed_key = t->landed->mr[r]->rkey,
	};
	memcpy(rail->device, port->device, sizeof(rail->device));
	for (uint32_t q = 0; q < t->qps; q++) {
		const struct accel_verbs_qp *qp =
			&p->qp[q * (uint32_t)t->verbs->rail_count + (uint32_t)r];

		rail->qpn[q] = qp->qp->qp_num;
		rail->psn[q] = qp->psn;
	}
}

static void describe(const struct accel_verbs_transport *t, const struct accel_verbs_peer *p,
		     struct hello *hello)
{
	const struct accel_ep *ep = t->base.ep;
	const struct accel_ep_layout *l = &ep->layout;

	*hello = (struct hello){
		.version = ACCEL_VERBS_VERSION,
		.lanes = t->lanes,
		.rails = (uint32_t)t->verbs->rail_count,
		.qps = t->qps,
		.incarnation = ep->incarnation,
		.inbox = (uintptr_t)accel_ep_inbox(ep, 0, p->remote),
		.inbox_pitch = l->remotes * l->inbox_bytes,
		.landed = (uintptr_t)accel_ep_landed(ep, 0, p->rank),
		.returned = (uintptr_t)accel_ep_returned(ep, 0),
		.landed_pitch = l->landed_lane_bytes,
		.returned_rows = l->sends_max,
		.tokens_max = ep->shape.tokens_max,
		.row_bytes = l->row_bytes,
		.record_bytes = l->record_bytes,
		.hidden = ep->shape.hidden,
	};
	for (int r = 0; r < t->verbs->rail_count; r++)
		describe_rail(t, p, r, &hello->rail[r]);
}

int accel_verbs_show(struct accel_verbs_transport *t, struct accel_verbs_peer *p)
{
	const struct accel_failure where = {p->rank, ACCEL_PHASE_CREATE, -1, 0, NULL};
	struct accel_ep *ep = t->base.ep;
	struct hello hello;
	int rc = accel_verbs_qps_create(t, p);

	if (!rc) {
		describe(t, p, &hello);
		rc = accel_channel_send(ep->group->channel[p->rank], ACCEL_MESSAGE_VERBS, ep->tag,
					&hello, sizeof(hello), ep->local.timeout_ns);
		if (rc)
			accel_fail(&ep->obj, rc, &where, "rank %d was not told of queue pairs: %s",
				   p->rank, strerror(-rc));
	}
	if (rc)
		accel_verbs_peer_end(t, p, accel_now_ns() + ACCEL_VERBS_END_NS_MAX);
	else
		p->state = ACCEL_VERBS_SHOWN;
	return rc;
}

/* What the kind of a link is called; two ends of one kind have a way to each other. */
static const char *kind(uint32_t link_layer, uint32_t gid_type, const union ibv_gid *gid)
{
	if (link_layer == IBV_LINK_LAYER_INFINIBAND)
		return accel_verbs_gid_type_text(IBV_GID_TYPE_IB);
	if (gid_type != IBV_GID_TYPE_ROCE_V2)
		return accel_verbs_gid_type_text(IBV_GID_TYPE_ROCE_V1);
	return accel_verbs_gid_is_ipv4(gid) ? "RoCE v2 over IPv4" : "RoCE v2 over IPv6";
}

static int check_link(const struct accel_verbs_transport *t, int peer, int r,
		      const struct hello_rail *there)
{
	const struct accel_failure where = {peer, ACCEL_PHASE_CREATE, -1, 0, NULL};
	const struct accel_verbs_port *here = &t->verbs->rail[r].port;
	const char *my_kind = kind(here->attr.link_layer, here->gid_type, &here->gid),
		   *their_kind = kind(there->link_layer, there->gid_type, &there->gid);
	char my_gid[ACCEL_GID_TEXT_BYTES], their_gid[ACCEL_GID_TEXT_BYTES];

	if (!strcmp(my_kind, their_kind) && there->link_layer == IBV_LINK_LAYER_INFINIBAND &&
	    here->gid.global.subnet_prefix != there->gid.global.subnet_prefix)
		return accel_fail(
			NULL, -EINVAL, &where,
			"rank %d's %s port %u (GID %s) and rank %d's %s port %u (GID %s) are in "
			"different InfiniBand subnets, and no path through a router is looked up: "
			"choose ports of one subnet with verbs.devices",
			t->base.ep->group->rank, here->device, here->port,
			accel_verbs_gid_text(&here->gid, my_gid), peer, there->device, there->port,
			accel_verbs_gid_text(&there->gid, their_gid));
	if (!strcmp(my_kind, their_kind))
		return 0;
	return accel_fail(NULL, -EINVAL, &where,
			  "rank %d's %s port %u is %s (GID %s) and rank %d's %s port %u is %s (GID "
			  "%s): choose ports and GIDs of one kind with verbs.devices and verbs.gid",
			  t->base.ep->group->rank, here->device, here->port, my_kind,
			  accel_verbs_gid_text(&here->gid, my_gid), peer, there->device,
			  there->port, their_kind, accel_verbs_gid_text(&there->gid, their_gid));
}

static const char *check_rail(const struct hello_rail *rail, uint32_t qps)
{
	if (rail->mtu < IBV_MTU_256 || rail->mtu > IBV_MTU_4096)
		return "an MTU that there is not";
	if (rail->link_layer != IBV_LINK_LAYER_INFINIBAND &&
	    rail->link_layer != IBV_LINK_LAYER_ETHERNET)
		return "a link layer that this version does not know";
	if (rail->lid > UINT16_MAX || rail->port > UINT8_MAX ||
	    !memchr(rail->device, '\0', sizeof(rail->device)))
		return "a port out of range";
	for (uint32_t q = 0; q < qps; q++)
		if (!rail->qpn[q] || rail->qpn[q] >> 24 || rail->psn[q] >> 24)
			return "a queue pair out of range";
	return NULL;
}

/* What is wrong with it, or NULL. */
static const char *check(const struct accel_verbs_transport *t, const struct hello *hello,
			 uint64_t incarnation)
{
	const struct accel_ep *ep = t->base.ep;
	const struct accel_ep_layout *l = &ep->layout;
	const char *wrong = NULL;

	if (hello->version != ACCEL_VERBS_VERSION)
		return "another version of the verbs transport";
	if (hello->incarnation != incarnation || incarnation < ACCEL_INCARNATION_MIN ||
	    incarnation % 2)
		return "another incarnation than it announced";
	if (!hello->rails || hello->rails > ACCEL_RAILS_MAX || !hello->qps ||
	    hello->qps > ACCEL_STRIPES_MAX / hello->rails)
		return "more rails or queue pairs than there can be";
	if (hello->lanes != t->lanes || hello->tokens_max != ep->shape.tokens_max ||
	    hello->row_bytes != l->row_bytes || hello->record_bytes != l->record_bytes ||
	    hello->hidden != ep->shape.hidden)
		return "rows or lanes of another shape";
	if (!hello->inbox || !hello->landed || !hello->returned ||
	    hello->inbox_pitch < l->inbox_bytes || hello->returned_rows > UINT32_MAX ||
	    hello->landed_pitch < (uint64_t)l->row_bytes * ep->shape.tokens_max)
		return "slices that are too small";
	for (uint32_t r = 0; r < hello->rails && !wrong; r++)
		wrong = check_rail(&hello->rail[r], hello->qps);
	return wrong;
}

static void note(struct accel_verbs_peer *p, const struct hello *hello)
{
	p->incarnation = hello->incarnation;
	p->there.inbox = hello->inbox;
	p->there.inbox_pitch = hello->inbox_pitch;
	p->there.landed = hello->landed;
	p->there.returned = hello->returned;
	p->there.landed_pitch = hello->landed_pitch;
	p->there.returned_rows = hello->returned_rows;
	for (uint32_t r = 0; r < hello->rails; r++) {
		p->there.inbox_key[r] = hello->rail[r].inbox_key;
		p->there.landed_key[r] = hello->rail[r].landed_key;
	}
	p->error = 0;
	p->stopped = p->left = p->masks_us = false;
	p->pending = 0;
	memset(p->left_round, 0, sizeof(p->left_round));
	memset(p->message, 0, sizeof(p->message));
	memset(p->arrival, 0, sizeof(p->arrival));
}

static int connect_qp(struct accel_verbs_transport *t, struct accel_verbs_qp *qp, uint32_t q,
		      const struct hello_rail *there)
{
	const struct accel_verbs_port *here = &t->verbs->rail[qp->rail].port;
	struct accel_verbs_end end = {
		.qpn = there->qpn[q],
		.psn = there->psn[q],
		.mtu = accel_min_u32(mtu_of(t, qp->rail), there->mtu),
		.lid = (uint16_t)there->lid,
		.gid = there->gid,
	};

	/* Ethernet has no LIDs, and a port may share its own with others, which GIDs tell apart. */
	end.global = there->link_layer == IBV_LINK_LAYER_ETHERNET ||
		     here->attr.flags & IBV_QPF_GRH_REQUIRED;
	return accel_verbs_qp_connect(t, qp, &end);
}

static int connect_rail(struct accel_verbs_transport *t, struct accel_verbs_peer *p, int r,
			const struct hello *hello)
{
	const struct accel_verbs_port *here = &t->verbs->rail[r].port;
	char my_gid[ACCEL_GID_TEXT_BYTES], their_gid[ACCEL_GID_TEXT_BYTES];
	int rc = check_link(t, p->rank, r, &hello->rail[r]);

	for (uint32_t q = 0; q < p->qps && !rc; q++)
		rc = connect_qp(t, &p->qp[q * (uint32_t)t->verbs->rail_count + (uint32_t)r], q,
				&hello->rail[r]);
	if (!rc)
		accel_log(
			ACCEL_LOG_INFO,
			"rank %d: rank %d over %s port %u (GID %s) to its %s port %u (GID %s), MTU "
			"%u, queue pairs: %u",
			t->base.ep->group->rank, p->rank, here->device, here->port,
			accel_verbs_gid_text(&here->gid, my_gid), hello->rail[r].device,
			hello->rail[r].port, accel_verbs_gid_text(&hello->rail[r].gid, their_gid),
			128u << accel_min_u32(mtu_of(t, r), hello->rail[r].mtu), p->qps);
	return rc;
}

/* Those that the peer has no other end for. */
static void destroy_unused(struct accel_verbs_transport *t, struct accel_verbs_peer *p)
{
	for (uint8_t i = 0; i < p->qp_count; i++)
		if (p->qp[i].rail >= p->rails || i / t->verbs->rail_count >= p->qps)
			accel_verbs_qp_destroy(t, &p->qp[i]);
}

static int connect_peer(struct accel_verbs_transport *t, struct accel_verbs_peer *p,
			uint64_t incarnation)
{
	const struct accel_failure where = {p->rank, ACCEL_PHASE_CREATE, -1, 0, NULL};
	struct accel_ep *ep = t->base.ep;
	struct hello hello;
	ssize_t n = accel_channel_take(ep->group->channel[p->rank], ACCEL_MESSAGE_VERBS, ep->tag,
				       &hello, sizeof(hello));
	const char *wrong = n == sizeof(hello)	       ? check(t, &hello, incarnation)
			    : n >= 0 || n == -EMSGSIZE ? "a description of another size"
			    : n == -EAGAIN	       ? "no description"
						       : NULL;
	int rc = 0;

	if (wrong)
		return accel_fail(NULL, -EPROTO, &where, "rank %d tells of its queue pairs: %s",
				  p->rank, wrong);
	if (n < 0)
		return accel_fail(NULL, (int)n, &where,
				  "rank %d cannot tell of its queue pairs: %s", p->rank,
				  strerror((int)-n));
	note(p, &hello);
	t->base.ep->peers[p->rank].trouble[0] = '\0';
	p->rails = (uint8_t)accel_min_u32((uint32_t)t->verbs->rail_count, hello.rails);
	p->qps = (uint8_t)accel_min_u32(t->qps, hello.qps);
	for (int r = 0; r < p->rails && !rc; r++)
		rc = connect_rail(t, p, r, &hello);
	destroy_unused(t, p);
	if (!rc)
		p->state = ACCEL_VERBS_CONNECTED;
	return rc;
}

int accel_verbs_connect(struct accel_transport *transport, int peer, uint64_t window,
			uint64_t payload, uint64_t incarnation)
{
	struct accel_verbs_transport *t = accel_verbs_transport(transport);
	int rc;

	/* What it reads of ours it is sent: regions are nothing to it. */
	(void)window;
	(void)payload;
	pthread_mutex_lock(&t->lock);
	rc = connect_peer(t, accel_verbs_peer(t, peer), incarnation);
	accel_verbs_unlock(t);
	return rc;
}
