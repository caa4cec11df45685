// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Devices, the version, and the lookup of regions by address. */
#include "device.h"
#include "libaccel/leaks.h"
#include "tap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static struct accel_device *host_open(void)
{
	struct accel_device *dev = NULL;

	CHECK_EQ(accel_device_open("host", &dev), 0);
	return dev;
}

TEST(version, names_number_and_commit)
{
	unsigned major, minor, patch;
	char commit[64];

	CHECK_EQ(sscanf(accel_version(), "%u.%u.%u (%60[^)])", &major, &minor, &patch, commit), 4);
}

TEST(device, open_host_and_close)
{
	struct leaks before = leaks_count();
	struct accel_device *dev = host_open();
	struct accel_device *other = host_open(); /* nothing is global */

	CHECK(dev && other && dev != other);
	accel_device_close(other);
	accel_device_close(dev);
	CHECK_NO_LEAKS(before);
}

TEST(device, open_rejects_null_and_unknown)
{
	struct accel_device *dev = (struct accel_device *)1;
	static const char *const names[] = {"", "Host", "host ", "cuda:0", "opencl:0", "accel0"};
	char longest[1024];

	CHECK_EQ(accel_device_open(NULL, &dev), -EINVAL);
	CHECK_EQ(accel_device_open("host", NULL), -EINVAL);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		CHECK_EQ(accel_device_open(names[i], &dev), -ENOENT);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	CHECK_EQ(accel_device_open(longest, &dev), -ENOENT);
	CHECK(dev == (struct accel_device *)1);
}

TEST(device, close_null_is_fine)
{
	accel_device_close(NULL);
}

TEST(device, close_before_its_buffers_harms_nobody)
{
	struct accel_device *dev = host_open();
	struct accel_buffer *buf = NULL;

	REQUIRE_EQ(accel_buffer_create(dev, 1, NULL, &buf), 0);
	accel_device_close(dev); /* refused, and logged */
	*(char *)accel_buffer_addr(buf) = 1;
	accel_buffer_destroy(buf);
	accel_device_close(dev);
}

TEST(device, info_says_what_it_is)
{
	struct accel_device_info info = {.size = sizeof(info)};
	struct accel_device *dev = host_open();

	CHECK_EQ(accel_device_info_get(dev, &info), 0);
	CHECK(!strcmp(info.name, "host"));
	CHECK_EQ(info.page_bytes, sysconf(_SC_PAGESIZE));
	CHECK(info.huge_page_bytes == 0 || info.huge_page_bytes == 2 << 20);
	CHECK(info.huge_page_bytes || !info.huge_pages_free);
	CHECK(info.numa_nodes >= 1);
	CHECK(info.kernels[0] != '\0');
	accel_device_close(dev);
}

TEST(device, info_rejects_null_and_size_0)
{
	struct accel_device_info info = {.size = 0};
	struct accel_error error = {.size = sizeof(error)};
	struct accel_device *dev = host_open();

	CHECK_EQ(accel_device_info_get(NULL, &info), -EINVAL);
	CHECK_EQ(accel_device_info_get(dev, NULL), -EINVAL);
	CHECK_EQ(accel_device_info_get(dev, &info), -EINVAL);
	CHECK_EQ(accel_error_get(dev, &error), 0);
	CHECK_EQ(error.code, -EINVAL);
	CHECK(strstr(error.text, "size"));
	accel_device_close(dev);
}

TEST(device, region_find_takes_whole_ranges_only)
{
	struct accel_device *dev = host_open();
	struct accel_buffer *buf = NULL, *bare = NULL;
	struct accel_region *region;
	static char memory[64];
	char *addr;

	REQUIRE_EQ(accel_buffer_create(dev, 8192, NULL, &buf), 0);
	REQUIRE_EQ(accel_buffer_import_ptr(dev, memory, sizeof(memory), &bare), 0);
	addr = accel_buffer_addr(buf);
	region = accel_device_region_find(dev, addr, 8192, true);
	CHECK(region && region->addr == (uint8_t *)addr && region->refs == 2);
	accel_region_put(region);
	region = accel_device_region_find(dev, addr + 8191, 1, true);
	CHECK(region != NULL);
	accel_region_put(region);
	CHECK(!accel_device_region_find(dev, addr, 8193, true));
	CHECK(!accel_device_region_find(dev, addr + 1, 8192, true));
	CHECK(!accel_device_region_find(dev, addr - 1, 2, true));
	CHECK(!accel_device_region_find(dev, addr + 8192, 1, true));
	CHECK(!accel_device_region_find(dev, addr + 1, UINT64_MAX, true));
	CHECK(!accel_device_region_find(dev, NULL, 1, true));
	CHECK(!accel_device_region_find(dev, memory, 1, true)); /* peers cannot map it */
	region = accel_device_region_find(dev, memory, 1, false);
	CHECK(region && region->addr == (uint8_t *)memory);
	accel_region_put(region);
	accel_buffer_destroy(bare);
	accel_buffer_destroy(buf);
	accel_device_close(dev);
}

