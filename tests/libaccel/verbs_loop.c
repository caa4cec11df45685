// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * What libaccel-verbs-loop.so promises (tests/verbs/loop.h), by bare verbs: that it is as strict, late
 * and unlucky as the tests of the verbs transport need it.
 */
#define _GNU_SOURCE
#include "meet.h"
#include "verbs_pair.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#define WRITE IBV_WR_RDMA_WRITE
#define WRITE_IMM IBV_WR_RDMA_WRITE_WITH_IMM
#define SIGNALED IBV_SEND_SIGNALED

static void fill(uint8_t *at, size_t bytes, uint64_t seed)
{
	for (size_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)(tap_random(&seed) >> 32);
}

static bool is_readable(int fd)
{
	struct pollfd there = {.fd = fd, .events = POLLIN};

	return poll(&there, 1, 0) == 1;
}

TEST(loop, devices_ports_and_gids_are_as_configured)
{
	const struct pair_opts opts = {.config = {.devices = 3, .rate = 200, .mtu = 2048}};
	struct ibv_port_attr port = {0};
	struct ibv_gid_entry entry;
	struct ibv_device **list;
	union ibv_gid gid;
	struct pair p;
	int count = 0;

	if (pair_open(&p, &opts)) {
		struct ibv_context *context = p.end[1].context;

		list = p.api->get_device_list(&count);
		CHECK_EQ(count, 3);
		CHECK(!strcmp(p.api->get_device_name(list[2]), "loop2"));
		p.api->free_device_list(list);
		CHECK_EQ(p.api->query_port(context, 1, &port), 0);
		CHECK_EQ(port.state, IBV_PORT_ACTIVE);
		CHECK_EQ(port.active_mtu, IBV_MTU_2048);
		CHECK_EQ(port.active_speed, 64);
		CHECK_EQ(port.link_layer, IBV_LINK_LAYER_ETHERNET);
		CHECK_EQ(p.api->query_port(context, 2, &port), EINVAL);
		CHECK_EQ(p.api->query_gid_ex(context, 1, 3, &entry, 0, sizeof(entry)), 0);
		CHECK_EQ(entry.gid_type, IBV_GID_TYPE_ROCE_V2);
		CHECK_EQ(entry.gid.raw[14], 1);
		CHECK_EQ(p.api->query_gid_ex(context, 1, LOOP_GIDS, &entry, 0, sizeof(entry)),
			 ENODATA);
		CHECK_EQ(p.api->query_gid(context, 1, LOOP_GIDS, &gid), 0);
		CHECK_EQ(gid.global.interface_id, 0);
	}
	pair_close(&p);
}

static void open_and_close(int device, void *arg)
{
	const struct accel_verbs_api *api = arg;

	for (int i = 0; i < 50; i++) {
		struct ibv_device **list = api->get_device_list(NULL);
		struct ibv_context *context = api->open_device(list[device % 2]);

		CHECK(context);
		api->free_device_list(list);
		CHECK_EQ(api->close_device(context), 0);
	}
}

TEST(loop, devices_are_opened_and_closed_by_threads)
{
	const struct accel_verbs_api *api;

	REQUIRE_EQ(accel_verbs_api_get(verbs_loop_path(), &api), 0);
	verbs_loop()->configure(NULL);
	meet_threads(4, open_and_close, (void *)(uintptr_t)api);
	CHECK_LOOP_EMPTY();
}

