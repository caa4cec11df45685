// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * libaccel's device accelN on a real accel.ko: what it is, buffers made, shared and imported in
 * another process, each refusal with its cause, what a peer may and may not show, and the memory of
 * a device that was removed.
 */
#define _GNU_SOURCE
#include "device.h"
#include "dmabuf.h"
#include "libaccel/leaks.h"
#include "node.h"
#include "tap.h"

#include <axl_drm.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/udmabuf.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ull
#define MIB (1ull << 20)
#define NOBODY 65534

static const char *text(void)
{
	static struct accel_error error;

	error.size = sizeof(error);
	return accel_error_get(NULL, &error) ? "" : error.text;
}

static struct accel_device *accel0_open(void)
{
	struct accel_device *dev = NULL;

	if (access("/dev/accel/accel0", F_OK))
		CHECK_EQ(module_load("soft=1"), 0);
	CHECK_EQ(accel_device_open("accel0", &dev), 0);
	if (!dev)
		tap_diag("%s", text());
	return dev;
}

static uint64_t used(struct accel_device *dev)
{
	struct accel_device_info info = {.size = sizeof(info)};

	return accel_device_info_get(dev, &info) ? UINT64_MAX : info.memory_bytes_used;
}

/* Runs body in a child, whose exit status says whether all was as it must be. */
static bool child_ok(bool (*body)(void *), void *arg)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(body(arg) ? 0 : 1);
	return CHECK(pid > 0) && CHECK_EQ(waitpid(pid, &status, 0), pid) && CHECK_EQ(status, 0);
}

/* ---- The device ------------------------------------------------------------------------------ */

TEST(accel0, says_what_it_is)
{
	struct accel_device_info info = {.size = sizeof(info)};
	struct accel_device *dev = accel0_open(), *first = NULL;

	REQUIRE(dev);
	CHECK_EQ(accel_device_info_get(dev, &info), 0);
	CHECK(!strcmp(info.name, "accel0") && !strcmp(info.provider, "soft"));
	CHECK_EQ(info.page_bytes, PAGE);
	CHECK_EQ(info.huge_page_bytes, 2 * MIB);
	CHECK(info.memory_bytes_max >= info.user_bytes_max && info.user_bytes_max);
	CHECK_EQ(info.buffer_bytes_max, info.user_bytes_max / PAGE * PAGE);
	CHECK_EQ(info.memory_bytes_used, 0);
	CHECK_EQ(info.user_bytes_used, 0);
	CHECK_EQ(accel_device_open("accel", &first), 0);
	CHECK_EQ(accel_device_info_get(first, &info), 0);
	CHECK(!strcmp(info.name, "accel0"));
	accel_device_close(first);
	accel_device_close(dev);
}

TEST(accel0, opens_and_closes_without_a_trace)
{
	struct accel_device *dev = accel0_open();
	struct leaks before;

	accel_device_close(dev);
	before = leaks_count();
	accel_device_close(accel0_open());
	CHECK_NO_LEAKS(before);
}

static bool as_nobody(void *arg)
{
	struct accel_device *dev;

	(void)arg;
	return !setresgid(NOBODY, NOBODY, NOBODY) && !setresuid(NOBODY, NOBODY, NOBODY) &&
	       CHECK_EQ(accel_device_open("accel0", &dev), -EACCES) &&
	       CHECK(strstr(text(), "group render")) &&
	       CHECK_EQ(accel_device_open("accel", &dev), -EACCES);
}

TEST(accel0, without_the_right_to_open_names_the_group)
{
	struct accel_device *dev = accel0_open();

	REQUIRE(dev && !chmod("/dev/accel/accel0", 0660));
	child_ok(as_nobody, NULL);
	accel_device_close(dev);
}

