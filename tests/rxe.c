// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * What rxe.h says. The card is a dummy one with an address of its own: Soft-RoCE sends what is for
 * itself through no card at all.
 */
#include "rxe.h"
#include "node.h"
#include "tap.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define WAIT_S 30

bool rxe_up(void)
{
	/* crc32_generic: Soft-RoCE of 6.12 does not ask for it and cannot do without it. */
	return !run("rdma link show " RXE_NAME "/1 >/dev/null 2>&1 && exit 0;"
		    "modprobe -q crc32_generic; modprobe -a dummy rdma_rxe ib_uverbs && "
		    "ip link add " RXE_CARD " type dummy && ip addr add " RXE_ADDRESS
		    "/24 dev " RXE_CARD " && "
		    "ip link set " RXE_CARD " up && rdma link add " RXE_NAME
		    " type rxe netdev " RXE_CARD);
}

static struct ibv_context *context_open(void)
{
	int count = 0;
	struct ibv_device **list = ibv_get_device_list(&count);
	struct ibv_context *context = NULL;

	for (int i = 0; i < count; i++)
		if (!strcmp(ibv_get_device_name(list[i]), RXE_NAME))
			context = ibv_open_device(list[i]);
	if (list)
		ibv_free_device_list(list);
	return context;
}

/* The entry that stands for the IPv4 address. */
static int gid_index(struct ibv_context *context, union ibv_gid *gid)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	for (int i = 0; i < 16; i++)
		if (!ibv_query_gid(context, 1, i, gid) && !memcmp(gid->raw, mapped, sizeof(mapped)))
			return i;
	return -ENOENT;
}

static int connect_pair(struct rxe *rxe)
{
	union ibv_gid gid;
	int index = gid_index(rxe->context, &gid);

	if (index < 0)
		return index;
	for (unsigned i = 0; i < 2; i++) {
		struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT,
					   .port_num = 1,
					   .qp_access_flags = IBV_ACCESS_REMOTE_READ |
							      IBV_ACCESS_REMOTE_WRITE};
		int rc = ibv_modify_qp(rxe->qp[i], &attr,
				       IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
					       IBV_QP_ACCESS_FLAGS);

		attr = (struct ibv_qp_attr){.qp_state = IBV_QPS_RTR,
					    .path_mtu = IBV_MTU_1024,
					    .dest_qp_num = rxe->qp[!i]->qp_num,
					    .max_dest_rd_atomic = 1,
					    .min_rnr_timer = 1,
					    .ah_attr = {.is_global = 1,
							.port_num = 1,
							.grh = {.dgid = gid,
								.sgid_index = (uint8_t)index,
								.hop_limit = 1}}};
		rc = rc
			     ?: ibv_modify_qp(rxe->qp[i], &attr,
					      IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
						      IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
						      IBV_QP_MAX_DEST_RD_ATOMIC |
						      IBV_QP_MIN_RNR_TIMER);
		attr = (struct ibv_qp_attr){.qp_state = IBV_QPS_RTS,
					    .timeout = 18,
					    .retry_cnt = 7,
					    .rnr_retry = 7,
					    .max_rd_atomic = 1};
		rc = rc
			     ?: ibv_modify_qp(rxe->qp[i], &attr,
					      IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
						      IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
						      IBV_QP_MAX_QP_RD_ATOMIC);
		if (rc)
			return -rc;
	}
	return 0;
}

int rxe_pair(struct rxe *rxe)
{
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC,
		.cap = {.max_send_wr = 4, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1}};

	init.send_cq = init.recv_cq = rxe->cq = ibv_create_cq(rxe->context, 16, NULL, NULL, 0);
	if (rxe->cq) {
		rxe->qp[0] = ibv_create_qp(rxe->pd, &init);
		rxe->qp[1] = ibv_create_qp(rxe->pd, &init);
	}
	return rxe->qp[0] && rxe->qp[1] ? connect_pair(rxe) : -ENODEV;
}

int rxe_open(struct rxe *rxe)
{
	int rc = -ENODEV;

	memset(rxe, 0, sizeof(*rxe));
	rxe->context = context_open();
	if (rxe->context)
		rxe->pd = ibv_alloc_pd(rxe->context);
	if (rxe->pd)
		rc = rxe_pair(rxe);
	if (rc) {
		tap_diag("no pair of queues on " RXE_NAME ": %s", strerror(-rc));
		rxe_close(rxe);
	}
	return rc;
}

void rxe_close(struct rxe *rxe)
{
	for (unsigned i = 0; i < 2; i++)
		if (rxe->qp[i])
			ibv_destroy_qp(rxe->qp[i]);
	if (rxe->cq)
		ibv_destroy_cq(rxe->cq);
	if (rxe->pd)
		ibv_dealloc_pd(rxe->pd);
	if (rxe->context)
		ibv_close_device(rxe->context);
	memset(rxe, 0, sizeof(*rxe));
}

int rxe_move(struct rxe *rxe, enum ibv_wr_opcode opcode, void *local, uint32_t lkey, void *remote,
	     uint32_t rkey, uint32_t bytes)
{
	struct ibv_sge sge = {.addr = (uintptr_t)local, .length = bytes, .lkey = lkey};
	struct ibv_send_wr *bad, wr = {.sg_list = &sge,
				       .num_sge = 1,
				       .opcode = opcode,
				       .send_flags = IBV_SEND_SIGNALED,
				       .wr.rdma = {(uintptr_t)remote, rkey}};
	struct timespec now;
	struct ibv_wc wc;
	time_t end;

	if (ibv_post_send(rxe->qp[0], &wr, &bad))
		return -EIO;
	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec + WAIT_S;
	while (!ibv_poll_cq(rxe->cq, 1, &wc)) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec > end)
			return -ETIMEDOUT;
	}
	return wc.status;
}
