// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * What the NICs do. The requests of a queue pair are begun, received and acknowledged in order (each of
 * these after a delay of its own); between the first two their pieces are read and written in any
 * order, those of up to WINDOW requests mixed. Of several queue pairs nothing is in order.
 *
 * Each stage below does one thing if it is due, and says when it would be: a time that has passed
 * means that it did it.
 */
#include "loop_inside.h"

#include <string.h>

enum { WINDOW = 8, PIECES_MAX = 64, PIECE_BYTES_MIN = 64, PIECE_SIZES = 7, STAGES = 4 };

static struct loop_request *request_at(const struct loop_qp *qp, uint64_t index)
{
	return &qp->request[index % qp->cap.max_send_wr];
}

static struct loop_device *device_of(const struct loop_qp *qp)
{
	return loop_context(qp->ibv.context)->dev;
}

static bool is_write(const struct loop_request *r)
{
	return r->opcode == IBV_WR_RDMA_WRITE || r->opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
}

/* Does the address name the port of that queue pair? InfiniBand's switches go by the LID, also where there is a GID. */
static bool is_at(const struct loop_qp *qp, const struct ibv_ah_attr *ah)
{
	struct ibv_gid_entry entry;

	if (loop.config.infiniband &&
	    ah->dlid != device_of(qp)->index * LOOP_PORTS_MAX + qp->attr.port_num)
		return false;
	if (!ah->is_global)
		return true;
	for (int i = 0; !loop_gid(device_of(qp), qp->attr.port_num, i, &entry); i++)
		if (!memcmp(&entry.gid, &ah->grh.dgid, sizeof(entry.gid)))
			return true;
	return false;
}

static bool is_up(const struct loop_qp *qp)
{
	const struct loop_device *dev = device_of(qp);

	return !loop_context(qp->ibv.context)->dead && !dev->port[qp->attr.port_num - 1].down;
}

struct loop_qp *loop_peer(const struct loop_qp *qp)
{
	struct loop_qp *peer = loop_qp_of(qp->attr.dest_qp_num);

	if (!peer || (peer->state != IBV_QPS_RTR && peer->state != IBV_QPS_RTS) || !is_up(qp) ||
	    !is_up(peer) || device_of(qp)->lost[device_of(peer)->index] ||
	    peer->attr.dest_qp_num != qp->ibv.qp_num || !is_at(peer, &qp->attr.ah_attr) ||
	    peer->attr.rq_psn != qp->attr.sq_psn || peer->attr.path_mtu != qp->attr.path_mtu)
		return NULL;
	return peer;
}

/* Nothing after this request is executed; what is in flight of them is lost. */
static void request_fail(struct loop_qp *qp, uint64_t index, enum ibv_wc_status status)
{
	request_at(qp, index)->status = status;
	request_at(qp, index)->next_ns = loop_now_ns() + loop_delay_ns();
	qp->failing = true;
	for (uint64_t i = index; i < qp->begun; i++)
		request_at(qp, i)->pieces = 0;
}

/* The peer does not answer; after all retries the oldest request fails (11.6.2). */
static int64_t stall(struct loop_qp *qp, int64_t now_ns)
{
	int64_t end_ns;

	if (!qp->stalled_ns)
		qp->stalled_ns = now_ns;
	if (!qp->attr.timeout)
		return LOOP_NEVER;
	end_ns = qp->stalled_ns + (INT64_C(4096) << qp->attr.timeout) * (qp->attr.retry_cnt + 1);
	if (now_ns < end_ns)
		return end_ns;
	if (qp->begun == qp->completed)
		qp->begun++;
	request_fail(qp, qp->completed, IBV_WC_RETRY_EXC_ERR);
	return now_ns;
}

/* 0: the request's next stage is due, and its peer there; else when to look again. */
static int64_t not_yet(struct loop_qp *qp, const struct loop_request *r, const struct loop_qp *peer,
		       int64_t now_ns)
{
	if (now_ns < r->next_ns)
		return r->next_ns;
	if (!peer)
		return stall(qp, now_ns);
	qp->stalled_ns = 0;
	return 0;
}

static enum ibv_wc_status request_check(struct loop_qp *qp, const struct loop_request *r,
					const struct loop_qp *peer)
{
	struct loop_device *dev = device_of(qp);

	if (dev->fail_nth && !--dev->fail_nth)
		return dev->fail_status;
	for (int i = 0; i < r->entries && !(r->flags & IBV_SEND_INLINE); i++)
		if (!loop_mr_local(qp->ibv.pd, &r->entry[i], 0))
			return IBV_WC_LOC_PROT_ERR;
	if (!is_write(r) || !r->bytes)
		return IBV_WC_SUCCESS;
	if (!(peer->attr.qp_access_flags & IBV_ACCESS_REMOTE_WRITE) ||
	    !loop_mr_remote(peer->ibv.pd, r->remote_addr, r->bytes, r->rkey))
		return IBV_WC_REM_ACCESS_ERR;
	return IBV_WC_SUCCESS;
}

