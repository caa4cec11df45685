// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The device "accelN": memory of accel.ko, by the ioctls of uapi/axl_drm.h on /dev/accel/accelN.
 *
 * A region of it is a buffer object: made, mapped read-write through the node, and exported once as
 * a dma-buf for reading only, which is the descriptor that peers get. They map that, and need no
 * right to the node. The handle is kept as long as the region, so that the module counts the memory
 * as this process's; mapping and dma-buf would hold it alone.
 *
 * A region may outlive its device's close, since ranks that are threads share it: the node is
 * counted. A forked child has the parent's node, so each process closes those handles that it has made.
 */
#define _GNU_SOURCE
#include "device.h"
#include "memory_room.h"

#include <axl_drm.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define NODES_MAX 256 /* that the kernel's accel subsystem gives numbers to */
#define TEXT_BYTES 256

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

struct accel_drm {
	_Atomic uint32_t refs;
	int fd;
};

struct drm_region {
	struct accel_region region; /* first */
	struct accel_drm *drm;
	uint32_t handle;
	pid_t pid; /* who made it */
};

/* 0 or -errno. The module has done nothing yet when it says EINTR. */
static int node_ioctl(int fd, unsigned long request, void *arg)
{
	while (ioctl(fd, request, arg))
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
	return 0;
}

/* The module's own sentence for what just failed, else the errno's. */
static void reason_get(int fd, uint32_t ioctl_nr, int code, char text[TEXT_BYTES])
{
	struct drm_axl_last_error last = {.text = (uintptr_t)text, .text_bytes = TEXT_BYTES};

	if (node_ioctl(fd, DRM_IOCTL_AXL_LAST_ERROR, &last) || last.code != code ||
	    last.ioctl_nr != ioctl_nr)
		snprintf(text, TEXT_BYTES, "%s", strerror(-code));
}

/* ---- The node -------------------------------------------------------------------------------- */

static void node_path(char path[64], unsigned number)
{
	snprintf(path, 64, "/dev/accel/accel%u", number);
}

static int fail_absent(const char *name, const char *path)
{
	char class[64];

	snprintf(class, sizeof(class), "/sys/class/accel/%s", name);
	if (!access(class, F_OK))
		return accel_fail(NULL, -ENOENT, ACCEL_AT_CREATE,
				  "device %s exists, but there is no %s here: pass it into the "
				  "container (--device %s)",
				  name, path, path);
	if (!access("/sys/module/accel", F_OK))
		return accel_fail(
			NULL, -ENOENT, ACCEL_AT_CREATE,
			"there is no device %s: module accel is loaded and has none by that "
			"name; accelctl list shows which it has, and "
			"modprobe -r accel && modprobe accel soft=1 makes one",
			name);
	return accel_fail(
		NULL, -ENOENT, ACCEL_AT_CREATE,
		"there is no device %s: module accel is not loaded; as root, modprobe accel "
		"soft=1, or use device host",
		name);
}

static int fail_open(const char *name, const char *path, int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR:
		return fail_absent(name, path);
	case EACCES:
	case EPERM:
		return accel_fail(
			NULL, -EACCES, ACCEL_AT_CREATE,
			"%s may not be opened by this user: %s; join group render (usermod "
			"-aG render USER, then log in anew), or allow it to the container",
			path, strerror(error));
	case ENXIO:
	case ENODEV:
		return accel_fail(NULL, -ENODEV, ACCEL_AT_CREATE,
				  "device %s was removed; accelctl list shows what there is", name);
	}
	return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "%s: %s%s", path, strerror(error),
			  error == EMFILE ? "; raise ulimit -n" : "");
}

/* 0 ours; -EOPNOTSUPP another driver's, named; -ENODEV it is gone. */
static int driver_check(int fd, char driver[32])
{
	struct drm_version version = {.name = driver, .name_len = 31};
	int rc;

	memset(driver, 0, 32);
	rc = node_ioctl(fd, DRM_IOCTL_VERSION, &version);
	if (rc == -ENODEV)
		return rc;
	return rc || strcmp(driver, AXL_DRIVER_NAME) ? -EOPNOTSUPP : 0;
}

