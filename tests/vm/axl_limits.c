// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Who may have how much: the quotas of the device and of a user, and the memory cgroup, whose limit
 * a buffer meets as an error and not as the OOM killer.
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
#include <unistd.h>

#define NOBODY 65534
#define GROUP "/sys/fs/cgroup/axl_limits"

/* ---- Quotas ---------------------------------------------------------------------------------- */

#define DEVICE_MIB 48u
#define USER_MIB 32u

/* Loads the module with these quotas and makes the node everybody's; a file of root's, or < 0. */
static int quota_load(void)
{
	char text[96];
	int file;

	snprintf(text, sizeof(text), "soft=1 mem_bytes_max=%llu user_bytes_max=%llu",
		 DEVICE_MIB * MIB, USER_MIB * MIB);
	if (!CHECK_EQ(module_load(text), 0))
		return -1;
	file = node_open(0);
	if (!CHECK(file >= 0))
		return file;
	snprintf(text, sizeof(text), "/dev/accel/accel%u", node_number(file));
	CHECK_EQ(chmod(text, 0666), 0);
	return file;
}

static bool says(int file, const char *word)
{
	const char *text = node_last_error(file);

	return tap_check(strstr(text, word) != NULL, __FILE__, __LINE__, "\"%s\" does not name %s",
			 text, word);
}

TEST(quota, is_told)
{
	struct drm_axl_memory memory;
	uint64_t value = 0;
	int file = quota_load();

	REQUIRE(file >= 0);
	CHECK(!node_param(file, AXL_PARAM_MEM_BYTES_MAX, &value) && value == DEVICE_MIB * MIB);
	CHECK(!node_param(file, AXL_PARAM_USER_BYTES_MAX, &value) && value == USER_MIB * MIB);
	CHECK(!node_param(file, AXL_PARAM_BO_BYTES_MAX, &value) && value == USER_MIB * MIB);
	CHECK(!node_memory(file, AXL_QUERY_MEMORY, &memory) &&
	      memory.bytes_max == DEVICE_MIB * MIB);
	CHECK(!node_memory(file, AXL_QUERY_USER, &memory) && memory.bytes_max == USER_MIB * MIB);
	close(file);
}

TEST(quota, of_a_user_counts_all_of_his_files)
{
	int a = quota_load(), b = node_open(0);
	uint32_t first, second, third;

	REQUIRE(a >= 0 && b >= 0);
	CHECK_EQ(bo_create(a, USER_MIB / 2 * MIB, 0, &first), 0);
	CHECK_EQ(bo_create(b, USER_MIB / 2 * MIB, 0, &second), 0);
	CHECK_EQ(bo_create(b, 1, 0, &third), -ENOSPC);
	says(b, "user_bytes_max");
	CHECK_EQ(bo_create(a, 1, 0, &third), -ENOSPC);
	CHECK_EQ(bo_close(a, first), 0);
	CHECK_EQ(bo_create(b, USER_MIB / 2 * MIB, 0, &third), 0);
	CHECK_EQ(bo_create(a, 1, 0, &first), -ENOSPC);
	close(b);
	CHECK_EQ(bo_create(a, USER_MIB * MIB, 0, &first), 0);
	close(a);
}

TEST(quota, counts_a_buffer_until_its_last_holder_is_gone)
{
	int file = quota_load(), dmabuf;
	uint32_t handle;
	void *at;

	REQUIRE(file >= 0);
	CHECK_EQ(bo_create(file, USER_MIB * MIB, 0, &handle), 0);
	dmabuf = bo_export(file, handle, DRM_RDWR | DRM_CLOEXEC);
	REQUIRE(dmabuf >= 0);
	CHECK_EQ(bo_close(file, handle), 0);
	CHECK_EQ(bo_create(file, 1, 0, &handle), -ENOSPC);
	at = fd_map(dmabuf, 4096, PROT_READ);
	close(dmabuf);
	CHECK_EQ(bo_create(file, 1, 0, &handle), -ENOSPC);
	munmap(at, 4096);
	CHECK_EQ(bo_create(file, USER_MIB * MIB, 0, &handle), 0);
	close(file);
}

/* A user's own quota is untouched by another's buffers; the device's is not. */
static int use_as_nobody(void *arg)
{
	struct drm_axl_memory memory;
	uint32_t handle;
	int file;

	(void)arg;
	if (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY))
		return 1;
	file = node_open(0);
	if (file < 0 || node_memory(file, AXL_QUERY_USER, &memory))
		return 2;
	CHECK_EQ(memory.bytes_used, 0);
	CHECK_EQ(memory.bos, 0);
	CHECK_EQ(bo_create(file, (DEVICE_MIB - USER_MIB) * MIB, 0, &handle), 0);
	CHECK_EQ(bo_create(file, 1, 0, &handle), -ENOSPC);
	says(file, "mem_bytes_max");
	return 0;
}

