/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * An RDMA device without a NIC, for a guest's tests: Soft-RoCE on a network card that leads
 * nowhere, and a connected pair of queues on it that talks to itself.
 */
#ifndef ACCEL_TESTS_RXE_H
#define ACCEL_TESTS_RXE_H

#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RXE_NAME "axlrxe0"
#define RXE_CARD "axldummy0"
#define RXE_ADDRESS "10.99.0.1"

struct rxe {
	struct ibv_context *context;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *qp[2]; /* connected with each other; qp[0] posts */
};

bool rxe_up(void); /* makes the device if it is not there; false, with comments, if it cannot be */

int rxe_open(struct rxe *rxe); /* 0 or -errno, with a comment */
int rxe_pair(struct rxe *rxe); /* the queues alone, on a context and pd that are there */
void rxe_close(struct rxe *rxe);

/* Moves bytes between two places that are registered, by one request of that kind; its ibv_wc_status. */
int rxe_move(struct rxe *rxe, enum ibv_wr_opcode opcode, void *local, uint32_t lkey, void *remote,
	     uint32_t rkey, uint32_t bytes);

#endif