static int param_get(int fd, uint32_t param, uint64_t *value)
{
	struct drm_axl_get_param args = {.param = param};
	int rc = node_ioctl(fd, DRM_IOCTL_AXL_GET_PARAM, &args);

	if (!rc)
		*value = args.value;
	return rc;
}

static int api_check(int fd, const char *name)
{
	uint64_t major;
	int rc = param_get(fd, AXL_PARAM_API_MAJOR, &major);

	if (rc)
		return accel_fail(NULL, rc, ACCEL_AT_CREATE,
				  "device %s does not say which API it has: %s", name,
				  strerror(-rc));
	if (major == AXL_API_MAJOR)
		return 0;
	return accel_fail(
		NULL, -EOPNOTSUPP, ACCEL_AT_CREATE,
		"module accel of device %s has API %llu, libaccel %s needs %d: install the "
		"two of one version, and load the module anew",
		name, (unsigned long long)major, accel_version(), AXL_API_MAJOR);
}

/* The descriptor of an open node of ours, or -errno, decided. */
static int node_open(const char *name, unsigned number)
{
	char path[64], driver[32];
	int fd, rc;

	node_path(path, number);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return fail_open(name, path, errno);
	rc = driver_check(fd, driver);
	if (rc == -ENODEV)
		fail_open(name, path, ENODEV);
	else if (rc)
		accel_fail(
			NULL, rc, ACCEL_AT_CREATE,
			"%s is a device of driver \"%s\", not of accel; device \"accel\" is the first "
			"that is",
			path, driver);
	else
		rc = api_check(fd, name);
	if (!rc)
		return fd;
	close(fd);
	return rc;
}

/* The first node that is ours, or whose right to open is all that lacks; 0 where there is neither. */
static unsigned first_number(void)
{
	char path[64], driver[32];

	for (unsigned number = 0; number < NODES_MAX; number++) {
		int fd, rc;

		node_path(path, number);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0 && (errno == EACCES || errno == EPERM))
			return number;
		if (fd < 0)
			continue;
		rc = driver_check(fd, driver);
		close(fd);
		if (!rc)
			return number;
	}
	return 0;
}

static int drm_open(struct accel_device *dev, const char *name)
{
	const char *digits = name + strlen("accel");
	unsigned number = *digits ? (unsigned)strtoul(digits, NULL, 10) : first_number();
	struct accel_drm *drm = calloc(1, sizeof(*drm));

	if (!drm)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory for a device");
	snprintf(dev->name, sizeof(dev->name), "accel%u", number);
	drm->fd = node_open(dev->name, number);
	if (drm->fd < 0) {
		int rc = drm->fd;

		free(drm);
		return rc;
	}
	atomic_init(&drm->refs, 1);
	dev->drm = drm;
	return 0;
}

static void drm_put(struct accel_drm *drm)
{
	if (atomic_fetch_sub_explicit(&drm->refs, 1, memory_order_acq_rel) != 1)
		return;
	close(drm->fd);
	free(drm);
}

static void drm_close(struct accel_device *dev)
{
	drm_put(dev->drm);
}

/* ---- What it is ------------------------------------------------------------------------------ */

static int usage_get(int fd, uint32_t what, uint64_t *bytes_max, uint64_t *bytes_used)
{
	struct drm_axl_memory memory = {0};
	struct drm_axl_query query = {
		.what = what, .elem_bytes = sizeof(memory), .count = 1, .ptr = (uintptr_t)&memory};
	int rc = node_ioctl(fd, DRM_IOCTL_AXL_QUERY, &query);

	if (rc)
		return rc;
	*bytes_max = memory.bytes_max;
	*bytes_used = memory.bytes_used;
	return 0;
}

