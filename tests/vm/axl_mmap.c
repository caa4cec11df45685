// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Mappings of accel.ko's buffers: which are granted, what they hold, and how long they live.
 */
#define _GNU_SOURCE
#include "node.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define RW (PROT_READ | PROT_WRITE)

/* 0, or why mmap() says no; what it grants is unmapped again. */
static int try_map(int fd, size_t bytes, int prot, int flags, uint64_t offset)
{
	void *at = mmap(NULL, bytes, prot, flags, fd, (off_t)offset);

	if (at == MAP_FAILED)
		return -errno;
	munmap(at, bytes);
	return 0;
}

/* A file, a buffer of that many pages in it and its offset; fd < 0 if that fails. */
static int buffer(size_t pages, uint32_t *handle, uint64_t *offset)
{
	int fd = node_open(0);

	if (!CHECK(fd >= 0))
		return -1;
	if (CHECK_EQ(bo_create(fd, pages * PAGE, 0, handle), 0) &&
	    CHECK_EQ(bo_offset(fd, *handle, offset), 0))
		return fd;
	close(fd);
	return -1;
}

TEST(mmap, grid_of_lengths_and_offsets)
{
	uint64_t offset;
	uint32_t handle;
	int fd = buffer(4, &handle, &offset);

	REQUIRE(fd >= 0);
	for (unsigned pages = 1; pages < 7; pages++)
		for (unsigned from = 0; from < 6; from++) {
			int want = !from && pages <= 4 ? 0 : -EINVAL;
			int got = try_map(fd, pages * PAGE, RW, MAP_SHARED, offset + from * PAGE);

			tap_check(got == want, __FILE__, __LINE__,
				  "%u pages from page %u of 4: %d, not %d", pages, from, got, want);
		}
	CHECK_EQ(try_map(fd, 1, RW, MAP_SHARED, offset), 0);
	CHECK_EQ(try_map(fd, PAGE + 1, RW, MAP_SHARED, offset), 0);
	CHECK_EQ(try_map(fd, PAGE, RW, MAP_SHARED, 0), -EINVAL);
	CHECK_EQ(try_map(fd, PAGE, RW, MAP_SHARED, PAGE), -EINVAL);
	CHECK_EQ(try_map(fd, PAGE, RW, MAP_SHARED, offset - PAGE), -EINVAL);
	CHECK_EQ(try_map(fd, PAGE, RW, MAP_SHARED, 1ull << 62), -EINVAL);
	CHECK(try_map(fd, 1ull << 46, RW, MAP_SHARED, offset) < 0);
	close(fd);
}

TEST(mmap, grid_of_protections_and_kinds)
{
	static const int prots[] = {PROT_NONE, PROT_READ, PROT_WRITE, RW};
	uint64_t offset;
	uint32_t handle;
	int fd = buffer(2, &handle, &offset);

	REQUIRE(fd >= 0);
	for (size_t p = 0; p < sizeof(prots) / sizeof(prots[0]); p++) {
		CHECK_EQ(try_map(fd, PAGE, prots[p], MAP_SHARED, offset), 0);
		CHECK_EQ(try_map(fd, PAGE, prots[p], MAP_SHARED | MAP_POPULATE, offset), 0);
		CHECK_EQ(try_map(fd, PAGE, prots[p] | PROT_WRITE, MAP_PRIVATE, offset), -EINVAL);
	}
	close(fd);
}

TEST(mmap, is_never_executable)
{
	uint64_t offset;
	uint32_t handle;
	int fd = buffer(1, &handle, &offset);
	void *at;

	REQUIRE(fd >= 0);
	CHECK(try_map(fd, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, offset) < 0);
	at = bo_map(fd, handle, PAGE);
	REQUIRE(at != NULL);
	CHECK_EQ(mprotect(at, PAGE, PROT_READ | PROT_EXEC) ? -errno : 0, -EACCES);
	munmap(at, PAGE);
	close(fd);
}

