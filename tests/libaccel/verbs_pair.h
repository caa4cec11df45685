/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* Two queue pairs of the loop library, connected, by bare verbs. */
#ifndef ACCEL_TESTS_VERBS_PAIR_H
#define ACCEL_TESTS_VERBS_PAIR_H

#include "ranks.h"
#include "tap.h"
#include "verbs_api.h"
#include "verbs_loop.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { PAIR_BYTES = 1 << 16, PAIR_DEPTH = 16, PAIR_GATHER = 8, PAIR_INLINE = 64 };

struct pair_end {
	struct ibv_context *context;
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct ibv_mr *mr;
	uint8_t *memory; /* PAIR_BYTES, registered for everything */
	int gid_index;
	union ibv_gid gid;
};

struct pair_opts {
	struct loop_config config;
	int cqe;		  /* 0: 64 */
	uint8_t timeout, retries; /* of ACKs: 4.096 us << timeout; 0: 12 and 1, some 34 ms */
	uint8_t rnr_retry;	  /* 0: 7, for ever */
	bool unconnected;	  /* queue pairs stay in RESET */
};

struct pair {
	const struct accel_verbs_api *api;
	struct pair_opts opts;
	struct pair_end end[2];
};

static inline struct ibv_qp_attr pair_attr(const struct pair *p, int e)
{
	const struct pair_end *mine = &p->end[e], *other = &p->end[!e];

	return (struct ibv_qp_attr){
		.port_num = 1,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE,
		.path_mtu = IBV_MTU_1024,
		.dest_qp_num = other->qp->qp_num,
		.rq_psn = other->qp->qp_num,
		.sq_psn = mine->qp->qp_num,
		.max_rd_atomic = 1,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = 1,
		.timeout = p->opts.timeout ? p->opts.timeout : 12,
		.retry_cnt = p->opts.retries ? p->opts.retries : 1,
		.rnr_retry = p->opts.rnr_retry ? p->opts.rnr_retry : 7,
		.ah_attr = {.port_num = 1,
			    .is_global = 1,
			    .dlid = (uint16_t)(!e * LOOP_PORTS_MAX + 1),
			    .grh = {.dgid = other->gid,
				    .sgid_index = (uint8_t)mine->gid_index,
				    .hop_limit = 64}},
	};
}

#define PAIR_INIT (IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS)
#define PAIR_RTR                                                                                   \
	(IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |                           \
	 IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER)
#define PAIR_RTS                                                                                   \
	(IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |                    \
	 IBV_QP_MAX_QP_RD_ATOMIC)

static inline int pair_modify(struct pair *p, int e, enum ibv_qp_state state, int mask)
{
	struct ibv_qp_attr attr = pair_attr(p, e);

	attr.qp_state = state;
	return p->api->modify_qp(p->end[e].qp, &attr, mask | IBV_QP_STATE);
}

static inline bool pair_end_open(struct pair *p, int e)
{
	const struct accel_verbs_api *api = p->api;
	struct pair_end *end = &p->end[e];
	struct ibv_device **devices = api->get_device_list(NULL);
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC,
		.cap = {.max_send_wr = PAIR_DEPTH,
			.max_recv_wr = PAIR_DEPTH,
			.max_send_sge = PAIR_GATHER,
			.max_recv_sge = 1,
			.max_inline_data = PAIR_INLINE},
	};

	end->memory = calloc(1, PAIR_BYTES);
	end->context = devices ? api->open_device(devices[e]) : NULL;
	api->free_device_list(devices);
	if (!CHECK(end->context))
		return false;
	end->gid_index = p->opts.config.infiniband ? 0 : 3;
	end->pd = api->alloc_pd(end->context);
	end->channel = api->create_comp_channel(end->context);
	end->cq = api->create_cq(end->context, p->opts.cqe ? p->opts.cqe : 64, end, end->channel,
				 0);
	init.send_cq = init.recv_cq = end->cq;
	end->qp = api->create_qp(end->pd, &init);
	end->mr = api->reg_mr(end->pd, end->memory, PAIR_BYTES,
			      IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	return CHECK_EQ(api->query_gid(end->context, 1, end->gid_index, &end->gid), 0) &&
	       CHECK(end->pd && end->channel && end->cq && end->qp && end->mr);
}

