// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Large buffers of accel.ko, and what they cost beside plain memory, in one run and by turns: to make
 * and touch, and to register with an RDMA device. What counts is the better of two long rounds, or
 * the median of the ratios of many short ones, each to its neighbour; under emulation only ratios
 * say anything.
 *
 * check: guest -m 2600
 * check: alone
 */
#define _GNU_SOURCE
#include "node.h"
#include "rxe.h"
#include "tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define ROUNDS_MAKE 2	   /* of seconds */
#define ROUNDS_REGISTER 61 /* of milliseconds */
#define RUNS 3		   /* a bar holds if it does in most */
#define RUNS_REGISTER 5	   /* of new memory each: where it lies counts */

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void touch(volatile char *at, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += PAGE)
		at[i] = 1;
}

/* Seconds to have so many bytes, every page touched, from the device or, if file < 0, the system. */
static double make_s(int file, size_t bytes)
{
	uint32_t handle = 0;
	double start = now_s(), took;
	char *at;

	if (file < 0) {
		at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		at = at == MAP_FAILED ? NULL : at;
	} else {
		CHECK_EQ(bo_create(file, bytes, 0, &handle), 0);
		at = bo_map(file, handle, bytes);
	}
	if (!CHECK(at != NULL))
		return 1e9;
	touch(at, bytes);
	took = now_s() - start;
	munmap(at, bytes);
	if (handle)
		bo_close(file, handle);
	return took;
}

static double lesser(double a, double b)
{
	return a < b ? a : b;
}

TEST(bo_create, and_touching_it_is_at_least_0_8_times_as_fast_as_plain_memory)
{
	double buffer = 1e9, plain = 1e9;
	size_t bytes = 1024 * MIB;
	int file = node_open(0);
	struct drm_axl_memory memory;
	struct sysinfo info;

	REQUIRE(file >= 0);
	CHECK_EQ(node_memory(file, AXL_QUERY_MEMORY, &memory), 0);
	sysinfo(&info);
	while (bytes > memory.bytes_max - memory.bytes_used || bytes + 128 * MIB > info.freeram)
		bytes /= 2;
	for (unsigned round = 0; round < ROUNDS_MAKE; round++) {
		buffer = lesser(buffer, make_s(file, bytes));
		plain = lesser(plain, make_s(-1, bytes));
	}
	tap_diag("%llu MiB: buffer %.0f ms, mmap %.0f ms: %.2f x its speed", bytes / MIB,
		 buffer * 1e3, plain * 1e3, plain / buffer);
	CHECK(plain / buffer >= 0.8);
	close(file);
}

/* A piece of the buffer, written by RDMA out of plain memory. */
static void check_piece(struct rxe *rxe, struct ibv_mr *mr, char *at)
{
	static uint64_t plain[8192];
	struct ibv_mr *plain_mr = ibv_reg_mr(rxe->pd, plain, sizeof(plain), IBV_ACCESS_LOCAL_WRITE);

	REQUIRE(plain_mr != NULL);
	pattern_write(plain, sizeof(plain), (uintptr_t)at);
	CHECK_EQ(rxe_move(rxe, IBV_WR_RDMA_WRITE, plain, plain_mr->lkey, at, mr->rkey,
			  sizeof(plain)),
		 IBV_WC_SUCCESS);
	CHECK(pattern_holds(at, sizeof(plain), (uintptr_t)at));
	ibv_dereg_mr(plain_mr);
}

TEST(ibv_reg_mr, of_1_gib_as_root)
{
	const size_t bytes = 1024 * MIB, pieces = 16;
	int file = node_open(0);
	struct drm_axl_memory memory;
	struct sysinfo info;
	struct rxe rxe;
	uint32_t handle;
	struct ibv_mr *mr;
	char *at;

	REQUIRE(file >= 0 && rxe_up());
	CHECK_EQ(node_memory(file, AXL_QUERY_MEMORY, &memory), 0);
	sysinfo(&info);
	if (memory.bytes_max - memory.bytes_used < bytes || info.freeram < bytes + 128 * MIB) {
		close(file);
		SKIP("the guest has too little memory for it");
	}
	REQUIRE_EQ(rxe_open(&rxe), 0);
	REQUIRE_EQ(bo_create(file, bytes, 0, &handle), 0);
	at = bo_map(file, handle, bytes);
	REQUIRE(at != NULL);
	mr = ibv_reg_mr(rxe.pd, at, bytes, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	if (CHECK(mr != NULL)) {
		for (size_t i = 1; i <= pieces; i++)
			check_piece(&rxe, mr, at + i * (bytes / pieces) - 64 * 1024);
		CHECK_EQ(ibv_dereg_mr(mr), 0);
	}
	munmap(at, bytes);
	close(file);
	rxe_close(&rxe);
}

/* Seconds to register what is there already. */
static double register_s(struct rxe *rxe, void *at, size_t bytes)
{
	double start = now_s(), took;
	struct ibv_mr *mr = ibv_reg_mr(rxe->pd, at, bytes,
				       IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);

	took = now_s() - start;
	if (!CHECK(mr != NULL))
		return 1e9;
	ibv_dereg_mr(mr);
	return took;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
	qsort(values, count, sizeof(*values), compare);
	return values[count / 2];
}

/*
 * The time to register bytes of a buffer over that of plain memory, both new: a median of
 * rounds, in which each is the first in turn.
 */
static double register_ratio(struct rxe *rxe, int file, size_t bytes)
{
	double buffer[ROUNDS_REGISTER], plain[ROUNDS_REGISTER], ratio[ROUNDS_REGISTER], value;
	struct drm_axl_bo_info info;
	uint32_t handle;
	char *a, *b;

	CHECK_EQ(bo_create(file, bytes, 0, &handle), 0);
	CHECK_EQ(bo_info(file, handle, &info), 0);
	a = bo_map(file, handle, bytes);
	b = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!CHECK(a && b != MAP_FAILED))
		return 1e9;
	touch(a, bytes);
	touch(b, bytes);
	for (unsigned round = 0; round < ROUNDS_REGISTER; round++) {
		if (round % 2)
			plain[round] = register_s(rxe, b, bytes);
		buffer[round] = register_s(rxe, a, bytes);
		if (round % 2 == 0)
			plain[round] = register_s(rxe, b, bytes);
		ratio[round] = buffer[round] / plain[round];
	}
	value = median(ratio, ROUNDS_REGISTER);
	tap_diag("%llu MiB, %llu of them in large pages: buffer %.1f ms, plain memory %.1f ms: "
		 "%.2f x its time",
		 bytes / MIB, (unsigned long long)info.large_page_bytes / MIB,
		 median(buffer, ROUNDS_REGISTER) * 1e3, median(plain, ROUNDS_REGISTER) * 1e3,
		 value);
	munmap(a, bytes);
	munmap(b, bytes);
	CHECK_EQ(bo_close(file, handle), 0);
	return value;
}

TEST(ibv_reg_mr, of_a_buffer_takes_at_most_1_2_times_that_of_plain_memory)
{
	unsigned runs = 0, met = 0;
	int file = node_open(0);
	struct rxe rxe;

	REQUIRE(file >= 0 && rxe_up());
	REQUIRE_EQ(rxe_open(&rxe), 0);
	for (; runs < RUNS_REGISTER; runs++)
		met += register_ratio(&rxe, file, 256 * MIB) <= 1.2;
	CHECK(met * 2 > runs);
	close(file);
	rxe_close(&rxe);
}
