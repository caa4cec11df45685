// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * NUMA: a buffer's pages are of the node that was asked for, else of its device's, else of the CPU
 * that asked; where a node is full, who insisted on it gets an error and who did not gets another's.
 * The kernel is asked where each page is. With one node all of this would be true of any driver.
 *
 * check: guest --nodes 2 --memory 1536
 */
#define _GNU_SOURCE
#include "node.h"
#include "tap.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096u
#define BYTES ((size_t)4 * MIB + 3 * PAGE)
#define NODES 2u
#define NEW_DEVICE "/sys/bus/axl_soft/new_device"
#define ID 41
#define ID_TEXT "41"

/* More than node 1 has, and, on two devices by turns, within the quota of each: half of all memory. */
#define FILL_BYTES ((size_t)64 * MIB)
#define FILLS_MAX 14u

/* Puts this process on a CPU of the node, so that what nobody asked to be elsewhere is there. */
static bool run_on(unsigned node)
{
	char path[64];
	unsigned cpu_now, node_now = ~0u;
	cpu_set_t cpus;
	int64_t cpu;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/cpulist", node);
	cpu = file_number(path);
	if (!CHECK(cpu >= 0)) /* a guest of one node; see above */
		return false;
	CPU_ZERO(&cpus);
	CPU_SET((size_t)cpu, &cpus);
	CHECK_EQ(sched_setaffinity(0, sizeof(cpus), &cpus), 0);
	getcpu(&cpu_now, &node_now);
	return CHECK_EQ(node_now, node);
}

static int create_on(int file, size_t bytes, uint32_t flags, uint32_t node, uint32_t *handle)
{
	struct drm_axl_bo_create arg = {
		.size_bytes = bytes, .flags = flags | AXL_BO_F_NUMA, .numa_node = node};
	int rc = node_ioctl(file, DRM_IOCTL_AXL_BO_CREATE, &arg);

	if (!rc)
		*handle = arg.handle;
	return rc;
}

/* How many of a mapping's pages are of that node, as move_pages(2) tells when it moves none. */
static size_t pages_of(unsigned node, char *at, size_t bytes)
{
	void *pages[512];
	int nodes[512];
	size_t count = 0, n;

	for (size_t done = 0; done < bytes; done += n * PAGE) {
		for (n = 0; n < 512 && done + n * PAGE < bytes; n++) {
			pages[n] = at + done + n * PAGE;
			*(volatile char *)pages[n] = 1;
		}
		if (!CHECK_EQ(syscall(SYS_move_pages, 0, n, pages, NULL, nodes, 0), 0))
			return ~0ull;
		for (size_t i = 0; i < n; i++)
			count += nodes[i] == (int)node;
	}
	return count;
}

static size_t buffer_pages_of(unsigned node, int file, uint32_t handle, size_t bytes)
{
	void *at = bo_map(file, handle, bytes);
	size_t count;

	if (!CHECK(at != NULL))
		return ~0ull;
	count = pages_of(node, at, bytes);
	munmap(at, bytes);
	return count;
}

/* Its pages are all of that node, and large or small as flags have it; then it is closed. */
static void check_buffer(unsigned node, int file, uint32_t handle, uint32_t flags)
{
	struct drm_axl_bo_info info;

	CHECK_EQ(bo_info(file, handle, &info), 0);
	if (flags & AXL_BO_F_SMALL_PAGES)
		CHECK_EQ(info.large_page_bytes, 0);
	else
		CHECK(info.large_page_bytes >= 2 * MIB);
	CHECK_EQ(buffer_pages_of(node, file, handle, BYTES), BYTES / PAGE);
	CHECK_EQ(bo_close(file, handle), 0);
}

static void check_device(int file, uint64_t param, int64_t sysfs)
{
	char path[64];
	uint64_t value = 0;

	CHECK_EQ(node_param(file, AXL_PARAM_NUMA_NODE, &value), 0);
	CHECK_EQ(value, param);
	snprintf(path, sizeof(path), "/sys/class/accel/accel%u/numa_node", node_number(file));
	CHECK_EQ(file_number(path), sysfs);
}

TEST(buffer, is_of_the_node_that_was_asked_for)
{
	int file = node_open(0);
	uint64_t bos;
	uint32_t handle = 0;

	REQUIRE(file >= 0);
	bos = node_bos(file);
	for (unsigned here = 0; here < NODES; here++)
		for (unsigned node = 0; node < NODES; node++)
			for (uint32_t flags = 0; flags <= AXL_BO_F_SMALL_PAGES;
			     flags += AXL_BO_F_SMALL_PAGES) {
				REQUIRE(run_on(here));
				REQUIRE_EQ(create_on(file, BYTES, flags, node, &handle), 0);
				check_buffer(node, file, handle, flags);
			}
	CHECK_EQ(create_on(file, BYTES, 0, NODES, &handle), -ENOENT);
	CHECK_EQ(node_bos(file), bos);
	close(file);
}