TEST(mmap, file_opened_for_reading_gives_no_writable_mapping)
{
	uint64_t offset;
	uint32_t handle;
	char path[64];
	int fd = node_open(0), reader;

	REQUIRE(fd >= 0);
	snprintf(path, sizeof(path), "/dev/accel/accel%u", node_number(fd));
	close(fd);
	reader = open(path, O_RDONLY | O_CLOEXEC);
	REQUIRE(reader >= 0);
	REQUIRE_EQ(bo_create(reader, PAGE, 0, &handle), 0);
	CHECK_EQ(bo_offset(reader, handle, &offset), 0);
	CHECK_EQ(try_map(reader, PAGE, RW, MAP_SHARED, offset), -EACCES);
	CHECK_EQ(try_map(reader, PAGE, PROT_READ, MAP_SHARED, offset), 0);
	close(reader);
}

TEST(mmap, new_buffer_is_zero_and_keeps_what_is_written)
{
	static const size_t sizes[] = {PAGE, 7 * PAGE, 2 * MIB, 5 * MIB + 3 * PAGE};
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (uint32_t flags = 0; flags <= AXL_BO_F_SMALL_PAGES;
		     flags += AXL_BO_F_SMALL_PAGES) {
			uint32_t handle;
			void *a, *b;

			REQUIRE_EQ(bo_create(fd, sizes[i], flags, &handle), 0);
			a = bo_map(fd, handle, sizes[i]);
			b = bo_map(fd, handle, sizes[i]);
			REQUIRE(a && b);
			CHECK(is_zero(a, sizes[i]));
			pattern_write(a, sizes[i], i + flags);
			CHECK(pattern_holds(b, sizes[i], i + flags));
			munmap(a, sizes[i]);
			munmap(b, sizes[i]);
			CHECK_EQ(bo_close(fd, handle), 0);
		}
	close(fd);
}

TEST(mmap, outlives_handle_and_file)
{
	struct drm_axl_memory memory, before;
	uint64_t offset;
	uint32_t handle;
	int watch = node_open(0), fd;
	void *at;

	REQUIRE(watch >= 0);
	CHECK_EQ(node_memory(watch, AXL_QUERY_MEMORY, &before), 0);
	fd = buffer(600, &handle, &offset);
	REQUIRE(fd >= 0);
	at = bo_map(fd, handle, 600 * PAGE);
	REQUIRE(at != NULL);
	pattern_write(at, 300 * PAGE, 5);
	CHECK_EQ(bo_close(fd, handle), 0);
	CHECK(pattern_holds(at, 300 * PAGE, 5));
	/* The handle's right to the offset is gone with it. */
	CHECK(try_map(fd, PAGE, RW, MAP_SHARED, offset) < 0);
	close(fd);
	CHECK(pattern_holds(at, 300 * PAGE, 5));
	pattern_write(at, 600 * PAGE, 6); /* pages that nobody had touched, too */
	CHECK(pattern_holds(at, 600 * PAGE, 6));
	CHECK_EQ(node_memory(watch, AXL_QUERY_MEMORY, &memory), 0);
	CHECK_EQ(memory.bos, before.bos + 1);
	munmap(at, 600 * PAGE);
	CHECK_EQ(node_memory(watch, AXL_QUERY_MEMORY, &memory), 0);
	CHECK_EQ(memory.bos, before.bos);
	CHECK_EQ(memory.bytes_used, before.bytes_used);
	close(watch);
}

TEST(mmap, rest_of_a_mapping_cut_in_pieces_holds)
{
	uint64_t offset;
	uint32_t handle;
	int fd = buffer(1024, &handle, &offset);
	char *at;

	REQUIRE(fd >= 0);
	at = bo_map(fd, handle, 1024 * PAGE);
	REQUIRE(at != NULL);
	pattern_write(at, 1024 * PAGE, 1);
	CHECK_EQ(munmap(at, PAGE), 0);
	CHECK_EQ(munmap(at + 500 * PAGE, 24 * PAGE), 0);
	CHECK_EQ(munmap(at + 1023 * PAGE, PAGE), 0);
	CHECK_EQ(bo_close(fd, handle), 0);
	/* The word at a place depends on that place: seeds count words from the buffer's start. */
	CHECK(pattern_holds(at + PAGE, 499 * PAGE, 1 + PAGE / 8));
	CHECK(pattern_holds(at + 524 * PAGE, 499 * PAGE, 1 + 524ull * PAGE / 8));
	CHECK_EQ(munmap(at, 1024 * PAGE), 0);
	close(fd);
}

