// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * dma-bufs of accel.ko's buffers, and other people's in accel.ko: within a file, between files,
 * processes and devices, what a read-only one refuses, and the orders in which it all may end.
 */
#define _GNU_SOURCE
#include "node.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/udmabuf.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAGE 4096u
#define RW (PROT_READ | PROT_WRITE)
#define BYTES ((size_t)2 * MIB + 5 * PAGE) /* a large page and some small ones */

/* A buffer in a file of its own, mapped, and its dma-buf. */
struct shared {
	int file, dmabuf;
	uint32_t handle;
	void *at;
};

static bool shared_open(struct shared *shared, uint32_t export_flags)
{
	memset(shared, 0, sizeof(*shared));
	shared->file = node_open(0);
	if (!CHECK(shared->file >= 0))
		return false;
	if (!CHECK_EQ(bo_create(shared->file, BYTES, 0, &shared->handle), 0))
		goto err_close;
	shared->at = bo_map(shared->file, shared->handle, BYTES);
	shared->dmabuf = bo_export(shared->file, shared->handle, export_flags);
	if (CHECK(shared->at != NULL) && CHECK(shared->dmabuf >= 0))
		return true;
err_close:
	close(shared->file);
	return false;
}

static void shared_close(struct shared *shared)
{
	munmap(shared->at, BYTES);
	close(shared->dmabuf);
	close(shared->file);
}

TEST(export, is_the_same_memory_at_the_same_offsets)
{
	struct shared shared;
	char *at;

	if (!shared_open(&shared, DRM_RDWR | DRM_CLOEXEC))
		return;
	CHECK_EQ(lseek(shared.dmabuf, 0, SEEK_END), BYTES);
	CHECK_EQ(lseek(shared.dmabuf, 0, SEEK_SET), 0);
	at = fd_map(shared.dmabuf, BYTES, RW);
	REQUIRE(at != NULL);
	pattern_write(shared.at, BYTES, 1);
	CHECK(pattern_holds(at, BYTES, 1));
	pattern_write(at, BYTES, 2);
	CHECK(pattern_holds(shared.at, BYTES, 2));
	munmap(at, BYTES);
	for (size_t from = 0; from < BYTES; from += 37 * PAGE) {
		at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, shared.dmabuf, (off_t)from);
		REQUIRE(at != MAP_FAILED);
		CHECK(pattern_holds(at, PAGE, 2 + from / 8));
		munmap(at, PAGE);
	}
	shared_close(&shared);
}

TEST(export, mapping_beyond_the_end_is_refused)
{
	static const struct {
		size_t bytes;
		uint64_t from;
	} beyond[] = {{BYTES + PAGE, 0},
		      {BYTES, PAGE},
		      {PAGE, BYTES},
		      {PAGE, 1ull << 40},
		      {PAGE, ~0ull << 12 & ~(1ull << 63)}};
	struct shared shared;

	if (!shared_open(&shared, DRM_RDWR | DRM_CLOEXEC))
		return;
	for (size_t i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++)
		CHECK(mmap(NULL, beyond[i].bytes, RW, MAP_SHARED, shared.dmabuf,
			   (off_t)beyond[i].from) == MAP_FAILED);
	CHECK(mmap(NULL, PAGE, RW, MAP_PRIVATE, shared.dmabuf, 0) == MAP_FAILED);
	CHECK(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, shared.dmabuf, 0) == MAP_FAILED);
	shared_close(&shared);
}

TEST(export, flags_and_handles_are_checked)
{
	struct drm_axl_bo_info info;
	struct shared shared;
	int again;

	if (!shared_open(&shared, DRM_RDWR))
		return;
	CHECK_EQ(bo_info(shared.file, shared.handle, &info), 0);
	CHECK_EQ(info.is_exported, 1);
	CHECK_EQ(fcntl(shared.dmabuf, F_GETFD) & FD_CLOEXEC, 0);
	again = bo_export(shared.file, shared.handle, DRM_RDWR | DRM_CLOEXEC);
	CHECK(again >= 0);
	CHECK(fcntl(again, F_GETFD) & FD_CLOEXEC);
	close(again);
	CHECK_EQ(bo_export(shared.file, shared.handle, 1u << 30), -EINVAL);
	CHECK_EQ(bo_export(shared.file, 0, DRM_RDWR), -ENOENT);
	CHECK_EQ(bo_export(shared.file, shared.handle + 1, DRM_RDWR), -ENOENT);
	shared_close(&shared);
}