TEST(buffer, of_a_device_without_a_node_is_of_the_callers)
{
	int file = node_open(0);
	uint32_t handle = 0;

	REQUIRE(file >= 0);
	check_device(file, ~0ull, -1);
	for (unsigned node = 0; node < NODES; node++)
		for (uint32_t flags = 0; flags <= AXL_BO_F_SMALL_PAGES;
		     flags += AXL_BO_F_SMALL_PAGES) {
			REQUIRE(run_on(node));
			REQUIRE_EQ(bo_create(file, BYTES, flags, &handle), 0);
			check_buffer(node, file, handle, flags);
		}
	close(file);
}

TEST(buffer, of_a_device_with_a_node_is_of_that_unless_another_was_asked_for)
{
	uint32_t handle = 0;
	int first = node_open(0), file; /* with the module there */

	REQUIRE(first >= 0);
	CHECK_EQ(file_write(NEW_DEVICE, ID_TEXT " 2"), -ENOENT);
	for (unsigned node = 0; node < NODES; node++) {
		REQUIRE_EQ(file_write(NEW_DEVICE, node ? ID_TEXT " 1" : ID_TEXT " 0"), 0);
		file = node_open(1);
		REQUIRE(file >= 0 && run_on(1 - node));
		check_device(file, node, node);
		for (uint32_t flags = 0; flags <= AXL_BO_F_SMALL_PAGES;
		     flags += AXL_BO_F_SMALL_PAGES) {
			REQUIRE_EQ(bo_create(file, BYTES, flags, &handle), 0);
			check_buffer(node, file, handle, flags);
			REQUIRE_EQ(create_on(file, BYTES, flags, 1 - node, &handle), 0);
			check_buffer(1 - node, file, handle, flags);
		}
		CHECK_EQ(node_bos(file), 0);
		close(file);
		CHECK_EQ(device_del(ID), 0);
	}
	close(first);
}

/* What is free of node 1, in bytes. */
static int64_t node_1_free(void)
{
	FILE *file = fopen("/sys/devices/system/node/node1/meminfo", "re");
	long long kib = -1;
	char line[96];

	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "Node 1 MemFree: %lld", &kib);
	if (file)
		fclose(file);
	return kib * 1024;
}

/* Takes node 1, on both devices, until it has no room, which must be before FILLS_MAX; how many. */
static unsigned node_1_fill(const int *files, uint32_t *handles)
{
	unsigned count = 0;
	int rc = 0;

	while (count < FILLS_MAX && !rc) {
		rc = create_on(files[count % 2], FILL_BYTES, 0, 1, &handles[count]);
		count += !rc;
	}
	CHECK_EQ(rc, -ENOMEM);
	tap_diag("node 1 had room for %u buffers: %s", count, node_last_error(files[count % 2]));
	CHECK(strstr(node_last_error(files[count % 2]), "node 1") != NULL);
	return count;
}

TEST(node, that_is_full_is_enomem_for_who_insists_and_another_for_who_does_not)
{
	uint32_t handles[FILLS_MAX], handle = 0;
	int files[2] = {node_open(0), -1}; /* the second prefers node 1 */
	unsigned count;
	int64_t before;
	size_t pages;

	REQUIRE(files[0] >= 0 && run_on(0));
	REQUIRE_EQ(file_write(NEW_DEVICE, ID_TEXT " 1"), 0);
	files[1] = node_open(1);
	REQUIRE(files[1] >= 0);
	before = node_1_free();
	count = node_1_fill(files, handles);
	CHECK(count > 4);
	for (unsigned i = 0; i < count; i++)
		CHECK_EQ(buffer_pages_of(1, files[i % 2], handles[i], FILL_BYTES),
			 FILL_BYTES / PAGE);
	CHECK_EQ(bo_create(files[1], FILL_BYTES, 0, &handle), 0);
	pages = buffer_pages_of(0, files[1], handle, FILL_BYTES);
	CHECK(pages > 0 && pages <= FILL_BYTES / PAGE);
	CHECK_EQ(create_on(files[1], FILL_BYTES, 0, 1, &handle), -ENOMEM);
	CHECK_EQ(node_bos(files[0]) + node_bos(files[1]), count + 1);

	/* All is there again, but for what the kernel keeps at hand for each CPU. */
	close(files[1]);
	for (unsigned i = 0; i < count; i += 2)
		CHECK_EQ(bo_close(files[0], handles[i]), 0);
	CHECK_EQ(node_bos(files[0]), 0);
	CHECK(node_1_free() > before - (int64_t)FILL_BYTES);
	REQUIRE_EQ(create_on(files[0], BYTES, 0, 1, &handle), 0);
	check_buffer(1, files[0], handle, 0);
	close(files[0]);
	CHECK_EQ(device_del(ID), 0);
}
