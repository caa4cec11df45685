// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Queue pairs of the verbs transport: reliable connections for WRITEs alone. Nothing is read over them,
 * so no responder resources are asked for. Receives have no memory: a WRITE_WITH_IMM takes one for its
 * immediate.
 *
 * An end is STOP (the error state, where the device flushes what is posted, each request with a completion
 * of its own), then the completions of all that was posted, then DESTROY. A device that is gone refuses
 * the first and has nothing to flush: its queue pairs are destroyed at once.
 */
#include "verbs.h"

#include "order.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define PSN_MASK 0xffffffu
#define RNR_RETRIES                                                                                \
	7 /* without end: none is due, but a device that maps memory on demand sends some */
#define RNR_TIMER 12 /* 0.64 ms, InfiniBand architecture vol. 1, table "RNR NAK timer" */
#define HOPS_MAX 64

static int fail_create(struct accel_verbs_transport *t, const struct accel_verbs_qp *qp,
		       const char *what, int error)
{
	const struct accel_failure where = {qp->peer->rank, ACCEL_PHASE_CREATE, -1, 0, NULL};
	const struct accel_verbs_rail *rail = accel_verbs_rail(t, qp);

	return accel_fail(&t->base.ep->obj, error == ENOMEM ? -ENOMEM : -EIO, &where,
			  "a queue pair for rank %d on %s port %u: %s: %s%s", qp->peer->rank,
			  rail->port.device, rail->port.port, what, strerror(error),
			  error == ENOMEM
				  ? "; fewer or smaller ones (verbs.qps, verbs.depth), a larger "
				    "RLIMIT_MEMLOCK (ulimit -l)"
				  : "");
}

/* One of that depth with that much inline room, or NULL and errno. */
static struct ibv_qp *try_make(struct accel_verbs_transport *t, struct accel_verbs_qp *qp,
			       uint32_t depth, uint32_t inline_bytes)
{
	const struct accel_verbs_rail *rail = accel_verbs_rail(t, qp);
	struct ibv_cq *cq = t->queue[qp->rail].cq;
	struct ibv_qp_init_attr attr = {
		.qp_context = qp,
		.send_cq = cq,
		.recv_cq = cq,
		.cap = {.max_send_wr = depth,
			.max_recv_wr = accel_verbs_receives(t->lanes),
			.max_send_sge = rail->gather_max,
			.max_recv_sge = 1,
			.max_inline_data = inline_bytes},
		.qp_type = IBV_QPT_RC,
	};
	struct ibv_qp *made = t->verbs->api->create_qp(rail->pd, &attr);

	if (made)
		qp->inline_bytes = attr.cap.max_inline_data;
	return made;
}

/*
 * With as much inline room, and as deep, as the device grants: what it says of itself is no promise, and
 * that of depth is of requests with short gather lists.
 */
static int make(struct accel_verbs_transport *t, struct accel_verbs_qp *qp)
{
	int error = 0;

	for (uint32_t depth = t->depth; !qp->qp; depth /= 2) {
		if (depth < ACCEL_VERBS_DEPTH_MIN)
			return fail_create(t, qp, "create", error);
		for (uint32_t inline_bytes = t->verbs->opts.inline_bytes;; inline_bytes /= 2) {
			qp->qp = try_make(t, qp, depth, inline_bytes);
			if (qp->qp || !inline_bytes)
				break;
		}
		if (!qp->qp && !error)
			error = errno; /* of the depth that was asked for */
		qp->depth = depth;
	}
	return 0;
}

static int to_init(struct accel_verbs_transport *t, struct accel_verbs_qp *qp)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.pkey_index = 0,
		.port_num = accel_verbs_rail(t, qp)->port.port,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE,
	};
	int rc = t->verbs->api->modify_qp(qp->qp, &attr,
					  IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
						  IBV_QP_ACCESS_FLAGS);

	return rc ? fail_create(t, qp, "to INIT", accel_verbs_errno(rc)) : 0;
}

int accel_verbs_qp_receive(struct accel_verbs_qp *qp)
{
	struct ibv_recv_wr wr = {.wr_id = accel_verbs_wr_id(qp, 0) | ACCEL_WR_RECEIVE}, *bad;
	int rc = ibv_post_recv(qp->qp, &wr, &bad);

	if (!rc)
		qp->receives++;
	return rc ? accel_verbs_errno(rc) : 0;
}

static int create(struct accel_verbs_transport *t, struct accel_verbs_peer *p, uint8_t index)
{
	struct accel_verbs_qp *qp = &p->qp[index];
	int rc;

	*qp = (struct accel_verbs_qp){
		.peer = p, .index = index, .rail = (uint8_t)(index % t->verbs->rail_count)};
	if (getrandom(&qp->psn, sizeof(qp->psn), 0) != sizeof(qp->psn))
		return fail_create(t, qp, "no random number", EIO);
	qp->psn &= PSN_MASK;
	rc = make(t, qp);
	if (!rc)
		rc = to_init(t, qp);
	while (!rc && qp->receives < accel_verbs_receives(t->lanes)) {
		int error = accel_verbs_qp_receive(qp);

		rc = error ? fail_create(t, qp, "post a receive", error) : 0;
	}
	return rc;
}