static inline bool pair_connect(struct pair *p)
{
	bool ok = true;

	for (int e = 0; e < 2; e++)
		ok = ok && CHECK_EQ(pair_modify(p, e, IBV_QPS_INIT, PAIR_INIT), 0);
	for (int e = 0; e < 2; e++)
		ok = ok && CHECK_EQ(pair_modify(p, e, IBV_QPS_RTR, PAIR_RTR), 0) &&
		     CHECK_EQ(pair_modify(p, e, IBV_QPS_RTS, PAIR_RTS), 0);
	return ok;
}

static inline bool pair_open(struct pair *p, const struct pair_opts *opts)
{
	memset(p, 0, sizeof(*p));
	if (opts)
		p->opts = *opts;
	verbs_loop()->configure(&p->opts.config);
	verbs_loop()->seed(tap_seed());
	return CHECK_EQ(accel_verbs_api_get(verbs_loop_path(), &p->api), 0) &&
	       pair_end_open(p, 0) && pair_end_open(p, 1) &&
	       (p->opts.unconnected || pair_connect(p));
}

static inline void pair_end_close(struct pair *p, int e)
{
	const struct accel_verbs_api *api = p->api;
	struct pair_end *end = &p->end[e];

	if (end->qp)
		api->destroy_qp(end->qp);
	if (end->mr)
		api->dereg_mr(end->mr);
	if (end->cq)
		api->destroy_cq(end->cq);
	if (end->channel)
		api->destroy_comp_channel(end->channel);
	if (end->pd)
		api->dealloc_pd(end->pd);
	if (end->context)
		api->close_device(end->context);
	free(end->memory);
	memset(end, 0, sizeof(*end));
}

/* Everything given back. */
static inline void pair_close(struct pair *p)
{
	pair_end_close(p, 0);
	pair_end_close(p, 1);
	CHECK_LOOP_EMPTY();
}

/* One request: bytes from from on in this end's memory to the same place in the other's. */
static inline int pair_post(struct pair *p, int e, enum ibv_wr_opcode opcode, unsigned flags,
			    uint64_t from, uint32_t bytes)
{
	const struct pair_end *other = &p->end[!e];
	struct ibv_sge entry = {.addr = (uintptr_t)p->end[e].memory + from,
				.length = bytes,
				.lkey = p->end[e].mr->lkey};
	struct ibv_send_wr wr = {.wr_id = from,
				 .sg_list = &entry,
				 .num_sge = bytes ? 1 : 0,
				 .opcode = opcode,
				 .send_flags = flags,
				 .imm_data = htobe32((uint32_t)from)},
			   *bad;

	wr.wr.rdma.remote_addr = (uintptr_t)other->memory + from;
	wr.wr.rdma.rkey = other->mr->rkey;
	return ibv_post_send(p->end[e].qp, &wr, &bad);
}

static inline int pair_receive(struct pair *p, int e, uint64_t id)
{
	struct ibv_recv_wr wr = {.wr_id = id}, *bad;

	return ibv_post_recv(p->end[e].qp, &wr, &bad);
}

/* The next completion of that end; false after 10 s. */
static inline bool pair_poll(struct pair *p, int e, struct ibv_wc *wc)
{
	const uint64_t end_ns = ranks_now_ns() + 10000000000ull;
	int got;

	while (!(got = ibv_poll_cq(p->end[e].cq, 1, wc)) && ranks_now_ns() < end_ns)
		sched_yield();
	return CHECK_EQ(got, 1);
}

static inline enum ibv_wc_status pair_status(struct pair *p, int e)
{
	struct ibv_wc wc = {.status = IBV_WC_GENERAL_ERR};

	pair_poll(p, e, &wc);
	return wc.status;
}

#endif