/* Rounds of messages both ways, gathered, some without data; each holds what its source does. */
static void exchange(const struct pair_opts *opts)
{
	uint64_t state = tap_seed();
	struct pair p;
	bool ok = pair_open(&p, opts);

	for (unsigned round = 0; round < 60 && ok; round++) {
		const int from = round % 2;
		const bool inlined = round % 5 == 0;
		struct pair_end *mine = &p.end[from], *other = &p.end[!from];
		const int entries = 1 + (int)tap_random_below(&state, PAIR_GATHER);
		const uint32_t bytes = 1 +
				       (uint32_t)tap_random_below(
					       &state, inlined ? PAIR_INLINE / PAIR_GATHER : 3000);
		struct ibv_sge entry[PAIR_GATHER];
		struct ibv_send_wr wr = {.sg_list = entry, .num_sge = entries}, *bad;
		struct ibv_wc wc;

		fill(mine->memory, PAIR_BYTES, tap_random(&state));
		for (int i = 0; i < entries; i++)
			entry[i] = (struct ibv_sge){(uintptr_t)mine->memory + 7 * (unsigned)i +
							    (unsigned)(entries - i) * bytes,
						    bytes, mine->mr->lkey};
		wr.send_flags = inlined ? IBV_SEND_INLINE : 0;
		wr.wr.rdma.remote_addr = (uintptr_t)other->memory + 13;
		wr.wr.rdma.rkey = other->mr->rkey;
		ok = CHECK_EQ(pair_receive(&p, !from, round), 0) &&
		     CHECK_EQ(ibv_post_send(mine->qp, &wr, &bad), 0) &&
		     CHECK_EQ(pair_post(&p, from, WRITE_IMM, SIGNALED, PAIR_BYTES - 64, round % 3),
			      0) &&
		     pair_poll(&p, !from, &wc) && CHECK_EQ(wc.status, IBV_WC_SUCCESS) &&
		     CHECK_EQ(wc.opcode, IBV_WC_RECV_RDMA_WITH_IMM) && CHECK_EQ(wc.wr_id, round) &&
		     CHECK_EQ(be32toh(wc.imm_data), PAIR_BYTES - 64) &&
		     CHECK_EQ(wc.byte_len, round % 3);
		for (int i = 0; i < entries && ok; i++)
			ok = CHECK(!memcmp(other->memory + 13 + (unsigned)i * bytes,
					   (void *)entry[i].addr, bytes));
		ok = ok &&
		     CHECK(!memcmp(other->memory + PAIR_BYTES - 64, mine->memory + PAIR_BYTES - 64,
				   round % 3)) &&
		     CHECK_EQ(pair_status(&p, from), IBV_WC_SUCCESS);
	}
	pair_close(&p);
}

TEST(loop, messages_arrive_whole_over_roce)
{
	exchange(&(struct pair_opts){0});
}

TEST(loop, messages_arrive_whole_over_infiniband)
{
	exchange(&(struct pair_opts){.config = {.infiniband = 1}});
}

TEST(loop, a_send_is_scattered_into_a_receive)
{
	struct pair p;
	struct ibv_wc wc;

	if (pair_open(&p, NULL)) {
		struct pair_end *end = &p.end[1];
		struct ibv_sge entry = {(uintptr_t)end->memory + 100, 300, end->mr->lkey};
		struct ibv_recv_wr wr = {.wr_id = 5, .sg_list = &entry, .num_sge = 1}, *bad;

		fill(p.end[0].memory, 300, tap_seed());
		CHECK_EQ(ibv_post_recv(end->qp, &wr, &bad), 0);
		CHECK_EQ(pair_post(&p, 0, IBV_WR_SEND, SIGNALED, 0, 300), 0);
		if (pair_poll(&p, 1, &wc)) {
			CHECK_EQ(wc.opcode, IBV_WC_RECV);
			CHECK_EQ(wc.byte_len, 300);
			CHECK(!memcmp(end->memory + 100, p.end[0].memory, 300));
		}
		CHECK_EQ(pair_status(&p, 0), IBV_WC_SUCCESS);
	}
	pair_close(&p);
}

/* Each attribute that a transition needs, left out in turn, and one that it has no use for. */
static void masks(struct pair *p, enum ibv_qp_state to, int mask, int foreign)
{
	for (int left = mask; left; left &= left - 1)
		CHECK_EQ(pair_modify(p, 0, to, mask & ~(left & -left)), EINVAL);
	CHECK_EQ(pair_modify(p, 0, to, mask | foreign), EINVAL);
	CHECK_EQ(pair_modify(p, 0, to, mask), 0);
}