TEST(accel_node, of_another_driver_is_named)
{
	const dev_t vgem = makedev(226, 0), null = makedev(1, 3);
	struct accel_device *dev;

	if (system("modprobe vgem"))
		SKIP("this kernel has no vgem, another driver of DRM with a device at hand");
	REQUIRE(!access("/sys/dev/char/226:0", F_OK));
	REQUIRE(!mknod("/dev/accel/accel200", S_IFCHR | 0666, vgem));
	CHECK_EQ(accel_device_open("accel200", &dev), -EOPNOTSUPP);
	CHECK(strstr(text(), "\"vgem\""));
	unlink("/dev/accel/accel200");
	REQUIRE(!mknod("/dev/accel/accel200", S_IFCHR | 0666, null));
	CHECK_EQ(accel_device_open("accel200", &dev), -EOPNOTSUPP);
	unlink("/dev/accel/accel200");
}

TEST(accel_node, that_is_not_there_names_the_cure)
{
	struct accel_device *dev;

	CHECK_EQ(accel_device_open("accel201", &dev), -ENOENT);
	CHECK(strstr(text(), "has none by that name"));
	CHECK_EQ(rename("/dev/accel/accel0", "/dev/accel/hidden"), 0);
	CHECK_EQ(accel_device_open("accel0", &dev), -ENOENT);
	CHECK(strstr(text(), "container"));
	CHECK_EQ(rename("/dev/accel/hidden", "/dev/accel/accel0"), 0);
}

/* ---- Buffers --------------------------------------------------------------------------------- */

TEST(accel_buffer, is_zeroed_written_and_counted)
{
	static const uint64_t sizes[] = {1, PAGE, 3 * PAGE + 1, 2 * MIB, 5 * MIB + PAGE};
	struct accel_buffer_info info = {.size = sizeof(info)};
	struct accel_device *dev = accel0_open();
	struct accel_buffer *buf;

	REQUIRE(dev);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct leaks before = leaks_count();

		REQUIRE_EQ(accel_buffer_create(dev, sizes[i], NULL, &buf), 0);
		CHECK_EQ(accel_buffer_info_get(buf, &info), 0);
		CHECK_EQ(info.size_bytes, (sizes[i] + PAGE - 1) / PAGE * PAGE);
		CHECK_EQ(info.shareable, 1);
		CHECK_EQ(info.numa_node, 0);
		CHECK_EQ(used(dev), info.size_bytes);
		CHECK(is_zero(info.addr, info.size_bytes));
		CHECK(sizes[i] < 2 * MIB || (uintptr_t)info.addr % (2 * MIB) == 0);
		memset(info.addr, 0xa5, info.size_bytes);
		accel_buffer_destroy(buf);
		CHECK_EQ(used(dev), 0);
		CHECK_NO_LEAKS(before);
	}
	accel_device_close(dev);
}

TEST(accel_buffer, has_the_pages_and_the_node_asked_for)
{
	struct accel_buffer_opts opts = {.size = sizeof(opts), .huge = ACCEL_HUGE_NEED};
	struct accel_buffer_info info = {.size = sizeof(info)};
	struct accel_device *dev = accel0_open();
	struct accel_buffer *buf = NULL;

	REQUIRE(dev);
	CHECK_EQ(accel_buffer_create(dev, 3 * MIB, &opts, &buf), 0);
	CHECK_EQ(accel_buffer_info_get(buf, &info), 0);
	CHECK_EQ(info.size_bytes, 4 * MIB);
	CHECK_EQ(info.page_bytes, 2 * MIB);
	accel_buffer_destroy(buf);
	opts.huge = ACCEL_HUGE_NEVER;
	opts.numa_node_plus1 = 1;
	CHECK_EQ(accel_buffer_create(dev, 2 * MIB, &opts, &buf), 0);
	CHECK_EQ(accel_buffer_info_get(buf, &info), 0);
	CHECK_EQ(info.page_bytes, PAGE);
	CHECK_EQ(info.numa_node, 0);
	accel_buffer_destroy(buf);
	opts.numa_node_plus1 = 8;
	CHECK_EQ(accel_buffer_create(dev, PAGE, &opts, &buf), -EINVAL);
	CHECK(strstr(text(), "NUMA node 7"));
	accel_device_close(dev);
}

