// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * dma-bufs of accel.ko in the hands of other drivers, which axl_importer.ko plays: attached in each
 * way there is, also by the RDMA core's own code for NICs that take dma-bufs, and kept while handle,
 * file and device go away.
 */
#define _GNU_SOURCE
#include "modules/axl_importer.h"
#include "node.h"
#include "rxe.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define BYTES ((size_t)4 * MIB + 3 * PAGE)
#define KINDS (AXL_IMPORTER_PINNED + 1)
#define IMPORTERS 6 /* at once of one buffer; a kernel with DMA_API_DEBUG complains from 8 on */

static int importer_open(void)
{
	int fd = open("/dev/axl_importer", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* With a range for the RDMA core, else all of it; segments may be NULL. */
static int attach(int importer, int dmabuf, uint32_t kind, size_t offset, size_t bytes,
		  uint32_t *segments)
{
	struct axl_importer_attach arg = {
		.fd = dmabuf, .kind = kind, .offset_bytes = offset, .ib_device = RXE_NAME};

	if (kind == AXL_IMPORTER_UMEM)
		arg.size_bytes = bytes;
	if (ioctl(importer, AXL_IMPORTER_ATTACH, &arg))
		return -errno;
	CHECK_EQ(arg.size_bytes, bytes);
	if (segments)
		*segments = arg.segments;
	return 0;
}

static void importer_write(int importer, uint64_t seed)
{
	struct axl_importer_pattern arg = {.seed = seed};

	CHECK_EQ(ioctl(importer, AXL_IMPORTER_WRITE, &arg), 0);
}

static bool importer_holds(int importer, uint64_t seed)
{
	struct axl_importer_pattern arg = {.seed = seed};

	if (!CHECK_EQ(ioctl(importer, AXL_IMPORTER_CHECK, &arg), 0))
		return false;
	if (arg.wrong_bytes_at != ~0ull)
		tap_diag("the importer sees something else at byte %llu",
			 (unsigned long long)arg.wrong_bytes_at);
	return arg.wrong_bytes_at == ~0ull;
}

/* A mapped buffer and its dma-buf, in file. */
struct buffer {
	int dmabuf;
	uint32_t handle;
	void *at;
};

static bool buffer_open(int file, uint32_t flags, struct buffer *buffer)
{
	if (!CHECK_EQ(bo_create(file, BYTES, flags, &buffer->handle), 0))
		return false;
	buffer->at = bo_map(file, buffer->handle, BYTES);
	buffer->dmabuf = bo_export(file, buffer->handle, DRM_RDWR | DRM_CLOEXEC);
	return CHECK(buffer->at != NULL) && CHECK(buffer->dmabuf >= 0);
}

static void buffer_close(int file, struct buffer *buffer)
{
	munmap(buffer->at, BYTES);
	close(buffer->dmabuf);
	bo_close(file, buffer->handle);
}

static bool module_is_there(void)
{
	return CHECK_EQ(run("modprobe axl_importer"), 0);
}

TEST(importer, of_each_kind_reaches_the_memory_both_ways)
{
	int file = node_open(0), importer;
	struct buffer buffer;

	REQUIRE(file >= 0 && module_is_there());
	for (uint32_t kind = 0; kind < KINDS; kind++)
		for (uint32_t flags = 0; flags <= AXL_BO_F_SMALL_PAGES;
		     flags += AXL_BO_F_SMALL_PAGES) {
			uint32_t segments;

			importer = importer_open();
			REQUIRE(importer >= 0 && buffer_open(file, flags, &buffer));
			pattern_write(buffer.at, BYTES, kind);
			CHECK_EQ(attach(importer, buffer.dmabuf, kind, 0, BYTES, &segments), 0);
			tap_diag("kind %u, flags %u: %u segments", kind, flags, segments);
			CHECK(importer_holds(importer, kind));
			importer_write(importer, 100 + kind);
			CHECK(pattern_holds(buffer.at, BYTES, 100 + kind));
			CHECK_EQ(ioctl(importer, AXL_IMPORTER_MOVES), 0);
			CHECK_EQ(ioctl(importer, AXL_IMPORTER_RELEASE), 0);
			close(importer);
			buffer_close(file, &buffer);
		}
	close(file);
}

/* The RDMA core cuts the scatter list that it got; a kernel with DMA_API_DEBUG sees what is synced. */
TEST(importer, of_a_range_leaves_what_the_cpu_syncs)
{
	struct dma_buf_sync sync = {.flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW};
	int file = node_open(0), importer = importer_open();
	struct buffer buffer;

	if (!rxe_up())
		SKIP("no rxe device");
	REQUIRE(file >= 0 && importer >= 0 && buffer_open(file, 0, &buffer));
	CHECK_EQ(attach(importer, buffer.dmabuf, AXL_IMPORTER_UMEM, PAGE, BYTES - 2 * PAGE, NULL),
		 0);
	CHECK_EQ(ioctl(buffer.dmabuf, DMA_BUF_IOCTL_SYNC, &sync), 0);
	sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW;
	CHECK_EQ(ioctl(buffer.dmabuf, DMA_BUF_IOCTL_SYNC, &sync), 0);
	close(importer);
	buffer_close(file, &buffer);
	close(file);
}

TEST(importer, of_large_pages_gets_few_segments)
{
	int file = node_open(0), importer = importer_open();
	struct drm_axl_bo_info info;
	struct buffer buffer;
	uint32_t segments = 0;

	REQUIRE(file >= 0 && importer >= 0);
	REQUIRE(buffer_open(file, 0, &buffer));
	CHECK_EQ(bo_info(file, buffer.handle, &info), 0);
	CHECK_EQ(attach(importer, buffer.dmabuf, AXL_IMPORTER_STATIC, 0, BYTES, &segments), 0);
	/* At worst a segment for each large page and for each of the small ones. */
	CHECK(segments <=
	      info.large_page_bytes / (2 * MIB) + (BYTES - info.large_page_bytes) / PAGE);
	close(importer);
	buffer_close(file, &buffer);
	close(file);
}

TEST(importer, many_of_all_kinds_hold_one_buffer_at_once)
{
	int importers[IMPORTERS], file = node_open(0);
	struct buffer buffer;

	REQUIRE(file >= 0);
	REQUIRE(buffer_open(file, 0, &buffer));
	for (unsigned i = 0; i < IMPORTERS; i++) {
		importers[i] = importer_open();
		CHECK_EQ(attach(importers[i], buffer.dmabuf, i % KINDS, 0, BYTES, NULL), 0);
	}
	for (unsigned i = 0; i < IMPORTERS; i++) {
		importer_write(importers[i], i);
		for (unsigned k = i + 1; k < IMPORTERS; k++)
			CHECK(importer_holds(importers[k], i));
		CHECK(pattern_holds(buffer.at, BYTES, i));
		close(importers[i]);
	}
	buffer_close(file, &buffer);
	close(file);
}

TEST(importer, of_the_rdma_core_gets_the_range_it_asked_for)
{
	static const struct {
		size_t from, bytes;
	} ranges[] = {{0, BYTES},
		      {0, PAGE},
		      {PAGE, PAGE},
		      {16 * PAGE, 32 * PAGE},
		      {511 * PAGE, 2 * PAGE},
		      {2 * MIB - PAGE, 2 * MIB},
		      {BYTES - PAGE, PAGE}};
	int file = node_open(0), all = importer_open(), importer;
	struct buffer buffer;

	REQUIRE(file >= 0 && all >= 0);
	if (!rxe_up())
		SKIP("no rxe device");
	REQUIRE(buffer_open(file, 0, &buffer));
	/* The core cuts the lists in place: another attachment's must not feel it. */
	CHECK_EQ(attach(all, buffer.dmabuf, AXL_IMPORTER_UMEM, 0, BYTES, NULL), 0);
	pattern_write(buffer.at, BYTES, 1);
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		importer = importer_open();
		CHECK_EQ(attach(importer, buffer.dmabuf, AXL_IMPORTER_UMEM, ranges[i].from,
				ranges[i].bytes, NULL),
			 0);
		CHECK(importer_holds(importer, 1 + ranges[i].from / 8));
		CHECK(importer_holds(all, 1));
		close(importer);
		CHECK(importer_holds(all, 1));
	}
	importer = importer_open();
	CHECK_EQ(attach(importer, buffer.dmabuf, AXL_IMPORTER_UMEM, 0, BYTES + PAGE, NULL),
		 -EINVAL);
	CHECK_EQ(attach(importer, buffer.dmabuf, AXL_IMPORTER_UMEM, BYTES, PAGE, NULL), -EINVAL);
	close(importer);
	close(all);
	buffer_close(file, &buffer);
	close(file);
}

TEST(importer, keeps_the_memory_when_handle_file_and_device_are_gone)
{
	int importers[KINDS + 1], kinds = rxe_up() ? KINDS + 1 : KINDS, owner, watch;
	struct drm_axl_memory memory;
	struct buffer buffer;

	REQUIRE_EQ(device_add(21), 0);
	owner = node_open(1);
	watch = node_open(1);
	REQUIRE(owner >= 0 && watch >= 0);
	REQUIRE(buffer_open(owner, 0, &buffer));
	for (int i = 0; i < kinds; i++) {
		importers[i] = importer_open();
		CHECK_EQ(attach(importers[i], buffer.dmabuf, (uint32_t)i, 0, BYTES, NULL), 0);
	}
	pattern_write(buffer.at, BYTES, 1);
	CHECK_EQ(bo_close(owner, buffer.handle), 0);
	CHECK(importer_holds(importers[0], 1));
	close(owner);
	close(buffer.dmabuf);
	munmap(buffer.at, BYTES);
	CHECK_EQ(node_memory(watch, AXL_QUERY_MEMORY, &memory), 0);
	CHECK_EQ(memory.bos, 1);
	for (int i = 0; i < kinds; i++)
		CHECK(importer_holds(importers[i], 1));
	CHECK_EQ(device_del(21), 0);
	CHECK_EQ(node_memory(watch, AXL_QUERY_MEMORY, &memory), -ENODEV);
	close(watch);
	for (int i = 0; i < kinds; i++) {
		CHECK(importer_holds(importers[i], 1 + (uint64_t)i));
		importer_write(importers[i], 2 + (uint64_t)i);
		close(importers[i]);
	}
	/* The number is free again: nothing of the old device stands in the way. */
	CHECK_EQ(device_add(21), 0);
	CHECK_EQ(device_del(21), 0);
}

TEST(importer, that_could_write_is_refused_a_read_only_dmabuf)
{
	int file = node_open(0), importer = importer_open(), dmabuf;
	uint32_t handle, kinds = rxe_up() ? KINDS + 1 : KINDS;

	REQUIRE(file >= 0 && importer >= 0);
	REQUIRE_EQ(bo_create(file, BYTES, 0, &handle), 0);
	dmabuf = bo_export(file, handle, DRM_CLOEXEC);
	REQUIRE(dmabuf >= 0);
	for (uint32_t kind = 0; kind < kinds; kind++)
		CHECK_EQ(attach(importer, dmabuf, kind, 0, BYTES, NULL), -EACCES);
	close(importer);
	close(dmabuf);
	close(file);
}

TEST(module, cannot_go_while_an_importer_holds_its_memory)
{
	int file = node_open(0), importer = importer_open();
	struct buffer buffer;

	REQUIRE(file >= 0 && importer >= 0);
	REQUIRE(buffer_open(file, 0, &buffer));
	CHECK_EQ(attach(importer, buffer.dmabuf, AXL_IMPORTER_STATIC, 0, BYTES, NULL), 0);
	buffer_close(file, &buffer);
	close(file);
	CHECK(run("rmmod accel") != 0);
	CHECK_EQ(ioctl(importer, AXL_IMPORTER_RELEASE), 0);
	close(importer);
	CHECK_EQ(module_load("soft=1"), 0);
}