static void request_lie(struct loop_request *r, struct loop_device *dev)
{
	if (r->opcode != IBV_WR_RDMA_WRITE_WITH_IMM || !dev->lie_nth || --dev->lie_nth)
		return;
	r->imm ^= dev->lie_imm;
	r->lie_at = dev->lie_at;
	r->lie_bits = dev->lie_bits;
}

static int64_t begin(struct loop_qp *qp, int64_t now_ns)
{
	struct loop_request *r = request_at(qp, qp->begun);
	const struct loop_qp *peer = loop_peer(qp);
	enum ibv_wc_status status;
	uint64_t count;
	int64_t at_ns;

	if (qp->begun == qp->posted || qp->failing || device_of(qp)->held[LOOP_HOLD_REQUESTS] ||
	    qp->begun - qp->received >= WINDOW)
		return LOOP_NEVER;
	at_ns = not_yet(qp, r, peer, now_ns);
	if (at_ns)
		return at_ns;
	loop_acquire(qp->fiber, r);
	status = request_check(qp, r, peer);
	qp->begun++;
	if (status) {
		request_fail(qp, qp->begun - 1, status);
		return now_ns;
	}
	request_lie(r, device_of(qp));
	loop.stats.requests++;
	loop.stats.with_imm += r->opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
	if ((uint64_t)r->entries > loop.stats.entries_max)
		loop.stats.entries_max = (uint64_t)r->entries;
	r->piece_bytes = (uint64_t)PIECE_BYTES_MIN << loop_random(PIECE_SIZES);
	if (r->piece_bytes < (r->bytes + PIECES_MAX - 1) / PIECES_MAX)
		r->piece_bytes = (r->bytes + PIECES_MAX - 1) / PIECES_MAX;
	count = is_write(r) ? (r->bytes + r->piece_bytes - 1) / r->piece_bytes : 0;
	r->pieces = count == PIECES_MAX ? UINT64_MAX : (UINT64_C(1) << count) - 1;
	r->next_ns = now_ns + loop_delay_ns();
	return now_ns;
}

/*
 * Bytes of the message from offset on to that address of the peer's. What a dma-buf's owner maps is not
 * known here, so that ThreadSanitizer does not hear of it.
 */
static enum ibv_wc_status bytes_move(struct loop_qp *qp, const struct loop_request *r,
				     uint64_t offset, uint64_t bytes, const struct loop_mr *to_mr,
				     uint64_t to)
{
	const uint8_t *inline_at = r->inlined;
	uint8_t *to_page = to_mr->pages + (to - to_mr->iova);
	const uint64_t begin = offset, end = offset + bytes;

	for (int i = 0; i < r->entries && bytes; i++) {
		const struct ibv_sge *e = &r->entry[i];
		const uint64_t part = offset < e->length ? e->length - offset : 0,
			       n = part < bytes ? part : bytes;
		const bool inlined = r->flags & IBV_SEND_INLINE;
		const struct loop_mr *mr = inlined ? NULL : loop_mr_local(qp->ibv.pd, e, 0);
		const uint8_t *from;

		if (!inlined && !mr)
			return IBV_WC_LOC_PROT_ERR;
		if (n) {
			from = mr ? mr->pages + (e->addr + offset - mr->iova) : inline_at + offset;
			memcpy(to_mr->pages + (to - to_mr->iova), from, n);
			loop_touch(qp->fiber,
				   mr && mr->ibv.addr ? (void *)(e->addr + offset) : NULL,
				   to_mr->ibv.addr ? (void *)to : NULL, n);
		}
		offset = part ? 0 : offset - e->length;
		inline_at += e->length;
		to += n;
		bytes -= n;
	}
	if (r->lie_bits && r->lie_at >= begin && r->lie_at < end)
		to_page[r->lie_at - begin] ^= r->lie_bits;
	return IBV_WC_SUCCESS;
}

