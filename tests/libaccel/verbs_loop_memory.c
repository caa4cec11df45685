// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* What the loop library (tests/verbs/loop.h) checks of memory: keys, bounds, rights, and whose pages. */
#define _GNU_SOURCE
#include "verbs_pair.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/* One request that is wrong in one way, by what it must come to; the next ones are flushed. */
static void refused(enum ibv_wc_status want, void (*spoil)(struct pair *p, struct ibv_send_wr *wr))
{
	struct ibv_async_event event;
	struct pair p;

	if (pair_open(&p, NULL)) {
		struct ibv_sge entry = {(uintptr_t)p.end[0].memory, 100, p.end[0].mr->lkey};
		struct ibv_send_wr wr = {.sg_list = &entry, .num_sge = 1}, *bad;

		wr.wr.rdma.remote_addr = (uintptr_t)p.end[1].memory;
		wr.wr.rdma.rkey = p.end[1].mr->rkey;
		spoil(&p, &wr);
		CHECK_EQ(ibv_post_send(p.end[0].qp, &wr, &bad), 0);
		CHECK_EQ(pair_post(&p, 0, IBV_WR_RDMA_WRITE, 0, 0, 8), 0);
		CHECK_EQ(pair_receive(&p, 0, 0), 0);
		CHECK_EQ(pair_status(&p, 0), want);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_WR_FLUSH_ERR);
		CHECK_EQ(pair_status(&p, 0), IBV_WC_WR_FLUSH_ERR);
		CHECK(!p.end[1].memory[0]);
		if (want == IBV_WC_REM_ACCESS_ERR) {
			CHECK_EQ(p.api->get_async_event(p.end[1].context, &event), 0);
			CHECK_EQ(event.event_type, IBV_EVENT_QP_ACCESS_ERR);
			p.api->ack_async_event(&event);
		}
	}
	pair_close(&p);
}

static void bad_lkey(struct pair *p, struct ibv_send_wr *wr)
{
	wr->sg_list->lkey = p->end[0].mr->rkey;
}

static void foreign_lkey(struct pair *p, struct ibv_send_wr *wr)
{
	wr->sg_list->lkey = p->end[1].mr->lkey;
	wr->sg_list->addr = (uintptr_t)p->end[1].memory;
}

static void before_source(struct pair *p, struct ibv_send_wr *wr)
{
	(void)p;
	wr->sg_list->addr -= 1;
}

static void after_source(struct pair *p, struct ibv_send_wr *wr)
{
	(void)p;
	wr->sg_list->addr += PAIR_BYTES - 99;
}

static void gone_source(struct pair *p, struct ibv_send_wr *wr)
{
	(void)wr;
	p->api->dereg_mr(p->end[0].mr);
	p->end[0].mr = p->api->reg_mr(p->end[0].pd, p->end[0].memory, PAIR_BYTES, 0);
}

static void bad_rkey(struct pair *p, struct ibv_send_wr *wr)
{
	wr->wr.rdma.rkey = p->end[1].mr->lkey;
}

static void before_target(struct pair *p, struct ibv_send_wr *wr)
{
	(void)p;
	wr->wr.rdma.remote_addr -= 1;
}

static void after_target(struct pair *p, struct ibv_send_wr *wr)
{
	(void)p;
	wr->wr.rdma.remote_addr += PAIR_BYTES - 99;
}

static void closed_target(struct pair *p, struct ibv_send_wr *wr)
{
	p->api->dereg_mr(p->end[1].mr);
	p->end[1].mr = p->api->reg_mr(p->end[1].pd, p->end[1].memory, PAIR_BYTES,
				      IBV_ACCESS_LOCAL_WRITE);
	wr->wr.rdma.rkey = p->end[1].mr->rkey;
}

TEST(loop, keys_bounds_and_rights_are_checked)
{
	refused(IBV_WC_LOC_PROT_ERR, bad_lkey);
	refused(IBV_WC_LOC_PROT_ERR, foreign_lkey);
	refused(IBV_WC_LOC_PROT_ERR, before_source);
	refused(IBV_WC_LOC_PROT_ERR, after_source);
	refused(IBV_WC_LOC_PROT_ERR, gone_source);
	refused(IBV_WC_REM_ACCESS_ERR, bad_rkey);
	refused(IBV_WC_REM_ACCESS_ERR, before_target);
	refused(IBV_WC_REM_ACCESS_ERR, after_target);
	refused(IBV_WC_REM_ACCESS_ERR, closed_target);
}

TEST(loop, registration_checks_what_it_is_asked)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct pair p;

	if (pair_open(&p, NULL)) {
		void *hole = mmap(NULL, 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		munmap((uint8_t *)hole + page, page);
		CHECK(!p.api->reg_mr(p.end[0].pd, hole, 2 * page, 0));
		CHECK_EQ(errno, EFAULT);
		munmap(hole, page);
		CHECK(!p.api->reg_mr(p.end[0].pd, p.end[0].memory, 100, IBV_ACCESS_REMOTE_WRITE));
		CHECK_EQ(errno, EINVAL);
		CHECK(!p.api->reg_dmabuf_mr(p.end[0].pd, 0, page, 0, 0, 0));
		CHECK_EQ(errno, EOPNOTSUPP);
		CHECK_EQ(p.api->dealloc_pd(p.end[0].pd), EBUSY);
		CHECK_EQ(p.api->destroy_cq(p.end[0].cq), EBUSY);
		CHECK_EQ(p.api->destroy_comp_channel(p.end[0].channel), EBUSY);
	}
	pair_close(&p);
}

/* A registration is of pages: what is mapped there later is neither read nor written. */
static void reused_address(struct pair *p, int fd, bool dmabuf)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *at = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *again;
	const int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;
	struct ibv_mr *old = dmabuf ? p->api->reg_dmabuf_mr(p->end[1].pd, 0, page, (uintptr_t)at,
							    fd, access)
				    : p->api->reg_mr(p->end[1].pd, at, page, access);
	struct ibv_sge entry = {(uintptr_t)p->end[0].memory, 100, p->end[0].mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &entry, .num_sge = 1, .send_flags = IBV_SEND_SIGNALED},
			   *bad;

	if (!CHECK(old))
		return;
	again = mmap(at, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		     0);
	wr.wr.rdma.remote_addr = (uintptr_t)at;
	wr.wr.rdma.rkey = old->rkey;
	memset(p->end[0].memory, dmabuf ? 7 : 6, 100);
	CHECK_EQ(ibv_post_send(p->end[0].qp, &wr, &bad), 0);
	CHECK_EQ(pair_status(p, 0), IBV_WC_SUCCESS);
	CHECK_EQ(again[99], 0);
	CHECK_EQ(p->api->dereg_mr(old), 0);
	munmap(again, page);
	at = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
	CHECK_EQ(at[99], dmabuf ? 7 : 6);
	munmap(at, page);
}

TEST(loop, a_registration_is_of_pages_not_of_addresses)
{
	const int fd = memfd_create("loop", MFD_CLOEXEC);
	struct pair p;

	if (CHECK_EQ(ftruncate(fd, sysconf(_SC_PAGESIZE)), 0) &&
	    pair_open(&p, &(struct pair_opts){.config = {.dmabuf = 1}})) {
		reused_address(&p, fd, false);
		reused_address(&p, fd, true);
	}
	pair_close(&p);
	close(fd);
}