TEST(loop, states_need_all_their_attributes)
{
	struct pair p;

	if (pair_open(&p, &(struct pair_opts){.unconnected = true})) {
		CHECK_EQ(pair_modify(&p, 0, IBV_QPS_RTR, PAIR_RTR), EINVAL);
		CHECK_EQ(pair_receive(&p, 0, 0), EINVAL);
		masks(&p, IBV_QPS_INIT, PAIR_INIT, IBV_QP_TIMEOUT);
		CHECK_EQ(pair_receive(&p, 0, 0), 0);
		CHECK_EQ(pair_post(&p, 0, WRITE, 0, 0, 8), EINVAL);
		masks(&p, IBV_QPS_RTR, PAIR_RTR, IBV_QP_SQ_PSN);
		CHECK_EQ(pair_post(&p, 0, WRITE, 0, 0, 8), EINVAL);
		masks(&p, IBV_QPS_RTS, PAIR_RTS, IBV_QP_AV);
		CHECK_EQ(pair_post(&p, 0, WRITE, 0, 0, 8), 0);
		CHECK_EQ(pair_modify(&p, 0, IBV_QPS_ERR, IBV_QP_TIMEOUT), EINVAL);
	}
	pair_close(&p);
}

TEST(loop, attributes_must_be_right)
{
	struct ibv_qp_attr good, bad;
	struct pair p;

	if (pair_open(&p, &(struct pair_opts){.unconnected = true}) &&
	    CHECK_EQ(pair_modify(&p, 0, IBV_QPS_INIT, PAIR_INIT), 0)) {
		good = pair_attr(&p, 0);
		good.qp_state = IBV_QPS_RTR;
		bad = good;
		bad.path_mtu = IBV_MTU_4096; /* more than the port's */
		CHECK_EQ(p.api->modify_qp(p.end[0].qp, &bad, PAIR_RTR | IBV_QP_STATE), EINVAL);
		bad = good;
		bad.ah_attr.is_global = 0;
		CHECK_EQ(p.api->modify_qp(p.end[0].qp, &bad, PAIR_RTR | IBV_QP_STATE), EINVAL);
		bad = good;
		bad.ah_attr.grh.sgid_index = LOOP_GIDS;
		CHECK_EQ(p.api->modify_qp(p.end[0].qp, &bad, PAIR_RTR | IBV_QP_STATE), EINVAL);
		bad = good;
		bad.ah_attr.port_num = 2;
		CHECK_EQ(p.api->modify_qp(p.end[0].qp, &bad, PAIR_RTR | IBV_QP_STATE), EINVAL);
		bad = good;
		bad.ah_attr.grh.dgid.raw[15] = 99;
		CHECK_EQ(p.api->modify_qp(p.end[0].qp, &bad, PAIR_RTR | IBV_QP_STATE),
			 EHOSTUNREACH);
		CHECK_EQ(p.api->modify_qp(p.end[0].qp, &good, PAIR_RTR | IBV_QP_STATE), 0);
	}
	pair_close(&p);
}

TEST(loop, a_source_is_read_late)
{
	struct pair p;

	if (pair_open(&p, NULL)) {
		verbs_loop()->hold(0, LOOP_HOLD_REQUESTS, true);
		memset(p.end[0].memory, 1, 100);
		CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED, 0, 100), 0);
		memset(p.end[0].memory, 2, 100);
		verbs_loop()->hold(0, LOOP_HOLD_REQUESTS, false);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_SUCCESS);
		CHECK_EQ(p.end[1].memory[99], 2);
	}
	pair_close(&p);
}

TEST(loop, inline_data_is_read_at_once)
{
	struct pair p;

	if (pair_open(&p, NULL)) {
		verbs_loop()->hold(0, LOOP_HOLD_REQUESTS, true);
		memset(p.end[0].memory, 1, 100);
		CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED | IBV_SEND_INLINE, 0, PAIR_INLINE + 1),
			 EINVAL);
		CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED | IBV_SEND_INLINE, 0, PAIR_INLINE), 0);
		memset(p.end[0].memory, 2, 100);
		verbs_loop()->hold(0, LOOP_HOLD_REQUESTS, false);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_SUCCESS);
		CHECK_EQ(p.end[1].memory[0], 1);
		CHECK_EQ(p.end[1].memory[PAIR_INLINE - 1], 1);
	}
	pair_close(&p);
}