static int64_t piece(struct loop_qp *qp, int64_t now_ns)
{
	const uint64_t span = qp->begun - qp->received, first = span ? loop_random(span) : 0;
	const struct loop_qp *peer = loop_peer(qp);

	for (uint64_t i = 0; i < span; i++) {
		const uint64_t index = qp->received + (first + i) % span;
		struct loop_request *r = request_at(qp, index);
		uint64_t offset, bytes, left = r->pieces;
		const struct loop_mr *mr;
		enum ibv_wc_status status;

		if (!left)
			continue;
		if (!peer)
			return stall(qp, now_ns);
		qp->stalled_ns = 0;
		for (uint64_t skip = loop_random((uint64_t)__builtin_popcountll(left)); skip;
		     skip--)
			left &= left - 1;
		r->pieces &= ~(left & -left);
		offset = (uint64_t)__builtin_ctzll(left) * r->piece_bytes;
		bytes = r->bytes - offset < r->piece_bytes ? r->bytes - offset : r->piece_bytes;
		mr = loop_mr_remote(peer->ibv.pd, r->remote_addr, r->bytes, r->rkey);
		status = mr ? bytes_move(qp, r, offset, bytes, mr, r->remote_addr + offset)
			    : IBV_WC_REM_ACCESS_ERR;
		if (status)
			request_fail(qp, index, status);
		loop.stats.bytes += bytes;
		return now_ns;
	}
	return LOOP_NEVER;
}

/* How long a peer without a receive asks for (table 45), by its code. */
static int64_t rnr_ns(unsigned code)
{
	int64_t ns = code % 2 ? 30000 : 40000;

	if (!code)
		return 655360000;
	if (code <= 2)
		return 10000 * (int64_t)code;
	return ns << (code - (code % 2 ? 3 : 4)) / 2;
}

static int64_t refuse(struct loop_qp *qp, struct loop_request *r, const struct loop_qp *peer,
		      int64_t now_ns)
{
	loop.stats.rnr_waits += !r->counted;
	r->counted = true;
	if (qp->attr.rnr_retry < 7 && r->refused++ == qp->attr.rnr_retry)
		request_fail(qp, qp->received, IBV_WC_RNR_RETRY_EXC_ERR);
	else
		r->next_ns = now_ns + rnr_ns(peer->attr.min_rnr_timer);
	return now_ns;
}

/* A SEND's data into the receive's entries. */
static enum ibv_wc_status scatter(struct loop_qp *qp, const struct loop_request *r,
				  const struct loop_qp *peer, const struct loop_receive *receive)
{
	uint64_t offset = 0;

	for (int i = 0; i < receive->entries && offset < r->bytes; i++) {
		const struct ibv_sge *e = &receive->entry[i];
		const uint64_t left = r->bytes - offset, n = left < e->length ? left : e->length;
		const struct loop_mr *mr = loop_mr_local(peer->ibv.pd, e, IBV_ACCESS_LOCAL_WRITE);
		enum ibv_wc_status status = mr ? bytes_move(qp, r, offset, n, mr, e->addr)
					       : IBV_WC_REM_OP_ERR;

		if (status)
			return status;
		offset += n;
	}
	return offset < r->bytes ? IBV_WC_REM_INV_REQ_ERR : IBV_WC_SUCCESS;
}

static int64_t receive(struct loop_qp *qp, int64_t now_ns)
{
	struct loop_request *r = request_at(qp, qp->received);
	struct loop_qp *peer = loop_peer(qp);
	const uint64_t used = peer ? peer->receives_used : 0;
	int64_t at_ns;

	if (qp->received == qp->begun || r->pieces || r->status)
		return LOOP_NEVER;
	at_ns = not_yet(qp, r, peer, now_ns);
	if (at_ns)
		return at_ns;
	if (!peer->established && peer->state == IBV_QPS_RTR)
		loop_async(peer->ibv.context, IBV_EVENT_COMM_EST, peer, 0);
	peer->established = true;
	if (r->opcode != IBV_WR_RDMA_WRITE) {
		const struct loop_receive *to = &peer->receive[used % (peer->cap.max_recv_wr + 1u)];
		const struct ibv_wc wc = {
			.wr_id = to->wr_id,
			.opcode = is_write(r) ? IBV_WC_RECV_RDMA_WITH_IMM : IBV_WC_RECV,
			.byte_len = (uint32_t)r->bytes,
			.imm_data = r->imm,
			.src_qp = qp->ibv.qp_num,
			.wc_flags = r->opcode == IBV_WR_SEND ? 0 : IBV_WC_WITH_IMM,
		};
		enum ibv_wc_status status;

		if (used == peer->receives_posted)
			return refuse(qp, r, peer, now_ns);
		status = is_write(r) ? IBV_WC_SUCCESS : scatter(qp, r, peer, to);
		if (status) {
			request_fail(qp, qp->received, status);
			return now_ns;
		}
		peer->receives_used++;
		loop_complete(peer, false, used, &wc, r->flags & IBV_SEND_SOLICITED, qp->fiber);
	}
	qp->received++;
	r->next_ns = now_ns + loop_delay_ns();
	return now_ns;
}