static void provider_name(uint64_t provider, char *name, size_t room)
{
	if (provider == AXL_PROVIDER_SOFT)
		snprintf(name, room, "soft");
	else
		snprintf(name, room, "provider %llu", (unsigned long long)provider);
}

static int drm_info_get(struct accel_device *dev, struct accel_device_info *info)
{
	uint64_t provider = 0, node = 0;
	int fd = dev->drm->fd, rc;

	info->huge_page_bytes = ACCEL_HUGE_PAGE_BYTES;
	rc = param_get(fd, AXL_PARAM_PROVIDER, &provider);
	if (!rc)
		rc = param_get(fd, AXL_PARAM_NUMA_NODE, &node);
	if (!rc)
		rc = param_get(fd, AXL_PARAM_BO_BYTES_MAX, &info->buffer_bytes_max);
	if (!rc)
		rc = usage_get(fd, AXL_QUERY_MEMORY, &info->memory_bytes_max,
			       &info->memory_bytes_used);
	if (!rc)
		rc = usage_get(fd, AXL_QUERY_USER, &info->user_bytes_max, &info->user_bytes_used);
	if (rc)
		return accel_fail(&dev->obj, rc, NULL, "device %s %s: %s", dev->name,
				  rc == -ENODEV ? "was removed" : "does not say what it is",
				  strerror(-rc));
	provider_name(provider, info->provider, sizeof(info->provider));
	info->numa_node_plus1 = node == UINT64_MAX ? 0 : (uint32_t)node + 1;
	return 0;
}

/* ---- Its memory ------------------------------------------------------------------------------ */

static void drm_region_release(struct accel_region *region)
{
	struct drm_region *r = (struct drm_region *)region;
	struct drm_gem_close args = {.handle = r->handle};

	if (r->handle && r->pid == getpid())
		node_ioctl(r->drm->fd, DRM_IOCTL_GEM_CLOSE, &args);
	drm_put(r->drm);
}

/* What the module says, in the API's words: a shortage of whatever kind is -ENOSPC. */
static int fail_create(const struct accel_device *dev, const char *what, uint64_t bytes, int rc)
{
	int code = rc == -ENOENT ? -EINVAL : rc == -ENOMEM ? -ENOSPC : rc;
	char text[TEXT_BYTES];

	if (rc == -ENODEV)
		return accel_fail(
			NULL, rc, ACCEL_AT_CREATE,
			"%s of %llu bytes: device %s was removed; close it, and open one that "
			"accelctl list shows",
			what, (unsigned long long)bytes, dev->name);
	reason_get(dev->drm->fd, DRM_AXL_BO_CREATE, rc, text);
	return accel_fail(NULL, code, ACCEL_AT_CREATE, "%s of %llu bytes on %s: %s", what,
			  (unsigned long long)bytes, dev->name, text);
}

static int fail_step(const struct accel_device *dev, const char *what, const char *step, int rc)
{
	bool no_fd = rc == -EMFILE || rc == -ENFILE;

	return accel_fail(NULL, no_fd ? -ENOMEM : rc, ACCEL_AT_CREATE, "%s on %s: %s: %s%s", what,
			  dev->name, step, strerror(-rc), no_fd ? "; raise ulimit -n" : "");
}