#if !RANKS_TSAN
/* Who looks at memory sees ends before beginnings; TSan would call it what it is. */
TEST(loop, pieces_come_in_any_order)
{
	unsigned torn = 0, whole = 0;
	struct pair p;
	bool ok = pair_open(&p, NULL);

	for (unsigned round = 1; round < 2000 && (!torn || !whole) && ok; round++) {
		const volatile uint8_t *at = p.end[1].memory;
		const uint8_t mark = (uint8_t)round;

		memset(p.end[0].memory, mark, 8192);
		ok = CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED, 0, 8192), 0);
		while (at[8191] != mark)
			sched_yield();
		if (at[0] == mark)
			whole++;
		else
			torn++;
		ok = ok && CHECK_EQ(pair_status(&p, 0), IBV_WC_SUCCESS);
	}
	CHECK(torn > 0);
	CHECK(whole > 0);
	pair_close(&p);
}
#endif

TEST(loop, acknowledgements_may_come_long_after)
{
	struct ibv_wc wc;
	struct pair p;

	if (pair_open(&p, NULL)) {
		verbs_loop()->hold(0, LOOP_HOLD_ACKS, true);
		CHECK_EQ(pair_receive(&p, 1, 0), 0);
		CHECK_EQ(pair_post(&p, 0, WRITE_IMM, SIGNALED, 0, 100), 0);
		CHECK_EQ(pair_status(&p, 1), IBV_WC_SUCCESS);
		CHECK_EQ(ibv_poll_cq(p.end[0].cq, 1, &wc), 0);
		verbs_loop()->hold(0, LOOP_HOLD_ACKS, false);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_SUCCESS);
	}
	pair_close(&p);
}

TEST(loop, a_send_queue_is_full_until_a_signalled_completion_is_polled)
{
	struct pair p;

	if (pair_open(&p, NULL)) {
		for (int i = 0; i < PAIR_DEPTH - 1; i++)
			CHECK_EQ(pair_post(&p, 0, WRITE, 0, 0, 8), 0);
		CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED, 0, 8), 0);
		CHECK_EQ(pair_post(&p, 0, WRITE, 0, 0, 8), ENOMEM);
		while (verbs_loop()->stats().requests < PAIR_DEPTH)
			sched_yield();
		CHECK_EQ(pair_post(&p, 0, WRITE, 0, 0, 8), ENOMEM);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_SUCCESS);
		for (int i = 0; i < PAIR_DEPTH; i++)
			CHECK_EQ(pair_post(&p, 0, WRITE, 0, 0, 8), 0);
		CHECK_EQ(pair_post(&p, 0, WRITE, 0, 0, 8), ENOMEM);
	}
	pair_close(&p);
}

TEST(loop, limits_of_a_request_are_kept)
{
	struct ibv_sge entry[PAIR_GATHER + 1];
	struct ibv_send_wr wr = {.sg_list = entry, .num_sge = PAIR_GATHER + 1}, *bad = NULL;
	struct pair p;

	if (pair_open(&p, NULL)) {
		for (int i = 0; i <= PAIR_GATHER; i++)
			entry[i] = (struct ibv_sge){(uintptr_t)p.end[0].memory, 8,
						    p.end[0].mr->lkey};
		CHECK_EQ(ibv_post_send(p.end[0].qp, &wr, &bad), EINVAL);
		CHECK(bad == &wr);
		wr.num_sge = 1;
		entry[0].length = 0;
		CHECK_EQ(ibv_post_send(p.end[0].qp, &wr, &bad), EINVAL);
		entry[0].length = 8;
		wr.opcode = IBV_WR_RDMA_READ;
		CHECK_EQ(ibv_post_send(p.end[0].qp, &wr, &bad), EINVAL);
	}
	pair_close(&p);
}

