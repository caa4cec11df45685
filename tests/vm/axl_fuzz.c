// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Threads call accel.ko at random, rightly and wrongly, on files, handles, dma-bufs and mappings that
 * they share, while a device comes and goes. It runs for FUZZ_SECONDS (3) out of SEED; afterwards
 * all is closed and nothing may be left. Whatever goes wrong on the way is in the kernel's log.
 */
#define _GNU_SOURCE
#include "node.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define THREADS 4u
#define SLOTS 12u /* descriptors of each kind that exist at most */
#define HANDLES 24u
#define MAPPINGS 8u /* of each thread */
#define DEVICE 51u

/* Descriptors that all threads use; -1 where there is none. */
static int files[SLOTS], dmabufs[SLOTS];
static bool stop;

struct mapping {
	char *at;
	size_t bytes;
};

struct thread {
	pthread_t id;
	uint64_t random;
	uint64_t calls;
	struct mapping mappings[MAPPINGS];
	uint8_t *edge; /* room of a page that ends where nothing is */
};

static uint64_t below(struct thread *t, uint64_t bound)
{
	return tap_random_below(&t->random, bound);
}

static bool one_in(struct thread *t, unsigned n)
{
	return !below(t, n);
}

/* Numbers near which mistakes are made. */
static uint64_t odd_number(struct thread *t)
{
	static const uint64_t bases[] = {0,	     1,		 PAGE,	     2 * MIB,
					 1ull << 31, 1ull << 32, 1ull << 63, ~0ull};
	uint64_t base = bases[below(t, sizeof(bases) / sizeof(bases[0]))];

	return one_in(t, 4) ? tap_random(&t->random) : base + below(t, 3) - 1;
}

static int any(struct thread *t, const int *slots)
{
	return __atomic_load_n(&slots[below(t, SLOTS)], __ATOMIC_RELAXED);
}

/* Puts fd into a slot and closes what was there. */
static void put(struct thread *t, int *slots, int fd)
{
	fd = __atomic_exchange_n(&slots[below(t, SLOTS)], fd, __ATOMIC_RELAXED);
	if (fd >= 0)
		close(fd);
}

static uint32_t handle(struct thread *t)
{
	return one_in(t, 30) ? (uint32_t)odd_number(t) : 1 + (uint32_t)below(t, HANDLES);
}

static uint64_t pointer(struct thread *t)
{
	if (one_in(t, 6))
		return odd_number(t);
	return (uintptr_t)t->edge + below(t, PAGE);
}

/* ---- Calls ----------------------------------------------------------------------------------- */

static int call(struct thread *t, unsigned long request, void *arg, size_t bytes)
{
	if (one_in(t, 12)) /* one byte is not what it should be */
		((uint8_t *)arg)[below(t, bytes)] ^= (uint8_t)(1u << below(t, 8));
	if (one_in(t, 30))
		request = _IOC(below(t, 4), DRM_IOCTL_BASE, _IOC_NR(request), below(t, 128));
	if (one_in(t, 20)) {
		size_t left = below(t, bytes + 1);

		memcpy(t->edge + PAGE - left, arg, left);
		arg = t->edge + PAGE - left;
	}
	return node_ioctl(any(t, files), request, arg);
}

static void do_create(struct thread *t)
{
	struct drm_axl_bo_create room[4] = {
		{.size_bytes = 1 + below(t, one_in(t, 8) ? 3 * MIB : 64 * 1024),

		 .flags = one_in(t, 2) ? 0 : (uint32_t)below(t, 4)}};

	if (one_in(t, 20))
		room[0].size_bytes = odd_number(t);
	if (one_in(t, 20))
		room[0].placement = (uint32_t)odd_number(t);
	call(t, DRM_IOCTL_AXL_BO_CREATE, room, sizeof(room[0]));
}

static void do_ask(struct thread *t)
{
	union {
		struct drm_axl_get_param param;
		struct drm_axl_bo_info info;
		struct drm_axl_query query;
		struct drm_axl_last_error error;
		uint8_t room[256];
	} arg = {0};

	switch (below(t, 4)) {
	case 0:
		arg.param.param = (uint32_t)below(t, 11);
		call(t, DRM_IOCTL_AXL_GET_PARAM, &arg, sizeof(arg.param));
		break;
	case 1:
		arg.info.handle = handle(t);
		call(t, DRM_IOCTL_AXL_BO_INFO, &arg, sizeof(arg.info));
		break;
	case 2:
		arg.query.what = (uint32_t)below(t, 3);
		arg.query.elem_bytes = one_in(t, 5) ? (uint32_t)odd_number(t)
						    : 8 * (uint32_t)below(t, 9);
		arg.query.count = one_in(t, 9) ? (uint32_t)odd_number(t) : (uint32_t)below(t, 4);
		arg.query.ptr = pointer(t);
		call(t, DRM_IOCTL_AXL_QUERY, &arg, sizeof(arg.query));
		break;
	default:
		arg.error.text = pointer(t);
		arg.error.text_bytes = one_in(t, 5) ? (uint32_t)odd_number(t)
						    : (uint32_t)below(t, 200);
		call(t, DRM_IOCTL_AXL_LAST_ERROR, &arg, sizeof(arg.error));
	}
}

static void do_close(struct thread *t)
{
	struct drm_gem_close room[16] = {{.handle = handle(t)}};

	call(t, DRM_IOCTL_GEM_CLOSE, room, sizeof(room[0]));
}

