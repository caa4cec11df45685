// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The room check against trees of /proc and cgroup files as v1, v2 and containers show them. */
#define _GNU_SOURCE
#include "memory_room.h"
#include "tap.h"

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define V1_MOUNT                                                                                   \
	"30 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"                               \
	"31 30 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n"

static char root[64];

static void root_make(void)
{
	snprintf(root, sizeof(root), "%s", P_tmpdir "/accel-room-XXXXXX");
	CHECK(mkdtemp(root) != NULL);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void root_remove(void)
{
	CHECK_EQ(nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static void put(const char *path, const char *text)
{
	char full[PATH_MAX];
	FILE *file;

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
		*slash = '\0';
		mkdir(full, 0755);
	}
	file = fopen(full, "w");
	REQUIRE(file != NULL);
	fputs(text, file);
	fclose(file);
}

static void put_proc(const char *cgroup, const char *mountinfo)
{
	put("/proc/meminfo",
	    "MemTotal:       20000000 kB\nMemFree:        100 kB\nMemAvailable:   10240000 kB\n");
	put("/proc/self/cgroup", cgroup);
	put("/proc/self/mountinfo", mountinfo);
}

static void check_room(uint64_t bytes, const char *limit)
{
	struct accel_memory_room room;

	accel_memory_room_get(root, &room);
	CHECK_EQ(room.bytes, bytes);
	tap_check(!strcmp(room.limit, limit), __FILE__, __LINE__, "limit is '%s', not '%s'",
		  room.limit, limit);
}

TEST(memory_room, without_proc_nothing_limits)
{
	root_make();
	check_room(UINT64_MAX, "none");
	root_remove();
}

TEST(memory_room, of_the_machine_without_cgroups)
{
	root_make();
	put_proc("", "");
	check_room(10000 * MIB, "MemAvailable");
	put("/proc/self/cgroup", "garbage\n:\n::\n4:memory\n\n");
	check_room(10000 * MIB, "MemAvailable");
	root_remove();
}

TEST(memory_room, of_v1_takes_the_tightest_level)
{
	root_make();
	put_proc("9:name=systemd:/\n4:memory:/jobs/one\n1:cpu:/elsewhere\n0::/\n",
		 V1_MOUNT "35 30 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "123456\n");
	put("/sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "104857600\n");
	put("/sys/fs/cgroup/memory/jobs/memory.usage_in_bytes", "62914560\n");
	put("/sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes", "9223372036854771712\n");
	put("/sys/fs/cgroup/memory/jobs/one/memory.usage_in_bytes", "1048576\n");
	check_room(40 * MIB, "/sys/fs/cgroup/memory/jobs/memory.limit_in_bytes");
	put("/sys/fs/cgroup/memory/jobs/memory.stat", /* 30 MiB of files, 2 of them busy; local counts do not matter */
	    "cache 1\ninactive_file 99999999\ntotal_inactive_file 20971520\ntotal_active_file 10485760\n"
	    "total_dirty 1048576\ntotal_writeback 1048576\n");
	check_room(68 * MIB, "/sys/fs/cgroup/memory/jobs/memory.limit_in_bytes");
	put("/sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes", "1048576\n");
	check_room(0, "/sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes");
	root_remove();
}

TEST(memory_room, of_v2_knows_max_and_high)
{
	root_make();
	put_proc("0::/a/b\n",
		 "25 1 0:20 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");
	put("/sys/fs/cgroup/a/memory.max", "max\n");
	put("/sys/fs/cgroup/a/memory.high", "max\n");
	put("/sys/fs/cgroup/a/memory.current", "999999999\n");
	put("/sys/fs/cgroup/a/b/memory.current", "10485760\n");
	check_room(10000 * MIB, "MemAvailable");
	put("/sys/fs/cgroup/a/b/memory.max", "104857600\n");
	check_room(90 * MIB, "/sys/fs/cgroup/a/b/memory.max");
	put("/sys/fs/cgroup/a/b/memory.high", "52428800\n");
	check_room(40 * MIB, "/sys/fs/cgroup/a/b/memory.high");
	put("/sys/fs/cgroup/a/b/memory.stat",
	    "anon 5\ninactive_file 1048576\nactive_file 1048576\nfile_dirty 1048576\n");
	check_room(41 * MIB, "/sys/fs/cgroup/a/b/memory.high");
	put("/sys/fs/cgroup/a/b/memory.stat",
	    "inactive_file 1\nfile_writeback 1048576\n"); /* busy exceeds what there is */
	check_room(40 * MIB, "/sys/fs/cgroup/a/b/memory.high");
	put("/sys/fs/cgroup/a/memory.max", "1000000000\n");
	check_room(1, "/sys/fs/cgroup/a/memory.max");
	root_remove();
}

TEST(memory_room, of_containers_is_that_of_the_directory_mounted)
{
	root_make();
	/* v1 without a cgroup namespace: the mount shows the container's directory as its top */
	put_proc(
		"4:memory:/docker/abc/inner\n", V1_MOUNT
		"35 30 0:32 /docker/abc /sys/fs/cgroup/memory ro master:1 - cgroup cgroup rw,memory\n");
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "104857600\n");
	put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "4857600\n");
	check_room(100000000, "/sys/fs/cgroup/memory/memory.limit_in_bytes");
	put("/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "1000\n");
	put("/sys/fs/cgroup/memory/inner/memory.usage_in_bytes", "1\n");
	check_room(999, "/sys/fs/cgroup/memory/inner/memory.limit_in_bytes");
	put("/proc/self/cgroup", "4:memory:/docker/abcdef\n"); /* no relation of /docker/abc */
	check_room(100000000, "/sys/fs/cgroup/memory/memory.limit_in_bytes");
	put("/proc/self/cgroup", "4:memory:/../../sibling\n");
	check_room(100000000, "/sys/fs/cgroup/memory/memory.limit_in_bytes");
	root_remove();
}

TEST(memory_room, need_is_more_than_the_bytes_and_never_wraps)
{
	CHECK(accel_memory_room_need(0) > 0);
	CHECK(accel_memory_room_need(1024 * MIB) > 1024 * MIB &&
	      accel_memory_room_need(1024 * MIB) < 1040 * MIB);
	CHECK_EQ(accel_memory_room_need(UINT64_MAX), UINT64_MAX);
	CHECK_EQ(accel_memory_room_need(UINT64_MAX - 1), UINT64_MAX);
}

TEST(memory_room, huge_pages_free_are_those_not_promised)
{
	static const char dir[] = "/sys/kernel/mm/hugepages/hugepages-2048kB/";
	struct accel_huge_room room;
	char path[128];

	root_make();
	accel_huge_room_get(root, &room);
	CHECK_EQ(room.total, 0);
	CHECK_EQ(room.free, 0);
	snprintf(path, sizeof(path), "%snr_hugepages", dir);
	put(path, "10\n");
	snprintf(path, sizeof(path), "%snr_overcommit_hugepages", dir);
	put(path, "5\n");
	snprintf(path, sizeof(path), "%sfree_hugepages", dir);
	put(path, "8\n");
	snprintf(path, sizeof(path), "%sresv_hugepages", dir);
	put(path, "3\n");
	accel_huge_room_get(root, &room);
	CHECK_EQ(room.total, 15);
	CHECK_EQ(room.free, 5);
	put(path, "9\n");
	accel_huge_room_get(root, &room);
	CHECK_EQ(room.free, 0);
	root_remove();
}