TEST(mmap, moves_and_shrinks_but_does_not_grow)
{
	uint64_t offset;
	uint32_t handle;
	int fd = buffer(16, &handle, &offset);
	char *at, *moved, *room;

	REQUIRE(fd >= 0);
	at = bo_map(fd, handle, 8 * PAGE);
	room = mmap(NULL, 64 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(at && room != MAP_FAILED);
	pattern_write(at, 8 * PAGE, 3);
	CHECK(mremap(at, 8 * PAGE, 16 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
	CHECK_EQ(errno, EFAULT);
	moved = mremap(at, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room);
	REQUIRE(moved == room);
	CHECK(pattern_holds(moved, 8 * PAGE, 3));
	CHECK(mremap(moved, 8 * PAGE, 4 * PAGE, 0) == moved);
	CHECK(pattern_holds(moved, 4 * PAGE, 3));
	munmap(room, 64 * PAGE);
	close(fd);
}

struct forked {
	char *at;
	size_t bytes;
};

static int write_as_child(void *arg)
{
	struct forked *forked = arg;

	if (!pattern_holds(forked->at, forked->bytes, 1))
		return 1;
	pattern_write(forked->at, forked->bytes, 2);
	return 0;
}

TEST(mmap, is_shared_with_a_forked_child)
{
	uint64_t offset;
	uint32_t handle;
	int fd = buffer(700, &handle, &offset);
	struct forked forked = {.bytes = 700 * PAGE};

	REQUIRE(fd >= 0);
	forked.at = bo_map(fd, handle, forked.bytes);
	REQUIRE(forked.at != NULL);
	pattern_write(forked.at, forked.bytes, 1);
	CHECK_EQ(child_wait(child_start(write_as_child, &forked)), 0);
	CHECK(pattern_holds(forked.at, forked.bytes, 2));
	munmap(forked.at, forked.bytes);
	close(fd);
}

TEST(mmap, madvise_takes_nothing_away)
{
	uint64_t offset;
	uint32_t handle;
	int fd = buffer(600, &handle, &offset);
	char *at;

	REQUIRE(fd >= 0);
	at = bo_map(fd, handle, 600 * PAGE);
	REQUIRE(at != NULL);
	pattern_write(at, 600 * PAGE, 1);
	madvise(at, 600 * PAGE, MADV_DONTNEED);
	CHECK(pattern_holds(at, 600 * PAGE, 1));
	madvise(at, 600 * PAGE, MADV_REMOVE);
	madvise(at, 600 * PAGE, MADV_COLD);
	madvise(at, 600 * PAGE, MADV_PAGEOUT);
	madvise(at, 600 * PAGE, MADV_DONTFORK);
	madvise(at, 600 * PAGE, MADV_HUGEPAGE);
	CHECK(pattern_holds(at, 600 * PAGE, 1));
	munmap(at, 600 * PAGE);
	close(fd);
}

TEST(mmap, read_and_write_of_the_file_itself_move_nothing)
{
	uint64_t offset;
	uint32_t handle;
	int fd = buffer(1, &handle, &offset);
	char *at, byte = 'x';

	REQUIRE(fd >= 0);
	at = bo_map(fd, handle, PAGE);
	REQUIRE(at != NULL);
	CHECK(pwrite(fd, &byte, 1, (off_t)offset) < 0);
	CHECK(is_zero(at, PAGE));
	munmap(at, PAGE);
	close(fd);
}
