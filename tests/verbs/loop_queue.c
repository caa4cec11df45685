// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Queue pairs: their states and attributes (InfiniBand specification 1.4, 10.3.1 and 11.2.5.2), and what
 * is posted to them.
 */
#include "loop_inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct loop_qp *loop_qp_of(uint32_t qp_num)
{
	struct loop_qp *qp = loop.qps;

	while (qp && qp->ibv.qp_num != qp_num)
		qp = qp->next;
	return qp;
}

static int init_check(const struct ibv_pd *pd, const struct ibv_qp_init_attr *init)
{
	const struct ibv_qp_cap *cap = &init->cap;
	const struct loop_config *c = &loop.config;

	if (init->qp_type != IBV_QPT_RC || init->srq || !init->send_cq || !init->recv_cq ||
	    init->send_cq->context != pd->context || init->recv_cq->context != pd->context)
		return EINVAL;
	if (!cap->max_send_wr || cap->max_send_wr > c->max_wr || cap->max_recv_wr > c->max_wr ||
	    cap->max_send_sge > c->max_sge || cap->max_recv_sge > c->max_sge ||
	    cap->max_inline_data > c->max_inline)
		return EINVAL;
	return cap->max_send_wr > c->granted_wr ? ENOMEM : 0;
}

static void qp_free(struct loop_qp *qp)
{
	free(qp->request);
	free(qp->receive);
	free(qp->inlined);
	free(qp);
}

static struct loop_qp *qp_alloc(const struct ibv_qp_cap *cap)
{
	struct loop_qp *qp = calloc(1, sizeof(*qp));

	if (!qp)
		return NULL;
	qp->cap = *cap;
	qp->request = calloc(cap->max_send_wr, sizeof(*qp->request));
	qp->receive = calloc(cap->max_recv_wr + 1u, sizeof(*qp->receive));
	qp->inlined = calloc(cap->max_send_wr, cap->max_inline_data + 1u);
	if (!qp->request || !qp->receive || !qp->inlined) {
		qp_free(qp);
		return NULL;
	}
	for (uint32_t i = 0; i < cap->max_send_wr; i++)
		qp->request[i].inlined = qp->inlined + (size_t)i * cap->max_inline_data;
	return qp;
}

LOOP_EXPORT struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *init)
{
	struct loop_qp *qp = NULL;
	int rc;

	loop_enter();
	rc = loop_check(pd->context, "ibv_create_qp");
	if (!rc)
		rc = init_check(pd, init);
	if (!rc && !(qp = qp_alloc(&init->cap)))
		rc = ENOMEM;
	if (!rc) {
		qp->ibv.context = pd->context;
		qp->ibv.qp_context = init->qp_context;
		qp->ibv.pd = pd;
		qp->ibv.send_cq = init->send_cq;
		qp->ibv.recv_cq = init->recv_cq;
		qp->ibv.qp_type = init->qp_type;
		qp->ibv.qp_num = loop.next_qp_num++ & 0xffffff;
		qp->signal_all = init->sq_sig_all;
		qp->fiber = loop_fiber_create();
		((struct loop_pd *)pd)->users++;
		((struct loop_cq *)init->send_cq)->users++;
		((struct loop_cq *)init->recv_cq)->users++;
		qp->next = loop.qps;
		loop.qps = qp;
		loop.live.qps++;
	}
	loop_leave();
	errno = rc;
	return qp ? &qp->ibv : NULL;
}

/* What its fiber and its peer's did is ordered before what the caller does next. */
static void qp_fence(struct loop_qp *qp)
{
	for (struct loop_qp *other = loop.qps; other; other = other->next)
		if (other == qp || other->attr.dest_qp_num == qp->ibv.qp_num)
			loop_release(other->fiber, &qp->fence);
	loop_acquire(NULL, &qp->fence);
}

static void qp_reset(struct loop_qp *qp)
{
	qp_fence(qp);
	loop_cq_forget((void *)qp->ibv.send_cq, qp);
	loop_cq_forget((void *)qp->ibv.recv_cq, qp);
	qp->posted = qp->begun = qp->received = qp->completed = qp->freed = 0;
	qp->receives_posted = qp->receives_used = qp->receives_freed = 0;
	qp->failing = qp->established = false;
	qp->stalled_ns = 0;
	qp->state = IBV_QPS_RESET;
	memset(&qp->attr, 0, sizeof(qp->attr));
}