TEST(export, synchronising_ioctl_works)
{
	static const uint64_t flags[] = {DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE, DMA_BUF_SYNC_RW};
	struct shared shared;

	if (!shared_open(&shared, DRM_RDWR | DRM_CLOEXEC))
		return;
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		struct dma_buf_sync start = {.flags = flags[i] | DMA_BUF_SYNC_START};
		struct dma_buf_sync end = {.flags = flags[i] | DMA_BUF_SYNC_END};

		CHECK_EQ(ioctl(shared.dmabuf, DMA_BUF_IOCTL_SYNC, &start), 0);
		CHECK_EQ(ioctl(shared.dmabuf, DMA_BUF_IOCTL_SYNC, &end), 0);
	}
	shared_close(&shared);
}

TEST(read_only_export, gives_no_way_to_write)
{
	struct shared shared;
	char path[64];
	uint32_t handle;
	void *at;
	int other = node_open(0), fd;

	REQUIRE(other >= 0);
	if (!shared_open(&shared, DRM_CLOEXEC))
		return;
	CHECK(mmap(NULL, BYTES, RW, MAP_SHARED, shared.dmabuf, 0) == MAP_FAILED);
	CHECK_EQ(errno, EACCES);
	at = fd_map(shared.dmabuf, BYTES, PROT_READ);
	REQUIRE(at != NULL);
	pattern_write(shared.at, BYTES, 9);
	CHECK(pattern_holds(at, BYTES, 9));
	CHECK_EQ(mprotect(at, BYTES, RW) ? errno : 0, EACCES);
	munmap(at, BYTES);
	/* A handle of it would be one to write with. */
	CHECK_EQ(bo_import(other, shared.dmabuf, &handle), -EACCES);
	CHECK_EQ(bo_import(shared.file, shared.dmabuf, &handle), -EACCES);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", shared.dmabuf);
	fd = open(path, O_RDWR | O_CLOEXEC);
	CHECK(fd < 0);
	shared_close(&shared);
	close(other);
}

TEST(read_only_export, is_so_whatever_else_is_exported)
{
	struct shared shared;
	void *at;
	int first, last;

	if (!shared_open(&shared, DRM_RDWR | DRM_CLOEXEC))
		return;
	first = bo_export(shared.file, shared.handle, DRM_CLOEXEC);
	at = fd_map(shared.dmabuf, PAGE, RW);
	CHECK(at != NULL);
	munmap(at, PAGE);
	close(shared.dmabuf);
	shared.dmabuf = bo_export(shared.file, shared.handle, DRM_RDWR | DRM_CLOEXEC);
	at = fd_map(shared.dmabuf, PAGE, RW);
	CHECK(at != NULL);
	munmap(at, PAGE);
	last = bo_export(shared.file, shared.handle, DRM_CLOEXEC);
	CHECK(!fd_map(first, PAGE, RW));
	CHECK(!fd_map(last, PAGE, RW));
	close(first);
	close(last);
	shared_close(&shared);
}

TEST(import, in_the_same_file_is_the_same_handle)
{
	struct shared shared;
	uint32_t a = 0, b = 0;

	if (!shared_open(&shared, DRM_RDWR | DRM_CLOEXEC))
		return;
	CHECK_EQ(bo_import(shared.file, shared.dmabuf, &a), 0);
	CHECK_EQ(bo_import(shared.file, shared.dmabuf, &b), 0);
	CHECK_EQ(a, shared.handle);
	CHECK_EQ(b, shared.handle);
	CHECK_EQ(bo_close(shared.file, shared.handle), 0);
	CHECK_EQ(bo_close(shared.file, shared.handle), -EINVAL);
	shared_close(&shared);
}

TEST(import, in_another_file_of_the_device_is_the_same_buffer)
{
	struct drm_axl_bo_info info;
	struct shared shared;
	uint32_t handle = 0;
	int other = node_open(0);
	uint64_t bos;
	void *at;

	REQUIRE(other >= 0);
	if (!shared_open(&shared, DRM_RDWR | DRM_CLOEXEC))
		return;
	bos = node_bos(other);
	CHECK_EQ(bo_import(other, shared.dmabuf, &handle), 0);
	CHECK_EQ(node_bos(other), bos);
	CHECK_EQ(bo_info(other, handle, &info), 0);
	CHECK_EQ(info.size_bytes, BYTES);
	CHECK_EQ(info.placement, AXL_PLACEMENT_SYS);
	pattern_write(shared.at, BYTES, 3);
	shared_close(&shared);
	at = bo_map(other, handle, BYTES);
	REQUIRE(at != NULL);
	CHECK(pattern_holds(at, BYTES, 3));
	munmap(at, BYTES);
	close(other);
}