TEST(loop, a_completion_queue_that_overruns_kills_the_device)
{
	struct ibv_async_event event;
	struct ibv_wc wc;
	struct pair p;

	if (pair_open(&p, &(struct pair_opts){.cqe = 2})) {
		struct ibv_context *context = p.end[0].context;

		for (int i = 0; i < 3; i++)
			CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED, 0, 8), 0);
		CHECK_EQ(p.api->get_async_event(context, &event), 0);
		CHECK_EQ(event.event_type, IBV_EVENT_CQ_ERR);
		CHECK(event.element.cq == p.end[0].cq);
		p.api->ack_async_event(&event);
		CHECK_EQ(p.api->get_async_event(context, &event), 0);
		CHECK_EQ(event.event_type, IBV_EVENT_DEVICE_FATAL);
		p.api->ack_async_event(&event);
		CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED, 0, 8), EIO);
		CHECK_EQ(ibv_poll_cq(p.end[0].cq, 1, &wc), 0);
		CHECK_EQ(verbs_loop()->stats().overruns, 1);
	}
	pair_close(&p);
}

TEST(loop, without_a_receive_a_message_waits)
{
	struct pair p;

	if (pair_open(&p, NULL)) {
		CHECK_EQ(pair_post(&p, 0, WRITE_IMM, SIGNALED, 0, 8), 0);
		while (!verbs_loop()->stats().rnr_waits)
			sched_yield();
		CHECK_EQ(pair_receive(&p, 1, 9), 0);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_SUCCESS);
		CHECK_EQ(pair_status(&p, 1), IBV_WC_SUCCESS);
		CHECK_EQ(verbs_loop()->stats().rnr_waits, 1);
	}
	pair_close(&p);
	if (pair_open(&p, &(struct pair_opts){.rnr_retry = 2})) {
		CHECK_EQ(pair_post(&p, 0, WRITE_IMM, 0, 0, 8), 0);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_RNR_RETRY_EXC_ERR);
	}
	pair_close(&p);
}

TEST(loop, the_error_state_flushes_everything)
{
	struct pair p;
	struct ibv_wc wc;
	int receives = 0;

	if (pair_open(&p, NULL)) {
		verbs_loop()->hold(0, LOOP_HOLD_REQUESTS, true);
		memset(p.end[0].memory, 1, 8);
		for (int i = 0; i < 5; i++)
			CHECK_EQ(pair_post(&p, 0, WRITE, 0, 0, 8), 0);
		CHECK_EQ(pair_receive(&p, 0, 77), 0);
		CHECK_EQ(pair_modify(&p, 0, IBV_QPS_ERR, 0), 0);
		CHECK_EQ(pair_post(&p, 0, WRITE, 0, 0, 8), 0);
		for (int i = 0; i < 7 && pair_poll(&p, 0, &wc); i++) {
			CHECK_EQ(wc.status, IBV_WC_WR_FLUSH_ERR);
			receives += wc.wr_id == 77;
		}
		CHECK_EQ(receives, 1);
		CHECK_EQ(verbs_loop()->stats().flushed, 7);
		CHECK_EQ(p.end[1].memory[0], 0);
	}
	pair_close(&p);
}

TEST(loop, nothing_is_executed_after_a_queue_pair_is_destroyed)
{
	struct pair p;

	for (int e = 0; e < 2; e++) {
		if (pair_open(&p, NULL)) {
			for (int i = 0; i < 8; i++)
				CHECK_EQ(pair_post(&p, 0, WRITE, 0, 0, 4096), 0);
			CHECK_EQ(p.api->destroy_qp(p.end[e].qp), 0);
			p.end[e].qp = NULL;
			/* The source, or the target, is the caller's again: TSan watches. */
			memset(p.end[e].memory, 5, 4096);
		}
		pair_close(&p);
	}
}