static void qp_remove(struct loop_qp *qp)
{
	struct loop_qp **at = &loop.qps;

	while (*at != qp)
		at = &(*at)->next;
	*at = qp->next;
	((struct loop_pd *)qp->ibv.pd)->users--;
	((struct loop_cq *)qp->ibv.send_cq)->users--;
	((struct loop_cq *)qp->ibv.recv_cq)->users--;
	loop.live.qps--;
	loop_fiber_destroy(qp->fiber);
	qp_free(qp);
	loop_changed();
}

LOOP_EXPORT int ibv_destroy_qp(struct ibv_qp *ibv)
{
	struct loop_qp *qp = (void *)ibv;
	bool keep;
	int rc;

	loop_enter();
	rc = loop_check_last(ibv->context, "ibv_destroy_qp", &keep);
	if (keep) {
		qp_fence(qp);
	} else {
		qp_reset(qp);
		loop_async_forget(ibv->context, qp, &qp->async_reported, &ibv->events_completed);
		qp_remove(qp);
	}
	loop_leave();
	return rc;
}

void loop_queues_clear(struct loop_context *c)
{
	struct loop_qp *next;

	for (struct loop_qp *qp = loop.qps; qp; qp = next) {
		next = qp->next;
		if (qp->ibv.context == &c->ibv)
			qp_remove(qp);
	}
}

/* ---- States ---------------------------------------------------------------------------------- */

static const struct transition {
	enum ibv_qp_state from, to;
	int needs, may;
} transitions[] = {
	{IBV_QPS_RESET, IBV_QPS_INIT, IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS, 0},
	{IBV_QPS_INIT, IBV_QPS_INIT, 0, IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS},
	{IBV_QPS_INIT, IBV_QPS_RTR,
	 IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
		 IBV_QP_MIN_RNR_TIMER,
	 IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX},
	{IBV_QPS_RTR, IBV_QPS_RTS,
	 IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
		 IBV_QP_MAX_QP_RD_ATOMIC,
	 IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS | IBV_QP_MIN_RNR_TIMER},
	{IBV_QPS_RTS, IBV_QPS_RTS, 0,
	 IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS | IBV_QP_MIN_RNR_TIMER},
};

static int transition_check(enum ibv_qp_state from, enum ibv_qp_state to, int mask)
{
	if (to == IBV_QPS_RESET || to == IBV_QPS_ERR)
		return mask == IBV_QP_STATE ? 0 : EINVAL;
	for (unsigned i = 0; i < sizeof(transitions) / sizeof(*transitions); i++) {
		const struct transition *t = &transitions[i];

		if (t->from == from && t->to == to)
			return (mask & t->needs) == t->needs &&
					       !(mask & ~(t->needs | t->may | IBV_QP_STATE))
				       ? 0
				       : EINVAL;
	}
	return EINVAL;
}

static uint32_t mtu_bytes(enum ibv_mtu mtu)
{
	return mtu >= IBV_MTU_256 && mtu <= IBV_MTU_4096 ? 128u << mtu : 0;
}

static int path_check(const struct loop_qp *qp, const struct ibv_ah_attr *ah)
{
	const struct loop_device *dev = loop_context(qp->ibv.context)->dev;
	struct ibv_gid_entry mine, theirs;

	if (ah->port_num != qp->attr.port_num || ah->sl > 15)
		return EINVAL;
	if (loop.config.infiniband && !ah->is_global)
		return ah->dlid && !loop.config.grh ? 0 : EINVAL;
	if (!ah->is_global || loop_gid(dev, ah->port_num, ah->grh.sgid_index, &mine))
		return EINVAL;
	for (unsigned d = 0; d < loop.config.devices; d++)
		for (unsigned p = 1; p <= loop.config.ports; p++)
			for (int i = 0; !loop_gid(&loop.device[d], p, i, &theirs); i++)
				if (theirs.gid_type == mine.gid_type &&
				    !memcmp(&theirs.gid, &ah->grh.dgid, sizeof(theirs.gid)))
					return 0;
	return EHOSTUNREACH;
}

