// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * accel.ko's buffers under ibv_reg_mr(), over Soft-RoCE, which takes no dma-bufs: which mappings can
 * be registered, by whom, and what a registration holds on to after everything else is gone. Data
 * goes by RDMA WRITE and READ through a connected pair of queues and is checked.
 */
#define _GNU_SOURCE
#include "node.h"
#include "rxe.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u
#define RW (PROT_READ | PROT_WRITE)
#define BYTES ((size_t)2 * MIB + 3 * PAGE)
#define REMOTE (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ)
#define NOBODY 65534

static void *anonymous(size_t bytes)
{
	void *at = mmap(NULL, bytes, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

/* Fills and empties at, which is registered, from and into plain memory. */
static void check_data(struct rxe *rxe, struct ibv_mr *mr, char *at, size_t bytes)
{
	char *plain = anonymous(bytes);
	struct ibv_mr *plain_mr = ibv_reg_mr(rxe->pd, plain, bytes, IBV_ACCESS_LOCAL_WRITE);

	REQUIRE(plain && plain_mr);
	pattern_write(plain, bytes, 1);
	CHECK_EQ(rxe_move(rxe, IBV_WR_RDMA_WRITE, plain, plain_mr->lkey, at, mr->rkey,
			  (uint32_t)bytes),
		 IBV_WC_SUCCESS);
	CHECK(pattern_holds(at, bytes, 1));
	pattern_write(at, bytes, 2);
	CHECK_EQ(rxe_move(rxe, IBV_WR_RDMA_READ, plain, plain_mr->lkey, at, mr->rkey,
			  (uint32_t)bytes),
		 IBV_WC_SUCCESS);
	CHECK(pattern_holds(plain, bytes, 2));
	/* And as the sender's own memory, without a copy. */
	pattern_write(at, bytes, 3);
	CHECK_EQ(ibv_dereg_mr(plain_mr), 0);
	plain_mr = ibv_reg_mr(rxe->pd, plain, bytes, IBV_ACCESS_LOCAL_WRITE | REMOTE);
	REQUIRE(plain_mr != NULL);
	CHECK_EQ(rxe_move(rxe, IBV_WR_RDMA_WRITE, at, mr->lkey, plain, plain_mr->rkey,
			  (uint32_t)bytes),
		 IBV_WC_SUCCESS);
	CHECK(pattern_holds(plain, bytes, 3));
	CHECK_EQ(ibv_dereg_mr(plain_mr), 0);
	munmap(plain, bytes);
}

enum kind {
	ANONYMOUS,
	MEMFD,
	NODE_LARGE,
	NODE_SMALL,
	NODE_TOUCHED,
	DMABUF,
	IMPORTED,
	KINDS,
};

static const char *const kind_names[] = {
	"anonymous memory",
	"memfd",
	"buffer",
	"buffer of small pages",
	"touched buffer",
	"buffer by its dma-buf",
	"buffer that another file imported",
};

/* Memory of that kind, which outlives what it was made with. */
static void *memory_of(enum kind kind)
{
	int file = node_open(0), other = node_open(0), fd = -1;
	uint32_t handle, copy;
	void *at = NULL;

	if (kind == ANONYMOUS) {
		at = anonymous(BYTES);
	} else if (kind == MEMFD) {
		fd = memfd_create("memory", MFD_CLOEXEC);
		if (fd >= 0 && !ftruncate(fd, BYTES))
			at = fd_map(fd, BYTES, RW);
	} else if (!bo_create(file, BYTES, kind == NODE_SMALL ? AXL_BO_F_SMALL_PAGES : 0,
			      &handle)) {
		if (kind >= DMABUF)
			fd = bo_export(file, handle, DRM_RDWR | DRM_CLOEXEC);
		if (kind == DMABUF)
			at = fd_map(fd, BYTES, RW);
		else if (kind == IMPORTED && !bo_import(other, fd, &copy))
			at = bo_map(other, copy, BYTES);
		else if (kind < DMABUF)
			at = bo_map(file, handle, BYTES);
	}
	if (at && kind == NODE_TOUCHED)
		pattern_write(at, BYTES, 0);
	close(fd);
	close(file);
	close(other);
	return at;
}

TEST(ibv_reg_mr, takes_memory_of_each_kind)
{
	struct rxe rxe;

	REQUIRE(rxe_up());
	REQUIRE_EQ(rxe_open(&rxe), 0);
	for (enum kind kind = 0; kind < KINDS; kind++) {
		char *at = memory_of(kind);
		struct ibv_mr *mr;

		if (!CHECK(at != NULL))
			continue;
		mr = ibv_reg_mr(rxe.pd, at, BYTES, IBV_ACCESS_LOCAL_WRITE | REMOTE);
		if (tap_check(mr != NULL, __FILE__, __LINE__, "%s: %s", kind_names[kind],
			      strerror(errno))) {
			check_data(&rxe, mr, at, BYTES);
			CHECK_EQ(ibv_dereg_mr(mr), 0);
		}
		munmap(at, BYTES);
	}
	rxe_close(&rxe);
}

TEST(ibv_reg_mr, takes_any_part_of_a_buffer)
{
	static const struct {
		size_t from, bytes;
	} parts[] = {{0, 8},
		     {PAGE, PAGE},
		     {PAGE - 8, 16},
		     {2 * MIB - 64, 128},
		     {2 * MIB, 3 * PAGE},
		     {8, BYTES - 16}};
	struct rxe rxe;
	char *at;

	REQUIRE(rxe_up());
	REQUIRE_EQ(rxe_open(&rxe), 0);
	at = memory_of(NODE_LARGE);
	REQUIRE(at != NULL);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		struct ibv_mr *mr = ibv_reg_mr(rxe.pd, at + parts[i].from, parts[i].bytes,
					       IBV_ACCESS_LOCAL_WRITE | REMOTE);

		if (!CHECK(mr != NULL))
			continue;
		memset(at, 0, BYTES);
		check_data(&rxe, mr, at + parts[i].from, parts[i].bytes);
		CHECK(is_zero(at, parts[i].from));
		CHECK(is_zero(at + parts[i].from + parts[i].bytes,
			      BYTES - parts[i].from - parts[i].bytes));
		CHECK_EQ(ibv_dereg_mr(mr), 0);
	}
	munmap(at, BYTES);
	rxe_close(&rxe);
}

TEST(ibv_reg_mr, of_a_read_only_dmabuf_serves_reading_alone)
{
	int file = node_open(0), dmabuf;
	uint32_t handle;
	struct rxe rxe;
	struct ibv_mr *mr;
	char *at, *writable;

	REQUIRE(file >= 0 && rxe_up());
	REQUIRE_EQ(rxe_open(&rxe), 0);
	REQUIRE_EQ(bo_create(file, BYTES, 0, &handle), 0);
	dmabuf = bo_export(file, handle, DRM_CLOEXEC);
	REQUIRE(dmabuf >= 0);
	at = fd_map(dmabuf, BYTES, PROT_READ);
	writable = bo_map(file, handle, BYTES);
	REQUIRE(at && writable);
	mr = ibv_reg_mr(rxe.pd, at, BYTES, IBV_ACCESS_LOCAL_WRITE | REMOTE);
	CHECK(!mr);
	CHECK_EQ(errno, EFAULT);
	mr = ibv_reg_mr(rxe.pd, at, BYTES, IBV_ACCESS_REMOTE_READ);
	if (CHECK(mr != NULL)) {
		char *plain = anonymous(BYTES);
		struct ibv_mr *to = ibv_reg_mr(rxe.pd, plain, BYTES, IBV_ACCESS_LOCAL_WRITE);

		pattern_write(writable, BYTES, 4);
		REQUIRE(to != NULL);
		CHECK_EQ(rxe_move(&rxe, IBV_WR_RDMA_READ, plain, to->lkey, at, mr->rkey, BYTES),
			 IBV_WC_SUCCESS);
		CHECK(pattern_holds(plain, BYTES, 4));
		ibv_dereg_mr(to);
		ibv_dereg_mr(mr);
		munmap(plain, BYTES);
	}
	munmap(at, BYTES);
	munmap(writable, BYTES);
	close(dmabuf);
	close(file);
	rxe_close(&rxe);
}

/* As one who may do nothing: registers what the limit allows, then what it does not. */
static int register_as_nobody(void *arg)
{
	const struct rlimit limit = {8 * MIB, 8 * MIB};
	size_t within = 6 * MIB, beyond = 16 * MIB;
	struct ibv_mr *mr;
	struct rxe rxe;
	uint32_t a, b;
	char *at;
	int file;

	(void)arg;
	if (setrlimit(RLIMIT_MEMLOCK, &limit) || setgroups(0, NULL) || setgid(NOBODY) ||
	    setuid(NOBODY))
		return 1;
	file = node_open(0);
	if (file < 0 || rxe_open(&rxe) || bo_create(file, within, 0, &a) ||
	    bo_create(file, beyond, 0, &b))
		return 2;
	at = bo_map(file, a, within);
	mr = at ? ibv_reg_mr(rxe.pd, at, within, IBV_ACCESS_LOCAL_WRITE | REMOTE) : NULL;
	if (!mr)
		return 3;
	check_data(&rxe, mr, at, MIB);
	ibv_dereg_mr(mr);
	at = bo_map(file, b, beyond);
	if (!at || ibv_reg_mr(rxe.pd, at, beyond, IBV_ACCESS_LOCAL_WRITE | REMOTE))
		return 4;
	return errno == ENOMEM ? 0 : 5;
}

TEST(ibv_reg_mr, by_a_user_within_and_beyond_the_limit_of_locked_memory)
{
	int file = node_open(0);
	char path[64];

	REQUIRE(file >= 0 && rxe_up());
	/* What udev's rule does for the group render. */
	snprintf(path, sizeof(path), "/dev/accel/accel%u", node_number(file));
	CHECK_EQ(chmod(path, 0666), 0);
	CHECK_EQ(child_wait(child_start(register_as_nobody, NULL)), 0);
	CHECK_EQ(chmod(path, 0600), 0);
	close(file);
}

/* Memory that only its registration still holds, and plain memory to move bytes from and to. */
struct orphan {
	struct rxe rxe;
	struct ibv_mr *mr, *plain_mr;
	char *plain;
	void *was_at;
};

static bool orphan_make(struct orphan *o)
{
	if (!CHECK(rxe_up()) || !CHECK_EQ(rxe_open(&o->rxe), 0))
		return false;
	o->was_at = memory_of(NODE_LARGE);
	if (!CHECK(o->was_at != NULL))
		return false;
	o->mr = ibv_reg_mr(o->rxe.pd, o->was_at, BYTES, IBV_ACCESS_LOCAL_WRITE | REMOTE);
	munmap(o->was_at, BYTES);
	o->plain = anonymous(BYTES);
	o->plain_mr = ibv_reg_mr(o->rxe.pd, o->plain, BYTES, IBV_ACCESS_LOCAL_WRITE);
	return CHECK(o->mr && o->plain_mr);
}

static void orphan_write(struct orphan *o, unsigned seed)
{
	pattern_write(o->plain, BYTES, seed);
	CHECK_EQ(rxe_move(&o->rxe, IBV_WR_RDMA_WRITE, o->plain, o->plain_mr->lkey, o->was_at,
			  o->mr->rkey, BYTES),
		 IBV_WC_SUCCESS);
}

static void orphan_check(struct orphan *o, unsigned seed)
{
	memset(o->plain, 0, BYTES);
	CHECK_EQ(rxe_move(&o->rxe, IBV_WR_RDMA_READ, o->plain, o->plain_mr->lkey, o->was_at,
			  o->mr->rkey, BYTES),
		 IBV_WC_SUCCESS);
	CHECK(pattern_holds(o->plain, BYTES, seed));
}

static void orphan_end(struct orphan *o)
{
	CHECK_EQ(ibv_dereg_mr(o->mr), 0);
	CHECK_EQ(ibv_dereg_mr(o->plain_mr), 0);
	munmap(o->plain, BYTES);
	rxe_close(&o->rxe);
}

#define CLIENTS 24

TEST(orphan_registration, keeps_its_pages_from_every_other_client)
{
	struct orphan orphan;
	char *at[CLIENTS];
	int files[CLIENTS];
	uint32_t handle;

	REQUIRE(orphan_make(&orphan));
	for (unsigned i = 0; i < CLIENTS; i++) {
		files[i] = node_open(0);
		REQUIRE_EQ(bo_create(files[i], 4 * MIB, i & 1 ? AXL_BO_F_SMALL_PAGES : 0, &handle),
			   0);
		at[i] = bo_map(files[i], handle, 4 * MIB);
		REQUIRE(at[i] != NULL);
	}
	orphan_write(&orphan, 5);
	for (unsigned i = 0; i < CLIENTS; i++) {
		CHECK(is_zero(at[i], 4 * MIB));
		memset(at[i], 0xee, 4 * MIB);
	}
	orphan_check(&orphan, 5);
	for (unsigned i = 0; i < CLIENTS; i++) {
		munmap(at[i], 4 * MIB);
		close(files[i]);
	}
	orphan_end(&orphan);
}

TEST(orphan_registration, outlives_the_module)
{
	struct orphan orphan;

	REQUIRE(orphan_make(&orphan));
	orphan_write(&orphan, 6);
	CHECK_EQ(run("rmmod accel"), 0);
	orphan_check(&orphan, 6);
	CHECK_EQ(module_load("soft=1"), 0);
	orphan_end(&orphan);
}