TEST(device, region_outlives_its_buffer_while_held)
{
	struct leaks before = leaks_count();
	struct accel_device *dev = host_open();
	struct accel_buffer *buf = NULL;
	struct accel_region *region;

	REQUIRE_EQ(accel_buffer_create(dev, 4096, NULL, &buf), 0);
	region = accel_device_region_find(dev, accel_buffer_addr(buf), 4096, true);
	REQUIRE(region != NULL);
	accel_buffer_destroy(buf);
	region->addr[4095] = 1;
	accel_region_put(region);
	accel_device_close(dev);
	CHECK_NO_LEAKS(before);
}

struct seen {
	unsigned count;
	uint64_t id;
};

static void seen_gone(void *arg, struct accel_region *region)
{
	struct seen *seen = arg;

	seen->count++;
	seen->id = region->id;
}

TEST(device, watches_hear_of_each_buffer_that_goes)
{
	struct seen first = {0}, second = {0};
	struct accel_region_watch watch_first = {.gone = seen_gone, .arg = &first};
	struct accel_region_watch watch_second = {.gone = seen_gone, .arg = &second};
	struct accel_device *dev = host_open();
	struct accel_buffer *a = NULL, *b = NULL;

	accel_device_watch(dev, &watch_first);
	accel_device_watch(dev, &watch_second);
	REQUIRE_EQ(accel_buffer_create(dev, 1, NULL, &a), 0);
	REQUIRE_EQ(accel_buffer_create(dev, 1, NULL, &b), 0);
	CHECK(a->region->id && b->region->id && a->region->id != b->region->id);
	second.id = a->region->id;
	accel_buffer_destroy(a);
	CHECK_EQ(first.count, 1);
	CHECK_EQ(first.id, second.id);
	accel_device_unwatch(dev, &watch_first);
	accel_buffer_destroy(b);
	CHECK_EQ(first.count, 1);
	CHECK_EQ(second.count, 2);
	accel_device_unwatch(dev, &watch_second);
	accel_device_unwatch(dev, &watch_second); /* harmless */
	accel_device_close(dev);
}

TEST(device, forked_child_may_destroy_and_tells_nobody)
{
	struct seen seen = {0};
	struct accel_region_watch watch = {.gone = seen_gone, .arg = &seen};
	struct accel_device *dev = host_open();
	struct accel_buffer *buf = NULL;
	int status;
	pid_t pid;

	accel_device_watch(dev, &watch);
	REQUIRE_EQ(accel_buffer_create(dev, 4096, NULL, &buf), 0);
	pthread_mutex_lock(&dev->lock); /* as if another thread held it at the time of fork() */
	pid = fork();
	if (!pid) {
		accel_buffer_destroy(buf);
		accel_device_unwatch(dev, &watch);
		accel_device_close(dev);
		_exit(seen.count);
	}
	pthread_mutex_unlock(&dev->lock);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	*(char *)accel_buffer_addr(buf) = 1; /* still ours */
	accel_buffer_destroy(buf);
	CHECK_EQ(seen.count, 1);
	accel_device_unwatch(dev, &watch);
	accel_device_close(dev);
}

static void *make_and_destroy(void *arg)
{
	struct accel_buffer *buf;
	struct accel_region *region;

	for (int i = 0; i < 50; i++) {
		if (accel_buffer_create(arg, 4096, NULL, &buf))
			return NULL;
		region = accel_device_region_find(arg, accel_buffer_addr(buf), 4096, true);
		accel_buffer_destroy(buf);
		if (!region)
			return NULL;
		accel_region_put(region);
	}
	return arg;
}

TEST(device, buffers_come_and_go_from_many_threads)
{
	struct leaks before = leaks_count();
	struct accel_device *dev = host_open();
	pthread_t threads[4];
	void *done;

	for (int i = 0; i < 4; i++)
		REQUIRE_EQ(pthread_create(&threads[i], NULL, make_and_destroy, dev), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &done);
		CHECK(done == dev);
	}
	CHECK(!dev->buffers);
	accel_device_close(dev);
	CHECK_NO_LEAKS(before);
}