TEST(accel_buffer, beyond_the_quota_is_enospc_with_the_modules_words)
{
	struct accel_device_info info = {.size = sizeof(info)};
	struct accel_buffer *buf = NULL, *more = NULL;
	struct accel_device *dev;

	REQUIRE(!module_load("soft=1 mem_bytes_max=16777216 user_bytes_max=8388608"));
	dev = accel0_open();
	REQUIRE(dev);
	CHECK_EQ(accel_device_info_get(dev, &info), 0);
	CHECK_EQ(info.memory_bytes_max, 16 * MIB);
	CHECK_EQ(info.user_bytes_max, 8 * MIB);
	CHECK_EQ(accel_buffer_create(dev, 9 * MIB, NULL, &buf), -ENOSPC);
	CHECK(strstr(text(), "mem_bytes_max"));
	CHECK_EQ(accel_buffer_create(dev, 6 * MIB, NULL, &buf), 0);
	CHECK_EQ(accel_buffer_create(dev, 3 * MIB, NULL, &more), -ENOSPC);
	CHECK(strstr(text(), "on accel0: ") && strstr(text(), "user_bytes_max"));
	CHECK_EQ(accel_buffer_create(dev, UINT64_MAX - 1, NULL, &more), -EOVERFLOW);
	accel_buffer_destroy(buf);
	accel_device_close(dev);
	CHECK_EQ(module_load("soft=1"), 0);
}

/* ---- Shared ---------------------------------------------------------------------------------- */

struct export
{
	int fd;
	uint64_t offset, bytes;
	const char *device;
};

static bool read_elsewhere(void *arg)
{
	const struct export *e = arg;
	struct accel_buffer_info info = {.size = sizeof(info)};
	struct accel_buffer *buf = NULL;
	struct accel_device *dev = NULL;
	bool ok = CHECK_EQ(accel_device_open(e->device, &dev), 0) &&
		  CHECK_EQ(accel_buffer_import_fd(dev, e->fd, e->offset, e->bytes, &buf), 0) &&
		  CHECK_EQ(accel_buffer_info_get(buf, &info), 0) && CHECK_EQ(info.shareable, 1);

	for (uint64_t i = 0; ok && i < e->bytes; i++)
		ok = CHECK_EQ(((uint8_t *)info.addr)[i], (uint8_t)((e->offset + i) * 7 / 3));
	/* Neither by mprotect() nor by a mapping of one's own. */
	ok = ok && CHECK(mprotect(info.addr, e->bytes, PROT_READ | PROT_WRITE) < 0) &&
	     CHECK(mmap(NULL, e->bytes, PROT_WRITE, MAP_SHARED, e->fd, 0) == MAP_FAILED);
	accel_buffer_destroy(buf);
	accel_device_close(dev);
	return ok;
}

TEST(accel_buffer, is_read_in_another_process_and_not_written)
{
	struct export e = {.fd = -1};
	struct accel_device *dev = accel0_open();
	struct accel_buffer *buf = NULL, *part = NULL;
	uint8_t *at;

	REQUIRE(dev);
	REQUIRE_EQ(accel_buffer_create(dev, 3 * MIB, NULL, &buf), 0);
	at = accel_buffer_addr(buf);
	for (uint64_t i = 0; i < 3 * MIB; i++)
		at[i] = (uint8_t)(i * 7 / 3);
	CHECK_EQ(accel_buffer_export_fd(buf, &e.fd, &e.offset), 0);
	CHECK_EQ(e.offset, 0);
	CHECK_EQ(accel_dmabuf_is_ours(e.fd), 1);
	e.bytes = 3 * MIB;
	e.device = "accel0";
	child_ok(read_elsewhere, &e);
	e.device = "host";
	child_ok(read_elsewhere, &e);
	/* A part of it, and that part's own export. */
	CHECK_EQ(accel_buffer_import_fd(dev, e.fd, 5 * PAGE, 100, &part), 0);
	close(e.fd);
	CHECK_EQ(accel_buffer_export_fd(part, &e.fd, &e.offset), 0);
	CHECK_EQ(e.offset, 5 * PAGE);
	e.bytes = 100;
	accel_buffer_destroy(buf);
	child_ok(read_elsewhere, &e);
	CHECK(used(dev) > 0);
	accel_buffer_destroy(part);
	close(e.fd);
	CHECK_EQ(used(dev), 0);
	accel_device_close(dev);
}