static void do_share(struct thread *t)
{
	struct drm_prime_handle room[16] = {{.handle = handle(t)}};

	if (one_in(t, 2)) {
		room[0].flags = DRM_CLOEXEC | (one_in(t, 4) ? 0 : DRM_RDWR);
		if (!node_ioctl(any(t, files), DRM_IOCTL_PRIME_HANDLE_TO_FD, room))
			put(t, dmabufs, room[0].fd);
	} else {
		room[0].fd = one_in(t, 10) ? any(t, files) : any(t, dmabufs);
		call(t, DRM_IOCTL_PRIME_FD_TO_HANDLE, room, sizeof(room[0]));
	}
}

static void do_map(struct thread *t)
{
	struct mapping *mapping = &t->mappings[below(t, MAPPINGS)];
	int prot = (int)below(t, 8), fd = any(t, files);
	uint64_t offset = 0;
	char *at;

	if (mapping->at)
		munmap(mapping->at, mapping->bytes);
	mapping->at = NULL;
	mapping->bytes = (1 + below(t, 600)) * PAGE;
	if (one_in(t, 2))
		fd = any(t, dmabufs);
	else if (bo_offset(fd, handle(t), &offset))
		return;
	if (one_in(t, 10))
		offset += below(t, 9) * PAGE;
	at = mmap(NULL, mapping->bytes, prot, one_in(t, 20) ? MAP_PRIVATE : MAP_SHARED, fd,
		  (off_t)offset);
	if (at == MAP_FAILED)
		return;
	mapping->at = at;
	for (size_t i = 0; i < mapping->bytes; i += PAGE * (1 + below(t, 64))) {
		if (prot & PROT_WRITE)
			at[i] = 1;
		else if (prot & PROT_READ)
			(void)*(volatile char *)(at + i);
	}
	if (one_in(t, 4)) /* cut in two, and the gap kept, lest another thread maps there */
		mmap(at + mapping->bytes / 2 / PAGE * PAGE, PAGE, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (one_in(t, 4))
		madvise(at, mapping->bytes, (int)below(t, 26));
}

static void do_files(struct thread *t)
{
	int fd;

	if (one_in(t, 3)) {
		put(t, dmabufs, -1);
		return;
	}
	fd = node_open((unsigned)below(t, 2));
	if (fd >= 0)
		put(t, files, fd);
}

static void do_device(struct thread *t)
{
	if (one_in(t, 2))
		device_add(DEVICE);
	else
		device_del(DEVICE);
}

static void do_unknown(struct thread *t)
{
	uint8_t room[256];

	for (size_t i = 0; i < sizeof(room); i++)
		room[i] = (uint8_t)odd_number(t);
	node_ioctl(
		any(t, files),
		_IOC(below(t, 4), DRM_IOCTL_BASE, DRM_COMMAND_BASE + below(t, 0x60), below(t, 256)),
		room);
}

static void *thread_run(void *arg)
{
	static const struct {
		unsigned weight;
		void (*run)(struct thread *t);
	} actions[] = {{30, do_create}, {20, do_ask},  {16, do_close}, {30, do_share},
		       {20, do_map},	{3, do_files}, {1, do_device}, {6, do_unknown}};
	struct thread *t = arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		unsigned pick = (unsigned)below(t, 126), i = 0;

		while (pick >= actions[i].weight)
			pick -= actions[i++].weight;
		actions[i].run(t);
		t->calls++;
	}
	for (unsigned i = 0; i < MAPPINGS; i++)
		if (t->mappings[i].at)
			munmap(t->mappings[i].at, t->mappings[i].bytes);
	return NULL;
}

static bool time_is_up(void *end)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec >= *(time_t *)end;
}

/* How long, from the environment. */
static unsigned fuzz_seconds(void)
{
	const char *text = getenv("FUZZ_SECONDS");
	unsigned seconds = text ? (unsigned)strtoul(text, NULL, 10) : 0;

	return seconds ? seconds : 3;
}

static bool is_empty(void *file)
{
	return node_bos(*(int *)file) == 0;
}

TEST(accel_ko, survives_random_calls_and_forgets_nothing)
{
	struct thread threads[THREADS] = {0};
	unsigned seconds = fuzz_seconds();
	uint64_t seed = tap_seed(), calls = 0;
	struct timespec now;
	time_t end;
	int file;

	REQUIRE_EQ(module_load("soft=1 mem_bytes_max=268435456"), 0);
	memset(files, 0xff, sizeof(files));
	memset(dmabufs, 0xff, sizeof(dmabufs));
	for (unsigned i = 0; i < 3; i++)
		files[i] = node_open(0);
	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec + (time_t)seconds;
	for (unsigned i = 0; i < THREADS; i++) {
		threads[i].random = seed + i;
		threads[i].edge = page_end(PAGE);
		CHECK_EQ(pthread_create(&threads[i].id, NULL, thread_run, &threads[i]), 0);
	}
	wait_until(time_is_up, &end, seconds + 60);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < THREADS; i++) {
		CHECK_EQ(pthread_join(threads[i].id, NULL), 0);
		calls += threads[i].calls;
		page_end_free(threads[i].edge, PAGE);
	}
	tap_diag("%llu calls in %u s", (unsigned long long)calls, seconds);
	for (unsigned i = 0; i < SLOTS; i++) {
		if (files[i] >= 0)
			close(files[i]);
		if (dmabufs[i] >= 0)
			close(dmabufs[i]);
	}
	file = node_open(0);
	CHECK(wait_until(is_empty, &file, 20));
	close(file);
	device_del(DEVICE);
	CHECK_EQ(module_load("soft=1"), 0);
}