static int object_create(const struct accel_device *dev, uint64_t bytes,
			 const struct accel_region_opts *opts, struct drm_region *r)
{
	struct drm_axl_bo_create create = {.size_bytes = bytes, .placement = AXL_PLACEMENT_SYS};
	struct drm_axl_bo_info info = {0};
	int rc;

	if (opts->huge == ACCEL_HUGE_NEVER)
		create.flags |= AXL_BO_F_SMALL_PAGES;
	if (opts->numa_node >= 0) {
		create.flags |= AXL_BO_F_NUMA;
		create.numa_node = (uint32_t)opts->numa_node;
	}
	rc = node_ioctl(r->drm->fd, DRM_IOCTL_AXL_BO_CREATE, &create);
	if (rc)
		return fail_create(dev, opts->what, bytes, rc);
	r->handle = info.handle = create.handle;
	r->region.bytes = create.size_bytes;
	rc = node_ioctl(r->drm->fd, DRM_IOCTL_AXL_BO_INFO, &info);
	if (rc)
		return fail_step(dev, opts->what, "BO_INFO", rc);
	if (info.large_page_bytes == r->region.bytes)
		r->region.page_bytes = ACCEL_HUGE_PAGE_BYTES;
	else if (opts->huge == ACCEL_HUGE_NEED)
		return accel_fail(
			NULL, -ENOSPC, ACCEL_AT_CREATE,
			"%s of %llu bytes on %s: only %llu of them could be had in pages of 2 "
			"MiB; echo 1 >/proc/sys/vm/compact_memory makes more, or use huge=try",
			opts->what, (unsigned long long)bytes, dev->name,
			(unsigned long long)info.large_page_bytes);
	return 0;
}

/* Mapped, with its page tables filled, so that no row's first touch is a fault. */
static int object_map(const struct accel_device *dev, const char *what, struct drm_region *r)
{
	struct drm_axl_bo_mmap_offset args = {.handle = r->handle};
	struct accel_region *region = &r->region;
	int rc = node_ioctl(r->drm->fd, DRM_IOCTL_AXL_BO_MMAP_OFFSET, &args);
	void *addr;

	if (rc)
		return fail_step(dev, what, "BO_MMAP_OFFSET", rc);
	addr = accel_map_aligned(region->bytes, PROT_READ | PROT_WRITE, r->drm->fd, args.offset, 0);
	if (addr == MAP_FAILED)
		return fail_step(dev, what, "mmap", -errno);
	region->addr = region->map_addr = addr;
	region->map_bytes = region->bytes;
	while (madvise(addr, region->bytes, MADV_POPULATE_WRITE))
		if (errno != EINTR && errno != EAGAIN)
			return fail_step(dev, what, "touching its pages",
					 errno == ENOMEM ? -ENOSPC : -errno);
	region->numa_node = accel_node_of(addr);
	return 0;
}

static int object_export(const struct accel_device *dev, const char *what, struct drm_region *r)
{
	struct drm_prime_handle args = {.handle = r->handle, .flags = DRM_CLOEXEC};
	int rc = node_ioctl(r->drm->fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, &args);

	if (rc)
		return fail_step(dev, what, "exporting it as a dma-buf", rc);
	r->region.fd = args.fd;
	return 0;
}

static int drm_region_create(struct accel_device *dev, uint64_t id, uint64_t bytes,
			     const struct accel_region_opts *opts, struct accel_region **region)
{
	uint64_t multiple = opts->huge == ACCEL_HUGE_NEED ? ACCEL_HUGE_PAGE_BYTES
							  : accel_page_bytes();
	uint64_t rounded = accel_round_up(bytes, multiple);
	struct drm_region *r;
	int rc;

	if (!rounded)
		return accel_fail(NULL, -EOVERFLOW, ACCEL_AT_CREATE,
				  "%s of %llu bytes: that is not a size", opts->what,
				  (unsigned long long)bytes);
	r = (struct drm_region *)accel_region_new(id, sizeof(*r));
	if (!r)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "%s: no memory for bookkeeping",
				  opts->what);
	r->drm = dev->drm;
	r->pid = getpid();
	r->region.release = drm_region_release;
	atomic_fetch_add_explicit(&dev->drm->refs, 1, memory_order_relaxed);
	rc = object_create(dev, rounded, opts, r);
	if (!rc)
		rc = object_map(dev, opts->what, r);
	if (!rc && !opts->private_memory)
		rc = object_export(dev, opts->what, r);
	if (rc) {
		accel_region_put(&r->region);
		return rc;
	}
	*region = &r->region;
	return 0;
}

const struct accel_device_ops accel_drm_ops = {
	.open = drm_open,
	.close = drm_close,
	.info_get = drm_info_get,
	.region_create = drm_region_create,
};