TEST(accel_buffer, import_checks_the_range)
{
	struct accel_device *dev = accel0_open();
	struct accel_buffer *buf = NULL, *other;
	uint64_t offset;
	int fd = -1;

	REQUIRE(dev);
	REQUIRE_EQ(accel_buffer_create(dev, 2 * PAGE, NULL, &buf), 0);
	REQUIRE_EQ(accel_buffer_export_fd(buf, &fd, &offset), 0);
	CHECK_EQ(accel_buffer_import_fd(dev, fd, 0, 2 * PAGE + 1, &other), -EOVERFLOW);
	CHECK_EQ(accel_buffer_import_fd(dev, fd, PAGE, 2 * PAGE, &other), -EOVERFLOW);
	CHECK_EQ(accel_buffer_import_fd(dev, fd, PAGE, UINT64_MAX, &other), -EOVERFLOW);
	CHECK_EQ(accel_buffer_import_fd(dev, fd, 1, 1, &other), -EINVAL);
	close(fd);
	accel_buffer_destroy(buf);
	accel_device_close(dev);
}

static bool makes_one(void *arg)
{
	struct accel_buffer *buf = NULL;
	bool ok = CHECK_EQ(accel_buffer_create(arg, 3 * MIB, NULL, &buf), 0);

	accel_buffer_destroy(buf);
	return ok;
}

TEST(accel_buffer, of_a_child_goes_with_its_destroy)
{
	struct accel_device *dev = accel0_open();

	REQUIRE(dev);
	child_ok(makes_one, dev);
	CHECK_EQ(used(dev), 0);
	accel_device_close(dev);
}

static bool destroys(void *arg)
{
	struct accel_buffer **bufs = arg;
	bool ok = ((uint8_t *)accel_buffer_addr(bufs[0]))[0] == 9;

	accel_buffer_destroy(bufs[0]);
	accel_device_close((struct accel_device *)bufs[1]);
	return ok;
}

TEST(accel_buffer, survives_a_childs_destroy)
{
	struct accel_device *dev = accel0_open();
	struct accel_buffer *bufs[2] = {NULL, (struct accel_buffer *)dev};
	uint8_t *at;

	REQUIRE(dev);
	REQUIRE_EQ(accel_buffer_create(dev, PAGE, NULL, &bufs[0]), 0);
	at = accel_buffer_addr(bufs[0]);
	at[0] = 9;
	child_ok(destroys, bufs);
	CHECK_EQ(at[0], 9);
	CHECK_EQ(used(dev), PAGE);
	accel_buffer_destroy(bufs[0]);
	CHECK_EQ(used(dev), 0);
	accel_device_close(dev);
}

/* ---- Other people's dma-bufs ----------------------------------------------------------------- */

/* A udmabuf of bytes, or -1. */
static int udmabuf_make(uint64_t bytes)
{
	int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC), fd = -1;
	int memfd = memfd_create("foreign", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct udmabuf_create create = {
		.memfd = (uint32_t)memfd, .flags = UDMABUF_FLAGS_CLOEXEC, .size = bytes};

	if (device >= 0 && memfd >= 0 && !ftruncate(memfd, (off_t)bytes) &&
	    !fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		fd = ioctl(device, UDMABUF_CREATE, &create);
	if (memfd >= 0)
		close(memfd);
	if (device >= 0)
		close(device);
	return fd;
}

TEST(foreign_dmabuf, is_mapped_here_and_shown_to_nobody)
{
	struct accel_buffer_info info = {.size = sizeof(info)};
	char name[ACCEL_EXPORTER_BYTES] = "";
	struct accel_device *dev = accel0_open();
	int fd = udmabuf_make(2 * PAGE), copy;
	struct accel_buffer *buf = NULL;
	uint64_t offset;

	REQUIRE(dev && fd >= 0);
	CHECK(accel_dmabuf_is(fd));
	CHECK_EQ(accel_dmabuf_is_ours(fd), 0);
	CHECK_EQ(accel_dmabuf_exporter_get(fd, name), 0);
	CHECK(strstr(name, "udmabuf"));
	REQUIRE_EQ(accel_buffer_import_fd(dev, fd, PAGE, PAGE, &buf), 0);
	CHECK_EQ(accel_buffer_info_get(buf, &info), 0);
	CHECK_EQ(info.shareable, 0);
	memset(info.addr, 3, PAGE);
	CHECK_EQ(accel_buffer_export_fd(buf, &copy, &offset), -EOPNOTSUPP);
	accel_buffer_destroy(buf);
	close(fd);
	accel_device_close(dev);
}

/* By any name it may give itself. */
TEST(peer, cannot_show_a_foreign_dmabuf)
{
	static const char *const names[] = {"accel", "x\nexp_name:\taccel"};
	struct accel_region *region = NULL;
	int fd = udmabuf_make(2 * PAGE);

	REQUIRE(fd >= 0);
	CHECK_EQ(accel_region_map_peer(1, fd, 0, PAGE, &region), -EINVAL);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		CHECK_EQ(ioctl(fd, DMA_BUF_SET_NAME, names[i]), 0);
		CHECK_EQ(accel_region_map_peer(1, fd, 0, PAGE, &region), -EINVAL);
	}
	CHECK(!region);
	close(fd);
}