TEST(quota, of_the_device_is_shared_by_its_users)
{
	int file = quota_load();
	struct drm_axl_memory memory;
	uint32_t handle;

	REQUIRE(file >= 0);
	CHECK_EQ(bo_create(file, USER_MIB * MIB, 0, &handle), 0);
	CHECK_EQ(child_wait(child_start(use_as_nobody, NULL)), 0);
	CHECK_EQ(node_memory(file, AXL_QUERY_MEMORY, &memory), 0);
	CHECK_EQ(memory.bytes_used, USER_MIB * MIB);
	close(file);
}

TEST(module, refuses_quotas_that_make_no_sense)
{
	static const char *const bad[] = {"mem_bytes_max=1",
					  "mem_bytes_max=18446744073709551615",
					  "mem_bytes_max=8388608 user_bytes_max=16777216",
					  "soft=257",
					  "soft=-1",
					  "soft=many"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK(module_load(bad[i]) != 0);
		CHECK(access("/sys/module/accel", F_OK) != 0);
	}
	CHECK_EQ(module_load("soft=1"), 0);
}

/* ---- The memory cgroup ----------------------------------------------------------------------- */

#define MEMORY_MAX (64 * MIB)

static bool group_make(void)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", MEMORY_MAX);
	if (!CHECK_EQ(run("grep -q memory /sys/fs/cgroup/cgroup.controllers && "
			  "echo +memory >/sys/fs/cgroup/cgroup.subtree_control && mkdir -p " GROUP),
		      0))
		return false;
	return CHECK_EQ(file_write(GROUP "/memory.max", text), 0);
}

static bool group_join(void)
{
	return !file_write(GROUP "/cgroup.procs", "0");
}

static int64_t group_event(const char *event)
{
	char line[64];
	long long count = -1;
	FILE *file = fopen(GROUP "/memory.events", "re");

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, event, strlen(event)) && line[strlen(event)] == ' ')
			sscanf(line + strlen(event), "%lld", &count);
	if (file)
		fclose(file);
	return count;
}

static int ask_too_much(void *arg)
{
	int64_t before, during;
	uint32_t handle, flags = *(uint32_t *)arg;
	int file = node_open(0);

	if (!group_join() || file < 0)
		return 1;
	before = file_number(GROUP "/memory.current");
	if (bo_create(file, MEMORY_MAX / 2, flags, &handle))
		return 2;
	during = file_number(GROUP "/memory.current");
	CHECK(during - before >= (int64_t)(MEMORY_MAX / 2));
	CHECK(during - before < (int64_t)(MEMORY_MAX / 2 + 4 * MIB));
	for (unsigned i = 0; i < 3; i++) {
		CHECK_EQ(bo_create(file, 2 * MEMORY_MAX, flags, &handle), -ENOMEM);
		says(file, "memory cgroup");
	}
	/* What the failed ones had taken is there again. */
	CHECK_EQ(bo_create(file, MEMORY_MAX / 4, flags, &handle), 0);
	/* Nor where the pages find room, and what is kept of each of them does not. */
	close(file);
	file = node_open(0);
	for (unsigned i = 0; i < 8 && flags & AXL_BO_F_SMALL_PAGES; i++)
		if (!bo_create(file, MEMORY_MAX - i * (MIB / 16), flags, &handle))
			CHECK_EQ(bo_close(file, handle), 0);
	close(file);
	during = file_number(GROUP "/memory.current");
	CHECK(during < before + (int64_t)(4 * MIB));
	return 0;
}

/* In the same group; lives until the pipe is closed. */
static int bystand(void *arg)
{
	int *pipe_fds = arg;
	char byte;

	close(pipe_fds[1]);
	if (!group_join())
		return 1;
	return read(pipe_fds[0], &byte, 1) ? 2 : 0;
}

TEST(memory_cgroup, full_is_enomem_and_kills_nobody)
{
	uint64_t bos;
	int file = node_open(0), pipe_fds[2];
	pid_t bystander;

	REQUIRE(file >= 0 && group_make());
	REQUIRE_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
	bos = node_bos(file);
	bystander = child_start(bystand, pipe_fds);
	for (uint32_t flags = 0; flags <= AXL_BO_F_SMALL_PAGES; flags += AXL_BO_F_SMALL_PAGES)
		CHECK_EQ(child_wait(child_start(ask_too_much, &flags)), 0);
	CHECK_EQ(group_event("oom_kill"), 0);
	CHECK_EQ(node_bos(file), bos);
	close(pipe_fds[1]);
	CHECK_EQ(child_wait(bystander), 0);
	close(pipe_fds[0]);
	CHECK_EQ(rmdir(GROUP), 0);
	close(file);
}
