// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Two clients of accel.ko try to reach each other's memory by all that they can guess, and memory
 * that one gave back is looked through by the other. Debian's kernel zeroes all memory by itself;
 * here it is told not to, so that it is the driver that is tested.
 *
 * check: guest -a init_on_alloc=0
 */
#define _GNU_SOURCE
#include "node.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define PAGE 4096u
#define RW (PROT_READ | PROT_WRITE)
#define BYTES ((size_t)2 * MIB + 3 * PAGE)
#define NOBODY 65534
#define HANDLES_GUESSED 300u
#define SECRET 0x5ec7e7ull

/* What the victim has; the thief, in the same process or another, knows all these numbers. */
struct victim {
	int file;
	uint32_t handle;
	uint64_t offset;
	void *at;
};

static bool victim_open(struct victim *victim)
{
	victim->file = node_open(0);
	if (!CHECK(victim->file >= 0) ||
	    !CHECK_EQ(bo_create(victim->file, BYTES, 0, &victim->handle), 0) ||
	    !CHECK_EQ(bo_offset(victim->file, victim->handle, &victim->offset), 0))
		return false;
	victim->at = bo_map(victim->file, victim->handle, BYTES);
	if (!CHECK(victim->at != NULL))
		return false;
	pattern_write(victim->at, BYTES, SECRET);
	return true;
}

static void victim_close(struct victim *victim)
{
	CHECK(pattern_holds(victim->at, BYTES, SECRET));
	munmap(victim->at, BYTES);
	close(victim->file);
}

/* 0 if nothing can be had through a file of one's own, else which way it was. */
static int steal(int file, const struct victim *victim)
{
	struct drm_axl_bo_info info;
	struct drm_gem_flink flink = {.handle = victim->handle};
	uint64_t offset;
	void *at;

	for (uint32_t guess = 0; guess < HANDLES_GUESSED; guess++) {
		struct drm_gem_open open_name = {.name = guess};

		if (bo_info(file, guess, &info) != -ENOENT)
			return 1;
		if (bo_offset(file, guess, &offset) != -ENOENT)
			return 2;
		if (bo_export(file, guess, DRM_RDWR) >= 0)
			return 3;
		if (bo_close(file, guess) != -EINVAL)
			return 4;
		if (!node_ioctl(file, DRM_IOCTL_GEM_OPEN, &open_name))
			return 5;
	}
	if (!node_ioctl(file, DRM_IOCTL_GEM_FLINK, &flink))
		return 6;
	/* Offsets are numbers of the device's, and this one is in use. */
	at = mmap(NULL, PAGE, RW, MAP_SHARED, file, (off_t)victim->offset);
	if (at != MAP_FAILED || errno != EACCES)
		return 7;
	for (uint64_t i = 0; i < 2048; i++) {
		uint64_t near = victim->offset + i * PAGE - 1024 * PAGE;

		at = mmap(NULL, PAGE, RW, MAP_SHARED, file, (off_t)near);
		if (at != MAP_FAILED)
			return 8;
	}
	return 0;
}

TEST(client, reaches_nothing_of_another_file)
{
	struct victim victim;
	int file = node_open(0);

	REQUIRE(file >= 0);
	REQUIRE(victim_open(&victim));
	CHECK_EQ(steal(file, &victim), 0);
	victim_close(&victim);
	close(file);
}

static int steal_as_nobody(void *arg)
{
	const struct victim *victim = arg;
	int file;

	if (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY))
		return 100;
	file = node_open(0);
	return file < 0 ? 101 : steal(file, victim);
}

TEST(client, of_another_user_reaches_nothing)
{
	struct victim victim;
	char path[64];

	REQUIRE(victim_open(&victim));
	snprintf(path, sizeof(path), "/dev/accel/accel%u", node_number(victim.file));
	CHECK_EQ(chmod(path, 0666), 0);
	CHECK_EQ(child_wait(child_start(steal_as_nobody, &victim)), 0);
	CHECK_EQ(chmod(path, 0600), 0);
	victim_close(&victim);
}