TEST(peer, cannot_show_more_than_there_is)
{
	struct accel_device *dev = accel0_open();
	struct accel_region *region = NULL;
	struct accel_buffer *buf = NULL;
	uint64_t offset;
	int fd = -1;

	REQUIRE(dev);
	REQUIRE_EQ(accel_buffer_create(dev, 2 * PAGE, NULL, &buf), 0);
	REQUIRE_EQ(accel_buffer_export_fd(buf, &fd, &offset), 0);
	CHECK_EQ(accel_region_map_peer(1, fd, 0, 3 * PAGE, &region), -EOVERFLOW);
	CHECK_EQ(accel_region_map_peer(1, fd, 2 * PAGE, 1, &region), -EOVERFLOW);
	CHECK_EQ(accel_region_map_peer(1, fd, UINT64_MAX - PAGE + 1, PAGE, &region), -EOVERFLOW);
	CHECK_EQ(accel_region_map_peer(1, fd, 7, 1, &region), -EINVAL);
	CHECK(!region && ftruncate(fd, 0) < 0); /* and it cannot be cut afterwards */
	CHECK_EQ(accel_region_map_peer(1, fd, PAGE, PAGE, &region), 0);
	close(open("/dev/null", O_RDONLY | O_CLOEXEC));
	accel_region_put(region);
	accel_buffer_destroy(buf);
	accel_device_close(dev);
}

/* ---- Removed --------------------------------------------------------------------------------- */

TEST(removed_device, leaves_memory_and_says_it_is_gone)
{
	struct accel_device_info info = {.size = sizeof(info)};
	struct accel_device *dev = accel0_open(), *again;
	struct accel_buffer *buf = NULL, *other = NULL;
	struct accel_error error = {.size = sizeof(error)};
	uint64_t offset;
	int fd = -1;

	REQUIRE(dev);
	REQUIRE_EQ(accel_buffer_create(dev, PAGE, NULL, &buf), 0);
	REQUIRE_EQ(system("echo 0 >/sys/bus/axl_soft/del_device"), 0);
	memset(accel_buffer_addr(buf), 1, PAGE);
	CHECK_EQ(accel_buffer_create(dev, PAGE, NULL, &other), -ENODEV);
	CHECK(strstr(text(), "was removed"));
	CHECK_EQ(accel_device_info_get(dev, &info), -ENODEV);
	CHECK_EQ(accel_error_get(dev, &error), 0);
	CHECK(strstr(error.text, "was removed"));
	/* What was exported at its birth can still be shown. */
	CHECK_EQ(accel_buffer_export_fd(buf, &fd, &offset), 0);
	CHECK_EQ(accel_buffer_import_fd(dev, fd, 0, PAGE, &other), 0);
	CHECK_EQ(*(uint8_t *)accel_buffer_addr(other), 1);
	CHECK(accel_device_open("accel0", &again) < 0);
	close(fd);
	accel_buffer_destroy(other);
	accel_buffer_destroy(buf);
	accel_device_close(dev);
	CHECK_EQ(module_load("soft=1"), 0);
}
