// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * What accel.ko's buffers cost beside plain memory, in one run and by turns: to make and touch, and
 * to register with an RDMA device. The best of some rounds counts; under emulation only the ratio
 * says anything.
 */
#define _GNU_SOURCE
#include "node.h"
#include "rxe.h"
#include "tap.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define ROUNDS 5

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
	for (unsigned round = 0; round < ROUNDS; round++) {
		buffer = lesser(buffer, make_s(file, bytes));
		plain = lesser(plain, make_s(-1, bytes));
	}
	tap_diag("%llu MiB: buffer %.0f ms, mmap %.0f ms: %.2f x its speed", bytes / MIB,
		 buffer * 1e3, plain * 1e3, plain / buffer);
	CHECK(plain / buffer >= 0.8);
	close(file);
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

TEST(ibv_reg_mr, of_a_buffer_takes_at_most_1_2_times_that_of_plain_memory)
{
	double buffer = 1e9, plain = 1e9;
	size_t bytes = 256 * MIB;
	int file = node_open(0);
	char *a, *b;
	struct rxe rxe;
	uint32_t handle;

	REQUIRE(file >= 0 && rxe_up());
	REQUIRE_EQ(rxe_open(&rxe), 0);
	REQUIRE_EQ(bo_create(file, bytes, 0, &handle), 0);
	a = bo_map(file, handle, bytes);
	b = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(a && b != MAP_FAILED);
	touch(a, bytes);
	touch(b, bytes);
	for (unsigned round = 0; round < ROUNDS; round++) {
		buffer = lesser(buffer, register_s(&rxe, a, bytes));
		plain = lesser(plain, register_s(&rxe, b, bytes));
	}
	tap_diag("256 MiB: buffer %.1f ms, plain memory %.1f ms: %.2f x its time", buffer * 1e3,
		 plain * 1e3, buffer / plain);
	CHECK(buffer / plain <= 1.2);
	munmap(a, bytes);
	munmap(b, bytes);
	close(file);
	rxe_close(&rxe);
}