static int values_check(const struct loop_qp *qp, const struct ibv_qp_attr *a, int mask)
{
	const uint32_t mtu = mtu_bytes(a->path_mtu);

	if ((mask & IBV_QP_CUR_STATE && a->cur_qp_state != qp->state) ||
	    (mask & IBV_QP_PORT && (!a->port_num || a->port_num > loop.config.ports)) ||
	    (mask & IBV_QP_PKEY_INDEX && a->pkey_index) ||
	    (mask & IBV_QP_PATH_MTU && (!mtu || mtu > loop.config.mtu)) ||
	    (mask & IBV_QP_DEST_QPN && (!a->dest_qp_num || a->dest_qp_num >> 24)) ||
	    (mask & IBV_QP_RQ_PSN && a->rq_psn >> 24) ||
	    (mask & IBV_QP_SQ_PSN && a->sq_psn >> 24) ||
	    (mask & IBV_QP_MIN_RNR_TIMER && a->min_rnr_timer > 31) ||
	    (mask & IBV_QP_TIMEOUT && a->timeout > 31) ||
	    (mask & IBV_QP_RETRY_CNT && a->retry_cnt > 7) ||
	    (mask & IBV_QP_RNR_RETRY && a->rnr_retry > 7) ||
	    (mask & IBV_QP_MAX_QP_RD_ATOMIC && a->max_rd_atomic > 16) ||
	    (mask & IBV_QP_MAX_DEST_RD_ATOMIC && a->max_dest_rd_atomic > 16))
		return EINVAL;
	return mask & IBV_QP_AV ? path_check(qp, &a->ah_attr) : 0;
}

static void values_set(struct ibv_qp_attr *to, const struct ibv_qp_attr *from, int mask)
{
#define SET(bit, field)                                                                            \
	if (mask & (bit))                                                                          \
	to->field = from->field
	SET(IBV_QP_PORT, port_num);
	SET(IBV_QP_PKEY_INDEX, pkey_index);
	SET(IBV_QP_ACCESS_FLAGS, qp_access_flags);
	SET(IBV_QP_AV, ah_attr);
	SET(IBV_QP_PATH_MTU, path_mtu);
	SET(IBV_QP_DEST_QPN, dest_qp_num);
	SET(IBV_QP_RQ_PSN, rq_psn);
	SET(IBV_QP_SQ_PSN, sq_psn);
	SET(IBV_QP_MIN_RNR_TIMER, min_rnr_timer);
	SET(IBV_QP_TIMEOUT, timeout);
	SET(IBV_QP_RETRY_CNT, retry_cnt);
	SET(IBV_QP_RNR_RETRY, rnr_retry);
	SET(IBV_QP_MAX_QP_RD_ATOMIC, max_rd_atomic);
	SET(IBV_QP_MAX_DEST_RD_ATOMIC, max_dest_rd_atomic);
#undef SET
}

void loop_qp_fail(struct loop_qp *qp)
{
	qp->state = IBV_QPS_ERR;
	qp->flush_ns = loop_now_ns() + loop_delay_ns();
	loop_changed();
}

LOOP_EXPORT int ibv_modify_qp(struct ibv_qp *ibv, struct ibv_qp_attr *attr, int mask)
{
	struct loop_qp *qp = (void *)ibv;
	enum ibv_qp_state to;
	int rc;

	loop_enter();
	to = mask & IBV_QP_STATE ? attr->qp_state : qp->state;
	rc = loop_check(ibv->context, "ibv_modify_qp");
	if (!rc)
		rc = transition_check(qp->state, to, mask);
	if (!rc)
		rc = values_check(qp, attr, mask);
	if (!rc) {
		values_set(&qp->attr, attr, mask);
		if (to == IBV_QPS_RESET)
			qp_reset(qp);
		else if (to == IBV_QPS_ERR)
			loop_qp_fail(qp);
		qp->state = ibv->state = to;
		loop_changed();
	}
	loop_leave();
	return rc;
}

LOOP_EXPORT int ibv_query_qp(struct ibv_qp *ibv, struct ibv_qp_attr *attr, int mask,
			     struct ibv_qp_init_attr *init)
{
	struct loop_qp *qp = (void *)ibv;
	int rc;

	(void)mask; /* it may write all */
	loop_enter();
	rc = loop_check(ibv->context, "ibv_query_qp");
	if (!rc) {
		*attr = qp->attr;
		attr->qp_state = attr->cur_qp_state = ibv->state = qp->state;
		attr->cap = qp->cap;
		*init = (struct ibv_qp_init_attr){
			.qp_context = ibv->qp_context,
			.send_cq = ibv->send_cq,
			.recv_cq = ibv->recv_cq,
			.cap = qp->cap,
			.qp_type = ibv->qp_type,
			.sq_sig_all = qp->signal_all,
		};
	}
	loop_leave();
	return rc;
}

/* ---- Posting --------------------------------------------------------------------------------- */