/* What an import on a device that did not make the dma-buf must be like; at maps the original. */
static void check_foreign(int file, int dmabuf, void *at)
{
	struct drm_axl_bo_info info;
	uint32_t handle = 0, again = 0;
	uint64_t bos = node_bos(file), offset;
	int copy;
	void *here;

	REQUIRE_EQ(bo_import(file, dmabuf, &handle), 0);
	CHECK_EQ(bo_import(file, dmabuf, &again), 0);
	CHECK_EQ(handle, again);
	CHECK_EQ(node_bos(file), bos + 1);
	CHECK_EQ(bo_info(file, handle, &info), 0);
	CHECK_EQ(info.placement, AXL_PLACEMENT_IMPORT);
	CHECK_EQ(info.size_bytes, BYTES);
	/* The exporter maps its memory itself; passed on, it is the very dma-buf that came in. */
	CHECK_EQ(bo_offset(file, handle, &offset), -EOPNOTSUPP);
	copy = bo_export(file, handle, DRM_RDWR | DRM_CLOEXEC);
	if (CHECK(copy >= 0)) {
		CHECK_EQ(lseek(copy, 0, SEEK_END), BYTES);
		here = fd_map(copy, BYTES, RW);
		pattern_write(at, BYTES, 4);
		CHECK(here && pattern_holds(here, BYTES, 4));
		pattern_write(here, BYTES, 5);
		CHECK(pattern_holds(at, BYTES, 5));
		munmap(here, BYTES);
		close(copy);
	}
	CHECK_EQ(bo_export(file, handle, DRM_CLOEXEC), -EOPNOTSUPP);
	CHECK_EQ(bo_close(file, handle), 0);
	CHECK_EQ(node_bos(file), bos);
}

TEST(import, on_another_accel_device_is_the_same_memory)
{
	struct shared shared;
	int other;

	REQUIRE_EQ(device_add(11), 0);
	other = node_open(1);
	if (CHECK(other >= 0) && shared_open(&shared, DRM_RDWR | DRM_CLOEXEC)) {
		check_foreign(other, shared.dmabuf, shared.at);
		shared_close(&shared);
	}
	close(other);
	CHECK_EQ(device_del(11), 0);
}

/* A dma-buf of a memfd's pages, which at maps; or -errno. */
static int udmabuf(void **at)
{
	int memfd = memfd_create("udmabuf", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	struct udmabuf_create create = {.flags = UDMABUF_FLAGS_CLOEXEC, .size = BYTES};
	int dmabuf = -ENODEV;

	if (device >= 0 && memfd >= 0 && !ftruncate(memfd, BYTES) &&
	    !fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK)) {
		create.memfd = (uint32_t)memfd;
		dmabuf = ioctl(device, UDMABUF_CREATE, &create);
		*at = fd_map(memfd, BYTES, RW);
		if (dmabuf < 0)
			dmabuf = -errno;
	}
	close(device);
	close(memfd);
	return dmabuf;
}

TEST(import, of_another_drivers_dmabuf_is_the_same_memory)
{
	int file = node_open(0), dmabuf;
	void *at = NULL;

	REQUIRE(file >= 0);
	dmabuf = udmabuf(&at);
	REQUIRE(dmabuf >= 0);
	check_foreign(file, dmabuf, at);
	close(dmabuf);
	munmap(at, BYTES);
	close(file);
}

TEST(import, outlives_its_descriptor_and_its_device)
{
	struct shared shared;
	uint32_t handle;
	int importer = node_open(0), owner, dmabuf;
	void *at;

	REQUIRE(importer >= 0);
	REQUIRE_EQ(device_add(12), 0);
	owner = node_open(1);
	REQUIRE(owner >= 0);
	shared.file = owner;
	REQUIRE_EQ(bo_create(owner, BYTES, 0, &shared.handle), 0);
	shared.at = bo_map(owner, shared.handle, BYTES);
	shared.dmabuf = bo_export(owner, shared.handle, DRM_RDWR | DRM_CLOEXEC);
	REQUIRE(shared.at && shared.dmabuf >= 0);
	pattern_write(shared.at, BYTES, 8);
	CHECK_EQ(bo_import(importer, shared.dmabuf, &handle), 0);
	shared_close(&shared);
	CHECK_EQ(device_del(12), 0);
	dmabuf = bo_export(importer, handle, DRM_RDWR | DRM_CLOEXEC);
	close(importer);
	at = fd_map(dmabuf, BYTES, PROT_READ);
	CHECK(at && pattern_holds(at, BYTES, 8));
	munmap(at, BYTES);
	close(dmabuf);
}

TEST(import, of_what_is_no_dmabuf_is_refused)
{
	int file = node_open(0), memfd = memfd_create("none", MFD_CLOEXEC), closed;
	uint32_t handle;

	REQUIRE(file >= 0 && memfd >= 0);
	CHECK_EQ(bo_import(file, memfd, &handle), -EINVAL);
	CHECK_EQ(bo_import(file, file, &handle), -EINVAL);
	closed = dup(memfd);
	close(closed);
	CHECK_EQ(bo_import(file, closed, &handle), -EBADF);
	CHECK_EQ(bo_import(file, -1, &handle), -EBADF);
	close(memfd);
	close(file);
}