static void report(struct loop_qp *qp, enum ibv_wc_status status)
{
	const struct loop_request *r = request_at(qp, qp->completed);
	const struct ibv_wc wc = {
		.wr_id = r->wr_id,
		.status = status,
		.opcode = is_write(r) ? IBV_WC_RDMA_WRITE : IBV_WC_SEND,
	};

	if (status || r->flags & IBV_SEND_SIGNALED)
		loop_complete(qp, true, qp->completed, &wc, false, qp->fiber);
	qp->completed++;
}

static int64_t acknowledge(struct loop_qp *qp, int64_t now_ns)
{
	struct loop_request *r = request_at(qp, qp->completed);
	struct loop_qp *peer = loop_peer(qp);

	if (qp->completed == qp->begun || (qp->completed == qp->received && !r->status))
		return LOOP_NEVER;
	if (now_ns < r->next_ns)
		return r->next_ns;
	if (r->status) {
		const enum ibv_wc_status status = r->status;

		report(qp, status);
		loop_qp_fail(qp);
		if (status == IBV_WC_REM_ACCESS_ERR && peer) {
			loop_qp_fail(peer);
			loop_async(peer->ibv.context, IBV_EVENT_QP_ACCESS_ERR, peer, 0);
		}
		return now_ns;
	}
	if (device_of(qp)->held[LOOP_HOLD_ACKS])
		return LOOP_NEVER;
	/* That the peer is gone by now may be the end of its answer too, or not. */
	if (!peer || device_of(peer)->lost[device_of(qp)->index]) {
		if (peer || qp->stalled_ns || loop_random(2))
			return stall(qp, now_ns);
	} else {
		qp->stalled_ns = 0;
	}
	report(qp, IBV_WC_SUCCESS);
	return now_ns;
}

/* In the error state. What was begun may read its source once more: it is the NIC's until now. */
static int64_t flush(struct loop_qp *qp, int64_t now_ns)
{
	const bool send = qp->completed < qp->posted;

	if (!send && qp->receives_used == qp->receives_posted)
		return LOOP_NEVER;
	if (now_ns < qp->flush_ns)
		return qp->flush_ns;
	loop.stats.flushed++;
	if (send) {
		const struct loop_request *r = request_at(qp, qp->completed);

		for (int i = 0; i < r->entries && r->pieces; i++)
			if (!(r->flags & IBV_SEND_INLINE) &&
			    loop_mr_local(qp->ibv.pd, &r->entry[i], 0))
				loop_touch(qp->fiber, (void *)r->entry[i].addr, NULL,
					   r->entry[i].length);
		report(qp, IBV_WC_WR_FLUSH_ERR);
	} else {
		const uint64_t index = qp->receives_used++;
		const struct ibv_wc wc = {
			.wr_id = qp->receive[index % (qp->cap.max_recv_wr + 1u)].wr_id,
			.status = IBV_WC_WR_FLUSH_ERR,
			.opcode = IBV_WC_RECV,
		};

		loop_complete(qp, false, index, &wc, false, qp->fiber);
	}
	return now_ns;
}

static int64_t qp_step(struct loop_qp *qp, int64_t now_ns)
{
	static int64_t (*const stages[STAGES])(struct loop_qp * qp, int64_t now_ns) = {
		acknowledge, receive, piece, begin};
	const uint64_t first = loop_random(STAGES);
	int64_t due_ns = LOOP_NEVER;

	if (loop_context(qp->ibv.context)->dead)
		return LOOP_NEVER;
	if (qp->state == IBV_QPS_ERR)
		return flush(qp, now_ns);
	if (qp->state != IBV_QPS_RTS || qp->completed == qp->posted)
		return LOOP_NEVER;
	for (uint64_t i = 0; i < STAGES && due_ns > now_ns; i++) {
		const int64_t at_ns = stages[(first + i) % STAGES](qp, now_ns);

		due_ns = at_ns < due_ns ? at_ns : due_ns;
	}
	return due_ns;
}

int64_t loop_step(int64_t now_ns)
{
	uint64_t skip = loop.live.qps ? loop_random(loop.live.qps) : 0;
	struct loop_qp *qp = loop.qps;
	int64_t due_ns = LOOP_NEVER;

	for (; skip; skip--)
		qp = qp->next;
	for (uint32_t i = 0; i < loop.live.qps && due_ns > now_ns; i++) {
		const int64_t at_ns = qp_step(qp, now_ns);

		due_ns = at_ns < due_ns ? at_ns : due_ns;
		qp = qp->next ? qp->next : loop.qps;
	}
	return due_ns;
}