TEST(loop, what_is_lost_fails_after_all_retries)
{
	const struct pair_opts once = {.timeout = 13, .retries = 1};
	struct ibv_async_event event;
	struct pair p;

	if (pair_open(&p, &once)) {
		const uint64_t begin_ns = ranks_now_ns();

		verbs_loop()->drop(0, 1, true);
		CHECK_EQ(pair_post(&p, 0, WRITE, 0, 0, 8), 0);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_RETRY_EXC_ERR);
		CHECK(ranks_now_ns() - begin_ns >= 2 * 4096ull << 13);
		CHECK_EQ(p.end[1].memory[0], 0);
	}
	pair_close(&p);
	if (pair_open(&p, &(struct pair_opts){.timeout = 20, .retries = 7})) {
		verbs_loop()->port(1, 1, false);
		CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED, 0, 8), 0);
		CHECK_EQ(p.api->get_async_event(p.end[1].context, &event), 0);
		CHECK_EQ(event.event_type, IBV_EVENT_PORT_ERR);
		CHECK_EQ(event.element.port_num, 1);
		CHECK(!is_readable(p.end[1].context->async_fd));
		verbs_loop()->port(1, 1, true);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_SUCCESS);
	}
	pair_close(&p);
}

/* The peer has it, its answer is lost: both ends are right, and do not agree. */
TEST(loop, a_send_may_fail_that_was_received)
{
	struct pair p;

	if (pair_open(&p, NULL)) {
		verbs_loop()->drop(1, 0, true);
		CHECK_EQ(pair_receive(&p, 1, 0), 0);
		CHECK_EQ(pair_post(&p, 0, WRITE_IMM, 0, 0, 8), 0);
		CHECK_EQ(pair_status(&p, 1), IBV_WC_SUCCESS);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_RETRY_EXC_ERR);
	}
	pair_close(&p);
}

TEST(loop, a_removed_device_answers_eio)
{
	struct ibv_async_event event;
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
	struct ibv_wc wc;
	struct pair p;
	int count;

	if (pair_open(&p, NULL)) {
		struct pair_end *end = &p.end[0];

		CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED, 0, 8), 0);
		verbs_loop()->remove(0, true);
		CHECK_EQ(p.api->get_async_event(end->context, &event), 0);
		CHECK_EQ(event.event_type, IBV_EVENT_DEVICE_FATAL);
		p.api->ack_async_event(&event);
		p.api->free_device_list(p.api->get_device_list(&count));
		CHECK_EQ(count, 1);
		CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED, 0, 8), EIO);
		CHECK_EQ(ibv_poll_cq(end->cq, 1, &wc), 0);
		CHECK(!p.api->reg_mr(end->pd, end->memory, 8, 0) && errno == EIO);
		CHECK_EQ(p.api->modify_qp(end->qp, &attr, IBV_QP_STATE), EIO);
		CHECK_EQ(p.api->destroy_qp(end->qp), EIO);
		CHECK_EQ(p.api->dereg_mr(end->mr), EIO);
		CHECK_EQ(verbs_loop()->live().qps, 2);
		CHECK_EQ(pair_post(&p, 1, WRITE, SIGNALED, 0, 8), 0);
		CHECK_EQ(pair_status(&p, 1), IBV_WC_RETRY_EXC_ERR);
	}
	pair_close(&p);
}

TEST(loop, calls_fail_when_asked)
{
	struct pair p;
	void *mr;

	if (pair_open(&p, NULL)) {
		verbs_loop()->fail_call("ibv_reg_mr", 2, EAGAIN);
		mr = p.api->reg_mr(p.end[0].pd, p.end[0].memory, 8, 0);
		CHECK(mr && !verbs_loop()->call_failed());
		CHECK_EQ(p.api->dereg_mr(mr), 0);
		CHECK(!p.api->reg_mr(p.end[0].pd, p.end[0].memory, 8, 0));
		CHECK_EQ(errno, EAGAIN);
		CHECK(verbs_loop()->call_failed());
		mr = p.api->reg_mr(p.end[0].pd, p.end[0].memory, 8, 0);
		CHECK(mr);
		verbs_loop()->fail_call("ibv_dereg_mr", 1, EINVAL);
		CHECK_EQ(p.api->dereg_mr(mr), EINVAL);
		CHECK_EQ(verbs_loop()->live().mrs, 2);
		verbs_loop()->fail_call("ibv_post_send", 1, ENOMEM);
		CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED, 0, 8), ENOMEM);
		CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED, 0, 8), 0);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_SUCCESS);
	}
	pair_close(&p);
}