/* The other process: takes a dma-buf from the socket, checks and changes it by both mappings. */
static int take_and_write(void *arg)
{
	int socket = *(int *)arg, dmabuf = fd_receive(socket), file = node_open(0);
	uint32_t handle;
	char *a, *b;

	if (dmabuf < 0 || file < 0 || bo_import(file, dmabuf, &handle))
		return 1;
	a = fd_map(dmabuf, BYTES, RW);
	b = bo_map(file, handle, BYTES);
	if (!a || !b || !pattern_holds(a, BYTES, 1) || !pattern_holds(b, BYTES, 1))
		return 2;
	pattern_write(b, BYTES, 2);
	return pattern_holds(a, BYTES, 2) ? 0 : 3;
}

TEST(import, by_a_process_that_was_handed_the_descriptor)
{
	struct shared shared;
	int pair[2];
	pid_t child;

	REQUIRE_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	child = child_start(take_and_write, &pair[1]);
	if (shared_open(&shared, DRM_RDWR | DRM_CLOEXEC)) {
		pattern_write(shared.at, BYTES, 1);
		CHECK_EQ(fd_send(pair[0], shared.dmabuf), 0);
		CHECK_EQ(child_wait(child), 0);
		CHECK(pattern_holds(shared.at, BYTES, 2));
		shared_close(&shared);
	}
	close(pair[0]);
	close(pair[1]);
}

TEST(import, of_a_descriptor_that_was_under_way_when_its_maker_was_gone)
{
	struct shared shared;
	int pair[2], watch = node_open(0), dmabuf;
	uint64_t bos;
	void *at;

	REQUIRE(watch >= 0);
	bos = node_bos(watch);
	REQUIRE_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	if (!shared_open(&shared, DRM_RDWR | DRM_CLOEXEC))
		return;
	pattern_write(shared.at, BYTES, 7);
	CHECK_EQ(fd_send(pair[0], shared.dmabuf), 0);
	shared_close(&shared);
	CHECK_EQ(node_bos(watch), bos + 1);
	dmabuf = fd_receive(pair[1]);
	REQUIRE(dmabuf >= 0);
	at = fd_map(dmabuf, BYTES, PROT_READ);
	CHECK(at && pattern_holds(at, BYTES, 7));
	munmap(at, BYTES);
	close(dmabuf);
	CHECK_EQ(node_bos(watch), bos);
	close(watch);
	close(pair[0]);
	close(pair[1]);
}

enum end { END_HANDLE, END_DMABUF, END_MAP, END_DMABUF_MAP, END_FILE, ENDS };

static void end(struct shared *shared, void **dmabuf_at, enum end which)
{
	switch (which) {
	case END_HANDLE:
		bo_close(shared->file, shared->handle);
		break;
	case END_DMABUF:
		close(shared->dmabuf);
		break;
	case END_MAP:
		munmap(shared->at, BYTES);
		shared->at = NULL;
		break;
	case END_DMABUF_MAP:
		munmap(*dmabuf_at, BYTES);
		*dmabuf_at = NULL;
		break;
	case END_FILE:
		close(shared->file);
		break;
	case ENDS:
		break;
	}
}

/* One order, given as the digits of a number: what is still mapped must hold after each step. */
static void end_in_order(int watch, const int *order)
{
	uint64_t bos = node_bos(watch);
	struct shared shared;
	void *dmabuf_at;

	if (!shared_open(&shared, DRM_RDWR | DRM_CLOEXEC))
		return;
	dmabuf_at = fd_map(shared.dmabuf, BYTES, RW);
	CHECK(dmabuf_at != NULL);
	for (unsigned step = 0; step < ENDS; step++) {
		if (shared.at)
			pattern_write(shared.at, PAGE, step);
		if (shared.at && dmabuf_at)
			CHECK(pattern_holds(dmabuf_at, PAGE, step));
		end(&shared, &dmabuf_at, (enum end)order[step]);
		if (step < ENDS - 1 && (shared.at || dmabuf_at))
			CHECK_EQ(node_bos(watch), bos + 1);
	}
	CHECK_EQ(node_bos(watch), bos);
}

TEST(buffer, may_end_in_any_order)
{
	int watch = node_open(0), order[ENDS];
	unsigned orders = 0;

	REQUIRE(watch >= 0);
	for (unsigned n = 0; n < 5 * 5 * 5 * 5 * 5; n++) {
		unsigned rest = n, seen = 0;

		for (unsigned i = 0; i < ENDS; i++, rest /= ENDS) {
			order[i] = (int)(rest % ENDS);
			seen |= 1u << order[i];
		}
		if (seen != (1u << ENDS) - 1)
			continue;
		end_in_order(watch, order);
		orders++;
	}
	CHECK_EQ(orders, 120);
	close(watch);
}