static int entries_check(const struct ibv_sge *entry, int count, uint32_t max, uint64_t *bytes)
{
	*bytes = 0;
	if (count < 0 || (uint32_t)count > max)
		return EINVAL;
	for (int i = 0; i < count; i++) {
		if (!entry[i].length) /* which means 2^31 to some NICs, and 0 to others */
			return EINVAL;
		*bytes += entry[i].length;
	}
	return *bytes > 1u << 30 ? EINVAL : 0;
}

static bool has_imm(enum ibv_wr_opcode opcode)
{
	return opcode == IBV_WR_RDMA_WRITE_WITH_IMM || opcode == IBV_WR_SEND_WITH_IMM;
}

/* One request into the next place. READ and atomics are no part of what the library posts. */
static int request_add(struct loop_qp *qp, const struct ibv_send_wr *wr)
{
	struct loop_request *r = &qp->request[qp->posted % qp->cap.max_send_wr];
	uint64_t bytes;
	int rc;

	if (qp->state != IBV_QPS_RTS && qp->state != IBV_QPS_ERR)
		return EINVAL;
	if (wr->opcode != IBV_WR_RDMA_WRITE && wr->opcode != IBV_WR_SEND && !has_imm(wr->opcode))
		return EINVAL;
	rc = entries_check(wr->sg_list, wr->num_sge, qp->cap.max_send_sge, &bytes);
	if (rc)
		return rc;
	if (wr->send_flags & IBV_SEND_INLINE && bytes > qp->cap.max_inline_data)
		return EINVAL;
	if (qp->posted - qp->freed == qp->cap.max_send_wr)
		return ENOMEM;
	*r = (struct loop_request){
		.wr_id = wr->wr_id,
		.opcode = wr->opcode,
		.flags = wr->send_flags | (qp->signal_all ? IBV_SEND_SIGNALED : 0u),
		.imm = wr->imm_data,
		.remote_addr = wr->wr.rdma.remote_addr,
		.rkey = wr->wr.rdma.rkey,
		.bytes = bytes,
		.entries = wr->num_sge,
		.inlined = r->inlined,
		.next_ns = loop_now_ns() + loop_delay_ns(),
	};
	for (int i = 0; i < r->entries; i++)
		r->entry[i] = wr->sg_list[i];
	if (r->flags & IBV_SEND_INLINE) {
		uint64_t at = 0;

		for (int i = 0; i < r->entries; at += r->entry[i++].length) {
			loop_touch(NULL, (void *)r->entry[i].addr, NULL, r->entry[i].length);
			memcpy(r->inlined + at, (void *)r->entry[i].addr, r->entry[i].length);
		}
	}
	loop_release(NULL, r);
	qp->posted++;
	return 0;
}

int loop_post_send(struct ibv_qp *ibv, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	struct loop_qp *qp = (void *)ibv;
	uint64_t before;
	int rc;

	loop_enter();
	before = qp->posted;
	rc = loop_check(ibv->context, "ibv_post_send");
	while (!rc && wr) {
		rc = request_add(qp, wr);
		if (!rc)
			wr = wr->next;
	}
	if (rc)
		*bad = wr;
	loop.stats.posts += qp->posted != before;
	loop_changed();
	loop_leave();
	return rc;
}

static int receive_add(struct loop_qp *qp, const struct ibv_recv_wr *wr)
{
	struct loop_receive *r = &qp->receive[qp->receives_posted % (qp->cap.max_recv_wr + 1u)];
	uint64_t bytes;
	int rc;

	if (qp->state == IBV_QPS_RESET)
		return EINVAL;
	rc = entries_check(wr->sg_list, wr->num_sge, qp->cap.max_recv_sge, &bytes);
	if (rc)
		return rc;
	if (qp->receives_posted - qp->receives_freed == qp->cap.max_recv_wr)
		return ENOMEM;
	*r = (struct loop_receive){.wr_id = wr->wr_id, .entries = wr->num_sge};
	for (int i = 0; i < r->entries; i++)
		r->entry[i] = wr->sg_list[i];
	qp->receives_posted++;
	return 0;
}

int loop_post_recv(struct ibv_qp *ibv, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct loop_qp *qp = (void *)ibv;
	int rc;

	loop_enter();
	rc = loop_check(ibv->context, "ibv_post_recv");
	while (!rc && wr) {
		rc = receive_add(qp, wr);
		if (!rc)
			wr = wr->next;
	}
	if (rc)
		*bad = wr;
	loop_changed();
	loop_leave();
	return rc;
}