TEST(handle, has_no_global_name_even_for_root)
{
	struct drm_gem_flink flink = {0};
	struct victim victim;

	REQUIRE(victim_open(&victim));
	flink.handle = victim.handle;
	CHECK(node_ioctl(victim.file, DRM_IOCTL_GEM_FLINK, &flink) < 0);
	victim_close(&victim);
}

TEST(client, keeps_access_no_longer_than_its_handle)
{
	struct victim victim;
	uint32_t handle;
	int file = node_open(0), dmabuf;
	void *at;

	REQUIRE(file >= 0);
	REQUIRE(victim_open(&victim));
	dmabuf = bo_export(victim.file, victim.handle, DRM_RDWR | DRM_CLOEXEC);
	REQUIRE(dmabuf >= 0);
	CHECK_EQ(bo_import(file, dmabuf, &handle), 0);
	close(dmabuf);
	at = mmap(NULL, BYTES, RW, MAP_SHARED, file, (off_t)victim.offset);
	CHECK(at != MAP_FAILED && pattern_holds(at, BYTES, SECRET));
	munmap(at, BYTES);
	CHECK_EQ(bo_close(file, handle), 0);
	CHECK_EQ(steal(file, &victim), 0);
	victim_close(&victim);
	close(file);
}

TEST(client, that_closes_a_shared_buffer_takes_it_from_nobody)
{
	struct victim victim;
	uint32_t handle;
	int file = node_open(0), dmabuf;
	struct drm_axl_bo_info info;

	REQUIRE(file >= 0);
	REQUIRE(victim_open(&victim));
	dmabuf = bo_export(victim.file, victim.handle, DRM_RDWR | DRM_CLOEXEC);
	CHECK_EQ(bo_import(file, dmabuf, &handle), 0);
	CHECK_EQ(bo_close(file, handle), 0);
	close(file);
	close(dmabuf);
	CHECK_EQ(bo_info(victim.file, victim.handle, &info), 0);
	victim_close(&victim);
}

/* How much of this device's memory may be used up for a test. */
static size_t plenty(int file)
{
	struct drm_axl_memory memory = {0};
	struct sysinfo info;
	size_t bytes;

	CHECK_EQ(node_memory(file, AXL_QUERY_MEMORY, &memory), 0);
	sysinfo(&info);
	bytes = memory.bytes_max - memory.bytes_used;
	if (bytes > info.freeram / 2)
		bytes = info.freeram / 2;
	return bytes > 256 * MIB ? 256 * MIB : bytes / (8 * MIB) * (8 * MIB);
}

/* Writes all over so much memory, in buffers of one size, and gives it back; the child of a test. */
struct filling {
	size_t total, each;
	uint32_t flags;
	bool check; /* that all is zero, before it is written */
};

static int fill_and_free(void *arg)
{
	const struct filling *filling = arg;
	int file = node_open(0);

	for (size_t done = 0; done < filling->total; done += filling->each) {
		uint32_t handle;
		void *at;

		if (bo_create(file, filling->each, filling->flags, &handle))
			return 2;
		at = bo_map(file, handle, filling->each);
		if (!at)
			return 3;
		if (filling->check && !is_zero(at, filling->each))
			return 1;
		memset(at, 0xa5, filling->each);
	}
	return 0; /* the buffers end with the process */
}

TEST(recycled_memory, shows_nothing_of_the_client_before)
{
	static const struct {
		size_t each;
		uint32_t flags;
	} shapes[] = {{8 * MIB, 0},
		      {8 * MIB, AXL_BO_F_SMALL_PAGES},
		      {2 * MIB + 5 * PAGE, 0},
		      {64 * 1024, 0},
		      {8 * MIB, 0}};
	int file = node_open(0);
	size_t total;

	REQUIRE(file >= 0);
	total = plenty(file);
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct filling filling = {.total = total / 2,
					  .each = shapes[i].each,
					  .flags = shapes[i].flags,
					  .check = true};

		if (filling.each < MIB)
			filling.total = 32 * MIB;
		CHECK_EQ(child_wait(child_start(fill_and_free, &filling)), 0);
	}
	close(file);
}