TEST(loop, requests_fail_when_asked)
{
	struct pair p;

	if (pair_open(&p, NULL)) {
		verbs_loop()->fail_request(0, 2, IBV_WC_REM_OP_ERR);
		for (int i = 0; i < 3; i++)
			CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED, 0, 8), 0);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_SUCCESS);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_REM_OP_ERR);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_WR_FLUSH_ERR);
		CHECK(!strcmp(p.api->wc_status_str(IBV_WC_REM_OP_ERR), "remote operation error"));
	}
	pair_close(&p);
}

TEST(loop, an_armed_queue_wakes_its_channel_once)
{
	struct ibv_cq *cq = NULL;
	struct pollfd fd;
	struct pair p;
	void *arg = NULL;

	if (pair_open(&p, NULL)) {
		struct pair_end *end = &p.end[0];

		/* What came before it was armed wakes nobody. */
		CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED, 0, 8), 0);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_SUCCESS);
		CHECK(!is_readable(end->channel->fd));
		CHECK_EQ(ibv_req_notify_cq(end->cq, 0), 0);
		CHECK(!is_readable(end->channel->fd));
		CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED, 0, 8), 0);
		CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED, 0, 8), 0);
		fd = (struct pollfd){.fd = end->channel->fd, .events = POLLIN};
		CHECK_EQ(poll(&fd, 1, 10000), 1);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_SUCCESS);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_SUCCESS);
		CHECK_EQ(p.api->get_cq_event(end->channel, &cq, &arg), 0);
		CHECK(cq == end->cq && arg == end);
		CHECK(!is_readable(end->channel->fd));
		fcntl(end->channel->fd, F_SETFL, O_NONBLOCK);
		CHECK_EQ(p.api->get_cq_event(end->channel, &cq, &arg), -1);
		CHECK_EQ(errno, EAGAIN);
		p.api->ack_cq_events(end->cq, 1);
		/* One that nobody reads goes with its queue. */
		CHECK_EQ(ibv_req_notify_cq(end->cq, 0), 0);
		CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED, 0, 8), 0);
		CHECK_EQ(poll(&fd, 1, 10000), 1);
	}
	pair_close(&p);
}

/* ---- What ThreadSanitizer sees --------------------------------------------------------------- */

#if RANKS_TSAN
/* One write; the reader of the target, or the writer of the source, trusts what it may not. */
static void race(bool target)
{
	struct pair p;

	if (!pair_open(&p, NULL))
		return;
	CHECK_EQ(pair_post(&p, 0, WRITE, SIGNALED, 0, 8192), 0);
	while (verbs_loop()->stats().bytes < 8192)
		sched_yield();
	if (target)
		CHECK(p.end[1].memory[0] < 2);
	else
		p.end[0].memory[0] = 1;
	pair_status(&p, 0);
	pair_close(&p);
}

/* Does the test of that name, in a process of its own, end by a report? */
static void reports(const char *test)
{
	char command[4096], exe[2048];
	const ssize_t len = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	exe[len > 0 ? len : 0] = '\0';
	snprintf(command, sizeof(command),
		 "TSAN_OPTIONS=halt_on_error=1 LOOP_RACES=1 %s %s 2>&1 | grep -q 'data race'", exe,
		 test);
	CHECK_EQ(system(command), 0);
}

TEST(race, target_read_before_a_completion)
{
	if (!getenv("LOOP_RACES"))
		reports("target_read_before");
	else
		race(true);
}

TEST(race, source_written_before_a_completion)
{
	if (!getenv("LOOP_RACES"))
		reports("source_written_before");
	else
		race(false);
}
#endif