int accel_verbs_qps_create(struct accel_verbs_transport *t, struct accel_verbs_peer *p)
{
	uint8_t count = (uint8_t)((uint32_t)t->verbs->rail_count * t->qps);
	int rc = 0;

	p->generation++;
	p->stopped = false;
	for (p->qp_count = 0; p->qp_count < count && !rc;)
		rc = create(t, p, p->qp_count++);
	return rc;
}

static int fail_connect(const struct accel_verbs_transport *t, const struct accel_verbs_qp *qp,
			const struct accel_verbs_end *end, const char *state, int error)
{
	const struct accel_failure where = {qp->peer->rank, ACCEL_PHASE_CREATE, -1, 0, NULL};
	const struct accel_verbs_port *port = &accel_verbs_rail(t, qp)->port;
	char here[ACCEL_GID_TEXT_BYTES], there[ACCEL_GID_TEXT_BYTES];

	return accel_fail(
		NULL, -EIO, &where,
		"a queue pair to rank %d on %s port %u cannot go to %s: %s (from GID %s to "
		"%s; is there a route between these addresses?)",
		qp->peer->rank, port->device, port->port, state, strerror(error),
		accel_verbs_gid_text(&port->gid, here), accel_verbs_gid_text(&end->gid, there));
}

int accel_verbs_qp_connect(struct accel_verbs_transport *t, struct accel_verbs_qp *qp,
			   const struct accel_verbs_end *end)
{
	const struct accel_verbs_port *port = &accel_verbs_rail(t, qp)->port;
	const struct accel_verbs_opts *opts = &t->verbs->opts;
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = end->mtu,
		.dest_qp_num = end->qpn,
		.rq_psn = end->psn,
		.min_rnr_timer = RNR_TIMER,
		.ah_attr = {.dlid = end->lid,
			    .sl = (uint8_t)opts->service_level,
			    .port_num = port->port,
			    .is_global = end->global},
	};
	int rc;

	if (end->global)
		attr.ah_attr.grh = (struct ibv_global_route){
			.dgid = end->gid,
			.sgid_index = (uint8_t)port->gid_index,
			.hop_limit = HOPS_MAX,
			.traffic_class = (uint8_t)opts->traffic_class,
		};
	rc = t->verbs->api->modify_qp(qp->qp, &attr,
				      IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
					      IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
					      IBV_QP_MIN_RNR_TIMER);
	if (rc)
		return fail_connect(t, qp, end, "RTR", accel_verbs_errno(rc));
	attr = (struct ibv_qp_attr){
		.qp_state = IBV_QPS_RTS,
		.sq_psn = qp->psn,
		.timeout = (uint8_t)opts->ack_timeout,
		.retry_cnt = (uint8_t)opts->retries,
		.rnr_retry = RNR_RETRIES,
	};
	rc = t->verbs->api->modify_qp(qp->qp, &attr,
				      IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
					      IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
					      IBV_QP_MAX_QP_RD_ATOMIC);
	return rc ? fail_connect(t, qp, end, "RTS", accel_verbs_errno(rc)) : 0;
}

void accel_verbs_qp_destroy(struct accel_verbs_transport *t, struct accel_verbs_qp *qp)
{
	int rc = qp->qp ? t->verbs->api->destroy_qp(qp->qp) : 0;

	if (rc)
		accel_log(ACCEL_LOG_WARN, "%s port %u does not let go of a queue pair: %s",
			  accel_verbs_rail(t, qp)->port.device, accel_verbs_rail(t, qp)->port.port,
			  strerror(accel_verbs_errno(rc)));
	qp->qp = NULL;
	qp->completed = qp->posted;
	qp->receives = 0;
}

void accel_verbs_qp_stop(struct accel_verbs_transport *t, struct accel_verbs_qp *qp)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};

	if (!qp->qp || qp->stopped)
		return;
	qp->stopped = true;
	if (t->verbs->api->modify_qp(qp->qp, &attr, IBV_QP_STATE))
		accel_verbs_qp_destroy(t, qp);
}

static bool is_flushed(const struct accel_verbs_peer *p)
{
	for (uint8_t i = 0; i < p->qp_count; i++)
		if (!accel_verbs_qp_is_flushed(&p->qp[i]))
			return false;
	return true;
}

void accel_verbs_peer_end(struct accel_verbs_transport *t, struct accel_verbs_peer *p,
			  int64_t deadline_ns)
{
	accel_verbs_stop(t, p);
	for (accel_verbs_progress(t); !is_flushed(p); accel_verbs_progress(t)) {
		if (accel_now_ns() >= deadline_ns) {
			accel_log(ACCEL_LOG_WARN,
				  "rank %d: the requests to rank %d were not flushed in time",
				  t->base.ep->group->rank, p->rank);
			break;
		}
		sched_yield();
	}
	accel_verbs_events(t->verbs); /* which point to what is about to go */
	for (uint8_t i = 0; i < p->qp_count; i++)
		accel_verbs_qp_destroy(t, &p->qp[i]);
	p->qp_count = 0;
	accel_verbs_advance(t, p);
	p->state = ACCEL_VERBS_APART;
}
